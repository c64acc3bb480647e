// Goal: each policy by itself, as a sentence. Method: pure values, no clock.
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <map>
#include <vector>

#include "engine/back_off.hpp"
#include "engine/deadline_heap.hpp"
#include "engine/death_tally.hpp"
#include "engine/lease_window.hpp"
#include "engine/outcome_of.hpp"
#include "engine/progress.hpp"
#include "engine/record_ring.hpp"
#include "engine/restart_intensity.hpp"
#include "engine/retry.hpp"
#include "engine/stop_ladder.hpp"
#include "engine/task_table.hpp"

namespace {
using namespace drover;
using namespace drover::engine;

TimePoint at(Nanos since_start) { return TimePoint(Seconds(1000) + since_start); }

// ---- stop ladder ---------------------------------------------------------------------------------------------------------------
TEST(StopLadder, AsksThenTermsThenKillsThenAbandonsEachAfterItsOwnGrace) {
  const StopLadder ladder{Millis(200), Millis(300), Seconds(2)};
  LadderRun run;
  EXPECT_EQ(run.deadline(), kNever);
  EXPECT_TRUE(run.begin(ladder, at(Millis(0))));
  EXPECT_EQ(run.rung(), Rung::asked);
  EXPECT_EQ(run.advance(ladder, at(Millis(199))), Rung::idle);
  EXPECT_EQ(run.advance(ladder, at(Millis(200))), Rung::termed);
  EXPECT_EQ(run.advance(ladder, at(Millis(499))), Rung::idle);
  EXPECT_EQ(run.advance(ladder, at(Millis(500))), Rung::killed);
  EXPECT_EQ(run.advance(ladder, at(Millis(2499))), Rung::idle);
  EXPECT_EQ(run.advance(ladder, at(Millis(2500))), Rung::abandoned);
  EXPECT_EQ(run.deadline(), kNever);
  EXPECT_EQ(longest(ladder), Millis(2500));
}

TEST(StopLadder, ASupervisorThatSleptGivesEveryRungItsTimeNevertheless) {
  const StopLadder ladder{Millis(200), Millis(300), Seconds(2)};
  LadderRun run;
  run.begin(ladder, at(Millis(0)));
  EXPECT_EQ(run.advance(ladder, at(Seconds(60))), Rung::termed);
  EXPECT_EQ(run.advance(ladder, at(Seconds(60))), Rung::idle);
  EXPECT_EQ(run.deadline(), at(Seconds(60) + Millis(300)));
}

TEST(StopLadder, AKillSkipsTheRestAndTheLadderOnlyGoesUp) {
  const StopLadder ladder{};
  LadderRun run;
  EXPECT_TRUE(run.kill(ladder, at(Millis(0))));
  EXPECT_FALSE(run.kill(ladder, at(Millis(1))));
  EXPECT_FALSE(run.begin(ladder, at(Millis(1))));
  EXPECT_EQ(run.rung(), Rung::killed);
}

// ---- back-off ------------------------------------------------------------------------------------------------------------------
TEST(BackOff, TheFirstRestartIsAtOnceThenDelaysDoubleUpToTheMaximum) {
  const BackOff policy{.first = Millis(5), .factor = 2.0, .max = Millis(50), .jitter = 0.0};
  Rng rng(1);
  EXPECT_EQ(delay_before(1, policy, rng), Nanos(0));
  EXPECT_EQ(delay_before(2, policy, rng), Millis(5));
  EXPECT_EQ(delay_before(3, policy, rng), Millis(10));
  EXPECT_EQ(delay_before(4, policy, rng), Millis(20));
  EXPECT_EQ(delay_before(6, policy, rng), Millis(50));
  EXPECT_EQ(delay_before(4'000'000'000u, policy, rng), Millis(50));
}

TEST(BackOff, JitterShortensAndIsTheSameForTheSameSeed) {
  const BackOff policy{.first = Millis(100), .factor = 1.0, .max = Seconds(5), .jitter = 0.5};
  Rng one(9);
  Rng two(9);
  Nanos shortest = kUnlimited;
  for (int i = 0; i < 1000; ++i) {
    const Nanos delay = delay_before(2, policy, one);
    EXPECT_EQ(delay, delay_before(2, policy, two));
    EXPECT_GT(delay, Millis(49));
    EXPECT_LE(delay, Millis(100));
    shortest = std::min(shortest, delay);
  }
  EXPECT_LT(shortest, Millis(55));
}

TEST(BackOff, NonsenseInThePolicyDoesNoHarm) {
  Rng rng(1);
  EXPECT_EQ(delay_before(5, {.first = Millis(-5), .factor = -3, .max = Millis(-1), .jitter = 7}, rng), Nanos(0));
  EXPECT_LE(delay_before(50, {.first = Seconds(1), .factor = 1e300, .max = kUnlimited, .jitter = 0}, rng), kUnlimited);
}

// ---- restart intensity -----------------------------------------------------------------------------------------------------------
TEST(RestartIntensity, GivesUpAtOneMoreThanAllowedWithinThePeriod) {
  RestartTally tally({.restarts = 3, .period = Seconds(10)});
  EXPECT_FALSE(tally.restart(at(Seconds(0)), false));
  EXPECT_FALSE(tally.restart(at(Seconds(1)), false));
  EXPECT_FALSE(tally.restart(at(Seconds(2)), false));
  EXPECT_TRUE(tally.restart(at(Seconds(3)), false));
}

TEST(RestartIntensity, RestartsFartherApartThanThePeriodNeverAddUp) {
  RestartTally tally({.restarts = 3, .period = Seconds(10)});
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(tally.restart(at(Seconds(4 * i)), false)) << i;
}

TEST(RestartIntensity, ACompletedTaskForgivesAll) {
  RestartTally tally({.restarts = 1, .period = Seconds(10)});
  for (int i = 0; i < 100; ++i) {
    EXPECT_FALSE(tally.restart(at(Millis(i)), false));
    tally.completed();
  }
}

TEST(RestartIntensity, StartsThatFailInARowGiveUpHoweverLongEachTakes) {
  RestartTally tally({.restarts = 3, .period = Seconds(10)});
  EXPECT_FALSE(tally.restart(at(Seconds(20)), true));
  EXPECT_FALSE(tally.restart(at(Seconds(40)), true));
  EXPECT_FALSE(tally.restart(at(Seconds(60)), true));
  tally.ready();
  EXPECT_FALSE(tally.restart(at(Seconds(80)), true));
  EXPECT_FALSE(tally.restart(at(Seconds(100)), true));
  EXPECT_FALSE(tally.restart(at(Seconds(120)), true));
  EXPECT_TRUE(tally.restart(at(Seconds(140)), true));
}

// ---- unexplained kills -------------------------------------------------------------------------------------------------------------
struct Kills {
  DeathTally tally;
  std::map<std::uint64_t, int> lonely;
  int kill(Nanos when, std::uint64_t task) {
    if (tally.lost(at(when), TaskId(task), [&](TaskId t) { --lonely[t.value]; })) ++lonely[task];
    return lonely[task];
  }
  void keeper(Nanos when) {
    tally.lost(at(when), std::nullopt, [&](TaskId t) { --lonely[t.value]; });
  }
};

TEST(DeathTally, AKillStandsAloneWhenNothingElseIsLostWithinASecond) {
  Kills kills;
  EXPECT_EQ(kills.kill(Seconds(1), 5), 1);
  EXPECT_EQ(kills.kill(Seconds(5), 5), 2);
  EXPECT_EQ(kills.kill(Seconds(9), 5), 3);
}

TEST(DeathTally, TheSameTaskDyingAgainAndAgainQuicklyIsStillAlone) {
  Kills kills;
  EXPECT_EQ(kills.kill(Millis(1000), 5), 1);
  EXPECT_EQ(kills.kill(Millis(1010), 5), 2);
  EXPECT_EQ(kills.kill(Millis(1020), 5), 3);
}

TEST(DeathTally, AHostThatKillsManyBlamesNobody) {
  Kills kills;
  for (std::uint64_t i = 0; i < 50; ++i) kills.kill(Millis(static_cast<std::int64_t>(30 * i)), i % 2);
  EXPECT_LE(kills.lonely[0], 0);
  EXPECT_LE(kills.lonely[1], 0);
}

TEST(DeathTally, ANeighbourWithinASecondAfterwardsTakesTheLonelinessAway) {
  Kills kills;
  EXPECT_EQ(kills.kill(Seconds(1), 5), 1);
  EXPECT_EQ(kills.kill(Millis(1900), 6), 0);
  EXPECT_EQ(kills.lonely[5], 0);
  EXPECT_EQ(kills.kill(Seconds(10), 5), 1);
  kills.keeper(Millis(10'500));
  EXPECT_EQ(kills.lonely[5], 0);
}

TEST(DeathTally, ANeighbourMoreThanASecondLaterChangesNothing) {
  Kills kills;
  EXPECT_EQ(kills.kill(Seconds(1), 5), 1);
  EXPECT_EQ(kills.kill(Millis(2100), 6), 1);
  EXPECT_EQ(kills.lonely[5], 1);
}

// ---- progress ----------------------------------------------------------------------------------------------------------------------
TEST(Progress, SilenceOnTheCpuIsSpinningOffItIsBlockedAndStoppedIsStopped) {
  for (const auto& [cpu_per_100ms, stopped, expected] : std::vector<std::tuple<Nanos, bool, StallKind>>{
           {Millis(95), false, StallKind::spinning}, {Millis(1), false, StallKind::blocked}, {Nanos(0), true, StallKind::stopped}}) {
    ProgressWatch watch;
    watch.begin(at(Millis(0)));
    std::optional<StallKind> how;
    Nanos cpu = Seconds(7);  // it has worked before
    for (int i = 0; i <= 10 && !how; ++i, cpu += cpu_per_100ms) {
      watch.take(at(Millis(100 * i)), {5, cpu, stopped});
      how = watch.stalled(at(Millis(100 * i)), Seconds(1));
      if (i < 10) {
        EXPECT_FALSE(how.has_value()) << i;
      }
    }
    EXPECT_EQ(how, expected);
  }
}

TEST(Progress, AStepOfProgressStartsTheSilenceAnew) {
  ProgressWatch watch;
  watch.begin(at(Millis(0)));
  for (int i = 0; i <= 100; ++i) {
    watch.take(at(Millis(100 * i)), {static_cast<std::uint64_t>(i / 5), Millis(100 * i), false});
    EXPECT_FALSE(watch.stalled(at(Millis(100 * i)), Millis(900)).has_value()) << i;
  }
}

TEST(Progress, CpuIsCountedFromTheFirstSampleOfTheAttempt) {
  ProgressWatch watch;
  watch.begin(at(Millis(0)));
  watch.take(at(Millis(0)), {0, Seconds(100), false});
  watch.take(at(Millis(50)), {0, Seconds(100) + Millis(30), false});
  EXPECT_EQ(watch.cpu_used(), Millis(30));
  watch.begin(at(Millis(60)));
  EXPECT_EQ(watch.cpu_used(), Nanos(0));
}

// ---- outcome of a death --------------------------------------------------------------------------------------------------------------
TEST(OutcomeOf, EachKindOfDeathHasItsWord) {
  using How = ExitEvidence::How;
  EXPECT_EQ(outcome_of({.how = How::exited, .code_or_signal = 0}), Outcome(outcome::Exited{0}));
  EXPECT_EQ(outcome_of({.how = How::signalled, .code_or_signal = SIGSEGV}), Outcome(outcome::Crashed{SIGSEGV}));
  EXPECT_EQ(outcome_of({.how = How::signalled, .code_or_signal = SIGKILL}), Outcome(outcome::Lost{LossCause::killed}));
  EXPECT_EQ(outcome_of({.how = How::keeper_lost}), Outcome(outcome::Lost{LossCause::keeper}));
}

TEST(OutcomeOf, AMemoryLimitThatFiredExplainsASigkill) {
  using How = ExitEvidence::How;
  EXPECT_EQ(outcome_of({.how = How::signalled, .code_or_signal = SIGKILL, .oom_by_our_limit = true, .limit_bytes = 64, .peak_bytes = 65}),
            Outcome(outcome::OutOfMemory{64, 65, true}));
  EXPECT_EQ(outcome_of({.how = How::signalled, .code_or_signal = SIGKILL, .oom_by_host = true, .peak_bytes = 65}),
            Outcome(outcome::OutOfMemory{0, 65, false}));
}

// ---- retry -----------------------------------------------------------------------------------------------------------------------------
TEST(Retry, BlamedEndingsAreTriedAgainUpToTheBudgetThenQuarantined) {
  const RetryPolicy policy{};
  EXPECT_EQ(after_attempt(outcome::Crashed{11}, EffectClass::pure, {0, 0}, policy), AfterAttempt::retry);
  EXPECT_EQ(after_attempt(outcome::Crashed{11}, EffectClass::pure, {1, 50}, policy), AfterAttempt::retry);
  EXPECT_EQ(after_attempt(outcome::Crashed{11}, EffectClass::pure, {2, 0}, policy), AfterAttempt::quarantine);
  EXPECT_EQ(after_attempt(outcome::Crashed{11}, EffectClass::pure, {0, 0}, {.blamed_max = 0}), AfterAttempt::quarantine);
}

TEST(Retry, FreeEndingsAreTriedAgainUpToALargeCapAndNeverQuarantined) {
  const Outcome lost = outcome::Lost{LossCause::killed};
  EXPECT_EQ(after_attempt(lost, EffectClass::pure, {2, 99}, {}), AfterAttempt::retry);
  EXPECT_EQ(after_attempt(lost, EffectClass::pure, {2, 100}, {}), AfterAttempt::final);
}

TEST(Retry, WhatIsNeverTriedAgainIsFinal) {
  for (const Outcome& outcome : {Outcome(outcome::AppError{"x"}), Outcome(outcome::TimedOut{TimeoutKind::attempt_wall, Seconds(1)}),
                                 Outcome(outcome::OutOfMemory{1, 2, true}), Outcome(outcome::PolicyViolation{"x"}), Outcome(outcome::Cancelled{})}) {
    EXPECT_EQ(after_attempt(outcome, EffectClass::pure, {}, {}), AfterAttempt::final) << text_of(outcome);
  }
}

TEST(Retry, AnEffectfulTaskThatWasStartedIsNeverTriedAgainNotEvenByAResume) {
  for (const Outcome& outcome : {Outcome(outcome::Crashed{11}), Outcome(outcome::Lost{LossCause::keeper}), Outcome(outcome::Stalled{}),
                                 Outcome(outcome::Cancelled{CancelKind::running}), Outcome(outcome::TimedOut{TimeoutKind::run, kUnlimited})}) {
    EXPECT_EQ(after_attempt(outcome, EffectClass::effectful, {}, {}), AfterAttempt::unknown_effect) << text_of(outcome);
  }
  EXPECT_EQ(after_attempt(outcome::TimedOut{TimeoutKind::attempt_wall, Seconds(1)}, EffectClass::effectful, {}, {}), AfterAttempt::final);
  EXPECT_EQ(unknown_because(outcome::Lost{LossCause::keeper}), LossCause::keeper);
  EXPECT_EQ(unknown_because(outcome::Crashed{11}), LossCause::killed);
  EXPECT_EQ(unknown_because(outcome::Cancelled{CancelKind::running}), LossCause::operator_);
}

// ---- containers, against a plain model ---------------------------------------------------------------------------------------------------
TEST(DeadlineHeap, AgreesWithASortedMapUnderRandomChanges) {
  DeadlineHeap heap;
  std::map<std::uint32_t, TimePoint> model;
  Rng rng(3);
  for (int i = 0; i < 20'000; ++i) {
    const auto key = static_cast<std::uint32_t>(rng.below(60));
    if (rng.chance(0.4)) {
      heap.remove(key);
      model.erase(key);
    } else {
      const TimePoint when = rng.chance(0.1) ? kNever : at(Nanos(static_cast<std::int64_t>(rng.below(1000))));
      heap.set(key, when);
      if (when == kNever) {
        model.erase(key);
      } else {
        model[key] = when;
      }
    }
    TimePoint earliest = kNever;
    for (const auto& [k, when] : model) earliest = std::min(earliest, when);
    ASSERT_EQ(heap.earliest(), earliest);
    if (!heap.empty()) {
      ASSERT_EQ(model.at(heap.earliest_key()), earliest);
    }
  }
}

TEST(TaskTable, FindsWhatIsOpenWhateverTheStrideOfTheIds) {
  for (const std::uint64_t stride : {1ull, 3ull, 64ull, 1024ull, 1048576ull, 1ull << 40}) {
    TaskTable table;
    std::map<std::uint64_t, std::uint32_t> model;
    Rng rng(stride);
    for (int i = 0; i < 5000; ++i) {
      const std::uint64_t id = rng.below(300) * stride;
      if (const auto known = model.find(id); known != model.end()) {
        ASSERT_EQ(table.find(TaskId(id)), known->second);
        table.erase(known->second);
        model.erase(known);
      } else {
        ASSERT_EQ(table.find(TaskId(id)), kNoTask);
        model[id] = table.insert(TaskId(id));
      }
      ASSERT_EQ(table.size(), model.size());
    }
    for (const auto& [id, i] : model) ASSERT_EQ(table[i].id.value, id);
  }
}

TEST(TaskTableDeathTest, AnIdThatIsOpenIsNotTakenTwice) {
  TaskTable table;
  table.insert(TaskId(3));
  EXPECT_DEATH(table.insert(TaskId(3)), "a task id is submitted once.*3");
}

TEST(TaskQueue, KeepsOrderWithFrontInsertsAndRemovalsAnywhere) {
  TaskTable table;
  TaskQueue queue(table);
  std::vector<std::uint32_t> i;
  for (std::uint64_t n = 0; n < 5; ++n) i.push_back(table.insert(TaskId(n)));
  queue.push_back(i[1]);
  queue.push_back(i[2]);
  queue.push_back(i[3]);
  queue.push_front(i[0]);
  queue.push_back(i[4]);
  queue.remove(i[2]);
  EXPECT_EQ(queue.size(), 4u);
  for (const std::uint64_t expected : {0u, 1u, 3u, 4u}) EXPECT_EQ(table[queue.pop_front()].id.value, expected);
  EXPECT_TRUE(queue.empty());
}

TEST(LeaseWindow, IsAFifoFromWhichAnyEntryCanBeTaken) {
  LeaseWindow window(3);
  for (int round = 0; round < 10; ++round) {
    window.push(1);
    window.push(2);
    window.push(3);
    EXPECT_TRUE(window.full());
    window.erase(1);
    EXPECT_EQ(window.head().task, 1u);
    EXPECT_EQ(window[1].task, 3u);
    window.pop_head();
    window.erase(0);
    EXPECT_TRUE(window.empty());
  }
}

TEST(RecordRing, NumbersAreConsecutiveThroughGrowthAndWrapping) {
  RecordRing ring;
  std::uint64_t next = 1;
  std::uint64_t oldest = 1;
  Rng rng(4);
  for (int i = 0; i < 100'000; ++i) {
    if (rng.chance(0.51)) {
      ASSERT_EQ(ring.push(static_cast<std::uint32_t>(next), at(Nanos(i))).value, next);
      ++next;
    } else if (!ring.empty()) {
      ASSERT_EQ(ring.oldest_number().value, oldest);
      ASSERT_EQ(ring.pop().task, oldest);
      ++oldest;
    }
  }
}

}  // namespace
