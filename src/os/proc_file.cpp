#include "os/proc_file.hpp"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "os/unique_fd.hpp"

namespace drover {

Result<std::string> read_proc_file(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
  if (!fd) return fail_errno(errno, "read '" + path + "'");
  std::string text;
  char part[4096];
  while (text.size() < 64 * 1024) {
    const ssize_t got = ::read(fd.get(), part, sizeof part);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno(errno, "read '" + path + "'");
    if (got == 0) break;
    text.append(part, static_cast<std::size_t>(got));
  }
  return text;
}

Result<void> write_proc_file(const std::string& path, std::string_view text) {
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY));
  if (!fd) return fail_errno(errno, "write '" + path + "'");
  ssize_t sent = 0;
  do sent = ::write(fd.get(), text.data(), text.size());
  while (sent < 0 && errno == EINTR);
  if (sent != static_cast<ssize_t>(text.size())) return fail_errno(sent < 0 ? errno : EIO, "write '" + path + "'");
  return {};
}

}  // namespace drover
