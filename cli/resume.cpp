// drover resume [JOB]: goes on with a job from its ledger and newest good checkpoint. Its options come from its job.toml; the time it
// may take, the number of workers and what is displayed may change, the work may not.

#include <fmt/format.h>

#include <algorithm>

#include "cli/find_job.hpp"
#include "cli/job_schema.hpp"
#include "cli/messages.hpp"
#include "cli/program.hpp"
#include "cli/run_job.hpp"
#include "report/status.hpp"

namespace drover::cli {

int resume(const Program& program, const Words& words) {
  std::string job;
  std::uint64_t checkpoint = 0;
  JobOptions changed;          // on the command line
  InvocationOptions invocation;
  Schema schema;
  schema.text("job", job, "directory or name of a job; the one started last here if left out").positional(false);
  schema.integer("workers", changed.workers, {1, 1024}, "worker processes from now on");
  schema.flag("oversubscribe", changed.oversubscribe, "allow more than four workers per usable core");
  schema.duration("time", changed.time, {Millis(1), kUnlimited}, "budget of the job, all its runs together");
  schema.text("until", changed.until, "absolute end: 18:30, 2026-08-01 18:30 or 2026-08-01T16:30:00Z");
  schema.integer("checkpoint", checkpoint, {}, "go back to this checkpoint (`drover why` names good ones); 0: the newest");
  invocation.describe_display(schema);
  if (const auto done = read_words("resume", "[JOB] [--workers N] [--time TIME] [--checkpoint N] [--json]", "Goes on with a job where its ledger ends", words, schema)) return *done;
  const auto given = [&](std::string_view name) {
    return std::ranges::any_of(schema.options(), [&](const Option& option) { return option.name == name && option.given; });
  };

  const report::Host host = report::this_host();
  const auto directory = find_job(host.fs, job);
  if (!directory) return complain("resume", directory.error());
  const auto status = report::read_status(host, *directory);
  if (!status) return complain("resume", status.error());
  if (const auto refused = refuse_to_go_on("resume", host, *directory, *status, checkpoint != 0, invocation.json)) return *refused;

  const Workload* const workload = program.find(status->workload);
  if (workload == nullptr) {
    return complain("resume", Error(ErrorCode::mismatch, fmt::format("job '{}' is of the workload '{}', which this drover does not have", status->name, status->workload), "resume it with the drover that began it"));
  }
  const auto plan = workload->plan();
  JobOptions options;
  InvocationOptions ignored;
  JobSchema job_schema(*plan, options, ignored);
  const std::string file = *directory + "/job.toml";
  const auto text = host.fs.read_file(file, std::uint64_t{1} << 20);
  if (!text) return complain("resume", Error(text.error()).advise("it was written when the job began and says what the job is; put it back to go on"));
  std::vector<Error> errors = job_schema.apply_file(*text, file, status->workload);
  if (errors.empty()) errors = apply_words({}, job_schema.all());  // what is required must be in the file
  if (errors.empty()) {
    if (given("workers")) options.workers = changed.workers;
    if (given("oversubscribe")) options.oversubscribe = changed.oversubscribe;
    if (given("time")) options.time = changed.time;
    if (given("until")) options.until = changed.until;
    errors = options.check();
  }
  if (!errors.empty()) return complain("resume", errors);
  return run_job_to_its_end({.verb = "resume",
                             .workload = *workload,
                             .plan = *plan,
                             .options = options,
                             .invocation = invocation,
                             .directory = *directory,
                             .resume = true,
                             .job_toml = job_schema.to_toml(status->workload),
                             .words = words,
                             .checkpoint = checkpoint == 0 ? std::nullopt : std::optional(checkpoint)});
}

}  // namespace drover::cli
