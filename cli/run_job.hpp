#pragma once
/// The middle of every job, new or resumed: signals, progress, the runtime, the result in words and JSON, the exit status.

#include <optional>
#include <string>
#include <vector>

#include "cli/job_options.hpp"
#include "drover/workload.hpp"
#include "report/status.hpp"

namespace drover::cli {

struct JobInvocation {
  std::string verb;                ///< for messages: the workload's name, or resume
  const Workload& workload;
  JobPlan& plan;                   ///< its options set
  const JobOptions& options;
  const InvocationOptions& invocation;
  std::string directory;           ///< empty: the default place of a new job
  bool resume = false;
  std::string job_toml;
  std::vector<std::string> words{};  ///< as typed, for the ledger
  std::optional<std::uint64_t> checkpoint{};
};
int run_job_to_its_end(const JobInvocation& invocation);

/// Where a job cannot be gone on with (it runs; it has ended for good, unless its state is to be put `back`): says so, with
/// `json` the status of one that has ended on stdout, and the exit status.
std::optional<int> refuse_to_go_on(std::string_view verb, const report::Host& host, const std::string& directory, const report::JobStatus& status, bool back, bool json);

}  // namespace drover::cli
