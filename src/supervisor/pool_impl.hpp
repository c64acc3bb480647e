#pragma once
/// What callers' threads and the loop thread share. Callers stage tasks into their own Stream, hand them over in batches through
/// the inbox, and take endings from their Stream's queue; the loop thread takes the inbox and fills the queues. One mutex for
/// each of the two directions, held for a swap or a splice; a bell only when the other side sleeps.

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "drover/pool.hpp"
#include "os/event_fd.hpp"
#include "os/memfd.hpp"
#include "supervisor/input_arena.hpp"
#include "wire/rings.hpp"

namespace drover {

class Supervisor;
struct JobStore;

/// One task on its way to the loop thread.
struct Staged {
  TaskId id{};
  StreamState* stream = nullptr;
  std::uint64_t tag = 0;
  std::uint64_t spec_hash = 0;
  wire::Payload payload{};
  ArenaExtent extent{};
  std::uint32_t broadcast = 0;
  std::uint16_t function = 0;
  std::uint16_t limits = 0;
  EffectClass effect = EffectClass::pure;
};

/// The receiving end of a Stream. Owned by the pool (streams), used by one caller's thread and the loop thread.
struct StreamState {
  std::mutex mutex;
  std::condition_variable arrived;
  std::vector<detail::Delivery> ready;    ///< guarded by mutex
  bool waiting = false;                   ///< guarded by mutex
  std::atomic<bool> abandoned{false};     ///< the caller is gone; deliveries are dropped
  std::atomic<std::uint64_t> undelivered{0};
  std::vector<detail::Delivery> outgoing; ///< loop thread only: this turn's
  bool dirty = false;                     ///< loop thread only
};

/// What a task recorded by an earlier run looks like to a stream: the job answers it instead of running it again.
class Recorded {
 public:
  virtual ~Recorded() = default;
  /// Nothing: not recorded, run it. Error mismatch: the same id was another task then.
  virtual Result<std::optional<detail::Delivery>> answer(TaskId task, std::uint64_t spec_hash) = 0;
};

struct ShutdownRequest {
  Shutdown how{};
  TimePoint deadline = kNever;
};

/// Filled by callers, emptied by the loop thread once a turn.
struct Inbox {
  std::vector<Staged> submissions;
  std::vector<TaskId> cancels;
  std::optional<std::uint32_t> workers;
  std::optional<ShutdownRequest> shutdown;
  std::vector<std::function<void(Supervisor&)>> calls;  ///< rare requests of the job runner, run on the loop thread; bounded work
  bool empty() const { return submissions.empty() && cancels.empty() && !workers && !shutdown && calls.empty(); }
};

namespace detail {
class PoolImpl : public std::enable_shared_from_this<PoolImpl> {
 public:
  PoolImpl(PoolOptions options, std::unique_ptr<InputArena> arena, EventFd bell);
  ~PoolImpl();

  const PoolOptions& options() const { return options_; }
  InputArena& arena() { return *arena_; }

  // ---- callers' side ----
  std::shared_ptr<StreamState> add_stream();
  Result<std::uint16_t> limits_index(const TaskLimits& limits);
  /// Room for one more open task with `bytes` of input; waits until `deadline`. Errors: timed_out, closed.
  Result<void> acquire(std::uint64_t bytes, TimePoint deadline);
  TaskId next_task() { return TaskId(next_task_.fetch_add(1, std::memory_order_relaxed)); }
  void set_first_task(TaskId first) { next_task_.store(first.value); }
  /// Hands them to the loop; when that has ended, each is answered rejected(closing) at once.
  void post(std::vector<Staged>& staged);
  /// False, and never called, when the loop has ended.
  bool call(std::function<void(Supervisor&)> f);
  /// drain: the workload is asked to end, and its tasks are cancelled at `deadline`; cancel and kill: at once.
  void ask_stop(Shutdown how, TimePoint deadline);
  bool stop_asked() const { return stop_asked_.load(std::memory_order_relaxed); }
  void request(ShutdownRequest request);
  void cancel(TaskId task);
  void set_workers(std::uint32_t workers);
  /// Waits until the loop has ended; false at the deadline.
  bool wait_ended(TimePoint deadline);
  PoolStatus status() const;
  std::string closed_reason() const;
  Recorded* recorded = nullptr;             ///< set by the job runner before any task is staged
  bool hash_specs = false;                  ///< a durable job compares what is supplied again

  // ---- the loop's side ----
  void take_inbox(Inbox& into);
  bool inbox_empty() const { return !inbox_filled_.load(std::memory_order_seq_cst); }
  void set_loop_sleeping(bool sleeping) { loop_sleeping_.store(sleeping, std::memory_order_seq_cst); }
  const EventFd& bell() const { return bell_; }
  void released(std::uint64_t tasks, std::uint64_t bytes);
  void publish(PoolStatus status);
  void close(std::string reason);           ///< no task is taken any more
  void ended();                             ///< the loop is over; every stream has its answers
  const std::vector<TaskLimits>& limits_table() const { return limits_table_; }  ///< under inbox mutex: via take_inbox
  std::vector<TaskLimits> take_new_limits();
  void prune_streams();
  Memfd* shared_memory() { return shared_memory_ ? &*shared_memory_ : nullptr; }
  std::span<std::byte> shared_bytes() const { return shared_mapping_.bytes(); }
  Result<void> make_shared_segment();

  std::thread loop;                         ///< started by Pool::start, joined by the last owner

 private:
  void refuse(const std::vector<Staged>& staged);

  PoolOptions options_;
  std::unique_ptr<InputArena> arena_;
  EventFd bell_;
  std::optional<Memfd> shared_memory_;
  Mapping shared_mapping_;

  mutable std::mutex mutex_;                ///< inbox, streams, limits, closed
  Inbox inbox_;
  std::atomic<bool> inbox_filled_{false};
  std::atomic<bool> loop_sleeping_{false};
  std::vector<std::shared_ptr<StreamState>> streams_;
  std::vector<TaskLimits> limits_table_{TaskLimits{}};
  std::size_t limits_taken_ = 1;
  std::string closed_reason_;
  std::atomic<bool> closed_{false};
  std::atomic<bool> stop_asked_{false};
  std::atomic<bool> loop_over_{false};

  std::mutex room_mutex_;
  std::condition_variable room_;
  std::atomic<std::uint64_t> open_tasks_{0}, open_bytes_{0};
  std::atomic<std::uint32_t> room_waiters_{0};
  std::atomic<std::uint64_t> next_task_{0};

  mutable std::mutex status_mutex_;
  PoolStatus status_;

  std::mutex ended_mutex_;
  std::condition_variable ended_changed_;
  bool ended_ = false;
};
}  // namespace detail
}  // namespace drover
