#pragma once
/// The one place where a loop of ours sleeps (epoll). Descriptors are borrowed: remove() before closing, because a closed
/// descriptor that is still open elsewhere (dup, another process) keeps reporting.

#include <cstdint>
#include <vector>

#include "drover/types/error.hpp"
#include "drover/types/time.hpp"
#include "os/unique_fd.hpp"

namespace drover {

enum class Interest : std::uint8_t { readable, writable, both };

class Poller {
 public:
  static Result<Poller> create();

  /// `token` comes back from wait() while `fd` is ready, hung up or in error (level triggered).
  Result<void> add(int fd, std::uint64_t token, Interest interest = Interest::readable);
  Result<void> modify(int fd, std::uint64_t token, Interest interest);
  Result<void> remove(int fd);

  /// Replaces `ready` by the tokens that are ready, at most 256 a call; empty when the deadline came first. Sleeps until
  /// `deadline` on the monotonic clock, in nanoseconds plus the thread's timer slack (50 us by default); a deadline in the
  /// past only looks; kNever makes no timer at all. A signal does not end the wait.
  Result<void> wait(TimePoint deadline, std::vector<std::uint64_t>& ready);

  int fd() const { return epoll_.get(); }

 private:
  explicit Poller(UniqueFd epoll) : epoll_(std::move(epoll)) {}
  UniqueFd epoll_;
};

/// For start-up code before there is a loop: sleeps until `fd` is readable or hung up, or the deadline has come.
bool wait_readable(int fd, TimePoint deadline);

}  // namespace drover
