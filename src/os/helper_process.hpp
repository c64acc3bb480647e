#pragma once
/// Starts a helper (keeper, watchdog) beside the supervisor: in new namespaces if asked, without an exit signal, so that a
/// host program's SIGCHLD handler and wait() never see it. Costs 1-3 ms whatever the size of this process: its memory is
/// shared, not copied, until the helper's exec (CLONE_VM | CLONE_VFORK), and the calling thread waits for that.

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
};

struct HelperStart {
  int image = -1;                       ///< make_executable_image
  std::span<const std::string> argv{};  ///< the environment is empty
  std::span<const int> fds{};           ///< become descriptors 3, 4, ...; 0-2 are /dev/null, everything else is closed
  HelperNamespaces namespaces = HelperNamespaces::none;
};

struct HelperProcess {
  PidFd pidfd;
  pid_t pid = 0;
};

/// On return the helper runs its own image. Errors: refused (EPERM and the like: these namespaces are not to be had here),
/// no_space, system; the message names the step.
Result<HelperProcess> start_helper(const HelperStart& start);

/// Reaps it once it is dead; true if it is (then and before). Only the process that started it may ask.
bool reap_helper(const PidFd& helper, TimePoint deadline);

/// What start_helper can do here: tries each kind with a child that ends at once.
LimitLayer probe_containment();

}  // namespace drover
