#pragma once
/// What the caller says about tasks, and the policies a pool applies to them. Plain values; every default is the one a careful
/// operator would pick.

#include <cstdint>

#include "drover/types/ids.hpp"
#include "drover/types/limits.hpp"
#include "drover/types/time.hpp"

namespace drover {

/// `pure` may be run again. `effectful` is started at most once: when nobody can know whether it happened it ends as unknown_effect.
enum class EffectClass : std::uint8_t { pure, effectful };

/// How often a task is tried again, by retry class (types/outcome.hpp).
struct RetryPolicy {
  std::uint32_t blamed_max = 2;  ///< further attempts after blamed endings; the next blamed ending quarantines the task
  std::uint32_t free_max = 100;  ///< further attempts after endings that are nobody's fault; then the last outcome is final
  friend constexpr bool operator==(const RetryPolicy&, const RetryPolicy&) = default;
};

/// OTP's intensity and period: more than `restarts` restarts of a pool's workers within `period` without one task completed
/// between them, and the pool gives up: every open task ends with the evidence, nothing hangs. Source: Erlang/OTP supervisor(3).
struct RestartIntensity {
  std::uint32_t restarts = 10;
  Nanos period = Seconds(10);
  friend constexpr bool operator==(const RestartIntensity&, const RestartIntensity&) = default;
};

/// Delay before the n-th restart of a slot without a completed task in between: the first at once, then
/// min(first * factor^(n-2), max), times a seeded jitter in [1 - jitter, 1].
struct BackOff {
  Nanos first = Millis(5);
  double factor = 2.0;
  Nanos max = Seconds(5);
  double jitter = 0.5;
  friend constexpr bool operator==(const BackOff&, const BackOff&) = default;
};

/// Ask (stop flag), SIGTERM, SIGKILL, each with its own grace; KILL is last. Not reaped `reap` after KILL is `unkillable`:
/// the slot is retired and nobody waits for it any more.
struct StopLadder {
  Nanos ask = Millis(200);
  Nanos term = Millis(200);
  Nanos reap = Seconds(2);
  friend constexpr bool operator==(const StopLadder&, const StopLadder&) = default;
};

/// When a healthy worker is replaced. The replacement is ready before the old one is asked to stop (make before break).
struct Recycling {
  std::uint64_t tasks = 0;             ///< after so many completed tasks; 0 never
  Nanos age = kUnlimited;              ///< after so long
  std::uint64_t rss_growth_bytes = 0;  ///< when RSS grew by so much since it became ready; 0 never
  friend constexpr bool operator==(const Recycling&, const Recycling&) = default;
};

}  // namespace drover
