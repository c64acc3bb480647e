/// signalfd(2).
#include "os/signal_fd.hpp"

#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

namespace drover {

Result<UniqueFd> watch_termination_signals() {
  sigset_t signals;
  ::sigemptyset(&signals);
  for (const int one : {SIGINT, SIGTERM, SIGHUP}) ::sigaddset(&signals, one);
  if (const int error = ::pthread_sigmask(SIG_BLOCK, &signals, nullptr); error != 0) return fail_errno(error, "blocking signals");
  UniqueFd fd(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd) return fail_errno(errno, "opening a signalfd");
  return fd;
}

int take_signal(int fd) {
  signalfd_siginfo info{};
  return ::read(fd, &info, sizeof info) == static_cast<ssize_t>(sizeof info) ? static_cast<int>(info.ssi_signo) : 0;
}

}  // namespace drover
