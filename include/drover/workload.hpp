#pragma once
/// A workload: what `drover NAME ...` runs. One folder under workloads/, seeing include/drover only. The CLI's main composes
/// the list; there are no registrars.

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "drover/config.hpp"
#include "drover/job.hpp"

namespace drover {

/// What the runtime must know before it starts the job; derived from the options.
struct JobTraits {
  PoolOptions pool{};                    ///< workers, seed, window and limits given on the command line override these
  Grain grain = Grain::rows;
  std::string identity;                  ///< everything the results depend on, as canonical text; its hash must match on resume
  Nanos wall = kUnlimited;               ///< budget of the job where --time gives none
  Nanos stop_margin{};                   ///< should_stop() turns true so long before the budget's end; 0: a twentieth of it, 50 ms to 2 s
  std::uint32_t workers_max = 0;         ///< more than this are of no use to it; 0: no bound
  std::string require{};                 ///< layers this host must enforce for the job to start, as --require: "containment,processes"
  bool exact = true;                     ///< claims a digest equal for any number of workers, kills and resumes
};

/// One instance is one job to be: the options are its fields.
class JobPlan {
 public:
  virtual ~JobPlan() = default;
  virtual void describe(Schema& schema) = 0;                 ///< own options; `workers`, `seed`, `job`, `time`, `json` and the like are the runtime's
  virtual Result<JobTraits> traits() = 0;                    ///< after the options are set; the place for cross-checks
  /// Runs the job on the client thread. Ok: every task given was answered (the runtime decides completed or incomplete from the
  /// ledger) or should_stop() was honoured. Error: the job ends host_fault or refused, by the error's code.
  virtual Result<void> run(Job& job) = 0;
};

/// `drover NAME VERB ...` besides running a job: `solve show`. Prints to stdout itself; the Result's error is printed for it.
struct WorkloadVerb {
  std::string_view name;
  std::string_view summary;
  std::function<Result<int>(const std::vector<std::string>& words)> run;  ///< returns the exit status
  /// True: with these words it is a job after all, and plan() takes them, the verb's name among them. None: never.
  std::function<bool(const std::vector<std::string>& words)> is_job{};
};

class Workload {
 public:
  virtual ~Workload() = default;
  virtual std::string_view name() const = 0;
  virtual std::string_view summary() const = 0;
  virtual std::vector<const TaskFunction*> tasks() const = 0;
  virtual std::unique_ptr<JobPlan> plan() const = 0;
  virtual std::vector<WorkloadVerb> verbs() const { return {}; }
};

}  // namespace drover
