#pragma once
/// Why a job ended, or a task: every attempt, its outcome and evidence, and one cause. Uses the ledger only, never the live page,
/// the logs or a running supervisor: what it says is what a resume will act on.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "drover/types/ids.hpp"
#include "report/status.hpp"

namespace drover::report {

struct AttemptWhy {
  TaskId task{};
  std::uint32_t attempt = 1, epoch = 0, run = 0, slot = 0, incarnation = 0;
  std::int64_t host_pid = 0;
  std::string outcome;           ///< name; empty: opened, and nobody knows how it ended
  std::string outcome_text;      ///< with its evidence
  std::string blame, retry;      ///< who, and which retry class
  bool will_retry = false;
  std::optional<double> seconds; ///< it ran, when known
  std::string evidence;          ///< JSON object, or empty
};

struct RunWhy {
  std::uint32_t number = 0;
  std::string started, boot_id, version, argv_json;
  std::int64_t supervisor_pid = 0;
  std::string outcome, exit_reason;   ///< empty while it runs
  bool reconstructed = false;         ///< it recorded no ending; this is what its traces say
};

struct JobWhy {
  std::string directory, name, workload;
  std::string outcome, cause;         ///< one cause of the ending; of a running job: what has happened so far
  bool resumable = false;
  std::vector<RunWhy> runs;
  std::vector<AttemptWhy> faults;     ///< attempts that did not complete, newest first, at most 50
  std::uint64_t faults_total = 0;
  std::vector<TaskId> quarantined;
};

struct TaskWhy {
  std::string directory, name, workload;
  TaskId task{};
  std::string outcome, outcome_text;  ///< empty: no ending recorded
  std::string cause;                  ///< one sentence
  std::uint32_t attempts_made = 0;
  bool in_range = false;              ///< completed at the first attempt, kept as part of a range: no times
  std::uint64_t result_bytes = 0;
  bool has_result = false;
  std::string input_file;             ///< saved for `drover replay`, relative to the job directory; or empty
  std::vector<AttemptWhy> attempts;
};

Result<JobWhy> why_job(const Host& host, const std::string& directory);
/// not_found if the job has no record of the task.
Result<TaskWhy> why_task(const Host& host, const std::string& directory, TaskId task);

std::string text_of(const JobWhy& why);
std::string text_of(const TaskWhy& why);
std::string json_of(const JobWhy& why);
std::string json_of(const TaskWhy& why);

}  // namespace drover::report
