#pragma once
/// Delay before a slot's next incarnation: the first restart at once, then growing, with seeded jitter so that workers killed
/// together do not start together.

#include <algorithm>
#include <cstdint>

#include "drover/types/random.hpp"
#include "drover/types/task.hpp"

namespace drover::engine {

/// `restart` counts from 1 and starts again after a completed task.
inline Nanos delay_before(std::uint32_t restart, const BackOff& policy, Rng& jitter) {
  if (restart <= 1) return Nanos(0);
  const double max = static_cast<double>(std::max(policy.max, Nanos(0)).count());
  double delay = static_cast<double>(std::max(policy.first, Nanos(0)).count());
  for (std::uint32_t i = 2; i < restart && delay < max && policy.factor > 1.0; ++i) delay *= policy.factor;
  delay = std::min(delay, max);
  delay *= 1.0 - std::clamp(policy.jitter, 0.0, 1.0) * jitter.unit();
  return Nanos(static_cast<std::int64_t>(std::min(delay, 9.0e18)));
}

}  // namespace drover::engine
