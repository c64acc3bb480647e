#pragma once
/// What becomes of a task after an attempt that did not complete. Pure; docs/outcomes.md is the table behind it.

#include <cstdint>

#include "drover/types/outcome.hpp"
#include "drover/types/task.hpp"

namespace drover::engine {

/// What the task has behind it, this ending not included.
struct EndingsSoFar {
  std::uint32_t blamed = 0;
  std::uint32_t free = 0;
};

enum class AfterAttempt : std::uint8_t {
  final,           ///< the outcome is the task's
  retry,           ///< lease it again
  quarantine,      ///< blamed more often than the policy allows
  unknown_effect,  ///< effectful and started: nobody can know, and nobody may try again
};

/// For an attempt that was started. An effectful one ends as unknown_effect wherever a pure one would be tried again, now or by
/// a resume (cancelled while running, the run's deadline).
inline AfterAttempt after_attempt(const Outcome& outcome, EffectClass effect, EndingsSoFar so_far, const RetryPolicy& policy) {
  const RetryClass retry = retry_of(outcome);
  if (effect == EffectClass::effectful) {
    const auto* const timed_out = std::get_if<outcome::TimedOut>(&outcome);
    const bool resumable = std::holds_alternative<outcome::Cancelled>(outcome) ||
                           (timed_out != nullptr && timed_out->what == TimeoutKind::run);
    if (resumable || retry == RetryClass::blamed || retry == RetryClass::free) return AfterAttempt::unknown_effect;
  }
  switch (retry) {
    case RetryClass::none:
    case RetryClass::never: return AfterAttempt::final;
    case RetryClass::blamed: return so_far.blamed < policy.blamed_max ? AfterAttempt::retry : AfterAttempt::quarantine;
    case RetryClass::free: return so_far.free < policy.free_max ? AfterAttempt::retry : AfterAttempt::final;
  }
  std::unreachable();
}

/// The cause an unknown effect is recorded with: who ended the attempt.
inline LossCause unknown_because(const Outcome& outcome) {
  if (const auto* const lost = std::get_if<outcome::Lost>(&outcome)) return lost->cause;
  return blame_of(outcome) == Blame::operator_ ? LossCause::operator_ : LossCause::killed;
}

}  // namespace drover::engine
