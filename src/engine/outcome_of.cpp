#include "engine/outcome_of.hpp"

#include <csignal>

namespace drover::engine {

Outcome outcome_of(const ExitEvidence& evidence) {
  if (evidence.oom_by_our_limit) return outcome::OutOfMemory{evidence.limit_bytes, evidence.peak_bytes, true};
  if (evidence.oom_by_host) return outcome::OutOfMemory{evidence.limit_bytes, evidence.peak_bytes, false};
  switch (evidence.how) {
    case ExitEvidence::How::exited: return outcome::Exited{evidence.code_or_signal};
    case ExitEvidence::How::signalled:
      if (evidence.code_or_signal == SIGKILL) return outcome::Lost{LossCause::killed};
      return outcome::Crashed{evidence.code_or_signal};
    case ExitEvidence::How::keeper_lost: return outcome::Lost{LossCause::keeper};
  }
  std::unreachable();
}

outcome::StartFailed start_failure_of(const ExitEvidence& evidence) {
  return {"ready: " + text_of(outcome_of(evidence)), 0};
}

}  // namespace drover::engine
