#include "guard/live.hpp"

#include <fmt/format.h>

namespace drover::guard {

void LiveAttempt::write(std::uint64_t step, Phase phase, std::uint64_t processes, std::uint64_t rss_bytes) const {
  cells_->step = step;
  cells_->phase = static_cast<std::uint64_t>(phase);
  cells_->processes = processes;
  cells_->rss_bytes = rss_bytes;
}

void LiveAttempt::committed(std::uint64_t step, TimePoint at) const {
  cells_->checkpoint_step = step;
  cells_->checkpoint_at_ns = static_cast<std::uint64_t>(at.time_since_epoch().count());
}

LiveAttempt::Seen LiveAttempt::read(TimePoint now) const {
  Seen seen{.step = cells_->step, .text = {}};
  if (seen.step != 0) seen.text += fmt::format(", step {}", seen.step);
  if (const std::uint64_t phase = cells_->phase; phase != 0 && phase < kPhases) seen.text += fmt::format(", phase {}", name_of(static_cast<Phase>(phase)));
  if (const std::uint64_t processes = cells_->processes; processes != 0)
    seen.text += fmt::format(", {} process{}, {} MiB", processes, processes == 1 ? "" : "es", cells_->rss_bytes.load() >> 20);
  if (const std::uint64_t at = cells_->checkpoint_at_ns; at != 0) {
    const auto age = now.time_since_epoch() - Nanos(static_cast<std::int64_t>(at));
    seen.text += fmt::format(", checkpoint at step {} {} s ago", cells_->checkpoint_step.load(), std::max<std::int64_t>(0, std::chrono::duration_cast<Seconds>(age).count()));
  }
  return seen;
}

}  // namespace drover::guard
