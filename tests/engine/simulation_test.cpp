// Goal: no random life of a pool breaks an invariant of the scheduler. Method: sim/scheduler_simulation.hpp, 100,000 seeds here and
// 1,000,000 under ./test --long. A failing seed prints the one command that replays it.
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <cstdlib>

#include "sim/scheduler_simulation.hpp"
#include "../support/long.hpp"

namespace {

using namespace drover;

// Cut into parts, so that they run beside each other and each has a bound of its own.
class Schedules : public testing::TestWithParam<int> {};

TEST_P(Schedules, NoScheduleBreaksAnInvariant) {
  const std::uint64_t each = test::scaled<std::uint64_t>(10'000, 100'000);
  const std::uint64_t first = 1 + static_cast<std::uint64_t>(GetParam()) * each;
  const auto summary = sim::run_schedules(first, each);
  fmt::print("{}", sim::text_of(summary));
  EXPECT_EQ(summary.violations, 0u) << sim::text_of(summary);
}
INSTANTIATE_TEST_SUITE_P(Part, Schedules, testing::Range(0, 10));

TEST(Simulation, TheSameSeedGivesTheSameCommands) {
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    EXPECT_EQ(sim::run_schedule(seed).trace_hash, sim::run_schedule(seed).trace_hash) << "seed " << seed;
  }
}

TEST(Simulation, DifferentSeedsGiveDifferentLives) {
  EXPECT_NE(sim::run_schedules(1, 50).trace_hash, sim::run_schedules(51, 50).trace_hash);
}

TEST(Simulation, EveryKindOfTroubleHappens) {
  const auto s = sim::run_schedules(1, 3000);
  EXPECT_GT(s.completed, 10'000u);
  for (const std::uint64_t n : {s.retries, s.deaths, s.late, s.revoked, s.recycled, s.retired, s.gave_up, s.host_faults}) EXPECT_GT(n, 50u) << sim::text_of(s);
}

}  // namespace
