#pragma once
/// The clock of the guard's worker and client threads. It watches foreign processes, so there is nothing a fake one could drive.

#include <chrono>

#include "drover/types/time.hpp"

namespace drover::guard {

inline TimePoint now() { return TimePoint(std::chrono::duration_cast<Nanos>(std::chrono::steady_clock::now().time_since_epoch())); }

}  // namespace drover::guard
