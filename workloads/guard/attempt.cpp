#include "guard/attempt.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>

#include "drover/clock.hpp"
#include "drover/command.hpp"
#include "drover/types/outcome.hpp"
#include "guard/checkpoints.hpp"
#include "guard/launcher.hpp"
#include "guard/live.hpp"
#include "guard/progress.hpp"

namespace drover::guard {
namespace {

constexpr int kTerm = 15, kKill = 9, kContinue = 18;
constexpr Nanos kTick = Millis(20);        ///< how often limits and liveness are looked at
constexpr Nanos kDiskTick = Millis(500);   ///< how often the disk is looked at

void put_text(std::array<char, 1024>& into, std::string_view text) {
  const std::size_t size = std::min(text.size(), into.size() - 1);
  std::copy_n(text.begin(), size, into.begin());
  into[size] = '\0';
}

/// One attempt: a small loop around Command::next, woken by events and by the tick.
class Attempt {
 public:
  Attempt(Launched launched, const AttemptInput& input, Context& context, Launcher& launcher)
      : shared_(std::move(launched.orders)),
        orders_(*shared_),
        input_(input),
        context_(context),
        launcher_(launcher),
        log_(orders_.log, orders_.log_bytes_max),
        progress_(orders_),
        stored_(std::move(launched.checkpoints)),
        checkpoints_(*stored_),
        command_(std::move(launched.command)),
        begin_(launched.begin) {
    report_.step = std::max(input.step_before, checkpoints_.resume_step());
  }

  AttemptReport run() {
    stall_ = StallClock(orders_.stall, *parse_phase_times(orders_.phase_times), now());
    while (!ended_ && now() < leave_at_) {
      if (auto event = command_.next(std::min({now() + kTick, kill_at_, leave_at_}))) std::visit([this](const auto& what) { on(what); }, *event);
      else launcher_.prepare(shared_);
      if (!ended_) look();
    }
    // Its init alone is left, and starts nobody by itself: the successor need not wait until that is gone too.
    const bool alone = command_.is_empty();
    const auto gone = alone ? Result<void>() : command_.end(std::min(leave_at_, now() + Seconds(5)));
    if (!gone && leave_at_ != kNever) {
      // The job is over: the keeper's namespace takes them with it, and proves it. What is known so far is reported in time.
    } else if (!gone) {
      report_.end = AttemptEnd::unkillable;
      put_text(report_.text, gone.error().what());
    }
    if (killed_at_ != kNever && gone) report_.release = now() - killed_at_;
    if (checkpoints_.on()) stored(checkpoints_.settle(report_.step));
    if (reason_ && report_.end != AttemptEnd::unkillable) report_.end = *reason_;  // of what was left to be saved
    report_.checkpoints = checkpoints_.committed();
    report_.checkpoints_quarantined = checkpoints_.quarantined();
    report_.log_bytes_dropped = log_.dropped();
    report_.wall = now() - begin_;
    stored_.reset();  // its lease is over before the next attempt takes one
    if (!context_.stopping()) launcher_.ended(shared_, input_.number, report_);
    if (alone) (void)command_.end(now() + Seconds(5));
    return report_;
  }

 private:
  void on(const command::Output& output) {
    log_.write(output.bytes);
    const std::uint64_t before = report_.step;
    if (progress_.output(output.bytes, report_.step)) progressed(report_.step > before || before == 0);
    check_steps();
  }
  void on(const command::Notice& notice) {
    const auto number = [&] { return std::strtod(notice.value.c_str(), nullptr); };
    if (notice.name == "READY") report_.ready = true;
    if (notice.name == "STEP") {
      std::uint64_t step = 0;
      if (std::from_chars(notice.value.data(), notice.value.data() + notice.value.size(), step).ec == std::errc()) reached(step);
    } else if (notice.name == "WATCHDOG" || notice.name == "READY" || notice.name == "STATUS") {
      beat();
    } else if (notice.name == "PHASE") {
      if (const auto phase = phase_named(notice.value)) stall_.entered(*phase, now());
    } else if (notice.name == "METRIC") {
      checkpoints_.metric(number());
    } else if (notice.name.starts_with("METRIC_")) {
      checkpoints_.metric(notice.name.substr(7), number());
    } else if (notice.name == "STATE") {
      checkpoints_.state(notice.value);
    } else if (notice.name == "CHECKPOINT" && checkpoints_.on()) {
      commit(notice.value);
    }
    check_steps();  // EXTEND_TIMEOUT_USEC is not read: a limit is not for the command to move
  }
  void on(const command::FileWritten& file) { checkpoints_.written(file.name, now()); }
  void on(const command::Ended& ended) {
    report_.cpu = std::max(report_.cpu, ended.user_time + ended.system_time);
    report_.rss_peak_bytes = std::max(report_.rss_peak_bytes, ended.rss_max_bytes);
    report_.step = std::max(report_.step, command_.trainer().step);  // what it reached since the last look
    ended_ = true;
    if (reason_) {
      report_.end = *reason_;
      return;
    }
    report_.end = ended.signalled ? AttemptEnd::signalled : AttemptEnd::exited;
    report_.code = ended.code_or_signal;
    // The kernel's own memory limit stands a little above ours: who jumps over both at once is killed by it, without our word.
    if (ended.signalled && ended.code_or_signal == kKill && orders_.memory_bytes_max != 0 && report_.rss_peak_bytes >= orders_.memory_bytes_max / 4 * 3) {
      report_.end = AttemptEnd::memory;
      put_text(report_.text, "the kernel killed it");
    }
  }

  void commit(const std::string& name) {
    const std::uint64_t before = checkpoints_.committed();
    if (orders_.disk_bytes_max != 0) check_disk();
    stored(checkpoints_.commit(name, report_.step));
    if (checkpoints_.committed() > before) progressed(true);
  }
  /// What the store said to a commit, and what follows.
  void stored(const Result<void>& done) {
    if (!checkpoints_.gave_up().empty()) ask(AttemptEnd::probe, checkpoints_.gave_up());
    if (done) return;
    ++report_.checkpoints_refused;
    const std::string& why = done.error().what();
    log_.write("drover: " + why + "\n");
    if (done.error().code() == ErrorCode::fenced) kill(AttemptEnd::fenced, why);
    else if (done.error().code() == ErrorCode::limit_steps) ask(AttemptEnd::steps, why);
    else if (done.error().code() == ErrorCode::limit_checkpoints) ask(AttemptEnd::checkpoints, why);
  }
  void check_disk() {
    const std::uint64_t bytes = checkpoints_.bytes_on_disk();
    if (bytes > orders_.disk_bytes_max) ask(AttemptEnd::disk, fmt::format("staging and store hold {} bytes, {} are allowed", bytes, orders_.disk_bytes_max));
  }

  void progressed(bool new_step) {
    stall_.progressed(now(), new_step);
    context_.progress(++beats_);
  }
  /// A sign of life; once steps are told, a beat without one is no progress.
  void beat() {
    if (!steps_told_) progressed(true);
  }
  void reached(std::uint64_t step) {
    if (step <= report_.step) return;
    report_.step = step;
    steps_told_ = true;
    progressed(true);
  }
  void check_steps() {
    if (orders_.steps_max != 0 && report_.step >= orders_.steps_max) ask(AttemptEnd::steps, fmt::format("step {} of {}", report_.step, orders_.steps_max));
  }

  void look() {
    const TimePoint at = now();
    if (at >= kill_at_) {
      kill_now();
      kill_at_ = kNever;
      return;
    }
    if (context_.stopping()) ask(AttemptEnd::stopped, "asked to stop");
    read_page();
    if (checkpoints_.on()) {
      stored(checkpoints_.tick(at, report_.step));
      if (orders_.disk_bytes_max != 0 && at >= disk_at_) {
        check_disk();
        disk_at_ = at + kDiskTick;
      }
    }
    if (checkpoints_.committed() != shown_) {
      live_.committed(report_.step, at);
      shown_ = checkpoints_.committed();
    }
    const TreeUsage usage = command_.usage();
    report_.rss_peak_bytes = std::max(report_.rss_peak_bytes, usage.rss_bytes);
    const bool worked = usage.cpu > report_.cpu;
    report_.cpu = std::max(report_.cpu, usage.cpu);
    live_.write(report_.step, stall_.phase(), usage.processes, usage.rss_bytes);
    if (reason_) return;
    if (orders_.memory_bytes_max != 0 && usage.rss_bytes > orders_.memory_bytes_max)
      return kill(AttemptEnd::memory, fmt::format("{} processes held {} bytes, the limit is {}", usage.processes, usage.rss_bytes, orders_.memory_bytes_max));
    if (input_.cpu_left != kUnlimited && usage.cpu >= input_.cpu_left)
      return ask(AttemptEnd::cpu, fmt::format("{} of CPU time in this attempt, {} were left", drover::text_of(usage.cpu), drover::text_of(input_.cpu_left)));
    if (progress_.file_changed() || (!progress_.tells() && worked)) progressed(true);
    if (const auto silence = stall_.stalled(at)) stalled(*silence);
  }
  /// What the trainer's page says now: its step, its phase, its beats.
  void read_page() {
    const TrainerSaid said = command_.trainer();
    if (said.phase != page_.phase && said.phase < kPhases) stall_.entered(static_cast<Phase>(said.phase), now());
    if (said.beats != page_.beats) beat();
    if (said.step != page_.step) {
      reached(said.step);
      check_steps();
    }
    page_ = said;
  }
  void stalled(const std::string& silence) {
    // Kernel truth over the last part of the silence: did the tree use the processor?
    const std::string evidence = command_.evidence();
    const bool stopped = evidence.starts_with("state T");
    const bool spinning = !stopped && evidence.starts_with("state R");
    const char* const how = stopped ? "stopped" : spinning ? "spinning" : "blocked";
    std::ofstream(orders_.evidence, std::ios::app) << fmt::format("attempt {}, step {}, phase {}: {}\n{}\n", input_.number, report_.step, name_of(stall_.phase()), silence, evidence);
    kill(AttemptEnd::stalled, fmt::format("{} ({}): {}", silence, how, evidence.substr(0, evidence.find('\n'))));
  }
  /// The polite way: TERM now, KILL after the grace.
  void ask(AttemptEnd why, std::string_view text) {
    if (reason_) return;
    reason_ = why;
    put_text(report_.text, text);
    command_.ask_to_stop();
    (void)command_.signal(kTerm);
    (void)command_.signal(kContinue);  // a stopped process takes a TERM only when it goes on
    kill_at_ = now() + orders_.stop_grace;
  }
  void kill(AttemptEnd why, std::string_view text) {
    if (reason_) return;
    reason_ = why;
    put_text(report_.text, text);
    kill_now();
  }
  void kill_now() {
    (void)command_.signal(kKill);
    killed_at_ = now();
    if (reason_ == AttemptEnd::stopped) leave_at_ = killed_at_ + orders_.release;
  }

  std::shared_ptr<const Orders> shared_;
  const Orders& orders_;
  const AttemptInput& input_;
  Context& context_;
  Launcher& launcher_;
  AttemptReport report_{};
  Log log_;
  ProgressReader progress_;
  std::unique_ptr<Checkpoints> stored_;
  Checkpoints& checkpoints_;
  Command command_;
  std::optional<AttemptEnd> reason_{};
  StallClock stall_{kUnlimited, {}, TimePoint{}};
  TrainerSaid page_{};
  LiveAttempt live_ = LiveAttempt::in(context_.shared_segment());
  TimePoint begin_, disk_at_{}, kill_at_ = kNever, killed_at_ = kNever, leave_at_ = kNever;  // leave_at_: reported then, gone or not
  std::uint64_t beats_ = 0, shown_ = 0;
  bool steps_told_ = false, ended_ = false;
};

std::string signal_text(int number) { return drover::text_of(Outcome(outcome::Crashed{number})); }

}  // namespace

std::string_view name_of(AttemptEnd end) {
  switch (end) {
    using enum AttemptEnd;
    case exited: return "exited";
    case signalled: return "signalled";
    case steps: return "steps";
    case checkpoints: return "checkpoints";
    case disk: return "disk";
    case probe: return "probe";
    case fenced: return "fenced";
    case cpu: return "cpu";
    case memory: return "memory";
    case stalled: return "stalled";
    case stopped: return "stopped";
    case not_started: return "not_started";
    case lost: return "lost";
    case unkillable: return "unkillable";
  }
  std::unreachable();
}

std::string text_of(const AttemptReport& report) {
  const std::string text(report.text.data(), std::find(report.text.begin(), report.text.end(), '\0'));
  switch (report.end) {
    using enum AttemptEnd;
    case exited: return fmt::format("exited({})", report.code);
    case signalled: return signal_text(report.code);
    case steps:
    case checkpoints:
    case disk:
    case probe:
    case fenced:
    case cpu:
    case memory:
    case stalled:
    case stopped:
    case not_started:
    case lost:
    case unkillable: return text.empty() ? std::string(name_of(report.end)) : text;
  }
  std::unreachable();
}

Result<AttemptReport> attempt(const AttemptInput& input, Context& context) {
  static Launcher launcher;  // of this worker process, which runs one attempt at a time
  DROVER_TRY(Orders orders, decode_orders(context.broadcast()));
  auto launched = launcher.take(std::make_shared<const Orders>(std::move(orders)), input.number);
  if (launched) return Attempt(std::move(*launched), input, context, launcher).run();
  AttemptReport report{.end = AttemptEnd::not_started, .step = input.step_before};
  put_text(report.text, launched.error().what());
  return report;
}

}  // namespace drover::guard
