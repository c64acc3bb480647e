#pragma once
/// When to give up loudly: more than `restarts` restarts within `period` without one published task between them (OTP's intensity
/// and period, with billiard's "no task completed" added), or as many failed starts in a row whatever time they took - a start
/// that needs its whole grace to fail would otherwise stay below any intensity for ever.

#include <algorithm>
#include <cstdint>
#include <deque>

#include "drover/types/task.hpp"
#include "drover/types/time.hpp"

namespace drover::engine {

class RestartTally {
 public:
  explicit RestartTally(const RestartIntensity& policy) : policy_(policy) {}

  /// A task was published: the pool works.
  void completed() {
    if (!times_.empty()) times_.clear();
    starts_failed_ = 0;
  }
  /// An incarnation became ready.
  void ready() { starts_failed_ = 0; }
  /// One more restart is due. True: give up.
  bool restart(TimePoint now, bool start_failed) {
    while (!times_.empty() && now - times_.front() > policy_.period) times_.pop_front();
    times_.push_back(now);
    starts_failed_ = start_failed ? starts_failed_ + 1 : 0;
    return times_.size() > policy_.restarts || starts_failed_ > policy_.restarts;
  }
  /// Restarts inside the period ending at the last one.
  std::size_t recent() const { return times_.size(); }
  std::uint32_t starts_failed() const { return starts_failed_; }

 private:
  RestartIntensity policy_;
  std::deque<TimePoint> times_;  // never longer than restarts + 1
  std::uint32_t starts_failed_ = 0;
};

}  // namespace drover::engine
