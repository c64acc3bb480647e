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
#include "guard/policy.hpp"

namespace drover::guard {

struct Decision {
  std::optional<Ending> ending;  ///< the job is over; nothing: start again after `delay`
  Nanos delay{};
};

/// What follows the last of `attempts` (not empty, in order). The rules about steps hold once some attempt has told of one.
Decision decide(const RestartPolicy& policy, const std::vector<AttemptReport>& attempts);

}  // namespace drover::guard
