#include "os/event_fd.hpp"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

namespace drover {

Result<EventFd> EventFd::create() {
  const int fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fd < 0) return fail_errno(errno, "create an eventfd");
  return EventFd(UniqueFd(fd));
}

void EventFd::ring() const {
  const std::uint64_t one = 1;
  while (::write(fd_.get(), &one, sizeof one) < 0 && errno == EINTR) {
  }
}

std::uint64_t EventFd::drain() const {
  std::uint64_t count = 0;
  ssize_t got = 0;
  do got = ::read(fd_.get(), &count, sizeof count);
  while (got < 0 && errno == EINTR);
  return got == sizeof count ? count : 0;
}

}  // namespace drover
