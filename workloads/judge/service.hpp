#pragma once
/// Judging as a service in this process: a pool of slots, a bounded queue, tickets. The server is made of it, and so is any C++ program that
/// wants verdicts:
///
///   auto service = judge::Service::start({.workers = 2});
///   auto ticket = (*service)->submit(submission);            // at once, or `busy`: the queue is full
///   if (auto verdict = (*ticket)->get(in((*ticket)->bound()))) use(*verdict);
///
/// Never hangs: a ticket has a bound, computed from its own limits and from all that is queued before it, after which it has an answer. That is
/// enforced, not hoped for: each submission's attempts have a wall limit, beyond which its worker is killed.
///
/// Threads: everything from any thread. Durability: none, or a job's. Over a job (`start(options, job)`) what is taken is in the job's journal
/// before it is judged, and its verdict in the job's ledger before it is told: whatever is killed, the next run of the job judges what is
/// missing and knows the rest; the same submission again is answered from the ledger, a client that goes cancels nothing.

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "drover/job.hpp"
#include "drover/types/error.hpp"
#include "drover/types/time.hpp"
#include "judge/execute.hpp"
#include "judge/slot.hpp"
#include "judge/test_sets.hpp"
#include "judge/verdict.hpp"

namespace drover::judge {

struct ServiceOptions {
  std::uint32_t workers = 0;                            ///< 0 = usable cores
  SlotOptions slot{};
  std::uint32_t open_max = 4096;                        ///< submissions queued and running; more are refused `busy`
  std::uint64_t bytes_max = std::uint64_t{512} << 20;   ///< of them together
  std::uint64_t cache_bytes = std::uint64_t{64} << 20;  ///< of verdicts remembered by content; 0 = none. Never: not_judged, cancelled, a run ended by wall time, or near its limit
  std::uint64_t test_sets_bytes = std::uint64_t{256} << 20;
  RewardRule reward{};
};

/// The longest a submission may take by itself, its worker's deaths and repetitions counted in.
Nanos bound_of(const Submission& submission, std::size_t tests);
Nanos bound_of(const Execution& execution);

/// An answer to come. Let go of it, and it is still judged; cancel() it, and it is not.
template <class T>
class Ticket {
 public:
  Nanos bound() const { return bound_; }  ///< from the submission on; get() has an answer by then
  /// Nothing: not by `deadline`.
  std::optional<T> get(TimePoint deadline) const {
    std::unique_lock lock(mutex_);
    changed_.wait_until(lock, std::chrono::steady_clock::time_point(deadline.time_since_epoch()), [&] { return answer_.has_value(); });
    return answer_;
  }
  /// A queued one ends at once, a running one within 100 ms; its answer says so. Over a job it is judged all the same.
  void cancel() { cancelled_.store(true, std::memory_order_relaxed); }
  bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }
  bool answered() const {
    const std::lock_guard lock(mutex_);
    return answer_.has_value();
  }

 private:
  friend class Service;
  void answer(T value) {
    const std::lock_guard lock(mutex_);
    answer_ = std::move(value);
    changed_.notify_all();
  }
  Nanos bound_{};  ///< set before submit() hands it out
  std::atomic<bool> cancelled_{false};
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  std::optional<T> answer_{};
};

struct ServiceStatus {
  std::uint64_t submitted = 0, answered = 0, cached = 0, refused = 0, cancelled = 0, not_judged = 0, workers_lost = 0;
  std::uint64_t outcomes[5]{};         ///< by SubmissionOutcome
  std::uint32_t open = 0, running = 0, workers = 0;
  std::uint64_t open_bytes = 0, test_sets = 0, test_set_bytes = 0;
  double cpu_seconds = 0;
  std::uint64_t journal = 0, replayed = 0;  ///< over a job: records in its journal; verdicts of earlier runs
};

class Service {
 public:
  /// Starts the pool and waits for its sandboxes. Errors: those of Pool::start and of Sandbox::start (tried once, first).
  static Result<std::unique_ptr<Service>> start(const ServiceOptions& options);
  /// Over a job, whose pool was made with pool_options() and whose verdicts all came from one set of slot options. Returns when what earlier runs
  /// took is known or queued. Errors also: those of Journal::open, mismatch (the journal and the ledger are not of one job).
  static Result<std::unique_ptr<Service>> start(const ServiceOptions& options, Job& job);
  static PoolOptions pool_options(const ServiceOptions& options);
  ~Service();  ///< shutdown()

  /// `done` is called once, when the ticket has its answer: on a thread of the service, or from within where the verdict is remembered. Errors: busy (the queue is full: again after retry_after()),
  /// not_found (its test set), closed (shutting down).
  Result<std::shared_ptr<Ticket<Verdict>>> submit(Submission submission, std::function<void(const Verdict&)> done = {});
  Result<std::shared_ptr<Ticket<Executed>>> execute(const Execution& execution, std::function<void(const Executed&)> done = {});
  /// Over a job: takes a submission nobody waits for. `taken` is called, from any thread, with the key its verdict will have, when no crash the
  /// job's durability is for can lose it. Errors: as submit; no_space, and unavailable without a job.
  Result<void> take(Submission submission, std::function<void(Result<std::string> key)> taken);
  struct Kept {
    bool pending = false;
    std::optional<Verdict> verdict{};  ///< nothing: pending, or it ended without one
  };
  /// Over a job: what is known of a key. Error not_found: nothing.
  Result<Kept> kept(std::string_view key) const;
  /// Error: busy (the registry is full), usage.
  Result<std::string> add_test_set(std::string_view json);
  bool has_test_set(std::string_view sha256) const;

  /// How long until there is likely room, by what is queued and how fast it went so far: 1 s to 60 s.
  Nanos retry_after() const;
  /// What is open is answered as cancelled. Two seconds at most, whatever the candidates do; over a job what runs may end, within the job's
  /// patience, and the rest is judged by its next run.
  void shutdown();
  ServiceStatus status() const;
  const std::string& profile() const;

 private:
  struct Impl;
  explicit Service(std::unique_ptr<Impl> impl);
  void begin();
  std::unique_ptr<Impl> impl_;
};

}  // namespace drover::judge
