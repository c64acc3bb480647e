#include "os/file_facts.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>

namespace drover {

bool path_exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

std::optional<std::string> link_target(const std::string& path) {
  std::array<char, 4096> text;
  const ssize_t size = ::readlink(path.c_str(), text.data(), text.size());
  if (size < 0 || static_cast<std::size_t>(size) == text.size()) return std::nullopt;
  return std::string(text.data(), static_cast<std::size_t>(size));
}

Result<UniqueFd> open_null() {
  UniqueFd fd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (!fd) return fail_errno(errno, "open '/dev/null'");
  return fd;
}

Result<UniqueFd> reopen_read_only(int fd) {
  UniqueFd again(::open(("/proc/self/fd/" + std::to_string(fd)).c_str(), O_RDONLY | O_CLOEXEC));
  if (!again) return fail_errno(errno, "reopen a file read-only");
  return again;
}

Result<std::string> read_whole(int fd, std::uint64_t bytes_max) {
  std::string bytes;
  std::array<char, 65536> part;
  while (bytes.size() < bytes_max) {
    const ssize_t got = ::pread(fd, part.data(), std::min<std::uint64_t>(part.size(), bytes_max - bytes.size()), static_cast<off_t>(bytes.size()));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno(errno, "read a file");
    if (got == 0) break;
    bytes.append(part.data(), static_cast<std::size_t>(got));
  }
  return bytes;
}

Result<UniqueFd> lock_directory(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) return fail_errno(errno, "open '" + path + "'");
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) == 0) return fd;
  if (errno == EWOULDBLOCK) return fail(ErrorCode::busy, "'" + path + "' is locked");
  return fail_errno(errno, "lock '" + path + "'");
}

}  // namespace drover
