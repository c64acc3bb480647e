#include "guard/restart.hpp"

#include <algorithm>

#include "drover/types/outcome.hpp"  // text_of(Nanos)

namespace drover::guard {
namespace {

/// Failed twice in the same way at the same step.
bool failed_alike(const AttemptReport& a, const AttemptReport& b) {
  const bool failed = a.end != AttemptEnd::exited || a.code != 0;
  return failed && a.end == b.end && a.code == b.code && a.step == b.step;
}

}  // namespace

Decision decide(const RestartPolicy& policy, const std::vector<AttemptReport>& attempts) {
  const AttemptReport& last = attempts.back();
  const auto over = [](Ending ending) { return Decision{.ending = std::move(ending), .delay = {}}; };
  switch (last.end) {
    case AttemptEnd::steps: return over(ending::Limit{JobLimit::steps, text_of(last)});
    case AttemptEnd::checkpoints: return over(ending::Limit{JobLimit::checkpoints, text_of(last)});
    case AttemptEnd::disk: return over(ending::Limit{JobLimit::disk, text_of(last)});
    case AttemptEnd::probe: return over(ending::GaveUp{GiveUpReason::probe, text_of(last)});
    case AttemptEnd::fenced: return over(ending::Fenced{});
    case AttemptEnd::cpu: return over(ending::Limit{JobLimit::cpu, text_of(last)});
    case AttemptEnd::stopped: return over(ending::Incomplete{text_of(last)});
    case AttemptEnd::not_started: return over(ending::Incomplete{text_of(last)});
    case AttemptEnd::unkillable: return over(ending::HostFault{text_of(last)});
    case AttemptEnd::exited:
      if (last.code == 0 && policy.restart != Restart::permanent) return over(ending::Completed{});
      break;
    case AttemptEnd::signalled:
    case AttemptEnd::memory:
    case AttemptEnd::stalled:
    case AttemptEnd::lost: break;
  }
  if (policy.restart == Restart::temporary) {
    if (last.end == AttemptEnd::memory) return over(ending::Limit{JobLimit::memory, text_of(last)});
    if (last.end == AttemptEnd::stalled) return over(ending::Stalled{text_of(last)});
    return over(ending::Incomplete{text_of(last)});
  }
  // Restarts so far, this one included, and how many of the latest brought no new step.
  const bool steps_reported = last.step != 0;
  std::uint32_t without_step = 0;
  for (std::size_t i = attempts.size(); i-- > 0;) {
    const std::uint64_t before = i == 0 ? 0 : attempts[i - 1].step;
    if (steps_reported && attempts[i].step > before) break;
    ++without_step;
  }
  if (steps_reported && attempts.size() >= 2 && failed_alike(last, attempts[attempts.size() - 2]))
    return over(ending::GaveUp{GiveUpReason::no_progress, "twice at step " + std::to_string(last.step) + ": " + text_of(last)});
  if (steps_reported && without_step > policy.no_progress_max)
    return over(ending::GaveUp{GiveUpReason::no_progress, std::to_string(without_step) + " attempts without a new step; the last " + text_of(last)});
  Nanos window{};
  std::uint32_t restarts = 1;
  for (std::size_t i = attempts.size(); i-- > 1;) {
    window += attempts[i].wall;
    if (window > policy.period) break;
    ++restarts;
  }
  if (restarts > policy.intensity)
    return over(ending::GaveUp{GiveUpReason::intensity, std::to_string(restarts) + " restarts within " + drover::text_of(policy.period) + "; the last attempt " + text_of(last)});
  Nanos delay = policy.delay_first;
  for (std::uint32_t i = 1; i < without_step && delay < policy.delay_max; ++i) delay *= 2;
  return {.ending = std::nullopt, .delay = std::min(delay, policy.delay_max)};
}

}  // namespace drover::guard
