#include "os/loop_priority.hpp"

#include <errno.h>
#include <sched.h>

namespace drover {

Result<void> raise_loop_priority() {
  sched_param parameter{};
  parameter.sched_priority = 1;
  if (::sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &parameter) == 0) return {};
  if (errno == EPERM)
    return fail(ErrorCode::refused, "raise the loop's priority: not permitted",
                "give CAP_SYS_NICE, or go on: timers may be some 10 ms late under load");
  return fail_errno(errno, "raise the loop's priority");
}

}  // namespace drover
