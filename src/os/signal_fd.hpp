#pragma once
/// SIGINT, SIGTERM and SIGHUP as a descriptor to wait for. To be called in main's thread before any other exists: they inherit the blocked mask,
/// so no signal ever interrupts one.

#include "drover/types/error.hpp"
#include "os/unique_fd.hpp"

namespace drover {

/// Blocks them for good; the descriptor is readable when one has come.
Result<UniqueFd> watch_termination_signals();
/// The next of them; 0: none has come.
int take_signal(int fd);

}  // namespace drover
