// Goal: habits that everyone agrees to and everyone forgets. Method: read the tree; each failure names file, line and what to do.

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <regex>

#include "house/tree.hpp"

namespace drover::test::house {
namespace {

TEST(Habits, TestsDoNotSleepToSynchronise) {
  // A wait in a test is for an event, with a bound. Where the passing of real time is the thing under test, the line says so:
  //   std::this_thread::sleep_for(50ms);  // sleep: the reason
  static const std::regex naked(R"(\b(sleep_for|sleep_until|usleep|nanosleep|sleep)\s*\()");
  for (const File& file : files()) {
    if (!file.is_cpp() || !file.under("tests") || file.under("tests/house") || file.under("tests/evil")) continue;
    for (std::size_t i = 0; i < file.lines.size(); ++i) {
      if (!std::regex_search(file.lines[i], naked)) continue;
      const bool excused = file.lines[i].find("// sleep: ") != std::string::npos || (i > 0 && file.lines[i - 1].find("// sleep: ") != std::string::npos);
      EXPECT_TRUE(excused) << at(file, i) << "\n  wait for the event with a deadline, or say why in `// sleep: ...`";
    }
  }
}

TEST(Habits, NoFileNamesAPathOfOneMachine) {
  // Put together here so that this line is not one itself.
  const std::vector<std::string> prefixes = {std::string("/wo") + "rk/", std::string("/ho") + "me/", std::string("/ro") + "ot/", std::string("/tmp/") + "w/"};
  const std::string checkout = root().string() + "/";
  for (const File& file : files())
    for (std::size_t i = 0; i < file.lines.size(); ++i) {
      EXPECT_EQ(file.lines[i].find(checkout), std::string::npos) << at(file, i);
      for (const std::string& prefix : prefixes) EXPECT_EQ(file.lines[i].find(prefix), std::string::npos) << at(file, i);
    }
}

TEST(Habits, EverySourceFileSaysWhatItIsForInItsFirstLines) {
  for (const File& file : files()) {
    if (!file.is_cpp() || !(file.under("src") || file.under("include") || file.under("workloads") || file.under("cli") || file.under("sim"))) continue;
    const fs::path header = fs::path(file.path).replace_extension(".hpp");
    const bool in_header = fs::exists(root() / header) || fs::exists(root() / "include/drover" / header.filename()) || fs::exists(root() / "include/drover/types" / header.filename());
    if (file.path.ends_with(".cpp") && in_header) continue;  // the header it implements says it
    bool said = false;
    for (std::size_t i = 0; i < std::min<std::size_t>(4, file.lines.size()); ++i) said = said || file.lines[i].starts_with("//") || file.lines[i].starts_with("/*");
    EXPECT_TRUE(said) << file.path << ": begins without a comment on what it is for and who uses it";
  }
}

TEST(Habits, HeadersAreGuarded) {
  for (const File& file : files()) {
    if (!file.path.ends_with(".hpp")) continue;
    const bool guarded = std::ranges::any_of(file.lines, [](const std::string& line) { return line == "#pragma once"; });
    EXPECT_TRUE(guarded) << file.path << ": #pragma once is missing";
  }
}

TEST(Habits, FilesStaySmallEnoughToRead) {
  constexpr std::size_t kWarn = 900, kMost = 1400;
  for (const File& file : files()) {
    if (!file.is_cpp()) continue;
    if (file.lines.size() > kWarn) std::printf("%s: %zu lines; more than %zu asks whether it grew into two things\n", file.path.c_str(), file.lines.size(), kWarn);
    EXPECT_LE(file.lines.size(), kMost) << file.path << ": split it";
  }
}

TEST(Habits, NoProcessSharedLocks) {
  // The single mistake behind every pool hang we measured: a lock that a worker can die in.
  static const std::regex shared(R"(PTHREAD_PROCESS_SHARED|PTHREAD_MUTEX_ROBUST|sem_open|interprocess_mutex)");
  for (const File& file : files())
    for (std::size_t i = 0; file.is_cpp() && !file.under("tests") && i < file.lines.size(); ++i)
      EXPECT_FALSE(std::regex_search(file.lines[i], shared)) << at(file, i);
}

TEST(Habits, NoLeftovers) {
  const std::regex left(std::string("\\b(TO") + "DO|FIX" + "ME|XX" + "X)\\b");
  for (const File& file : files())
    for (std::size_t i = 0; i < file.lines.size(); ++i) EXPECT_FALSE(std::regex_search(file.lines[i], left)) << at(file, i) << "\n  finish it, or write down the limitation in README.md";
}

TEST(Habits, EachPublicHeaderCompilesAlone) {
  // The build did that already, one translation unit a header (tests/CMakeLists.txt); this checks that none was forgotten.
  const std::string built = read(fs::path(DROVER_BINARY_DIR) / "tests/alone/list.txt");
  for (const File& file : files())
    if (file.under("include/drover") && file.path.ends_with(".hpp")) {
      EXPECT_NE(built.find(file.path.substr(8) + "\n"), std::string::npos) << file.path << ": new since CMake last ran; build again";
    }
}

TEST(Packages, EachSectionIsSortedAndNamesNothingTwice) {
  std::vector<std::string> section;
  std::set<std::string> all;
  for (const std::string& line : lines_of(read(root() / "packages.txt"))) {
    if (line.starts_with("#") || line.empty()) continue;
    if (line.starts_with("[")) {
      section.clear();
      continue;
    }
    EXPECT_TRUE(section.empty() || section.back() < line) << line << " comes after " << section.back();
    EXPECT_TRUE(all.insert(line).second) << line << " is named twice";
    section.push_back(line);
  }
  EXPECT_GT(all.size(), 10u);
}

TEST(Scripts, ParseAndAreExecutable) {
  for (const char* path : {"drover", "test", ".ci/run"}) {
    EXPECT_EQ(std::system(("bash -n '" + (root() / path).string() + "'").c_str()), 0) << path;
    const auto permissions = fs::status(root() / path).permissions();
    EXPECT_NE(permissions & fs::perms::owner_exec, fs::perms::none) << path << " is not executable";
  }
}

TEST(Scripts, SetUpInstallsWhatIsMissingOrSaysWhatToType) {
  const fs::path scratch = fs::path(testing::TempDir()) / ("drover-setup-" + std::to_string(::testing::UnitTest::GetInstance()->random_seed()) + "-" + std::to_string(std::hash<std::string>{}(DROVER_BINARY_DIR)));
  fs::remove_all(scratch);
  fs::create_directories(scratch);
  const std::string command = "cd '" + root().string() + "' && timeout 60 bash tests/house/setup_check.sh '" + scratch.string() + "' >'" + (scratch / "said").string() + "' 2>&1";
  EXPECT_EQ(std::system(command.c_str()), 0);
  EXPECT_EQ(read(scratch / "said"), "");
  fs::remove_all(scratch);
}

}  // namespace
}  // namespace drover::test::house
