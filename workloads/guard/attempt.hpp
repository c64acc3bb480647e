#pragma once
/// One attempt at the guarded command, run in the worker: watches output, notices, the file it was told to look at and what
/// the kernel says of the tree; ends it when a limit is reached, when it stalls, or when the worker is asked to stop.

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "drover/task.hpp"
#include "drover/types/time.hpp"

namespace drover::guard {

struct AttemptInput {
  std::uint64_t number = 1;
  std::uint64_t step_before = 0;   ///< the highest step any attempt before has reported
  Nanos cpu_left = kUnlimited;
};

enum class AttemptEnd : std::uint8_t {
  exited,       ///< by itself, `code`
  signalled,    ///< by a signal we did not send, `code`
  steps,        ///< reached its step limit
  checkpoints,  ///< only protected checkpoints are left, more than may be
  disk,         ///< staging and store hold more than allowed
  probe,        ///< its checkpoints failed their probes, too many in a row
  fenced,       ///< another run has taken its lineage over
  cpu,          ///< used up the job's CPU time
  memory,       ///< its tree's resident memory went over the limit
  stalled,      ///< went without progress too long
  stopped,      ///< the job was asked to stop
  not_started,  ///< could not be executed; `text` says why
  lost,         ///< its worker died, and it with its worker: nobody can say how far it came
  unkillable,   ///< some process of it is in uninterruptible sleep
};
std::string_view name_of(AttemptEnd end);

struct AttemptReport {
  AttemptEnd end{};
  std::int32_t code = 0;
  std::uint64_t step = 0;          ///< the highest reported, by this attempt or before
  std::uint64_t rss_peak_bytes = 0;
  std::uint64_t log_bytes_dropped = 0;
  std::uint64_t checkpoints = 0, checkpoints_refused = 0;  ///< committed; not committed, with the reason beside the file
  std::uint64_t checkpoints_quarantined = 0;               ///< of the committed: failed their probe
  Nanos wall{}, cpu{};
  Nanos release{};                 ///< from our KILL, if there was one, until its memory was freed and it was reaped
  bool ready = false;              ///< READY=1 came
  std::array<char, 1024> text{};   ///< evidence for people, ended by NUL
  std::array<char, 7> padding{};
};
/// `exited with 3`, `killed by SIGSEGV`, `stalled for 10 s (blocked): ...`
std::string text_of(const AttemptReport& report);

Result<AttemptReport> attempt(const AttemptInput& input, Context& context);
inline constexpr auto attempt_task = task<"guard-attempt", &attempt>;

}  // namespace drover::guard
