#include "os/helper_image.hpp"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#ifndef MFD_EXEC
#define MFD_EXEC 16u
#endif

namespace drover {
namespace {

Result<void> write_all(int fd, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::write(fd, bytes.data(), bytes.size());
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return fail_errno(sent < 0 ? errno : EIO, "write a helper's image");
    bytes = bytes.subspan(static_cast<std::size_t>(sent));
  }
  return {};
}

Result<UniqueFd> in_memory(const std::string& name, std::span<const std::byte> image) {
  int raw = ::memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
  if (raw < 0 && errno == EINVAL) raw = ::memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING);  // before Linux 6.3
  if (raw < 0) return fail_errno(errno, "create an executable memfd");
  UniqueFd fd(raw);
  DROVER_CHECK(write_all(fd.get(), image));
  if (::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) != 0)
    return fail_errno(errno, "seal a helper's image");
  return fd;
}

Result<UniqueFd> in_directory(const char* directory, std::span<const std::byte> image) {
  const UniqueFd fd(::open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0500));
  if (!fd) return fail_errno(errno, std::string("create an unnamed file in '") + directory + "'");
  DROVER_CHECK(write_all(fd.get(), image));
  // A file that is open for writing cannot be executed (ETXTBSY): hand out a descriptor that cannot write.
  UniqueFd again(::open(("/proc/self/fd/" + std::to_string(fd.get())).c_str(), O_RDONLY | O_CLOEXEC));
  if (!again) return fail_errno(errno, "reopen a helper's image");
  return again;
}

/// access(2) with X_OK answers what exec would: permission, and a file system mounted noexec.
bool is_executable(int fd) { return ::faccessat(fd, "", X_OK, AT_EMPTY_PATH | AT_EACCESS) == 0; }

}  // namespace

Result<UniqueFd> make_executable_image(std::string_view name, std::span<const std::byte> image) {
  if (auto fd = in_memory(std::string(name), image); fd && is_executable(fd->get())) return fd;
  const char* runtime = ::getenv("XDG_RUNTIME_DIR");
  for (const char* directory : {"/dev/shm", runtime != nullptr ? runtime : "/tmp", "/tmp"})
    if (auto fd = in_directory(directory, image); fd && is_executable(fd->get())) return fd;
  return fail(ErrorCode::unavailable,
              "start '" + std::string(name) + "': this host lets us execute neither from memory nor from /dev/shm or /tmp",
              "set XDG_RUNTIME_DIR to a directory on a file system without noexec");
}

Result<UniqueFd> open_own_executable() {
  UniqueFd fd(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  if (!fd && errno == EACCES) fd.reset(::open("/proc/self/exe", O_PATH | O_CLOEXEC));  // executable but not readable
  if (!fd) return fail_errno(errno, "open this program's own executable (/proc/self/exe)");
  return fd;
}

}  // namespace drover
