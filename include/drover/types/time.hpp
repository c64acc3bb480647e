#pragma once
/// Points and spans of time. `TimePoint` is CLOCK_MONOTONIC in nanoseconds; a run's budget alone is CLOCK_BOOTTIME and
/// never leaves os and the ledger. Nobody here reads a clock: time is an argument (os/clock.hpp reads it).

#include <chrono>
#include <cstdint>

namespace drover {

using Nanos = std::chrono::nanoseconds;
using Millis = std::chrono::milliseconds;
using Seconds = std::chrono::seconds;

struct MonotonicClock {
  using rep = std::int64_t;
  using period = std::nano;
  using duration = Nanos;
  using time_point = std::chrono::time_point<MonotonicClock>;
  static constexpr bool is_steady = true;
};
using TimePoint = MonotonicClock::time_point;

/// Later than everything; the deadline of what may take for ever (a parked worker).
inline constexpr TimePoint kNever = TimePoint::max();

/// Earlier than everything a clock here shows: "only look, do not wait".
inline constexpr TimePoint kPast = TimePoint{};

/// `now + timeout`, kNever if that would overflow or the timeout is "none" (Nanos::max()).
constexpr TimePoint after(TimePoint now, Nanos timeout) {
  if (timeout == Nanos::max() || now.time_since_epoch() > Nanos::max() - timeout) return kNever;
  return now + timeout;
}

/// "No limit" as a duration.
inline constexpr Nanos kUnlimited = Nanos::max();

}  // namespace drover
