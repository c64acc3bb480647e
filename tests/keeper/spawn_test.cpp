// Goal: what is asked for is started exactly so, every ending is told exactly once and as it was, every failure by its step.

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "keeper/support.hpp"
#include "os/limits.hpp"
#include "os/process_stats.hpp"

namespace drover::test {
namespace {

TEST(Spawn, TwoHundredEndingsAreToldOnceEachAndAsTheyWere) {
  TestKeeper keeper;
  const UniqueFd ending = evil("ending");
  const int count = scaled(200, 2000);
  struct Expected {
    int code, status;
  };
  std::map<std::uint32_t, Expected> open;
  std::vector<double> spawn_ms;
  for (int i = 1; i <= count; ++i) {
    const Incarnation incarnation(static_cast<std::uint32_t>(i));
    SpawnRequest request{.slot = SlotId(static_cast<std::uint32_t>(i % 7)), .incarnation = incarnation, .executable = ending.get()};
    if (i % 4 == 0) {
      request.argv = {"ending", "signal", std::to_string(i % 8 == 0 ? SIGSEGV : SIGTERM)};
      open[incarnation.value] = {CLD_KILLED, i % 8 == 0 ? SIGSEGV : SIGTERM};
    } else {
      request.argv = {"ending", "exit", std::to_string(i % 256)};
      open[incarnation.value] = {CLD_EXITED, i % 256};
    }
    const TimePoint asked = system_clock().now();
    ASSERT_TRUE(keeper.spawn(request)) << i;
    spawn_ms.push_back(millis_since(asked));
    if (open.size() < 8 && i < count) continue;  // several at a time
    while (!open.empty()) {
      auto ended = keeper.wait<keeper::Ended>(in(Seconds(10)));
      ASSERT_TRUE(ended) << i;
      const auto found = open.find(ended->incarnation.value);
      ASSERT_NE(found, open.end()) << "told twice, or never started: " << ended->incarnation.value;
      EXPECT_EQ(ended->slot, SlotId(ended->incarnation.value % 7));
      EXPECT_EQ(ended->cld_code, found->second.code);
      EXPECT_EQ(ended->status, found->second.status);
      open.erase(found);
    }
  }
  EXPECT_FALSE(keeper.wait<keeper::Ended>(in(Millis(0)))) << "one ending too many";
  std::ranges::sort(spawn_ms);
  std::printf("request to pidfd: p50 %.2f ms, p99 %.2f ms\n", spawn_ms[spawn_ms.size() / 2], spawn_ms[spawn_ms.size() * 99 / 100]);
}

TEST(Spawn, CpuTimeAndPeakMemoryOfAnEndedProcessAreRight) {
  TestKeeper keeper;
  const UniqueFd ending = evil("ending");
  auto spinner = keeper.spawn({.executable = ending.get(), .argv = {"ending", "spin", "60"}});
  auto eater = keeper.spawn({.executable = ending.get(), .argv = {"ending", "rss", "48"}});
  ASSERT_TRUE(spinner && eater);
  auto spun = keeper.wait_ended(spinner->incarnation);
  auto eaten = keeper.wait_ended(eater->incarnation);
  ASSERT_TRUE(spun && eaten);
  EXPECT_GE(spun->user_time + spun->system_time, Millis(55));
  EXPECT_LT(spun->user_time + spun->system_time, Seconds(2));
  EXPECT_GE(eaten->rss_max_bytes, 48u << 20);
  EXPECT_LT(eaten->rss_max_bytes, 80u << 20);
  EXPECT_LT(eaten->user_time + eaten->system_time, Seconds(5)) << "first touches are dear in a virtual machine: 190 ms for 48 MiB were seen";
}

TEST(Spawn, TheHostPidAndThePidfdNameTheProcess) {
  TestKeeper keeper;
  const UniqueFd ending = evil("ending");
  Pipe pipe;
  auto worker = keeper.spawn({.executable = ending.get(), .argv = {"ending", "pause"}, .fds = {pipe.write_end.get()}});
  ASSERT_TRUE(worker);
  ASSERT_TRUE(pipe.wait_bytes(1, in(Seconds(5))));
  EXPECT_EQ(worker->pidfd.host_pid().value_or(-1), worker->host_pid);
  char path[4096];
  const ssize_t size = ::readlink(("/proc/" + std::to_string(worker->host_pid) + "/exe").c_str(), path, sizeof path);
  EXPECT_EQ(std::string(path, static_cast<size_t>(std::max<ssize_t>(size, 0))), evil_path("ending"));
  EXPECT_TRUE(cpu_time(worker->host_pid));
  const TimePoint deadline = in(Seconds(5));
  while (state_of(worker->host_pid).value_or('?') != 'S' && system_clock().now() < deadline)
    ::sched_yield();  // it has written, and goes to sleep
  EXPECT_EQ(state_of(worker->host_pid).value_or('?'), 'S');
  ASSERT_TRUE(worker->pidfd.send(SIGKILL).value_or(false));
  auto ended = keeper.wait_ended(worker->incarnation);
  ASSERT_TRUE(ended);
  EXPECT_EQ(ended->cld_code, CLD_KILLED);
  EXPECT_EQ(ended->status, SIGKILL);
  EXPECT_TRUE(worker->pidfd.is_dead());
  EXPECT_FALSE(worker->pidfd.send(SIGKILL).value_or(true)) << "a signal to a dead process must say so";
}

// The host ignores SIGPIPE, blocks SIGUSR1 and has leaked a descriptor: none of it may reach a worker.
TEST(Spawn, AWorkerIsBornWithItsOwnDescriptorsCleanSignalsAndItsLimits) {
  ::signal(SIGPIPE, SIG_IGN);
  sigset_t blocked;
  sigset_t before;
  ::sigemptyset(&blocked);
  ::sigaddset(&blocked, SIGUSR1);
  ::sigprocmask(SIG_BLOCK, &blocked, &before);
  const UniqueFd leaked(::open("/dev/null", O_RDONLY));  // not close-on-exec, on purpose
  rlimit core_before{};
  ::getrlimit(RLIMIT_CORE, &core_before);
  const rlimit core_files_please{core_before.rlim_max > 0 ? core_before.rlim_max : 4096,
                                 core_before.rlim_max > 0 ? core_before.rlim_max : 4096};
  ::setrlimit(RLIMIT_CORE, &core_files_please);
  TestKeeper keeper;
  ::sigprocmask(SIG_SETMASK, &before, nullptr);
  ::signal(SIGPIPE, SIG_DFL);
  ::setrlimit(RLIMIT_CORE, &core_before);

  const UniqueFd ending = evil("ending");
  Pipe output;
  Pipe a;
  Pipe b;
  auto worker = keeper.spawn({.executable = ending.get(),
                              .argv = {"ending", "inspect"},
                              .env = {"COLOUR=green", "EMPTY="},
                              .fds = {a.write_end.get(), b.write_end.get(), a.write_end.get()},
                              .stdout_fd = output.write_end.get(),
                              .cwd = "/usr/lib",
                              .rlimits = {{RLIMIT_NOFILE, 77, 77}},
                              .nice = 5});
  ASSERT_TRUE(worker);
  const std::string text = output.read_all(in(Seconds(5)));
  EXPECT_NE(text.find("fds 0 1 2 3 4 5\n"), std::string::npos) << text;
  EXPECT_NE(text.find("SigBlk:\t0000000000000000\n"), std::string::npos) << text;
  EXPECT_NE(text.find("SigIgn:\t0000000000000000\n"), std::string::npos) << text;
  EXPECT_NE(text.find("core 0 nofile 77 nice 5 cwd /usr/lib leader 1 pid "), std::string::npos) << text;
  EXPECT_NE(text.find("env COLOUR=green\nenv EMPTY=\n"), std::string::npos) << text;
  EXPECT_EQ(text.find("env PATH"), std::string::npos) << text;
  auto ended = keeper.wait_ended(worker->incarnation);
  ASSERT_TRUE(ended);
  EXPECT_EQ(ended->status, 0);
}

TEST(Spawn, ABigEnvironmentArrivesWhole) {
  TestKeeper keeper;
  const UniqueFd ending = evil("ending");
  Pipe output;
  std::vector<std::string> env;
  for (int i = 0; i < 500; ++i) env.push_back("VARIABLE_" + std::to_string(i) + "=" + std::string(1000, static_cast<char>('a' + i % 26)));
  auto worker = keeper.spawn({.executable = ending.get(), .argv = {"ending", "inspect"}, .env = env, .stdout_fd = output.write_end.get()});
  ASSERT_TRUE(worker);
  const std::string text = output.read_all(in(Seconds(5)));
  for (const std::string& variable : env) ASSERT_NE(text.find("env " + variable + "\n"), std::string::npos) << variable;
}

TEST(Spawn, EveryFailureNamesItsStepAndErrno) {
  TestKeeper keeper;
  const UniqueFd ending = evil("ending");
  const UniqueFd not_executable(::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const UniqueFd full(::open("/dev/full", O_WRONLY | O_CLOEXEC));
  std::uint32_t incarnation = 0;
  const auto expect_failure = [&](SpawnRequest request, const std::string& step, int error) {
    request.incarnation = Incarnation(++incarnation);
    request.slot = SlotId(3);
    ASSERT_TRUE(keeper->request_spawn(request));
    auto failed = keeper.wait<keeper::SpawnFailed>(in(Seconds(5)));
    ASSERT_TRUE(failed) << step;
    EXPECT_EQ(failed->step, step);
    EXPECT_EQ(failed->errno_value, error) << step;
    EXPECT_EQ(failed->incarnation, request.incarnation);
    EXPECT_EQ(failed->slot, request.slot);
  };
  expect_failure({.executable = not_executable.get(), .argv = {"x"}}, "exec", EACCES);
  expect_failure({.executable = ending.get(), .argv = {"x"}, .cwd = "/no/such/place"}, "cwd", ENOENT);
  expect_failure({.executable = ending.get(), .argv = {"x"}, .rlimits = {{999, 1, 1}}}, "rlimit", EINVAL);
  expect_failure({.executable = ending.get(), .argv = {"x"}, .cgroup_procs = {full.get()}}, "cgroup", ENOSPC);
  // Out of bounds is refused before it is sent.
  EXPECT_EQ(keeper->request_spawn({.argv = {}}).error().code(), ErrorCode::refused);
  EXPECT_EQ(keeper->request_spawn({.argv = {"x"}, .fds = std::vector<int>(33, 0)}).error().code(), ErrorCode::refused);
  EXPECT_EQ(keeper->request_spawn({.argv = {std::string("a\0b", 3)}}).error().code(), ErrorCode::refused);
  EXPECT_EQ(keeper->request_spawn({.argv = {"x", std::string(5u << 20, 'x')}}).error().code(), ErrorCode::refused);
  // And it goes on: no zombie of a failed start confuses it, none is told as an ending.
  auto worker = keeper.spawn({.executable = ending.get(), .argv = {"ending", "exit", "9"}});
  ASSERT_TRUE(worker);
  auto ended = keeper.wait<keeper::Ended>(in(Seconds(5)));
  ASSERT_TRUE(ended);
  EXPECT_EQ(ended->incarnation, worker->incarnation);
  EXPECT_EQ(ended->status, 9);
  EXPECT_FALSE(keeper.wait<keeper::Ended>(in(Millis(0))));
}

TEST(Spawn, AKeeperThatDoesNotAnswerIsNoticedByTheDeadlineAndKilled) {
  TestKeeper keeper;
  const UniqueFd ending = evil("ending");
  Pipe pipe;
  ASSERT_TRUE(keeper.spawn({.executable = ending.get(), .argv = {"ending", "pause"}, .fds = {pipe.write_end.get()}}));
  ASSERT_TRUE(keeper->pidfd().send(SIGSTOP));
  // Requests are taken without waiting until its queue is full, and then refused as busy: the caller never blocks.
  const TimePoint begin = system_clock().now();
  bool busy = false;
  for (std::uint32_t i = 1; i < 5000 && !busy; ++i) {
    auto sent = keeper->request_spawn({.incarnation = Incarnation(i), .executable = ending.get(), .argv = {"ending", "exit", "0"}});
    if (!sent) {
      EXPECT_EQ(sent.error().code(), ErrorCode::busy) << sent.error().what();
      busy = true;
    }
  }
  EXPECT_TRUE(busy);
  EXPECT_LT(millis_since(begin), 5000);
  EXPECT_FALSE(keeper.wait<keeper::Spawned>(in(Millis(50))));  // the deadline of a request: nothing came
  keeper->kill();
  EXPECT_TRUE(keeper->wait_gone(in(Seconds(5))));
  EXPECT_TRUE(pipe.wait_end(in(Seconds(5))));
  EXPECT_TRUE(keeper.wait<keeper::Gone>(in(Seconds(5))));
  EXPECT_EQ(keeper->request_spawn({.argv = {"x"}}).error().code(), ErrorCode::closed);
}

// The supervisor does not read for a while: nothing may be lost, and the keeper must not be stuck in a send.
TEST(Spawn, NothingIsLostWhileTheSupervisorDoesNotListen) {
  TestKeeper keeper;
  const UniqueFd ending = evil("ending");
  const std::uint32_t count = scaled(1500u, 6000u);
  std::uint32_t sent = 0;
  std::map<std::uint32_t, int> spawned;
  std::map<std::uint32_t, int> ended;
  std::vector<KeeperMessage> messages;
  const TimePoint deadline = in(Seconds(90));
  while (ended.size() < count && system_clock().now() < deadline) {
    while (sent < count &&
           keeper->request_spawn(
               {.incarnation = Incarnation(sent + 1), .executable = ending.get(), .argv = {"ending", "exit", std::to_string(sent % 250)}}))
      ++sent;
    // Now its request queue is full, or all are sent. Listen to one mouthful only, then ask again.
    if (!wait_readable(keeper->fd(), deadline)) break;
    messages.clear();
    ASSERT_TRUE(keeper->receive(messages));
    for (const KeeperMessage& message : messages) {
      if (const auto* one = std::get_if<keeper::Spawned>(&message)) ++spawned[one->incarnation.value];
      if (const auto* one = std::get_if<keeper::Ended>(&message)) {
        EXPECT_EQ(spawned[one->incarnation.value], 1) << "ended before it was started";
        ++ended[one->incarnation.value];
        EXPECT_EQ(one->status, static_cast<int>((one->incarnation.value - 1) % 250));
      }
      EXPECT_FALSE(std::holds_alternative<keeper::Gone>(message));
      if (const auto* one = std::get_if<keeper::SpawnFailed>(&message)) ADD_FAILURE() << one->step << ": " << Error::from_errno(one->errno_value, "").what();
    }
  }
  EXPECT_EQ(ended.size(), count);
  for (const auto& [incarnation, times] : ended) EXPECT_EQ(times, 1) << incarnation;
}

TEST(Spawn, AMemoryLimitReallyKillsAndIsAttributed) {
  auto cgroups = CgroupTree::create("test-memory");
  ASSERT_TRUE(cgroups);
  if (cgroups->layers().memory != LimitLayer::cgroup_v1 && cgroups->layers().memory != LimitLayer::cgroup_v2)
    GTEST_SKIP() << "no memory cgroup is writable here";
  TestKeeper keeper;
  constexpr std::uint64_t kLimit = 32u << 20;
  auto limited = cgroups->make_leaf("limited", {.memory_bytes = kLimit});
  auto free = cgroups->make_leaf("free", {});
  ASSERT_TRUE(limited && free);
  const UniqueFd greedy = evil("greedy");
  const UniqueFd ending = evil("ending");
  auto eater = keeper.spawn({.executable = greedy.get(), .argv = {"greedy", "memory"}, .cgroup_procs = limited->procs_fds()});
  auto modest = keeper.spawn({.executable = ending.get(), .argv = {"ending", "rss", "48"}, .cgroup_procs = free->procs_fds()});
  ASSERT_TRUE(eater && modest);
  auto killed = keeper.wait_ended(eater->incarnation, in(Seconds(30)));
  ASSERT_TRUE(killed);
  EXPECT_EQ(killed->cld_code, CLD_KILLED);
  EXPECT_EQ(killed->status, SIGKILL);
  EXPECT_GE(limited->usage().oom_kills, 1u);
  EXPECT_GT(limited->usage().memory_peak_bytes, kLimit * 9 / 10);
  EXPECT_LE(limited->usage().memory_peak_bytes, kLimit);
  auto fine = keeper.wait_ended(modest->incarnation);
  ASSERT_TRUE(fine);
  EXPECT_EQ(fine->status, 0);
  EXPECT_EQ(free->usage().oom_kills, 0u);
  EXPECT_GE(free->usage().memory_peak_bytes, 48u << 20);
  EXPECT_FALSE(keeper->pidfd().is_dead());
}

TEST(Spawn, AProcessLimitReallyRefusesForks) {
  auto cgroups = CgroupTree::create("test-pids");
  ASSERT_TRUE(cgroups);
  if (cgroups->layers().processes != LimitLayer::cgroup_v1 && cgroups->layers().processes != LimitLayer::cgroup_v2)
    GTEST_SKIP() << "no pids cgroup is writable here";
  TestKeeper keeper;
  auto leaf = cgroups->make_leaf("few", {.processes = 10});
  ASSERT_TRUE(leaf);
  const UniqueFd greedy = evil("greedy");
  auto worker = keeper.spawn({.executable = greedy.get(), .argv = {"greedy", "forks"}, .cgroup_procs = leaf->procs_fds()});
  ASSERT_TRUE(worker);
  auto ended = keeper.wait_ended(worker->incarnation);
  ASSERT_TRUE(ended);
  EXPECT_EQ(ended->cld_code, CLD_EXITED);
  EXPECT_EQ(ended->status, 9);  // itself is the tenth
  EXPECT_GE(leaf->usage().fork_refusals, 1u);
  EXPECT_TRUE(keeper.wait<keeper::OrphansSwept>(in(Seconds(5))));
}

TEST(Spawn, TheRunsDeadlineHoldsWithoutAnybodyElse) {
  const Nanos deadline = system_clock().boottime() + Millis(400);
  TestKeeper keeper({.run_deadline_boottime = deadline});
  const UniqueFd tree = evil("tree");
  Pipe pipe;
  ASSERT_TRUE(keeper.spawn({.executable = tree.get(), .argv = {"tree"}, .fds = {pipe.write_end.get()}}));
  auto gave_up = keeper.wait<keeper::GaveUp>(in(Seconds(5)));
  ASSERT_TRUE(gave_up);
  EXPECT_EQ(gave_up->why, keeper::GaveUp::Why::deadline);
  EXPECT_GE(system_clock().boottime(), deadline);
  EXPECT_TRUE(pipe.wait_end(in(Seconds(5))));
  EXPECT_TRUE(keeper->wait_gone(in(Seconds(5))));
}

TEST(Spawn, AKeeperStartedAfterTheRunsDeadlineEndsAtOnce) {
  TestKeeper keeper({.run_deadline_boottime = Nanos(1)});
  EXPECT_TRUE(keeper->wait_gone(in(Seconds(5))));
}

TEST(Spawn, AHostsWaitNeverSeesKeeperOrWatchdog) {
  sigset_t child_signal;
  sigset_t before;
  ::sigemptyset(&child_signal);
  ::sigaddset(&child_signal, SIGCHLD);
  ::sigprocmask(SIG_BLOCK, &child_signal, &before);
  {
    TestKeeper keeper;
    auto watchdog = WatchdogLink::start({}, keeper->pidfd(), in(Seconds(5)));
    ASSERT_TRUE(watchdog);
    EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1);
    EXPECT_EQ(errno, ECHILD);
    (void)keeper->pidfd().send(SIGKILL);
    (void)watchdog->pidfd().send(SIGKILL);
    EXPECT_TRUE(keeper->pidfd().wait_dead(in(Seconds(5))));
    EXPECT_TRUE(watchdog->pidfd().wait_dead(in(Seconds(5))));
    EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1) << "a dead helper shows up in wait()";
  }
  const timespec none{};
  EXPECT_EQ(::sigtimedwait(&child_signal, nullptr, &none), -1) << "a SIGCHLD was sent to the host";
  ::sigprocmask(SIG_SETMASK, &before, nullptr);
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG | __WALL), -1) << "a helper was left unreaped";
}

TEST(Spawn, IdleKeeperAndDisarmedWatchdogDoNotWakeUp) {
  TestKeeper keeper({.run_deadline_boottime = system_clock().boottime() + Seconds(3600)});
  auto watchdog = WatchdogLink::start({.run_deadline_boottime = system_clock().boottime() + Seconds(3600), .beat_silence = Millis(40)},
                                      keeper->pidfd(), in(Seconds(5)));
  ASSERT_TRUE(watchdog);
  const UniqueFd ending = evil("ending");
  Pipe pipe;
  auto worker = keeper.spawn({.executable = ending.get(), .argv = {"ending", "pause"}, .fds = {pipe.write_end.get()}});
  ASSERT_TRUE(worker);
  ASSERT_TRUE(pipe.wait_bytes(1, in(Seconds(5))));
  watchdog->arm();
  watchdog->disarm();
  // Two ticks (10 ms each) after disarming the watchdog has stopped looking.
  EXPECT_FALSE(wait_readable(watchdog->fd(), in(Millis(100))));
  const auto switches = [&] {
    return std::tuple(voluntary_switches(keeper->host_pid()).value(), voluntary_switches(watchdog->host_pid()).value(),
                      voluntary_switches(worker->host_pid).value());
  };
  const auto before = switches();
  EXPECT_FALSE(wait_readable(keeper->fd(), in(Millis(scaled(400, 5000)))));
  EXPECT_EQ(before, switches());
}

TEST(Spawn, AKeeperIsStartedQuicklyFromABigHost) {
  constexpr std::size_t kBytes = 256u << 20;
  char* memory = static_cast<char*>(::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(memory, MAP_FAILED);
  for (std::size_t at = 0; at < kBytes; at += 4096) memory[at] = 1;
  std::vector<double> millis;
  for (int i = 0; i < 5; ++i) {
    const TimePoint begin = system_clock().now();
    TestKeeper keeper;
    millis.push_back(millis_since(begin));
  }
  std::ranges::sort(millis);
  std::printf("keeper start from a 256 MiB host: p50 %.1f ms\n", millis[2]);
  ::munmap(memory, kBytes);
}

}  // namespace
}  // namespace drover::test
