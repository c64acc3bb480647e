#pragma once
/// A pool of worker processes that cannot hang, lose, repeat or lie. The pool owns one loop thread (the supervisor; no user code
/// runs on it), a keeper process that owns the workers, and a watchdog process. Callers' threads submit and take results.
///
///   drover::init(argc, argv, {solve_task.function});
///   auto pool = drover::Pool::start({.workers = 2, .limits = {.attempt_wall = 5s}});
///   for (auto&& [id, result] : pool->map(solve_task, deals))     // lazy input, bounded window, id order, never throws
///     if (result) use(*result); else log(result.error().text());
///
/// Threads: every function may be called from any thread; one Map is used by one thread. Durability: without a job directory
/// results are in memory and nothing survives the process; with one see job.hpp. Errors: a task's ending is an Outcome in its
/// result; an Error is for what the pool itself cannot do. Destructor: cancels, and is bounded by the stop ladder even with
/// stopped or spinning workers.

#include <array>
#include <bit>
#include <cstdint>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <ranges>
#include <string>
#include <vector>

#include "drover/task.hpp"
#include "drover/types/limits.hpp"
#include "drover/types/outcome.hpp"
#include "drover/types/task.hpp"

namespace drover {

struct PoolOptions {
  std::uint32_t workers = 0;                        ///< 0 = usable cores; bounded by cores and memory unless `oversubscribe`
  bool oversubscribe = false;                       ///< allow more workers than 4 x usable cores (up to 1,024)
  std::uint32_t window = 64;                        ///< tasks leased to one worker at a time, 1..128
  std::uint64_t seed = 1;                           ///< of every task's random stream
  TaskLimits limits{};                              ///< of tasks that bring none of their own
  WorkerLimits worker{};
  Nanos run = kUnlimited;                           ///< budget of the pool's life; then open tasks end timed_out(run)
  RetryPolicy retry{};
  RestartIntensity intensity{};
  BackOff back_off{};
  StopLadder ladder{};
  Recycling recycling{};
  Nanos start_grace = Seconds(10);
  std::uint32_t tasks_max = 16384;                  ///< open tasks; more wait (submit) or are rejected(full) (try_submit)
  std::uint64_t bytes_max = std::uint64_t{1} << 30; ///< input bytes of open tasks
  Bytes setup{};                                    ///< Context::setup of every worker
  std::uint64_t shared_segment_bytes = 0;           ///< Context::shared_segment; a job that uses one is never `exact`
  const TaskFunction* warm_up = nullptr;            ///< start this function's state before a worker counts as ready
  bool realtime_loop = false;                       ///< SCHED_FIFO for the loop thread where permitted; the CLI turns it on
  bool require_containment = false;                 ///< refuse to start without a PID namespace instead of `best effort`
};

/// Why a task has no result: its outcome, and what is known of it.
struct Failure {
  Outcome outcome;
  std::uint32_t attempts = 0;
  std::string text() const { return text_of(outcome); }
};
template <class T>
using TaskResult = std::expected<T, Failure>;

struct SubmitOptions {
  EffectClass effect = EffectClass::effectful;      ///< submit states it; map is pure unless told otherwise
  std::optional<TaskLimits> limits{};
  TimePoint deadline = kNever;                      ///< of waiting for room
};
struct MapOptions {
  EffectClass effect = EffectClass::pure;
  std::optional<TaskLimits> limits{};
  std::uint32_t window = 0;                         ///< results in flight or waiting for their turn; 0 = workers x window x 2
};

/// A snapshot for people and tests; `live` in status.
struct WorkerView {
  SlotId slot{};
  Incarnation incarnation{};
  int host_pid = 0;
  std::string state;
  std::optional<TaskId> task{};
  std::uint64_t progress = 0, completed = 0;
};
struct PoolStatus {
  int supervisor_pid = 0, keeper_pid = 0, watchdog_pid = 0;
  std::vector<WorkerView> workers;
  LimitLayers layers{};
  std::uint64_t submitted = 0, completed = 0, failed = 0, delivered = 0, attempts = 0, retries = 0, late_discarded = 0;
  std::uint64_t queued = 0, leased = 0, spawns = 0, deaths = 0, quarantined = 0, loop_wakeups = 0;
};

struct StreamState;

namespace detail {
/// One ended task as it leaves the supervisor: the outcome, and the result's bytes while `hold` lives.
struct Delivery {
  TaskId task{};
  std::uint64_t tag = 0;  ///< position in its stream, from 0
  std::uint32_t attempts = 1;
  bool completed = false;
  bool replayed = false;  ///< from the ledger of an earlier run, not run again
  std::uint8_t inline_size = 0;
  std::array<std::byte, 32> inline_bytes{};
  BytesView large{};
  std::shared_ptr<const void> hold{};      ///< keeps `large` mapped
  std::unique_ptr<Outcome> outcome{};      ///< null when completed
  BytesView bytes() const { return large.data() != nullptr ? large : BytesView(inline_bytes).first(inline_size); }
};

class PoolImpl;

/// A caller's private queue of tasks and their endings, untyped: what Map, futures and jobs are made of. Used by one thread.
/// Destructor: cancels what is still queued of it, forgets the rest.
class Stream {
 public:
  Stream(std::shared_ptr<PoolImpl> pool, EffectClass effect, const std::optional<TaskLimits>& limits);
  ~Stream();
  Stream(Stream&&) noexcept;
  Stream& operator=(Stream&&) noexcept;
  /// Stages one task and returns where its `size` input bytes go; fill them before the next call. Waits for room until
  /// `deadline`. Errors: timed_out (no room in time), closed (the pool is ending), no_space (over kPayloadBytesMax).
  Result<std::span<std::byte>> stage(const TaskFunction& function, std::size_t size, TimePoint deadline);
  TaskId staged_task() const;              ///< id of the task staged last
  void flush();                            ///< hands staged tasks to the supervisor; take() does it too
  /// Moves ended tasks, in order of ending, to the back of `out`; waits until there is one, `deadline`, or none is open.
  /// Returns how many.
  std::size_t take(std::vector<Delivery>& out, TimePoint deadline);
  std::uint64_t open() const { return staged_ - taken_; }  ///< staged and not yet taken
  const std::shared_ptr<PoolImpl>& pool() const { return pool_; }

 private:
  struct Staging;
  std::shared_ptr<PoolImpl> pool_;
  std::shared_ptr<StreamState> state_;
  std::unique_ptr<Staging> staging_;
  std::uint64_t staged_ = 0, taken_ = 0;
};

/// Puts endings back into the order of submission. The window bounds what is in flight or waits for its turn.
class OrderedStream {
 public:
  OrderedStream(Stream stream, std::uint32_t window)
      : stream_(std::move(stream)), window_(window), slots_(std::bit_ceil(std::size_t{window})), mask_(slots_.size() - 1) {}
  bool room() const { return in_ - out_ < window_; }
  bool empty() const { return in_ == out_; }
  template <class In>
  Result<void> put(const TaskFunction& function, const In& input, TimePoint deadline = kNever) {
    DROVER_TRY(std::span<std::byte> bytes, stream_.stage(function, Codec<In>::size(input), deadline));
    Codec<In>::encode(input, bytes);
    ++in_;
    return {};
  }
  /// The next ending in order; not to be called when empty(). Bounded by the tasks' own limits and the pool's life.
  Delivery next() {
    while (!slots_[out_ & mask_]) {
      arrived_.clear();
      stream_.take(arrived_, kNever);
      for (auto& d : arrived_) slots_[d.tag & mask_] = std::move(d);
    }
    Delivery d = std::move(*slots_[out_ & mask_]);
    slots_[out_ & mask_].reset();
    ++out_;
    return d;
  }
  Stream& stream() { return stream_; }

 private:
  Stream stream_;
  std::uint64_t window_, in_ = 0, out_ = 0;
  std::vector<std::optional<Delivery>> slots_;
  std::uint64_t mask_;
  std::vector<Delivery> arrived_;
};

template <class Out>
TaskResult<Out> result_of(const Delivery& delivery) {
  if (!delivery.completed) return std::unexpected(Failure{*delivery.outcome, delivery.attempts});
  auto value = Codec<Out>::decode(delivery.bytes());
  if (value) return std::move(*value);
  return std::unexpected(Failure{outcome::ProtocolBroken{"result: " + value.error().what()}, delivery.attempts});
}
}  // namespace detail

template <class Out>
struct MapItem {
  TaskId id;
  TaskResult<Out> result;
};

/// A lazily pulled input and its results in input order: an input range. Ends early, with every given task answered, when the
/// pool ends; `error()` then says why.
template <class In, class Out, class Source>
class Map {
 public:
  class Iterator {
   public:
    using value_type = MapItem<Out>;
    using difference_type = std::ptrdiff_t;
    explicit Iterator(Map* map) : map_(map) {}
    MapItem<Out>& operator*() const { return *map_->current_; }
    Iterator& operator++() { map_->advance(); return *this; }
    void operator++(int) { map_->advance(); }
    friend bool operator==(const Iterator& it, std::default_sentinel_t) { return it.at_end(); }
   private:
    bool at_end() const { return !map_->current_; }
    Map* map_;
  };
  Map(detail::Stream stream, const TaskFunction& function, Source source, std::uint32_t window)
      : ordered_(std::move(stream), window), function_(&function), source_(std::move(source)), at_(std::ranges::begin(source_)) {}
  Map(const Map&) = delete;
  Map& operator=(const Map&) = delete;
  Iterator begin() { advance(); return Iterator(this); }
  std::default_sentinel_t end() const { return {}; }
  const std::optional<Error>& error() const { return error_; }

 private:
  void advance() {
    while (!error_ && ordered_.room() && at_ != std::ranges::end(source_)) {
      if (auto put = ordered_.put(*function_, static_cast<const In&>(*at_)); !put) error_ = std::move(put).error();
      else ++at_;
    }
    current_.reset();
    if (ordered_.empty()) return;
    detail::Delivery d = ordered_.next();
    current_.emplace(MapItem<Out>{d.task, detail::result_of<Out>(d)});
  }
  detail::OrderedStream ordered_;
  const TaskFunction* function_;
  Source source_;
  std::ranges::iterator_t<Source> at_;
  std::optional<MapItem<Out>> current_;
  std::optional<Error> error_;
};

/// The answer to one submitted task. Cancels the task if destroyed while it is still queued.
template <class Out>
class Future {
 public:
  explicit Future(detail::Stream stream) : stream_(std::move(stream)), task_(stream_.staged_task()) { stream_.flush(); }
  TaskId task() const { return task_; }
  /// Waits until `deadline`; nothing = not yet. A task always ends: at the latest when the pool does.
  std::optional<TaskResult<Out>> get(TimePoint deadline = kNever) {
    std::vector<detail::Delivery> arrived;
    if (stream_.take(arrived, deadline) == 0) return std::nullopt;
    return detail::result_of<Out>(arrived.front());
  }
 private:
  detail::Stream stream_;
  TaskId task_;
};

enum class Shutdown : std::uint8_t { drain, cancel, kill };

class Pool {
 public:
  /// Starts keeper, watchdog and workers. Errors: usage (options out of range, says which), refused (init was not called,
  /// containment required and absent), unavailable, system. Waits at most start_grace.
  static Result<Pool> start(PoolOptions options);
  explicit Pool(std::shared_ptr<detail::PoolImpl> impl) : impl_(std::move(impl)) {}
  Pool(Pool&&) noexcept = default;
  Pool& operator=(Pool&&) noexcept;
  ~Pool();  ///< shutdown(cancel), then kill: bounded by the ladder

  template <class In, class Out, std::ranges::input_range Inputs>
  auto map(Task<In, Out> task, Inputs&& inputs, const MapOptions& options = {}) {
    using Source = std::views::all_t<Inputs>;
    return Map<In, Out, Source>(detail::Stream(impl_, options.effect, options.limits), *task.function,
                                std::views::all(std::forward<Inputs>(inputs)), map_window(options.window));
  }
  template <class In, class Out>
  Result<Future<Out>> submit(Task<In, Out> task, const In& input, const SubmitOptions& options = {}) {
    detail::Stream stream(impl_, options.effect, options.limits);
    DROVER_TRY(std::span<std::byte> bytes, stream.stage(*task.function, Codec<In>::size(input), options.deadline));
    Codec<In>::encode(input, bytes);
    return Future<Out>(std::move(stream));
  }
  detail::Stream stream(const MapOptions& options = {}) { return detail::Stream(impl_, options.effect, options.limits); }

  /// Tasks submitted from now on see these bytes as Context::broadcast, without a copy per worker. Returns the version.
  Result<std::uint32_t> broadcast(BytesView bytes);
  /// Changes the newest broadcast in place and gives it a new version. Error busy while a task that was given it is open.
  Result<std::uint32_t> edit_broadcast(const std::function<void(std::span<std::byte>)>& edit);
  /// The owner's view of the shared segment.
  std::span<std::byte> shared_segment();

  void cancel(TaskId task);
  /// Grows or shrinks the number of workers, 1..PoolOptions::workers as started; returns at once.
  void set_workers(std::uint32_t workers);
  /// drain: finish everything, at most until `deadline`, then as cancel. cancel: queued tasks end cancelled, running ones go
  /// through the ladder. kill: SIGKILL now. Returns when no process of the pool is left, or Error timed_out naming those that
  /// cannot be killed. Every open task has been answered either way.
  Result<void> shutdown(Shutdown how, TimePoint deadline = kNever);
  PoolStatus status() const;
  std::uint32_t workers() const;
  const std::shared_ptr<detail::PoolImpl>& impl() const { return impl_; }

 private:
  std::uint32_t map_window(std::uint32_t asked) const;
  std::shared_ptr<detail::PoolImpl> impl_;
};
}  // namespace drover
