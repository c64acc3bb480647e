/// The loop: gathering events and carrying out commands. Views (status, live page, metrics) are in supervisor_views.cpp.
#include "supervisor/supervisor.hpp"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "base/assert.hpp"
#include "os/helper_image.hpp"
#include "os/loop_priority.hpp"
#include "os/process_stats.hpp"
#include "supervisor/control_server.hpp"
#include "worker/registry.hpp"

extern char** environ;

namespace drover {
namespace {
constexpr Nanos kLookPeriod = std::chrono::microseconds(200);   ///< descriptors are looked at this often while rings are busy
constexpr Nanos kKeeperStart = Seconds(5);
constexpr Nanos kKeeperSilence = Seconds(5);                    ///< an unanswered spawn request: the keeper hangs
constexpr Nanos kWatchdogPeriod = Seconds(10);                  ///< two deaths of the watchdog within it end the run
constexpr Nanos kBeatSilence = Seconds(10);
constexpr Nanos kRefusedLease = Millis(1);                      ///< until a lease without a place in its ring is given back
constexpr std::uint64_t kArenaBytes = std::uint64_t{512} << 20; ///< address space; memory is used as it is touched
constexpr std::size_t kCopyOutMax = 64 * 1024;                  ///< larger results stay where they are until the caller takes them
}  // namespace

engine::SchedulerOptions Supervisor::scheduler_options(const PoolOptions& o, bool polled_memory) {
  engine::SchedulerOptions s;
  s.slots = o.workers;
  s.window = o.window;
  s.seed = o.seed;
  s.retry = o.retry;
  s.intensity = o.intensity;
  s.back_off = o.back_off;
  s.ladder = o.ladder;
  s.recycling = o.recycling;
  s.start_grace = o.start_grace;
  s.worker_memory_bytes = polled_memory ? o.worker.memory_bytes : 0;
  return s;
}

Supervisor::Supervisor(detail::PoolImpl& pool, const Clock& clock, std::unique_ptr<JobStore> job, Nanos run_deadline_boottime)
    : pool_(pool), clock_(clock), job_(std::move(job)), run_deadline_boottime_(run_deadline_boottime) {
  const std::uint32_t n = pool.options().workers;
  links_.resize(n);
  slot_deaths_.resize(n);
  slot_faults_.resize(n);
  slot_died_at_.resize(n, kNever);
}

Supervisor::~Supervisor() = default;

Result<void> Supervisor::start_keeper() {
  KeeperOptions options;
  options.run_deadline_boottime = run_deadline_boottime_;
  DROVER_TRY(keeper_, KeeperLink::start(options, after(clock_.now(), kKeeperStart)));
  return poller_->add(keeper_->fd(), token(Source::keeper));
}

Result<void> Supervisor::start_watchdog() {
  WatchdogOptions options;
  options.run_deadline_boottime = run_deadline_boottime_;
  options.beat_silence = std::chrono::duration_cast<Millis>(kBeatSilence);
  DROVER_TRY(watchdog_, WatchdogLink::start(options, keeper_->pidfd(), after(clock_.now(), kKeeperStart)));
  return poller_->add(watchdog_->fd(), token(Source::watchdog));
}

Result<void> Supervisor::start() {
  const PoolOptions& o = pool_.options();
  DROVER_TRY(poller_, Poller::create());
  DROVER_CHECK(poller_->add(pool_.bell().fd(), token(Source::inbox)));
  DROVER_CHECK(start_keeper());
  summary_.layers.containment = keeper_->containment();
  summary_.containment_note = keeper_->note();
  if (o.require_containment && keeper_->containment() == LimitLayer::absent)
    return fail(ErrorCode::refused, "this host gives no PID namespace (" + keeper_->note() + ")", "drop --require containment to run with best effort");
  DROVER_CHECK(start_watchdog());
  if (o.worker.memory_bytes != 0 || o.worker.processes != 0) {
    DROVER_TRY(cgroups_, CgroupTree::create("pool"));
    const LimitLayer containment = summary_.layers.containment;
    summary_.layers = cgroups_->layers();
    summary_.layers.containment = containment;
    if (o.worker.memory_bytes != 0 && summary_.layers.memory == LimitLayer::absent) summary_.layers.memory = LimitLayer::polling;
    if (o.worker.processes != 0 && summary_.layers.processes == LimitLayer::absent)
      return fail(ErrorCode::unavailable, "a limit of " + std::to_string(o.worker.processes) + " processes per worker cannot be enforced here", "drop it, or run where a pids cgroup can be made");
  }
  if (auto watch = DeathWatch::start()) {
    death_watch_ = std::move(*watch);
    DROVER_CHECK(poller_->add(death_watch_->fd(), token(Source::death_watch)));
  }
  if (job_) {
    DROVER_TRY(control_, ControlServer::start(job_->directory.control_socket_address()));
    DROVER_CHECK(poller_->add(control_->fd(), token(Source::control)));
    if (job_->ledger_bell) DROVER_CHECK(poller_->add(job_->ledger_bell->fd(), token(Source::ledger)));
  }
  scheduler_.emplace(scheduler_options(o, summary_.layers.memory == LimitLayer::polling));
  if (o.realtime_loop) (void)raise_loop_priority();  // without the right to: go on as an ordinary thread
  return {};
}

// ---- gathering -----------------------------------------------------------------------------------------------------------------

void Supervisor::read_inbox() {
  if (pool_.inbox_empty()) return;
  pool_.take_inbox(inbox_);
  for (const TaskLimits& limits : pool_.take_new_limits()) scheduler_->add_limits(limits);
  for (const Staged& s : inbox_.submissions) {
    TaskEntry& e = entries_.insert(s.id);
    e.stream = s.stream;
    e.tag = s.tag;
    e.spec_hash = s.spec_hash;
    e.payload = s.payload;
    e.extent = s.extent;
    e.broadcast = s.broadcast;
    e.function = s.function;
    e.limits = s.limits;
    e.effect = s.effect;
    events_.push_back(engine::event::Submit{s.id, s.effect, s.limits});
  }
  for (const TaskId t : inbox_.cancels) events_.push_back(engine::event::CancelTask{t});
  if (inbox_.workers) events_.push_back(engine::event::WorkerCount{*inbox_.workers});
  if (inbox_.shutdown && (!shutdown_ || shutdown_->how <= inbox_.shutdown->how)) {
    shutdown_ = inbox_.shutdown;
    pool_.close("it is shutting down");
    view_dirty_ = true;
    live_state_ = shutdown_->how == Shutdown::drain ? store::LiveJobState::draining : store::LiveJobState::stopping;
    switch (shutdown_->how) {
      case Shutdown::drain: events_.push_back(engine::event::Drain{shutdown_->deadline}); break;
      case Shutdown::cancel: events_.push_back(engine::event::Cancel{}); break;
      case Shutdown::kill: events_.push_back(engine::event::KillAll{}); break;
    }
  }
  for (auto& call : inbox_.calls) call(*this);
  inbox_.calls.clear();
}

bool Supervisor::read_ring(WorkerLink& link) {
  if (link.broken || !link.has_completions()) return false;
  std::array<wire::Completion, 64> batch;
  const auto read = link.read(batch);
  for (std::size_t i = 0; i < read.count; ++i) {
    wire::Completion& c = batch[i];
    TaskEntry* e = entries_.find(TaskId(c.task));
    const bool current = e != nullptr && e->epoch.value == c.epoch && e->slot == link.slot() && e->incarnation == link.incarnation();
    if (c.extent != wire::kNoExtent) {
      auto hold = link.hold(c.extent);  // released when dropped
      if (current) {
        const BytesView bytes = link.bytes(c);
        if (c.length <= kCopyOutMax) {
          auto copy = std::make_shared<Bytes>(bytes.begin(), bytes.end());
          e->large = *copy;
          e->hold = std::move(copy);
        } else {
          e->large = bytes;
          e->hold = std::move(hold);
        }
      }
    }
    if (current) e->result = c;
    events_.push_back(engine::event::Published{link.slot(), link.incarnation(), TaskId(c.task), Epoch(c.epoch),
                                               c.kind == static_cast<std::uint8_t>(wire::SlotKind::app_error)});
  }
  if (read.complaint != nullptr) {
    link.broken = true;
    events_.push_back(engine::event::ProtocolBroken{link.slot(), link.incarnation(), read.complaint, link.started()});
  }
  return read.count != 0 || read.complaint != nullptr;
}

bool Supervisor::read_rings() {
  bool any = false;
  for (auto& slot : links_)
    for (auto& link : slot)
      if (link->leases() != 0) any |= read_ring(*link);
  return any;
}

bool Supervisor::rings_have_something() const {
  for (const auto& slot : links_)
    for (const auto& link : slot)
      if (link->leases() != 0 && !link->broken && link->has_completions()) return true;
  return false;
}

void Supervisor::look(TimePoint deadline, TimePoint now) {
  last_poll_ = now;
  if (!poller_->wait(deadline, ready_)) return;
  for (const std::uint64_t t : ready_) on_ready(t, now);
}

void Supervisor::on_ready(std::uint64_t t, TimePoint now) {
  const auto source = static_cast<Source>(t >> 56);
  const SlotId slot(static_cast<std::uint32_t>((t >> 32) & 0xffffff));
  const Incarnation incarnation(static_cast<std::uint32_t>(t));
  switch (source) {
    case Source::inbox: pool_.bell().drain(); break;
    case Source::keeper: on_keeper(now); break;
    case Source::watchdog: on_watchdog(now); break;
    case Source::death_watch:
      hints_.clear();
      death_watch_->take(hints_);
      for (const std::uint64_t h : hints_)
        events_.push_back(engine::event::DeathHint{SlotId(static_cast<std::uint32_t>(h >> 32)), Incarnation(static_cast<std::uint32_t>(h))});
      break;
    case Source::ledger: job_->ledger_bell->drain(); break;
    case Source::control:
      control_->serve(*poller_, t, [&](const ShutdownRequest& request) { pool_.ask_stop(request.how, request.deadline); },
                      [&] { return std::string(store::name_of(live_state_)); });
      break;
    case Source::worker_bell:
      if (WorkerLink* link = find(slot, incarnation)) {
        link->supervisor_bell().drain();
        if (!link->ready && link->pidfd.valid()) check_ready(*link, now);
      }
      break;
    case Source::worker_log:
      for (auto it = logs_.begin(); it != logs_.end(); ++it) {
        if ((*it)->slot() != slot || (*it)->incarnation() != incarnation) continue;
        if (!(*it)->drain()) {
          (void)poller_->remove((*it)->read_fd());
          logs_.erase(it);
        }
        break;
      }
      break;
  }
}

void Supervisor::check_ready(WorkerLink& link, TimePoint now) {
  const std::uint32_t ready = link.control().ready.load(std::memory_order_acquire);
  if (ready == 1) {
    link.ready = true;
    view_dirty_ = true;
    if (death_watch_ && death_watch_->add(&link.control().death_word, (std::uint64_t{link.slot().value} << 32) | link.incarnation().value)) link.watched = true;
    events_.push_back(engine::event::Ready{link.slot(), link.incarnation()});
    event_line(now, "worker_ready", {}, link.slot(), link.incarnation());
  } else if (ready == 2 && link.start_error.empty()) {
    char text[sizeof link.control().start_error];
    std::memcpy(text, link.control().start_error.data(), sizeof text);
    text[sizeof text - 1] = '\0';
    link.start_error = text;
  }
}

void Supervisor::on_keeper(TimePoint now) {
  keeper_messages_.clear();
  if (auto received = keeper_->receive(keeper_messages_); !received) {
    keeper_lost(now, received.error().what());
    return;
  }
  for (KeeperMessage& m : keeper_messages_) on_keeper_message(m, now);
}

void Supervisor::on_keeper_message(KeeperMessage& message, TimePoint now) {
  std::visit(Overloaded{
                 [&](keeper::Spawned& m) { on_spawned(m, now); },
                 [&](keeper::SpawnFailed& m) {
                   if (find(m.slot, m.incarnation) == nullptr) return;
                   event_line(now, "spawn_failed", m.step + ": " + std::strerror(m.errno_value), m.slot, m.incarnation);
                   events_.push_back(engine::event::SpawnFailed{m.slot, m.incarnation, m.step, m.errno_value});
                   drop_link(m.slot, m.incarnation);
                 },
                 [&](keeper::Ended& m) { on_ended(m, now); },
                 [&](keeper::OrphansSwept& m) { event_line(now, "orphans_swept", std::to_string(m.killed)); },
                 [&](keeper::GaveUp& m) {
                   const char* why = m.why == keeper::GaveUp::Why::deadline                  ? "the run's deadline passed"
                                     : m.why == keeper::GaveUp::Why::sweep_did_not_converge ? "a worker's orphans multiplied faster than they could be killed"
                                                                                            : "it could not read a request";
                   event_line(now, "keeper_gave_up", why);
                 },
                 [&](keeper::Gone&) { keeper_lost(now, "it is gone"); },
             },
             message);
}

void Supervisor::on_spawned(keeper::Spawned& m, TimePoint now) {
  WorkerLink* link = find(m.slot, m.incarnation);
  if (link == nullptr) {
    (void)m.pidfd.send(SIGKILL);
    return;
  }
  link->pidfd = std::move(m.pidfd);
  link->host_pid = m.host_pid;
  view_dirty_ = true;
  if (link->kill_on_spawn) (void)link->pidfd.send(SIGKILL);
  event_line(now, "worker_spawned", "host pid " + std::to_string(m.host_pid), m.slot, m.incarnation);
  if (job_ && job_->writer)
    batch_.add(store::IncarnationEvent{m.slot, m.incarnation, store::IncarnationEventKind::spawned, m.host_pid, now, {}});
  // A worker can be faster than the keeper's word about it. It serves only once its process is known: it could not be sampled
  // before, and limits that need samples would stand still.
  check_ready(*link, now);
}

void Supervisor::on_ended(const keeper::Ended& m, TimePoint now) {
  ended_worker_cpu_ += m.user_time + m.system_time;
  WorkerLink* link = find(m.slot, m.incarnation);
  if (link == nullptr) return;  // retired as unkillable, and gone after all
  if (!link->ready) check_ready(*link, now);
  while (read_ring(*link)) {}
  engine::ExitEvidence evidence;
  evidence.how = m.cld_code == CLD_EXITED ? engine::ExitEvidence::How::exited : engine::ExitEvidence::How::signalled;
  evidence.code_or_signal = m.status;
  evidence.peak_bytes = m.rss_max_bytes;
  evidence.limit_bytes = pool_.options().worker.memory_bytes;
  if (link->cgroup.valid()) {
    const LeafUsage usage = link->cgroup.usage();
    evidence.oom_by_our_limit = usage.oom_kills != 0;
    if (usage.memory_peak_bytes != 0) evidence.peak_bytes = usage.memory_peak_bytes;
    (void)link->cgroup.kill();
  }
  const std::string how = m.cld_code == CLD_EXITED ? "exited(" + std::to_string(m.status) + ")" : signal_name(m.status);
  event_line(now, "worker_ended", how, m.slot, m.incarnation);
  if (job_ && job_->writer)
    batch_.add(store::IncarnationEvent{m.slot, m.incarnation, store::IncarnationEventKind::ended, link->host_pid, now, how});
  for (const WorkerLink::Held& held : link->held) close_opening(*link, held, now);
  ++slot_deaths_[m.slot.value];
  slot_died_at_[m.slot.value] = now;
  if (!link->start_error.empty())
    events_.push_back(engine::event::SpawnFailed{m.slot, m.incarnation, "start: " + link->start_error, 0});
  else
    events_.push_back(engine::event::Died{m.slot, m.incarnation, evidence, link->started()});
  drop_link(m.slot, m.incarnation);
}

void Supervisor::keeper_lost(TimePoint now, std::string_view why) {
  // The kernel has killed, or is killing, everything in its namespace. What was published before that counts.
  event_line(now, "keeper_lost", why);
  last_fault_ = "keeper lost: " + std::string(why);
  keeper_->kill();
  (void)keeper_->wait_gone(after(clock_.now(), Seconds(2)));
  (void)poller_->remove(keeper_->fd());
  for (auto& slot : links_) {
    for (auto& link : slot) {
      while (read_ring(*link)) {}
      for (const WorkerLink::Held& held : link->held) close_opening(*link, held, now);
      if (death_watch_ && link->watched) death_watch_->remove((std::uint64_t{link->slot().value} << 32) | link->incarnation().value);
      if (link->polled) (void)poller_->remove(link->supervisor_bell().fd());
      (void)link->cgroup.kill();
    }
    slot.clear();
  }
  view_dirty_ = true;
  events_.push_back(engine::event::KeeperLost{});
  keeper_.reset();
  if (run_deadline_told_) return;  // nothing will be spawned any more
  if (auto started = start_keeper(); !started) {
    summary_.host_fault = std::move(started).error().with("starting a new keeper");
    events_.push_back(engine::event::CommitFailed{"keeper: " + summary_.host_fault->what()});
    return;
  }
  if (watchdog_) (void)watchdog_->watch(keeper_->pidfd());
  events_.push_back(engine::event::KeeperReady{});
}

void Supervisor::on_watchdog(TimePoint now) {
  watchdog_messages_.clear();
  (void)watchdog_->receive(watchdog_messages_);
  for (const WatchdogMessage& m : watchdog_messages_) {
    if (const auto* fired = std::get_if<watchdog::Fired>(&m)) {
      const bool deadline = fired->why == watchdog::Fired::Why::deadline;
      event_line(now, "watchdog_fired", deadline ? "the run's deadline passed" : "the supervisor's beat stood still");
      if (deadline && !run_deadline_told_) {
        run_deadline_told_ = summary_.run_deadline_passed = true;
        pool_.close("the run's budget is used up");
        events_.push_back(engine::event::RunDeadline{});
      }
      continue;
    }
    event_line(now, "watchdog_lost", "it is gone");
    (void)poller_->remove(watchdog_->fd());
    watchdog_.reset();
    view_dirty_ = true;
    std::erase_if(watchdog_restarts_, [&](TimePoint t) { return now - t > kWatchdogPeriod; });
    watchdog_restarts_.push_back(now);
    Result<void> restarted = watchdog_restarts_.size() >= 3 ? Result<void>(fail(ErrorCode::unavailable, "the watchdog died three times within 10 s")) : start_watchdog();
    if (!restarted) {
      summary_.host_fault = std::move(restarted).error().with("watchdog");
      pool_.close("the watchdog cannot be kept alive");
      events_.push_back(engine::event::Cancel{});
    }
    return;
  }
}

void Supervisor::check_ledger(TimePoint now) {
  RecordNumber committed = last_record_;
  if (job_ && job_->writer) {
    if (!ledger_failed_) {
      if (auto failure = job_->writer->failure()) {
        ledger_failed_ = true;
        summary_.host_fault = std::move(*failure).with("ledger");
        event_line(now, "ledger_failed", summary_.host_fault->what());
        events_.push_back(engine::event::CommitFailed{summary_.host_fault->what()});
        for (auto& w : waiting_) w.done(std::unexpected(*summary_.host_fault));
        waiting_.clear();
      }
    }
    const RecordNumber on_disk = job_->writer->committed();
    give_held(on_disk);
    while (!marks_.empty() && marks_.front().ledger <= on_disk) {
      committed_upto_ = marks_.front().scheduler;
      marks_.pop_front();
    }
    for (std::size_t i = 0; i < waiting_.size();) {
      if (waiting_[i].after <= on_disk) {
        auto done = std::move(waiting_[i].done);
        waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(i));
        done({});
      } else {
        ++i;
      }
    }
    if (!marks_.empty() || !batch_.empty()) committed = committed_upto_;
  }
  if (committed > committed_told_) {
    committed_told_ = committed;
    events_.push_back(engine::event::Committed{committed});
  }
}

TimePoint Supervisor::own_deadline(TimePoint now) const {
  TimePoint d = kNever;
  if (run_deadline_boottime_ != kUnlimited && !run_deadline_told_) d = std::min(d, after(now, std::max(Nanos(0), run_deadline_boottime_ - clock_.boottime())));
  if (view_dirty_) d = std::min(d, next_view_);
  if (watchdog_ && watchdog_->armed()) d = std::min(d, after(now, kBeatSilence / 4));
  if (job_ && scheduler_->counts().leased != 0) d = std::min(d, next_beat_);
  d = std::min(d, stop_deadline_);
  if (!refused_.empty()) d = std::min(d, refused_until_);
  if (!batch_.empty() && !ledger_failed_) d = std::min(d, after(now, Millis(1)));  // the writer's queue was full
  for (const auto& slot : links_)
    for (const auto& link : slot)
      if (!link->pidfd.valid()) d = std::min(d, after(link->spawn_asked, kKeeperSilence));
  return d;
}

void Supervisor::check_own_deadlines(TimePoint now) {
  if (!refused_.empty() && now >= refused_until_) {
    events_.insert(events_.end(), refused_.begin(), refused_.end());
    refused_.clear();
  }
  if (run_deadline_boottime_ != kUnlimited && !run_deadline_told_ && clock_.boottime() >= run_deadline_boottime_) {
    run_deadline_told_ = summary_.run_deadline_passed = true;
    pool_.close("the run's budget is used up");
    event_line(now, "run_deadline", {});
    events_.push_back(engine::event::RunDeadline{});
  }
  if (now >= stop_deadline_) {
    stop_deadline_ = kNever;
    pool_.request({Shutdown::cancel, kNever});
  }
  if (keeper_) {
    for (const auto& slot : links_) {
      for (const auto& link : slot) {
        if (link->pidfd.valid() || now < after(link->spawn_asked, kKeeperSilence)) continue;
        keeper_lost(now, "it did not answer a request to spawn");
        return;
      }
    }
  }
  if (job_ && job_->writer && now >= next_beat_ && scheduler_->counts().leased != 0) {
    const Nanos boottime = clock_.boottime();
    batch_.add(store::RunBeat{job_->consumed_before + (boottime - started_boottime_), boottime});
    next_beat_ = after(now, Seconds(1));
  }
}

// ---- doing -----------------------------------------------------------------------------------------------------------------------

void Supervisor::step(TimePoint now) {
  do {
    commands_.clear();
    scheduler_->step(now, events_, commands_);
    events_.clear();
    for (engine::Command& c : commands_) carry_out(c, now);
    flush_records(now);
    check_ledger(now);
  } while (!events_.empty());
  for (auto& slot : links_)
    for (auto& link : slot) link->publish();
  flush_deliveries();
}

void Supervisor::carry_out(engine::Command& command, TimePoint now) {
  using namespace engine::command;
  std::visit(Overloaded{
                 [&](Lease& c) { lease(c, now); },
                 [&](RecordCompleted& c) { record_completed(c, now); },
                 [&](Deliver& c) { deliver(c.task); },
                 [&](RecordOutcome& c) { record_outcome(c, now); },
                 [&](AttemptEnded& c) {
                   count_fault(c.outcome);
                   fill_reason(c.outcome, c.task);
                   const std::string text = text_of(c.outcome);
                   last_fault_ = text;
                   if (c.slot.value < slot_faults_.size()) slot_faults_[c.slot.value] = text;
                   view_dirty_ = true;
                   event_line(now, c.will_retry ? "attempt_retried" : "attempt_ended", text, c.slot, c.incarnation, c.task, c.epoch);
                   if (job_ && job_->writer) {
                     const WorkerLink* link = find(c.slot, c.incarnation);
                     batch_.add(store::AttemptEnded{c.task, c.attempt, c.epoch, {c.slot, c.incarnation, link != nullptr ? link->host_pid : 0, c.started_at, c.ended_at}, c.outcome, c.will_retry, {}});
                   }
                 },
                 [&](Revoke& c) {
                   WorkerLink* link = find(c.slot, c.incarnation);
                   const bool back = take_back_refused(c.task, c.epoch) ||
                                     (link != nullptr && (take_back_held(*link, c.task, c.epoch) || link->revoke(c.task, c.epoch)));
                   events_.push_back(engine::event::Revoked{c.slot, c.incarnation, c.task, c.epoch, back});
                 },
                 [&](Spawn& c) { spawn(c, now); },
                 [&](AskStop& c) {
                   if (WorkerLink* link = find(c.slot, c.incarnation)) {
                     link->control().stop.store(1, std::memory_order_seq_cst);
                     link->memory()->worker_bell.ring();
                   }
                 },
                 [&](Terminate& c) {
                   if (WorkerLink* link = find(c.slot, c.incarnation); link != nullptr && link->pidfd.valid()) (void)link->pidfd.send(SIGTERM);
                 },
                 [&](Kill& c) { kill(c, now); },
                 [&](Sample& c) { sample(c); },
                 [&](SaveQuarantined& c) {
                   TaskEntry* e = entries_.find(c.task);
                   event_line(now, "quarantined", {}, {}, {}, c.task);
                   if (e == nullptr || !job_ || !job_->writer) return;
                   const BytesView input = e->extent.valid() ? BytesView(pool_.arena().bytes(e->extent)) : BytesView(e->payload.inline_bytes).first(e->payload.inline_size);
                   batch_.add(store::QuarantinedInput{c.task, input});
                 },
                 [&](RetireSlot& c) {
                   if (const WorkerLink* link = find(c.slot, c.incarnation); link != nullptr && link->host_pid != 0) summary_.unkillable.push_back(link->host_pid);
                   event_line(now, "unkillable", {}, c.slot, c.incarnation);
                   drop_link(c.slot, c.incarnation);
                 },
                 [&](GaveUp& c) {
                   summary_.gave_up = c.evidence;
                   event_line(now, "gave_up", c.evidence);
                   pool_.close("it gave up: " + c.evidence);
                 },
                 [&](HostFault& c) {
                   if (!summary_.host_fault) summary_.host_fault = Error(ErrorCode::system, c.step);
                   event_line(now, "host_fault", c.step);
                   pool_.close("host fault: " + c.step);
                   host_fault_ = true;
                 },
                 [&](Drained&) { drained_ = true; },
             },
             command);
}

void Supervisor::lease(const engine::command::Lease& c, TimePoint now) {
  TaskEntry* e = entries_.find(c.task);
  WorkerLink* link = find(c.slot, c.incarnation);
  DROVER_ASSERT(e != nullptr);
  e->epoch = c.epoch;
  e->slot = c.slot;
  e->incarnation = c.incarnation;
  e->leased_at = now;
  if (link == nullptr) {
    events_.push_back(engine::event::Revoked{c.slot, c.incarnation, c.task, c.epoch, true});
    return;
  }
  const bool opens = job_ && job_->writer && e->effect == EffectClass::effectful;
  if (!opens && link->held.empty()) return give(*link, *e);
  // At most once, over a death of the supervisor too: the ledger must know that the attempt may begin before it can.
  WorkerLink::Held held{c.task, c.epoch, {}};
  if (opens) {
    held.after = ledger_number_ = ledger_number_.next();
    batch_.add(held.after, store::AttemptOpened{c.task, e->spec_hash, 1, c.epoch, {c.slot, c.incarnation, link->host_pid, now, {}}});
  }
  link->held.push_back(held);
}

void Supervisor::give(WorkerLink& link, const TaskEntry& e) {
  if (link.lease(e.id, e.epoch, e.broadcast, e.function, e.payload)) return;
  // Its ring has no place until it passes what was taken back from it: it is busy, stopped, or dead and we do not know yet. Given
  // back at once, the scheduler would lease it again in the same step, for ever; a little later somebody may have room.
  if (refused_.empty()) refused_until_ = after(clock_.now(), kRefusedLease);
  refused_.push_back({link.slot(), link.incarnation(), e.id, e.epoch, true});
}

bool Supervisor::take_back_refused(TaskId task, Epoch epoch) {
  return std::erase_if(refused_, [&](const engine::event::Revoked& r) { return r.task == task && r.epoch == epoch; }) != 0;
}

void Supervisor::give_held(RecordNumber on_disk) {
  for (auto& slot : links_) {
    for (auto& link : slot) {
      while (!link->held.empty() && link->held.front().after <= on_disk) {
        if (const TaskEntry* e = entries_.find(link->held.front().task); e != nullptr && e->epoch == link->held.front().epoch) give(*link, *e);
        link->held.pop_front();
      }
      link->publish();
    }
  }
}

bool Supervisor::take_back_held(WorkerLink& link, TaskId task, Epoch epoch) {
  const auto it = std::find_if(link.held.begin(), link.held.end(), [&](const WorkerLink::Held& h) { return h.task == task && h.epoch == epoch; });
  if (it == link.held.end()) return false;
  close_opening(link, *it, clock_.now());
  link.held.erase(it);
  return true;
}

void Supervisor::close_opening(const WorkerLink& link, const WorkerLink::Held& held, TimePoint now) {
  if (held.after.value == 0) return;
  batch_.add(store::AttemptEnded{held.task, 1, held.epoch, {link.slot(), link.incarnation(), link.host_pid, {}, now}, outcome::Lost{LossCause::unstarted}, true, {}});
}

void Supervisor::record_completed(const engine::command::RecordCompleted& c, TimePoint now) {
  last_record_ = c.record;
  TaskEntry* e = entries_.find(c.task);
  DROVER_ASSERT(e != nullptr && e->epoch == c.epoch);
  e->attempts = c.attempt;
  if (slot_died_at_[c.slot.value] != kNever) {
    if (job_) job_->metrics.add(store::Latency::recover, now - slot_died_at_[c.slot.value]);
    slot_died_at_[c.slot.value] = kNever;
  }
  if (!job_ || !job_->writer) return;
  job_->metrics.add(store::Latency::run, now - e->leased_at);
  if (job_->grain == Grain::ranges) return;  // recorded when the workload confirms it
  const WorkerLink* link = find(c.slot, c.incarnation);
  ledger_number_ = ledger_number_.next();
  batch_.add(ledger_number_, store::TaskCompleted{.task = c.task,
                                                  .spec_hash = e->spec_hash,
                                                  .epoch = c.epoch,
                                                  .attempt = c.attempt,
                                                  .place = {c.slot, c.incarnation, link != nullptr ? link->host_pid : 0, e->leased_at, now},
                                                  .keep_result = true,
                                                  .result = result_bytes(*e)});
}

void Supervisor::record_outcome(engine::command::RecordOutcome& c, TimePoint now) {
  last_record_ = c.record;
  TaskEntry* e = entries_.find(c.task);
  if (e == nullptr) return;
  fill_reason(c.outcome, c.task);
  e->attempts = c.attempt;
  if (job_ && job_->writer) {
    const WorkerLink* link = find(c.slot, c.incarnation);
    ledger_number_ = ledger_number_.next();
    batch_.add(ledger_number_, store::TaskFailed{c.task, e->spec_hash, c.epoch, c.attempt, {c.slot, c.incarnation, link != nullptr ? link->host_pid : 0, e->leased_at, now}, c.outcome});
  }
  e->outcome = std::make_unique<Outcome>(std::move(c.outcome));
}

BytesView Supervisor::result_bytes(const TaskEntry& e) {
  return e.large.data() != nullptr ? e.large : BytesView(e.result.inline_bytes).first(e.result.inline_size);
}

void Supervisor::fill_reason(Outcome& outcome, TaskId task) {
  auto* app = std::get_if<outcome::AppError>(&outcome);
  const TaskEntry* e = entries_.find(task);
  if (app == nullptr || e == nullptr || !app->reason.empty()) return;
  const BytesView bytes = result_bytes(*e);
  app->reason.assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

void Supervisor::deliver(TaskId task) {
  TaskEntry* e = entries_.find(task);
  DROVER_ASSERT(e != nullptr);
  deliver_entry(*e);
  entries_.erase(task);
}

void Supervisor::deliver_entry(TaskEntry& e) {
  pool_.arena().free(e.extent);
  pool_.arena().drop_broadcast(e.broadcast);
  ++released_tasks_;
  released_bytes_ += e.extent.bytes;
  StreamState& stream = *e.stream;
  if (stream.abandoned.load(std::memory_order_relaxed)) {
    stream.undelivered.fetch_sub(1);
    prune_ = true;
    return;
  }
  detail::Delivery& d = stream.outgoing.emplace_back();
  d.task = e.id;
  d.tag = e.tag;
  d.attempts = e.attempts;
  d.completed = e.outcome == nullptr;
  if (d.completed) {
    d.inline_size = e.result.inline_size;
    d.inline_bytes = e.result.inline_bytes;
    d.large = e.large;
    d.hold = std::move(e.hold);
  } else {
    d.outcome = std::move(e.outcome);
  }
  if (!stream.dirty) {
    stream.dirty = true;
    dirty_streams_.push_back(&stream);
  }
}

void Supervisor::flush_deliveries() {
  for (StreamState* s : dirty_streams_) {
    bool waiting = false;
    const std::size_t n = s->outgoing.size();
    {
      const std::lock_guard lock(s->mutex);
      if (s->ready.empty()) s->ready.swap(s->outgoing);
      else s->ready.insert(s->ready.end(), std::make_move_iterator(s->outgoing.begin()), std::make_move_iterator(s->outgoing.end()));
      waiting = s->waiting;
    }
    s->outgoing.clear();
    s->dirty = false;
    s->undelivered.fetch_sub(n);
    if (waiting) s->arrived.notify_one();
  }
  dirty_streams_.clear();
  if (released_tasks_ != 0) pool_.released(std::exchange(released_tasks_, 0), std::exchange(released_bytes_, 0));
  if (prune_) {
    prune_ = false;
    pool_.prune_streams();
  }
}

void Supervisor::flush_records(TimePoint now) {
  if (batch_.empty() || !job_ || !job_->writer) return;
  if (auto appended = job_->writer->append(batch_, now)) marks_.push_back({ledger_number_, last_record_});
}

void Supervisor::append(const std::function<void(store::RecordBatch&, const std::function<RecordNumber()>&)>& fill, std::function<void(Result<void>)> done) {
  if (ledger_failed_) {
    done(std::unexpected(*summary_.host_fault));
    return;
  }
  fill(batch_, [this] { return ledger_number_ = ledger_number_.next(); });
  waiting_.push_back({ledger_number_, std::move(done)});
}

void Supervisor::spawn(const engine::command::Spawn& c, TimePoint now) {
  const PoolOptions& o = pool_.options();
  const auto failed = [&](const Error& error) {
    event_line(now, "spawn_failed", error.what(), c.slot, c.incarnation);
    events_.push_back(engine::event::SpawnFailed{c.slot, c.incarnation, error.what(), error.errno_value()});
    drop_link(c.slot, c.incarnation);
  };
  WorkerLink::Setup setup{.slot = c.slot,
                          .incarnation = c.incarnation,
                          .arena_bytes = kArenaBytes,
                          .pool_bytes = pool_.arena().size(),
                          .shared_bytes = o.shared_segment_bytes,
                          .job_seed = o.seed,
                          .functions_hash = worker::registry().hash,
                          .warm_up = o.warm_up != nullptr ? worker::registry().index_of(*o.warm_up).value_or(0) + 1u : 0};
  auto made = WorkerLink::create(setup);
  if (!made) return failed(made.error());
  WorkerLink& link = **made;
  links_[c.slot.value].push_back(std::move(*made));
  link.spawn_asked = now;
  if (auto added = poller_->add(link.supervisor_bell().fd(), token(Source::worker_bell, c.slot, c.incarnation)); !added) return failed(added.error());
  link.polled = true;
  SpawnRequest request;
  request.slot = c.slot;
  request.incarnation = c.incarnation;
  request.argv = {"drover-worker", wire::kWorkerArgument};
  for (char** e = environ; *e != nullptr; ++e) request.env.emplace_back(*e);
  request.fds = {link.memory()->memory.fd(), link.memory()->worker_bell.fd(), link.supervisor_bell().fd(), pool_.arena().fd()};
  if (pool_.shared_memory() != nullptr) request.fds.push_back(pool_.shared_memory()->fd());
  std::unique_ptr<WorkerLog> log;
  if (job_) {
    auto opened = WorkerLog::open(job_->fs, job_->directory.worker_log(c.slot.value), c.slot, c.incarnation, o.worker.log_bytes);
    if (opened) {
      log = std::move(*opened);
      request.stdout_fd = request.stderr_fd = log->write_fd();
    }
  } else {
    request.stdout_fd = 1;
    request.stderr_fd = 2;
  }
  if (cgroups_) {
    auto leaf = cgroups_->make_leaf(std::to_string(c.slot.value) + "." + std::to_string(c.incarnation.value), o.worker);
    if (!leaf) return failed(leaf.error());
    link.cgroup = std::move(*leaf);
    request.cgroup_procs = link.cgroup.procs_fds();
  }
  if (!keeper_) return failed(Error(ErrorCode::closed, "no keeper"));
  if (auto asked = keeper_->request_spawn(request); !asked) return failed(asked.error());
  if (log) {
    log->close_write_end();
    if (poller_->add(log->read_fd(), token(Source::worker_log, c.slot, c.incarnation))) logs_.push_back(std::move(log));
  }
}

void Supervisor::kill(const engine::command::Kill& c, TimePoint now) {
  WorkerLink* link = find(c.slot, c.incarnation);
  if (link == nullptr) return;
  if (c.reason == engine::KillReason::stalled && link->host_pid != 0) {
    const StallEvidence e = stall_evidence(link->host_pid);
    event_line(now, "stall_evidence", std::string("state ") + e.state + (e.wait_channel.empty() ? "" : ", waiting in " + e.wait_channel), c.slot, c.incarnation);
  }
  event_line(now, "worker_killed", engine::name_of(c.reason), c.slot, c.incarnation);
  if (!link->pidfd.valid()) {
    link->kill_on_spawn = true;
    return;
  }
  (void)link->cgroup.kill();
  (void)link->pidfd.send(SIGKILL);
}

void Supervisor::sample(const engine::command::Sample& c) {
  WorkerLink* link = find(c.slot, c.incarnation);
  if (link == nullptr || link->host_pid == 0) return;
  engine::event::Sampled s;
  s.slot = c.slot;
  s.incarnation = c.incarnation;
  s.progress = link->control().progress.load(std::memory_order_relaxed);
  if (auto cpu = cpu_time(link->host_pid)) s.cpu = *cpu;
  if (auto rss = rss_bytes(link->host_pid)) s.rss_bytes = *rss;
  if (auto state = state_of(link->host_pid)) s.stopped = *state == 'T' || *state == 't';
  s.started = link->started();
  link->rss_bytes = s.rss_bytes;
  link->cpu = s.cpu;
  events_.push_back(s);
}

void Supervisor::abandon(StreamState& stream) {
  entries_.for_each([&](TaskEntry& e) {
    if (e.stream == &stream) events_.push_back(engine::event::CancelTask{e.id});
  });
  prune_ = true;
}

WorkerLink* Supervisor::find(SlotId slot, Incarnation incarnation) {
  if (slot.value >= links_.size()) return nullptr;
  for (auto& link : links_[slot.value])
    if (link->incarnation() == incarnation) return link.get();
  return nullptr;
}

void Supervisor::drop_link(SlotId slot, Incarnation incarnation) {
  auto& links = links_[slot.value];
  const auto it = std::find_if(links.begin(), links.end(), [&](const auto& l) { return l->incarnation() == incarnation; });
  if (it == links.end()) return;
  if (death_watch_ && (*it)->watched) death_watch_->remove((std::uint64_t{slot.value} << 32) | incarnation.value);
  if ((*it)->polled) (void)poller_->remove((*it)->supervisor_bell().fd());
  links.erase(it);
  view_dirty_ = true;
}

Nanos Supervisor::worker_cpu() const {
  Nanos total = ended_worker_cpu_;
  for (const auto& slot : links_)
    for (const auto& link : slot)
      if (link->host_pid != 0)
        if (auto cpu = cpu_time(link->host_pid)) total += *cpu;
  return total;
}

// ---- the loop --------------------------------------------------------------------------------------------------------------------

void Supervisor::run() {
  TimePoint now = clock_.now();
  started_ = now;
  started_boottime_ = clock_.boottime();
  next_beat_ = after(now, Seconds(1));
  next_view_ = now;
  step(now);  // fills the slots
  while (!drained_ && !host_fault_) {
    now = clock_.now();
    read_inbox();
    const bool busy = read_rings();
    check_ledger(now);
    check_own_deadlines(now);
    if (now - last_poll_ >= kLookPeriod) look(kPast, now);
    if (!events_.empty() || now >= scheduler_->next_deadline() || !batch_.empty()) step(now);
    publish_views(now, false);
    if (watchdog_) {
      const bool leases = scheduler_->counts().leased != 0;
      if (leases && !watchdog_->armed()) watchdog_->arm();
      if (!leases && watchdog_->armed()) watchdog_->disarm();
      if (leases) watchdog_->beat();
    }
    if (busy || !events_.empty() || drained_) continue;
    // Nothing to do: raise the sleeping flags, look once more, then wait for an event or the earliest deadline.
    pool_.set_loop_sleeping(true);
    for (auto& slot : links_)
      for (auto& link : slot)
        if (link->leases() != 0) link->set_supervisor_sleeping(true);
    const TimePoint deadline = std::min(scheduler_->next_deadline(), own_deadline(now));
    if (pool_.inbox_empty() && !rings_have_something()) {
      if (job_ && job_->events) job_->events->flush();
      look(deadline, now);
      ++wakeups_;
    }
    pool_.set_loop_sleeping(false);
    for (auto& slot : links_)
      for (auto& link : slot)
        if (link->leases() != 0) link->set_supervisor_sleeping(false);
  }
  end_all(clock_.now());
}

void Supervisor::end_all(TimePoint now) {
  pool_.close("it has ended");
  read_inbox();  // what was posted while we ended is answered below
  summary_.worker_cpu = worker_cpu();
  if (keeper_) {
    keeper_->kill();
    const bool gone = keeper_->wait_gone(after(clock_.now(), Seconds(2)));
    if (!gone) summary_.unkillable.push_back(keeper_->host_pid());
  }
  if (watchdog_) {
    watchdog_->kill();
    (void)watchdog_->wait_gone(after(clock_.now(), Seconds(1)));
  }
  CgroupTree::sweep();  // workers are killed, and what they made (sandboxes do) has nobody else
  for (auto& slot : links_)
    for (auto& link : slot) (void)link->cgroup.kill();
  // After a host fault some tasks have no recorded ending, and some tasks came too late. Nobody waits for ever: what was leased
  // is lost to this run, in doubt if it has effects, and what came too late was never taken; each says so.
  std::vector<TaskId> open;
  entries_.for_each([&](const TaskEntry& e) { open.push_back(e.id); });
  for (const TaskId id : open) {
    TaskEntry* e = entries_.find(id);
    if (!e->outcome) {
      const bool leased = e->epoch != Epoch{};
      Outcome ending = outcome::Lost{LossCause::supervisor};
      if (leased && e->effect == EffectClass::effectful) ending = outcome::UnknownEffect{LossCause::supervisor};
      if (!leased && !host_fault_) ending = outcome::Rejected{RejectKind::closing};
      e->outcome = std::make_unique<Outcome>(std::move(ending));
    }
    deliver(id);
  }
  flush_deliveries();
  death_watch_.reset();  // after a host fault it still watches words in the memory that goes now
  for (auto& slot : links_) slot.clear();
  flush_records(now);
  for (auto& w : waiting_) w.done(fail(ErrorCode::closed, "the run has ended"));
  waiting_.clear();
  summary_.counts = scheduler_->counts();
  summary_.last_fault = last_fault_;
  live_state_ = store::LiveJobState::ended;
  publish_views(now, true);
  event_line(now, "loop_ended", summary_.host_fault ? summary_.host_fault->what() : summary_.gave_up);
  if (job_ && job_->events) job_->events->flush();
  if (control_) control_.reset();
}

}  // namespace drover
