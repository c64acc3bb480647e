// Goal: a pool is a good guest of the program it lives in. Method: what the host can observe - its children, its signals, its
// descriptors, its idle CPU, its other pools - before, while and after a pool works.

#include <sys/socket.h>

#include <thread>

#include "os/process_stats.hpp"
#include "pool/support.hpp"

namespace drover::test {
namespace {

TEST(Options, OutOfRangeIsRefusedAndSaysWhatIsAllowed) {
  struct Case { const char* word; PoolOptions options; };
  const Case cases[] = {
      {"workers is 1025", {.workers = 1025, .oversubscribe = true}},
      {"workers is 1000", {.workers = 1000}},
      {"window is 0", {.workers = 1, .window = 0}},
      {"window is 129", {.workers = 1, .window = 129}},
      {"tasks_max is 0", {.workers = 1, .tasks_max = 0}},
      {"bytes_max is 0", {.workers = 1, .bytes_max = 0}},
      {"bytes_max is 18446744073709551615", {.workers = 1, .bytes_max = ~std::uint64_t{0}}},
  };
  for (const Case& c : cases) {
    const auto pool = Pool::start(c.options);
    ASSERT_FALSE(pool) << c.word;
    EXPECT_EQ(pool.error().code(), ErrorCode::usage) << c.word;
    EXPECT_NE(pool.error().what().find(c.word), std::string::npos) << pool.error().what();
    EXPECT_NE(pool.error().advice().find("allowed: 1 to "), std::string::npos) << pool.error().advice();
  }
}

TEST(Options, ATaskTheWorkersDoNotKnowIsRefusedByName) {
  TestPool pool({.workers = 1});
  const auto submitted = pool->submit(unknown_task, std::uint64_t{1});
  ASSERT_FALSE(submitted);
  EXPECT_EQ(submitted.error().code(), ErrorCode::refused);
  EXPECT_NE(submitted.error().what().find("'unknown'"), std::string::npos) << submitted.error().what();
  const auto warm = Pool::start({.workers = 1, .warm_up = unknown_task.function});
  ASSERT_FALSE(warm);
  EXPECT_EQ(warm.error().code(), ErrorCode::refused);
}

TEST(Options, APoolWithoutInitFailsAndNamesIt) {
  Host host({"without-init"});
  const std::string said = host.out.read_all(in(kPatience));
  EXPECT_EQ(host.wait(), 3) << said;
  EXPECT_NE(said.find("drover::init was not called"), std::string::npos) << said;
  EXPECT_NE(said.find("first line of main"), std::string::npos) << said;
}

TEST(Guest, TwoPoolsInOneProcessDoNotMix) {
  TestPool one({.workers = 2, .seed = 1}), two({.workers = 2, .seed = 2});
  std::thread other([&] {
    EXPECT_TRUE(map_acts(*two, ordinary(5000)).empty());
  });
  auto acts = ordinary(5000);
  for (std::size_t i = 100; i < acts.size(); i += 500) acts[i].deed = Deed::abort;
  for (const auto& r : map_acts(*one, acts)) EXPECT_FALSE(r);
  other.join();
  expect_usable(*one);
  expect_usable(*two);
  EXPECT_NE(one->status().keeper_pid, two->status().keeper_pid);
  EXPECT_EQ(two->status().deaths, 0u);
  one.faults();  // ends it
  expect_usable(*two);
}

std::atomic<int> child_signals{0};

TEST(Guest, TheHostsWaitAndSigchldNeverSeeOurProcesses) {
  while (::waitpid(-1, nullptr, WNOHANG) > 0) {}
  child_signals = 0;
  struct sigaction mine{}, before{};
  mine.sa_handler = [](int) { ++child_signals; };
  ::sigaction(SIGCHLD, &mine, &before);
  {
    TestPool pool({.workers = 2, .retry = {.blamed_max = 0}});
    auto acts = ordinary(2000);
    for (std::size_t i = 100; i < acts.size(); i += 200) acts[i].deed = i % 400 == 100 ? Deed::abort : Deed::exit_0;
    for (const auto& r : map_acts(*pool, acts)) EXPECT_FALSE(r);
    EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1);
    EXPECT_EQ(errno, ECHILD);
    // A child of the host's own is the host's.
    const pid_t own = ::fork();
    if (own == 0) ::_exit(7);
    int raw = 0;
    EXPECT_EQ(::waitpid(-1, &raw, 0), own);
    EXPECT_EQ(WEXITSTATUS(raw), 7);
    const pid_t keeper = pool->status().keeper_pid;
    EXPECT_TRUE(signal_helper(keeper, SIGKILL));
    EXPECT_TRUE(map_acts(*pool, ordinary(500)).empty());
    EXPECT_TRUE(eventually([&] { return pool->status().keeper_pid != keeper; }));
    expect_usable(*pool);
  }
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1);
  EXPECT_EQ(errno, ECHILD);
  EXPECT_EQ(child_signals.load(), 1) << "the host's own child, and nobody else";
  ::sigaction(SIGCHLD, &before, nullptr);
  EXPECT_TRUE(wait_no_children()) << "a helper was left behind";
}

TEST(Guest, PoolsLeaveNoDescriptorNoThreadAndNoProcessBehind) {
  { TestPool warm({.workers = 2}); expect_usable(*warm); }
  const auto threads = [] { return std::ranges::distance(std::filesystem::directory_iterator("/proc/self/task"), std::filesystem::directory_iterator()); };
  const std::size_t descriptors = open_descriptors();
  const auto tasks = threads();
  for (int i = 0; i < 10; ++i) {
    TestPool pool({.workers = 2});
    EXPECT_TRUE(map_acts(*pool, ordinary(100)).empty());
  }
  EXPECT_EQ(open_descriptors(), descriptors);
  EXPECT_TRUE(eventually([&] { return threads() == tasks; }));
  EXPECT_TRUE(wait_no_children());
}

TEST(Guest, ManyDeathsLeaveNoDescriptorBehind) {
  PoolOptions options{.workers = 2, .retry = {.blamed_max = 0}};
  TestPool pool(options);
  expect_usable(*pool);
  const std::size_t before = open_descriptors();
  auto acts = ordinary(600);
  for (std::size_t i = 3; i < acts.size(); i += 6) acts[i].deed = Deed::exit_0;
  for (const auto& r : map_acts(*pool, acts)) EXPECT_FALSE(r);
  expect_usable(*pool);
  EXPECT_TRUE(eventually([&] { return open_descriptors() == before; })) << before << " descriptors became " << open_descriptors();
}

TEST(Guest, SignalsOfTheHostDoNotEndAPool) {
  // A handler of the host, without SA_RESTART, hit often while a pool works: system calls of ours see EINTR.
  struct sigaction mine{}, before{};
  mine.sa_handler = [](int) {};
  ::sigaction(SIGUSR1, &mine, &before);
  TestPool pool({.workers = 2, .retry = {.blamed_max = 0}});
  std::atomic<bool> done{false};
  std::thread annoyer([&] {
    while (!done) {
      ::kill(::getpid(), SIGUSR1);
      pass(100us);
    }
  });
  auto acts = ordinary(20000);
  for (std::size_t i = 500; i < acts.size(); i += 1000) acts[i].deed = Deed::exit_0;
  for (const auto& r : map_acts(*pool, acts)) EXPECT_FALSE(r);
  done = true;
  annoyer.join();
  expect_usable(*pool);
  ::sigaction(SIGUSR1, &before, nullptr);
}

TEST(Guest, AHostThatExitsWithoutDestructorsLeavesNobody) {
  become_subreaper();
  Host host({"exits-without-destructor"});
  EXPECT_EQ(host.wait(), 0);
  EXPECT_TRUE(host.out.wait_end(in(kPatience)));
  EXPECT_TRUE(wait_no_children());
}

// ---- idle ----------------------------------------------------------------------------------------------------------------------------

/// How often each thread of this program but the caller's, and each of the pool's processes, went to sleep by itself: whoever
/// wakes up goes to sleep again and is counted.
std::map<std::string, std::uint64_t> sleeps(const std::vector<pid_t>& processes) {
  std::map<std::string, std::uint64_t> all;
  const auto read = [&](const std::string& who, const std::string& path) {
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);)
      if (line.starts_with("voluntary_ctxt_switches:")) all[who] = std::stoull(line.substr(24));
  };
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    const std::string tid = task.path().filename();
    if (tid != std::to_string(::gettid())) read("thread " + tid, task.path() / "status");
  }
  for (const pid_t pid : processes) {
    const auto n = voluntary_switches(pid);
    all["process " + std::to_string(pid)] = n ? *n : 0;
  }
  return all;
}
std::vector<pid_t> processes_of(Pool& pool) {
  std::vector<pid_t> pids;
  EXPECT_TRUE(eventually([&] {
    const PoolStatus s = pool.status();
    pids = {s.keeper_pid, s.watchdog_pid};
    for (const WorkerView& w : s.workers)
      if (w.state == "idle") pids.push_back(w.host_pid);
    return s.keeper_pid != 0 && s.watchdog_pid != 0 && pids.size() == 2 + pool.workers();
  }));
  return pids;
}
/// A whole second in which nobody woke up; looked for a bounded number of times, because what was going on may still calm down.
void expect_silence(Pool& pool, const char* when) {
  const std::vector<pid_t> pids = processes_of(pool);
  std::map<std::string, std::uint64_t> before, after;
  for (int window = 0; window < 10; ++window) {
    before = sleeps(pids);
    pass(1s);
    after = sleeps(pids);
    if (before == after) return;
  }
  for (const auto& [who, n] : after) EXPECT_EQ(before[who], n) << who << " keeps waking up " << when;
}

TEST(Idle, NobodyWakesUpBeforeAndAfterWork) {
  PoolOptions options{.workers = 4, .oversubscribe = true};
  options.limits = {.attempt_wall = 10s, .attempt_cpu = 10s, .stall = 10s};
  options.recycling.rss_growth_bytes = std::uint64_t{1} << 30;
  TestPool pool(options);
  expect_silence(*pool, "before any work");
  EXPECT_TRUE(map_acts(*pool, ordinary(2000)).empty());
  expect_silence(*pool, "after work");
  (void)map_acts(*pool, among_ordinary({.deed = Deed::abort}));
  expect_silence(*pool, "after a death");
  const auto version = pool->broadcast(Bytes(1000));
  EXPECT_TRUE(version);
  expect_silence(*pool, "after a broadcast");
}

TEST(Idle, ABudgetFarAwayWakesNobody) {
  PoolOptions options{.workers = 2};
  options.run = std::chrono::hours(10);
  TestPool pool(options);
  EXPECT_TRUE(map_acts(*pool, ordinary(200)).empty());
  expect_silence(*pool, "with ten hours left");
}

}  // namespace
}  // namespace drover::test
