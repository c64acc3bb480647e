#include "sim/scheduler_simulation.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/hash.hpp"
#include "drover/types/random.hpp"
#include "engine/scheduler.hpp"
#include "engine/stop_ladder.hpp"

namespace drover::sim {

namespace {

using namespace drover::engine;

constexpr TimePoint kStart = TimePoint(Seconds(1000));
constexpr Nanos kLongestReport = Millis(400);  // from a death to its Died

std::string text(TaskId task, Epoch epoch) { return fmt::format("task {} epoch {}", task.value, epoch.value); }
std::string text(SlotId slot, Incarnation incarnation) { return fmt::format("{}.{}", slot.value, incarnation.value); }
std::string text_of_started(const std::optional<TaskId>& started) { return started ? fmt::format("task {}", started->value) : "none"; }

std::string describe(const Event& e) {
  return std::visit(
      Overloaded{[](const event::Submit& x) {
                   return fmt::format("Submit task {}{} limits {}", x.task.value, x.effect == EffectClass::effectful ? " effectful" : "", x.limits);
                 },
                 [](const event::CancelTask& x) { return fmt::format("CancelTask {}", x.task.value); },
                 [](const event::Ready& x) { return "Ready " + text(x.slot, x.incarnation); },
                 [](const event::SpawnFailed& x) { return "SpawnFailed " + text(x.slot, x.incarnation); },
                 [](const event::Published& x) {
                   return fmt::format("Published {} by {}{}", text(x.task, x.epoch), text(x.slot, x.incarnation), x.app_error ? " app_error" : "");
                 },
                 [](const event::Revoked& x) {
                   return fmt::format("Revoked {} of {} {}", text(x.task, x.epoch), text(x.slot, x.incarnation), x.taken_back ? "taken back" : "claimed");
                 },
                 [](const event::DeathHint& x) { return "DeathHint " + text(x.slot, x.incarnation); },
                 [](const event::Died& x) {
                   return fmt::format("Died {} ({} {}) started {}", text(x.slot, x.incarnation), static_cast<int>(x.evidence.how),
                                      x.evidence.code_or_signal, text_of_started(x.started));
                 },
                 [](const event::ProtocolBroken& x) { return fmt::format("ProtocolBroken {} started {}", text(x.slot, x.incarnation), text_of_started(x.started)); },
                 [](const event::Sampled& x) {
                   return fmt::format("Sampled {} progress {} cpu {} rss {} started {}", text(x.slot, x.incarnation), x.progress, drover::text_of(x.cpu),
                                      x.rss_bytes, text_of_started(x.started));
                 },
                 [](const event::KeeperLost&) { return std::string("KeeperLost"); },
                 [](const event::KeeperReady&) { return std::string("KeeperReady"); },
                 [](const event::Committed& x) { return fmt::format("Committed {}", x.upto.value); },
                 [](const event::CommitFailed&) { return std::string("CommitFailed"); },
                 [](const event::WorkerCount& x) { return fmt::format("WorkerCount {}", x.slots); },
                 [](const event::Drain& x) { return std::string(x.deadline == kNever ? "Drain" : "Drain with a deadline"); },
                 [](const event::Cancel&) { return std::string("Cancel"); }, [](const event::KillAll&) { return std::string("KillAll"); },
                 [](const event::RunDeadline&) { return std::string("RunDeadline"); }},
      e);
}

std::string describe(const Command& c) {
  return std::visit(
      Overloaded{[](const command::Lease& x) { return fmt::format("Lease {} to {}", text(x.task, x.epoch), text(x.slot, x.incarnation)); },
                 [](const command::RecordCompleted& x) {
                   return fmt::format("RecordCompleted #{} {} attempt {} by {}", x.record.value, text(x.task, x.epoch), x.attempt, text(x.slot, x.incarnation));
                 },
                 [](const command::RecordOutcome& x) {
                   return fmt::format("RecordOutcome #{} {} attempt {} {}", x.record.value, text(x.task, x.epoch), x.attempt, drover::text_of(x.outcome));
                 },
                 [](const command::AttemptEnded& x) {
                   return fmt::format("AttemptEnded {} attempt {} on {} {}{}", text(x.task, x.epoch), x.attempt, text(x.slot, x.incarnation),
                                      drover::text_of(x.outcome), x.will_retry ? ", will retry" : "");
                 },
                 [](const command::Deliver& x) { return fmt::format("Deliver task {}", x.task.value); },
                 [](const command::Revoke& x) { return fmt::format("Revoke {} from {}", text(x.task, x.epoch), text(x.slot, x.incarnation)); },
                 [](const command::Spawn& x) { return "Spawn " + text(x.slot, x.incarnation); },
                 [](const command::AskStop& x) { return "AskStop " + text(x.slot, x.incarnation); },
                 [](const command::Terminate& x) { return "Terminate " + text(x.slot, x.incarnation); },
                 [](const command::Kill& x) { return fmt::format("Kill {} {}", text(x.slot, x.incarnation), name_of(x.reason)); },
                 [](const command::Sample& x) { return "Sample " + text(x.slot, x.incarnation); },
                 [](const command::SaveQuarantined& x) { return fmt::format("SaveQuarantined task {}", x.task.value); },
                 [](const command::RetireSlot& x) { return "RetireSlot " + text(x.slot, x.incarnation); },
                 [](const command::GaveUp& x) { return "GaveUp " + x.evidence; }, [](const command::HostFault& x) { return "HostFault " + x.step; },
                 [](const command::Drained&) { return std::string("Drained"); }},
      c);
}

/// What an attempt is going to do, drawn when it is claimed.
enum class Fate : std::uint8_t { finish, app_error, crash, exit, kill_itself, spin, block, leak, garbage, finish_and_die, finish_twice };

struct Lease {
  TaskId task;
  Epoch epoch;
};

/// One worker process: the truth on one side, what the scheduler has been told on the other.
struct Process {
  enum class Stage : std::uint8_t { starting, running, dead, gone };  // gone: Died, SpawnFailed, KeeperLost or RetireSlot was said
  SlotId slot;
  Incarnation incarnation;
  Stage stage = Stage::starting;
  bool ready_told = false, start_fails = false, asked = false, terminated = false, killed_by_us = false, hint_told = false;
  bool ignores_ask = false, ignores_term = false, unkillable = false, lies = false, stopped = false, retired = false;
  std::optional<KillReason> our_reason;
  TimePoint next = kNever;      // its own next step
  TimePoint doom = kNever;      // something outside kills it
  TimePoint report = kNever;    // of its death
  TimePoint hint = kNever;
  TimePoint bell = kNever;      // the supervisor reads its ring
  TimePoint confess = kNever;   // the reader notices garbage
  ExitEvidence evidence;
  std::vector<Lease> ring;      // leased, not claimed
  std::optional<Lease> claimed;
  Fate fate = Fate::finish;
  TimePoint claimed_at{};
  std::uint64_t progress = 0;
  Nanos cpu{};
  std::vector<event::Published> published;  // not read yet
  std::vector<Lease> view;      // the scheduler's window
  TimePoint head_since{};

  std::uint64_t gone_in_step = 0;

  void go(std::uint64_t step) {
    stage = Stage::gone;
    gone_in_step = step + 1;
  }
  bool alive() const { return stage == Stage::starting || stage == Stage::running; }
};

struct ModelTask {
  EffectClass effect = EffectClass::pure;
  std::uint16_t limits = 0;
  TimePoint submitted{};
  bool open = false, recorded = false, delivered = false, claimed_ever = false, poison = false;
  RecordNumber record{};
  Epoch epoch{};                 // of the latest lease
  bool claimed_now = false;      // that lease was claimed
  int holder = -1;               // index of the process that holds the current lease
  std::uint32_t blamed = 0, free = 0;
  int accepted = 0;              // publications of the current lease that were handed over
};

class World {
 public:
  World(std::uint64_t seed, bool verbose) : rng_(hash_combine(seed, 0x5eed)), verbose_(verbose), scheduler_(draw_options(seed)) { draw_workload(); }

  ScheduleReport run() {
    events_.reserve(64);
    commands_.reserve(64);
    step();  // before anything happens
    while (report_.violation.empty() && !drained_) {
      if (report_.steps > 20'000) {
        violate("more than 20,000 steps");
        break;
      }
      const TimePoint world = earliest_happening();
      const TimePoint wanted = std::min({world, next_scripted(), scheduler_.next_deadline()});
      if (wanted == kNever) {
        violate("everything is silent and nothing will ever happen");
        break;
      }
      check_not_forgotten(world);
      TimePoint wake = std::max(now_, wanted);
      if (chance(late_)) {
        const Nanos by = micros(1, chance(0.1) ? 3'000'000 : 5'000);
        wake += by;
        lateness_ += by;
      }
      now_ = wake;
      live();
      step();
    }
    if (report_.violation.empty()) check_end();
    const Counts& counts = scheduler_.counts();
    report_.retries = counts.retries_blamed + counts.retries_free;
    report_.deaths = counts.deaths;
    report_.late = counts.late_discarded;
    report_.revoked = counts.revoked;
    report_.recycled = counts.recycled;
    report_.retired = counts.retired_slots;
    report_.completed = counts.completed;
    report_.tasks = counts.submitted;
    return std::move(report_);
  }

 private:
  // ---- chance ------------------------------------------------------------------------------------------------------------------
  bool chance(double p) { return p > 0 && rng_.chance(p); }
  std::uint64_t between(std::uint64_t low, std::uint64_t high) { return low + rng_.below(high - low + 1); }
  Nanos micros(std::uint64_t low, std::uint64_t high) { return Nanos(static_cast<std::int64_t>(between(low, high) * 1000)); }
  Nanos millis(std::uint64_t low, std::uint64_t high) { return micros(low * 1000, high * 1000); }

  SchedulerOptions draw_options(std::uint64_t seed) {
    SchedulerOptions o;
    o.slots = static_cast<std::uint32_t>(chance(0.25) ? 1 : between(2, 4));
    o.window = static_cast<std::uint32_t>(chance(0.1) ? 128 : chance(0.2) ? 1 : between(2, 8));
    o.seed = seed;
    o.retry.blamed_max = static_cast<std::uint32_t>(between(0, 3));
    o.retry.free_max = static_cast<std::uint32_t>(chance(0.2) ? between(0, 3) : 100);
    o.intensity = {static_cast<std::uint32_t>(chance(0.2) ? between(0, 3) : 1000), chance(0.5) ? Nanos(Seconds(10)) : millis(1, 100)};
    o.back_off = {micros(0, 3000), 2.0, millis(0, 20), 0.5};
    o.ladder = {millis(0, 30), millis(0, 30), millis(1, 600)};
    if (chance(0.4)) o.recycling.tasks = between(1, 4);
    if (chance(0.2)) o.recycling.age = millis(1, 60);
    if (chance(0.2)) o.recycling.rss_growth_bytes = 50;
    o.start_grace = millis(5, 50);
    o.sample_period = millis(1, 20);
    o.ledger_deadline = millis(50, 300);
    if (chance(0.2)) o.worker_memory_bytes = 200;
    o.spawn_at_once = chance(0.6);
    o.steal_after = chance(0.3) ? Nanos(0) : micros(1, 5000);
    options_ = o;
    return o;
  }

  void draw_workload() {
    late_ = chance(0.3) ? 0.1 : 0.0;
    backward_ = chance(0.2) ? 0.05 : 0.0;
    const bool calm = chance(0.15);
    const auto rare = [&](double often, double p) { return !calm && chance(often) ? p : 0.0; };
    p_crash_ = rare(0.4, 0.1);
    p_exit_ = rare(0.3, 0.05);
    p_kill_ = rare(0.4, 0.1);
    p_hang_ = rare(0.4, 0.08);
    p_app_error_ = rare(0.4, 0.1);
    p_garbage_ = rare(0.2, 0.05);
    p_leak_ = rare(0.2, 0.1);
    p_after_ = rare(0.4, 0.1);
    p_twice_ = rare(0.3, 0.1);
    p_doom_ = rare(0.5, 0.4);
    p_false_hint_ = rare(0.2, 0.03);
    p_start_fails_ = rare(0.3, 0.2);
    p_start_hangs_ = rare(0.2, 0.1);
    p_deaf_ = rare(0.4, 0.3);
    p_unkillable_ = rare(0.15, 0.1);
    p_stale_ = rare(0.4, 0.1);
    p_lies_ = 0;
    slow_ = chance(0.3);
    commit_slow_ = chance(0.2) ? millis(10, 100) : micros(0, 2000);
    commit_dies_at_ = rare(0.06, 1.0) > 0 ? kStart + millis(0, 300) : kNever;
    commit_fails_ = chance(0.5);
    keeper_at_ = rare(0.12, 1.0) > 0 ? kStart + millis(0, 200) : kNever;
    keeper_returns_ = chance(0.85);

    std::vector<std::uint16_t> limits{0};
    limit_values_.push_back({});
    for (std::uint64_t i = 0, n = between(0, 3); i < n; ++i) {
      TaskLimits l;
      if (chance(0.3)) l.queue = millis(0, 60);
      if (chance(0.5)) l.attempt_wall = millis(1, 40);
      if (chance(0.3)) l.attempt_cpu = millis(1, 30);
      if (chance(0.3)) l.task = millis(1, 150);
      if (chance(0.4)) l.stall = millis(2, 40);
      limits.push_back(scheduler_.add_limits(l));
      if (limits.back() == limit_values_.size()) limit_values_.push_back(l);
    }
    const std::uint64_t count = chance(0.1) ? between(60, 200) : between(0, 25);
    const bool effects = chance(0.4);
    if (!effects) p_lies_ = rare(0.2, 0.2);
    const Nanos span = chance(0.5) ? Nanos(0) : millis(1, 120);
    tasks_.resize(count);
    for (std::uint64_t i = 0; i < count; ++i) {
      ModelTask& task = tasks_[i];
      task.effect = effects && chance(0.4) ? EffectClass::effectful : EffectClass::pure;
      const std::size_t which = rng_.below(limits.size());
      task.limits = limits[which];
      task.poison = !calm && chance(0.03);
      if (chance(0.05)) {
        task.epoch = Epoch(static_cast<std::uint32_t>(between(1, 9)));
        scheduler_.set_epoch(TaskId(i), task.epoch);
      }
      script(kStart + Nanos(static_cast<std::int64_t>(rng_.unit() * static_cast<double>(span.count()))),
             event::Submit{TaskId(i), task.effect, task.limits});
      if (!calm && chance(0.04)) script(kStart + millis(0, 150), event::CancelTask{TaskId(i)});
    }
    if (!calm && chance(0.15)) {
      for (std::uint64_t i = 0, n = between(1, 3); i < n; ++i) {
        script(kStart + millis(0, 150), event::WorkerCount{static_cast<std::uint32_t>(between(0, 5))});
      }
    }
    // The end: each of these alone must lead to Drained.
    const TimePoint at = kStart + millis(0, 300);
    if (chance(0.6)) script(at, event::Drain{});
    const TimePoint last = at + millis(0, 400);
    switch (between(0, 3)) {
      case 0: script(last, event::Drain{last + millis(0, 200)}); break;
      case 1: script(last, event::Cancel{}); break;
      case 2: script(last, event::KillAll{}); break;
      default: script(last, event::RunDeadline{}); break;
    }
    if (chance(0.2)) script(last + millis(0, 50), event::Cancel{});
    if (chance(0.2)) script(last + millis(0, 50), event::RunDeadline{});
    std::stable_sort(script_.begin(), script_.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  }
  void script(TimePoint at, Event e) { script_.emplace_back(at, std::move(e)); }

  // ---- happenings ---------------------------------------------------------------------------------------------------------------
  TimePoint next_scripted() const { return next_scripted_ < script_.size() ? script_[next_scripted_].first : kNever; }
  /// Of everything but the script.
  TimePoint earliest_happening() const {
    TimePoint at = std::min({keeper_at_, commit_at_, commit_dies_at_});
    for (const std::uint32_t p : living_) {
      const Process& x = processes_[p];
      at = std::min({at, x.bell, x.hint, x.report, x.confess});
      if (x.alive()) at = std::min({at, x.next, x.doom});
    }
    if (!replies_.empty()) at = std::min(at, now_);
    return at;
  }

  void live() {
    for (std::size_t n = 0; n < living_.size(); ++n) {
      Process& p = processes_[living_[n]];
      while (p.alive() && std::min(p.next, p.doom) <= now_) {
        if (p.doom <= p.next) {
          die(p, p.doom, chance(0.6) ? 9 : 11);
        } else {
          act(p);
        }
      }
    }
  }

  void die(Process& p, TimePoint at, int signal, int code = 0) {
    p.stage = Process::Stage::dead;
    p.evidence = signal != 0 ? ExitEvidence{ExitEvidence::How::signalled, signal} : ExitEvidence{ExitEvidence::How::exited, code};
    if (signal == 9 && !p.killed_by_us && chance(0.1)) (chance(0.5) ? p.evidence.oom_by_host : p.evidence.oom_by_our_limit) = true;
    p.doom = p.next = kNever;
    p.report = at + (chance(0.2) ? micros(0, static_cast<std::uint64_t>(kLongestReport.count()) / 1000) : micros(0, 500));
    if (chance(0.5) && !p.hint_told) p.hint = at;
    if (!p.published.empty()) p.bell = std::min(p.bell, p.report);
  }

  /// One step of the process's own.
  void act(Process& p) {
    const TimePoint at = p.next;
    p.next = kNever;
    if (p.stage == Process::Stage::starting) {
      if (p.start_fails && chance(0.5)) return die(p, at, chance(0.5) ? 11 : 0, 1);
      p.bell = at;  // Ready or SpawnFailed is told
      if (!p.start_fails) p.stage = Process::Stage::running;
      return;
    }
    if (p.claimed) return finish(p, at);
    if (p.asked && !p.ignores_ask) return die(p, at, 0, 0);
    if (p.ring.empty()) return;
    claim(p, at);
  }

  void claim(Process& p, TimePoint at) {
    p.claimed = p.ring.front();
    p.ring.erase(p.ring.begin());
    p.claimed_at = at;
    ModelTask& task = tasks_[p.claimed->task.value];
    task.claimed_ever = true;
    if (task.epoch == p.claimed->epoch) task.claimed_now = true;
    p.fate = Fate::finish;
    const auto maybe = [&](double probability, Fate fate) {
      if (p.fate == Fate::finish && chance(probability)) p.fate = fate;
    };
    if (task.poison) p.fate = chance(0.5) ? Fate::crash : Fate::kill_itself;
    maybe(p_crash_, Fate::crash);
    maybe(p_exit_, Fate::exit);
    maybe(p_kill_, Fate::kill_itself);
    maybe(p_hang_, chance(0.5) ? Fate::spin : Fate::block);
    maybe(p_app_error_, Fate::app_error);
    maybe(p_garbage_, Fate::garbage);
    maybe(p_leak_, Fate::leak);
    maybe(p_after_, Fate::finish_and_die);
    maybe(p_twice_, Fate::finish_twice);
    if (chance(p_false_hint_)) p.hint = at;
    p.next = p.fate == Fate::spin || p.fate == Fate::block ? kNever : at + (slow_ ? micros(100, 30'000) : micros(1, 1500));
    if (p.fate == Fate::block) p.stopped = chance(0.3);
  }

  void publish(Process& p, TimePoint at, bool app_error) {
    p.published.push_back({p.slot, p.incarnation, p.claimed->task, p.claimed->epoch, app_error});
    p.bell = std::min(p.bell, at + (chance(0.1) ? micros(0, 20'000) : micros(0, 20)));
  }

  void finish(Process& p, TimePoint at) {
    p.progress += 1 + rng_.below(3);
    p.cpu += at - p.claimed_at;
    switch (p.fate) {
      case Fate::crash: return die(p, at, chance(0.5) ? 11 : 6);
      case Fate::exit: return die(p, at, 0, static_cast<int>(rng_.below(2)));
      case Fate::kill_itself: return die(p, at, 9);
      case Fate::garbage: p.confess = at; return;
      case Fate::spin:
      case Fate::block: return;
      case Fate::app_error: publish(p, at, true); break;
      case Fate::finish:
      case Fate::leak: publish(p, at, false); break;
      case Fate::finish_and_die:
        publish(p, at, false);
        if (chance(0.5)) p.claimed.reset();  // between its publication and clearing started_task, or after
        if (p.claimed) {
          p.claimed.reset();
          return die(p, at, chance(0.5) ? 9 : 11);
        }
        p.doom = std::min(p.doom, at + micros(0, 100));
        break;
      case Fate::finish_twice:
        publish(p, at, false);
        p.published.push_back(p.published.back());
        break;
    }
    p.claimed.reset();
    p.next = at + micros(0, 20);
  }

  // ---- telling the scheduler -------------------------------------------------------------------------------------------------------
  void tell(Event e) { events_.push_back(std::move(e)); }

  bool is_head_or_held(const Process& p, const Lease& lease) const {
    return std::ranges::any_of(p.view, [&](const Lease& l) { return l.task == lease.task && l.epoch == lease.epoch; });
  }

  void tell_published(Process& p) {
    for (const event::Published& e : p.published) {
      if (is_head_or_held(p, {e.task, e.epoch})) {
        drop_from_view(p, {e.task, e.epoch});
        ModelTask& task = tasks_[e.task.value];
        task.holder = -1;
        ++task.accepted;
        accepted_.push_back(static_cast<std::uint32_t>(e.task.value));
      }
      tell(e);
      if (chance(p_stale_)) stale_.push_back(e);
    }
    p.published.clear();
  }
  void drop_from_view(Process& p, const Lease& lease) {
    const auto at = std::ranges::find_if(p.view, [&](const Lease& l) { return l.task == lease.task && l.epoch == lease.epoch; });
    if (at == p.view.begin()) p.head_since = now_;
    p.view.erase(at);
  }
  /// The scheduler learns that the process holds nothing any more.
  void clear_view(Process& p) {
    for (const Lease& lease : p.view) {
      ModelTask& task = tasks_[lease.task.value];
      if (task.epoch == lease.epoch) task.holder = -1;
    }
    p.view.clear();
  }

  void gather() {
    // Answers to the commands of the last step come before anything else.
    for (Event& e : replies_) {
      if (const auto* const revoked = std::get_if<event::Revoked>(&e); revoked != nullptr && revoked->taken_back) {
        Process* const p = find(revoked->slot, revoked->incarnation);
        if (p != nullptr && is_head_or_held(*p, {revoked->task, revoked->epoch})) {
          drop_from_view(*p, {revoked->task, revoked->epoch});
          tasks_[revoked->task.value].holder = -1;
        }
      }
      tell(std::move(e));
    }
    replies_.clear();
    if (next_scripted_ < script_.size()) {
      for (; next_scripted_ < script_.size() && script_[next_scripted_].first <= now_; ++next_scripted_) tell_scripted(script_[next_scripted_].second);
    }
    if (keeper_at_ <= now_) tell_keeper();
    for (std::size_t n = 0; n < living_.size(); ++n) tell_process(processes_[living_[n]]);
    std::erase_if(living_, [&](std::uint32_t p) { return processes_[p].stage == Process::Stage::gone && processes_[p].report == kNever && processes_[p].bell == kNever; });
    if (commit_at_ <= now_) {
      commit_at_ = kNever;
      if (now_ < commit_dies_at_) {
        committed_ = commit_upto_;
        tell(event::Committed{committed_});
        if (chance(p_stale_)) tell(event::Committed{committed_});
        start_commit();
      }
    }
    if (commit_dies_at_ <= now_ && commit_dies_at_ != kNever) {
      ledger_dead_ = true;
      commit_dies_at_ = kNever;
      commit_at_ = kNever;
      if (commit_fails_) tell(event::CommitFailed{"disk full"});
    }
    if (!stale_.empty() && chance(0.3)) {
      const std::size_t i = rng_.below(stale_.size());
      tell(stale_[i]);
      if (chance(0.5)) {
        stale_[i] = std::move(stale_.back());
        stale_.pop_back();
      }
    }
  }

  void tell_scripted(const Event& e) {
    if (const auto* const submit = std::get_if<event::Submit>(&e)) {
      ModelTask& task = tasks_[submit->task.value];
      task.open = true;
      task.submitted = now_;
      if (ends_by_ != kNever) ends_by_ = std::max(ends_by_, now_);  // its rejection is a record too, and its commit is waited for
      if (task.limits != 0) limited_.push_back(static_cast<std::uint32_t>(submit->task.value));
    } else if (const auto* const drain = std::get_if<event::Drain>(&e)) {
      ending_asked_ = true;
      if (drain->deadline != kNever) ends_by_ = std::min(ends_by_, std::max(now_, drain->deadline));
    } else if (std::holds_alternative<event::Cancel>(e) || std::holds_alternative<event::KillAll>(e) || std::holds_alternative<event::RunDeadline>(e)) {
      ending_asked_ = closing_ = true;
      ends_by_ = std::min(ends_by_, now_);
    } else if (const auto* const cancel = std::get_if<event::CancelTask>(&e); cancel != nullptr && !tasks_[cancel->task.value].open) {
      return;  // not submitted yet
    }
    tell(e);
  }

  void tell_keeper() {
    if (keeper_up_) {
      for (const std::uint32_t i : living_) {
        Process& p = processes_[i];
        if (p.retired) continue;
        if (p.stage != Process::Stage::gone) {
          if (p.alive() && p.bell <= now_ && p.stage == Process::Stage::running && !p.ready_told) p.bell = kNever;
          tell_published(p);
          clear_view(p);
        }
        p.go(report_.steps);
        p.report = p.bell = p.hint = p.confess = kNever;
      }
      keeper_lost_now_ = true;
      keeper_up_ = false;
      tell(event::KeeperLost{});
      keeper_at_ = keeper_returns_ ? now_ + millis(0, 10) : kNever;
    } else {
      keeper_up_ = true;
      keeper_at_ = chance(0.2) ? now_ + millis(0, 100) : kNever;
      tell(event::KeeperReady{});
    }
  }

  void tell_process(Process& p) {
    if (p.stage == Process::Stage::gone && !p.retired) return;
    if (p.bell <= now_) {
      p.bell = kNever;
      if (!p.ready_told && p.alive()) {
        p.ready_told = true;
        if (p.start_fails) {
          p.go(report_.steps);
          clear_view(p);
          tell(event::SpawnFailed{p.slot, p.incarnation, "exec", 2});
          return;
        }
        tell(event::Ready{p.slot, p.incarnation});
        if (chance(p_stale_)) stale_.push_back(event::Ready{p.slot, p.incarnation});
      }
      tell_published(p);
    }
    if (p.ready_told && p.stage == Process::Stage::running && !tasks_.empty() && chance(p_stale_ * 0.1)) {
      // It says it has done what it does not hold.
      const std::uint64_t i = rng_.below(tasks_.size());
      if (tasks_[i].open && !is_head_or_held(p, {TaskId(i), tasks_[i].epoch})) {
        tell(event::Published{p.slot, p.incarnation, TaskId(i), tasks_[i].epoch, false});
      }
    }
    if (p.confess <= now_) {
      p.confess = kNever;
      if (p.stage != Process::Stage::dead) {
        tell_published(p);
        tell(event::ProtocolBroken{p.slot, p.incarnation, "a slot out of range", p.claimed ? std::optional(p.claimed->task) : std::nullopt});
      }
    }
    if (p.hint <= now_) {
      p.hint = kNever;
      p.hint_told = true;
      if (p.stage != Process::Stage::gone) tell(event::DeathHint{p.slot, p.incarnation});
    }
    if (p.report <= now_) {
      p.report = kNever;
      p.bell = kNever;
      tell_published(p);
      clear_view(p);
      std::optional<TaskId> started;
      if (p.claimed) started = p.claimed->task;
      if (p.lies) started = chance(0.5) ? std::nullopt : std::optional(TaskId(rng_.below(tasks_.size() + 1)));
      const event::Died died{p.slot, p.incarnation, p.evidence, started};
      tell(died);
      if (chance(p_stale_)) stale_.push_back(died);
      p.go(report_.steps);
    }
  }

  void start_commit() {
    if (ledger_dead_ || commit_at_ != kNever || commit_upto_ == last_record_) return;
    // A slow ledger commits everything there is (group commit), a quick one sometimes less.
    commit_upto_ = commit_slow_ > Millis(2) || chance(0.5) ? last_record_ : RecordNumber(between(commit_upto_.value + 1, last_record_.value));
    commit_at_ = now_ + commit_slow_;
  }

  // ---- one step, and what it commands ------------------------------------------------------------------------------------------------
  void step() {
    events_.clear();
    commands_.clear();
    keeper_lost_now_ = false;
    gather();
    TimePoint told = now_;
    if (chance(backward_)) told -= micros(1, 100'000);
    seen_ = std::max(seen_, told);
    scheduler_.step(told, events_, commands_);
    ++report_.steps;
    report_.commands += commands_.size();
    if (verbose_) print();
    if (drained_ && !commands_.empty()) return violate("a command after Drained");
    ends_now_ = std::ranges::any_of(commands_, [](const Command& c) {
      return std::holds_alternative<command::GaveUp>(c) || std::holds_alternative<command::HostFault>(c);
    });
    for (const Command& c : commands_) {
      trace(c);
      std::visit([&](const auto& known) { obey(known); }, c);
      if (!report_.violation.empty()) {
        report_.violation += " [at: " + describe(c) + "]";
        return;
      }
    }
    for (const std::uint32_t i : accepted_) {
      ModelTask& task = tasks_[i];
      if (task.accepted > 0 && !task.recorded && !report_.host_fault) return violate("a publication of the current lease was not recorded");
      task.accepted = 0;
    }
    accepted_.clear();
    start_commit();
    check_limits();
    if (ends_by_ != kNever && !drained_) {
      const Nanos most = longest(options_.ladder) + options_.ledger_deadline + lateness_ + Millis(5);
      if (now_ > ends_by_ + most) violate("the end takes longer than the sum of its deadlines");
    }
  }

  void print() {
    const auto at = fmt::format("{:10.3f} ms", static_cast<double>((now_ - kStart).count()) / 1e6);
    for (const Event& e : events_) std::fputs(fmt::format("{}  > {}\n", at, describe(e)).c_str(), stderr);
    for (const Command& c : commands_) std::fputs(fmt::format("{}      < {}\n", at, describe(c)).c_str(), stderr);
  }

  void trace(const Command& c) {
    std::uint64_t h = hash_combine(c.index(), static_cast<std::uint64_t>(now_.time_since_epoch().count()));
    std::visit(Overloaded{[&](const command::Lease& x) { h = hash_combine(h, x.task.value * 1000 + x.slot.value * 100 + x.epoch.value); },
                          [&](const command::RecordCompleted& x) { h = hash_combine(h, x.task.value * 1000 + x.attempt); },
                          [&](const command::RecordOutcome& x) { h = hash_combine(h, x.task.value * 1000 + x.outcome.index()); },
                          [&](const command::AttemptEnded& x) { h = hash_combine(h, x.task.value * 1000 + x.outcome.index()); },
                          [&](const command::Deliver& x) { h = hash_combine(h, x.task.value); },
                          [&](const command::Revoke& x) { h = hash_combine(h, x.task.value); },
                          [&](const command::Spawn& x) { h = hash_combine(h, x.slot.value * 1000 + x.incarnation.value); },
                          [&](const command::Kill& x) { h = hash_combine(h, x.slot.value * 1000 + static_cast<std::uint64_t>(x.reason)); },
                          [](const auto&) {}},
               c);
    report_.trace_hash = hash_combine(report_.trace_hash, h);
  }

  void violate(std::string what) {
    if (report_.violation.empty()) report_.violation = std::move(what);
  }

  Process* find(SlotId slot, Incarnation incarnation) {
    for (auto i = processes_.rbegin(); i != processes_.rend(); ++i) {
      if (i->slot == slot && i->incarnation == incarnation) return &*i;
    }
    return nullptr;
  }
  /// A process the scheduler may still name.
  /// One whose death is told in this very step may still be named by commands that earlier events of the step caused.
  Process* known(SlotId slot, Incarnation incarnation, const char* what) {
    Process* const p = find(slot, incarnation);
    if (p == nullptr || (p->stage == Process::Stage::gone && p->gone_in_step != report_.steps)) {
      violate(fmt::format("{} for {}, which is gone or never was", what, text(slot, incarnation)));
      return nullptr;
    }
    return p;
  }

  void obey(const command::Spawn& c) {
    if (!keeper_up_) return violate("a spawn without a keeper");
    if (closing_ || report_.gave_up || report_.host_fault) return violate("a spawn after the end was asked for");
    if (c.slot.value >= options_.slots) return violate("a slot that does not exist");
    std::size_t here = 0;
    for (const std::uint32_t i : living_) here += processes_[i].slot == c.slot && processes_[i].stage != Process::Stage::gone && !processes_[i].retired;
    if (here >= 2) return violate("more than two processes in a slot");
    Process p;
    p.slot = c.slot;
    p.incarnation = c.incarnation;
    p.start_fails = chance(p_start_fails_);
    p.ignores_ask = chance(p_deaf_);
    p.ignores_term = chance(p_deaf_);
    p.unkillable = chance(p_unkillable_);
    p.lies = chance(p_lies_);
    p.next = chance(p_start_hangs_) ? kNever : now_ + (chance(0.1) ? millis(0, 60) : micros(10, 2000));
    if (chance(p_doom_)) p.doom = now_ + micros(0, 60'000);
    living_.push_back(static_cast<std::uint32_t>(processes_.size()));
    processes_.push_back(std::move(p));
  }

  void obey(const command::Lease& c) {
    Process* const p = known(c.slot, c.incarnation, "a lease");
    if (p == nullptr) return;
    if (p->stage == Process::Stage::gone) return violate("a lease to a process that is gone");
    if (!p->ready_told) return violate("a lease to a process that is not ready");
    if (p->killed_by_us || p->asked) return violate("a lease to a process that is being stopped");
    if (closing_ || report_.gave_up || report_.host_fault) return violate("a lease after the end was asked for");
    ModelTask& task = tasks_[c.task.value];
    if (!task.open || task.recorded) return violate("a lease of a task that is not open");
    if (task.holder >= 0) return violate("a lease of a task that is leased");
    if (c.epoch <= task.epoch) return violate("an epoch that does not grow");
    if (task.effect == EffectClass::effectful && task.claimed_ever) return violate("an effectful task that was begun is leased again");
    task.epoch = c.epoch;
    task.claimed_now = false;
    task.holder = static_cast<int>(p - processes_.data());
    p->view.push_back({c.task, c.epoch});
    if (p->view.size() == 1) p->head_since = now_;
    if (p->view.size() > options_.window) return violate("more leases than the window");
    if (!p->alive()) return;
    if (chance(p_stale_ * 0.2)) {  // no room in the ring
      replies_.push_back(event::Revoked{c.slot, c.incarnation, c.task, c.epoch, true});
      return;
    }
    p->ring.push_back({c.task, c.epoch});
    if (!p->claimed && p->next == kNever && p->stage == Process::Stage::running) p->next = now_ + micros(0, 50);
  }

  void obey(const command::Revoke& c) {
    Process* const p = known(c.slot, c.incarnation, "a revoke");
    if (p == nullptr) return;
    if (!is_head_or_held(*p, {c.task, c.epoch})) {
      if (!ended_in_this_step(c)) violate("a revoke of what is not leased there");
      return;
    }
    if (revoke_outstanding(c)) return;  // it never reached the process
    const auto at = std::ranges::find_if(p->ring, [&](const Lease& l) { return l.task == c.task && l.epoch == c.epoch; });
    const bool taken_back = at != p->ring.end();
    if (taken_back) p->ring.erase(at);
    if (!taken_back && !p->alive() && !claimed_or_published(*p, c)) {
      replies_.push_back(event::Revoked{c.slot, c.incarnation, c.task, c.epoch, true});  // never reached the dead process
      return;
    }
    replies_.push_back(event::Revoked{c.slot, c.incarnation, c.task, c.epoch, taken_back});
  }
  /// An event after the one that caused the revoke ended the lease.
  bool ended_in_this_step(const command::Revoke& c) const {
    return std::ranges::any_of(events_, [&](const Event& e) {
      if (const auto* const x = std::get_if<event::Published>(&e)) return x->task == c.task && x->epoch == c.epoch;
      if (const auto* const x = std::get_if<event::Revoked>(&e)) return x->taken_back && x->task == c.task && x->epoch == c.epoch;
      if (const auto* const x = std::get_if<event::Died>(&e)) return x->slot == c.slot && x->incarnation == c.incarnation;
      return std::holds_alternative<event::KeeperLost>(e);
    });
  }
  bool claimed_or_published(const Process& p, const command::Revoke& c) const {
    return (p.claimed && p.claimed->task == c.task && p.claimed->epoch == c.epoch) ||
           std::ranges::any_of(p.published, [&](const event::Published& e) { return e.task == c.task && e.epoch == c.epoch; });
  }

  void record(TaskId id, RecordNumber number) {
    if (id.value >= tasks_.size() || !tasks_[id.value].open) return violate("a record of a task that was never submitted");
    ModelTask& task = tasks_[id.value];
    if (task.recorded) return violate("a second record of one task");
    if (report_.host_fault) return violate("a record after a host fault");
    if (number != last_record_.next()) return violate("record numbers are not consecutive");
    last_record_ = number;
    task.recorded = true;
    task.record = number;
    if (task.holder >= 0) {  // the lease lapses with it
      Process& p = processes_[static_cast<std::size_t>(task.holder)];
      if (is_head_or_held(p, {id, task.epoch})) drop_from_view(p, {id, task.epoch});
      task.holder = -1;
    }
  }

  void obey(const command::RecordCompleted& c) {
    if (tasks_[c.task.value].accepted == 0) return violate("completed without a publication of the current lease");
    if (c.epoch != tasks_[c.task.value].epoch) return violate("completed with another epoch than the current lease's");
    record(c.task, c.record);
  }
  void obey(const command::RecordOutcome& c) {
    const ModelTask& task = tasks_[c.task.value];
    const bool was_leased = task.holder >= 0;
    if (was_leased && !ends_now_) return violate("a task is recorded while a worker holds it");
    const auto* const cancelled = std::get_if<outcome::Cancelled>(&c.outcome);
    if (cancelled != nullptr && cancelled->when == CancelKind::queued && task.claimed_now && task.epoch == c.epoch && !retired_now(c.task) && !liars()) {
      return violate("cancelled(queued) of a task that was begun");
    }
    check_own_kill(c.outcome, c.slot, c.incarnation);
    if (task.accepted > 0 && !std::holds_alternative<outcome::AppError>(c.outcome) && !ends_now_) return violate("a publication was recorded as something else");
    record(c.task, c.record);
  }
  bool liars() const { return p_lies_ > 0; }
  bool retired_now(TaskId) const {
    return std::ranges::any_of(commands_, [](const Command& c) { return std::holds_alternative<command::RetireSlot>(c); });
  }
  void check_own_kill(const Outcome& outcome, SlotId slot, Incarnation incarnation) {
    const auto* const lost = std::get_if<outcome::Lost>(&outcome);
    if (lost == nullptr || lost->cause != LossCause::killed) return;
    if (const Process* const p = find(slot, incarnation); p != nullptr && p->our_reason && *p->our_reason != KillReason::death_hint) {
      violate("our own SIGKILL is recorded as lost(killed)");
    }
  }

  void obey(const command::AttemptEnded& c) {
    ModelTask& task = tasks_[c.task.value];
    if (task.recorded) return violate("an attempt of a recorded task ended");
    if (is_completed(c.outcome)) return violate("AttemptEnded(completed)");
    check_own_kill(c.outcome, c.slot, c.incarnation);
    const bool presumed = keeper_lost_now_ || ends_now_ || retired_now(c.task) || liars();
    if (!presumed && !(task.claimed_now && task.epoch == c.epoch)) return violate("a task that was not begun is charged");
    task.claimed_now = false;  // charged for
    switch (retry_of(c.outcome)) {
      case RetryClass::blamed: ++task.blamed; break;
      case RetryClass::free: ++task.free; break;
      case RetryClass::none:
      case RetryClass::never:
        if (c.will_retry) return violate("an ending that is never tried again will be retried");
        break;
    }
    if (task.blamed > options_.retry.blamed_max + 1) return violate("more blamed attempts than the policy allows");
    if (task.free > options_.retry.free_max + 1) return violate("more free attempts than the policy allows");
    if (c.will_retry && task.effect == EffectClass::effectful) return violate("an effectful task will be retried");
    if (c.leased_at > c.ended_at || c.started_at > c.ended_at || c.started_at < c.leased_at) return violate("times of an attempt out of order");
  }

  void obey(const command::Deliver& c) {
    ModelTask& task = tasks_[c.task.value];
    if (!task.recorded) return violate("a delivery without a record");
    if (task.delivered) return violate("a second delivery of one task");
    if (task.record > committed_) return violate("a delivery before its commit");
    task.delivered = true;
  }

  void obey(const command::AskStop& c) {
    Process* const p = known(c.slot, c.incarnation, "AskStop");
    if (p == nullptr) return;
    if (p->killed_by_us || p->terminated || p->asked) return violate("the ladder goes up, not down");
    p->asked = true;
    if (p->alive() && !p->ignores_ask && !p->claimed) p->next = now_ + micros(0, 200);
  }
  void obey(const command::Terminate& c) {
    Process* const p = known(c.slot, c.incarnation, "Terminate");
    if (p == nullptr) return;
    if (!p->asked || p->killed_by_us || p->terminated) return violate("SIGTERM out of turn");
    p->terminated = true;
    if (p->alive() && !p->ignores_term) die(*p, now_, 15);
  }
  void obey(const command::Kill& c) {
    Process* const p = known(c.slot, c.incarnation, "Kill");
    if (p == nullptr) return;
    if (p->killed_by_us) return violate("a second SIGKILL");
    p->our_reason = c.reason;
    if (p->unkillable) {
      p->killed_by_us = true;
      p->next = p->doom = kNever;
      return;
    }
    if (p->alive()) {
      p->killed_by_us = true;
      die(*p, now_, 9);
    } else {
      p->killed_by_us = true;
      if (p->evidence.how == ExitEvidence::How::signalled && p->evidence.code_or_signal == 9) return;
      if (c.reason != KillReason::death_hint) p->our_reason.reset();  // it had died by itself, of something else
    }
  }
  void obey(const command::Sample& c) {
    Process* const p = known(c.slot, c.incarnation, "Sample");
    if (p == nullptr) return;
    event::Sampled s{c.slot, c.incarnation, p->progress, p->cpu, 20, p->stopped, {}};
    if (p->claimed) {
      s.started = p->claimed->task;
      if (p->fate == Fate::spin) s.cpu += now_ - p->claimed_at;
      if (p->fate == Fate::leak) s.rss_bytes += 100 + rng_.below(300);
    }
    replies_.push_back(s);
  }
  void obey(const command::SaveQuarantined& c) {
    if (tasks_[c.task.value].recorded) violate("quarantined after its record");
  }
  void obey(const command::RetireSlot& c) {
    Process* const p = known(c.slot, c.incarnation, "RetireSlot");
    if (p == nullptr) return;
    if (!p->killed_by_us) return violate("a slot is retired without a SIGKILL");
    p->retired = true;
    // Which of its leases had begun is not known: the head is presumed to have, the others count as waiting again.
    for (const Lease& lease : p->view) tasks_[lease.task.value].claimed_now = false;
    clear_view(*p);
    p->stage = Process::Stage::gone;
    p->next = p->doom = p->hint = p->confess = kNever;
    if (chance(0.5)) {  // it dies after all, perhaps with a result nobody waits for any more
      p->report = now_ + millis(1, 100);
      if (p->claimed && chance(0.5)) p->published.push_back({p->slot, p->incarnation, p->claimed->task, p->claimed->epoch, false});
    }
    if (p->report == kNever) p->bell = kNever;
  }
  void obey(const command::GaveUp&) {
    report_.gave_up = true;
    ending_asked_ = true;
    ends_by_ = std::min(ends_by_, now_);
    for (const ModelTask& task : tasks_) {
      if (task.open && !task.recorded) return violate("given up with a task that is not recorded");
    }
  }
  void obey(const command::HostFault&) {
    report_.host_fault = true;
    if (!ledger_dead_ && lateness_ == Nanos(0) && backward_ == 0 && options_.ledger_deadline * 3 > (2 * commit_slow_ + Millis(45)) * 4) return violate("a host fault though the ledger answers in time");
    ending_asked_ = true;
    ends_by_ = std::min(ends_by_, now_);
    for (const std::uint32_t i : living_) clear_view(processes_[i]);
  }
  void obey(const command::Drained&) {
    if (drained_) return violate("drained twice");
    drained_ = true;
    if (!ending_asked_) return violate("drained without an end");
    for (const std::uint32_t i : living_) {
      if (processes_[i].stage != Process::Stage::gone) return violate("drained with a process that is alive: " + text(processes_[i].slot, processes_[i].incarnation));
    }
  }

  // ---- invariants that need time -------------------------------------------------------------------------------------------------------
  void check_limits() {
    if (report_.gave_up || report_.host_fault) return;
    for (const std::uint32_t i : living_) {
      const Process& p = processes_[i];
      if (p.stage == Process::Stage::gone || p.view.empty() || p.killed_by_us || !p.ready_told) continue;
      const Nanos wall = limit_values_[tasks_[p.view.front().task.value].limits].attempt_wall;
      if (seen_ > after(p.head_since, wall) && !revoke_outstanding(p)) return violate("an attempt runs beyond its wall limit");
    }
    std::erase_if(limited_, [&](std::uint32_t i) { return tasks_[i].recorded; });
    for (const std::uint32_t i : limited_) {
      const ModelTask& task = tasks_[i];
      const TimePoint due = after(task.submitted, limit_values_[task.limits].task);
      if (due != kNever && seen_ > due + options_.ladder.reap + kLongestReport + lateness_ + Millis(5)) return violate("a task is open beyond its limit");
      const TimePoint queue_due = after(task.submitted, limit_values_[task.limits].queue);
      if (queue_due != kNever && seen_ > queue_due && task.holder < 0 && task.epoch.value == 0) return violate("a task waits beyond its queue limit");
    }
  }
  bool revoke_outstanding(const command::Revoke& c) const {
    return std::ranges::any_of(replies_, [&](const Event& e) {
      const auto* const revoked = std::get_if<event::Revoked>(&e);
      return revoked != nullptr && revoked->task == c.task && revoked->epoch == c.epoch && revoked->taken_back;
    });
  }
  bool revoke_outstanding(const Process& p) const {
    return std::ranges::any_of(replies_, [&](const Event& e) {
      const auto* const revoked = std::get_if<event::Revoked>(&e);
      return revoked != nullptr && revoked->slot == p.slot && revoked->incarnation == p.incarnation;
    });
  }

  /// Nobody but the script will do anything, and the scheduler sleeps for ever: then nothing may be open but what hangs without limit.
  void check_not_forgotten(TimePoint world) {
    if (scheduler_.next_deadline() != kNever || world != kNever) return;
    bool unrecorded = false;
    for (const ModelTask& task : tasks_) unrecorded |= task.open && !task.recorded;
    if (!unrecorded) return;
    for (const std::uint32_t i : living_) {
      const Process& p = processes_[i];
      if (p.stage == Process::Stage::running && p.claimed && p.next == kNever) return;  // hangs, and no limit was set
    }
    std::string who;
    for (const std::uint32_t i : living_) {
      const Process& p = processes_[i];
      who += fmt::format(" {}:stage {}{}{}{}", text(p.slot, p.incarnation), static_cast<int>(p.stage), p.claimed ? " claimed" : "",
                         p.next == kNever ? "" : " moves", p.ring.empty() ? "" : " has leases");
    }
    violate("tasks are open, nobody works on them and the scheduler sleeps;" + who);
  }

  void check_end() {
    if (report_.host_fault) return;
    for (std::size_t i = 0; i < tasks_.size(); ++i) {
      if (tasks_[i].open && !tasks_[i].delivered) return violate(fmt::format("task {} is lost: {}", i, tasks_[i].recorded ? "not delivered" : "not recorded"));
    }
    if (scheduler_.open_tasks() != 0) violate("the scheduler counts open tasks after the end");
  }

  Rng rng_;
  bool verbose_;
  SchedulerOptions options_;
  double late_ = 0, backward_ = 0;
  double p_crash_ = 0, p_exit_ = 0, p_kill_ = 0, p_hang_ = 0, p_app_error_ = 0, p_garbage_ = 0, p_leak_ = 0, p_after_ = 0, p_twice_ = 0, p_doom_ = 0,
         p_false_hint_ = 0, p_start_fails_ = 0, p_start_hangs_ = 0, p_deaf_ = 0, p_unkillable_ = 0, p_stale_ = 0, p_lies_ = 0;
  bool slow_ = false, commit_fails_ = false, keeper_returns_ = true, keeper_up_ = true, keeper_lost_now_ = false, ledger_dead_ = false;
  bool ending_asked_ = false, closing_ = false, drained_ = false, ends_now_ = false;
  Nanos commit_slow_{}, lateness_{};
  TimePoint now_ = kStart, seen_ = kStart;
  TimePoint commit_at_ = kNever, commit_dies_at_ = kNever, keeper_at_ = kNever, ends_by_ = kNever;
  RecordNumber last_record_{}, commit_upto_{}, committed_{};
  std::vector<ModelTask> tasks_;
  std::vector<TaskLimits> limit_values_;
  std::vector<std::pair<TimePoint, Event>> script_;
  std::size_t next_scripted_ = 0;
  std::vector<Process> processes_;
  std::vector<std::uint32_t> living_, limited_, accepted_;
  std::vector<Event> events_, replies_, stale_;
  std::vector<Command> commands_;
  ScheduleReport report_;
  Scheduler scheduler_;
};

}  // namespace

ScheduleReport run_schedule(std::uint64_t seed, bool verbose) { return World(seed, verbose).run(); }

SimulationSummary run_schedules(std::uint64_t seed, std::uint64_t schedules, bool stop_at_first) {
  SimulationSummary sum;
  for (std::uint64_t i = 0; i < schedules; ++i) {
    const ScheduleReport report = run_schedule(seed + i);
    ++sum.schedules;
    sum.steps += report.steps;
    sum.commands += report.commands;
    sum.tasks += report.tasks;
    sum.completed += report.completed;
    sum.retries += report.retries;
    sum.deaths += report.deaths;
    sum.late += report.late;
    sum.revoked += report.revoked;
    sum.recycled += report.recycled;
    sum.retired += report.retired;
    sum.gave_up += report.gave_up;
    sum.host_faults += report.host_fault;
    sum.trace_hash = hash_combine(sum.trace_hash, report.trace_hash);
    if (!report.violation.empty()) {
      if (sum.violations++ == 0) {
        sum.first_bad_seed = seed + i;
        sum.first_violation = report.violation;
      }
      if (stop_at_first) break;
    }
  }
  return sum;
}

std::string text_of(const SimulationSummary& s) {
  std::string text = fmt::format(
      "{} schedules, {} steps, {} commands: {} tasks, {} completed, {} retries, {} deaths, {} late results discarded, {} leases taken back, "
      "{} workers recycled, {} slots retired, {} pools given up, {} host faults; trace {:016x}\n",
      s.schedules, s.steps, s.commands, s.tasks, s.completed, s.retries, s.deaths, s.late, s.revoked, s.recycled, s.retired, s.gave_up, s.host_faults,
      s.trace_hash);
  if (s.violations != 0) {
    text += fmt::format("{} violations; the first at seed {}: {}\nreplay: drover_schedules --seed {} --schedules 1 --verbose\n", s.violations,
                        s.first_bad_seed, s.first_violation, s.first_bad_seed);
  }
  return text;
}

}  // namespace drover::sim
