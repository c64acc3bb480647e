#include "guard/guard.hpp"

#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <regex>
#include <thread>

#include "drover/clock.hpp"
#include "drover/probe.hpp"
#include "guard/attempt.hpp"
#include "guard/live.hpp"
#include "guard/orders.hpp"
#include "guard/progress.hpp"
#include "guard/restart.hpp"

namespace drover::guard {
namespace {

constexpr Nanos kLook = Millis(50);
constexpr Nanos kRelease = Millis(100);  ///< of small memories
constexpr Nanos kReleaseGiB = Millis(250);
constexpr Nanos kReport = Millis(200);   ///< from the end of an attempt to its report, a sync of the ledger on a slow disk included
constexpr std::uint64_t kOwnMemory = std::uint64_t{32} << 20;   ///< of the worker and the command's init, beside the command
constexpr std::uint32_t kOwnProcesses = 5;                      ///< worker, anchor and init, and those of the next attempt

class GuardPlan final : public JobPlan {
 public:
  void describe(Schema& schema) override {
    schema.words("command", command_, "the command to guard and its arguments");
    schema.text("directory", directory_, "its working directory");
    schema.duration("wall", wall_, {Millis(100), kUnlimited}, "time the job may run, restarts and resumes together");
    schema.duration("cpu", cpu_, {Millis(10), kUnlimited}, "CPU time of everything it starts, restarts and resumes together");
    schema.bytes("memory", memory_, {}, "resident memory of everything it starts; 0: no limit");
    schema.integer("pids", pids_, {0, 1'000'000}, "processes and threads it may have at a time; 0: no limit");
    schema.integer("steps", steps_, {}, "end at this step, as --progress-regex or STEP=N of sd_notify tells it; 0: no limit");
    schema.duration("stall", stall_, {Millis(50), kUnlimited}, "it may go so long without progress");
    schema.text("progress-regex", progress_, "regular expression: a line of its output that matches is progress; group 1, if any, is the step");
    schema.text("progress-file", progress_file_, "file whose newer modification time is progress");
    schema.flag("notify", notify_, "give it NOTIFY_SOCKET: READY=1, WATCHDOG=1, STATUS=..., STEP=N (sd_notify)");
    schema.choice("restart", restart_, {"permanent", "transient", "temporary"}, "start it again always, unless it exited with 0, or never");
    schema.integer("restarts", policy_.intensity, {1, 1'000'000}, "more restarts within --restart-period end the job");
    schema.duration("restart-period", policy_.period, {Millis(1), kUnlimited}, "see --restarts");
    schema.integer("no-progress", policy_.no_progress_max, {1, 1'000'000}, "restarts in a row without a new step, where steps are told");
    schema.duration("restart-delay", policy_.delay_first, {Nanos(0), Seconds(3600)}, "before the first restart; doubles, up to 30 s, while no step is made");
    schema.duration("grace", grace_, {Millis(10), Seconds(3600)}, "between TERM and KILL");
    schema.text("store", store_, "checkpoint store for what it saves (needs --notify): drover ckpt looks after it");
    schema.text("lineage", lineage_, "name of its line of checkpoints; a new run under the same name goes on from the newest good one");
    schema.integer("keep-last", keep_last_, {1, 1'000'000}, "newest good checkpoints to keep");
    schema.integer("keep-best", keep_best_, {0, 1'000'000}, "best checkpoints by METRIC to keep");
    schema.integer("keep-every", keep_every_, {}, "keep those whose step is a multiple; 0: none");
    schema.integer("checkpoints", checkpoints_max_, {0, 1'000'000}, "end when more are protected than this; 0: no bound");
    schema.bytes("disk", disk_, {}, "of its staging directory and the store together; 0: no limit");
    schema.text("ingest", ingest_, "DIRECTORY/PATTERN: a file the command closes there is a checkpoint once it stands still (a trainer that knows nothing of us)");
    schema.text("fingerprint", fingerprint_, "JSON file {config, features} that a checkpoint must match to be gone on from");
    schema.flag("fresh", fresh_, "start anew beside what the lineage holds");
    schema.text("probe", probe_rules_, "what a checkpoint must fulfil: 'finite; norm 10; kl TENSOR 0.5; share TENSOR 0.9; entropy TENSOR 0.05; metric NAME >= 0'");
    schema.text("probe-command", probe_command_, "command that exits with 0 if the checkpoint in the directory DROVER_PROBE is good");
    schema.duration("probe-time", probe_time_, {Millis(10), Seconds(86400)}, "it may take");
    schema.integer("probe-failures", probe_failures_, {1, 1'000'000}, "so many failed probes in a row end the run");
    schema.text("phases", phases_, "times for the phases the command tells: load=60s,save=30s,eval=5m");
    schema.flag("spare", spare_, "keep the next attempt started, waiting where its trainer client is made (needs --notify)");
    schema.flag("hard-release", hard_release_, "at --wall the memory is freed too, not only the last instruction run: ends it earlier by 250 ms a GiB of --memory");
    schema.flag("advisory", advisory_, "run even where this host cannot contain it or enforce its limits, and say so");
    schema.bytes("log", log_bytes_, {}, "of its output kept in command.log; the rest is read, counted and dropped");
  }

  Result<JobTraits> traits() override {
    if (directory_.empty()) directory_ = std::filesystem::current_path().string();
    if (!progress_.empty()) {
      try {
        (void)std::regex(progress_);
      } catch (const std::regex_error& e) {
        return fail(ErrorCode::usage, fmt::format("--progress-regex '{}': is no regular expression: {}", progress_, e.what()), "ECMAScript syntax, as in: step (\\d+)");
      }
    }
    if (steps_ != 0 && progress_.empty() && !notify_)
      return fail(ErrorCode::usage, "--steps needs to be told the step", "add --progress-regex 'step (\\d+)', or --notify where the command sends STEP=N");
    if (!store_.empty() && !notify_ && ingest_.empty())
      return fail(ErrorCode::usage, "--store needs to know when something is to be saved", "add --notify where the command says CHECKPOINT=NAME, or --ingest 'checkpoints/*.pt'");
    for (const auto& [name, given] : {std::pair("--ingest", &ingest_), std::pair("--fingerprint", &fingerprint_), std::pair("--probe", &probe_rules_), std::pair("--probe-command", &probe_command_)})
      if (!given->empty() && store_.empty()) return fail(ErrorCode::usage, fmt::format("{} needs --store", name), "name the checkpoint store: --store DIR");
    if (hard_release_ && (memory_ == 0 || wall_ == kUnlimited)) return fail(ErrorCode::usage, "--hard-release needs to know how much memory must be freed by when", "add --memory and --wall");
    if (spare_ && (!notify_ || restart_ == "temporary")) return fail(ErrorCode::usage, "--spare is of use only to a trainer of our client that is started again", "add --notify and --restart transient");
    if (disk_ != 0 && store_.empty()) return fail(ErrorCode::usage, "--disk bounds a checkpoint store", "name it: --store DIR");
    DROVER_CHECK(parse_phase_times(phases_));
    DROVER_CHECK(parse_probe_rules(probe_rules_));
    DROVER_CHECK(split_words(probe_command_));
    if (!fingerprint_.empty()) {
      auto text = fingerprint_text();
      if (!text) return std::unexpected(std::move(text).error().with(fmt::format("--fingerprint '{}'", fingerprint_)));
      if (auto parsed = parse_fingerprint(*text); !parsed) return std::unexpected(std::move(parsed).error().with(fmt::format("--fingerprint '{}'", fingerprint_)));
    }
    if (!ingest_.empty() && !std::filesystem::is_directory(absolute(ingest_).parent_path()))
      return fail(ErrorCode::usage, fmt::format("--ingest '{}': '{}' is no directory", ingest_, absolute(ingest_).parent_path().string()), "DIRECTORY/PATTERN, as in: checkpoints/*.pt");
    policy_.restart = restart_ == "permanent" ? Restart::permanent : restart_ == "transient" ? Restart::transient : Restart::temporary;
    JobTraits traits{.grain = Grain::rows, .identity = "guard 1 " + join_words(command_) + " in " + directory_, .wall = wall_, .stop_margin = stop_margin(), .workers_max = 1, .exact = false};
    traits.pool.window = 1;
    traits.pool.shared_segment_bytes = LiveAttempt::kBytes;
    traits.pool.retry.blamed_max = 0;
    if (memory_ != 0) traits.pool.worker.memory_bytes = memory_ + kOwnMemory;
    if (pids_ != 0) traits.pool.worker.processes = pids_ + kOwnProcesses;
    if (!advisory_) traits.require = pids_ != 0 ? "containment,processes" : "containment";
    traits.pool.ladder.ask = grace_ + Seconds(2);  // the worker ends the command first
    return traits;
  }

  Result<void> run(Job& job) override {
    const std::string directory = job.directory().string();
    DROVER_TRY(std::vector<std::string> probe_command, split_words(probe_command_));
    std::string fingerprint;
    if (!fingerprint_.empty()) {
      DROVER_TRY(fingerprint, fingerprint_text());
    }
    const Orders orders{.command = command_,
                        .directory = directory_,
                        .log = directory + "/command.log",
                        .evidence = directory + "/evidence.txt",
                        .notify_directory = notify_ ? directory : std::string(),
                        .progress_regex = progress_,
                        .progress_file = progress_file_,
                        .store = store_.empty() ? std::string() : absolute(store_).string(),
                        .lineage = lineage_,
                        .staging = directory + "/staging",
                        .run = job.directory().filename().string(),
                        .fingerprint = fingerprint,
                        .probe_rules = probe_rules_,
                        .ingest = ingest_.empty() ? std::string() : absolute(ingest_).string(),
                        .phase_times = phases_,
                        .probe_command = std::move(probe_command),
                        .log_bytes_max = log_bytes_,
                        .memory_bytes_max = memory_,
                        .steps_max = steps_,
                        .stall = stall_,
                        .stop_grace = grace_,
                        .release = release(),
                        .probe_time = probe_time_,
                        .probe_failures = probe_failures_,
                        .disk_bytes_max = disk_,
                        .policy = policy_,
                        .fresh = fresh_,
                        .spare = spare_,
                        .keep_last = keep_last_,
                        .keep_best = keep_best_,
                        .keep_every = keep_every_,
                        .checkpoints_max = checkpoints_max_};
    DROVER_CHECK(job.pool().broadcast(encode(orders)));
    std::vector<AttemptReport> attempts;
    Nanos cpu{};
    for (;;) {
      const AttemptInput input{.number = attempts.size() + 1,
                               .step_before = attempts.empty() ? 0 : attempts.back().step,
                               .cpu_left = cpu_ == kUnlimited ? kUnlimited : std::max(Nanos(0), cpu_ - cpu)};
      DROVER_TRY(auto future, job.pool().submit(attempt_task, input, {.effect = EffectClass::effectful}));
      auto result = wait_for(job, future, attempts.size() + 1);
      if (!result) break;  // the pool is over; the runtime says why
      AttemptReport report;
      if (*result) report = **result;
      else report = lost(result->error(), input);
      cpu += report.cpu;
      attempts.push_back(report);
      if (report.end == AttemptEnd::stopped || job.should_stop()) break;
      const Decision decision = decide(policy_, attempts);
      if (decision.ending) {
        job.conclude(*decision.ending);
        break;
      }
      for (const TimePoint until = now() + decision.delay; now() < until && !job.should_stop();) std::this_thread::sleep_for(std::min<Nanos>(kLook, until - now()));
      if (job.should_stop()) break;
    }
    tell(job, attempts, cpu);
    return {};
  }

 private:
  /// How long the memory may take to be freed before --wall is over.
  Nanos stop_margin() const { return grace_ + kReport + release(); }
  Nanos release() const { return kRelease + (hard_release_ ? Nanos(static_cast<std::int64_t>(memory_ >> 20) * kReleaseGiB.count() / 1024) : Nanos(0)); }
  std::filesystem::path absolute(const std::string& path) const { return std::filesystem::absolute(std::filesystem::path(directory_) / path); }
  Result<std::string> fingerprint_text() const {
    std::ifstream in(absolute(fingerprint_));
    if (!in) return fail(ErrorCode::not_found, "cannot be read");
    return std::string(std::istreambuf_iterator<char>(in), {});
  }

  /// Waits for the attempt, and asks for its end when the job is to stop. Nothing: the pool has ended without an answer.
  std::optional<TaskResult<AttemptReport>> wait_for(Job& job, Future<AttemptReport>& future, std::size_t number) {
    bool asked = false;
    for (;;) {
      // Not later than the job is to stop: what is lost there is missing for the report.
      const Nanos left = asked || job.time_left() == kUnlimited ? kLook : std::clamp<Nanos>(job.time_left() - stop_margin(), Millis(1), kLook);
      if (auto result = future.get(now() + left)) return result;
      if (job.should_stop() && !std::exchange(asked, true)) job.pool().cancel(future.task());
      const auto live = LiveAttempt::in(job.pool().shared_segment()).read(now());
      job.progress({.done = static_cast<double>(live.step), .total = static_cast<double>(steps_), .rate = 0, .unit = "steps", .note = fmt::format("attempt {}{}", number, live.text)});
    }
  }

  /// The worker that ran the attempt has died with it: nobody can say how far the command came.
  static AttemptReport lost(const Failure& failure, const AttemptInput& input) {
    AttemptReport report;
    const bool stopped = std::holds_alternative<outcome::Cancelled>(failure.outcome) || std::holds_alternative<outcome::TimedOut>(failure.outcome);
    const bool memory = std::holds_alternative<outcome::OutOfMemory>(failure.outcome);
    report.end = stopped ? AttemptEnd::stopped : memory ? AttemptEnd::memory : AttemptEnd::lost;
    report.step = input.step_before;
    const std::string text = failure.text();
    std::copy_n(text.begin(), std::min(text.size(), report.text.size() - 1), report.text.begin());
    return report;
  }

  static void tell(Job& job, const std::vector<AttemptReport>& attempts, Nanos cpu) {
    job.figure({.key = "attempts", .value = static_cast<std::int64_t>(attempts.size()), .shown = {}});
    if (attempts.empty()) return;
    const AttemptReport& last = attempts.back();
    std::uint64_t peak = 0, dropped = 0, checkpoints = 0, refused = 0, quarantined = 0;
    for (const AttemptReport& one : attempts) {
      checkpoints += one.checkpoints;
      refused += one.checkpoints_refused;
      quarantined += one.checkpoints_quarantined;
      peak = std::max(peak, one.rss_peak_bytes);
      dropped += one.log_bytes_dropped;
    }
    job.figure({.key = "command_end", .value = std::string(name_of(last.end)), .shown = text_of(last)});
    if (last.end == AttemptEnd::exited || last.end == AttemptEnd::signalled) job.figure({.key = "command_code", .value = std::int64_t{last.code}, .shown = {}});
    job.figure({.key = "step", .value = static_cast<std::int64_t>(last.step), .shown = last.step == 0 ? std::string() : fmt::format("step {}", last.step)});
    job.figure({.key = "cpu_seconds", .value = static_cast<double>(cpu.count()) * 1e-9, .shown = drover::text_of(cpu) + " of CPU time"});
    job.figure({.key = "rss_peak_bytes", .value = static_cast<std::int64_t>(peak), .shown = fmt::format("peak {:.1f} MiB", static_cast<double>(peak) / (1 << 20))});
    job.figure({.key = "release_seconds", .value = static_cast<double>(last.release.count()) * 1e-9, .shown = last.release < Millis(20) ? std::string() : drover::text_of(last.release) + " to free its memory"});
    job.figure({.key = "checkpoints", .value = static_cast<std::int64_t>(checkpoints), .shown = checkpoints == 0 ? std::string() : std::to_string(checkpoints) + " checkpoints"});
    job.figure({.key = "checkpoints_refused", .value = static_cast<std::int64_t>(refused), .shown = refused == 0 ? std::string() : std::to_string(refused) + " checkpoints refused"});
    job.figure({.key = "checkpoints_quarantined", .value = static_cast<std::int64_t>(quarantined), .shown = quarantined == 0 ? std::string() : std::to_string(quarantined) + " checkpoints quarantined"});
    job.figure({.key = "log_bytes_dropped", .value = static_cast<std::int64_t>(dropped), .shown = dropped == 0 ? std::string() : std::to_string(dropped) + " bytes of output dropped"});
  }

  std::vector<std::string> command_;
  std::string directory_, progress_, progress_file_, restart_ = "temporary", store_, lineage_ = "default";
  std::string ingest_, fingerprint_, probe_rules_, probe_command_, phases_;
  Nanos wall_ = kUnlimited, cpu_ = kUnlimited, stall_ = kUnlimited, grace_ = Seconds(5), probe_time_ = Seconds(60);
  std::uint64_t memory_ = 0, steps_ = 0, log_bytes_ = std::uint64_t{64} << 20;
  std::uint64_t keep_last_ = 3, keep_best_ = 1, keep_every_ = 0, checkpoints_max_ = 0, probe_failures_ = 3, disk_ = 0;
  std::uint32_t pids_ = 0;
  bool notify_ = false, fresh_ = false, spare_ = false, hard_release_ = false, advisory_ = false;
  RestartPolicy policy_;
};

class Guard final : public Workload {
 public:
  std::string_view name() const override { return "guard"; }
  std::string_view summary() const override { return "any command under hard limits, watched, contained, restarted by policy"; }
  std::vector<const TaskFunction*> tasks() const override { return {attempt_task.function}; }
  std::unique_ptr<JobPlan> plan() const override { return std::make_unique<GuardPlan>(); }
};

}  // namespace

std::unique_ptr<Workload> make_workload() { return std::make_unique<Guard>(); }

}  // namespace drover::guard
