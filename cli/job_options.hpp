#pragma once
/// The options every job has, whatever its workload: what is written into job.toml and read back by `resume`, and what only
/// concerns this invocation.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "drover/workload.hpp"

namespace drover::cli {

/// Part of the job: in job.toml, beside the workload's own.
struct JobOptions {
  JobOptions();
  std::uint32_t workers;               ///< default: usable cores
  bool oversubscribe = false;
  std::uint64_t seed = 1;
  Nanos time = kUnlimited;             ///< budget over the job's whole life
  std::string until;                   ///< absolute end, RFC 3339 in UTC once taken
  std::string durability = "power";
  std::string require;
  std::uint32_t window = 0;            ///< 0: the workload's own; so for all limits below
  std::uint32_t retries = 2;
  Nanos queue_time = kUnlimited, attempt_wall = kUnlimited, attempt_cpu = kUnlimited, task_time = kUnlimited, stall = kUnlimited;
  std::uint64_t worker_memory = 0;
  std::uint32_t worker_processes = 0;
  std::uint64_t recycle_tasks = 0;
  Nanos recycle_age = kUnlimited;
  bool realtime = true;

  void describe(Schema& schema);
  /// Across options and against this host: worker count, --until, --require. All errors at once.
  std::vector<Error> check();
  /// The time the job may still take by --until, from now; kUnlimited without one. Negative times are zero.
  Nanos until_left() const;
};

/// Of this invocation alone.
struct InvocationOptions {
  std::string job;                     ///< directory of the new job
  std::string config;                  ///< TOML file with [WORKLOAD]
  bool resume = false;                 ///< go on with the job that is there, if one is
  bool json = false;
  std::string progress = "auto";
  void describe_display(Schema& schema);
};

/// The workload's plan with what the command line says about limits put over what the workload asked for.
class PlanWithOptions final : public JobPlan {
 public:
  PlanWithOptions(JobPlan& plan, const JobOptions& options) : plan_(plan), options_(options) {}
  void describe(Schema& schema) override { plan_.describe(schema); }
  Result<JobTraits> traits() override;
  Result<void> run(Job& job) override { return plan_.run(job); }

 private:
  JobPlan& plan_;
  const JobOptions& options_;
};

/// What --require asks for that this host does not give.
std::vector<Error> check_required(const std::string& required, const LimitLayers& layers, std::string_view asked_by = "--require", std::string_view way_out = "leave it out of --require");

}  // namespace drover::cli
