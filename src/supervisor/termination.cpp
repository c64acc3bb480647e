/// poll(2).
#include "drover/termination.hpp"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>

#include "os/clock.hpp"
#include "os/signal_fd.hpp"

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
  DROVER_TRY(UniqueFd fd, watch_termination_signals());
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
    char thrown_away[4096];
    if (fds[0].revents != 0) i.told = take_signal(i.signals.get());
    if (i.told == 0 && fds[1].revents != 0 && ::read(0, thrown_away, sizeof thrown_away) <= 0) i.told = SIGHUP;
  }
  return i.told;
}

}  // namespace drover
