// Goal: every command a document shows does what it says, and every link leads somewhere. Method: fenced blocks whose info
// string is `sh test` are run, one document after the other, each in its own scratch directory in which ./drover is this
// build's; a block must end with status 0 in time. `sh test=3` expects status 3.

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <regex>
#include <set>

#include "house/tree.hpp"

namespace drover::test::house {
namespace {

struct Block {
  std::size_t line = 0;
  int status = 0;
  std::string script;
};

std::vector<Block> blocks_of(const File& file) {
  std::vector<Block> blocks;
  static const std::regex opening(R"(^```sh test(=(\d+))?\s*$)");
  for (std::size_t i = 0; i < file.lines.size(); ++i) {
    std::smatch match;
    if (!std::regex_match(file.lines[i], match, opening)) continue;
    Block block{i + 1, match[2].matched ? std::stoi(match[2]) : 0, {}};
    for (++i; i < file.lines.size() && !file.lines[i].starts_with("```"); ++i) block.script += file.lines[i] + "\n";
    blocks.push_back(std::move(block));
  }
  return blocks;
}

class Scratch {
 public:
  Scratch() {
    std::string name = (fs::temp_directory_path() / "drover-house-XXXXXX").string();
    if (mkdtemp(name.data()) != nullptr) path_ = name;
  }
  ~Scratch() {
    std::error_code ignored;
    if (!path_.empty()) fs::remove_all(path_, ignored);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

class Documents : public testing::TestWithParam<std::string> {};

/// Every document with a marked block; README.md always, so that losing its marks is a failure.
std::vector<std::string> documents() {
  std::vector<std::string> found = {"README.md"};
  for (const File& file : files())
    if (file.path.ends_with(".md") && file.path != "README.md" && !blocks_of(file).empty()) found.push_back(file.path);
  return found;
}

TEST_P(Documents, EveryMarkedCommandWorks) {
  const auto file = std::ranges::find(files(), GetParam(), &File::path);
  ASSERT_NE(file, files().end()) << GetParam() << " is missing";
  const auto blocks = blocks_of(*file);
  ASSERT_FALSE(blocks.empty()) << GetParam() << " has no block marked `sh test`";
#ifndef DROVER_BINARY
  FAIL() << "this build has no drover to run them with";
#else
  const Scratch scratch;
  ASSERT_FALSE(scratch.path().empty());
  fs::create_symlink(DROVER_BINARY, scratch.path() / "drover");
  fs::create_directory_symlink(root() / "examples", scratch.path() / "examples");
  for (const Block& block : blocks) {
    std::ofstream(scratch.path() / "block.sh") << "set -euo pipefail\n" << block.script;
    const std::string command = "cd '" + scratch.path().string() + "' && XDG_STATE_HOME=\"$PWD/state\" timeout -k 10 120 bash ./block.sh >block.log 2>&1 </dev/null";
    const int raw = std::system(command.c_str());
    const int status = WIFEXITED(raw) ? WEXITSTATUS(raw) : 128 + WTERMSIG(raw);
    EXPECT_EQ(status, block.status) << GetParam() << ":" << block.line << ":\n" << block.script << "said:\n" << read(scratch.path() / "block.log");
  }
#endif
}

INSTANTIATE_TEST_SUITE_P(, Documents, testing::ValuesIn(documents()), [](const auto& file) {
  std::string name = file.param;
  std::ranges::replace_if(name, [](char c) { return c == '/' || c == '.'; }, '_');
  return name;
});

TEST(Links, RelativeOnesLeadToAFile) {
  static const std::regex link(R"(\]\(([^)#:\s]+)(#[^)]*)?\))");
  for (const File& file : files()) {
    if (!file.path.ends_with(".md")) continue;
    const fs::path folder = (root() / file.path).parent_path();
    for (std::size_t i = 0; i < file.lines.size(); ++i)
      for (auto it = std::sregex_iterator(file.lines[i].begin(), file.lines[i].end(), link); it != std::sregex_iterator(); ++it)
        EXPECT_TRUE(fs::exists(folder / (*it)[1].str())) << at(file, i) << "\n  leads nowhere";
  }
}

TEST(Guarantees, EveryTestTheyNameIsThere) {
  std::set<std::string> there;
  static const std::regex test(R"(^TEST(_F|_P)?\((\w+), (\w+)\))");
  for (const File& file : files())
    for (const std::string& line : file.lines) {
      std::smatch match;
      if (file.under("tests") && std::regex_search(line, match, test)) there.insert(match[2].str() + "." + match[3].str());
    }
  static const std::regex name(R"(`(\w+\.[A-Z]\w+)`)");
  std::size_t named = 0;
  for (const File& file : files()) {
    if (file.path != "docs/guarantees.md") continue;
    for (std::size_t i = 0; i < file.lines.size(); ++i)
      for (std::sregex_iterator at(file.lines[i].begin(), file.lines[i].end(), name), end; at != end; ++at, ++named) EXPECT_TRUE(there.contains((*at)[1])) << at->str() << " in " << file.path << ", line " << i + 1;
  }
  EXPECT_GE(named, 30u);
}

}  // namespace
}  // namespace drover::test::house
