#pragma once
/// The supervisor's end of the watchdog: a separate small static process that kills the keeper, and so the run, when
///   - the run's deadline has passed (own timer, CLOCK_BOOTTIME),
///   - the supervisor is armed and its beat has stood still for `beat_silence` (it hangs or was stopped),
///   - the supervisor is dead (its pidfd).
/// Armed means leases are held. Disarmed it never wakes up. It has no other power and takes no other orders.

#include <sys/types.h>

#include <cstdint>
#include <variant>
#include <vector>

#include "drover/types/error.hpp"
#include "drover/types/time.hpp"
#include "os/event_fd.hpp"
#include "os/helper_process.hpp"
#include "os/memfd.hpp"
#include "os/pidfd.hpp"
#include "os/unique_fd.hpp"

namespace drover {

namespace watchdog {
struct Fired {
  enum class Why : std::uint8_t { deadline, silence } why{};
};
struct Gone {};  ///< it hung up; no message follows. Start another and arm it again.
}  // namespace watchdog

using WatchdogMessage = std::variant<watchdog::Fired, watchdog::Gone>;

struct WatchdogOptions {
  Nanos run_deadline_boottime = kUnlimited;
  Millis beat_silence{10'000};  ///< at least 40 ms
};

class WatchdogLink {
 public:
  /// Starts it, watching `keeper`, disarmed. Errors as KeeperLink::start.
  static Result<WatchdogLink> start(const WatchdogOptions& options, const PidFd& keeper, TimePoint deadline);

  WatchdogLink(WatchdogLink&&) noexcept = default;
  WatchdogLink& operator=(WatchdogLink&&) noexcept;
  ~WatchdogLink();  ///< kill(), then waits up to 250 ms to reap it

  /// The keeper was replaced. Errors: closed (the watchdog is dead).
  Result<void> watch(const PidFd& keeper);

  /// From now on beat() must be called at least every beat_silence / 2. Cheap: a system call only after a longer pause.
  void arm();
  void disarm();  ///< a store
  void beat();    ///< a store; call it every turn of the loop
  bool armed() const { return armed_; }

  int fd() const { return socket_.get(); }
  /// Appends what has arrived. Never blocks. Gone comes once, last.
  Result<void> receive(std::vector<WatchdogMessage>& messages);

  const PidFd& pidfd() const { return process_.pidfd(); }
  pid_t host_pid() const { return process_.pid(); }
  void kill();
  bool wait_gone(TimePoint deadline);

 private:
  WatchdogLink() = default;
  UniqueFd socket_;
  HelperProcess process_;
  Mapping beat_page_;
  Nanos tick_{};
  bool armed_ = false;
  bool must_wake_ = true;  // its ticker stands: arming needs a message
  bool gone_told_ = false;
};

}  // namespace drover
