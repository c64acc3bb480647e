#include "cli/signals.hpp"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>

namespace drover::cli {

Result<std::unique_ptr<Signals>> Signals::watch(std::function<void(int signal, int nth)> told) {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) ::sigaddset(&set, signal);
  if (const int error = ::pthread_sigmask(SIG_BLOCK, &set, nullptr); error != 0) return fail_errno(error, "blocking signals");
  UniqueFd fd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd) return fail_errno(errno, "opening a signalfd");
  DROVER_TRY(EventFd end, EventFd::create());
  std::unique_ptr<Signals> watch(new Signals(std::move(fd), std::move(end)));
  watch->thread_ = std::jthread([signals = watch->signals_.get(), ended = watch->end_.fd(), told = std::move(told)] {
    int nth = 0;
    std::array<pollfd, 2> fds{{{.fd = signals, .events = POLLIN, .revents = 0}, {.fd = ended, .events = POLLIN, .revents = 0}}};
    while (true) {
      if (::poll(fds.data(), fds.size(), -1) < 0 && errno != EINTR) return;
      if (fds[1].revents != 0) return;
      signalfd_siginfo info{};
      while (::read(signals, &info, sizeof info) == static_cast<ssize_t>(sizeof info)) told(static_cast<int>(info.ssi_signo), ++nth);
    }
  });
  return watch;
}

Signals::~Signals() { end_.ring(); }

}  // namespace drover::cli
