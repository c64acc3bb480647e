#include "os/directory_watch.hpp"

#include <sys/inotify.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace drover {

Result<DirectoryWatch> DirectoryWatch::create(const std::string& directory) {
  UniqueFd fd(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!fd) return fail_errno(errno, "watch '" + directory + "'");
  if (::inotify_add_watch(fd.get(), directory.c_str(), IN_CLOSE_WRITE | IN_MOVED_TO | IN_ONLYDIR) < 0) return fail_errno(errno, "watch '" + directory + "'");
  return DirectoryWatch(std::move(fd));
}

Result<std::vector<std::string>> DirectoryWatch::take() {
  std::vector<std::string> names;
  alignas(inotify_event) std::array<char, 16 * 1024> buffer;
  bool lost = false;
  for (;;) {
    const ssize_t size = ::read(fd_.get(), buffer.data(), buffer.size());
    if (size <= 0) break;
    for (const char* at = buffer.data(); at < buffer.data() + size;) {
      inotify_event event;
      std::memcpy(&event, at, sizeof event);
      if ((event.mask & IN_Q_OVERFLOW) != 0) lost = true;
      if (event.len != 0 && (event.mask & IN_ISDIR) == 0) names.emplace_back(at + sizeof event);
      at += sizeof event + event.len;
    }
  }
  if (lost) return fail(ErrorCode::unavailable, "more files were written than the kernel could tell");
  return names;
}

}  // namespace drover
