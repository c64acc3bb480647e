#pragma once
/// From the evidence of a death to the outcome of the attempt that was running. Pure.

#include "drover/types/outcome.hpp"
#include "engine/scheduler.hpp"

namespace drover::engine {

/// For a death nobody here caused (or one only confirmed after a death hint): what the exit status and the limit layers say.
/// A SIGKILL that no limit layer claims is `lost(killed)`.
Outcome outcome_of(const ExitEvidence& evidence);

/// A death before Ready: the incarnation never served.
outcome::StartFailed start_failure_of(const ExitEvidence& evidence);

/// An unexplained SIGKILL that the tally attributes to its task.
inline Outcome attributed_kill() { return outcome::Crashed{9}; }

}  // namespace drover::engine
