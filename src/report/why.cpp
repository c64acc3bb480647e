#include "report/why.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "drover/types/outcome.hpp"
#include "report/table.hpp"
#include "store/job_directory.hpp"

namespace drover::report {
namespace {

using nlohmann::ordered_json;

ordered_json text_or_null(const std::string& text) { return text.empty() ? ordered_json(nullptr) : ordered_json(text); }

std::string base_name(std::string_view path) { return std::string(path.substr(path.find_last_of('/') + 1)); }

AttemptWhy attempt_of(const store::AttemptRow& row) {
  AttemptWhy why{.task = row.task,
                 .attempt = row.attempt,
                 .epoch = row.epoch.value,
                 .run = row.run,
                 .slot = row.place.slot.value,
                 .incarnation = row.place.incarnation.value,
                 .host_pid = row.place.host_pid,
                 .outcome = {},
                 .outcome_text = "opened, and the supervisor was lost before it ended",
                 .blame = "host",
                 .retry = {},
                 .will_retry = row.will_retry,
                 .seconds = {},
                 .evidence = row.evidence};
  if (!row.outcome_json.empty()) {
    if (auto outcome = parse_outcome(row.outcome_json)) {
      why.outcome = std::string(name_of(*outcome));
      why.outcome_text = drover::text_of(*outcome);
      why.blame = std::string(name_of(blame_of(*outcome)));
      why.retry = std::string(name_of(retry_of(*outcome)));
    } else {
      why.outcome_text = "unreadable: " + outcome.error().what();
      why.blame = "host";
    }
  }
  if (row.place.start != TimePoint{} && row.place.end >= row.place.start) {
    why.seconds = std::chrono::duration<double>(row.place.end - row.place.start).count();
  }
  return why;
}

ordered_json json_of_attempt(const AttemptWhy& a) {
  ordered_json evidence = nullptr;
  if (!a.evidence.empty()) {
    evidence = ordered_json::parse(a.evidence, nullptr, false);
    if (evidence.is_discarded()) evidence = a.evidence;
  }
  return {{"task", a.task.value},
          {"attempt", a.attempt},
          {"epoch", a.epoch},
          {"run", a.run},
          {"slot", a.slot},
          {"incarnation", a.incarnation},
          {"host_pid", a.host_pid == 0 ? ordered_json(nullptr) : ordered_json(a.host_pid)},
          {"outcome", text_or_null(a.outcome)},
          {"outcome_text", a.outcome_text},
          {"blame", a.blame},
          {"retry", text_or_null(a.retry)},
          {"will_retry", a.will_retry},
          {"seconds", a.seconds ? ordered_json(*a.seconds) : ordered_json(nullptr)},
          {"evidence", std::move(evidence)}};
}

std::string dump(const ordered_json& json) { return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace); }

std::vector<std::string> attempt_lines(const std::vector<AttemptWhy>& attempts, bool with_task) {
  std::vector<std::string> titles{"attempt", "run", "slot", "inc", "pid", "took", "outcome", "blame", "then", "evidence"};
  if (with_task) titles.insert(titles.begin(), "task");
  Table table(std::move(titles));
  for (const AttemptWhy& a : attempts) {
    std::vector<std::string> cells{std::to_string(a.attempt),
                                   std::to_string(a.run),
                                   std::to_string(a.slot),
                                   std::to_string(a.incarnation),
                                   a.host_pid == 0 ? "-" : std::to_string(a.host_pid),
                                   a.seconds ? short_duration(*a.seconds) : "-",
                                   a.outcome_text,
                                   a.blame,
                                   a.will_retry ? "retried" : "final",
                                   a.evidence.empty() ? "-" : a.evidence};
    if (with_task) cells.insert(cells.begin(), std::to_string(a.task.value));
    table.row(std::move(cells));
  }
  return table.lines(0);
}

Result<std::vector<store::RunRow>> runs_of(const Host& host, store::Ledger& ledger) {
  return ledger.runs(host.boot_id, [&](const store::RunStart& start) {
    return store::is_alive({.pid = start.supervisor_pid, .start_ticks = start.supervisor_start_ticks, .boot_id = start.boot_id, .host = {}, .started = {}});
  });
}

}  // namespace

Result<JobWhy> why_job(const Host& host, const std::string& directory) {
  DROVER_TRY(store::Ledger ledger, store::Ledger::open_to_read(host.fs, directory + "/ledger.db"));
  JobWhy why;
  why.directory = directory;
  why.name = base_name(directory);
  why.workload = ledger.header().workload;
  DROVER_TRY(const auto runs, runs_of(host, ledger));
  for (const store::RunRow& run : runs) {
    why.runs.push_back({.number = run.number,
                        .started = run.start.wall_time,
                        .boot_id = run.start.boot_id,
                        .version = run.start.version,
                        .argv_json = run.start.argv_json,
                        .supervisor_pid = run.start.supervisor_pid,
                        .outcome = run.ending_name,
                        .exit_reason = run.ending_name.empty() ? std::string() : sentence_of(run.ending_name, run.ending_text),
                        .reconstructed = run.reconstructed});
  }
  DROVER_TRY(const store::LedgerCounts counts, ledger.counts());
  why.faults_total = counts.attempts;
  DROVER_TRY(const auto attempts, ledger.last_attempts(50));
  for (const auto& row : attempts) why.faults.push_back(attempt_of(row));
  DROVER_TRY(const auto quarantined, ledger.quarantined());
  for (const auto& row : quarantined) why.quarantined.push_back(row.task);

  if (why.runs.empty()) {
    why.cause = "no run of it has begun";
    return why;
  }
  const RunWhy& last = why.runs.back();
  why.outcome = last.outcome;
  why.resumable = !last.outcome.empty() && is_resumable(last.outcome);
  if (last.outcome.empty()) {
    why.cause = "it still runs";
  } else if (last.outcome == "incomplete") {
    DROVER_TRY(const auto failures, ledger.failures(1));
    std::uint64_t failed = 0;
    for (const auto& [name, count] : counts.by_outcome) failed += name == "completed" ? 0 : count;
    why.cause = fmt::format("{} task{} did not complete", failed, failed == 1 ? "" : "s");
    if (!failures.empty()) {
      const auto outcome = parse_outcome(failures.front().outcome_json);
      why.cause += fmt::format(", the first is task {}: {}", failures.front().task.value, outcome ? drover::text_of(*outcome) : failures.front().outcome_json);
    }
  } else {
    why.cause = last.exit_reason;
    if (last.reconstructed) why.cause += fmt::format(" (reconstructed: run {} recorded no ending, its supervisor was pid {})", last.number, last.supervisor_pid);
  }
  return why;
}

Result<TaskWhy> why_task(const Host& host, const std::string& directory, TaskId task) {
  DROVER_TRY(store::Ledger ledger, store::Ledger::open_to_read(host.fs, directory + "/ledger.db"));
  TaskWhy why;
  why.directory = directory;
  why.name = base_name(directory);
  why.workload = ledger.header().workload;
  why.task = task;
  DROVER_TRY(const auto attempts, ledger.attempts(task));
  for (const auto& row : attempts) why.attempts.push_back(attempt_of(row));
  DROVER_TRY(const auto row, ledger.task(task));
  DROVER_TRY(const auto quarantined, ledger.quarantined());
  for (const auto& saved : quarantined) {
    if (saved.task == task) why.input_file = "results/" + saved.input_file;
  }
  if (!row) {
    if (attempts.empty()) {
      return fail(ErrorCode::not_found, fmt::format("task '{}': the ledger of '{}' has no record of it", task.value, why.name),
                  "it was not given yet, or it is queued and was never leased; `drover why " + why.name + "` lists what went wrong");
    }
    why.attempts_made = static_cast<std::uint32_t>(attempts.size());
    why.cause = fmt::format("not ended: {} attempt{} on record, the last {}", attempts.size(), attempts.size() == 1 ? "" : "s", why.attempts.back().outcome_text);
    return why;
  }
  why.attempts_made = row->attempts;
  why.in_range = row->in_range;
  why.has_result = row->has_result;
  why.result_bytes = row->result_bytes;
  if (row->in_range) {
    why.outcome = why.outcome_text = "completed";
    why.cause = "completed at its first attempt";
    return why;
  }
  const auto outcome = parse_outcome(row->outcome_json);
  if (!outcome) return std::unexpected(Error(outcome.error()).with(fmt::format("task '{}' of '{}'", task.value, why.name)));
  why.outcome = std::string(name_of(*outcome));
  why.outcome_text = drover::text_of(*outcome);
  if (is_completed(*outcome)) {
    why.cause = row->attempts <= 1 ? "completed at its first attempt" : fmt::format("completed at attempt {}", row->attempts);
  } else {
    const Blame blame = blame_of(*outcome);
    why.cause = fmt::format("{}: {}", why.outcome_text, blame == Blame::task ? "the task's doing" : blame == Blame::worker ? "the worker's doing" : blame == Blame::host ? "this host's doing" : "asked for");
    if (why.outcome == "quarantined" && !why.attempts.empty()) why.cause += fmt::format("; it killed its worker {} times, last by {}", row->attempts, why.attempts.back().outcome_text);
  }
  return why;
}

std::string text_of(const JobWhy& why) {
  std::string out = fmt::format("{}  {}  {}\n  cause        {}\n", why.name, why.workload, why.outcome.empty() ? "running" : why.outcome, printable(why.cause));
  if (why.resumable) out += fmt::format("  next         `drover resume {}` continues it\n", why.name);
  for (const RunWhy& run : why.runs) {
    out += fmt::format("  run {:<8} started {}, supervisor {}: {}{}\n", run.number, run.started, run.supervisor_pid, run.outcome.empty() ? "runs" : run.exit_reason,
                       run.reconstructed ? " (reconstructed)" : "");
  }
  if (!why.quarantined.empty()) {
    out += "  quarantined ";
    for (const TaskId task : why.quarantined) out += fmt::format(" {}", task.value);
    out += fmt::format("; `drover replay {} {}` runs one again\n", why.name, why.quarantined.front().value);
  }
  out += why.faults_total == 0 ? "  faults       none: every attempt on record completed\n"
                               : fmt::format("  faults       {} attempts did not complete{}:\n", why.faults_total, why.faults.size() < why.faults_total ? fmt::format("; the newest {}", why.faults.size()) : "");
  if (!why.faults.empty()) {
    for (const std::string& line : attempt_lines(why.faults, true)) out += "    " + line + "\n";
  }
  return out;
}

std::string text_of(const TaskWhy& why) {
  std::string out = fmt::format("task {} of {}  {}\n  cause        {}\n", why.task.value, why.name, why.outcome.empty() ? "open" : why.outcome, printable(why.cause));
  if (why.has_result) out += fmt::format("  result       {} bytes kept\n", why.result_bytes);
  if (!why.input_file.empty()) out += fmt::format("  input        {}; `drover replay {} {}` runs it again\n", why.input_file, why.name, why.task.value);
  out += fmt::format("  attempts     {}\n", why.attempts_made);
  if (!why.attempts.empty()) {
    for (const std::string& line : attempt_lines(why.attempts, false)) out += "    " + line + "\n";
  }
  return out;
}

std::string json_of(const JobWhy& why) {
  ordered_json runs = ordered_json::array();
  for (const RunWhy& run : why.runs) {
    ordered_json argv = ordered_json::parse(run.argv_json.empty() ? "null" : run.argv_json, nullptr, false);
    if (argv.is_discarded()) argv = run.argv_json;
    runs.push_back({{"run", run.number},
                    {"started", run.started},
                    {"boot_id", run.boot_id},
                    {"version", run.version},
                    {"argv", std::move(argv)},
                    {"supervisor_pid", run.supervisor_pid},
                    {"outcome", text_or_null(run.outcome)},
                    {"exit_reason", text_or_null(run.exit_reason)},
                    {"reconstructed", run.reconstructed}});
  }
  ordered_json faults = ordered_json::array();
  for (const AttemptWhy& attempt : why.faults) faults.push_back(json_of_attempt(attempt));
  ordered_json quarantined = ordered_json::array();
  for (const TaskId task : why.quarantined) quarantined.push_back(task.value);
  return dump({{"job_directory", why.directory},
               {"name", why.name},
               {"workload", why.workload},
               {"outcome", text_or_null(why.outcome)},
               {"cause", why.cause},
               {"resumable", why.resumable},
               {"runs", std::move(runs)},
               {"faults_total", why.faults_total},
               {"faults", std::move(faults)},
               {"quarantined", std::move(quarantined)}});
}

std::string json_of(const TaskWhy& why) {
  ordered_json attempts = ordered_json::array();
  for (const AttemptWhy& attempt : why.attempts) attempts.push_back(json_of_attempt(attempt));
  return dump({{"job_directory", why.directory},
               {"name", why.name},
               {"workload", why.workload},
               {"task", why.task.value},
               {"outcome", text_or_null(why.outcome)},
               {"outcome_text", text_or_null(why.outcome_text)},
               {"cause", why.cause},
               {"attempts_made", why.attempts_made},
               {"result_bytes", why.has_result ? ordered_json(why.result_bytes) : ordered_json(nullptr)},
               {"input_file", text_or_null(why.input_file)},
               {"attempts", std::move(attempts)}});
}

}  // namespace drover::report
