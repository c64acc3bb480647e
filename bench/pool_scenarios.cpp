#include "pool_scenarios.hpp"

#include <dirent.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <random>
#include <ranges>
#include <set>
#include <thread>

#include "child.hpp"
#include "drover/pool.hpp"
#include "figures.hpp"

namespace drover::bench {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr std::uint32_t kWorkers = 2;  // as the peers
constexpr auto kBurn = 300us;

// ---- what the workers run

std::uint64_t noop(const std::uint64_t& x, Context&) { return x; }

std::uint64_t burn(const std::uint64_t& x, Context&) {
  const auto until = Clock::now() + kBurn;
  while (Clock::now() < until) {
  }
  return x;
}

/// Never ends, never looks at the stop flag.
/// Says in the shared segment, if there is one, that it has begun: leased is not begun.
std::uint64_t forever(const std::uint64_t& x, Context& context) {
  if (!context.shared_segment().empty()) std::atomic_ref(*reinterpret_cast<std::uint64_t*>(context.shared_segment().data())).store(x + 1);
  while (true) asm volatile("");
  return x;
}

// Written by hand: reads its input in place and writes its result in place.
Result<void> echo(BytesView input, ResultWriter& result, Context&, void*) { return result.write(input); }
constexpr TaskFunction kEchoFunction{"bench-echo", &echo, nullptr};
constexpr Task<Bytes, Bytes> kEcho{&kEchoFunction};
constexpr auto kNoop = task<"bench-noop", &noop>;
constexpr auto kBurnTask = task<"bench-burn", &burn>;
constexpr auto kForever = task<"bench-forever", &forever>;

// ---- help

double seconds_since(Clock::time_point at) { return std::chrono::duration<double>(Clock::now() - at).count(); }
double micros_since(Clock::time_point at) { return seconds_since(at) * 1e6; }
double millis_since(Clock::time_point at) { return seconds_since(at) * 1e3; }
TimePoint in(Nanos timeout) { return after(TimePoint(std::chrono::duration_cast<Nanos>(Clock::now().time_since_epoch())), timeout); }

struct Refused {
  std::string text;
};

Pool start(PoolOptions options) {
  auto pool = Pool::start(std::move(options));
  if (!pool) throw Refused{pool.error().what()};
  return std::move(*pool);
}

PoolOptions two_workers() { return {.workers = kWorkers, .oversubscribe = true}; }

/// The keeper's children as the kernel lists them now, as the peers' are asked for; status() may be 100 ms old.
std::vector<int> worker_pids(const Pool& pool) {
  const std::string keeper = std::to_string(pool.status().keeper_pid);
  std::ifstream list("/proc/" + keeper + "/task/" + keeper + "/children");
  return {std::istream_iterator<int>(list), {}};
}

/// Runs `count` short tasks, so that every worker has worked.
void warm(Pool& pool, std::uint64_t count = 400) {
  for (auto&& item : pool.map(kBurnTask, std::views::iota(std::uint64_t{0}, count)))
    if (!item.result) throw Refused{"warming up: " + item.result.error().text()};
}

/// Waits for a condition that another process brings about. False when the bound passed.
bool wait_for(Nanos bound, const std::function<bool()>& condition) {
  const auto deadline = Clock::now() + bound;
  while (!condition()) {
    if (Clock::now() > deadline) return false;
    std::this_thread::sleep_for(200us);
  }
  return true;
}

std::string next_task(Pool& pool, double& ms) {
  const auto at = Clock::now();
  auto future = pool.submit(kNoop, std::uint64_t{5});
  if (!future) return future.error().what();
  const auto answer = future->get(in(10s));
  ms = millis_since(at);
  if (!answer) return "hangs";
  return *answer ? "ok" : answer->error().text();
}

char state_of(int pid) {
  std::ifstream in("/proc/" + std::to_string(pid) + "/stat");
  std::string text((std::istreambuf_iterator<char>(in)), {});
  const auto at = text.rfind(')');
  return at == std::string::npos || at + 2 >= text.size() ? '-' : text[at + 2];
}
bool alive(int pid) {
  const char state = state_of(pid);
  return state != '-' && state != 'Z' && state != 'X';
}

double cpu_seconds(int pid) {
  std::ifstream in("/proc/" + std::to_string(pid) + "/stat");
  std::string text((std::istreambuf_iterator<char>(in)), {});
  const auto at = text.rfind(')');
  if (at == std::string::npos) return 0;
  std::istringstream words(text.substr(at + 2));
  std::string word;
  unsigned long user = 0, system = 0;
  for (int i = 0; i < 11; ++i) words >> word;
  words >> user >> system;
  return static_cast<double>(user + system) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

// ---- throughput, round trips, payloads

double echo_mb_per_s(Pool& pool, std::size_t size, std::uint64_t count, std::uint32_t in_flight = 4) {
  Bytes data(size);
  std::mt19937_64 random(size);
  for (auto& byte : data) byte = static_cast<std::byte>(random());
  const auto inputs = [&](std::uint64_t n) {
    return std::views::iota(std::uint64_t{0}, n) | std::views::transform([&](std::uint64_t) -> const Bytes& { return data; });
  };
  const auto pass = [&](std::uint64_t n) {
    for (auto&& item : pool.map(kEcho, inputs(n), {.window = in_flight})) {
      if (!item.result) throw Refused{"echo: " + item.result.error().text()};
      if (item.result->size() != size || item.result->back() != data.back()) throw Refused{"echo: other bytes came back"};
    }
  };
  pass(8);
  const auto at = Clock::now();
  pass(count);
  return 2.0 * static_cast<double>(size * count) / seconds_since(at) / 1e6;
}

json measure_pool() {
  json row;
  const auto begun = Clock::now();
  Pool pool = start(two_workers());
  double ms = 0;
  if (const std::string said = next_task(pool, ms); said != "ok") throw Refused{said};
  row["start_ms"] = millis_since(begun);
  warm(pool);

  constexpr std::uint64_t kTasks = 2'000'000;
  const auto at = Clock::now();
  std::uint64_t right = 0, expected = 0;
  for (auto&& item : pool.map(kNoop, std::views::iota(std::uint64_t{0}, kTasks))) right += item.result && *item.result == expected++;
  row["noop_per_s"] = static_cast<double>(kTasks) / seconds_since(at);
  if (right != kTasks) throw Refused{"no-op: wrong or missing results"};

  std::vector<double> times;
  for (std::uint64_t i = 0; i < 10'000; ++i) {
    const auto sent = Clock::now();
    auto future = pool.submit(kNoop, i);
    if (!future || !future->get(in(10s))) throw Refused{"round trip: no answer in 10 s"};
    times.push_back(micros_since(sent));
  }
  row["rtt_p50_us"] = quantile(times, 0.5);
  row["rtt_p99_us"] = quantile(times, 0.99);
  row["echo_64k_mb_per_s"] = echo_mb_per_s(pool, 1 << 16, 6000);
  row["echo_64k_64_mb_per_s"] = echo_mb_per_s(pool, 1 << 16, 30000, 64);
  row["echo_1m_mb_per_s"] = echo_mb_per_s(pool, 1 << 20, 400);
  row["echo_16m_mb_per_s"] = echo_mb_per_s(pool, 1 << 24, 30);
  return row;
}

/// The least a round trip between two processes can cost here: eventfd and epoll both ways, no work.
json measure_floor() {
  constexpr int kRounds = 20'000;
  const int there = eventfd(0, EFD_CLOEXEC), back = eventfd(0, EFD_CLOEXEC);
  const auto poller_of = [](int fd) {
    const int poller = epoll_create1(EPOLL_CLOEXEC);
    epoll_event event{EPOLLIN, {}};
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
    return poller;
  };
  const auto wait_read = [](int poller, int fd) {
    epoll_event event{};
    std::uint64_t value = 0;
    return epoll_wait(poller, &event, 1, 10'000) == 1 && read(fd, &value, sizeof value) == sizeof value;
  };
  const std::uint64_t one = 1;
  const pid_t child = fork();  // before any thread of this program
  if (child == 0) {
    const int poller = poller_of(there);
    for (int i = 0; i < kRounds && wait_read(poller, there); ++i)
      if (write(back, &one, sizeof one) != sizeof one) break;
    _exit(0);
  }
  const int poller = poller_of(back);
  std::vector<double> times;
  for (int i = 0; i < kRounds; ++i) {
    const auto at = Clock::now();
    if (write(there, &one, sizeof one) != sizeof one || !wait_read(poller, back)) break;
    times.push_back(micros_since(at));
  }
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  return {{"rtt_p50_us", quantile(times, 0.5)}, {"rtt_p99_us", quantile(times, 0.99)}};
}

// ---- drover's own figures

/// What a pool that should have answered says of itself.
std::string text_of(const PoolStatus& status, int killed) {
  std::string text = "killed " + std::to_string(killed) + ", deaths " + std::to_string(status.deaths) + ", spawns " + std::to_string(status.spawns) + ", leased " +
                     std::to_string(status.leased) + ", queued " + std::to_string(status.queued);
  for (const WorkerView& worker : status.workers) text += "; worker " + std::to_string(worker.host_pid) + " " + worker.state + (worker.task ? " task " + std::to_string(worker.task->value) : "");
  return text;
}

/// SIGKILL of a worker: until the caller of its task is told, and until the replacement's first result.
void measure_deaths(json& row) {
  PoolOptions options = two_workers();
  options.workers = 1;
  options.shared_segment_bytes = 64;
  Pool pool = start(std::move(options));
  const std::atomic_ref begun(*reinterpret_cast<std::uint64_t*>(pool.shared_segment().data()));
  std::vector<double> known, replaced;
  int killed = 0;
  for (int i = 0; i < 40; ++i) {
    warm(pool, 20);
    const auto turn = static_cast<std::uint64_t>(i);
    auto endless = pool.submit(kForever, turn);  // effectful: not run again, its end is told at once
    if (!endless) throw Refused{endless.error().what()};
    int pid = 0;
    const bool running = wait_for(5s, [&] {
      const PoolStatus status = pool.status();  // a snapshot: it may still show the worker before
      if (begun.load() != turn + 1 || status.workers.empty()) return false;
      pid = status.workers[0].host_pid;
      return pid > 0 && pid != killed;
    });
    if (!running) throw Refused{"the endless task did not start in 5 s"};
    std::this_thread::sleep_for(2ms);
    auto next = pool.submit(kNoop, std::uint64_t{1});  // waits behind it, goes back free, is the replacement's first
    if (!next) throw Refused{next.error().what()};
    const auto at = Clock::now();
    kill(pid, SIGKILL);
    killed = pid;
    if (!endless->get(in(10s))) throw Refused{"a killed worker's task was not answered in 10 s (kill " + std::to_string(i + 1) + "): " + text_of(pool.status(), pid)};
    known.push_back(millis_since(at));
    if (const auto answer = next->get(in(10s)); !answer || !*answer) throw Refused{"the replacement did not answer in 10 s"};
    replaced.push_back(millis_since(at));
  }
  row["kill_known_p50_ms"] = quantile(known, 0.5);
  row["kill_known_p99_ms"] = quantile(known, 0.99);
  row["replacement_p50_ms"] = quantile(replaced, 0.5);
  row["replacement_p99_ms"] = quantile(replaced, 0.99);
}

/// Context switches of every thread of a process but the calling one: wanted ones (it went to sleep and was woken) and
/// unwanted ones (something else took its core while it ran).
std::uint64_t switches_of(int pid) {
  std::uint64_t sum = 0;
  const int me = gettid();
  const std::string folder = "/proc/" + std::to_string(pid) + "/task";
  DIR* threads = opendir(folder.c_str());
  if (threads == nullptr) return 0;
  while (const dirent* entry = readdir(threads)) {
    if (entry->d_name[0] == '.' || std::atoi(entry->d_name) == me) continue;
    std::ifstream status(folder + "/" + entry->d_name + "/status");
    for (std::string line; std::getline(status, line);)
      if (const auto at = line.find("ctxt_switches:"); at != std::string::npos) sum += std::strtoull(line.c_str() + at + 14, nullptr, 10);
  }
  closedir(threads);
  return sum;
}

void measure_idle(json& row) {
  PoolOptions options = two_workers();
  options.workers = 8;
  Pool pool = start(std::move(options));
  warm(pool);
  const PoolStatus status = pool.status();
  std::map<std::string, std::vector<int>> parts = {{"supervisor", {getpid()}}, {"keeper", {status.keeper_pid}}, {"watchdog", {status.watchdog_pid}}, {"workers", {}}};
  for (const WorkerView& worker : status.workers) parts["workers"].push_back(worker.host_pid);
  std::this_thread::sleep_for(9s);  // parked: the watchdog's ticks end up to three of them (7.5 s) after the last lease
  const auto count = [&] {
    std::map<std::string, std::uint64_t> sums;
    for (const auto& [part, pids] : parts)
      for (const int pid : pids) sums[part] += switches_of(pid);
    return sums;
  };
  constexpr double kWindow = 5;
  const auto before = count();
  std::this_thread::sleep_for(std::chrono::duration<double>(kWindow));
  std::uint64_t all = 0;
  for (const auto& [part, sum] : count()) {
    all += sum - before.at(part);
    row["idle_by_part"][part] = sum - before.at(part);
  }
  row["idle_wakeups_per_s"] = static_cast<double>(all) / kWindow;
}

/// The destructor with one worker stopped by SIGSTOP and one spinning in a task that never looks up.
void measure_destructor(json& row) {
  const StopLadder ladder{};
  std::vector<double> times;
  for (int i = 0; i < 3; ++i) {
    auto pool = std::make_unique<Pool>(start(two_workers()));
    warm(*pool);
    auto endless = pool->submit(kForever, std::uint64_t{0});
    if (!endless) throw Refused{endless.error().what()};
    int idle = 0;
    wait_for(5s, [&] {
      bool running = false;
      for (const WorkerView& worker : pool->status().workers) (worker.task ? running = true : (idle = worker.host_pid, true));
      return running && idle > 0;
    });
    kill(idle, SIGSTOP);
    const auto at = Clock::now();
    pool.reset();
    times.push_back(millis_since(at));
  }
  row["destructor_ms"] = quantile(times, 1);
  row["destructor_graces_ms"] = std::chrono::duration<double, std::milli>(ladder.ask + ladder.term).count();
}

json measure_own() {
  json row;
  measure_deaths(row);
  measure_idle(row);
  measure_destructor(row);
  return row;
}

// ---- failures, as peers.py has them

json under_kills(std::uint64_t tasks, std::optional<Millis> every, std::uint64_t seed) {
  Pool pool = start(two_workers());
  warm(pool);
  std::atomic<std::uint64_t> answered{0}, kills{0};
  std::atomic<bool> over{false};
  std::atomic<double> new_worker_ms{-1};
  std::jthread killer([&] {
    std::mt19937_64 random(seed);
    while (!over && answered < tasks * 15 / 100) std::this_thread::sleep_for(200us);
    while (!over) {
      const std::vector<int> now = worker_pids(pool);
      const auto at = Clock::now();
      if (!now.empty() && kill(now[random() % now.size()], SIGKILL) == 0) ++kills;
      if (!every) {
        wait_for(20s, [&] {
          return over || std::ranges::any_of(worker_pids(pool), [&](int pid) { return std::ranges::find(now, pid) == now.end(); });
        });
        new_worker_ms = millis_since(at);
        return;
      }
      std::this_thread::sleep_for(*every);
    }
  });
  std::uint64_t ok = 0, wrong = 0, failed = 0, expected = 0;
  std::map<std::string, int> endings;
  const auto at = Clock::now();
  for (auto&& item : pool.map(kBurnTask, std::views::iota(std::uint64_t{0}, tasks))) {
    if (!item.result) {
      ++failed;
      ++endings[item.result.error().text()];
    } else {
      (*item.result == expected ? ok : wrong) += 1;
    }
    ++expected;
    answered = ok + wrong + failed;
  }
  const double seconds = seconds_since(at);
  over = true;
  killer.join();
  double ms = 0;
  const std::string after = next_task(pool, ms);
  json row = {{"tasks", tasks}, {"ok", ok},           {"failed", failed},   {"never_resolved", tasks - ok - wrong - failed},
              {"wrong", wrong}, {"kills", kills.load()}, {"endings", endings}, {"seconds", seconds},
              {"after", after == "ok" ? "usable" : after}};
  if (new_worker_ms >= 0) row["kill_to_new_worker_ms"] = new_worker_ms.load();
  return row;
}

json idle_kill(std::uint64_t seed) {
  Pool pool = start(two_workers());
  warm(pool);
  std::this_thread::sleep_for(500ms);
  const std::vector<int> pids = worker_pids(pool);
  kill(pids[seed % pids.size()], SIGKILL);
  std::this_thread::sleep_for(1500ms);
  json row;
  double ms = 0;
  row["next_task"] = next_task(pool, ms);
  row["ms"] = ms;
  return row;
}

json stopped_worker(std::uint64_t seed) {
  PoolOptions options = two_workers();
  options.limits.stall = 1s;
  Pool pool = start(std::move(options));
  warm(pool);
  constexpr std::uint64_t kTasks = 2000;
  std::jthread stopper([&] {
    std::this_thread::sleep_for(100ms);
    const std::vector<int> pids = worker_pids(pool);
    kill(pids[seed % pids.size()], SIGSTOP);
  });
  std::uint64_t ok = 0, failed = 0;
  const auto at = Clock::now();
  for (auto&& item : pool.map(kBurnTask, std::views::iota(std::uint64_t{0}, kTasks))) (item.result ? ok : failed) += 1;
  return {{"tasks", kTasks}, {"ok", ok}, {"failed", failed}, {"never_resolved", kTasks - ok - failed}, {"seconds", seconds_since(at)}};
}

json endless_task() {
  PoolOptions options = two_workers();
  options.limits.attempt_wall = 1s;
  Pool pool = start(std::move(options));
  warm(pool);
  const auto at = Clock::now();
  auto future = pool.submit(kForever, std::uint64_t{0});
  if (!future) throw Refused{future.error().what()};
  const auto answer = future->get(in(5s));
  json row = {{"said", !answer ? "hangs" : *answer ? "?" : "ended"}, {"seconds", seconds_since(at)}};
  if (answer && !*answer) row["outcome"] = answer->error().text();
  std::map<int, double> used;
  for (const int pid : worker_pids(pool)) used[pid] = cpu_seconds(pid);
  std::this_thread::sleep_for(1s);
  row["still_spinning"] = std::ranges::count_if(used, [](const auto& worker) { return cpu_seconds(worker.first) - worker.second > 0.03; });
  double ms = 0;
  row["next_task"] = next_task(pool, ms);
  return row;
}

json supervisor_kill() {
  prctl(PR_SET_CHILD_SUBREAPER, 1);  // the orphans' exit statuses come here, where they are taken
  Running inner = start_until_line({own_path(), "child", "superkill-inner"}, 20s);
  const json pids = json::parse(inner.line, nullptr, false);
  if (inner.pid < 0 || !pids.is_array() || pids.empty()) {
    if (inner.pid > 0) kill(inner.pid, SIGKILL), waitpid(inner.pid, nullptr, 0);
    throw Refused{"the pool to be killed did not start: " + inner.line};
  }
  kill(inner.pid, SIGKILL);
  const auto at = Clock::now();
  const bool gone = wait_for(5s, [&] { return std::ranges::none_of(pids, [](const json& pid) { return alive(pid); }); });
  json row = {{"workers", kWorkers}, {"left_after_5s", std::ranges::count_if(pids, [](const json& pid) { return alive(pid); })}};
  if (gone) row["gone_after_ms"] = millis_since(at);
  waitpid(inner.pid, nullptr, 0);
  close(inner.out);
  for (const json& pid : pids)
    if (alive(pid)) kill(pid, SIGKILL);
  while (waitpid(-1, nullptr, WNOHANG) > 0) {
  }
  return row;
}

[[noreturn]] void supervisor_to_be_killed() {
  Pool pool = start(two_workers());
  warm(pool);
  auto endless = pool.submit(kForever, std::uint64_t{0});
  std::this_thread::sleep_for(500ms);
  const PoolStatus status = pool.status();
  json pids = {status.keeper_pid, status.watchdog_pid};
  for (const WorkerView& worker : status.workers) pids.push_back(worker.host_pid);
  std::printf("%s\n", pids.dump().c_str());
  std::fflush(stdout);
  std::this_thread::sleep_for(60s);
  _exit(1);
}

}  // namespace

std::span<const TaskFunction* const> tasks() {
  static constexpr std::array<const TaskFunction*, 4> all = {kNoop.function, kBurnTask.function, kForever.function, &kEchoFunction};
  return all;
}

std::string own_path() {
  char path[4096];
  const ssize_t n = readlink("/proc/self/exe", path, sizeof path);
  return {path, static_cast<std::size_t>(std::max<ssize_t>(n, 0))};
}

json run_scenario(const std::string& name, std::uint64_t seed) {
  try {
    if (name == "pool") return measure_pool();
    if (name == "floor") return measure_floor();
    if (name == "own") return measure_own();
    if (name == "kill1") return under_kills(10'000, std::nullopt, seed);
    if (name == "storm") return under_kills(20'000, 30ms, seed);
    if (name == "idlekill") return idle_kill(seed);
    if (name == "sigstop") return stopped_worker(seed);
    if (name == "forever") return endless_task();
    if (name == "superkill") return supervisor_kill();
    if (name == "superkill-inner") supervisor_to_be_killed();
    return {{"error", "no such scenario"}};
  } catch (const Refused& refused) {
    return {{"error", refused.text}};
  }
}

}  // namespace drover::bench
