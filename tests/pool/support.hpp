#pragma once
// What the tests of the pool share: waits with a bound, maps that are checked whole, processes of a pool by pidfd.

#include <gtest/gtest.h>
#include <poll.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include <algorithm>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <mutex>
#include <ranges>
#include <sstream>

#include "drover/pool.hpp"
#include "os/clock.hpp"
#include "os/pidfd.hpp"
#include "os/poller.hpp"
#include "os/unique_fd.hpp"
#include "pool/deeds.hpp"
#include "supervisor/pool_impl.hpp"
#include "supervisor/pool_start.hpp"
#include "supervisor/supervisor.hpp"
#include "support/long.hpp"

namespace drover::test {

using namespace std::chrono_literals;

inline constexpr Nanos kPatience = Seconds(60);  // of a busy machine: far beyond what anything here takes

inline TimePoint in(Nanos timeout) { return after(system_clock().now(), timeout); }

/// Lets real time pass: the moment of a fault, never a wait for something to have happened.
inline void pass(Nanos span) {
  const timespec t{.tv_sec = span.count() / 1'000'000'000, .tv_nsec = span.count() % 1'000'000'000};
  ::clock_nanosleep(CLOCK_MONOTONIC, 0, &t, nullptr);  // sleep: see above
}

/// Looks again and again until it is true or the bound is reached.
template <class F>
bool eventually(const F& holds, Nanos bound = kPatience) {
  const TimePoint end = in(bound);
  for (;;) {
    if (holds()) return true;
    if (system_clock().now() >= end) return false;
    pass(1ms);
  }
}

struct Pipe {
  UniqueFd read_end, write_end;
  explicit Pipe(int flags = O_CLOEXEC) {
    int ends[2];
    if (::pipe2(ends, flags) != 0) std::abort();
    read_end.reset(ends[0]);
    write_end.reset(ends[1]);
  }
  bool wait_bytes(std::size_t count, TimePoint deadline) { return test::Pipe::wait_bytes(read_end.get(), count, deadline); }
  static bool wait_bytes(int fd, std::size_t count, TimePoint deadline) {
    while (count > 0) {
      if (!wait_readable(fd, deadline)) return false;
      char bytes[64];
      const ssize_t got = ::read(fd, bytes, std::min(count, sizeof bytes));
      if (got <= 0) return false;
      count -= static_cast<std::size_t>(got);
    }
    return true;
  }
  /// True once every holder of the write end is dead.
  static bool wait_end(int fd, TimePoint deadline) {
    for (;;) {
      if (!wait_readable(fd, deadline)) return false;
      char bytes[4096];
      if (::read(fd, bytes, sizeof bytes) == 0) return true;
    }
  }
  bool wait_end(TimePoint deadline) {
    write_end.reset();
    return wait_end(read_end.get(), deadline);
  }
  std::string read_all(TimePoint deadline) {
    write_end.reset();
    std::string text;
    char bytes[4096];
    while (wait_readable(read_end.get(), deadline)) {
      const ssize_t got = ::read(read_end.get(), bytes, sizeof bytes);
      if (got <= 0) break;
      text.append(bytes, static_cast<std::size_t>(got));
    }
    return text;
  }
};

class Scratch {
 public:
  Scratch() {
    std::string name = (std::filesystem::temp_directory_path() / "drover-pool-XXXXXX").string();
    if (::mkdtemp(name.data()) != nullptr) path_ = name;
  }
  ~Scratch() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

inline Bytes bytes_of(std::string_view text) {
  const auto view = std::as_bytes(std::span(text));
  return {view.begin(), view.end()};
}

/// A pool, and what its run came to: how often each kind of attempt's ending was seen.
struct TestPool {
  std::optional<Pool> pool;
  std::shared_ptr<RunSummary> summary;

  explicit TestPool(PoolOptions options) {
    if (options.workers == 0) options.workers = 2;
    const Nanos run = options.run;
    auto started = start_pool(std::move(options), nullptr, run == kUnlimited ? kUnlimited : system_clock().boottime() + run);
    if (!started) {
      ADD_FAILURE() << started.error().what() << "; " << started.error().advice();
      std::abort();
    }
    pool.emplace(std::move(started->pool));
    summary = std::move(started->summary);
  }
  Pool* operator->() { return &*pool; }
  Pool& operator*() { return *pool; }

  /// Ends the pool; the faults of all attempts by outcome name.
  std::map<std::string, std::uint64_t> faults() {
    if (pool) {
      EXPECT_TRUE(pool->shutdown(Shutdown::cancel));
      pool.reset();
    }
    return {summary->faults_by_kind.begin(), summary->faults_by_kind.end()};
  }
  /// The last attempt's ending that was not completed, with its evidence; after faults().
  const std::string& last_fault() const { return summary->last_fault; }
};
using Faults = std::map<std::string, std::uint64_t>;

inline SubmitOptions pure(std::optional<TaskLimits> limits = {}) { return {.effect = EffectClass::pure, .limits = limits}; }

/// The answer of a submitted task; fails the test and gives nothing if it does not come within the patience.
template <class Out>
std::optional<TaskResult<Out>> await(Result<Future<Out>>& future, Nanos bound = kPatience) {
  if (!future) {
    ADD_FAILURE() << future.error().what();
    return std::nullopt;
  }
  auto got = future->get(in(bound));
  if (!got) ADD_FAILURE() << "task " << future->task().value << " was not answered in time";
  return got;
}
template <class Out>
std::string text_of_result(const std::optional<TaskResult<Out>>& r) {
  return !r ? "nothing" : *r ? "completed" : r->error().text();
}

inline std::string describe(const PoolStatus& s) {
  std::string text = std::to_string(s.submitted) + " submitted, " + std::to_string(s.delivered) + " delivered, " + std::to_string(s.queued) + " queued, " +
                     std::to_string(s.leased) + " leased, " + std::to_string(s.spawns) + " spawns, " + std::to_string(s.deaths) + " deaths;";
  for (const WorkerView& w : s.workers)
    text += " slot " + std::to_string(w.slot.value) + ": incarnation " + std::to_string(w.incarnation.value) + ", host pid " + std::to_string(w.host_pid) + ", " + w.state + ";";
  return text;
}

/// A map has no deadline of its own. This ends the test program, with what is known, when nothing was heard for the patience.
class Patience {
 public:
  explicit Patience(Pool& pool) : thread_([this, &pool] {
    std::unique_lock lock(mutex_);
    while (!over_) {
      const std::uint64_t before = heard_;
      const auto more = [&] { return over_ || heard_ != before; };
      if (changed_.wait_for(lock, kPatience, more)) continue;
      std::fprintf(stderr, "nothing was answered for 60 s: %s\n", describe(pool.status()).c_str());
      std::abort();
    }
  }) {}
  ~Patience() {
    {
      const std::lock_guard lock(mutex_);
      over_ = true;
    }
    changed_.notify_one();
    thread_.join();
  }
  void heard() {
    const std::lock_guard lock(mutex_);
    if (heard_++ % 64 == 0) changed_.notify_one();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::uint64_t heard_ = 0;
  bool over_ = false;
  std::thread thread_;
};

/// Maps `acts` and checks every ending: id order, each once, ordinary acts completed with the right answer. The endings of the
/// others come back, in order.
inline std::vector<TaskResult<std::uint64_t>> map_acts(Pool& pool, const std::vector<Act>& acts, const MapOptions& options = {}) {
  std::vector<TaskResult<std::uint64_t>> others;
  std::optional<std::uint64_t> first;
  std::size_t at = 0;
  Patience patience(pool);
  auto results = pool.map(act_task, acts, options);
  for (auto&& [id, result] : results) {
    patience.heard();
    if (!first) first = id.value;
    if (at < acts.size()) {
      EXPECT_EQ(id.value, *first + at);
      if (acts[at].deed == Deed::none) {
        EXPECT_TRUE(result) << "ordinary task " << at << ": " << result.error().text();
        if (result) {
          EXPECT_EQ(*result, answer_of(acts[at].number));
        }
      } else {
        others.push_back(std::move(result));
      }
    }
    ++at;
  }
  EXPECT_EQ(at, acts.size());
  EXPECT_FALSE(results.error()) << results.error()->what();
  return others;
}

/// `count` ordinary acts.
inline std::vector<Act> ordinary(std::size_t count) {
  std::vector<Act> acts(count);
  for (std::size_t i = 0; i < count; ++i) acts[i].number = i;
  return acts;
}
/// Ordinary acts with one evil in the middle.
inline std::vector<Act> among_ordinary(const Act& evil, std::size_t count = 200) {
  std::vector<Act> acts = ordinary(count);
  acts[count / 2] = evil;
  return acts;
}
/// The pool does ordinary work and has all its workers.
inline void expect_usable(Pool& pool) {
  EXPECT_TRUE(map_acts(pool, ordinary(500)).empty());
  const std::uint32_t workers = pool.workers();
  EXPECT_TRUE(eventually([&] {
    const PoolStatus s = pool.status();
    return static_cast<std::uint32_t>(std::ranges::count_if(s.workers, [](const WorkerView& w) { return w.state == "idle"; })) == workers;
  })) << "not all workers came back: " << describe(pool.status());
}

// ---- processes -------------------------------------------------------------------------------------------------------------------

/// Host pids of the keeper's children as the kernel lists them now: the workers (and, for a moment, orphans of theirs).
inline std::vector<pid_t> children_of(pid_t parent) {
  std::ifstream list("/proc/" + std::to_string(parent) + "/task/" + std::to_string(parent) + "/children");
  std::vector<pid_t> pids;
  for (pid_t pid = 0; list >> pid;) pids.push_back(pid);
  return pids;
}
inline pid_t parent_of(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string text;
  std::getline(file, text);  // of a process that is gone by now: empty
  const std::size_t end = text.rfind(')');
  if (end == std::string::npos || end + 4 >= text.size()) return 0;
  return static_cast<pid_t>(std::strtol(text.c_str() + end + 4, nullptr, 10));
}
/// Signals the living process that is `parent`'s child `pid` now, and no other: the pidfd is opened first, then it is checked.
inline bool signal_child(pid_t parent, pid_t pid, int signal) {
  if (pid <= 0) return false;
  const auto process = PidFd::open(pid);
  if (!process || parent_of(pid) != parent || process->is_dead()) return false;
  const auto sent = process->send(signal);
  return sent && *sent;
}
/// Signals a helper of this process: its child, or a child of the stand-in that keeps it out of the host's wait().
inline bool signal_helper(pid_t pid, int signal) {
  const pid_t parent = parent_of(pid);
  return parent > 1 && (parent == ::getpid() || parent_of(parent) == ::getpid()) && signal_child(parent, pid, signal);
}
inline std::size_t open_descriptors() {
  return static_cast<std::size_t>(std::ranges::distance(std::filesystem::directory_iterator("/proc/self/fd"), std::filesystem::directory_iterator()));
}

inline void become_subreaper() { ::prctl(PR_SET_CHILD_SUBREAPER, 1); }
/// True once this process has no child of any kind; those that are dead are reaped.
inline bool wait_no_children(Nanos bound = kPatience) {
  return eventually([] {
    for (;;) {
      const pid_t dead = ::waitpid(-1, nullptr, WNOHANG | __WALL);
      if (dead < 0) return true;  // ECHILD
      if (dead == 0) return false;
    }
  }, bound);
}

/// This program as another process, with main's `--host MODE ARGUMENTS...`; its stdout is a pipe.
class Host {
 public:
  explicit Host(std::vector<std::string> words, bool own_stderr = false) {
    words.insert(words.begin(), {"/proc/self/exe", "--host"});
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, out.write_end.get(), 1);
    if (!own_stderr) ::posix_spawn_file_actions_adddup2(&actions, out.write_end.get(), 2);
    if (::posix_spawn(&pid_, "/proc/self/exe", &actions, nullptr, argv.data(), environ) != 0) pid_ = -1;
    ::posix_spawn_file_actions_destroy(&actions);
    out.write_end.reset();
  }
  Host(const Host&) = delete;
  ~Host() { kill(); }
  void kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }
  /// Exit status or 128 + signal; -1 if it did not end in time and was killed.
  int wait(Nanos bound = kPatience) {
    int raw = 0;
    if (!eventually([&] { return ::waitpid(pid_, &raw, WNOHANG) == pid_; }, bound)) {
      kill();
      return -1;
    }
    pid_ = -1;
    return WIFEXITED(raw) ? WEXITSTATUS(raw) : 128 + WTERMSIG(raw);
  }
  pid_t pid() const { return pid_; }
  Pipe out;

 private:
  pid_t pid_ = -1;
};

}  // namespace drover::test
