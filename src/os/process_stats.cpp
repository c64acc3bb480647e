#include "os/process_stats.hpp"

#include <dirent.h>
#include <errno.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <string_view>

#include "os/proc_file.hpp"

namespace drover {
namespace {

std::string proc(pid_t pid, std::string_view file) { return "/proc/" + std::to_string(pid) + "/" + std::string(file); }

Result<std::uint64_t> number_at(std::string_view text, std::size_t at, std::string_view what) {
  std::uint64_t value = 0;
  if (at >= text.size() || std::from_chars(text.data() + at, text.data() + text.size(), value).ec != std::errc{})
    return fail(ErrorCode::corrupt, "read " + std::string(what) + ": not a number");
  return value;
}

/// Field `number` of man 5 proc's stat (3 = state). The name in field 2 may hold spaces and parentheses: count from its end.
Result<std::string> stat_field(pid_t pid, int number) {
  DROVER_TRY(const std::string text, read_proc_file(proc(pid, "stat")));
  auto at = text.rfind(')');
  if (at == std::string::npos) return fail(ErrorCode::corrupt, "read '" + proc(pid, "stat") + "'");
  at += 2;
  for (int field = 3; field < number && at < text.size(); ++field) {
    at = text.find(' ', at);
    if (at == std::string::npos) break;
    ++at;
  }
  if (at == std::string::npos || at >= text.size()) return fail(ErrorCode::corrupt, "read '" + proc(pid, "stat") + "'");
  return text.substr(at, text.find_first_of(" \n", at) - at);
}

}  // namespace

Result<Nanos> cpu_time(pid_t pid) {
  clockid_t clock = 0;
  if (const int error = ::clock_getcpuclockid(pid, &clock); error != 0)
    return fail_errno(error, "find the CPU clock of process " + std::to_string(pid));
  timespec time{};
  if (::clock_gettime(clock, &time) != 0) return fail_errno(errno, "read the CPU clock of process " + std::to_string(pid));
  return Seconds(time.tv_sec) + Nanos(time.tv_nsec);
}

Result<std::uint64_t> rss_bytes(pid_t pid) {
  DROVER_TRY(const std::string text, read_proc_file(proc(pid, "statm")));
  const auto space = text.find(' ');
  DROVER_TRY(const std::uint64_t pages, number_at(text, space == std::string::npos ? text.size() : space + 1, proc(pid, "statm")));
  static const auto page_bytes = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  return pages * page_bytes;
}

Result<char> state_of(pid_t pid) {
  auto state = stat_field(pid, 3);
  if (!state) return std::unexpected(std::move(state).error());
  return state->front();
}

Result<std::uint64_t> start_time_ticks(pid_t pid) {
  DROVER_TRY(const std::string ticks, stat_field(pid, 22));
  return number_at(ticks, 0, proc(pid, "stat"));
}

Result<std::uint64_t> voluntary_switches(pid_t pid) {
  DIR* tasks = ::opendir(proc(pid, "task").c_str());
  if (tasks == nullptr) return fail_errno(errno, "list the threads of process " + std::to_string(pid));
  std::uint64_t sum = 0;
  while (const dirent* entry = ::readdir(tasks)) {
    if (entry->d_name[0] == '.') continue;
    const auto text = read_proc_file(proc(pid, "task/") + entry->d_name + "/status");
    if (!text) continue;  // the thread ended meanwhile
    constexpr std::string_view kLabel = "\nvoluntary_ctxt_switches:\t";
    if (const auto at = text->find(kLabel); at != std::string::npos) sum += number_at(*text, at + kLabel.size(), "status").value_or(0);
  }
  ::closedir(tasks);
  return sum;
}

StallEvidence stall_evidence(pid_t pid) {
  StallEvidence evidence;
  evidence.state = state_of(pid).value_or('?');
  evidence.wait_channel = read_proc_file(proc(pid, "wchan")).value_or("");
  if (evidence.wait_channel == "0") evidence.wait_channel.clear();
  evidence.kernel_stack = read_proc_file(proc(pid, "stack")).value_or("").substr(0, 4096);
  return evidence;
}

std::vector<std::string> open_files(pid_t pid, std::size_t most) {
  std::vector<int> numbers;
  std::error_code error;
  const std::string directory = proc(pid, "fd");
  for (std::filesystem::directory_iterator at(directory, error), end; !error && at != end; at.increment(error)) numbers.push_back(std::atoi(at->path().filename().c_str()));
  std::ranges::sort(numbers);
  std::vector<std::string> files;
  for (const int number : numbers) {
    if (files.size() >= most) break;
    const auto target = std::filesystem::read_symlink(directory + "/" + std::to_string(number), error);
    if (!error) files.push_back(std::to_string(number) + " -> " + target.string());
  }
  return files;
}

}  // namespace drover
