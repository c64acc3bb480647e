#pragma once
/// Starts a helper (keeper, watchdog) beside the supervisor, in new namespaces if asked, such that a host program's SIGCHLD
/// handler and wait() never see it.
///
/// For that the helper is not our child. An exec gives every child its exit signal back (SIGCHLD, kernel: de_thread), so
/// between us stands an *anchor*: a process without exit signal that never execs, shares our memory (no copy, no cost for a
/// host of any size), holds no descriptor, blocks every signal, and does nothing but wait for the helper. It dies with the
/// thread that started it (PR_SET_PDEATHSIG), and the helper, which asks for the same, with the anchor. Shown by ps as
/// "drover-anchor".
///
/// Costs 1-3 ms whatever the size of this process.

#include <sys/types.h>

#include <span>
#include <string>

#include "drover/types/error.hpp"
#include "drover/types/limits.hpp"
#include "os/pidfd.hpp"

namespace drover {

enum class HelperNamespaces : std::uint8_t {
  none,
  pid,           ///< PID 1 of a new PID namespace; needs CAP_SYS_ADMIN
  user_and_pid,  ///< the same for an ordinary user, who stays himself inside (uid and gid mapped to themselves)
  root_in_user_and_pid,  ///< the same, and he is root inside: keeps the namespace's capabilities over the exec
};

struct HelperStart {
  int image = -1;                       ///< make_executable_image
  std::span<const std::string> argv{};  ///< the environment is empty
  std::span<const int> fds{};           ///< become descriptors 3, 4, ...; 0-2 are /dev/null, everything else is closed
  HelperNamespaces namespaces = HelperNamespaces::none;
};

/// Owns a running helper. Dropping it neither kills nor waits.
class HelperProcess {
 public:
  HelperProcess() = default;

  bool valid() const { return helper_.valid(); }
  const PidFd& pidfd() const { return helper_; }
  pid_t pid() const { return pid_; }

  void kill() const;
  /// Sleeps until it and its anchor are dead and the anchor is reaped; true if they are (then and before). Only the process
  /// that started it may ask.
  bool reap(TimePoint deadline);

 private:
  friend Result<HelperProcess> start_helper(const struct HelperStart& start, TimePoint deadline);
  PidFd helper_;
  pid_t pid_ = 0;
  PidFd anchor_;
  struct Launch* launch_ = nullptr;  // the anchor's memory; given back once it is reaped, and else never
};

/// On return the helper runs its own image. Errors: refused (EPERM and the like: these namespaces are not to be had here),
/// timed_out, no_space, system; the message names the step.
Result<HelperProcess> start_helper(const HelperStart& start, TimePoint deadline);

/// What start_helper can do here: tries each kind with a child that ends at once.
LimitLayer probe_containment();

}  // namespace drover
