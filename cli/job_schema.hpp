#pragma once
/// All options of one job invocation in one schema: the workload's and every job's, which job.toml keeps, and this invocation's,
/// which it does not.

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "cli/job_options.hpp"
#include "drover/workload.hpp"

namespace drover::cli {

class JobSchema {
 public:
  JobSchema(JobPlan& plan, JobOptions& options, InvocationOptions& invocation) {
    plan.describe(all_);
    Schema common;
    options.describe(common);
    for (Option& option : common.options()) {  // a workload's own option of that name stands for the common one
      if (std::ranges::find(all_.options(), option.name, &Option::name) == all_.options().end()) all_.options().push_back(std::move(option));
    }
    kept_ = all_.options().size();
    all_.text("job", invocation.job, "directory of the new job; default drover-jobs/NAME-DATE-N");
    all_.flag("resume", invocation.resume, "if --job is there already, go on with it: what its results depend on must be the same");
    all_.text("config", invocation.config, "TOML file with options, which the command line overrides");
    invocation.describe_display(all_);
  }
  Schema& all() { return all_; }
  const Schema& all() const { return all_; }

  /// From a file: only what job.toml keeps is known there.
  std::vector<Error> apply_file(std::string_view text, std::string_view file, std::string_view table) {
    Schema kept = kept_part();
    std::vector<Error> errors = apply_toml(text, file, table, kept);
    for (std::size_t i = 0; i < kept_; ++i) all_.options()[i].given = kept.options()[i].given;
    return errors;
  }
  std::string to_toml(std::string_view table) const { return drover::to_toml(table, kept_part()); }

 private:
  Schema kept_part() const {
    Schema kept = all_;
    kept.options().resize(kept_);
    return kept;
  }
  Schema all_;
  std::size_t kept_ = 0;
};

}  // namespace drover::cli
