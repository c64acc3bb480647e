/// signalfd(2), poll(2).
#include "drover/termination.hpp"

#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>

#include "os/clock.hpp"
#include "os/unique_fd.hpp"

namespace drover {

struct Termination::Impl {
  UniqueFd signals;
  bool stdin_too = false;
  int told = 0;
};

Termination::Termination(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Termination::Termination(Termination&&) noexcept = default;
Termination& Termination::operator=(Termination&&) noexcept = default;
Termination::~Termination() = default;

Result<Termination> Termination::watch(bool until_stdin_ends) {
  sigset_t signals;
  ::sigemptyset(&signals);
  for (const int one : {SIGINT, SIGTERM, SIGHUP}) ::sigaddset(&signals, one);
  if (const int error = ::pthread_sigmask(SIG_BLOCK, &signals, nullptr); error != 0) return fail_errno(error, "block signals");
  UniqueFd fd(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd) return fail_errno(errno, "watch signals");
  auto impl = std::make_unique<Impl>();
  impl->signals = std::move(fd);
  impl->stdin_too = until_stdin_ends;
  return Termination(std::move(impl));
}

int Termination::wait(TimePoint deadline) {
  Impl& i = *impl_;
  while (i.told == 0) {
    const Nanos left = deadline - system_clock().now();
    if (left <= Nanos(0)) return 0;
    pollfd fds[2] = {{.fd = i.signals.get(), .events = POLLIN, .revents = 0}, {.fd = i.stdin_too ? 0 : -1, .events = POLLIN, .revents = 0}};
    ::poll(fds, 2, static_cast<int>(std::min<std::int64_t>(left / Millis(1) + 1, 1 << 30)));
    signalfd_siginfo info{};
    char thrown_away[4096];
    if (fds[0].revents != 0 && ::read(i.signals.get(), &info, sizeof info) == sizeof info) i.told = static_cast<int>(info.ssi_signo);
    else if (fds[1].revents != 0 && ::read(0, thrown_away, sizeof thrown_away) <= 0) i.told = SIGHUP;
  }
  return i.told;
}

}  // namespace drover
