// drover ps [--all] [--json]: the jobs that run on this host, and those that stand under ./drover-jobs.

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/find_job.hpp"
#include "cli/messages.hpp"
#include "cli/program.hpp"
#include "cli/terminal.hpp"
#include "report/status.hpp"
#include "report/table.hpp"

namespace drover::cli {

int ps(const Program&, const Words& words) {
  bool all = false, json = false;
  Schema schema;
  schema.flag("all", all, "those that ended for good too");
  schema.flag("json", json, "print one JSON object (docs/json.md)");
  if (const auto done = read_words("ps", "[--all] [--json]", "Lists the jobs that run on this host and those in ./drover-jobs", words, schema)) return *done;

  const report::Host host = report::this_host();
  std::vector<std::string> directories;
  for (const auto& entry : running_jobs(host.fs)) directories.push_back(entry.job_path);
  for (std::string& directory : jobs_here(host.fs)) {
    if (std::ranges::find(directories, directory) == directories.end()) directories.push_back(std::move(directory));
  }

  nlohmann::ordered_json jobs = nlohmann::ordered_json::array();
  report::Table table({"job", "workload", "state", "pid", "completed", "tasks/s", "faults", "directory"});
  std::size_t hidden = 0;
  for (const std::string& directory : directories) {
    const auto status = report::read_status(host, directory);
    if (!status) {
      table.row({directory.substr(directory.find_last_of('/') + 1), "-", fmt::format("{}", name_of(status.error().code())), "-", "-", "-", "-", directory});
      jobs.push_back({{"job_directory", directory}, {"error", status.error().what()}});
      continue;
    }
    if (!all && !status->live && !status->outcome.empty() && !status->resumable) {
      ++hidden;
      continue;
    }
    std::uint64_t faults = 0;
    for (const auto& [name, count] : status->faults) faults += count;
    table.row({status->name, status->workload, status->live ? status->live->state : status->outcome.empty() ? "starting" : status->outcome,
               status->live ? std::to_string(status->live->supervisor.host_pid) : "-", std::to_string(status->live ? std::max(status->live->completed, status->completed) : status->completed),
               status->live ? short_number(status->live->tasks_per_second) : "-", std::to_string(faults), status->directory});
    jobs.push_back(nlohmann::ordered_json::parse(report::json_of(*status)));
  }
  if (json) return print(nlohmann::ordered_json{{"jobs", jobs}}.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n") ? kDone : kFault;
  if (table.rows() > 0) {
    std::string text;
    for (const std::string& line : table.lines(0)) text += line + "\n";
    if (!print(text)) return kFault;
  }
  if (hidden > 0) say("ps", fmt::format("{} that ended for good not shown; `drover ps --all` does", hidden));
  else if (table.rows() == 0) say("ps", "no job runs on this host, and none stands in ./drover-jobs");
  return kDone;
}

}  // namespace drover::cli
