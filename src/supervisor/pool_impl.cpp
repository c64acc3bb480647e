/// The callers' half of a pool: streams, room, the inbox.
#include "supervisor/pool_impl.hpp"

#include <chrono>
#include <cstring>

#include "base/assert.hpp"
#include "base/hash.hpp"
#include "os/clock.hpp"
#include "supervisor/spec_hash.hpp"
#include "supervisor/supervisor.hpp"
#include "worker/registry.hpp"

namespace drover::detail {
namespace {
std::chrono::steady_clock::time_point steady(TimePoint t) {
  // libstdc++'s steady_clock is CLOCK_MONOTONIC with the same epoch; kNever stays the maximum.
  return std::chrono::steady_clock::time_point(t.time_since_epoch());
}
template <class Ready>
bool wait_until(std::condition_variable& cv, std::unique_lock<std::mutex>& lock, TimePoint deadline, Ready ready) {
  if (deadline == kNever) {
    cv.wait(lock, ready);
    return true;
  }
  return cv.wait_until(lock, steady(deadline), ready);
}
}  // namespace

PoolImpl::PoolImpl(PoolOptions options, std::unique_ptr<InputArena> arena, EventFd bell)
    : options_(std::move(options)), arena_(std::move(arena)), bell_(std::move(bell)) {}

PoolImpl::~PoolImpl() {
  if (!loop.joinable()) return;
  if (loop.get_id() == std::this_thread::get_id()) loop.detach();
  else loop.join();
}

Result<void> PoolImpl::make_shared_segment() {
  if (options_.shared_segment_bytes == 0) return {};
  DROVER_TRY(shared_memory_, Memfd::create("drover-shared", options_.shared_segment_bytes, MemfdUse::shared));
  DROVER_TRY(shared_mapping_, shared_memory_->map_writable());
  return {};
}

std::shared_ptr<StreamState> PoolImpl::add_stream() {
  auto state = std::make_shared<StreamState>();
  const std::lock_guard lock(mutex_);
  streams_.push_back(state);
  return state;
}

void PoolImpl::prune_streams() {
  const std::lock_guard lock(mutex_);
  std::erase_if(streams_, [](const auto& s) { return s->abandoned.load() && s->undelivered.load() == 0 && !s->dirty; });
}

Result<std::uint16_t> PoolImpl::limits_index(const TaskLimits& limits) {
  const std::lock_guard lock(mutex_);
  for (std::size_t i = 0; i < limits_table_.size(); ++i)
    if (limits_table_[i] == limits) return static_cast<std::uint16_t>(i);
  if (limits_table_.size() > UINT16_MAX) return fail(ErrorCode::no_space, "more than 65,535 distinct task limits", "round them");
  limits_table_.push_back(limits);
  return static_cast<std::uint16_t>(limits_table_.size() - 1);
}

std::vector<TaskLimits> PoolImpl::take_new_limits() {
  const std::lock_guard lock(mutex_);
  std::vector<TaskLimits> fresh(limits_table_.begin() + static_cast<std::ptrdiff_t>(limits_taken_), limits_table_.end());
  limits_taken_ = limits_table_.size();
  return fresh;
}

Result<void> PoolImpl::acquire(std::uint64_t bytes, TimePoint deadline) {
  const auto closed = [&] { return fail(ErrorCode::closed, "the pool takes no more tasks: " + closed_reason()); };
  if (closed_.load(std::memory_order_relaxed)) return closed();
  const auto try_take = [&] {
    const std::uint64_t tasks = open_tasks_.fetch_add(1) + 1;
    const std::uint64_t held = bytes == 0 ? 0 : open_bytes_.fetch_add(bytes);
    // An input larger than bytes_max is let through when nothing else is open: bounded, and never stuck.
    if (tasks <= options_.tasks_max && (bytes == 0 || held == 0 || held + bytes <= options_.bytes_max)) return true;
    open_tasks_.fetch_sub(1);
    if (bytes != 0) open_bytes_.fetch_sub(bytes);
    return false;
  };
  if (try_take()) return {};
  std::unique_lock lock(room_mutex_);
  room_waiters_.fetch_add(1);
  bool taken = false;
  const bool in_time = wait_until(room_, lock, deadline, [&] { return closed_.load() || (taken = try_take()); });
  room_waiters_.fetch_sub(1);
  if (taken) return {};
  if (closed_.load()) return closed();
  DROVER_ASSERT(!in_time);
  return fail(ErrorCode::timed_out, "no room: " + std::to_string(options_.tasks_max) + " tasks or " + std::to_string(options_.bytes_max) + " input bytes are open",
              "take results, or raise tasks_max or bytes_max");
}

void PoolImpl::released(std::uint64_t tasks, std::uint64_t bytes) {
  open_tasks_.fetch_sub(tasks);
  if (bytes != 0) open_bytes_.fetch_sub(bytes);
  if (room_waiters_.load() != 0) {
    const std::lock_guard lock(room_mutex_);
    room_.notify_all();
  }
}

void PoolImpl::post(std::vector<Staged>& staged) {
  if (staged.empty()) return;
  bool too_late = false;
  {
    const std::lock_guard lock(mutex_);
    too_late = loop_over_.load();
    if (!too_late) {
      if (inbox_.submissions.empty()) inbox_.submissions.swap(staged);
      else inbox_.submissions.insert(inbox_.submissions.end(), staged.begin(), staged.end());
      inbox_filled_.store(true, std::memory_order_seq_cst);
    }
  }
  if (too_late) refuse(staged);
  staged.clear();
  if (loop_sleeping_.load(std::memory_order_seq_cst)) bell_.ring();
}

void PoolImpl::refuse(const std::vector<Staged>& staged) {
  for (const Staged& t : staged) {
    arena_->free(t.extent);
    arena_->drop_broadcast(t.broadcast);
    released(1, t.extent.bytes);
    Delivery d;
    d.task = t.id;
    d.tag = t.tag;
    d.attempts = 0;
    d.outcome = std::make_unique<Outcome>(outcome::Rejected{RejectKind::closing});
    t.stream->undelivered.fetch_sub(1);
    const std::lock_guard lock(t.stream->mutex);
    t.stream->ready.push_back(std::move(d));
    t.stream->arrived.notify_one();
  }
}

void PoolImpl::ask_stop(Shutdown how, TimePoint deadline) {
  stop_asked_.store(true);
  if (how == Shutdown::drain) (void)call([deadline](Supervisor& s) { s.stop_at(deadline); });
  else request({how, kNever});
}

bool PoolImpl::call(std::function<void(Supervisor&)> f) {
  {
    const std::lock_guard lock(mutex_);
    if (loop_over_.load()) return false;
    inbox_.calls.push_back(std::move(f));
    inbox_filled_.store(true, std::memory_order_seq_cst);
  }
  bell_.ring();
  return true;
}

void PoolImpl::request(ShutdownRequest request) {
  {
    const std::lock_guard lock(mutex_);
    // A harder request overrides a softer one; the same again may only come sooner.
    if (!inbox_.shutdown || inbox_.shutdown->how <= request.how) inbox_.shutdown = request;
    inbox_filled_.store(true, std::memory_order_seq_cst);
  }
  bell_.ring();
}

void PoolImpl::cancel(TaskId task) {
  {
    const std::lock_guard lock(mutex_);
    inbox_.cancels.push_back(task);
    inbox_filled_.store(true, std::memory_order_seq_cst);
  }
  bell_.ring();
}

void PoolImpl::set_workers(std::uint32_t workers) {
  {
    const std::lock_guard lock(mutex_);
    inbox_.workers = workers;
    inbox_filled_.store(true, std::memory_order_seq_cst);
  }
  bell_.ring();
}

void PoolImpl::take_inbox(Inbox& into) {
  const std::lock_guard lock(mutex_);
  into.submissions.clear();
  into.submissions.swap(inbox_.submissions);
  into.cancels = std::exchange(inbox_.cancels, {});
  into.workers = std::exchange(inbox_.workers, std::nullopt);
  into.shutdown = std::exchange(inbox_.shutdown, std::nullopt);
  into.calls = std::exchange(inbox_.calls, {});
  inbox_filled_.store(false, std::memory_order_seq_cst);
}

bool PoolImpl::wait_ended(TimePoint deadline) {
  std::unique_lock lock(ended_mutex_);
  return wait_until(ended_changed_, lock, deadline, [&] { return ended_; });
}

PoolStatus PoolImpl::status() const {
  const std::lock_guard lock(status_mutex_);
  return status_;
}

void PoolImpl::publish(PoolStatus status) {
  const std::lock_guard lock(status_mutex_);
  status_ = std::move(status);
}

std::string PoolImpl::closed_reason() const {
  const std::lock_guard lock(mutex_);
  return closed_reason_;
}

void PoolImpl::close(std::string reason) {
  {
    const std::lock_guard lock(mutex_);
    if (closed_.load()) return;
    closed_reason_ = std::move(reason);
    closed_.store(true);
  }
  const std::lock_guard lock(room_mutex_);
  room_.notify_all();
}

void PoolImpl::ended() {
  Inbox last;
  {
    const std::lock_guard lock(mutex_);
    loop_over_.store(true);
  }
  take_inbox(last);  // what came too late; promises in its calls break, its tasks are answered: nobody waits for ever
  refuse(last.submissions);
  const std::lock_guard lock(ended_mutex_);
  ended_ = true;
  ended_changed_.notify_all();
}

// ---- Stream ------------------------------------------------------------------------------------------------------------------

struct Stream::Staging {
  EffectClass effect = EffectClass::pure;
  std::uint16_t limits = 0;
  Result<void> limits_ok{};
  const TaskFunction* function = nullptr;  // of the last stage, resolved
  std::uint16_t index = 0;
  std::vector<Staged> tasks;
  bool unfinished = false;                 // the last of `tasks` waits for its bytes to be filled
  TaskId last{};
  static constexpr std::size_t kBatch = 32;
};

Stream::Stream(std::shared_ptr<PoolImpl> pool, EffectClass effect, const std::optional<TaskLimits>& limits)
    : pool_(std::move(pool)), state_(pool_->add_stream()), staging_(std::make_unique<Staging>()) {
  staging_->effect = effect;
  auto index = pool_->limits_index(limits.value_or(pool_->options().limits));
  if (index) staging_->limits = *index;
  else staging_->limits_ok = std::unexpected(std::move(index).error());
}
Stream::Stream(Stream&&) noexcept = default;
Stream& Stream::operator=(Stream&&) noexcept = default;

Stream::~Stream() {
  if (!state_) return;
  flush();
  state_->abandoned.store(true);
  if (open() != 0) (void)pool_->call([state = state_](Supervisor& supervisor) { supervisor.abandon(*state); });
}

TaskId Stream::staged_task() const { return staging_->last; }

Result<std::span<std::byte>> Stream::stage(const TaskFunction& function, std::size_t size, TimePoint deadline) {
  Staging& s = *staging_;
  DROVER_CHECK(s.limits_ok);
  if (size > kPayloadBytesMax)
    return fail(ErrorCode::no_space, "an input of " + std::to_string(size) + " bytes is larger than " + std::to_string(kPayloadBytesMax), "pass a file name, or use a broadcast");
  if (s.function != &function) {
    const auto index = worker::registry().index_of(function);
    if (!index)
      return fail(ErrorCode::refused, "task function '" + std::string(function.name) + "' is not known to the workers", "add it to the list given to drover::init");
    s.function = &function;
    s.index = *index;
  }
  if (s.tasks.size() >= Staging::kBatch) flush();
  const bool large = size > wire::kInlineBytes;
  if (auto room = pool_->acquire(large ? size : 0, kPast); !room) {
    if (room.error().code() != ErrorCode::timed_out) return std::unexpected(std::move(room).error());
    flush();  // what we hold back ourselves may be what fills the pool
    DROVER_CHECK(pool_->acquire(large ? size : 0, deadline));
  }
  Staged task{.stream = state_.get(), .function = s.index, .limits = s.limits, .effect = s.effect};
  if (large) {
    auto extent = pool_->arena().allocate(size);
    if (!extent) {
      pool_->released(1, size);
      return std::unexpected(std::move(extent).error());
    }
    task.extent = *extent;
    task.payload.length = static_cast<std::uint32_t>(size);
    task.payload.granule = extent->granule();
  } else {
    task.payload.length = static_cast<std::uint32_t>(size);
    task.payload.inline_size = static_cast<std::uint8_t>(size);
  }
  task.id = pool_->next_task();
  task.tag = staged_++;
  task.broadcast = pool_->arena().hold_newest_broadcast();
  s.last = task.id;
  s.tasks.push_back(task);
  s.unfinished = true;
  Staged& in_place = s.tasks.back();
  return large ? pool_->arena().bytes(in_place.extent) : std::span<std::byte>(in_place.payload.inline_bytes).first(size);
}

void Stream::flush() {
  Staging& s = *staging_;
  s.unfinished = false;
  if (s.tasks.empty()) return;
  if (pool_->hash_specs) {
    for (Staged& t : s.tasks) {
      const BytesView input = t.extent.valid() ? BytesView(pool_->arena().bytes(t.extent)) : BytesView(t.payload.inline_bytes).first(t.payload.inline_size);
      t.spec_hash = spec_hash_of(worker::registry().functions[t.function]->name, input, t.effect);
    }
  }
  if (pool_->recorded != nullptr) {
    std::erase_if(s.tasks, [&](Staged& t) {
      auto answer = pool_->recorded->answer(t.id, t.spec_hash);
      Delivery d;
      if (!answer) {
        d.outcome = std::make_unique<Outcome>(outcome::ProtocolBroken{answer.error().what()});
      } else if (!*answer) {
        return false;
      } else {
        d = std::move(**answer);
      }
      d.task = t.id;
      d.tag = t.tag;
      pool_->arena().free(t.extent);
      pool_->arena().drop_broadcast(t.broadcast);
      pool_->released(1, t.extent.bytes);
      const std::lock_guard lock(state_->mutex);
      state_->ready.push_back(std::move(d));
      return true;
    });
  }
  state_->undelivered.fetch_add(s.tasks.size());
  pool_->post(s.tasks);
}

std::size_t Stream::take(std::vector<Delivery>& out, TimePoint deadline) {
  flush();
  if (open() == 0) return 0;
  std::unique_lock lock(state_->mutex);
  if (state_->ready.empty()) {
    state_->waiting = true;
    wait_until(state_->arrived, lock, deadline, [&] { return !state_->ready.empty(); });
    state_->waiting = false;
  }
  const std::size_t n = state_->ready.size();
  if (out.empty()) {
    out.swap(state_->ready);
  } else {
    out.insert(out.end(), std::make_move_iterator(state_->ready.begin()), std::make_move_iterator(state_->ready.end()));
    state_->ready.clear();
  }
  taken_ += n;
  return n;
}

}  // namespace drover::detail
