#pragma once
/// Whether the command is started again: OTP's vocabulary, and two rules of a training run (no endless restarts without a new
/// step, no third try of what failed twice at the same step in the same way). Pure: a function of the attempts so far, so a
/// resumed job decides as the first one did.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "drover/types/ending.hpp"
#include "guard/attempt.hpp"

namespace drover::guard {

enum class Restart : std::uint8_t {
  permanent,  ///< whatever way it ended
  transient,  ///< unless it exited with 0
  temporary,  ///< never
};

struct RestartPolicy {
  Restart restart = Restart::temporary;
  std::uint32_t intensity = 10;       ///< more restarts than this within `period` end the job
  Nanos period = Seconds(60);
  std::uint32_t no_progress_max = 3;  ///< restarts in a row without a new step, where steps are reported
  Nanos delay_first = Millis(0);      ///< before the first restart; doubles with each further one without a new step
  Nanos delay_max = Seconds(30);
};

struct Decision {
  std::optional<Ending> ending;  ///< the job is over; nothing: start again after `delay`
  Nanos delay{};
};

/// What follows the last of `attempts` (not empty, in order). The rules about steps hold once some attempt has told of one.
Decision decide(const RestartPolicy& policy, const std::vector<AttemptReport>& attempts);

}  // namespace drover::guard
