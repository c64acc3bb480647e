#include "engine/scheduler.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <map>
#include <unordered_map>
#include <utility>

#include "base/assert.hpp"
#include "engine/back_off.hpp"
#include "engine/deadline_heap.hpp"
#include "engine/death_tally.hpp"
#include "engine/lease_window.hpp"
#include "engine/mutation.hpp"
#include "engine/outcome_of.hpp"
#include "engine/progress.hpp"
#include "engine/record_ring.hpp"
#include "engine/restart_intensity.hpp"
#include "engine/retry.hpp"
#include "engine/stop_ladder.hpp"
#include "engine/task_table.hpp"

namespace drover::engine {

namespace {

/// A small worker's death is proved within a fraction of this after its hint. The keeper that starts the replacement in between
/// tells of the death only afterwards (the start holds it for a millisecond or two); a fat worker's proof takes 100 ms a GiB.
constexpr Nanos kProofPatience = std::chrono::milliseconds(1);

/// How the run stands; a harder word overrides a softer one, never the other way.
enum class Mode : std::uint8_t { running, draining, cancelling, killing, run_deadline, gave_up, host_fault };

struct Worker {
  /// stopping: on the ladder before SIGKILL, publications still count. killed: SIGKILL is out, its death is awaited.
  enum class Phase : std::uint8_t { none, starting, ready, stopping, killed };

  explicit Worker(std::uint32_t window_capacity) : window(window_capacity) {}

  Phase phase = Phase::none;
  bool retiring = false;         ///< gets no more leases; asked to stop when its window is empty
  bool loss_counted = false;     ///< its restart was counted at its death hint
  bool recycle_due = false;
  bool served = false;           ///< it was ready
  bool sample_outstanding = false;
  Incarnation incarnation{};
  std::uint32_t revokes_pending = 0;
  LeaseWindow window;
  LadderRun ladder{};
  TimePoint since{}, ready_at{}, head_since{};
  TimePoint start_deadline = kNever;  ///< while starting
  TimePoint wall_deadline = kNever;   ///< of the head
  TimePoint next_sample = kNever;
  ProgressWatch progress{};
  std::uint64_t completed = 0;
  std::uint64_t rss_base = 0;
  /// Fixed before AskStop or Kill is emitted; the first one wins.
  std::optional<KillReason> reason{};
  /// Whom the reason is about, and its outcome if it is what was running at the death.
  std::optional<TaskId> target{};
  Epoch target_epoch{};
  Outcome verdict{};
};

struct Slot {
  explicit Slot(std::uint32_t window) : places{Worker(window), Worker(window)} {}
  /// `current` serves or will; the other place holds its replacement while that starts, or its predecessor while that ends.
  std::array<Worker, 2> places;
  std::uint32_t current = 0;
  bool retired = false;  ///< an incarnation was unkillable: no further one is started here
  bool enabled = true;   ///< within the operator's worker count
  std::uint32_t failures = 0;  ///< restarts since the last published task
  Incarnation last{};
  TimePoint not_before{};      ///< of the next spawn
  TimePoint hint_believed_at{};  ///< from here on the hinted worker's replacement starts without the proof of its death
  TimePoint since{};

  Worker& serving() { return places[current]; }
  const Worker& serving() const { return places[current]; }
  Worker& other() { return places[1 - current]; }
  const Worker& other() const { return places[1 - current]; }
};

bool alive(const Worker& worker) { return worker.phase != Worker::Phase::none; }

/// Ends that we brought about for a reason that is no failure of a worker.
bool by_design(KillReason reason) {
  switch (reason) {
    using enum KillReason;
    case run:
    case cancelled:
    case recycled:
    case drained:
    case shutdown: return true;
    case death_hint:
    case attempt_wall:
    case attempt_cpu:
    case task_time:
    case stalled:
    case memory:
    case protocol:
    case start_grace: return false;
  }
  std::unreachable();
}

/// Ends for which one task's own hard limit is the reason.
bool by_task_limit(KillReason reason) {
  using enum KillReason;
  return reason == attempt_wall || reason == attempt_cpu || reason == task_time || reason == memory;
}

}  // namespace

std::string_view name_of(KillReason reason) {
  switch (reason) {
    using enum KillReason;
    case death_hint: return "death_hint";
    case attempt_wall: return "attempt_wall";
    case attempt_cpu: return "attempt_cpu";
    case task_time: return "task_time";
    case run: return "run";
    case stalled: return "stalled";
    case memory: return "memory";
    case protocol: return "protocol";
    case cancelled: return "cancelled";
    case recycled: return "recycled";
    case drained: return "drained";
    case start_grace: return "start_grace";
    case shutdown: return "shutdown";
  }
  std::unreachable();
}

std::string_view name_of(SlotView::State state) {
  switch (state) {
    using enum SlotView::State;
    case empty: return "empty";
    case backing_off: return "backing_off";
    case starting: return "starting";
    case idle: return "idle";
    case busy: return "busy";
    case stopping: return "stopping";
    case retired: return "retired";
  }
  std::unreachable();
}

struct Scheduler::Impl {
  explicit Impl(const SchedulerOptions& given)
      : options(given), queue(tasks), jitter(given.seed), restarts(given.intensity), worker_target(given.slots) {
    DROVER_ASSERT(options.slots >= 1, options.slots);
    DROVER_ASSERT(options.window >= 1 && options.window <= 128, options.window);
    slots.reserve(options.slots);
    for (std::uint32_t i = 0; i < options.slots; ++i) slots.emplace_back(options.window + (kMutable ? 8 : 0));
    limits.push_back(TaskLimits{});
    samples_every_worker = options.worker_memory_bytes != 0 || options.recycling.rss_growth_bytes != 0;
  }

#ifdef DROVER_MUTATIONS
  static constexpr bool kMutable = true;
#else
  static constexpr bool kMutable = false;
#endif

  // ---- state ---------------------------------------------------------------------------------------------------------------
  SchedulerOptions options;
  TaskTable tasks;
  TaskQueue queue;
  DeadlineHeap task_deadlines;  // queue and task limits of open, unrecorded tasks
  RecordRing records;           // recorded, not committed
  std::vector<TaskLimits> limits;
  std::map<std::array<std::int64_t, 5>, std::uint16_t> limits_index;
  std::unordered_map<TaskId, Epoch> epochs;           // set before Submit
  std::unordered_map<TaskId, Outcome> last_outcomes;  // of retried tasks
  std::vector<Slot> slots;
  Rng jitter;
  RestartTally restarts;
  DeathTally deaths;
  Counts counts;
  Mode mode = Mode::running;
  bool keeper_up = true;
  bool drained = false;
  bool samples_every_worker = false;
  std::uint32_t worker_target;
  TimePoint now{}, last_commit{};
  TimePoint drain_deadline = kNever;
  TimePoint keeper_deadline = kNever;
  TimePoint steal_deadline = kNever;
  TimePoint next = kNever;
  Nanos excused{};  // time in which nobody looked: the whole supervisor was stopped, its ledger thread with it
  std::vector<Command>* out = nullptr;

  // ---- small words -----------------------------------------------------------------------------------------------------------
  template <class C>
  void emit(C&& command) {
    out->emplace_back(std::forward<C>(command));
  }
  SlotId id_of(const Slot& slot) const { return SlotId(static_cast<std::uint32_t>(&slot - slots.data())); }
  /// Null for a process that is no longer ours to wait for.
  Worker* find(SlotId slot, Incarnation incarnation) {
    if (slot.value >= slots.size() || incarnation.value == 0) return nullptr;
    for (Worker& worker : slots[slot.value].places) {
      if (worker.incarnation == incarnation && alive(worker)) return &worker;
    }
    return nullptr;
  }
  static constexpr std::uint32_t kNotThere = ~std::uint32_t{0};
  std::uint32_t position(const Worker& worker, TaskId task, std::optional<Epoch> epoch = {}) const {
    for (std::uint32_t i = 0; i < worker.window.size(); ++i) {
      const Task& held = tasks[worker.window[i].task];
      if (held.id == task && (!epoch || held.epoch == *epoch)) return i;
    }
    return kNotThere;
  }
  std::uint64_t unrecorded() const { return queue.size() + counts.leased; }
  /// Open tasks end now instead of being tried again.
  bool closing() const { return mode >= Mode::cancelling && mode <= Mode::run_deadline; }
  bool leasing() const { return mode < Mode::cancelling || (DROVER_MUTANT(lease_after_cancel) && mode == Mode::cancelling); }
  const TaskLimits& limits_of(const Task& task) const { return limits[task.limits]; }

  Outcome closing_outcome(bool started) const {
    if (mode == Mode::run_deadline) return outcome::TimedOut{TimeoutKind::run, kUnlimited};
    return outcome::Cancelled{started ? CancelKind::running : CancelKind::queued};
  }

  // ---- ends of tasks ---------------------------------------------------------------------------------------------------------
  RecordNumber record(std::uint32_t i) {
    Task& task = tasks[i];
    DROVER_ASSERT(task.state != Task::State::recorded || DROVER_MUTANT(record_twice) || DROVER_MUTANT(accept_late_results), task.id);
    task.state = Task::State::recorded;
    if (task.limits != 0) task_deadlines.remove(i);
    if (!last_outcomes.empty()) last_outcomes.erase(task.id);
    return records.push(i, now - excused);
  }

  /// The task is in no window and not in the queue.
  void end_task(std::uint32_t i, Outcome outcome, SlotId slot = {}, Incarnation incarnation = {}) {
    ++counts.failed;
    const RecordNumber number = record(i);
    const Task& task = tasks[i];
    emit(command::RecordOutcome{number, task.id, task.epoch, task.attempts, slot, incarnation, std::move(outcome)});
    if (DROVER_MUTANT(deliver_uncommitted)) emit(command::Deliver{task.id});
  }

  void enqueue_front(std::uint32_t i) {
    tasks[i].state = Task::State::queued;
    queue.push_front(i);
  }

  /// Takes a task that was in a worker's window and not started. `cost`: this one pays for a death that nothing else explains.
  void put_back(std::uint32_t i, bool cost) {
    Task& task = tasks[i];
    if (closing()) return end_task(i, closing_outcome(false));
    if (task.cancel_asked) return end_task(i, outcome::Cancelled{CancelKind::queued});
    if (task.time_is_up) return end_task(i, outcome::TimedOut{TimeoutKind::task, limits_of(task).task});
    if (cost) {
      if (task.free >= options.retry.free_max) return end_task(i, outcome::Lost{LossCause::unstarted});
      ++task.free;
      ++counts.retries_free;
    }
    enqueue_front(i);
  }

  void attempt_ended(std::uint32_t i, const Worker& worker, SlotId slot, TimePoint started_at, const Outcome& outcome, bool will_retry) {
    Task& task = tasks[i];
    ++task.attempts;
    ++counts.attempts;
    emit(command::AttemptEnded{task.id, task.epoch, task.attempts, slot, worker.incarnation, outcome, task.leased_at, started_at, now,
                               will_retry});
  }

  /// An attempt that was started ended without a publication. The task has left the window.
  void finish_attempt(std::uint32_t i, const Worker& worker, SlotId slot, Outcome outcome) {
    Task& task = tasks[i];
    AfterAttempt what = after_attempt(outcome, task.effect, {task.blamed, task.free}, options.retry);
    if (DROVER_MUTANT(retry_effectful) && what == AfterAttempt::unknown_effect && !closing()) what = AfterAttempt::retry;
    const RetryClass retry = retry_of(outcome);
    const bool no_more = closing() || task.cancel_asked || task.time_is_up;
    const bool again = what == AfterAttempt::retry && !no_more;
    attempt_ended(i, worker, slot, std::max(task.leased_at, worker.head_since), outcome, again);
    if (retry == RetryClass::blamed) ++task.blamed;
    if (retry == RetryClass::free) ++task.free;
    if (again) {
      ++(retry == RetryClass::blamed ? counts.retries_blamed : counts.retries_free);
      last_outcomes.insert_or_assign(task.id, std::move(outcome));
      return enqueue_front(i);
    }
    switch (what) {
      case AfterAttempt::final: return end_task(i, std::move(outcome), slot, worker.incarnation);
      case AfterAttempt::quarantine:
        ++counts.quarantined;
        emit(command::SaveQuarantined{task.id});
        return end_task(i, outcome::Quarantined{task.blamed}, slot, worker.incarnation);
      case AfterAttempt::unknown_effect: return end_task(i, outcome::UnknownEffect{unknown_because(outcome)}, slot, worker.incarnation);
      case AfterAttempt::retry:
        if (task.time_is_up && !closing()) {
          return end_task(i, outcome::TimedOut{TimeoutKind::task, limits_of(task).task}, slot, worker.incarnation);
        }
        return end_task(i, closing() ? closing_outcome(true) : Outcome(outcome::Cancelled{CancelKind::running}), slot, worker.incarnation);
    }
  }

  // ---- windows ---------------------------------------------------------------------------------------------------------------
  /// Another lease is at the head now, or none.
  void head_changed(Worker& worker) {
    worker.head_since = now;
    worker.wall_deadline = kNever;
    if (worker.window.empty()) {
      worker.next_sample = kNever;
      return;
    }
    const Task& head = tasks[worker.window.head().task];
    if (samples_every_worker && worker.next_sample == kNever) worker.next_sample = after(now, options.sample_period);
    if (head.limits == 0) {
      if (!samples_every_worker) worker.next_sample = kNever;
      return;
    }
    const TaskLimits& limit = limits_of(head);
    if (!DROVER_MUTANT(ignore_wall_limit)) worker.wall_deadline = after(now, limit.attempt_wall);
    worker.progress.begin(now);
    if (!samples_every_worker) worker.next_sample = kNever;
    if (limit.stall != kUnlimited) {
      worker.next_sample = std::min(worker.next_sample, after(now, std::clamp<Nanos>(limit.stall / 4, Millis(1), options.sample_period)));
    }
    if (limit.attempt_cpu != kUnlimited) worker.next_sample = now;  // the base of its CPU time
  }

  void take_out(Worker& worker, std::uint32_t at) {
    if (worker.window[at].revoke_pending) --worker.revokes_pending;
    worker.window.erase(at);
    --counts.leased;
    if (at == 0) head_changed(worker);
  }

  void revoke(Worker& worker, SlotId slot, std::uint32_t at) {
    LeaseEntry& entry = worker.window[at];
    if (entry.revoke_pending) return;
    entry.revoke_pending = true;
    ++worker.revokes_pending;
    const Task& task = tasks[entry.task];
    emit(command::Revoke{slot, worker.incarnation, task.id, task.epoch});
  }
  void revoke_tail(Worker& worker, SlotId slot, std::uint32_t from = 1) {
    for (std::uint32_t i = from; i < worker.window.size(); ++i) {
      if (!worker.window[i].claimed) revoke(worker, slot, i);
    }
  }

  // ---- ends of workers -------------------------------------------------------------------------------------------------------
  void set_reason(Worker& worker, KillReason reason, std::uint32_t target = kNoTask, Outcome verdict = {}) {
    if (worker.reason) return;
    worker.reason = reason;
    if (target == kNoTask) return;
    worker.target = tasks[target].id;
    worker.target_epoch = tasks[target].epoch;
    worker.verdict = std::move(verdict);
  }
  void kill(Worker& worker, SlotId slot, KillReason reason, std::uint32_t target = kNoTask, Outcome verdict = {}) {
    set_reason(worker, reason, target, std::move(verdict));
    if (!worker.ladder.kill(options.ladder, now)) return;
    worker.phase = Worker::Phase::killed;
    worker.since = now;
    ++counts.kills;
    emit(command::Kill{slot, worker.incarnation, *worker.reason});
  }
  /// The ladder from its top; one that is still starting has nothing to finish and is killed.
  void stop(Worker& worker, SlotId slot, KillReason reason, std::uint32_t target = kNoTask, Outcome verdict = {}) {
    if (worker.phase == Worker::Phase::starting) return kill(worker, slot, reason, target, std::move(verdict));
    if (worker.phase != Worker::Phase::ready) return;
    set_reason(worker, reason, target, std::move(verdict));
    if (!worker.ladder.begin(options.ladder, now)) return;
    worker.phase = Worker::Phase::stopping;
    worker.since = now;
    emit(command::AskStop{slot, worker.incarnation});
  }
  template <class F>
  void each_worker(F&& f) {
    for (Slot& slot : slots) {
      for (Worker& worker : slot.places) {
        if (alive(worker)) f(worker, slot, id_of(slot));
      }
    }
  }

  /// The process is gone, or nobody waits for it any more; its leases are settled.
  void release(Worker& worker, Slot& slot) {
    DROVER_ASSERT(worker.window.empty() || DROVER_MUTANT(forget_lease_on_death), worker.window.size());
    worker.window.clear();
    const bool was_current = &worker == &slot.serving();
    worker.phase = Worker::Phase::none;
    worker.retiring = worker.loss_counted = worker.recycle_due = worker.served = worker.sample_outstanding = false;
    worker.revokes_pending = 0;
    worker.ladder = {};
    worker.start_deadline = worker.wall_deadline = worker.next_sample = kNever;
    worker.reason.reset();
    worker.target.reset();
    worker.completed = worker.rss_base = 0;
    slot.since = now;
    const Worker& rest = slot.other();
    if (was_current && alive(rest) && !rest.retiring && rest.phase <= Worker::Phase::ready) slot.current = 1 - slot.current;
  }

  /// What the started task ends with, when its worker ended.
  Outcome ending_of(const Worker& worker, std::uint32_t i, const ExitEvidence& evidence) {
    const Task& task = tasks[i];
    if (worker.reason && *worker.reason != KillReason::death_hint && !DROVER_MUTANT(own_kill_is_lost)) {
      if (worker.target == task.id && worker.target_epoch == task.epoch) return worker.verdict;
      if (closing()) return closing_outcome(true);
      if (task.time_is_up) return outcome::TimedOut{TimeoutKind::task, limits_of(task).task};
      if (task.cancel_asked) return outcome::Cancelled{CancelKind::running};
      if (evidence.how == ExitEvidence::How::keeper_lost) return outcome::Lost{LossCause::keeper};
      return outcome::Lost{LossCause::operator_};
    }
    return outcome_of(evidence);
  }

  struct Settled {
    bool charged = false;               ///< some task was started and paid for it
    bool charged_for_good = false;      ///< ... with an outcome that is never tried again
    std::optional<Outcome> outcome{};   ///< of the charged task
  };

  /// Ends or puts back every lease of a worker that is gone. `started`: position of the task that was running. `in_doubt`:
  /// from the head up to here, effectful tasks may have been started without our knowing.
  Settled settle_leases(Worker& worker, Slot& slot, std::uint32_t started, const ExitEvidence& evidence, std::uint32_t in_doubt) {
    Settled settled;
    const SlotId slot_id = id_of(slot);
    const bool expected = worker.reason && by_design(*worker.reason);
    if (DROVER_MUTANT(charge_unstarted) && started == kNotThere && !worker.window.empty()) started = 0;
    Outcome outcome;
    if (started != kNotThere) {
      const std::uint32_t i = worker.window[started].task;
      Task& task = tasks[i];
      outcome = ending_of(worker, i, evidence);
      const auto* const lost = std::get_if<outcome::Lost>(&outcome);
      if (lost != nullptr && lost->cause == LossCause::killed && !closing()) {
        if (count_loss(task.id)) ++task.lonely_kills;
        if (task.lonely_kills >= 3) outcome = attributed_kill();
      }
      settled.charged = true;
      settled.charged_for_good = retry_of(outcome) == RetryClass::never;
      settled.outcome = outcome;
    } else if (!worker.reason && evidence.how == ExitEvidence::How::signalled && evidence.code_or_signal == SIGKILL) {
      count_loss(std::nullopt);
    }
    // Last first, each to the front of the queue: they keep their order.
    while (!worker.window.empty()) {
      const std::uint32_t at = worker.window.size() - 1;
      const std::uint32_t i = worker.window[at].task;
      worker.window.erase(at);
      --counts.leased;
      if (at == started) {
        finish_attempt(i, worker, slot_id, outcome);
      } else if (at < in_doubt && tasks[i].effect == EffectClass::effectful) {
        finish_attempt(i, worker, slot_id, ending_of(worker, i, evidence));
      } else if (DROVER_MUTANT(forget_lease_on_death)) {
        continue;
      } else {
        put_back(i, started == kNotThere && !expected && at == 0);
      }
    }
    worker.revokes_pending = 0;
    return settled;
  }

  bool count_loss(std::optional<TaskId> task) {
    return deaths.lost(now, task, [this](TaskId other) {
      if (const std::uint32_t i = tasks.find(other); i != kNoTask && tasks[i].lonely_kills > 0) --tasks[i].lonely_kills;
    });
  }

  void note_failure(Slot& slot, bool start_failed, std::string_view evidence) {
    if (mode >= Mode::cancelling) return;
    ++slot.failures;
    slot.not_before = after(now, delay_before(slot.failures, options.back_off, jitter));
    const bool nothing_to_do = mode == Mode::draining && unrecorded() == 0;
    if (restarts.restart(now, start_failed) && !nothing_to_do) {
      give_up(start_failed && restarts.starts_failed() > options.intensity.restarts
                  ? fmt::format("{} starts failed in a row; the last: {}", restarts.starts_failed(), evidence)
                  : fmt::format("{} restarts within {} without one completed task; the last: {}", restarts.recent(),
                                text_of(options.intensity.period), evidence));
    }
  }

  // ---- events ----------------------------------------------------------------------------------------------------------------
  void on(const event::Submit& e) {
    const std::uint32_t i = tasks.insert(e.task);
    Task& task = tasks[i];
    DROVER_ASSERT(e.limits < limits.size(), e.limits, limits.size());
    task.effect = e.effect;
    task.limits = e.limits;
    task.submitted_at = now;
    ++counts.submitted;
    if (!epochs.empty()) {
      if (const auto known = epochs.find(e.task); known != epochs.end()) {
        task.epoch = known->second;
        epochs.erase(known);
      }
    }
    if (mode != Mode::running) {
      if (mode == Mode::host_fault) return;  // nothing can be recorded any more
      return end_task(i, outcome::Rejected{RejectKind::closing});
    }
    queue.push_back(i);
    if (task.limits != 0) {
      const TaskLimits& limit = limits_of(task);
      task_deadlines.set(i, std::min(after(now, limit.queue), after(now, limit.task)));
    }
  }

  void on(const event::CancelTask& e) {
    const std::uint32_t i = tasks.find(e.task);
    if (i == kNoTask || tasks[i].state == Task::State::recorded || mode >= Mode::gave_up) return;
    Task& task = tasks[i];
    if (task.state == Task::State::queued) {
      queue.remove(i);
      return end_task(i, outcome::Cancelled{CancelKind::queued});
    }
    task.cancel_asked = true;
    ask_back(i);
  }

  /// A leased task is to end: if its worker has not begun it, it is simply taken back.
  void ask_back(std::uint32_t i) {
    const Task& task = tasks[i];
    Worker* const worker = find(SlotId(task.slot), task.incarnation);
    DROVER_ASSERT(worker != nullptr, task.id, task.slot, task.incarnation);
    const std::uint32_t at = position(*worker, task.id, task.epoch);
    DROVER_ASSERT(at != kNotThere, task.id);
    revoke(*worker, SlotId(task.slot), at);
  }

  void on(const event::Revoked& e) {
    Worker* const worker = find(e.slot, e.incarnation);
    if (worker == nullptr) return;
    const std::uint32_t at = position(*worker, e.task, e.epoch);
    if (at == kNotThere) return;
    const std::uint32_t i = worker->window[at].task;
    if (e.taken_back) {  // asked for, or the lease could not be handed over
      take_out(*worker, at);
      ++counts.revoked;
      return put_back(i, false);
    }
    if (!worker->window[at].revoke_pending) return;
    worker->window[at].revoke_pending = false;
    worker->window[at].claimed = true;
    --worker->revokes_pending;
    const Task& task = tasks[i];
    if (task.time_is_up) {
      kill(*worker, e.slot, KillReason::task_time, i, outcome::TimedOut{TimeoutKind::task, limits_of(task).task});
    } else if (task.cancel_asked && worker->phase == Worker::Phase::ready) {
      stop(*worker, e.slot, KillReason::cancelled, i, outcome::Cancelled{CancelKind::running});
      revoke_tail(*worker, e.slot);  // the others need not wait for the ladder
    }
  }

  void on(const event::Ready& e) {
    Worker* const worker = find(e.slot, e.incarnation);
    if (worker == nullptr || worker->phase != Worker::Phase::starting) return;
    worker->phase = Worker::Phase::ready;
    worker->served = true;
    worker->start_deadline = kNever;
    worker->since = worker->ready_at = worker->head_since = now;
    restarts.ready();
    Slot& slot = slots[e.slot.value];
    if (worker == &slot.serving()) return;
    // The replacement serves from here on; the old one finishes its head and goes.
    Worker& old = slot.serving();
    slot.current = 1 - slot.current;
    old.retiring = true;
    ++counts.recycled;
    if (old.phase == Worker::Phase::ready) revoke_tail(old, e.slot);
  }

  void on(const event::SpawnFailed& e) {
    Worker* const worker = find(e.slot, e.incarnation);
    if (worker == nullptr) return;
    Slot& slot = slots[e.slot.value];
    release(*worker, slot);
    note_failure(slot, true, text_of(Outcome(outcome::StartFailed{e.step, e.errno_value})));
  }

  void on(const event::Published& e) {
    Worker* const worker = find(e.slot, e.incarnation);
    std::uint32_t at = kNotThere;
    if (worker != nullptr && !worker->window.empty()) {
      const Task& head = tasks[worker->window.head().task];
      at = head.id == e.task && head.epoch == e.epoch ? 0 : position(*worker, e.task, e.epoch);
    }
    if (at == kNotThere) return late(e);
    const std::uint32_t i = worker->window[at].task;
    Task& task = tasks[i];
    const TimePoint started_at = worker->head_since;
    take_out(*worker, at);
    ++worker->completed;
    Slot& slot = slots[e.slot.value];
    slot.failures = 0;
    restarts.completed();
    publish(i, task, *worker, e, started_at);
  }

  void publish(std::uint32_t i, Task& task, const Worker& worker, const event::Published& e, TimePoint started_at) {
    if (e.app_error) {
      attempt_ended(i, worker, e.slot, started_at, outcome::AppError{}, false);
      return end_task(i, outcome::AppError{}, e.slot, e.incarnation);
    }
    ++task.attempts;
    ++counts.attempts;
    ++counts.completed;
    const RecordNumber number = record(i);
    emit(command::RecordCompleted{number, task.id, task.epoch, task.attempts, e.slot, e.incarnation});
    if (DROVER_MUTANT(deliver_uncommitted)) emit(command::Deliver{task.id});
  }

  void late(const event::Published& e) {
    ++counts.late_discarded;
    if constexpr (kMutable) {
      const std::uint32_t i = tasks.find(e.task);
      if (i == kNoTask) return;
      Task& task = tasks[i];
      if (DROVER_MUTANT(record_twice) && task.state == Task::State::recorded) {
        emit(command::RecordCompleted{record(i), task.id, e.epoch, 1, e.slot, e.incarnation});
      }
      if (DROVER_MUTANT(accept_late_results) && task.state != Task::State::recorded && mode < Mode::gave_up) {
        if (task.state == Task::State::queued) queue.remove(i);
        emit(command::RecordCompleted{record(i), task.id, e.epoch, 1, e.slot, e.incarnation});
      }
    }
  }

  void on(const event::DeathHint& e) {
    Worker* const worker = find(e.slot, e.incarnation);
    if (worker == nullptr || worker->phase == Worker::Phase::killed) return;
    Slot& slot = slots[e.slot.value];
    const bool starting = worker->phase == Worker::Phase::starting;
    const bool expected = worker->phase == Worker::Phase::stopping;
    kill(*worker, e.slot, KillReason::death_hint);
    if (expected) return;
    worker->loss_counted = true;
    slot.hint_believed_at = after(now, kProofPatience);
    note_failure(slot, starting, "a death hint");
  }

  void on(const event::ProtocolBroken& e) {
    Worker* const worker = find(e.slot, e.incarnation);
    if (worker == nullptr) return;
    const std::uint32_t at = e.started ? position(*worker, *e.started) : kNotThere;
    kill(*worker, e.slot, KillReason::protocol, at == kNotThere ? kNoTask : worker->window[at].task, outcome::ProtocolBroken{e.what});
  }

  void on(const event::Died& e) {
    Worker* const worker = find(e.slot, e.incarnation);
    if (worker == nullptr) return;
    ++counts.deaths;
    Slot& slot = slots[e.slot.value];
    std::optional<TaskId> running = e.started;
    // A worker that lied on its channel may lie about what it had begun: the reader saw it before.
    if (worker->reason == KillReason::protocol && worker->target) running = worker->target;
    const std::uint32_t started = running ? position(*worker, *running) : kNotThere;
    bury(*worker, slot, started, e.evidence, 0);
  }

  void bury(Worker& worker, Slot& slot, std::uint32_t started, const ExitEvidence& evidence, std::uint32_t in_doubt) {
    const bool starting = !worker.served;
    const std::optional<KillReason> reason = worker.reason;
    const bool counted_before = worker.loss_counted;
    const Settled settled = settle_leases(worker, slot, started, evidence, in_doubt);
    release(worker, slot);
    if (counted_before || (reason && by_design(*reason)) || settled.charged_for_good) return;
    if (reason && by_task_limit(*reason) && settled.charged) return;
    if (starting) {
      const Outcome failure = reason == KillReason::start_grace ? Outcome(outcome::StartFailed{"ready", ETIMEDOUT}) : Outcome(start_failure_of(evidence));
      return note_failure(slot, true, text_of(failure));
    }
    note_failure(slot, false, text_of(settled.outcome ? *settled.outcome : outcome_of(evidence)));
  }

  void on(const event::Sampled& e) {
    Worker* const worker = find(e.slot, e.incarnation);
    if (worker == nullptr) return;
    worker->sample_outstanding = false;
    if (worker->phase == Worker::Phase::killed || worker->phase == Worker::Phase::starting || worker->window.empty()) {
      worker->next_sample = kNever;
      return;
    }
    if (options.worker_memory_bytes != 0 && e.rss_bytes > options.worker_memory_bytes) {
      const std::uint32_t at = e.started ? position(*worker, *e.started) : kNotThere;
      return kill(*worker, e.slot, KillReason::memory, at == kNotThere ? kNoTask : worker->window[at].task,
                  outcome::OutOfMemory{options.worker_memory_bytes, e.rss_bytes, true});
    }
    if (options.recycling.rss_growth_bytes != 0) {
      if (worker->rss_base == 0) worker->rss_base = e.rss_bytes;
      if (e.rss_bytes > worker->rss_base && e.rss_bytes - worker->rss_base > options.recycling.rss_growth_bytes) worker->recycle_due = true;
    }
    worker->next_sample = samples_every_worker ? after(now, options.sample_period) : kNever;
    const std::uint32_t i = worker->window.head().task;
    const Task& head = tasks[i];
    const TaskLimits& limit = limits_of(head);
    if (limit.attempt_cpu == kUnlimited && limit.stall == kUnlimited) return;
    Nanos wait = options.sample_period;
    if (!e.started || *e.started == head.id) {  // else it was taken while another one ran
      worker->progress.take(now, {e.progress, e.cpu, e.stopped});
      if (e.started && worker->progress.cpu_used() >= limit.attempt_cpu) {
        return kill(*worker, e.slot, KillReason::attempt_cpu, i, outcome::TimedOut{TimeoutKind::attempt_cpu, limit.attempt_cpu});
      }
      if (const auto how = worker->progress.stalled(now, limit.stall)) {
        return kill(*worker, e.slot, KillReason::stalled, i, outcome::Stalled{*how, worker->progress.silence(now)});
      }
      // CPU time rises no faster than the clock (one thread); come back when it could be over.
      if (limit.attempt_cpu != kUnlimited) wait = std::min(wait, limit.attempt_cpu - worker->progress.cpu_used());
      if (limit.stall != kUnlimited) wait = std::min(wait, limit.stall - worker->progress.silence(now));
    }
    worker->next_sample = std::min(worker->next_sample, after(now, std::max<Nanos>(wait, Millis(1))));
  }

  void on(const event::KeeperLost&) {
    if (keeper_up) keeper_deadline = after(now, options.start_grace);
    keeper_up = false;
    count_loss(std::nullopt);
    const ExitEvidence evidence{.how = ExitEvidence::How::keeper_lost};
    each_worker([&](Worker& worker, Slot& slot, SlotId) {
      ++counts.deaths;
      // Rings are drained: what is at the head was running, unless it was being asked back; then it may be the one behind it.
      std::uint32_t in_doubt = 0;
      while (in_doubt < worker.window.size() && worker.window[in_doubt].revoke_pending) ++in_doubt;
      settle_leases(worker, slot, worker.window.empty() ? kNotThere : 0, evidence, in_doubt + 1);
      release(worker, slot);
      slot.not_before = now;
    });
    if (mode < Mode::cancelling && restarts.restart(now, false)) give_up("the keeper was lost again and again without one completed task");
  }
  void on(const event::KeeperReady&) {
    keeper_up = true;
    keeper_deadline = kNever;
  }

  void on(const event::Committed& e) {
    DROVER_ASSERT(e.upto <= records.last_number(), e.upto, records.last_number());
    if (!records.empty() && records.oldest_number() <= e.upto) last_commit = now;
    while (!records.empty() && records.oldest_number() <= e.upto) {
      const std::uint32_t i = records.pop().task;
      const Task& task = tasks[i];
      if (!DROVER_MUTANT(deliver_uncommitted)) emit(command::Deliver{task.id});
      if (DROVER_MUTANT(deliver_twice) && (task.id.value & 63) == 7) emit(command::Deliver{task.id});
      ++counts.delivered;
      if (!DROVER_MUTANT(record_twice) || tasks.find(task.id) == i) tasks.erase(i);
    }
  }
  void on(const event::CommitFailed& e) { host_fault("ledger: " + e.what); }

  void on(const event::WorkerCount& e) {
    worker_target = std::clamp<std::uint32_t>(e.slots, 1, options.slots);
  }

  void on(const event::Drain& e) {
    if (mode > Mode::draining) return;
    mode = Mode::draining;
    drain_deadline = std::min(drain_deadline, e.deadline);
  }
  void on(const event::Cancel&) { close(Mode::cancelling); }
  void on(const event::KillAll&) { close(Mode::killing); }
  void on(const event::RunDeadline&) {
    if (!DROVER_MUTANT(skip_run_deadline)) close(Mode::run_deadline);
  }

  void close(Mode harder) {
    if (harder > mode) {
      mode = harder;
      while (!queue.empty()) end_task(queue.pop_front(), closing_outcome(false));
    }
    each_worker([&](Worker& worker, Slot&, SlotId id) {
      switch (harder) {
        case Mode::cancelling: return stop(worker, id, KillReason::cancelled);
        case Mode::killing: return kill(worker, id, KillReason::shutdown);
        case Mode::run_deadline: return kill(worker, id, KillReason::run);
        case Mode::running:
        case Mode::draining:
        case Mode::gave_up:
        case Mode::host_fault: return kill(worker, id, KillReason::shutdown);
      }
    });
  }

  /// Every open task is recorded with what is known, every worker killed.
  void give_up(std::string evidence) {
    if (mode >= Mode::gave_up) return;
    each_worker([&](Worker& worker, Slot&, SlotId id) {
      kill(worker, id, KillReason::shutdown);
      while (!worker.window.empty()) {
        const std::uint32_t at = worker.window.size() - 1;
        const std::uint32_t i = worker.window[at].task;
        worker.window.erase(at);
        --counts.leased;
        // It may be running: nothing later that it says will count, and an effectful one must never be tried again.
        if (at == 0 || tasks[i].effect == EffectClass::effectful) {
          const Outcome lost = outcome::Lost{LossCause::operator_};
          attempt_ended(i, worker, id, std::max(tasks[i].leased_at, worker.head_since), lost, false);
          end_task(i, tasks[i].effect == EffectClass::effectful ? Outcome(outcome::UnknownEffect{LossCause::operator_}) : lost, id,
                   worker.incarnation);
        } else {
          end_task(i, final_word(i, outcome::StartFailed{"gave up: " + evidence, 0}));
        }
      }
      worker.revokes_pending = 0;
      worker.wall_deadline = worker.next_sample = kNever;
    });
    while (!queue.empty()) {
      const std::uint32_t i = queue.pop_front();
      end_task(i, final_word(i, outcome::StartFailed{"gave up: " + evidence, 0}));
    }
    mode = Mode::gave_up;
    emit(command::GaveUp{std::move(evidence)});
  }
  /// The outcome of the task's last attempt if it had one.
  Outcome final_word(std::uint32_t i, Outcome otherwise) const {
    const auto known = last_outcomes.find(tasks[i].id);
    return known != last_outcomes.end() ? known->second : std::move(otherwise);
  }

  /// Nothing more can be recorded: leases lapse, workers are killed, nobody waits for the ledger. What was committed is delivered.
  void host_fault(std::string step) {
    if (mode == Mode::host_fault) return;
    mode = Mode::host_fault;
    emit(command::HostFault{std::move(step)});
    each_worker([&](Worker& worker, Slot&, SlotId id) {
      kill(worker, id, KillReason::shutdown);
      while (!worker.window.empty()) {
        const std::uint32_t at = worker.window.size() - 1;
        const std::uint32_t i = worker.window[at].task;
        worker.window.erase(at);
        --counts.leased;
        enqueue_front(i);
      }
      worker.revokes_pending = 0;
      worker.wall_deadline = worker.next_sample = kNever;
    });
  }

  // ---- time ------------------------------------------------------------------------------------------------------------------
  void pass_time() {
    while (task_deadlines.earliest() <= now && mode < Mode::gave_up) task_deadline_passed(task_deadlines.earliest_key());
    each_worker([&](Worker& worker, Slot& slot, SlotId id) {
      if (worker.phase == Worker::Phase::starting && worker.start_deadline <= now) kill(worker, id, KillReason::start_grace);
      if ((worker.phase == Worker::Phase::ready || worker.phase == Worker::Phase::stopping) && worker.wall_deadline <= now) {
        const std::uint32_t head = worker.window.head().task;
        kill(worker, id, KillReason::attempt_wall, head, outcome::TimedOut{TimeoutKind::attempt_wall, limits_of(tasks[head]).attempt_wall});
      }
      if (worker.next_sample <= now && !worker.sample_outstanding && worker.phase != Worker::Phase::killed) {
        worker.sample_outstanding = true;
        emit(command::Sample{id, worker.incarnation});
      }
      climb(worker, slot, id);
    });
    if (drain_deadline <= now && mode == Mode::draining) close(Mode::cancelling);
    if (keeper_deadline <= now && mode < Mode::cancelling) give_up("the keeper did not come back within " + text_of(options.start_grace));
    if (!records.empty() && mode != Mode::host_fault && ledger_due() <= now &&
        !DROVER_MUTANT(wait_for_ledger_for_ever)) {
      host_fault("ledger: no commit within " + text_of(options.ledger_deadline));
    }
  }

  /// When the oldest uncommitted record is too old. A stopped and continued supervisor is not the ledger's fault.
  /// Nor is a ledger dead that committed something since, until the run is being ended.
  TimePoint ledger_due() const {
    const TimePoint oldest = records.oldest().at + excused;
    return after(mode < Mode::cancelling ? std::max(oldest, last_commit) : oldest, options.ledger_deadline);
  }

  void climb(Worker& worker, Slot& slot, SlotId id) {
    if (DROVER_MUTANT(never_kill) && worker.ladder.rung() == Rung::termed) return;
    switch (worker.ladder.advance(options.ladder, now)) {
      case Rung::idle:
      case Rung::asked: return;
      case Rung::termed: emit(command::Terminate{id, worker.incarnation}); return;
      case Rung::killed:
        worker.phase = Worker::Phase::killed;
        worker.since = now;
        ++counts.kills;
        emit(command::Kill{id, worker.incarnation, *worker.reason});
        return;
      case Rung::abandoned: return abandon(worker, slot, id);
    }
  }

  /// Unkillable: KILL was not enough within its grace.
  void abandon(Worker& worker, Slot& slot, SlotId id) {
    emit(command::RetireSlot{id, worker.incarnation});
    if (!slot.retired) ++counts.retired_slots;
    slot.retired = true;
    const std::uint32_t all = worker.window.size();
    const ExitEvidence evidence{.how = ExitEvidence::How::signalled, .code_or_signal = SIGKILL};
    settle_leases(worker, slot, all == 0 ? kNotThere : 0, evidence, all);
    release(worker, slot);
  }

  void task_deadline_passed(std::uint32_t i) {
    Task& task = tasks[i];
    const TaskLimits& limit = limits_of(task);
    task_deadlines.remove(i);
    const bool task_time = after(task.submitted_at, limit.task) <= now;
    if (task.state == Task::State::queued) {
      queue.remove(i);
      return end_task(i, task_time ? outcome::TimedOut{TimeoutKind::task, limit.task} : outcome::TimedOut{TimeoutKind::queue, limit.queue});
    }
    DROVER_ASSERT(task_time, task.id);  // the queue's deadline is gone with the first lease
    task.time_is_up = true;
    ask_back(i);
  }

  // ---- what to do now ----------------------------------------------------------------------------------------------------------
  bool serves(const Slot& slot) const {
    const Worker& worker = slot.serving();
    return worker.phase == Worker::Phase::ready && !worker.retiring && slot.enabled;
  }

  void arrange() {
    steal_deadline = kNever;
    if (mode < Mode::cancelling && counts.retired_slots >= slots.size() && (mode == Mode::running || unrecorded() > 0) &&
        std::ranges::all_of(slots, [](const Slot& s) { return s.retired && !alive(s.places[0]) && !alive(s.places[1]); })) {
      give_up("no slot is left: every worker was unkillable");
    }
    std::uint32_t usable = 0;   // slots that may have workers
    std::uint32_t living = 0;   // workers that serve or will
    std::uint32_t held = 0;     // leases of those that serve
    bool wants_recycling = false;
    for (Slot& slot : slots) {
      if (!slot.retired) slot.enabled = usable++ < worker_target;
      Worker& worker = slot.serving();
      if (!slot.enabled) {
        if (worker.phase == Worker::Phase::starting) kill(worker, id_of(slot), KillReason::recycled);
        if (worker.phase == Worker::Phase::ready && !worker.retiring) {
          worker.retiring = true;
          revoke_tail(worker, id_of(slot));
        }
        if (alive(slot.other()) && slot.other().phase == Worker::Phase::starting) kill(slot.other(), id_of(slot), KillReason::recycled);
      }
      for (Worker& place : slot.places) {
        if (place.retiring && place.phase == Worker::Phase::ready && place.window.empty()) stop(place, id_of(slot), KillReason::recycled);
      }
      if (serves(slot)) held += worker.window.size();
      if (serves(slot) || (slot.enabled && worker.phase == Worker::Phase::starting)) ++living;
      wants_recycling |= serves(slot) && !worker.window.empty() && recycling_due(worker);
    }
    if (mode >= Mode::draining && unrecorded() == 0) {
      const KillReason why = mode == Mode::draining ? KillReason::drained : KillReason::shutdown;
      each_worker([&](Worker& worker, Slot&, SlotId id) { stop(worker, id, why); });
    }
    if (leasing() && living != 0 && !queue.empty()) lease(living, held);
    if (mode <= Mode::draining || (DROVER_MUTANT(respawn_after_give_up) && mode == Mode::gave_up)) {
      spawn(living, wants_recycling);
      steal();
    }
    if (mode >= Mode::draining && !drained && (tasks.size() == 0 || mode == Mode::host_fault)) {
      bool any = false;
      each_worker([&](Worker&, Slot&, SlotId) { any = true; });
      if (!any) {
        drained = true;
        emit(command::Drained{});
      }
    }
  }

  /// Fills the windows evenly: a worker holds at most its share of what is open.
  void lease(std::uint32_t living, std::uint32_t held) {
    const std::uint64_t open = queue.size() + held;
    auto share = static_cast<std::uint32_t>(std::min<std::uint64_t>((open + living - 1) / living, options.window));
    if (DROVER_MUTANT(lease_beyond_window)) ++share;
    // Enough for everybody: fill each window in turn. Otherwise the emptiest first, one lease at a time, so that what was taken
    // back for an idle worker does not return to the busy one.
    std::uint64_t room = 0;
    for (const Slot& slot : slots) {
      if (serves(slot) && slot.serving().window.size() < share) room += share - slot.serving().window.size();
    }
    const bool plenty = queue.size() >= room;
    for (std::uint32_t level = plenty ? share : 1; level <= share; ++level) {
      for (Slot& slot : slots) {
        if (!serves(slot) && !(DROVER_MUTANT(lease_after_cancel) && slot.serving().phase == Worker::Phase::stopping)) continue;
        while (slot.serving().window.size() < level) {
          if (queue.empty()) return;
          lease_next(slot.serving(), id_of(slot));
        }
      }
    }
  }
  void lease_next(Worker& worker, SlotId id) {
    const std::uint32_t i = queue.pop_front();
    Task& task = tasks[i];
    task.state = Task::State::leased;
    task.epoch = task.epoch.next();
    task.slot = id.value;
    task.incarnation = worker.incarnation;
    task.leased_at = now;
    if (task.limits != 0) task_deadlines.set(i, after(task.submitted_at, limits_of(task).task));
    worker.window.push(i);
    ++counts.leased;
    emit(command::Lease{id, worker.incarnation, task.id, task.epoch});
    if (worker.window.size() == 1) head_changed(worker);
  }

  bool recycling_due(const Worker& worker) const {
    const Recycling& policy = options.recycling;
    return worker.recycle_due || (policy.tasks != 0 && worker.completed >= policy.tasks) ||
           (policy.age != kUnlimited && now - worker.ready_at >= policy.age);
  }

  /// Whether an empty slot is to be filled as soon as its back-off allows.
  bool wanted(std::uint32_t living) const {
    if (mode == Mode::running && options.spawn_at_once) return true;
    if (DROVER_MUTANT(respawn_after_give_up) && mode == Mode::gave_up) return true;
    return living < unrecorded();
  }

  /// Its worker was hinted to be dead and holds the slot's place until that is proved or believed.
  static bool awaits_proof(const Slot& slot) {
    return slot.serving().phase == Worker::Phase::killed && slot.serving().reason == KillReason::death_hint && !alive(slot.other());
  }

  void spawn(std::uint32_t living, bool wants_recycling) {
    if (!keeper_up) return;
    for (Slot& slot : slots) {
      if (slot.retired || !slot.enabled) continue;
      // A hinted worker is all but dead: its replacement starts while the kernel still takes its memory apart.
      if (awaits_proof(slot) && now >= slot.hint_believed_at) slot.current = 1 - slot.current;
      if (!alive(slot.serving())) {
        if (!wanted(living) || now < slot.not_before) continue;
        begin(slot.serving(), slot);
        ++living;
      } else if (wants_recycling && serves(slot) && !slot.serving().window.empty() && recycling_due(slot.serving()) && !alive(slot.other()) &&
                 now >= slot.not_before) {
        begin(slot.other(), slot);
      }
    }
  }
  void begin(Worker& worker, Slot& slot) {
    slot.last = slot.last.next();
    worker.incarnation = slot.last;
    worker.phase = Worker::Phase::starting;
    worker.since = now;
    worker.start_deadline = after(now, options.start_grace);
    ++counts.spawns;
    emit(command::Spawn{id_of(slot), worker.incarnation});
  }

  /// An idle worker and an empty queue: the tail half of the longest window comes back, its head never.
  void steal() {
    if (!queue.empty() || counts.leased < 2) return;
    for (const Slot& thief : slots) {
      if (!serves(thief) || !thief.serving().window.empty()) continue;
      Slot* victim = nullptr;
      for (Slot& slot : slots) {
        const Worker& worker = slot.serving();
        if (worker.phase != Worker::Phase::ready || worker.window.size() < 2 || worker.revokes_pending != 0) continue;
        if (worker.window[worker.window.size() - 1].claimed) continue;  // all before it is done, only not read yet
        if (const TimePoint from = after(worker.head_since, options.steal_after); from > now) {
          steal_deadline = std::min(steal_deadline, from);
          continue;
        }
        if (victim == nullptr || worker.window.size() > victim->serving().window.size()) victim = &slot;
      }
      if (victim == nullptr) return;
      Worker& worker = victim->serving();
      revoke_tail(worker, id_of(*victim), worker.window.size() - worker.window.size() / 2);
    }
  }

  TimePoint earliest_deadline() {
    if (drained) return kNever;
    TimePoint at = std::min(steal_deadline, mode < Mode::gave_up ? task_deadlines.earliest() : kNever);
    std::uint32_t living = 0;
    for (const Slot& slot : slots) {
      for (const Worker& worker : slot.places) {
        if (!alive(worker)) continue;
        at = std::min(at, worker.ladder.deadline());
        if (worker.phase == Worker::Phase::starting) at = std::min(at, worker.start_deadline);
        if (worker.phase == Worker::Phase::killed) continue;
        at = std::min(at, worker.wall_deadline);
        if (!worker.sample_outstanding) at = std::min(at, worker.next_sample);
      }
      if (serves(slot) || (slot.enabled && slot.serving().phase == Worker::Phase::starting)) ++living;
    }
    if (mode <= Mode::draining && keeper_up) {
      for (const Slot& slot : slots) {
        if (slot.retired || !slot.enabled || !wanted(living)) continue;
        if (!alive(slot.serving())) at = std::min(at, slot.not_before);
        else if (awaits_proof(slot)) at = std::min(at, slot.hint_believed_at);
      }
    }
    if (mode == Mode::draining) at = std::min(at, drain_deadline);
    if (mode < Mode::cancelling) at = std::min(at, keeper_deadline);
    if (!records.empty() && mode != Mode::host_fault) at = std::min(at, ledger_due());
    return at;
  }
};

Scheduler::Scheduler(const SchedulerOptions& options) : impl_(std::make_unique<Impl>(options)) {}
Scheduler::~Scheduler() = default;
Scheduler::Scheduler(Scheduler&&) noexcept = default;
Scheduler& Scheduler::operator=(Scheduler&&) noexcept = default;

std::uint16_t Scheduler::add_limits(const TaskLimits& limits) {
  if (limits == TaskLimits{}) return 0;
  const std::array<std::int64_t, 5> key{limits.queue.count(), limits.attempt_wall.count(), limits.attempt_cpu.count(), limits.task.count(),
                                        limits.stall.count()};
  const auto [known, inserted] = impl_->limits_index.try_emplace(key, static_cast<std::uint16_t>(impl_->limits.size()));
  if (inserted) {
    DROVER_ASSERT(impl_->limits.size() <= 65535, impl_->limits.size());
    impl_->limits.push_back(limits);
  }
  return known->second;
}

void Scheduler::set_epoch(TaskId task, Epoch highest_used) { impl_->epochs.insert_or_assign(task, highest_used); }

void Scheduler::step(TimePoint now, std::span<const Event> events, std::vector<Command>& commands) {
  Impl& s = *impl_;
  const TimePoint last = std::exchange(s.now, std::max(s.now, now));
  if (s.next != kNever && s.now - s.next > s.options.ledger_deadline / 4) s.excused += s.now - last;
  s.out = &commands;
  for (const Event& e : events) {
    if (const auto* const published = std::get_if<event::Published>(&e)) {
      s.on(*published);
    } else {
      std::visit([&](const auto& known) { s.on(known); }, e);
    }
  }
  s.pass_time();
  s.arrange();
  s.counts.queued = s.queue.size();
  s.next = s.earliest_deadline();
  s.out = nullptr;
}

TimePoint Scheduler::next_deadline() const { return impl_->next; }
const Counts& Scheduler::counts() const { return impl_->counts; }
std::uint32_t Scheduler::open_tasks() const { return impl_->tasks.size(); }
bool Scheduler::accepting() const { return impl_->mode == Mode::running; }

SlotView Scheduler::slot(SlotId id) const {
  DROVER_ASSERT(id.value < impl_->slots.size(), id);
  const Slot& slot = impl_->slots[id.value];
  const Worker& worker = slot.serving();
  SlotView view;
  view.incarnation = worker.incarnation;
  view.leases = worker.window.size();
  view.completed = worker.completed;
  view.since = alive(worker) ? worker.since : slot.since;
  if (!worker.window.empty()) {
    const Task& task = impl_->tasks[worker.window.head().task];
    view.head = task.id;
    view.attempt = task.attempts + 1;
  }
  using enum SlotView::State;
  switch (worker.phase) {
    case Worker::Phase::none: view.state = slot.retired ? retired : impl_->now < slot.not_before ? backing_off : empty; break;
    case Worker::Phase::starting: view.state = starting; break;
    case Worker::Phase::ready: view.state = worker.window.empty() ? idle : busy; break;
    case Worker::Phase::stopping:
    case Worker::Phase::killed: view.state = stopping; break;
  }
  return view;
}

}  // namespace drover::engine
