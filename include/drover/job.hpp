#pragma once
/// A job: one run of a workload, with a directory, a ledger and a budget that counts over resumes. The runtime makes the Job and
/// drives the workload: it calls Workload::run once per life, on the job's client thread; the workload submits tasks through
/// pool() or ordered(), takes results in id order and tells the job what it has kept (confirm, commit_checkpoint).
///
/// Exactly once. Grain `rows`: a result is durable before it is delivered; after a resume the same tasks, supplied again in the
/// same order, are answered from the ledger (`Delivery::replayed`), and a task that differs is an error naming the id. Grain
/// `ranges`: nothing is stored per result; the workload keeps its own state and says with `confirm` or `commit_checkpoint` up to
/// which id it has; a resume starts at `confirmed()`.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "drover/pool.hpp"
#include "drover/types/ending.hpp"
#include "drover/types/ledger.hpp"

namespace drover {

/// A number or word of the job's result, in the order they were set. Keys are the field's standard terms with their unit last
/// (`exploitability_chips`), the same in `--json`, the ledger and the terminal.
struct Figure {
  std::string key;
  std::variant<double, std::int64_t, std::string, bool> value;
  std::string shown;  ///< for people: "0.0123 chips (12.3 mbb/g)"; empty = not shown on the terminal
};

/// What a person sees while the job runs.
struct Progress {
  double done = 0, total = 0;  ///< in `unit`; total 0 = unknown
  double rate = 0;             ///< unit per second, now
  std::string unit = "tasks";
  std::string note;            ///< "exploitability 0.021 chips"
};

struct CheckpointInfo {
  std::uint64_t number = 0;
  std::string file;            ///< relative to the job directory
  std::string sha256;
  std::string meta;            ///< what the workload said of it, one JSON object
  TaskId tasks_upto{};         ///< the state holds the results of tasks 0 .. tasks_upto-1
};
struct Checkpoint {
  CheckpointInfo info;
  Bytes bytes;
};

class Job {
 public:
  virtual ~Job() = default;

  virtual const std::filesystem::path& directory() const = 0;
  virtual std::uint64_t seed() const = 0;
  virtual bool resumed() const = 0;
  virtual Durability durability() const = 0;
  virtual Pool& pool() = 0;

  /// Tasks below this id are done and kept by the workload (grain ranges). The first id pool() will give is this one.
  virtual TaskId confirmed() const = 0;
  /// The workload has kept the results of all tasks below `upto`. Durable when it returns, by the job's durability.
  virtual Result<void> confirm(TaskId upto) = 0;
  /// Writes a new checkpoint file, verifies it, and in one ledger transaction makes it the newest good one and confirms `upto`.
  /// On return it is on disk. An error leaves the previous one newest.
  virtual Result<CheckpointInfo> commit_checkpoint(BytesView bytes, std::string meta_json, TaskId upto) = 0;
  /// The newest good checkpoint, verified; nothing if there is none. A damaged one is an error that names the way back.
  virtual Result<std::optional<Checkpoint>> newest_checkpoint() = 0;

  /// The kept result of a task that completed, of this run or an earlier one, verified; nothing if it has none (grain rows). From any thread.
  virtual Result<std::optional<Bytes>> result(TaskId task) = 0;

  /// True once a stop, a signal or the budget asks the workload to end at its next boundary: take what is in flight, commit a
  /// checkpoint, return. The time left for that is bounded by the stop grace (default 10 s); then the job is ended.
  virtual bool should_stop() const = 0;
  /// Time left of the job's budget; kUnlimited if there is none.
  virtual Nanos time_left() const = 0;
  /// CPU time used by the workers so far, over all incarnations of this life.
  virtual Nanos worker_cpu_time() const = 0;

  virtual void progress(const Progress& progress) = 0;
  /// Sets a figure of the result; the same key again replaces it.
  virtual void figure(Figure figure) = 0;
  /// The workload's own word on how the job ended; used unless something harder ended it (a stop, a limit of the runtime, a
  /// fault). Without it the job is completed or incomplete by its tasks.
  virtual void conclude(Ending ending) = 0;
  /// The job's digest (hex) and what it covers. Null it with a reason when an ending depended on time, memory or host.
  virtual void digest(std::string hex, std::string covers) = 0;
  virtual void no_digest(std::string reason) = 0;
};

}  // namespace drover
