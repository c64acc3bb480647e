#include "solve/announce.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

namespace drover::solve {
namespace {

/// `0.00261`, `3.4e-05`: three digits that mean something.
std::string chips(double x) { return std::abs(x) < 1e-3 && x != 0 ? fmt::format("{:.2e}", x) : fmt::format("{:.5f}", x); }

std::string per_second(double rate) {
  if (rate >= 1e6) return fmt::format("{:.2f} M", rate / 1e6);
  if (rate >= 1e3) return fmt::format("{:.1f} k", rate / 1e3);
  return fmt::format("{:.1f}", rate);
}

}  // namespace

Announcer::Announcer(Job& job, const Game& game, std::uint64_t iterations_max, double target_chips, std::uint64_t iterations_before)
    : job_(job),
      game_(game),
      iterations_max_(iterations_max),
      target_(target_chips),
      before_(iterations_before),
      rate_iterations_(iterations_before) {}

double Announcer::seconds_since_start() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

void Announcer::progress(std::uint64_t iterations) {
  const Clock::time_point now = Clock::now();
  if (now - last_progress_ < Millis(100)) return;
  last_progress_ = now;
  if (const double window = std::chrono::duration<double>(now - rate_time_).count(); window >= 0.5) {
    rate_ = static_cast<double>(iterations - rate_iterations_) / window;
    rate_time_ = now;
    rate_iterations_ = iterations;
  } else if (rate_ == 0 && window > 0) {
    rate_ = static_cast<double>(iterations - rate_iterations_) / window;
  }
  Progress p{.done = static_cast<double>(iterations), .rate = rate_, .unit = "iterations", .note = note_};
  if (iterations_max_ < (std::uint64_t{1} << 50)) p.total = static_cast<double>(iterations_max_);
  // Exploitability of sampling falls about with the square root of the work: good enough to say when a target may be met.
  if (target_ > 0 && exploitability_ > target_) {
    const double estimate = p.done * (exploitability_ / target_) * (exploitability_ / target_);
    p.total = p.total > 0 ? std::min(p.total, estimate) : estimate;
  }
  job_.progress(p);
}

bool Announcer::certificate_due() const { return Clock::now() >= next_certificate_; }

void Announcer::certified(const Certificate& c, std::chrono::nanoseconds cost) {
  next_certificate_ = Clock::now() + std::max<std::chrono::nanoseconds>(Millis(250), 20 * cost);
  exploitability_ = c.exploitability;
  note_ = fmt::format("exploitability {} chips ({:.2f} mbb/g)", chips(c.exploitability), c.exploitability_mbb);
}

void Announcer::finish(const Certificate& c, std::uint64_t iterations) {
  const auto played = static_cast<double>(iterations - before_);
  const double seconds = seconds_since_start(), cpu = std::chrono::duration<double>(job_.worker_cpu_time()).count();
  const auto figure = [this](std::string key, auto value, std::string shown = {}) {
    job_.figure({.key = std::move(key), .value = value, .shown = std::move(shown)});
  };
  figure("game", display_name(game_.spec()));
  figure("exploitability_chips", c.exploitability,
         fmt::format("exploitability {} chips = {:.3f} mbb/g (NashConv {} chips), certified by exact best responses", chips(c.exploitability),
                     c.exploitability_mbb, chips(c.nash_conv)));
  figure("exploitability_mbb_per_game", c.exploitability_mbb);
  figure("nash_conv_chips", c.nash_conv);
  const auto known = known_value(game_.spec());
  figure("value", c.value,
         known ? fmt::format("game value {:.6f} chips for player 0; known: {:.6f} ({})", c.value, known->chips, known->source)
               : fmt::format("game value {:.6f} chips for player 0", c.value));
  if (known) figure("value_known", known->chips);
  figure("iterations", static_cast<std::int64_t>(iterations),
         fmt::format("{} iterations{}, {}/s, {} per CPU-second", iterations,
                     before_ > 0 ? fmt::format(" ({} of them before this run)", before_) : std::string(), per_second(played / std::max(seconds, 1e-9)),
                     cpu > 0 ? per_second(played / cpu) : std::string("-")));
  figure("iterations_per_second", seconds > 0 ? played / seconds : 0.0);
  figure("iterations_per_cpu_second", cpu > 0 ? played / cpu : 0.0);
  figure("infosets", static_cast<std::int64_t>(game_.infoset_count()));
  figure("table_bytes", static_cast<std::int64_t>(game_.table_bytes()));
}

Certificate certify_timed(const Game& game, const Strategy& strategy, std::chrono::nanoseconds& cost) {
  const auto before = std::chrono::steady_clock::now();
  const Certificate certificate = certify(game, strategy);
  cost = std::chrono::steady_clock::now() - before;
  return certificate;
}

}  // namespace drover::solve
