// Goal: what the scheduler commands, sentence by sentence. Method: events in, commands out, time as an argument; nothing sleeps.
#include "engine/scheduler.hpp"

#include <gtest/gtest.h>

#include <csignal>
#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace {
using namespace drover;
using namespace drover::engine;

/// A pool as the supervisor's loop would see it.
class Pool {
 public:
  explicit Pool(SchedulerOptions options = {}) : scheduler(options) {}

  const std::vector<Command>& step(std::initializer_list<Event> events = {}) {
    commands.clear();
    const std::vector<Event> list(events);
    scheduler.step(now, list, commands);
    for (const Command& c : commands) {
      if (const auto* const lease = std::get_if<command::Lease>(&c)) leases.push_back(*lease);
      if (const auto* const spawn = std::get_if<command::Spawn>(&c)) latest[spawn->slot.value] = spawn->incarnation;
      if (const auto* const r = std::get_if<command::RecordCompleted>(&c)) last_record = r->record;
      if (const auto* const r = std::get_if<command::RecordOutcome>(&c)) last_record = r->record;
      all.push_back(c);
    }
    return commands;
  }
  const std::vector<Command>& wait(Nanos time, std::initializer_list<Event> events = {}) {
    now += time;
    return step(events);
  }
  /// Spawns and readies every slot.
  void start() {
    step();
    for (const auto& [slot, incarnation] : std::vector(latest.begin(), latest.end())) step({event::Ready{SlotId(slot), incarnation}});
  }
  void submit(std::uint64_t count, EffectClass effect = EffectClass::pure, std::uint16_t limits = 0) {
    for (std::uint64_t i = 0; i < count; ++i) step({event::Submit{TaskId(submitted++), effect, limits}});
  }
  const command::Lease& lease_of(std::uint64_t task) const {
    for (auto i = leases.rbegin(); i != leases.rend(); ++i) {
      if (i->task == TaskId(task)) return *i;
    }
    ADD_FAILURE() << "task " << task << " was never leased";
    return leases.front();
  }
  event::Published published(std::uint64_t task) const {
    const auto& l = lease_of(task);
    return {l.slot, l.incarnation, l.task, l.epoch, false};
  }
  event::Died died(std::uint32_t slot, int signal, std::optional<std::uint64_t> started = {}) {
    event::Died e{SlotId(slot), latest[slot], {.how = ExitEvidence::How::signalled, .code_or_signal = signal}, {}};
    if (started) e.started = TaskId(*started);
    return e;
  }
  template <class C>
  std::vector<C> in(const std::vector<Command>& from) const {
    std::vector<C> found;
    for (const Command& c : from) {
      if (const auto* const x = std::get_if<C>(&c)) found.push_back(*x);
    }
    return found;
  }
  template <class C>
  std::vector<C> got() const {
    return in<C>(commands);
  }
  /// The recorded outcome of a task, "completed" or "" if none.
  std::string recorded(std::uint64_t task) const {
    std::string text;
    for (const Command& c : all) {
      if (const auto* const x = std::get_if<command::RecordCompleted>(&c); x != nullptr && x->task == TaskId(task)) text += "completed";
      if (const auto* const x = std::get_if<command::RecordOutcome>(&c); x != nullptr && x->task == TaskId(task)) text += text_of(x->outcome);
    }
    return text;
  }

  Scheduler scheduler;
  TimePoint now = TimePoint(Seconds(1000));
  std::vector<Command> commands, all;
  std::vector<command::Lease> leases;
  std::map<std::uint32_t, Incarnation> latest;
  std::uint64_t submitted = 0;
  RecordNumber last_record{};
};

// ---- the way of a task ---------------------------------------------------------------------------------------------------------------
TEST(Scheduler, ATaskIsLeasedRecordedAndDeliveredOnlyAfterItsCommit) {
  Pool pool({.slots = 1});
  pool.start();
  pool.submit(1);
  ASSERT_EQ(pool.got<command::Lease>().size(), 1u);
  EXPECT_EQ(pool.leases[0].epoch, Epoch(1));
  pool.step({pool.published(0)});
  ASSERT_EQ(pool.got<command::RecordCompleted>().size(), 1u);
  EXPECT_EQ(pool.got<command::RecordCompleted>()[0].attempt, 1u);
  EXPECT_TRUE(pool.got<command::Deliver>().empty());
  EXPECT_EQ(pool.scheduler.open_tasks(), 1u);
  pool.step({event::Committed{pool.last_record}});
  EXPECT_EQ(pool.got<command::Deliver>().size(), 1u);
  EXPECT_EQ(pool.scheduler.open_tasks(), 0u);
}

TEST(Scheduler, AnIdlePoolHasNoDeadline) {
  Pool pool({.slots = 2, .worker_memory_bytes = 1 << 20});
  pool.start();
  EXPECT_EQ(pool.scheduler.next_deadline(), kNever);
  pool.submit(1);
  EXPECT_NE(pool.scheduler.next_deadline(), kNever);
  pool.step({pool.published(0)});
  pool.step({event::Committed{pool.last_record}});
  EXPECT_EQ(pool.scheduler.next_deadline(), kNever);
}

TEST(Scheduler, AResumedTaskContinuesItsEpochs) {
  Pool pool({.slots = 1});
  pool.scheduler.set_epoch(TaskId(0), Epoch(7));
  pool.start();
  pool.submit(1);
  EXPECT_EQ(pool.lease_of(0).epoch, Epoch(8));
}

TEST(Scheduler, AnErrorOfTheTaskIsRecordedAndNotTriedAgain) {
  Pool pool({.slots = 1});
  pool.start();
  pool.submit(1);
  auto e = pool.published(0);
  e.app_error = true;
  pool.step({e});
  EXPECT_EQ(pool.recorded(0), "app_error");
  ASSERT_EQ(pool.got<command::AttemptEnded>().size(), 1u);
  EXPECT_FALSE(pool.got<command::AttemptEnded>()[0].will_retry);
}

TEST(Scheduler, LatePublicationsAreCountedAndDiscarded) {
  Pool pool({.slots = 1});
  pool.start();
  pool.submit(1);
  const auto old = pool.published(0);
  pool.step({pool.died(0, SIGSEGV, 0)});
  pool.step({event::Ready{SlotId(0), pool.latest[0]}});
  pool.step({old});
  EXPECT_EQ(pool.scheduler.counts().late_discarded, 1u);
  EXPECT_EQ(pool.recorded(0), "");
  pool.step({pool.published(0), pool.published(0)});
  EXPECT_EQ(pool.recorded(0), "completed");
  EXPECT_EQ(pool.scheduler.counts().late_discarded, 2u);
}

// ---- leasing -----------------------------------------------------------------------------------------------------------------------------
TEST(Scheduler, WindowsAreFilledEvenly) {
  Pool pool({.slots = 3, .window = 64});
  pool.start();
  std::vector<Event> submits;
  for (std::uint64_t i = 0; i < 10; ++i) submits.push_back(event::Submit{TaskId(i)});
  pool.scheduler.step(pool.now, submits, pool.commands);
  for (std::uint32_t s = 0; s < 3; ++s) {
    EXPECT_GE(pool.scheduler.slot(SlotId(s)).leases, 3u);
    EXPECT_LE(pool.scheduler.slot(SlotId(s)).leases, 4u);
  }
}

TEST(Scheduler, AWindowIsNeverExceeded) {
  Pool pool({.slots = 2, .window = 4});
  pool.start();
  pool.submit(100);
  EXPECT_EQ(pool.scheduler.slot(SlotId(0)).leases, 4u);
  EXPECT_EQ(pool.scheduler.slot(SlotId(1)).leases, 4u);
  EXPECT_EQ(pool.scheduler.counts().queued, 92u);
}

TEST(Scheduler, AnIdleWorkerTakesBackTheTailHalfOfTheLongestWindowButNeverItsHead) {
  Pool pool({.slots = 2, .window = 64, .steal_after = Millis(1)});
  pool.start();
  pool.submit(16);  // one by one: eight each
  for (std::uint64_t i = 0; i < 16; ++i) {
    if (pool.lease_of(i).slot == SlotId(1)) pool.step({pool.published(i)});
  }
  EXPECT_EQ(pool.scheduler.slot(SlotId(1)).leases, 0u);
  EXPECT_TRUE(pool.got<command::Revoke>().empty());
  pool.wait(Millis(1));
  const auto revokes = pool.got<command::Revoke>();
  ASSERT_EQ(revokes.size(), 4u);
  for (const auto& r : revokes) {
    EXPECT_EQ(r.slot, SlotId(0));
    EXPECT_NE(r.task, *pool.scheduler.slot(SlotId(0)).head);
  }
  pool.step({event::Revoked{revokes[0].slot, revokes[0].incarnation, revokes[0].task, revokes[0].epoch, true},
             event::Revoked{revokes[1].slot, revokes[1].incarnation, revokes[1].task, revokes[1].epoch, true},
             event::Revoked{revokes[2].slot, revokes[2].incarnation, revokes[2].task, revokes[2].epoch, false},
             event::Revoked{revokes[3].slot, revokes[3].incarnation, revokes[3].task, revokes[3].epoch, true}});
  EXPECT_EQ(pool.scheduler.slot(SlotId(1)).leases, 3u);
  EXPECT_EQ(pool.scheduler.slot(SlotId(0)).leases, 5u);
  EXPECT_EQ(pool.scheduler.counts().revoked, 3u);
}

TEST(Scheduler, ALeaseThatCouldNotBeHandedOverIsGivenOutAgain) {
  Pool pool({.slots = 1});
  pool.start();
  pool.submit(1);
  const auto first = pool.lease_of(0);
  pool.step({event::Revoked{first.slot, first.incarnation, first.task, first.epoch, true}});
  EXPECT_EQ(pool.lease_of(0).epoch, Epoch(2));
}

TEST(Scheduler, ShortTasksAreNotTakenBack) {
  Pool pool({.slots = 2, .steal_after = Millis(1)});
  pool.start();
  pool.submit(16);
  for (std::uint64_t i = 0; i < 16; ++i) {
    if (pool.lease_of(i).slot == SlotId(1)) pool.step({pool.published(i)});
  }
  for (std::uint64_t i = 0; i < 16; ++i) {
    if (pool.lease_of(i).slot == SlotId(0)) pool.wait(Nanos(500'000), {pool.published(i)});
  }
  EXPECT_TRUE(pool.in<command::Revoke>(pool.all).empty());
}

// ---- deaths ------------------------------------------------------------------------------------------------------------------------------
TEST(Scheduler, ADeathChargesTheStartedTaskOnlyAndTheOthersGoBackInOrder) {
  Pool pool({.slots = 1, .window = 4});
  pool.start();
  pool.submit(6);
  pool.step({pool.died(0, SIGSEGV, 0)});
  const auto ended = pool.got<command::AttemptEnded>();
  ASSERT_EQ(ended.size(), 1u);
  EXPECT_EQ(ended[0].task, TaskId(0));
  EXPECT_TRUE(ended[0].will_retry);
  EXPECT_EQ(text_of(ended[0].outcome), "crashed(SIGSEGV)");
  pool.step({event::Ready{SlotId(0), pool.latest[0]}});
  const auto leases = pool.got<command::Lease>();
  ASSERT_EQ(leases.size(), 4u);
  for (std::uint64_t i = 0; i < 4; ++i) EXPECT_EQ(leases[i].task, TaskId(i));
}

TEST(Scheduler, ATaskThatKeepsKillingItsWorkersIsQuarantinedWithItsInput) {
  Pool pool({.slots = 1, .intensity = {.restarts = 100}});
  pool.start();
  pool.submit(1);
  for (int i = 0; i < 3; ++i) {
    pool.step({pool.died(0, SIGSEGV, 0)});
    if (i < 2) {
      pool.wait(Seconds(6));  // past any back-off, within the start grace
      pool.step({event::Ready{SlotId(0), pool.latest[0]}});
    }
  }
  EXPECT_EQ(pool.got<command::SaveQuarantined>().size(), 1u);
  EXPECT_EQ(pool.recorded(0), "quarantined(3 blamed attempts)");
}

TEST(Scheduler, AnUnexplainedSigkillIsFreeUntilTheThirdThatStandsAlone) {
  Pool pool({.slots = 1, .retry = {.blamed_max = 0}, .intensity = {.restarts = 100}});
  pool.start();
  pool.submit(1);
  std::vector<std::string> outcomes;
  for (int i = 0; i < 3; ++i) {
    pool.wait(Seconds(20), {pool.died(0, SIGKILL, 0)});
    outcomes.push_back(text_of(pool.got<command::AttemptEnded>().at(0).outcome));
    pool.wait(Seconds(6));
    if (pool.recorded(0).empty()) pool.step({event::Ready{SlotId(0), pool.latest[0]}});
  }
  EXPECT_EQ(outcomes, (std::vector<std::string>{"lost(killed)", "lost(killed)", "crashed(SIGKILL)"}));
  EXPECT_EQ(pool.recorded(0), "quarantined(1 blamed attempts)");
}

TEST(Scheduler, AnEffectfulTaskThatWasStartedEndsAsUnknownEffectAndAnUnstartedOneIsLeasedAgain) {
  Pool pool({.slots = 1});
  pool.start();
  pool.submit(2, EffectClass::effectful);
  pool.step({pool.died(0, SIGSEGV, 0)});
  EXPECT_EQ(pool.recorded(0), "unknown_effect(killed)");
  pool.step({event::Ready{SlotId(0), pool.latest[0]}});
  EXPECT_EQ(pool.lease_of(1).epoch, Epoch(2));
}

TEST(Scheduler, ADeathHintKillsToMakeSureAndTheReplacementWaitsAMillisecondForTheProof) {
  Pool pool({.slots = 1});
  pool.start();
  pool.submit(1);
  pool.step({event::DeathHint{SlotId(0), Incarnation(1)}});
  ASSERT_EQ(pool.got<command::Kill>().size(), 1u);
  EXPECT_EQ(pool.got<command::Kill>()[0].reason, KillReason::death_hint);
  EXPECT_TRUE(pool.got<command::Spawn>().empty()) << "the keeper tells of the death first";
  EXPECT_EQ(pool.scheduler.next_deadline(), pool.now + Millis(1));
  pool.wait(Millis(1));
  ASSERT_EQ(pool.got<command::Spawn>().size(), 1u);
  pool.step({event::Ready{SlotId(0), Incarnation(2)}});
  EXPECT_TRUE(pool.got<command::Lease>().empty()) << "the task waits for the proof of the death";
  pool.step({event::Died{SlotId(0), Incarnation(1), {.how = ExitEvidence::How::signalled, .code_or_signal = SIGSEGV}, TaskId(0)}});
  EXPECT_EQ(text_of(pool.got<command::AttemptEnded>().at(0).outcome), "crashed(SIGSEGV)");
  EXPECT_EQ(pool.got<command::Lease>().at(0).incarnation, Incarnation(2));
}

TEST(Scheduler, AHintedDeathThatIsProvedStartsTheReplacementAtOnce) {
  Pool pool({.slots = 1});
  pool.start();
  pool.submit(1);
  pool.step({event::DeathHint{SlotId(0), Incarnation(1)}});
  EXPECT_TRUE(pool.got<command::Spawn>().empty());
  pool.step({event::Died{SlotId(0), Incarnation(1), {.how = ExitEvidence::How::signalled, .code_or_signal = SIGSEGV}, TaskId(0)}});
  EXPECT_EQ(pool.got<command::Spawn>().size(), 1u);
}

TEST(Scheduler, ResultsReadBeforeTheDeathCount) {
  Pool pool({.slots = 1});
  pool.start();
  pool.submit(2);
  pool.step({pool.published(0), pool.died(0, SIGSEGV, 1)});
  EXPECT_EQ(pool.recorded(0), "completed");
  EXPECT_EQ(pool.got<command::AttemptEnded>().at(0).task, TaskId(1));
}

// ---- limits ------------------------------------------------------------------------------------------------------------------------------
TEST(Scheduler, AnAttemptsWallClockStartsWhenItReachesTheHeadOfItsWindow) {
  Pool pool({.slots = 1});
  pool.start();
  const auto limits = pool.scheduler.add_limits({.attempt_wall = Millis(100)});
  pool.submit(2, EffectClass::pure, limits);
  pool.wait(Millis(99), {pool.published(0)});
  EXPECT_TRUE(pool.got<command::Kill>().empty());
  EXPECT_EQ(pool.scheduler.next_deadline(), pool.now + Millis(100));
  pool.wait(Millis(100));
  ASSERT_EQ(pool.got<command::Kill>().size(), 1u);
  EXPECT_EQ(pool.got<command::Kill>()[0].reason, KillReason::attempt_wall);
  pool.step({pool.died(0, SIGKILL, 1)});
  EXPECT_EQ(pool.recorded(1), "timed_out(attempt_wall 100 ms)");
}

TEST(Scheduler, AResultPublishedBeforeTheKillArrivesIsKept) {
  Pool pool({.slots = 1});
  pool.start();
  pool.submit(1, EffectClass::pure, pool.scheduler.add_limits({.attempt_wall = Millis(100)}));
  pool.submit(1);
  pool.wait(Millis(100));
  ASSERT_EQ(pool.got<command::Kill>().size(), 1u);
  pool.step({pool.published(0), pool.died(0, SIGKILL, 1)});
  EXPECT_EQ(pool.recorded(0), "completed");
  EXPECT_EQ(text_of(pool.got<command::AttemptEnded>().at(0).outcome), "lost(operator)") << "task 1 ran by then, and is innocent";
  EXPECT_TRUE(pool.got<command::AttemptEnded>().at(0).will_retry);
}

TEST(Scheduler, ATaskThatWaitsTooLongForALeaseTimesOutInTheQueue) {
  Pool pool({.slots = 1, .window = 1});
  pool.start();
  pool.submit(1);
  pool.submit(1, EffectClass::pure, pool.scheduler.add_limits({.queue = Millis(10)}));
  pool.wait(Millis(10));
  EXPECT_EQ(pool.recorded(1), "timed_out(queue 10 ms)");
}

TEST(Scheduler, ATaskPastItsTimeIsTakenBackIfItHasNotBegunAndKilledIfItHas) {
  Pool pool({.slots = 1});
  pool.start();
  const auto limits = pool.scheduler.add_limits({.task = Millis(50)});
  pool.submit(2, EffectClass::pure, limits);
  pool.wait(Millis(50));
  ASSERT_EQ(pool.got<command::Revoke>().size(), 2u);
  const auto a = pool.lease_of(0);
  const auto b = pool.lease_of(1);
  pool.step({event::Revoked{a.slot, a.incarnation, a.task, a.epoch, false}, event::Revoked{b.slot, b.incarnation, b.task, b.epoch, true}});
  EXPECT_EQ(pool.recorded(1), "timed_out(task 50 ms)");
  ASSERT_EQ(pool.got<command::Kill>().size(), 1u);
  EXPECT_EQ(pool.got<command::Kill>()[0].reason, KillReason::task_time);
  pool.step({pool.died(0, SIGKILL, 0)});
  EXPECT_EQ(pool.recorded(0), "timed_out(task 50 ms)");
}

TEST(Scheduler, CpuTimeAndStallsAreJudgedFromSamplesTakenOnlyWhileSuchLimitsAreHeld) {
  Pool pool({.slots = 1, .sample_period = Millis(50)});
  pool.start();
  pool.submit(1);
  pool.wait(Seconds(5));
  EXPECT_TRUE(pool.in<command::Sample>(pool.all).empty());
  pool.step({pool.published(0)});
  pool.submit(1, EffectClass::pure, pool.scheduler.add_limits({.attempt_cpu = Millis(30), .stall = Seconds(10)}));
  pool.step();
  ASSERT_EQ(pool.in<command::Sample>(pool.all).size(), 1u) << "the base of its CPU time";
  pool.step({event::Sampled{SlotId(0), Incarnation(1), 0, Seconds(9), 1, false, TaskId(1)}});
  pool.wait(Millis(30));
  ASSERT_EQ(pool.got<command::Sample>().size(), 1u) << "when it could be over, not a period later";
  pool.step({event::Sampled{SlotId(0), Incarnation(1), 0, Seconds(9) + Millis(30), 1, false, TaskId(1)}});
  ASSERT_EQ(pool.got<command::Kill>().size(), 1u);
  pool.step({pool.died(0, SIGKILL, 1)});
  EXPECT_EQ(pool.recorded(1), "timed_out(attempt_cpu 30 ms)");
}

TEST(Scheduler, AStalledWorkerIsKilledAndItsTaskTriedAgain) {
  Pool pool({.slots = 1, .sample_period = Millis(50)});
  pool.start();
  pool.submit(1, EffectClass::pure, pool.scheduler.add_limits({.stall = Millis(200)}));
  Nanos cpu{};
  for (int i = 0; i < 20 && pool.in<command::Kill>(pool.all).empty(); ++i) {
    pool.wait(Millis(50));
    cpu += Millis(49);
    if (!pool.got<command::Sample>().empty()) pool.step({event::Sampled{SlotId(0), Incarnation(1), 7, cpu, 1, false, TaskId(0)}});
  }
  ASSERT_EQ(pool.in<command::Kill>(pool.all).size(), 1u);
  pool.step({pool.died(0, SIGKILL, 0)});
  EXPECT_EQ(text_of(pool.got<command::AttemptEnded>().at(0).outcome), "stalled(spinning 200 ms)");
  EXPECT_TRUE(pool.got<command::AttemptEnded>().at(0).will_retry);
}

TEST(Scheduler, APolledMemoryLimitEndsTheTaskForGood) {
  Pool pool({.slots = 1, .worker_memory_bytes = 1000});
  pool.start();
  pool.submit(1);
  pool.wait(Millis(50));
  pool.step({event::Sampled{SlotId(0), Incarnation(1), 0, {}, 1500, false, TaskId(0)}});
  ASSERT_EQ(pool.got<command::Kill>().size(), 1u);
  EXPECT_EQ(pool.got<command::Kill>()[0].reason, KillReason::memory);
  pool.step({pool.died(0, SIGKILL, 0)});
  EXPECT_EQ(pool.recorded(0), "out_of_memory(our limit 1000 B, peak 1.465 KiB)");
}

TEST(Scheduler, AWorkerThatWritesGarbageIsKilledAndItsTaskBlamed) {
  Pool pool({.slots = 1});
  pool.start();
  pool.submit(1);
  pool.step({event::ProtocolBroken{SlotId(0), Incarnation(1), "tail moved backwards", TaskId(0)}});
  EXPECT_EQ(pool.got<command::Kill>().at(0).reason, KillReason::protocol);
  pool.step({pool.died(0, SIGKILL)});
  EXPECT_EQ(text_of(pool.got<command::AttemptEnded>().at(0).outcome), "protocol_broken(tail moved backwards)");
}

// ---- starts, restarts, giving up ------------------------------------------------------------------------------------------------------------
TEST(Scheduler, AWorkerThatDoesNotBecomeReadyInItsGraceIsKilledAndReplaced) {
  Pool pool({.slots = 1, .start_grace = Seconds(3)});
  pool.step();
  pool.wait(Seconds(3));
  EXPECT_EQ(pool.got<command::Kill>().at(0).reason, KillReason::start_grace);
  pool.step({pool.died(0, SIGKILL)});
  EXPECT_EQ(pool.got<command::Spawn>().size(), 1u);
}

TEST(Scheduler, RestartsAreSpacedByTheBackOffAndACompletedTaskForgives) {
  Pool pool({.slots = 1, .intensity = {.restarts = 100}, .back_off = {.first = Millis(10), .factor = 2, .max = Seconds(1), .jitter = 0}});
  pool.start();
  const auto fall = [&] { pool.step({pool.died(0, SIGSEGV)}); };
  fall();
  EXPECT_EQ(pool.got<command::Spawn>().size(), 1u) << "the first at once";
  fall();
  EXPECT_TRUE(pool.got<command::Spawn>().empty());
  EXPECT_EQ(pool.scheduler.slot(SlotId(0)).state, SlotView::State::backing_off);
  EXPECT_EQ(pool.scheduler.next_deadline(), pool.now + Millis(10));
  pool.wait(Millis(10));
  EXPECT_EQ(pool.got<command::Spawn>().size(), 1u);
  fall();
  EXPECT_EQ(pool.scheduler.next_deadline(), pool.now + Millis(20));
  pool.wait(Millis(20));
  pool.step({event::Ready{SlotId(0), pool.latest[0]}});
  pool.submit(1);
  pool.step({pool.published(0)});
  fall();
  EXPECT_EQ(pool.got<command::Spawn>().size(), 1u) << "at once again";
}

TEST(Scheduler, APoolThatCannotStartWorkersGivesUpAndRecordsEveryTaskWithTheEvidence) {
  Pool pool({.slots = 1, .intensity = {.restarts = 3}, .back_off = {.first = Millis(1), .max = Millis(1)}});
  pool.step();
  pool.submit(2);
  for (int i = 0; i < 10 && pool.in<command::GaveUp>(pool.all).empty(); ++i) {
    pool.step({event::SpawnFailed{SlotId(0), pool.latest[0], "exec", 2}});
    pool.wait(Millis(1));
  }
  ASSERT_EQ(pool.in<command::GaveUp>(pool.all).size(), 1u);
  EXPECT_NE(pool.recorded(0).find("start_failed"), std::string::npos) << pool.recorded(0);
  EXPECT_NE(pool.recorded(1).find("No such file"), std::string::npos) << pool.recorded(1);
  EXPECT_FALSE(pool.scheduler.accepting());
  pool.step({event::Committed{pool.last_record}});
  EXPECT_EQ(pool.got<command::Drained>().size(), 1u);
  pool.submit(1);
  EXPECT_EQ(pool.recorded(2), "rejected(closing)");
}

TEST(Scheduler, TasksThatTimeOutOneAfterAnotherAreNoReasonToGiveUp) {
  Pool pool({.slots = 1, .intensity = {.restarts = 2}});
  pool.start();
  const auto limits = pool.scheduler.add_limits({.attempt_wall = Millis(1)});
  for (std::uint64_t i = 0; i < 20; ++i) {
    pool.submit(1, EffectClass::pure, limits);
    pool.wait(Millis(1));
    pool.step({pool.died(0, SIGKILL, i)});
    ASSERT_EQ(pool.got<command::Spawn>().size(), 1u) << i;
    pool.step({event::Ready{SlotId(0), pool.latest[0]}});
  }
  EXPECT_TRUE(pool.scheduler.accepting());
}

TEST(Scheduler, ALostKeeperCostsTheRunningAttemptsNothingAndSpawningWaitsForTheNext) {
  Pool pool({.slots = 2});
  pool.start();
  pool.submit(2);
  pool.submit(1, EffectClass::effectful);
  pool.step({event::KeeperLost{}});
  const auto ended = pool.got<command::AttemptEnded>();
  ASSERT_EQ(ended.size(), 2u);
  for (const auto& e : ended) EXPECT_EQ(text_of(e.outcome), "lost(keeper)");
  EXPECT_TRUE(pool.got<command::Spawn>().empty());
  EXPECT_NE(pool.scheduler.next_deadline(), kNever);
  pool.step({event::KeeperReady{}});
  EXPECT_EQ(pool.got<command::Spawn>().size(), 2u);
  EXPECT_EQ(pool.recorded(2), "") << "it was behind the head: not begun";
}

TEST(Scheduler, AKeeperThatNeverComesBackEndsInGivingUp) {
  Pool pool({.slots = 1, .start_grace = Seconds(3)});
  pool.start();
  pool.submit(1);
  pool.step({event::KeeperLost{}});
  pool.wait(Seconds(3));
  EXPECT_EQ(pool.got<command::GaveUp>().size(), 1u);
}

// ---- stopping -----------------------------------------------------------------------------------------------------------------------------
TEST(Scheduler, AWorkerThatIgnoresEverythingIsRetiredWithinTheLadder) {
  Pool pool({.slots = 1, .ladder = {Millis(200), Millis(300), Seconds(2)}});
  pool.start();
  pool.submit(1);
  pool.step({event::Cancel{}});
  EXPECT_EQ(pool.got<command::AskStop>().size(), 1u);
  pool.wait(Millis(200));
  EXPECT_EQ(pool.got<command::Terminate>().size(), 1u);
  pool.wait(Millis(300));
  EXPECT_EQ(pool.got<command::Kill>().at(0).reason, KillReason::cancelled);
  pool.wait(Seconds(2));
  EXPECT_EQ(pool.got<command::RetireSlot>().size(), 1u);
  EXPECT_EQ(pool.recorded(0), "cancelled(running)");
  pool.step({event::Committed{pool.last_record}});
  EXPECT_EQ(pool.got<command::Drained>().size(), 1u);
}

TEST(Scheduler, WhenEverySlotIsUnkillableThePoolGivesUp) {
  Pool pool({.slots = 1, .ladder = {Millis(200), Millis(300), Seconds(2)}});
  pool.start();
  pool.submit(2, EffectClass::pure, pool.scheduler.add_limits({.attempt_wall = Millis(10)}));
  pool.wait(Millis(10));
  pool.wait(Seconds(2));
  EXPECT_EQ(pool.got<command::RetireSlot>().size(), 1u);
  EXPECT_EQ(pool.got<command::GaveUp>().size(), 1u);
  EXPECT_EQ(pool.recorded(0), "timed_out(attempt_wall 10 ms)");
  EXPECT_NE(pool.recorded(1).find("no slot is left"), std::string::npos) << pool.recorded(1);
}

TEST(Scheduler, DrainFinishesQueueAndLeasesAndTakesNothingNew) {
  Pool pool({.slots = 1, .window = 1});
  pool.start();
  pool.submit(2);
  pool.step({event::Drain{}});
  pool.submit(1);
  EXPECT_EQ(pool.recorded(2), "rejected(closing)");
  pool.step({pool.published(0)});
  pool.step({pool.published(1)});
  EXPECT_EQ(pool.got<command::AskStop>().size(), 1u);
  pool.step({event::Committed{pool.last_record}});
  EXPECT_TRUE(pool.got<command::Drained>().empty());
  pool.step({event::Died{SlotId(0), Incarnation(1), {}, {}}});
  EXPECT_EQ(pool.got<command::Drained>().size(), 1u);
  EXPECT_TRUE(pool.step().empty());
  EXPECT_EQ(pool.scheduler.next_deadline(), kNever);
}

TEST(Scheduler, ADrainPastItsDeadlineIsACancel) {
  Pool pool({.slots = 1, .window = 1});
  pool.start();
  pool.submit(2);
  pool.step({event::Drain{pool.now + Seconds(1)}});
  pool.wait(Seconds(1));
  EXPECT_EQ(pool.recorded(1), "cancelled(queued)");
  EXPECT_EQ(pool.got<command::AskStop>().size(), 1u);
}

TEST(Scheduler, TheRunsDeadlineKillsAtOnceAndEveryOpenTaskSaysSo) {
  Pool pool({.slots = 1, .window = 2});
  pool.start();
  pool.submit(3);
  pool.step({event::RunDeadline{}});
  EXPECT_EQ(pool.got<command::Kill>().at(0).reason, KillReason::run);
  pool.step({pool.died(0, SIGKILL, 0)});
  for (std::uint64_t i = 0; i < 3; ++i) EXPECT_EQ(pool.recorded(i), "timed_out(run)") << i;
}

TEST(Scheduler, AQueuedOrUnstartedTaskIsCancelledWithoutHurtingAWorker) {
  Pool pool({.slots = 1, .window = 2});
  pool.start();
  pool.submit(3);
  pool.step({event::CancelTask{TaskId(2)}});
  EXPECT_EQ(pool.recorded(2), "cancelled(queued)");
  pool.step({event::CancelTask{TaskId(1)}});
  const auto revoke = pool.got<command::Revoke>().at(0);
  pool.step({event::Revoked{revoke.slot, revoke.incarnation, revoke.task, revoke.epoch, true}});
  EXPECT_EQ(pool.recorded(1), "cancelled(queued)");
  EXPECT_TRUE(pool.in<command::AskStop>(pool.all).empty());
  EXPECT_TRUE(pool.in<command::Kill>(pool.all).empty());
}

TEST(Scheduler, ARunningTaskIsCancelledThroughTheLadderAndMayStillFinish) {
  for (const bool finishes : {false, true}) {
    Pool pool({.slots = 1});
    pool.start();
    pool.submit(1);
    pool.step({event::CancelTask{TaskId(0)}});
    const auto revoke = pool.got<command::Revoke>().at(0);
    pool.step({event::Revoked{revoke.slot, revoke.incarnation, revoke.task, revoke.epoch, false}});
    EXPECT_EQ(pool.got<command::AskStop>().size(), 1u);
    if (finishes) pool.step({pool.published(0)});
    pool.step({event::Died{SlotId(0), Incarnation(1), {}, finishes ? std::nullopt : std::optional(TaskId(0))}});
    EXPECT_EQ(pool.recorded(0), finishes ? "completed" : "cancelled(running)");
    EXPECT_EQ(pool.got<command::Spawn>().size(), 1u);
  }
}

// ---- ledger ---------------------------------------------------------------------------------------------------------------------------------
TEST(Scheduler, ALedgerThatAnswersTooLateIsAHostFaultAndNobodyWaitsForIt) {
  Pool pool({.slots = 1, .ledger_deadline = Seconds(30)});
  pool.start();
  pool.submit(2);
  pool.step({pool.published(0)});
  EXPECT_EQ(pool.scheduler.next_deadline(), pool.now + Seconds(30));
  pool.wait(Seconds(30));
  EXPECT_EQ(pool.got<command::HostFault>().size(), 1u);
  EXPECT_EQ(pool.got<command::Kill>().size(), 1u);
  pool.step({pool.died(0, SIGKILL, 1)});
  EXPECT_EQ(pool.got<command::Drained>().size(), 1u);
  EXPECT_EQ(pool.recorded(1), "") << "nothing more can be recorded; a resume finds it open";
}

TEST(Scheduler, AStoppedAndContinuedSupervisorDoesNotBlameTheLedger) {
  Pool pool({.slots = 1, .ledger_deadline = Seconds(30)});
  pool.start();
  pool.submit(1);
  pool.step({pool.published(0)});
  pool.wait(Seconds(600));
  EXPECT_TRUE(pool.got<command::HostFault>().empty());
  pool.wait(Seconds(31));
  EXPECT_EQ(pool.got<command::HostFault>().size(), 1u);
}

TEST(Scheduler, AFailedCommitStopsLeasing) {
  Pool pool({.slots = 1, .window = 1});
  pool.start();
  pool.submit(2);
  pool.step({pool.published(0), event::CommitFailed{"No space left on device"}});
  EXPECT_EQ(pool.got<command::HostFault>().at(0).step, "ledger: No space left on device");
  EXPECT_TRUE(pool.got<command::Lease>().empty());
}

// ---- size of the pool -------------------------------------------------------------------------------------------------------------------------
TEST(Scheduler, ARecycledWorkerServesUntilItsReplacementIsReady) {
  Pool pool({.slots = 1, .window = 2, .recycling = {.tasks = 1}});
  pool.start();
  pool.submit(4);
  pool.step({pool.published(0)});
  ASSERT_EQ(pool.got<command::Spawn>().size(), 1u);
  EXPECT_EQ(pool.got<command::Spawn>()[0].incarnation, Incarnation(2));
  EXPECT_EQ(pool.lease_of(2).incarnation, Incarnation(1)) << "it serves on";
  pool.step({event::Ready{SlotId(0), Incarnation(2)}});
  EXPECT_EQ(pool.scheduler.slot(SlotId(0)).incarnation, Incarnation(2));
  EXPECT_EQ(pool.lease_of(3).incarnation, Incarnation(2));
  const auto revoke = pool.got<command::Revoke>().at(0);
  EXPECT_EQ(revoke.task, TaskId(2)) << "all but its head goes to the new one";
  pool.step({event::Revoked{revoke.slot, revoke.incarnation, revoke.task, revoke.epoch, true}});
  EXPECT_TRUE(pool.got<command::AskStop>().empty()) << "its head is still running";
  pool.step({event::Published{SlotId(0), Incarnation(1), TaskId(1), Epoch(1), false}});
  EXPECT_EQ(pool.got<command::AskStop>().at(0).incarnation, Incarnation(1));
  pool.step({event::Died{SlotId(0), Incarnation(1), {}, {}}});
  EXPECT_EQ(pool.scheduler.counts().recycled, 1u);
  EXPECT_EQ(pool.scheduler.slot(SlotId(0)).state, SlotView::State::busy);
}

TEST(Scheduler, APoolOnDemandStartsNoMoreWorkersThanThereAreTasks) {
  Pool pool({.slots = 4, .spawn_at_once = false});
  pool.step();
  EXPECT_TRUE(pool.got<command::Spawn>().empty());
  pool.submit(1);
  EXPECT_EQ(pool.scheduler.counts().spawns, 1u);
  pool.submit(2);
  EXPECT_EQ(pool.scheduler.counts().spawns, 3u);
  pool.submit(10);
  EXPECT_EQ(pool.scheduler.counts().spawns, 4u);
}

TEST(Scheduler, AShrunkPoolLetsItsWorkersFinishAndAGrownOneStartsThemAgain) {
  Pool pool({.slots = 2, .window = 1});
  pool.start();
  pool.submit(3);
  pool.step({event::WorkerCount{1}});
  EXPECT_TRUE(pool.got<command::AskStop>().empty());
  pool.step({pool.published(1)});
  EXPECT_EQ(pool.got<command::AskStop>().at(0).slot, SlotId(1));
  pool.step({event::Died{SlotId(1), Incarnation(1), {}, {}}});
  EXPECT_TRUE(pool.got<command::Spawn>().empty());
  pool.step({event::WorkerCount{2}});
  EXPECT_EQ(pool.got<command::Spawn>().size(), 1u);
  pool.step({event::WorkerCount{0}});
  EXPECT_EQ(pool.scheduler.slot(SlotId(0)).leases, 1u) << "one is the least";
}

TEST(Scheduler, TimeNeverGoesBackwards) {
  Pool pool({.slots = 1});
  pool.start();
  pool.submit(1, EffectClass::pure, pool.scheduler.add_limits({.attempt_wall = Millis(10)}));
  pool.now -= Seconds(100);
  pool.step();
  EXPECT_EQ(pool.scheduler.next_deadline(), TimePoint(Seconds(1000)) + Millis(10));
}

TEST(Scheduler, EqualLimitsShareAnIndexAndNoLimitsAreZero) {
  Scheduler scheduler(SchedulerOptions{});
  EXPECT_EQ(scheduler.add_limits({}), 0u);
  const auto one = scheduler.add_limits({.task = Seconds(1)});
  EXPECT_EQ(scheduler.add_limits({.task = Seconds(1)}), one);
  EXPECT_NE(scheduler.add_limits({.task = Seconds(2)}), one);
}

}  // namespace
