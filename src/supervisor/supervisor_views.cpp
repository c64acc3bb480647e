/// What others may see of a running supervisor: PoolStatus, the live page, metrics, event lines.
#include <algorithm>
#include <unistd.h>

#include "os/process_stats.hpp"
#include "supervisor/control_server.hpp"
#include "supervisor/supervisor.hpp"

namespace drover {
namespace {
constexpr Nanos kViewPeriod = Millis(100);

store::LiveSlotState live_state(engine::SlotView::State s) {
  using engine::SlotView;
  switch (s) {
    case SlotView::State::empty: return store::LiveSlotState::empty;
    case SlotView::State::backing_off: return store::LiveSlotState::backing_off;
    case SlotView::State::starting: return store::LiveSlotState::starting;
    case SlotView::State::idle: return store::LiveSlotState::idle;
    case SlotView::State::busy: return store::LiveSlotState::busy;
    case SlotView::State::stopping: return store::LiveSlotState::stopping;
    case SlotView::State::retired: return store::LiveSlotState::retired;
  }
  return store::LiveSlotState::empty;
}

store::LiveProcess process_of(pid_t pid) {
  if (pid <= 0) return {};
  auto start = start_time_ticks(pid);
  return {pid, start ? *start : 0};
}
}  // namespace

void Supervisor::event_line(TimePoint now, std::string_view kind, std::string_view cause, std::optional<SlotId> slot, std::optional<Incarnation> incarnation,
                            std::optional<TaskId> task, std::optional<Epoch> epoch) {
  if (job_ && job_->events) job_->events->add({now, kind, cause, slot, incarnation, task, epoch});
}

void Supervisor::count_fault(const Outcome& outcome) {
  const std::string_view name = drover::name_of(outcome);
  auto& faults = summary_.faults_by_kind;
  const auto it = std::find_if(faults.begin(), faults.end(), [&](const auto& f) { return f.first == name; });
  if (it != faults.end()) ++it->second;
  else faults.emplace_back(name, 1);
}

void Supervisor::set_workload_line(std::string line, std::uint64_t total) {
  workload_line_ = std::move(line);
  tasks_total_ = total;
  view_dirty_ = true;
}

void Supervisor::publish_views(TimePoint now, bool force) {
  const engine::Counts& c = scheduler_->counts();
  if (c.attempts != counts_at_view_.attempts || c.submitted != counts_at_view_.submitted || c.delivered != counts_at_view_.delivered ||
      c.spawns != counts_at_view_.spawns || c.deaths != counts_at_view_.deaths)
    view_dirty_ = true;
  if (!force && (!view_dirty_ || now < next_view_)) return;
  view_dirty_ = false;
  next_view_ = after(now, kViewPeriod);
  if (last_view_ != TimePoint{} && now > last_view_) {
    const double instant = static_cast<double>(c.completed - counts_at_view_.completed) / (static_cast<double>((now - last_view_).count()) * 1e-9);
    rate_ = rate_ == 0 ? instant : 0.8 * rate_ + 0.2 * instant;
  }
  last_view_ = now;
  counts_at_view_ = c;

  PoolStatus s;
  s.supervisor_pid = getpid();
  s.keeper_pid = keeper_ ? keeper_->host_pid() : 0;
  s.watchdog_pid = watchdog_ ? watchdog_->host_pid() : 0;
  s.layers = summary_.layers;
  s.submitted = c.submitted;
  s.completed = c.completed;
  s.failed = c.failed;
  s.delivered = c.delivered;
  s.attempts = c.attempts;
  s.retries = c.retries_blamed + c.retries_free;
  s.late_discarded = c.late_discarded;
  s.queued = c.queued;
  s.leased = c.leased;
  s.spawns = c.spawns;
  s.deaths = c.deaths;
  s.quarantined = c.quarantined;
  s.loop_wakeups = wakeups_;
  std::vector<store::LiveSlot> live_slots;
  std::uint32_t alive = 0;
  for (std::uint32_t i = 0; i < links_.size(); ++i) {
    const engine::SlotView v = scheduler_->slot(SlotId(i));
    const WorkerLink* link = find(SlotId(i), v.incarnation);
    WorkerView w;
    w.slot = SlotId(i);
    w.incarnation = v.incarnation;
    w.host_pid = link != nullptr ? link->host_pid : 0;
    w.state = engine::name_of(v.state);
    w.task = v.head;
    w.completed = v.completed;
    w.progress = link != nullptr ? link->control().progress.load(std::memory_order_relaxed) : 0;
    alive += w.host_pid != 0 ? 1 : 0;
    if (job_ && job_->live) {
      store::LiveSlot l;
      l.slot = i;
      l.incarnation = v.incarnation.value;
      l.host_pid = w.host_pid;
      l.state = live_state(v.state);
      l.leases = v.leases;
      l.task = v.head ? v.head->value : store::kNoTask;
      l.attempt = v.attempt;
      l.deaths = slot_deaths_[i];
      l.progress = w.progress;
      l.completed = v.completed;
      l.rss_bytes = link != nullptr ? link->rss_bytes : 0;
      l.cpu_ns = link != nullptr ? link->cpu.count() : 0;
      l.since_ns = v.since.time_since_epoch().count();
      store::set_text(l.last_fault, slot_faults_[i]);
      live_slots.push_back(l);
    }
    s.workers.push_back(std::move(w));
  }
  pool_.publish(std::move(s));
  if (!job_) return;
  const Nanos consumed = job_->consumed_before + (clock_.boottime() - started_boottime_);
  if (job_->live) {
    store::LiveJob j;
    j.supervisor = process_of(getpid());
    j.keeper = process_of(keeper_ ? keeper_->host_pid() : 0);
    j.watchdog = process_of(watchdog_ ? watchdog_->host_pid() : 0);
    j.state = live_state_;
    j.run = job_->run;
    j.slots = static_cast<std::uint32_t>(live_slots.size());
    j.workers_alive = alive;
    j.started_ns = started_.time_since_epoch().count();
    j.updated_ns = now.time_since_epoch().count();
    j.deadline_ns = run_deadline_boottime_ == kUnlimited ? 0 : run_deadline_boottime_.count();
    j.consumed_ns = consumed.count();
    j.tasks_total = tasks_total_;
    j.submitted = c.submitted;
    j.completed = c.completed;
    j.failed = c.failed;
    j.delivered = c.delivered;
    j.recorded_before = job_->recorded_before;
    j.attempts = c.attempts;
    j.retries_blamed = c.retries_blamed;
    j.retries_free = c.retries_free;
    j.late_discarded = c.late_discarded;
    j.revoked = c.revoked;
    j.quarantined = c.quarantined;
    j.spawns = c.spawns;
    j.deaths = c.deaths;
    j.kills = c.kills;
    j.recycled = c.recycled;
    j.retired_slots = c.retired_slots;
    j.queued = c.queued;
    j.leased = c.leased;
    j.rate = rate_;
    store::set_text(j.workload, job_->workload);
    store::set_text(j.last_fault, last_fault_);
    store::set_text(j.workload_line, workload_line_);
    job_->live->publish(j, live_slots);
  }
  if (force || now >= next_metrics_) {
    next_metrics_ = after(now, Seconds(5));
    store::Metrics& m = job_->metrics;
    m.counter("tasks_submitted", c.submitted);
    m.counter("tasks_completed", c.completed);
    m.counter("tasks_failed", c.failed);
    m.counter("attempts", c.attempts);
    m.counter("retries_blamed", c.retries_blamed);
    m.counter("retries_free", c.retries_free);
    m.counter("late_discarded", c.late_discarded);
    m.counter("leases_revoked", c.revoked);
    m.counter("tasks_quarantined", c.quarantined);
    m.counter("workers_spawned", c.spawns);
    m.counter("workers_ended", c.deaths);
    m.counter("workers_killed", c.kills);
    m.counter("workers_recycled", c.recycled);
    m.counter("loop_wakeups", wakeups_);
    m.gauge("tasks_queued", static_cast<double>(c.queued));
    m.gauge("tasks_leased", static_cast<double>(c.leased));
    m.gauge("workers_alive", alive);
    m.gauge("budget_consumed_seconds", static_cast<double>(consumed.count()) * 1e-9);
    (void)m.write(job_->fs, job_->directory.metrics());  // a courtesy: a full disk loses it, not the run
  }
}

}  // namespace drover
