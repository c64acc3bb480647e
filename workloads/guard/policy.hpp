#pragma once
/// Whether a command is started again, in OTP's words.

#include <cstdint>

#include "drover/types/time.hpp"

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
  friend bool operator==(const RestartPolicy&, const RestartPolicy&) = default;
};

}  // namespace drover::guard
