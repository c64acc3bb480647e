// Goal: any one enforcer is enough. Method: the keeper is stopped (SIGSTOP), so that whatever ends it is the watchdog.

#include "keeper/support.hpp"
#include "os/process_stats.hpp"

namespace drover::test {
namespace {

std::optional<watchdog::Fired::Why> wait_fired(WatchdogLink& link, TimePoint deadline) {
  std::vector<WatchdogMessage> messages;
  while (wait_readable(link.fd(), deadline)) {
    if (!link.receive(messages)) return std::nullopt;
    for (const WatchdogMessage& message : messages) {
      if (const auto* fired = std::get_if<watchdog::Fired>(&message)) return fired->why;
      if (std::holds_alternative<watchdog::Gone>(message)) return std::nullopt;
    }
  }
  return std::nullopt;
}

using Why = watchdog::Fired::Why;

TEST(Watchdog, AnArmedSupervisorThatFallsSilentLosesItsKeeper) {
  TestKeeper keeper;
  auto link = WatchdogLink::start({.beat_silence = Millis(100)}, keeper->pidfd(), in(Seconds(5)));
  ASSERT_TRUE(link) << link.error().what();
  (void)keeper->pidfd().send(SIGSTOP);
  const TimePoint begin = system_clock().now();
  link->arm();
  EXPECT_EQ(wait_fired(*link, in(Seconds(5))), Why::silence);
  EXPECT_GE(millis_since(begin), 100.0);
  EXPECT_TRUE(keeper->pidfd().wait_dead(in(Seconds(5))));
  std::printf("beat silence 100 ms: fired after %.1f ms\n", millis_since(begin));
  EXPECT_FALSE(link->armed());
}

TEST(Watchdog, ABeatingSupervisorKeepsItsKeeper) {
  TestKeeper keeper;
  auto link = WatchdogLink::start({.beat_silence = Millis(400)}, keeper->pidfd(), in(Seconds(5)));
  ASSERT_TRUE(link);
  link->arm();
  const TimePoint end = in(Millis(1300));
  while (system_clock().now() < end) {
    link->beat();
    EXPECT_FALSE(wait_readable(link->fd(), in(Millis(10)))) << "fired";
  }
  EXPECT_FALSE(keeper->pidfd().is_dead());
  // And when the beat stops, it was not asleep.
  EXPECT_EQ(wait_fired(*link, in(Seconds(5))), Why::silence);
}

TEST(Watchdog, ADisarmedSupervisorMaySleep) {
  TestKeeper keeper;
  auto link = WatchdogLink::start({.beat_silence = Millis(40)}, keeper->pidfd(), in(Seconds(5)));
  ASSERT_TRUE(link);
  EXPECT_FALSE(wait_readable(link->fd(), in(Millis(150))));  // never armed
  link->arm();
  link->disarm();
  EXPECT_FALSE(wait_readable(link->fd(), in(Millis(300))));  // armed and disarmed
  EXPECT_FALSE(keeper->pidfd().is_dead());
  link->arm();  // asleep by now: this must wake it
  EXPECT_EQ(wait_fired(*link, in(Seconds(5))), Why::silence);
}

// Arming within a tick of disarming sends nothing; the watchdog must be looking still, wherever its ticks (40 ms) fall.
TEST(Watchdog, ArmingAgainAtAnyMomentIsGuarded) {
  for (int i = 0; i < scaled(10, 100); ++i) {
    TestKeeper keeper;
    auto link = WatchdogLink::start({.beat_silence = Millis(160)}, keeper->pidfd(), in(Seconds(5)));
    ASSERT_TRUE(link);
    link->arm();
    EXPECT_FALSE(wait_readable(link->fd(), in(Millis(i * 28 % 40))));
    link->disarm();
    EXPECT_FALSE(wait_readable(link->fd(), in(Millis((20 + i * 12) % 100))));
    link->arm();
    EXPECT_EQ(wait_fired(*link, in(Seconds(5))), Why::silence) << i;
  }
}

// The watchdog reads of the first arming when that is over already, and is not told of the second: it must have begun to look.
TEST(Watchdog, AWakeThatComesLateStillBeginsTheLooking) {
  TestKeeper keeper;
  auto link = WatchdogLink::start({.beat_silence = Millis(800)}, keeper->pidfd(), in(Seconds(5)));
  ASSERT_TRUE(link);
  const auto wait_state = [&](char wanted) {
    const TimePoint deadline = in(Seconds(5));
    while (state_of(link->host_pid()).value_or('?') != wanted && system_clock().now() < deadline) ::sched_yield();
  };
  (void)link->pidfd().send(SIGSTOP);
  wait_state('T');
  link->arm();
  link->disarm();
  (void)link->pidfd().send(SIGCONT);
  wait_state('S');
  link->arm();  // within a tick of 200 ms: no message
  EXPECT_EQ(wait_fired(*link, in(Seconds(5))), Why::silence);
}

TEST(Watchdog, TheRunsDeadlineEndsEvenAStoppedKeeper) {
  TestKeeper keeper;
  const UniqueFd tree = evil("tree");
  Pipe pipe;
  ASSERT_TRUE(keeper.spawn({.executable = tree.get(), .argv = {"tree"}, .fds = {pipe.write_end.get()}}));
  ASSERT_TRUE(pipe.wait_bytes(8, in(Seconds(10))));
  const Nanos deadline = system_clock().boottime() + Millis(150);
  auto link = WatchdogLink::start({.run_deadline_boottime = deadline}, keeper->pidfd(), in(Seconds(5)));
  ASSERT_TRUE(link);
  (void)keeper->pidfd().send(SIGSTOP);
  EXPECT_EQ(wait_fired(*link, in(Seconds(5))), Why::deadline);
  EXPECT_GE(system_clock().boottime(), deadline);
  EXPECT_TRUE(pipe.wait_end(in(Seconds(5))));
  // A keeper started after the deadline has no run to work for.
  TestKeeper second;
  ASSERT_TRUE(link->watch(second->pidfd()));
  EXPECT_TRUE(second->pidfd().wait_dead(in(Seconds(5))));
}

TEST(Watchdog, AReplacedKeeperIsWatchedInPlaceOfTheFirst) {
  TestKeeper first;
  auto link = WatchdogLink::start({.beat_silence = Millis(60)}, first->pidfd(), in(Seconds(5)));
  ASSERT_TRUE(link);
  TestKeeper second;
  ASSERT_TRUE(link->watch(second->pidfd()));
  link->arm();
  EXPECT_EQ(wait_fired(*link, in(Seconds(5))), Why::silence);
  EXPECT_TRUE(second->pidfd().wait_dead(in(Seconds(5))));
  EXPECT_FALSE(first->pidfd().is_dead());
}

// What it watches here is no keeper but a bystander who asked for no PDEATHSIG: if it dies, the watchdog did it. The host has
// forked a child of its own, which holds a copy of every socket: a hang-up never comes, only the pidfd tells.
TEST(Watchdog, TheSupervisorsDeathEndsTheKeeperAndTheWatchdog) {
  become_subreaper();
  for (const bool stopped : {false, true}) {
    Pipe pipe;
    StandIn bystander([&] {});
    auto bystander_process = PidFd::open(bystander.pid());
    ASSERT_TRUE(bystander_process);
    StandIn supervisor([&] {
      auto link = WatchdogLink::start({}, *bystander_process, in(Seconds(5)));
      if (!link) _exit(90);
      if (stopped) {
        (void)link->pidfd().send(SIGSTOP);
        while (state_of(link->host_pid()).value_or('?') != 'T') ::sched_yield();
      }
      const pid_t copy = ::fork();
      if (copy != 0) (void)!::write(pipe.write_end.get(), &copy, sizeof copy);
      for (;;) ::pause();
    });
    pid_t copy = 0;
    ASSERT_TRUE(wait_readable(pipe.read_end.get(), in(Seconds(5))));
    ASSERT_EQ(::read(pipe.read_end.get(), &copy, sizeof copy), static_cast<ssize_t>(sizeof copy));
    EXPECT_FALSE(bystander_process->is_dead());
    supervisor.kill();
    EXPECT_TRUE(bystander_process->wait_dead(in(Seconds(5)))) << "stopped: " << stopped;
    bystander.kill();
    ::kill(copy, SIGKILL);  // ours by adoption
    EXPECT_TRUE(wait_no_children(in(Seconds(5)))) << "the watchdog is left, stopped: " << stopped;
  }
}

TEST(Watchdog, ItsDeathIsSeenAndItCanBeReplaced) {
  TestKeeper keeper;
  auto link = WatchdogLink::start({.beat_silence = Millis(60)}, keeper->pidfd(), in(Seconds(5)));
  ASSERT_TRUE(link);
  ASSERT_TRUE(link->pidfd().send(SIGKILL));
  EXPECT_TRUE(link->wait_gone(in(Seconds(5))));
  std::vector<WatchdogMessage> messages;
  ASSERT_TRUE(link->receive(messages));
  ASSERT_EQ(messages.size(), 1u);
  EXPECT_TRUE(std::holds_alternative<watchdog::Gone>(messages[0]));
  link->arm();  // of no use, and of no harm
  EXPECT_FALSE(keeper->pidfd().is_dead()) << "a watchdog that dies takes nobody along";
  auto again = WatchdogLink::start({.beat_silence = Millis(60)}, keeper->pidfd(), in(Seconds(5)));
  ASSERT_TRUE(again);
  *link = std::move(*again);
  link->arm();
  EXPECT_EQ(wait_fired(*link, in(Seconds(5))), Why::silence);
}

}  // namespace
}  // namespace drover::test
