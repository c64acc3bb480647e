#pragma once
/// The clock of workloads that watch foreign processes, of which there is nothing a fake one could drive. Deadlines of the library are its times.

#include <chrono>

#include "drover/types/time.hpp"

namespace drover {

inline TimePoint now() { return TimePoint(std::chrono::duration_cast<Nanos>(std::chrono::steady_clock::now().time_since_epoch())); }
inline TimePoint in(Nanos timeout) { return after(now(), timeout); }

}  // namespace drover
