#pragma once
/// The supervisor's loop starves when workers burn every core: its timers were 4-13 ms late (p99), with this 0.05-1 ms.

#include "drover/types/error.hpp"

namespace drover {

/// Makes the *calling thread* SCHED_FIFO priority 1, reset in children (SCHED_RESET_ON_FORK): workers stay ordinary. The
/// thread must bound its work per turn. For the CLI, or by opt-in when embedded.
/// ErrorCode::refused without CAP_SYS_NICE: go on without.
Result<void> raise_loop_priority();

}  // namespace drover
