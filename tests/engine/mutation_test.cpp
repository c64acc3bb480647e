// Would the simulation notice? The scheduler is compiled a second time with one rule broken at a time, and the same schedules
// that pass on the honest one must find each broken rule. A rule whose breaking nobody notices is a rule nobody checks.
//
// The second copy lives in this file alone, in namespaces of its own; a failed DROVER_ASSERT inside it counts as "noticed".
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "base/assert.hpp"
#include "base/hash.hpp"
#include "drover/types/outcome.hpp"
#include "drover/types/task.hpp"

namespace {
struct Noticed : std::runtime_error {
  using std::runtime_error::runtime_error;
};
}  // namespace

#undef DROVER_ASSERT
#define DROVER_ASSERT(condition, ...) \
  do {                                \
    if (!(condition)) throw Noticed("assertion: " #condition); \
  } while (false)
#define DROVER_MUTATIONS 1
#define engine engine_mutants
#define sim sim_mutants
#pragma GCC diagnostic ignored "-Wterminate"
#pragma GCC diagnostic ignored "-Wsubobject-linkage"
#include "../../src/engine/outcome_of.cpp"
#include "../../src/engine/scheduler.cpp"
#include "../../sim/scheduler_simulation.cpp"

namespace {

using drover::engine::Mutation;

/// The number of schedules it took, or 0 if nobody noticed; what was noticed first goes into `how`.
std::uint64_t schedules_until_noticed(Mutation mutation, std::uint64_t most, std::string& how) {
  drover::engine::active_mutation = mutation;
  std::uint64_t found = 0;
  for (std::uint64_t seed = 1; seed <= most && found == 0; ++seed) {
    try {
      if (const auto report = drover::sim::run_schedule(seed); !report.violation.empty()) {
        how = report.violation;
        found = seed;
      }
    } catch (const Noticed& noticed) {
      how = noticed.what();
      found = seed;
    }
  }
  drover::engine::active_mutation = Mutation::none;
  return found;
}

struct Broken {
  const char* name;
  Mutation mutation;
  const char* rule;
};

constexpr Broken kBroken[] = {
    {"AcceptLateResults", Mutation::accept_late_results, "a publication of an old lease counts"},
    {"ChargeUnstarted", Mutation::charge_unstarted, "a death charges a task that was not begun"},
    {"RetryEffectful", Mutation::retry_effectful, "an effectful task is tried again"},
    {"DeliverUncommitted", Mutation::deliver_uncommitted, "delivery does not wait for the commit"},
    {"ForgetLeaseOnDeath", Mutation::forget_lease_on_death, "an unstarted lease of a dead worker is forgotten"},
    {"DeliverTwice", Mutation::deliver_twice, "a task is delivered twice"},
    {"RecordTwice", Mutation::record_twice, "a task is recorded twice"},
    {"SkipRunDeadline", Mutation::skip_run_deadline, "the run's deadline is ignored"},
    {"NeverKill", Mutation::never_kill, "the ladder stops at SIGTERM"},
    {"OwnKillIsLost", Mutation::own_kill_is_lost, "the reason of our own kill is forgotten"},
    {"LeaseBeyondWindow", Mutation::lease_beyond_window, "one lease more than the window"},
    {"IgnoreWallLimit", Mutation::ignore_wall_limit, "the wall limit of an attempt is ignored"},
    {"RespawnAfterGiveUp", Mutation::respawn_after_give_up, "workers are started after giving up"},
    {"WaitForLedgerForEver", Mutation::wait_for_ledger_for_ever, "a dead ledger is waited for"},
    {"LeaseAfterCancel", Mutation::lease_after_cancel, "tasks are leased after a cancel"},
};

TEST(Mutation, TheSameSchedulesPassOnTheSchedulerWithAllItsRules) {
  std::string how;
  EXPECT_EQ(schedules_until_noticed(Mutation::none, 3000, how), 0u) << how;
}

class BrokenRule : public testing::TestWithParam<Broken> {};

TEST_P(BrokenRule, IsNoticedByTheSimulation) {
  std::string how;
  const std::uint64_t schedules = schedules_until_noticed(GetParam().mutation, 3000, how);
  EXPECT_NE(schedules, 0u) << "nobody noticed that " << GetParam().rule;
  if (schedules != 0) fmt::print("{}: noticed at schedule {}: {}\n", GetParam().rule, schedules, how);
}

INSTANTIATE_TEST_SUITE_P(Simulation, BrokenRule, testing::ValuesIn(kBroken), [](const auto& broken) { return std::string(broken.param.name); });

}  // namespace
