// drover why [JOB] [TASK]: every attempt, outcome and evidence, and one cause. The ledger alone answers.

#include <charconv>

#include "cli/find_job.hpp"
#include "cli/messages.hpp"
#include "cli/program.hpp"
#include "report/why.hpp"

namespace drover::cli {

int why(const Program&, const Words& words) {
  std::string job, task;
  bool json = false;
  Schema schema;
  schema.text("job", job, "directory or name of a job; the one started last here if left out").positional(false);
  schema.text("task", task, "id of a task; without it: why the job ended").positional(false);
  schema.flag("json", json, "print one JSON object (docs/json.md)");
  if (const auto done = read_words("why", "[JOB] [TASK] [--json]", "Says why a job, or one of its tasks, ended as it did", words, schema)) return *done;

  const report::Host host = report::this_host();
  const auto number = [](const std::string& word) -> std::optional<TaskId> {
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
    if (word.empty() || error != std::errc() || end != word.data() + word.size()) return std::nullopt;
    return TaskId(value);
  };
  // `drover why 7` is task 7 of the newest job, unless a job has that name.
  if (task.empty() && number(job) && !find_job(host.fs, job)) std::swap(job, task);
  const auto directory = find_job(host.fs, job);
  if (!directory) return complain("why", directory.error());
  if (task.empty()) {
    const auto answer = report::why_job(host, *directory);
    if (!answer) return complain("why", answer.error());
    return print(json ? report::json_of(*answer) + "\n" : report::text_of(*answer)) ? kDone : kFault;
  }
  const auto id = number(task);
  if (!id) return complain("why", Error(ErrorCode::usage, "TASK '" + task + "': must be a whole number, at least 0"));
  const auto answer = report::why_task(host, *directory, *id);
  if (!answer) return complain("why", answer.error());
  return print(json ? report::json_of(*answer) + "\n" : report::text_of(*answer)) ? kDone : kFault;
}

}  // namespace drover::cli
