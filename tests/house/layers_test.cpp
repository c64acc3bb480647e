// Goal: the tree is the architecture. A lower layer never includes an upper one, nobody climbs out of its folder, and system
// headers stay behind the one door to the OS. Method: read every #include; the compiler's link farms (cmake/module.cmake)
// enforce most of it too, this says it in one table and covers what a relative path or a system header could smuggle.

#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <regex>

#include "house/tree.hpp"

namespace drover::test::house {
namespace {

struct Include {
  std::string name;
  bool quoted = false;
};

std::optional<Include> include_of(const std::string& line) {
  static const std::regex pattern(R"(^\s*#\s*include\s*(["<])([^">]+)[">])");
  std::smatch match;
  if (!std::regex_search(line, match, pattern)) return std::nullopt;
  return Include{match[2], match[1] == "\""};
}

// Folder -> what its includes in quotes may begin with, besides its own name. `drover` is include/drover, `drover/types` L0 alone.
const std::map<std::string, std::vector<std::string>>& arrows() {
  static const std::map<std::string, std::vector<std::string>> table = {
      {"include/drover/types", {"drover/types"}},
      {"include/drover", {"drover"}},
      {"src/base", {"drover/types"}},
      {"src/config", {"drover", "base"}},
      {"src/os", {"drover/types", "base"}},
      {"src/wire", {"drover/types", "base"}},
      {"src/engine", {"drover/types", "base", "wire"}},
      {"src/store", {"drover/types", "drover/job.hpp", "drover/checkpoint.hpp", "drover/journal.hpp", "drover/probe.hpp", "drover/snapshot.hpp", "base", "os", "wire"}},
      {"src/keeper", {"drover/types", "base", "os", "wire"}},
      {"src/watchdog", {"drover/types", "base", "os", "wire"}},
      {"src/warden", {"drover/types", "base", "os", "wire"}},
      {"src/worker", {"drover", "base", "os", "wire"}},
      {"src/containment", {"drover", "base", "os", "wire", "keeper/helper_images.hpp"}},
      {"src/supervisor", {"drover", "base", "os", "wire", "engine", "store", "worker", "containment", "keeper/helper_images.hpp"}},
      {"src/http", {"drover", "os"}},
      {"src/report", {"drover", "base", "os", "wire", "store"}},
      {"workloads", {"drover"}},
  };
  return table;
}

/// The longest folder of the table that holds the file.
const std::pair<const std::string, std::vector<std::string>>* rule_of(const File& file) {
  const std::pair<const std::string, std::vector<std::string>>* best = nullptr;
  for (const auto& rule : arrows())
    if (file.under(rule.first) && (best == nullptr || rule.first.size() > best->first.size())) best = &rule;
  return best;
}

bool begins_with_folder(std::string_view include, std::string_view folder) {
  return include == folder || (include.starts_with(folder) && include.size() > folder.size() && include[folder.size()] == '/');
}

TEST(Layers, EveryFolderOfSrcHasItsArrowsInTheTable) {
  for (const File& file : files()) {
    if (!file.is_cpp() || !(file.under("src") || file.under("include") || file.under("workloads"))) continue;
    EXPECT_NE(rule_of(file), nullptr) << file.path << ": its folder is not in the table of layers";
  }
}

TEST(Layers, LowerNeverIncludesUpper) {
  for (const File& file : files()) {
    const auto* rule = file.is_cpp() ? rule_of(file) : nullptr;
    if (rule == nullptr) continue;
    const std::string own = fs::path(rule->first).filename();
    for (std::size_t i = 0; i < file.lines.size(); ++i) {
      const auto include = include_of(file.lines[i]);
      if (!include || !include->quoted || include->name.find('/') == std::string::npos) continue;
      bool allowed = begins_with_folder(include->name, own);
      if (rule->first == "workloads") allowed = begins_with_folder(include->name, file.path.substr(10, file.path.find('/', 10) - 10));
      for (const std::string& folder : rule->second) allowed = allowed || begins_with_folder(include->name, folder);
      EXPECT_TRUE(allowed) << at(file, i) << "\n  " << rule->first << " may not see that";
    }
  }
}

TEST(Layers, NobodyClimbsOutOfAFolder) {
  for (const File& file : files())
    for (std::size_t i = 0; file.is_cpp() && !file.under("tests") && i < file.lines.size(); ++i)
      if (const auto include = include_of(file.lines[i])) {
        EXPECT_EQ(include->name.find("../"), std::string::npos) << at(file, i);
      }
}

TEST(Layers, PublicHeadersNeedTheStandardLibraryAlone) {
  for (const File& file : files()) {
    if (!file.under("include/drover")) continue;
    for (std::size_t i = 0; i < file.lines.size(); ++i) {
      const auto include = include_of(file.lines[i]);
      if (!include || include->quoted) continue;
      EXPECT_EQ(include->name.find_first_of("/."), std::string::npos) << at(file, i) << "\n  a public header includes std headers and drover/ only";
    }
  }
}

TEST(Layers, SystemHeadersStayBehindOs) {
  // Kept to what reaches the kernel. <cerrno>, <ctime> and the like are the C++ library's.
  static const std::regex system(R"(^(sys/|linux/|unistd\.h|fcntl\.h|poll\.h|signal\.h|pthread\.h|sched\.h|spawn\.h|dirent\.h|sqlite3\.h))");
  for (const File& file : files()) {
    const bool pure = file.under("src/base") || file.under("src/engine") || file.under("src/config") || file.under("src/report") || file.under("include") || file.under("workloads");
    if (!file.is_cpp() || !pure) continue;
    for (std::size_t i = 0; i < file.lines.size(); ++i)
      if (const auto include = include_of(file.lines[i])) {
        EXPECT_FALSE(std::regex_search(include->name, system)) << at(file, i) << "\n  system calls live in src/os";
      }
  }
}

TEST(Layers, TheEngineReadsNoClockAndStartsNoThread) {
  static const std::regex impure(R"((steady_clock|system_clock|clock_gettime|std::thread|std::jthread|std::mutex|random_device|getenv)\b)");
  for (const File& file : files())
    for (std::size_t i = 0; file.under("src/engine") && i < file.lines.size(); ++i)
      EXPECT_FALSE(std::regex_search(file.lines[i], impure)) << at(file, i) << "\n  time, threads and chance are arguments here";
}

}  // namespace
}  // namespace drover::test::house
