/// pipe2(2), read(2).
#include "os/pipe.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

namespace drover {

Result<Pipe> Pipe::create() {
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) != 0) return fail_errno(errno, "make a pipe");
  Pipe pipe{UniqueFd(fds[0]), UniqueFd(fds[1])};
  if (::fcntl(fds[0], F_SETFL, O_NONBLOCK) != 0) return fail_errno(errno, "make a pipe non-blocking");
  return pipe;
}

Result<std::optional<std::size_t>> read_some(int fd, std::span<std::byte> into) {
  for (;;) {
    const ssize_t n = ::read(fd, into.data(), into.size());
    if (n >= 0) return std::optional<std::size_t>(static_cast<std::size_t>(n));
    if (errno == EINTR) continue;
    if (errno == EAGAIN) return std::optional<std::size_t>();
    return fail_errno(errno, "read");
  }
}

}  // namespace drover
