// Goal: the restart policy is a pure function with OTP's meaning. Method: histories of attempts, one sentence each.

#include "guard/orders.hpp"
#include "guard/restart.hpp"

#include <gtest/gtest.h>

namespace drover::guard {
namespace {

AttemptReport ended(AttemptEnd end, int code = 0, std::uint64_t step = 0, Nanos wall = Seconds(1)) {
  AttemptReport report;
  report.end = end;
  report.code = code;
  report.step = step;
  report.wall = wall;
  return report;
}
AttemptReport exited(int code, std::uint64_t step = 0, Nanos wall = Seconds(1)) { return ended(AttemptEnd::exited, code, step, wall); }

template <class E>
bool ends_as(const Decision& decision) {
  return decision.ending && std::holds_alternative<E>(*decision.ending);
}

TEST(Restart, TemporaryNeverStartsAgain) {
  EXPECT_TRUE(ends_as<ending::Completed>(decide({}, {exited(0)})));
  EXPECT_TRUE(ends_as<ending::Incomplete>(decide({}, {exited(1)})));
  EXPECT_TRUE(ends_as<ending::Stalled>(decide({}, {ended(AttemptEnd::stalled)})));
  EXPECT_TRUE(ends_as<ending::Incomplete>(decide({}, {ended(AttemptEnd::lost)})));
}

TEST(Restart, TransientStartsAgainUnlessItExitedWithZero) {
  const RestartPolicy policy{.restart = Restart::transient};
  EXPECT_TRUE(ends_as<ending::Completed>(decide(policy, {exited(0)})));
  for (const AttemptEnd end : {AttemptEnd::signalled, AttemptEnd::memory, AttemptEnd::stalled, AttemptEnd::lost}) EXPECT_FALSE(decide(policy, {ended(end)}).ending) << name_of(end);
  EXPECT_FALSE(decide(policy, {exited(1)}).ending);
}

TEST(Restart, PermanentStartsAgainEvenAfterZero) { EXPECT_FALSE(decide({.restart = Restart::permanent}, {exited(0)}).ending); }

TEST(Restart, NoPolicyOutlivesALimitOrAStop) {
  const RestartPolicy policy{.restart = Restart::permanent};
  EXPECT_EQ(*decide(policy, {ended(AttemptEnd::cpu)}).ending, Ending(ending::Limit{JobLimit::cpu, "cpu"}));
  EXPECT_EQ(*decide(policy, {ended(AttemptEnd::steps)}).ending, Ending(ending::Limit{JobLimit::steps, "steps"}));
  for (const AttemptEnd end : {AttemptEnd::stopped, AttemptEnd::not_started, AttemptEnd::unkillable}) EXPECT_TRUE(decide(policy, {ended(end)}).ending) << name_of(end);
}

TEST(Restart, MoreThanIntensityWithinThePeriodGivesUpAndSlowFailuresDoNot) {
  const RestartPolicy policy{.restart = Restart::permanent, .intensity = 3, .period = Seconds(10)};
  std::vector<AttemptReport> quick, slow;
  for (int i = 0; i < 3; ++i) {
    quick.push_back(exited(1));
    EXPECT_FALSE(decide(policy, quick).ending) << i;
  }
  quick.push_back(exited(1));
  const Decision gave_up = decide(policy, quick);
  ASSERT_TRUE(ends_as<ending::GaveUp>(gave_up));
  EXPECT_EQ(std::get<ending::GaveUp>(*gave_up.ending).why, GiveUpReason::intensity);
  for (int i = 0; i < 50; ++i) {
    slow.push_back(exited(1, 0, Seconds(11)));
    EXPECT_FALSE(decide(policy, slow).ending) << i;
  }
}

TEST(Restart, TheSameFailureTwiceAtTheSameStepEndsIt) {
  const RestartPolicy policy{.restart = Restart::permanent, .intensity = 1000};
  EXPECT_FALSE(decide(policy, {exited(1, 500)}).ending);
  EXPECT_TRUE(ends_as<ending::GaveUp>(decide(policy, {exited(1, 500), exited(1, 500)})));
  EXPECT_FALSE(decide(policy, {exited(1, 500), exited(1, 501)}).ending) << "it came further";
  EXPECT_FALSE(decide(policy, {exited(1, 500), exited(2, 500)}).ending) << "another cause";
}

TEST(Restart, RestartsWithoutANewStepAreBounded) {
  const RestartPolicy policy{.restart = Restart::permanent, .intensity = 1000, .no_progress_max = 3};
  std::vector<AttemptReport> attempts{exited(1, 500)};
  for (int code = 2; code <= 4; ++code) {  // another cause each time
    attempts.push_back(exited(code, 500));
    EXPECT_FALSE(decide(policy, attempts).ending) << code;
  }
  attempts.push_back(exited(5, 500));
  EXPECT_TRUE(ends_as<ending::GaveUp>(decide(policy, attempts)));
}

TEST(Restart, TheDelayDoublesWhileNoStepIsMade) {
  const RestartPolicy policy{.restart = Restart::permanent, .intensity = 1000, .delay_first = Millis(100), .delay_max = Millis(350)};
  EXPECT_EQ(decide(policy, {exited(1)}).delay, Millis(100));
  EXPECT_EQ(decide(policy, {exited(1), exited(1)}).delay, Millis(200));
  EXPECT_EQ(decide(policy, {exited(1), exited(1), exited(1)}).delay, Millis(350));
}

TEST(Orders, ComeBackAsTheyWere) {
  const Orders orders{.command = {"sh", "-c", "", "a b"}, .directory = "/x", .log = "l", .evidence = "e", .progress_regex = "step (\\d+)", .log_bytes_max = 7, .memory_bytes_max = UINT64_MAX, .stall = Millis(5), .stop_grace = Seconds(1), .release = Millis(3)};
  Orders all = orders;
  all.store = "s", all.lineage = "l", all.staging = "t", all.run = "r", all.fingerprint = "{\n}", all.probe_rules = "finite", all.ingest = "d/*.pt", all.phase_times = "load=1s";
  all.probe_command = {"sh", "a 'b"}, all.probe_time = kUnlimited, all.probe_failures = 9, all.disk_bytes_max = 8, all.fresh = true, all.spare = true;
  all.policy = {.restart = Restart::transient, .intensity = 1, .period = Seconds(2), .no_progress_max = 3, .delay_first = Millis(4), .delay_max = Seconds(5)};
  all.keep_last = 1, all.keep_best = 2, all.keep_every = 3, all.checkpoints_max = 4;
  EXPECT_EQ(*decode_orders(encode(all)), all);
  const auto back = decode_orders(encode(orders));
  ASSERT_TRUE(back);
  EXPECT_EQ(*back, orders);
  const Bytes bytes = encode(orders);
  EXPECT_FALSE(decode_orders(BytesView(bytes).first(bytes.size() - 1)));
  EXPECT_FALSE(decode_orders({}));
}

}  // namespace
}  // namespace drover::guard
