// Goal: no process of a run outlives it, whatever is killed, whenever. Method: the family of tests/evil/tree.cpp runs under a
// stand-in for the supervisor, which is SIGKILLed; every member holds a pipe, so end-of-file is the proof that nobody is left,
// independent of drover's own code; the test is a subreaper, so a keeper or watchdog left behind would be its child.

#include <grp.h>
#include <sys/socket.h>

#include <algorithm>
#include <random>
#include <thread>

#include "keeper/helper_images.hpp"
#include "keeper/support.hpp"
#include "os/helper_image.hpp"
#include "os/helper_process.hpp"
#include "os/limits.hpp"
#include "os/message_socket.hpp"
#include "os/process_stats.hpp"
#include "wire/keeper_message.hpp"

namespace drover::test {
namespace {

constexpr int kFamily = 8;

struct Standing {
  KeeperLink keeper;
  std::optional<WatchdogLink> watchdog;
};

/// In the stand-in: a keeper, a watchdog, and the family.
void stand_up(int tree, int pipe, std::vector<std::string> argv, bool with_watchdog, bool allow_namespaces = true) {
  auto keeper = KeeperLink::start({.executable = tree, .allow_namespaces = allow_namespaces}, in(Seconds(10)));
  if (!keeper) _exit(90);
  std::optional<Standing> standing(Standing{std::move(*keeper), std::nullopt});
  if (with_watchdog) {
    auto watchdog = WatchdogLink::start({}, standing->keeper.pidfd(), in(Seconds(10)));
    if (!watchdog) _exit(91);
    standing->watchdog = std::move(*watchdog);
  }
  if (!standing->keeper.request_spawn({.slot = SlotId(0), .incarnation = Incarnation(1), .argv = std::move(argv), .fds = {pipe}}))
    _exit(92);
  for (;;) ::pause();  // what it holds, it holds until it is killed
}

struct Round {
  bool everybody_stood = false;
  bool all_gone = false;
  bool nobody_left = false;
  double gone_ms = 0;
};

/// Kills the stand-in once the family stands, or after `delay` whatever it is doing then.
Round kill_supervisor(const UniqueFd& tree, std::optional<Nanos> delay, bool with_watchdog = true) {
  Round round;
  Pipe pipe;
  StandIn supervisor([&] { stand_up(tree.get(), pipe.write_end.get(), {"tree"}, with_watchdog); });
  pipe.write_end.reset();
  if (delay) {
    const timespec span{.tv_sec = 0, .tv_nsec = delay->count()};
    ::clock_nanosleep(CLOCK_MONOTONIC, 0, &span, nullptr);  // sleep: the instant of the kill is what is varied
  } else {
    round.everybody_stood = pipe.wait_bytes(kFamily, in(Seconds(10)));
  }
  const TimePoint killed = system_clock().now();
  supervisor.kill();
  round.all_gone = pipe.wait_end(in(Seconds(5)));
  round.gone_ms = millis_since(killed);
  round.nobody_left = wait_no_children(in(Seconds(5)));
  return round;
}

TEST(Containment, AFamilyOfEscapersIsGoneWhenTheSupervisorIsKilled) {
  become_subreaper();
  const UniqueFd tree = evil("tree");
  const int rounds = scaled(25, 500);
  std::vector<double> gone;
  for (int i = 0; i < rounds; ++i) {
    const Round round = kill_supervisor(tree, std::nullopt, i % 2 == 0);
    ASSERT_TRUE(round.everybody_stood) << i;
    ASSERT_TRUE(round.all_gone) << i;
    ASSERT_TRUE(round.nobody_left) << i;
    gone.push_back(round.gone_ms);
  }
  std::ranges::sort(gone);
  std::printf("supervisor SIGKILL to all gone: p50 %.1f ms, worst %.1f ms, %d rounds\n", gone[gone.size() / 2], gone.back(), rounds);
}

TEST(Containment, NobodyIsLeftWhenTheSupervisorIsKilledWhileItLaunches) {
  become_subreaper();
  const UniqueFd tree = evil("tree");
  const int rounds = scaled(50, 700);
  std::mt19937 random(20251);
  for (int i = 0; i < rounds; ++i) {
    const Nanos delay(std::uniform_int_distribution<long>(0, 12'000'000)(random));
    const Round round = kill_supervisor(tree, delay, i % 2 == 0);
    ASSERT_TRUE(round.all_gone) << "seed 20251, round " << i << ", delay " << delay.count();
    ASSERT_TRUE(round.nobody_left) << "seed 20251, round " << i << ", delay " << delay.count();
  }
}

TEST(Containment, AForkStormIsGoneWhenTheSupervisorIsKilled) {
  become_subreaper();
  const UniqueFd tree = evil("tree");
  for (int i = 0; i < scaled(2, 20); ++i) {
    Pipe pipe;
    StandIn supervisor([&] { stand_up(tree.get(), pipe.write_end.get(), {"tree", "storm"}, false); });
    ASSERT_TRUE(pipe.wait_bytes(5, in(Seconds(10))));
    supervisor.kill();
    EXPECT_TRUE(pipe.wait_end(in(Seconds(10))));
    EXPECT_TRUE(wait_no_children(in(Seconds(10))));
  }
}

// A stopped keeper reads no lifeline: only PR_SET_PDEATHSIG reaches it.
TEST(Containment, AStoppedKeeperDiesWithItsSupervisor) {
  become_subreaper();
  const UniqueFd tree = evil("tree");
  Pipe pipe;
  Pipe stopped;
  StandIn supervisor([&] {
    auto keeper = KeeperLink::start({.executable = tree.get()}, in(Seconds(10)));
    if (!keeper || !keeper->request_spawn({.argv = {"tree"}, .fds = {pipe.write_end.get()}})) _exit(90);
    if (!wait_readable(keeper->fd(), in(Seconds(10)))) _exit(91);  // spawned
    (void)keeper->pidfd().send(SIGSTOP);
    while (state_of(keeper->host_pid()).value_or('?') != 'T') ::sched_yield();
    (void)!::write(stopped.write_end.get(), "x", 1);
    for (;;) ::pause();
  });
  ASSERT_TRUE(stopped.wait_bytes(1, in(Seconds(10))));
  ASSERT_TRUE(pipe.wait_bytes(kFamily, in(Seconds(10))));
  supervisor.kill();
  EXPECT_TRUE(pipe.wait_end(in(Seconds(5))));
  EXPECT_TRUE(wait_no_children(in(Seconds(5))));
}

// PR_SET_PDEATHSIG says nothing about a supervisor that died before it was set: the lifeline must. Here the keeper's parent
// (the test) lives, and its lifeline is another process's.
TEST(Containment, AKeeperWhoseSupervisorDiedBeforeItsFirstLineEndsAtOnce) {
  auto image = make_executable_image("drover-keeper", keeper_image());
  ASSERT_TRUE(image);
  StandIn dead([] {});
  auto dead_process = PidFd::open(dead.pid());
  ASSERT_TRUE(dead_process);
  dead.kill();
  auto sockets = make_message_sockets();
  ASSERT_TRUE(sockets);
  const std::vector<std::string> argv{"drover-keeper", "1", "-1", "1000"};
  const int fds[] = {sockets->second.get(), dead_process->fd(), image->get()};
  auto keeper = start_helper({.image = image->get(), .argv = argv, .fds = fds, .namespaces = HelperNamespaces::none}, in(Seconds(5)));
  ASSERT_TRUE(keeper) << keeper.error().what();
  EXPECT_TRUE(keeper->reap(in(Seconds(5))));
  keeper->kill();
}

TEST(Containment, AKeeperEndsWhenItsLifelineEndsWhileItsParentLives) {
  auto image = make_executable_image("drover-keeper", keeper_image());
  ASSERT_TRUE(image);
  StandIn supervisor([] {});
  auto lifeline = PidFd::open(supervisor.pid());
  ASSERT_TRUE(lifeline);
  auto sockets = make_message_sockets();
  ASSERT_TRUE(sockets);
  const std::vector<std::string> argv{"drover-keeper", "1", "-1", "1000"};
  const int fds[] = {sockets->second.get(), lifeline->fd(), image->get()};
  auto keeper = start_helper({.image = image->get(), .argv = argv, .fds = fds}, in(Seconds(5)));
  ASSERT_TRUE(keeper);
  ASSERT_TRUE(wait_readable(sockets->first.get(), in(Seconds(5))));  // its hello
  supervisor.kill();
  EXPECT_TRUE(keeper->reap(in(Seconds(5))));
  keeper->kill();
}

TEST(Containment, EverybodyDiesWithTheKeeper) {
  TestKeeper keeper;
  const UniqueFd tree = evil("tree");
  Pipe pipe;
  ASSERT_TRUE(keeper.spawn({.executable = tree.get(), .argv = {"tree"}, .fds = {pipe.write_end.get()}}));
  ASSERT_TRUE(pipe.wait_bytes(kFamily, in(Seconds(10))));
  ASSERT_NE(keeper->containment(), LimitLayer::absent) << keeper->note();
  const TimePoint killed = system_clock().now();
  (void)keeper->pidfd().send(SIGKILL);
  EXPECT_TRUE(pipe.wait_end(in(Seconds(5))));
  std::printf("keeper SIGKILL to all gone: %.1f ms\n", millis_since(killed));
  EXPECT_TRUE(keeper.wait<keeper::Gone>(in(Seconds(5))));
  EXPECT_TRUE(keeper->wait_gone(in(Seconds(5))));
}

// The supervisor's process lives on, its loop does not: a run without its loop is over.
TEST(Containment, EverybodyDiesWithTheThreadThatStartedTheKeeper) {
  become_subreaper();
  const UniqueFd tree = evil("tree");
  Pipe pipe;
  std::optional<TestKeeper> keeper;
  std::thread loop([&] {
    keeper.emplace();
    ASSERT_TRUE(keeper->spawn({.executable = tree.get(), .argv = {"tree"}, .fds = {pipe.write_end.get()}}));
    ASSERT_TRUE(pipe.wait_bytes(kFamily, in(Seconds(10))));
  });
  loop.join();
  EXPECT_TRUE(pipe.wait_end(in(Seconds(5))));
  EXPECT_TRUE((*keeper)->wait_gone(in(Seconds(5))));
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG | __WALL), -1) << "an adopted helper was left unreaped";
}

// What an embedding host opens and locks must be its own to close: the anchor beside it holds copies of nothing.
TEST(Containment, TheAnchorHoldsNoDescriptorOfTheHost) {
  Pipe pipe;
  TestKeeper keeper;
  EXPECT_TRUE(pipe.wait_end(in(Seconds(5)))) << "somebody else holds the write end";
}

TEST(Containment, DroppingTheLinkEndsEverything) {
  const UniqueFd tree = evil("tree");
  Pipe pipe;
  {
    TestKeeper keeper;
    ASSERT_TRUE(keeper.spawn({.executable = tree.get(), .argv = {"tree"}, .fds = {pipe.write_end.get()}}));
    ASSERT_TRUE(pipe.wait_bytes(kFamily, in(Seconds(10))));
  }
  EXPECT_TRUE(pipe.wait_end(in(Seconds(5))));
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG | __WALL), -1) << "a helper was left unreaped";
}

// One worker dies, another goes on: what the dead one left behind must go, and only that.
TEST(Containment, OrphansOfADeadWorkerAreSweptAndItsNeighbourLives) {
  TestKeeper keeper;
  const UniqueFd tree = evil("tree");
  const UniqueFd ending = evil("ending");
  Pipe neighbours_pipe;
  auto neighbour = keeper.spawn({.executable = ending.get(), .argv = {"ending", "pause"}, .fds = {neighbours_pipe.write_end.get()}});
  ASSERT_TRUE(neighbour);
  for (int i = 0; i < scaled(5, 100); ++i) {
    Pipe pipe;
    auto worker = keeper.spawn({.executable = tree.get(), .argv = {"tree"}, .fds = {pipe.write_end.get()}});
    ASSERT_TRUE(worker);
    ASSERT_TRUE(pipe.wait_bytes(kFamily, in(Seconds(10))));
    ASSERT_TRUE(worker->pidfd.send(SIGKILL));
    EXPECT_TRUE(pipe.wait_end(in(Seconds(5)))) << i;
    EXPECT_TRUE(keeper.wait_ended(worker->incarnation));
    auto swept = keeper.wait<keeper::OrphansSwept>(in(Seconds(5)));
    ASSERT_TRUE(swept);
    EXPECT_GE(swept->killed, 5u);
  }
  EXPECT_FALSE(neighbour->pidfd.is_dead());
}

TEST(Containment, ADeepChainOfOrphansIsSwept) {
  TestKeeper keeper;
  const UniqueFd tree = evil("tree");
  Pipe pipe;
  auto worker = keeper.spawn({.executable = tree.get(), .argv = {"tree", "deep", "60"}, .fds = {pipe.write_end.get()}});
  ASSERT_TRUE(worker);
  ASSERT_TRUE(pipe.wait_bytes(61, in(Seconds(10))));
  ASSERT_TRUE(worker->pidfd.send(SIGKILL));
  EXPECT_TRUE(pipe.wait_end(in(Seconds(5))));
  EXPECT_FALSE(keeper->pidfd().is_dead());
}

// Processes that fork faster than they can be found: either they are swept or the keeper ends the run, within its bound.
TEST(Containment, AForkStormLeftBehindEndsWithinTheSweepsBound) {
  TestKeeper keeper({.sweep_timeout = Millis(500)});
  const UniqueFd tree = evil("tree");
  Pipe pipe;
  auto worker = keeper.spawn({.executable = tree.get(), .argv = {"tree", "storm"}, .fds = {pipe.write_end.get()}});
  ASSERT_TRUE(worker);
  ASSERT_TRUE(pipe.wait_bytes(5, in(Seconds(10))));
  ASSERT_TRUE(worker->pidfd.send(SIGKILL));
  EXPECT_TRUE(pipe.wait_end(in(Seconds(5))));
}

// A sweep that cannot get rid of somebody must not go on for ever: 0 ms are over at once.
TEST(Containment, ASweepThatDoesNotConvergeEndsTheRun) {
  TestKeeper keeper({.sweep_timeout = Millis(0)});
  const UniqueFd tree = evil("tree");
  Pipe pipe;
  auto worker = keeper.spawn({.executable = tree.get(), .argv = {"tree"}, .fds = {pipe.write_end.get()}});
  ASSERT_TRUE(worker);
  ASSERT_TRUE(pipe.wait_bytes(kFamily, in(Seconds(10))));
  ASSERT_TRUE(worker->pidfd.send(SIGKILL));
  auto gave_up = keeper.wait<keeper::GaveUp>(in(Seconds(5)));
  ASSERT_TRUE(gave_up);
  EXPECT_EQ(gave_up->why, keeper::GaveUp::Why::sweep_did_not_converge);
  EXPECT_TRUE(pipe.wait_end(in(Seconds(5))));
  EXPECT_TRUE(keeper->wait_gone(in(Seconds(5))));
}

TEST(Containment, CgroupKillEndsAStormAtOnce) {
  auto cgroups = CgroupTree::create("test-storm");
  ASSERT_TRUE(cgroups) << cgroups.error().what();
  if (cgroups->layers().tree_kill == LimitLayer::absent) GTEST_SKIP() << "no cgroup.kill here";
  TestKeeper keeper;
  auto leaf = cgroups->make_leaf("storm", {});
  ASSERT_TRUE(leaf) << leaf.error().what();
  const UniqueFd tree = evil("tree");
  Pipe pipe;
  auto worker =
      keeper.spawn({.executable = tree.get(), .argv = {"tree", "storm"}, .fds = {pipe.write_end.get()}, .cgroup_procs = leaf->procs_fds()});
  ASSERT_TRUE(worker);
  ASSERT_TRUE(pipe.wait_bytes(5, in(Seconds(10))));
  EXPECT_FALSE(leaf->is_empty());
  auto killed = leaf->kill();
  ASSERT_TRUE(killed && *killed);
  EXPECT_TRUE(pipe.wait_end(in(Seconds(5))));
  EXPECT_TRUE(keeper.wait_ended(worker->incarnation));
  const TimePoint deadline = in(Seconds(5));
  while (!leaf->remove() && system_clock().now() < deadline) ::sched_yield();
  EXPECT_FALSE(leaf->valid()) << "the leaf could not be removed";
  EXPECT_FALSE(keeper->pidfd().is_dead());
}

// Without a PID namespace the promise is best effort: parents die with the keeper, and those who cleared PDEATHSIG are found as
// long as the keeper itself lives.
TEST(Containment, WithoutANamespaceAHangUpStillEndsTheFamily) {
  Pipe pipe;
  const UniqueFd tree = evil("tree");
  {
    TestKeeper keeper({.allow_namespaces = false});
    EXPECT_EQ(keeper->containment(), LimitLayer::absent);
    ASSERT_TRUE(keeper.spawn({.executable = tree.get(), .argv = {"tree"}, .fds = {pipe.write_end.get()}}));
    ASSERT_TRUE(pipe.wait_bytes(kFamily, in(Seconds(10))));
    // The supervisor's end closes; the keeper is given the time to notice before the link kills it.
    KeeperLink hung_up = std::move(*keeper);
    const int socket = hung_up.fd();
    ::shutdown(socket, SHUT_RDWR);
    EXPECT_TRUE(hung_up.wait_gone(in(Seconds(5))));
  }
  EXPECT_TRUE(pipe.wait_end(in(Seconds(5))));
}

TEST(Containment, AnOrdinaryUserGetsItThroughAUserNamespace) {
  if (::geteuid() != 0) GTEST_SKIP() << "already an ordinary user: the other tests show it";
  become_subreaper();
  const UniqueFd tree = evil_for_everybody("tree");
  Pipe pipe;
  Pipe layer;
  Pipe output;
  Pipe stands;
  const UniqueFd ending = evil_for_everybody("ending");
  StandIn supervisor([&] {
    if (::setgroups(0, nullptr) != 0 || ::setresgid(54321, 54321, 54321) != 0 || ::setresuid(54321, 54321, 54321) != 0) _exit(90);
    ::prctl(PR_SET_DUMPABLE, 1);  // as after the exec of a program that was always this user's
    auto keeper = KeeperLink::start({.executable = tree.get()}, in(Seconds(10)));
    if (!keeper) _exit(91);
    const char got = static_cast<char>('0' + static_cast<int>(keeper->containment()));
    (void)!::write(layer.write_end.get(), &got, 1);
    if (!keeper->request_spawn({.argv = {"tree"}, .fds = {pipe.write_end.get()}})) _exit(92);
    // Only when the family stands: the end of this one has the keeper kill orphans, and daemons being born are orphans too.
    if (!stands.wait_bytes(1, in(Seconds(10)))) _exit(94);
    if (!keeper->request_spawn({.executable = ending.get(), .argv = {"ending", "inspect"}, .stdout_fd = output.write_end.get()})) _exit(93);
    for (;;) ::pause();
  });
  layer.write_end.reset();
  char got = 0;
  ASSERT_TRUE(wait_readable(layer.read_end.get(), in(Seconds(10))));
  ASSERT_EQ(::read(layer.read_end.get(), &got, 1), 1);
  EXPECT_EQ(got, static_cast<char>('0' + static_cast<int>(LimitLayer::user_pid_namespace)));
  ASSERT_TRUE(pipe.wait_bytes(kFamily, in(Seconds(10))));
  ASSERT_EQ(::write(stands.write_end.get(), "x", 1), 1);
  // Inside he is himself, not the overflow user. The program prints in one write, at its end.
  char text[4096] = {};
  ASSERT_TRUE(wait_readable(output.read_end.get(), in(Seconds(10))));
  ASSERT_GT(::read(output.read_end.get(), text, sizeof text - 1), 0);
  EXPECT_NE(std::string(text).find("uid 54321 gid 54321\n"), std::string::npos) << text;
  supervisor.kill();
  EXPECT_TRUE(pipe.wait_end(in(Seconds(5))));
  EXPECT_TRUE(wait_no_children(in(Seconds(5))));
}

}  // namespace
}  // namespace drover::test
