/// A job from its directory to its recorded ending.
#include "supervisor/job_runner.hpp"

#include <algorithm>
#include <ctime>
#include <future>
#include <unistd.h>

#include "base/hash.hpp"
#include "base/text.hpp"
#include "os/clock.hpp"
#include "os/host.hpp"
#include "os/process_stats.hpp"
#include "store/checkpoint_file.hpp"
#include "store/hash.hpp"
#include "store/job_directory.hpp"
#include "store/ledger.hpp"
#include "supervisor/pool_impl.hpp"
#include "supervisor/pool_start.hpp"
#include "supervisor/supervisor.hpp"
#include "worker/registry.hpp"

namespace drover {

void StopSignal::request(How how, CancelledBy who) {
  const std::lock_guard lock(mutex_);
  if (how <= how_.load()) return;
  who_.store(who);
  how_.store(how);
  if (listener_) listener_(how);
}

void StopSignal::listen(std::function<void(How)> listener) {
  const std::lock_guard lock(mutex_);
  listener_ = std::move(listener);
  if (listener_ && how_.load() != How::none) listener_(how_.load());
}

namespace {

constexpr Nanos kLedgerAnswer = Seconds(40);  ///< the scheduler gives the ledger 30 s before it calls it a host fault
constexpr Nanos kProgressPeriod = Millis(250);

/// How a job ends whose workload could not go on.
Ending ending_of(const Error& error) {
  switch (error.code()) {
    case ErrorCode::fenced: return ending::Fenced{};
    case ErrorCode::limit_steps: return ending::Limit{JobLimit::steps, error.what()};
    case ErrorCode::limit_checkpoints: return ending::Limit{JobLimit::checkpoints, error.what()};
    default: return ending::HostFault{error.what()};
  }
}

std::string now_rfc3339() {
  const std::time_t t = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&t, &parts);
  char text[32];
  return {text, std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts)};
}

std::string code_id() {
  char hex[17];
  std::snprintf(hex, sizeof hex, "%016llx", static_cast<unsigned long long>(worker::registry().hash));
  return std::string("drover-") + DROVER_VERSION + "-" + hex;
}

/// Answers tasks that an earlier run has recorded, from a read-only connection of the client thread.
class LedgerAnswers final : public Recorded {
 public:
  LedgerAnswers(store::Ledger reader, const store::Recovery& recovery, Grain grain, std::function<Result<void>(const store::TaskFailed&)> record)
      : reader_(std::move(reader)), recorded_(recovery.recorded), grain_(grain), record_(std::move(record)) {
    for (const auto& open : recovery.open)
      if (open.effect_unknown) effect_unknown_.emplace(open.task, open.highest);
  }

  Result<std::optional<detail::Delivery>> answer(TaskId task, std::uint64_t spec_hash) override {
    const auto it = std::upper_bound(recorded_.begin(), recorded_.end(), task, [](TaskId t, const store::RecordedRange& r) { return t < r.first; });
    if (it == recorded_.begin() || std::prev(it)->last < task) return unknown_effect(task, spec_hash);
    DROVER_TRY(const std::optional<store::TaskRow> row, reader_.task(task));
    if (!row) return fail(ErrorCode::corrupt, "task " + std::to_string(task.value) + " is recorded and has no row");
    if (grain_ == Grain::rows && row->spec_hash != 0 && row->spec_hash != spec_hash)
      return fail(ErrorCode::mismatch, "task " + std::to_string(task.value) + " was another task in the earlier run (its input differs)",
                  "supply the same input in the same order, or start a new job");
    detail::Delivery d;
    d.replayed = true;
    d.attempts = row->attempts;
    DROVER_TRY(Outcome outcome, parse_outcome(row->outcome_json));
    d.completed = is_completed(outcome);
    if (!d.completed) {
      d.outcome = std::make_unique<Outcome>(std::move(outcome));
      ++failed_;
    } else if (row->has_result) {
      DROVER_TRY(std::optional<std::vector<std::byte>> bytes, reader_.result(task));
      auto kept = std::make_shared<Bytes>(bytes ? std::move(*bytes) : Bytes());
      if (kept->size() <= d.inline_bytes.size()) {
        std::copy(kept->begin(), kept->end(), d.inline_bytes.begin());
        d.inline_size = static_cast<std::uint8_t>(kept->size());
      } else {
        d.large = *kept;
        d.hold = std::move(kept);
      }
    }
    ++answered_;
    return d;
  }
  bool any() const { return !recorded_.empty() || !effect_unknown_.empty(); }
  std::uint64_t answered() const { return answered_; }
  std::uint64_t failed() const { return failed_; }

 private:
  /// An effectful attempt was begun, and its supervisor died before its end was known: it is never begun again.
  Result<std::optional<detail::Delivery>> unknown_effect(TaskId task, std::uint64_t spec_hash) {
    const auto it = effect_unknown_.find(task);
    if (it == effect_unknown_.end()) return std::nullopt;
    const Outcome outcome = outcome::UnknownEffect{LossCause::supervisor};
    DROVER_CHECK(record_(store::TaskFailed{.task = task, .spec_hash = spec_hash, .epoch = it->second, .outcome = outcome}));
    detail::Delivery d;
    d.replayed = true;
    d.outcome = std::make_unique<Outcome>(outcome);
    ++failed_;
    ++answered_;
    return d;
  }

  store::Ledger reader_;
  std::vector<store::RecordedRange> recorded_;
  std::map<TaskId, Epoch> effect_unknown_;
  Grain grain_;
  std::function<Result<void>(const store::TaskFailed&)> record_;
  std::uint64_t answered_ = 0, failed_ = 0;
};

/// Has the loop thread fill and append a batch, and waits until it is committed.
template <class Fill>
Result<void> append(detail::PoolImpl& pool, const Fill& fill) {
  auto answer = std::make_shared<std::promise<Result<void>>>();
  auto future = answer->get_future();
  // `fill` is used while this thread waits below, or not at all.
  auto live = std::make_shared<std::atomic<bool>>(true);
  auto lock = std::make_shared<std::mutex>();
  const bool posted = pool.call([&fill, answer, live, lock](Supervisor& s) {
    const std::lock_guard guard(*lock);
    if (live->load()) s.append(fill, [answer](Result<void> r) { answer->set_value(std::move(r)); });
  });
  if (!posted) return fail(ErrorCode::closed, "recording: the run has ended: " + pool.closed_reason());
  if (future.wait_for(kLedgerAnswer) == std::future_status::ready) {
    try {
      return future.get();
    } catch (const std::future_error&) {  // the loop ended before it came to it
      return fail(ErrorCode::closed, "recording: the run has ended: " + pool.closed_reason());
    }
  }
  const std::lock_guard guard(*lock);
  live->store(false);
  return fail(ErrorCode::timed_out, "recording: the ledger did not answer within 40 s");
}

class RunningJob final : public Job {
 public:
  RunningJob(const JobRunOptions& options, FileSystem& fs, std::filesystem::path directory, std::string checkpoints, Durability durability, Pool pool, Nanos deadline_boottime, Nanos budget_left, Nanos margin)
      : options_(options), fs_(fs), directory_(std::move(directory)), checkpoints_(std::move(checkpoints)), durability_(durability), pool_(std::move(pool)), deadline_(deadline_boottime) {
    // Near the end of the budget the workload is asked to stop, so that its last state is kept: a twentieth of what is left,
    // at least 50 ms, at most 2 s before the hard end.
    margin_ = budget_left == kUnlimited ? Nanos(0) : margin > Nanos(0) ? std::min(margin, budget_left / 2) : std::clamp<Nanos>(budget_left / 20, Millis(50), Seconds(2));
  }

  const std::filesystem::path& directory() const override { return directory_; }
  std::uint64_t seed() const override { return options_.seed; }
  bool resumed() const override { return options_.resume; }
  Durability durability() const override { return durability_; }
  Pool& pool() override { return pool_; }
  TaskId confirmed() const override { return confirmed_; }

  Result<void> confirm(TaskId upto) override { return record({}, upto); }

  Result<CheckpointInfo> commit_checkpoint(BytesView bytes, std::string meta_json, TaskId upto) override {
    const store::CheckpointMeta meta{.number = next_checkpoint_, .meta_json = std::move(meta_json), .tasks_upto = upto.value};
    auto row = store::commit_checkpoint(fs_, checkpoints_, bytes, meta);
    if (!row) return std::unexpected(std::move(row).error().with("checkpoint " + std::to_string(next_checkpoint_)));
    ++next_checkpoint_;
    DROVER_CHECK(record(*row, upto));
    rows_.push_back(*row);
    for (store::CheckpointRow& surplus : store::surplus_checkpoints(rows_, options_.checkpoints_kept)) {
      store::CheckpointRow deleted = surplus;
      deleted.state = store::CheckpointState::deleted;
      DROVER_CHECK(append(*pool_.impl(), [&](store::RecordBatch& batch, const std::function<RecordNumber()>& next) { batch.add(next(), deleted); }));
      (void)store::remove_checkpoint(fs_, checkpoints_, surplus);  // what stays is litter, swept by the next resume
      std::erase_if(rows_, [&](const store::CheckpointRow& r) { return r.number == surplus.number; });
    }
    return info_of(*row);
  }

  Result<std::optional<Checkpoint>> newest_checkpoint() override {
    if (!newest_) return std::nullopt;
    DROVER_TRY(Bytes bytes, store::load_checkpoint(fs_, checkpoints_, *newest_, rows_));
    return Checkpoint{info_of(*newest_), std::move(bytes)};
  }

  Result<std::optional<Bytes>> result(TaskId task) override {
    const std::lock_guard lock(reader_mutex_);
    if (!reader_) {
      DROVER_TRY(reader_, store::Ledger::open_to_read(fs_, (directory_ / "ledger.db").string()));
    }
    return reader_->result(task);
  }

  bool should_stop() const override {
    if (pool_.impl()->stop_asked()) return true;
    if (time_left() > margin_) return false;
    return soft_limit_ = true;
  }
  Nanos time_left() const override {
    if (deadline_ == kUnlimited) return kUnlimited;
    return std::max(Nanos(0), deadline_ - system_clock().boottime());
  }
  Nanos worker_cpu_time() const override {
    auto answer = std::make_shared<std::promise<Nanos>>();
    auto future = answer->get_future();
    if (!pool_.impl()->call([answer](Supervisor& s) { answer->set_value(s.worker_cpu()); })) return last_cpu_;
    try {
      if (future.wait_for(Seconds(5)) == std::future_status::ready) last_cpu_ = future.get();
    } catch (const std::future_error&) {  // the loop has ended: the last figure stands
    }
    return last_cpu_;
  }

  void progress(const Progress& progress) override {
    const TimePoint now = system_clock().now();
    if (now < next_progress_) return;
    next_progress_ = after(now, kProgressPeriod);
    const auto total = progress.unit == "tasks" && progress.total > 0 ? static_cast<std::uint64_t>(progress.total) : store::kNoTask;
    (void)pool_.impl()->call([line = progress.note, total](Supervisor& s) { s.set_workload_line(line, total); });
    if (options_.on_progress) options_.on_progress(progress);
  }
  void figure(Figure figure) override {
    const auto it = std::find_if(figures_.begin(), figures_.end(), [&](const Figure& f) { return f.key == figure.key; });
    if (it != figures_.end()) *it = std::move(figure);
    else figures_.push_back(std::move(figure));
  }
  void conclude(Ending ending) override { conclusion_ = std::move(ending); }
  void digest(std::string hex, std::string covers) override {
    digest_ = std::move(hex);
    digest_covers_ = std::move(covers);
    digest_note_.clear();
  }
  void no_digest(std::string reason) override {
    digest_.reset();
    digest_note_ = std::move(reason);
  }

  // ---- for run_job ----
  void recover(const store::Recovery& recovery, std::vector<store::CheckpointRow> rows, const std::optional<std::uint64_t>& wanted) {
    confirmed_ = recovery.sink_confirmed_upto;
    next_checkpoint_ = recovery.next_checkpoint_number;
    newest_ = recovery.newest_good;
    std::erase_if(rows, [](const store::CheckpointRow& r) { return r.state != store::CheckpointState::good; });
    rows_ = std::move(rows);
    if (wanted)
      for (const store::CheckpointRow& r : rows_)
        if (r.number == *wanted) {
          newest_ = r;
          confirmed_ = TaskId(r.tasks_upto);
        }
    recorded_upto_ = recovery.sink_confirmed_upto;
  }
  bool soft_limit() const { return soft_limit_; }
  std::vector<Figure>& figures() { return figures_; }
  std::optional<Ending>& conclusion() { return conclusion_; }
  std::optional<std::string>& digest() { return digest_; }
  std::string& digest_covers() { return digest_covers_; }
  std::string& digest_note() { return digest_note_; }

 private:
  static CheckpointInfo info_of(const store::CheckpointRow& row) {
    return {row.number, "checkpoints/" + row.name, store::hex_of(row.sha256), row.meta_json, TaskId(row.tasks_upto)};
  }

  /// Completions up to `upto`, the sink's confirmation and a checkpoint's row, in one transaction.
  Result<void> record(const std::optional<store::CheckpointRow>& checkpoint, TaskId upto) {
    if (!checkpoint && upto <= confirmed_) return {};
    DROVER_CHECK(append(*pool_.impl(), [&](store::RecordBatch& batch, const std::function<RecordNumber()>& next) {
      for (TaskId t = std::max(recorded_upto_, confirmed_); t < upto; t = t.next())
        batch.add(next(), store::TaskCompleted{.task = t, .epoch = Epoch(1)});
      batch.add(store::SinkConfirmed{upto});
      if (checkpoint) batch.add(next(), *checkpoint);
    }));
    confirmed_ = upto;
    recorded_upto_ = std::max(recorded_upto_, upto);
    return {};
  }

  const JobRunOptions& options_;
  FileSystem& fs_;
  std::filesystem::path directory_;
  std::string checkpoints_;
  Durability durability_;
  std::mutex reader_mutex_;
  std::optional<store::Ledger> reader_;  ///< of result(); opened when first asked
  mutable Pool pool_;
  Nanos deadline_;
  Nanos margin_{};
  TaskId confirmed_{}, recorded_upto_{};
  std::uint64_t next_checkpoint_ = 1;
  std::optional<store::CheckpointRow> newest_;
  std::vector<store::CheckpointRow> rows_;
  mutable bool soft_limit_ = false;
  mutable Nanos last_cpu_{};
  TimePoint next_progress_{};
  std::vector<Figure> figures_;
  std::optional<Ending> conclusion_;
  std::optional<std::string> digest_;
  std::string digest_covers_, digest_note_ = "the workload gave none";
};

/// The first ending in a result that another host or another hour might not repeat.
std::string unrepeatable(const store::LedgerCounts& counts) {
  for (const auto& [name, n] : counts.by_outcome)
    if (n != 0 && name != "completed" && name != "app_error") return std::to_string(n) + " tasks ended " + name;
  return {};
}

}  // namespace

Result<JobReport> run_job(JobPlan& plan, const JobRunOptions& options) {
  FileSystem& fs = posix_file_system();
  const Clock& clock = system_clock();
  const TimePoint began = clock.now();
  DROVER_TRY(JobTraits traits, plan.traits());
  const std::string spec_hash = store::hex_of(store::sha256_of(traits.identity));
  DROVER_TRY(const store::Holder self, store::self_as_holder());

  // ---- directory and ledger
  std::optional<store::JobDirectory> directory;
  std::optional<store::Ledger> ledger;
  if (options.resume) {
    DROVER_TRY(directory, store::JobDirectory::open(fs, options.directory, self));
    DROVER_TRY(ledger, store::Ledger::open(fs, directory->ledger(), store::LedgerOptions()));
    if (ledger->header().spec_hash != spec_hash)
      return fail(ErrorCode::mismatch, "the job was made for another specification: recorded " + ledger->header().spec_hash.substr(0, 16) + "..., given " + spec_hash.substr(0, 16) + "...",
                  "recorded: " + ledger->header().digest_header + "; given: " + traits.identity);
    if (ledger->header().code_id != code_id())
      return fail(ErrorCode::mismatch, "the job was made by other code: recorded " + ledger->header().code_id + ", this is " + code_id(), "resume it with the drover that began it, or start a new job");
  } else {
    DROVER_TRY(directory, store::JobDirectory::create(fs, {.workload = options.workload, .path = options.directory, .job_toml = options.job_toml}, self));
    const std::string id = std::filesystem::path(directory->path()).filename().string();
    DROVER_TRY(ledger, store::Ledger::create(fs, directory->ledger(),
                                             {.id = id,
                                              .workload = options.workload,
                                              .spec_hash = spec_hash,
                                              .code_id = code_id(),
                                              .created = now_rfc3339(),
                                              .seed = options.seed,
                                              .digest_header = traits.identity,
                                              .spec_json = "{}"},
                                             {.durability = options.durability, .grain = traits.grain}));
  }
  const Durability durability = ledger->durability();
  const Grain grain = ledger->grain();
  const Nanos boottime = clock.boottime();
  DROVER_TRY(const store::Recovery recovery, ledger->recover(boot_id(), boottime));
  DROVER_TRY(std::vector<store::CheckpointRow> checkpoints, ledger->checkpoints());
  if (options.checkpoint) {
    const auto good = [&](const store::CheckpointRow& r) { return r.number == *options.checkpoint && r.state == store::CheckpointState::good; };
    if (std::none_of(checkpoints.begin(), checkpoints.end(), good))
      return fail(ErrorCode::not_found, "there is no good checkpoint " + std::to_string(*options.checkpoint), "`drover why " + directory->path() + "` lists them");
  }
  const Nanos budget = options.wall != kUnlimited ? options.wall : traits.wall;
  const Nanos budget_left = budget == kUnlimited ? kUnlimited : budget - recovery.consumed;
  if (budget_left != kUnlimited && budget_left <= Nanos(0))
    return fail(ErrorCode::refused, "the job's budget of " + text_of(budget) + " is used up (" + text_of(recovery.consumed) + ")", "resume it with a larger --time");
  const Nanos left = std::min(budget_left, options.until);
  const Nanos deadline = left == kUnlimited ? kUnlimited : boottime + left;

  auto own_ticks = start_time_ticks(::getpid());
  DROVER_TRY(const std::uint32_t run, ledger->begin_run({.boot_id = boot_id(),
                                                         .supervisor_pid = static_cast<std::int32_t>(::getpid()),
                                                         .supervisor_start_ticks = own_ticks ? *own_ticks : 0,
                                                         .boottime = boottime,
                                                         .wall_time = now_rfc3339(),
                                                         .version = DROVER_VERSION,
                                                         .argv_json = options.argv_json},
                                                        recovery));
  if (options.resume) (void)store::sweep_checkpoints(fs, directory->checkpoints(), checkpoints);
  DROVER_TRY(store::Ledger reader, store::Ledger::open_to_read(fs, directory->ledger()));
  DROVER_TRY(EventFd bell, EventFd::create());
  auto ledger_bell = std::make_shared<EventFd>(std::move(bell));
  DROVER_TRY(auto writer, store::make_ledger_writer(fs, std::move(*ledger), run, directory->results(), directory->reserve(), {.wake = [ledger_bell] { ledger_bell->ring(); }}));

  // ---- the pool
  const std::string path = directory->path();
  const std::string checkpoint_directory = directory->checkpoints();
  const std::string registry = store::registry_directory(std::getenv("XDG_STATE_HOME") != nullptr ? std::getenv("XDG_STATE_HOME") : "", std::getenv("HOME") != nullptr ? std::getenv("HOME") : "/");
  std::uint64_t recorded_before = 0;
  for (const auto& r : recovery.recorded) recorded_before += r.last.value - r.first.value + 1;
  traits.pool.seed = options.seed;
  auto job_store = std::make_unique<JobStore>(JobStore{.fs = fs,
                                                       .directory = std::move(*directory),
                                                       .workload = options.workload,
                                                       .grain = grain,
                                                       .run = run,
                                                       .writer = std::move(writer),
                                                       .metrics = store::Metrics(options.workload),
                                                       .ledger_bell = ledger_bell,
                                                       .consumed_before = recovery.consumed,
                                                       .recorded_before = recorded_before});
  DROVER_TRY(job_store->events, store::EventsLog::open(fs, job_store->directory.events(), {.run = run}));
  DROVER_TRY(job_store->live, store::LivePageWriter::create(fs, job_store->directory.live(), std::min(traits.pool.workers, store::kLiveSlotsMax)));
  // Without a courtesy entry `drover ps` does not list it; the job runs all the same.
  (void)store::register_job(fs, registry, {.job_path = path, .workload = options.workload, .holder = self});
  DROVER_TRY(StartedPool started, start_pool(std::move(traits.pool), std::move(job_store), deadline));
  const std::shared_ptr<detail::PoolImpl> impl = started.pool;
  LedgerAnswers answers(std::move(reader), recovery, grain, [&](const store::TaskFailed& failed) {
    return append(*impl, [&](store::RecordBatch& batch, const std::function<RecordNumber()>& next) { batch.add(next(), failed); });
  });
  impl->hash_specs = grain == Grain::rows;
  if (answers.any()) impl->recorded = &answers;
  for (const auto& open : recovery.open)
    (void)impl->call([open](Supervisor& s) { s.set_epoch(open.task, open.highest); });

  JobReport report;
  report.directory = path;
  report.workload = options.workload;
  report.run = run;
  report.resumed = options.resume;
  report.workers = impl->options().workers;
  report.seed = options.seed;
  report.exact = traits.exact;
  report.durability = durability;
  report.grain = grain;
  Result<void> ran;
  bool soft_limit = false;
  std::optional<Ending> conclusion;
  {
    RunningJob job(options, fs, path, checkpoint_directory, durability, Pool(impl), deadline, left, traits.stop_margin);
    job.recover(recovery, std::move(checkpoints), options.checkpoint);
    impl->set_first_task(grain == Grain::ranges ? job.confirmed() : TaskId(0));
    if (options.stop != nullptr)
      options.stop->listen([impl, grace = options.stop_grace](StopSignal::How how) { impl->ask_stop(how == StopSignal::How::now ? Shutdown::cancel : Shutdown::drain, after(system_clock().now(), grace)); });
    if (options.on_started) options.on_started(path);
    try {
      ran = plan.run(job);
    } catch (const std::exception& e) {
      ran = fail(ErrorCode::system, std::string("the workload threw: ") + e.what());
    }
    if (options.stop != nullptr) options.stop->listen(nullptr);
    soft_limit = job.soft_limit();
    (void)job.pool().shutdown(Shutdown::cancel);
    report.figures = std::move(job.figures());
    conclusion = std::move(job.conclusion());
    report.digest = std::move(job.digest());
    report.digest_covers = std::move(job.digest_covers());
    report.digest_note = std::move(job.digest_note());
  }
  (void)impl->wait_ended(after(clock.now(), Seconds(30)));
  RunSummary summary = *started.summary;

  // ---- the ending: the first cause that applies
  DROVER_TRY(store::Ledger after_run, store::Ledger::open_to_read(fs, path + "/ledger.db"));
  const bool stopped = impl->stop_asked();
  if (summary.host_fault) {
    report.ending = ending::HostFault{summary.host_fault->what()};
    report.advice = summary.host_fault->advice().empty() ? "mend it, then: drover resume " + path : summary.host_fault->advice();
  } else if (!summary.gave_up.empty()) {
    report.ending = ending::GaveUp{GiveUpReason::intensity, summary.gave_up};
    report.advice = "workers kept dying without completing a task: `drover why " + path + "` and " + path + "/workers/*.log";
  } else if (stopped) {
    report.ending = ending::Cancelled{options.stop != nullptr && options.stop->how() != StopSignal::How::none ? options.stop->who() : CancelledBy::operator_};
    report.advice = "resumable: drover resume " + path;
  } else if (summary.run_deadline_passed || soft_limit) {
    report.ending = ending::Limit{left == options.until && left != budget_left ? JobLimit::until : JobLimit::wall};
    report.advice = "resumable with a larger --time: drover resume " + path;
  } else if (!ran) {
    report.ending = ending_of(ran.error());
    report.advice = ran.error().advice();
  } else if (conclusion) {
    report.ending = *conclusion;
    report.advice = "`drover why " + path + "` has every attempt";
  } else {
    report.ending = ending::Completed{};
  }
  if (summary.job) {
    // What this run recorded counts only once it is committed: finish first, with the ending as far as it is known.
    const Nanos consumed = recovery.consumed + (clock.boottime() - boottime);
    store::RunEnded ended{.ending = report.ending, .consumed = consumed, .boottime = clock.boottime()};
    if (!conclusion && std::holds_alternative<ending::Completed>(report.ending) && summary.counts.failed + answers.failed() != 0) {
      ended.ending = report.ending = ending::Incomplete{};
      report.advice = "`drover why " + path + "` tells why each failed";
    }
    if (auto counts = after_run.counts(); counts && report.digest) {
      if (std::string why = unrepeatable(*counts); !why.empty()) {
        report.digest.reset();
        report.digest_note = std::move(why);
      }
    }
    if (report.digest && !std::holds_alternative<ending::Completed>(report.ending) && !std::holds_alternative<ending::Limit>(report.ending) && !std::holds_alternative<ending::Incomplete>(report.ending)) {
      report.digest.reset();
      report.digest_note = "the job has not ended";
    }
    ended.digest = report.digest.value_or("");
    ended.digest_note = report.digest ? report.digest_covers : report.digest_note;
    report.consumed_seconds = static_cast<double>(consumed.count()) * 1e-9;
    if (auto finished = summary.job->writer->finish(ended, after(clock.now(), Seconds(30))); !finished) {
      report.ending = ending::HostFault{"ledger: " + finished.error().what()};
      report.advice = finished.error().advice();
    }
  }
  if (auto counts = after_run.counts()) report.recorded = counts->recorded;
  (void)store::unregister_job(fs, registry, path);
  report.exit_reason = text_of(report.ending);
  report.tasks = summary.counts.submitted;
  report.completed = summary.counts.completed;
  report.failed = summary.counts.failed;
  report.replayed = answers.answered();
  report.attempts = summary.counts.attempts;
  report.retries = summary.counts.retries_blamed + summary.counts.retries_free;
  report.late_discarded = summary.counts.late_discarded;
  report.quarantined = summary.counts.quarantined;
  report.workers_spawned = summary.counts.spawns;
  report.workers_died = summary.counts.deaths;
  for (const auto& [name, n] : summary.faults_by_kind) report.faults[name] = n;
  report.wall_seconds = static_cast<double>((clock.now() - began).count()) * 1e-9;
  report.worker_cpu_seconds = static_cast<double>(summary.worker_cpu.count()) * 1e-9;
  report.layers = summary.layers;
  report.containment = summary.layers.containment == LimitLayer::absent ? "best-effort" : std::string(name_of(summary.layers.containment));
  return report;
}

int exit_status_of(const JobReport& report) {
  const int status = exit_status_of(report.ending);
  return status == 0 && report.exact && !report.digest && !report.digest_note.empty() && report.digest_note != "the workload gave none" ? 1 : status;
}

}  // namespace drover
