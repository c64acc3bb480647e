#include "os/foreign_files.hpp"

#include <fcntl.h>
#include <sys/fanotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <sstream>
#include <tuple>

#include "os/proc_file.hpp"

namespace drover {
namespace {

namespace fs = std::filesystem;

std::string proc(pid_t pid, const char* what) { return "/proc/" + std::to_string(pid) + "/" + what; }

std::string name_of(pid_t pid) {
  std::string name = read_proc_file(proc(pid, "comm")).value_or("(gone)");
  while (name.ends_with('\n')) name.pop_back();
  return name;
}

bool is_ours(pid_t pid) {
  struct stat theirs{}, ours{};
  return ::stat(proc(pid, "exe").c_str(), &theirs) == 0 && ::stat("/proc/self/exe", &ours) == 0 && theirs.st_dev == ours.st_dev && theirs.st_ino == ours.st_ino;
}

bool lies_below(std::string_view path, std::string_view directory) { return path.starts_with(directory) && path.size() > directory.size() && path[directory.size()] == '/'; }

/// Whether the descriptor may write, by the flags its fdinfo shows.
bool writable(pid_t pid, const std::string& number) {
  const std::string text = read_proc_file(proc(pid, "fdinfo/") + number).value_or("");
  const auto at = text.find("flags:");
  if (at == std::string::npos) return false;
  return (std::strtoul(text.c_str() + at + 6, nullptr, 8) & O_ACCMODE) != O_RDONLY;
}

}  // namespace

Holders holders_of(const std::string& directory) {
  Holders found;
  std::error_code error;
  for (fs::directory_iterator process("/proc", error), end; !error && process != end; process.increment(error)) {
    const std::string name = process->path().filename();
    pid_t pid = 0;
    if (std::from_chars(name.data(), name.data() + name.size(), pid).ptr != name.data() + name.size() || pid == ::getpid()) continue;
    std::map<std::string, bool> files;  // path: writes
    std::error_code refused;
    for (fs::directory_iterator fd(proc(pid, "fd"), refused), last; !refused && fd != last; fd.increment(refused)) {
      std::error_code gone;
      const std::string target = fs::read_symlink(fd->path(), gone);
      if (!gone && lies_below(target, directory)) files[target] = files[target] || writable(pid, fd->path().filename());
    }
    if (refused == std::errc::permission_denied) {
      ++found.unreadable;
      continue;
    }
    std::istringstream maps(read_proc_file(proc(pid, "maps")).value_or(""));
    for (std::string line; std::getline(maps, line);) {
      const auto slash = line.find('/');
      if (slash == std::string::npos || !lies_below(std::string_view(line).substr(slash), directory)) continue;
      const auto space = line.find(' ');
      const std::string_view mode = std::string_view(line).substr(space + 1, 4);  // rw-s: shared and writable reaches the file
      files[line.substr(slash)] = files[line.substr(slash)] || (mode[1] == 'w' && mode[3] == 's');
    }
    for (const auto& [path, writes] : files) found.holders.push_back({.pid = pid, .command = name_of(pid), .path = path, .writes = writes, .ours = is_ours(pid)});
  }
  std::ranges::sort(found.holders, [](const FileHolder& a, const FileHolder& b) { return std::tie(a.pid, a.path) < std::tie(b.pid, b.path); });
  return found;
}

Result<WriteWatch> WriteWatch::create(const std::string& directory) {
  UniqueFd fd(::fanotify_init(FAN_CLOEXEC | FAN_NONBLOCK | FAN_CLASS_NOTIF, O_RDONLY | O_CLOEXEC | O_LARGEFILE));
  if (!fd) return fail(ErrorCode::unavailable, std::string("watch for writers: fanotify_init: ") + std::strerror(errno), "it needs CAP_SYS_ADMIN");
  if (::fanotify_mark(fd.get(), FAN_MARK_ADD | FAN_MARK_FILESYSTEM, FAN_MODIFY | FAN_CLOSE_WRITE, AT_FDCWD, directory.c_str()) != 0)
    return fail(ErrorCode::unavailable, "watch for writers below '" + directory + "': " + std::strerror(errno));
  return WriteWatch(std::move(fd), directory);
}

std::vector<FileHolder> WriteWatch::take() {
  std::vector<FileHolder> writers;
  alignas(fanotify_event_metadata) std::array<char, 64 * 1024> buffer;
  for (;;) {
    ssize_t size = ::read(fd_.get(), buffer.data(), buffer.size());
    if (size <= 0) return writers;
    for (auto* event = reinterpret_cast<fanotify_event_metadata*>(buffer.data()); FAN_EVENT_OK(event, size); event = FAN_EVENT_NEXT(event, size)) {
      if (event->fd < 0) continue;
      const UniqueFd file(event->fd);
      if (event->pid == ::getpid()) continue;
      std::error_code gone;
      const std::string path = fs::read_symlink("/proc/self/fd/" + std::to_string(file.get()), gone);
      if (gone || !lies_below(path, directory_)) continue;
      writers.push_back({.pid = event->pid, .command = name_of(event->pid), .path = path, .writes = true, .ours = is_ours(event->pid)});
    }
  }
}

}  // namespace drover
