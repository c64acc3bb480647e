#include "cli/signals.hpp"

#include <poll.h>

#include <array>
#include <cerrno>

#include "os/signal_fd.hpp"

namespace drover::cli {

Result<std::unique_ptr<Signals>> Signals::watch(std::function<void(int signal, int nth)> told) {
  DROVER_TRY(UniqueFd fd, watch_termination_signals());
  DROVER_TRY(EventFd end, EventFd::create());
  std::unique_ptr<Signals> watch(new Signals(std::move(fd), std::move(end)));
  watch->thread_ = std::jthread([signals = watch->signals_.get(), ended = watch->end_.fd(), told = std::move(told)] {
    int nth = 0;
    std::array<pollfd, 2> fds{{{.fd = signals, .events = POLLIN, .revents = 0}, {.fd = ended, .events = POLLIN, .revents = 0}}};
    while (true) {
      if (::poll(fds.data(), fds.size(), -1) < 0 && errno != EINTR) return;
      if (fds[1].revents != 0) return;
      while (const int signal = take_signal(signals)) told(signal, ++nth);
    }
  });
  return watch;
}

Signals::~Signals() { end_.ring(); }

}  // namespace drover::cli
