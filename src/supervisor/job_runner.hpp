#pragma once
/// Runs a workload's plan as a job: directory, ledger, budget, pool, resume, ending. The CLI and tests call it; it blocks the
/// calling thread (the job's client thread, on which JobPlan::run is called) until the ending is recorded.

#include <atomic>
#include <filesystem>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "drover/types/ending.hpp"
#include "drover/types/ledger.hpp"
#include "drover/workload.hpp"

namespace drover {

/// How the outside asks a job to end. Any thread, any number of times; a harder request overrides a softer one.
class StopSignal {
 public:
  enum class How : std::uint8_t { none, soft, now };
  /// soft: the workload ends at its next boundary, within the stop grace. now: running tasks are ended at once. Both leave the
  /// job resumable.
  void request(How how, CancelledBy who);
  How how() const { return how_.load(); }
  CancelledBy who() const { return who_.load(); }
  /// Called once per request, on the requesting thread, while a job listens. Set and cleared by the runner.
  void listen(std::function<void(How)> listener);

 private:
  std::atomic<How> how_{How::none};
  std::atomic<CancelledBy> who_{CancelledBy::operator_};
  std::mutex mutex_;
  std::function<void(How)> listener_;
};

struct JobRunOptions {
  std::string workload;                    ///< its name
  std::string directory;                   ///< new job: where, empty = drover-jobs/NAME-DATE-N; resume: of the job
  bool resume = false;
  std::optional<std::uint64_t> checkpoint{};  ///< resume from this good checkpoint instead of the newest
  std::string job_toml;                    ///< written into a new job
  std::string argv_json = "[]";
  std::uint64_t seed = 1;
  Nanos wall = kUnlimited;                 ///< budget over all runs of the job
  Nanos until = kUnlimited;                ///< from now, an absolute end besides
  Durability durability = Durability::power;
  Nanos stop_grace = Seconds(10);          ///< for a soft stop, then tasks are ended
  std::size_t checkpoints_kept = 3;
  StopSignal* stop = nullptr;
  /// On the client thread, at most four times a second, while the workload reports progress.
  std::function<void(const Progress&)> on_progress{};
  /// Once, when the job directory exists and the pool runs.
  std::function<void(const std::filesystem::path&)> on_started{};
};

struct JobReport {
  std::filesystem::path directory;
  std::string workload;
  Ending ending;
  std::string exit_reason;                 ///< text_of(ending), with the error that led to it
  std::string advice;                      ///< what to do about it; empty when completed
  std::optional<std::string> digest;
  std::string digest_covers, digest_note;
  bool exact = false;  ///< the workload claims a digest: a job without one did not do all it promised
  std::uint32_t run = 1;
  bool resumed = false;
  std::uint32_t workers = 0;
  std::uint64_t seed = 0;
  // counts of this run, but `recorded`: of the job
  std::uint64_t recorded = 0, tasks = 0, completed = 0, failed = 0, replayed = 0;
  std::uint64_t attempts = 0, retries = 0, late_discarded = 0, quarantined = 0;
  std::uint64_t workers_spawned = 0, workers_died = 0;
  std::map<std::string, std::uint64_t> faults;  ///< attempts that did not complete, by outcome name
  double wall_seconds = 0, consumed_seconds = 0, worker_cpu_seconds = 0;
  std::vector<Figure> figures;
  LimitLayers layers{};
  Durability durability{};
  Grain grain{};
  std::string containment;                 ///< `pid_namespace`, `user_pid_namespace` or `best-effort`
};

/// Errors are what kept the job from running at all (usage, refused, busy, mismatch, corrupt, no_space ...): nothing was lost.
/// Once the pool ran, the result is a report, whatever happened.
Result<JobReport> run_job(JobPlan& plan, const JobRunOptions& options);

/// Exit status of a finished job: exit_status_of(ending), but 1 for a completed one whose digest was claimed and is null.
int exit_status_of(const JobReport& report);

}  // namespace drover
