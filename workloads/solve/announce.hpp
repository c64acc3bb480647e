#pragma once
/// What a job says about itself: live progress, and the certified result with its figures.

#include <chrono>
#include <string>

#include "drover/job.hpp"
#include "solve/best_response.hpp"
#include "solve/game.hpp"

namespace drover::solve {

/// Keeps rates and the last certificate between calls; looks at the clock so that the caller need not.
class Announcer {
 public:
  Announcer(Job& job, const Game& game, std::uint64_t iterations_max, double target_chips, std::uint64_t iterations_before);

  /// Cheap to call often: at most ten a second reach the job.
  void progress(std::uint64_t iterations);
  /// True if a certificate for show is due: seldom enough to cost at most a twentieth of the time.
  bool certificate_due() const;
  void certified(const Certificate& certificate, std::chrono::nanoseconds cost);

  /// The figures of the result. Sets exploitability_chips, value, iterations, iterations_per_cpu_second and more.
  void finish(const Certificate& certificate, std::uint64_t iterations);

 private:
  using Clock = std::chrono::steady_clock;
  double seconds_since_start() const;

  Job& job_;
  const Game& game_;
  std::uint64_t iterations_max_;
  double target_;
  std::uint64_t before_;
  Clock::time_point start_ = Clock::now(), last_progress_{}, next_certificate_{}, rate_time_ = start_;
  std::uint64_t rate_iterations_;
  double rate_ = 0, exploitability_ = -1;
  std::string note_;
};

/// Certifies and measures what it cost.
Certificate certify_timed(const Game& game, const Strategy& strategy, std::chrono::nanoseconds& cost);

}  // namespace drover::solve
