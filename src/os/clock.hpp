#pragma once
/// Where time comes from. The supervisor is given a Clock and passes TimePoints down; nothing else reads one.

#include "drover/types/time.hpp"

namespace drover {

class Clock {
 public:
  virtual ~Clock() = default;
  virtual TimePoint now() const = 0;   ///< CLOCK_MONOTONIC: stands still while the host is suspended
  virtual Nanos boottime() const = 0;  ///< CLOCK_BOOTTIME since boot: host suspend included, for a run's budget only
};

/// The kernel's. Stateless; lives for ever.
const Clock& system_clock();

}  // namespace drover
