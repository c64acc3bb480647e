/// /proc/PID/task/TID/children and /proc/PID/stat, fields 14 to 17 and 24 (man 5 proc).
#include "os/process_tree.hpp"

#include <dirent.h>
#include <unistd.h>

#include <charconv>
#include <string>
#include <vector>

#include "os/proc_file.hpp"

namespace drover {
namespace {

constexpr std::size_t kProcessesMax = 65536;  ///< a fork bomb must not keep us here

void append_children(pid_t pid, std::vector<pid_t>& into) {
  const std::string tasks = "/proc/" + std::to_string(pid) + "/task";
  DIR* const threads = ::opendir(tasks.c_str());
  if (threads == nullptr) return;
  while (const dirent* entry = ::readdir(threads)) {
    if (entry->d_name[0] == '.') continue;
    const auto text = read_proc_file(tasks + "/" + entry->d_name + "/children");
    if (!text) continue;
    const char* at = text->data();
    const char* const end = at + text->size();
    for (pid_t child = 0; at < end && std::from_chars(at, end, child).ec == std::errc{};) {
      into.push_back(child);
      while (at < end && *at != ' ') ++at;
      while (at < end && *at == ' ') ++at;
    }
  }
  ::closedir(threads);
}

struct Stat {
  std::uint64_t own_ticks = 0, waited_ticks = 0, rss_pages = 0;
};

Stat stat_of(pid_t pid) {
  Stat stat;
  const auto text = read_proc_file("/proc/" + std::to_string(pid) + "/stat");
  if (!text) return stat;
  auto at = text->rfind(')');
  if (at == std::string::npos) return stat;
  at += 2;
  for (int field = 3; field <= 24 && at < text->size(); ++field) {
    std::uint64_t value = 0;
    std::from_chars(text->data() + at, text->data() + text->size(), value);
    if (field == 14 || field == 15) stat.own_ticks += value;
    if (field == 16 || field == 17) stat.waited_ticks += value;
    if (field == 24) stat.rss_pages = value;
    at = text->find(' ', at);
    if (at == std::string::npos) break;
    ++at;
  }
  return stat;
}

}  // namespace

ProcessTreeUsage usage_below(pid_t root) {
  static const auto ticks_per_second = static_cast<std::uint64_t>(::sysconf(_SC_CLK_TCK));
  static const auto page_bytes = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  ProcessTreeUsage usage;
  std::uint64_t ticks = stat_of(root).waited_ticks;
  std::vector<pid_t> open{root};
  while (!open.empty() && usage.processes < kProcessesMax) {
    const pid_t parent = open.back();
    open.pop_back();
    const std::size_t before = open.size();
    append_children(parent, open);
    for (std::size_t i = before; i < open.size(); ++i) {
      const Stat stat = stat_of(open[i]);
      ticks += stat.own_ticks + stat.waited_ticks;
      usage.rss_bytes += stat.rss_pages * page_bytes;
      ++usage.processes;
    }
  }
  usage.cpu = Nanos(static_cast<std::int64_t>(ticks * (1'000'000'000 / ticks_per_second)));
  return usage;
}

bool has_children(pid_t root) {
  const auto list = read_proc_file("/proc/" + std::to_string(root) + "/task/" + std::to_string(root) + "/children");
  return !list || !list->empty();
}

}  // namespace drover
