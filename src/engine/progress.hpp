#pragma once
/// Judges one attempt by samples of its worker: CPU used since the attempt began, and silence of its progress counter against
/// what the kernel says. A worker that beats while its work hangs is still silent here: only `progress` counts.

#include <algorithm>
#include <cstdint>
#include <optional>

#include "drover/types/outcome.hpp"
#include "drover/types/time.hpp"

namespace drover::engine {

struct ProgressSample {
  std::uint64_t progress = 0;
  Nanos cpu{};
  bool stopped = false;
};

class ProgressWatch {
 public:
  /// A new attempt is at the head of the window.
  void begin(TimePoint now) {
    heard_ = now;
    has_base_ = false;
    used_ = Nanos(0);
    since_heard_ = Nanos(0);
    stopped_ = false;
  }
  /// The first sample is the base: what the worker's counters were before this attempt is not known better.
  void take(TimePoint now, const ProgressSample& sample) {
    if (!has_base_) {
      has_base_ = true;
      cpu_base_ = cpu_heard_ = sample.cpu;
      progress_ = sample.progress;
    }
    if (sample.progress != progress_) {
      progress_ = sample.progress;
      heard_ = now;
      cpu_heard_ = sample.cpu;
    }
    used_ = std::max(Nanos(0), sample.cpu - cpu_base_);
    since_heard_ = std::max(Nanos(0), sample.cpu - cpu_heard_);
    stopped_ = sample.stopped;
  }
  bool sampled() const { return has_base_; }
  /// CPU time of the worker since the attempt began.
  Nanos cpu_used() const { return used_; }
  Nanos silence(TimePoint now) const { return now - heard_; }

  /// Set when the silence has reached `limit`: stopped if the kernel says so, spinning if more than half of the silence was
  /// spent on a CPU, blocked otherwise.
  std::optional<StallKind> stalled(TimePoint now, Nanos limit) const {
    if (!has_base_ || limit == kUnlimited || silence(now) < limit) return std::nullopt;
    if (stopped_) return StallKind::stopped;
    return since_heard_ > silence(now) / 2 ? StallKind::spinning : StallKind::blocked;
  }

 private:
  TimePoint heard_{};
  Nanos cpu_base_{}, cpu_heard_{}, used_{}, since_heard_{};
  std::uint64_t progress_ = 0;
  bool has_base_ = false;
  bool stopped_ = false;
};

}  // namespace drover::engine
