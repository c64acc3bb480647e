#pragma once
/// A worker process, from its first instruction to its last: maps the memory it was given, says it is ready, then claims,
/// runs and publishes one task after another until it is asked to stop or killed. The supervisor drives it through that memory
/// alone (wire/layout.hpp); it never speaks to the keeper.

#include "worker/registry.hpp"

namespace drover::worker {

/// Exit status of a worker that could not start; the reason is in the control page.
inline constexpr int kStartFailed = 111;

[[noreturn]] void worker_main(const Registry& registry);

}  // namespace drover::worker
