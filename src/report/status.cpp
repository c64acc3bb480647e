#include "report/status.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/text.hpp"
#include "drover/types/ending.hpp"
#include "os/host.hpp"
#include "os/process_stats.hpp"
#include "report/table.hpp"
#include "store/job_directory.hpp"

namespace drover::report {
namespace {

using nlohmann::ordered_json;

double seconds(std::int64_t ns) { return static_cast<double>(ns) / 1e9; }

ProcessStatus process_status(const store::LiveProcess& process) {
  if (process.host_pid <= 0) return {};
  const auto ticks = start_time_ticks(static_cast<pid_t>(process.host_pid));
  return {.host_pid = process.host_pid, .alive = ticks && *ticks == process.start_ticks};
}

LiveStatus live_status(const Host& host, const store::LiveSnapshot& snapshot, bool torn) {
  const store::LiveJob& job = snapshot.job;
  const std::int64_t now = host.clock.now().time_since_epoch().count();
  LiveStatus live{.state = std::string(name_of(job.state)),
                  .torn = torn,
                  .age_seconds = seconds(now - job.updated_ns),
                  .supervisor = process_status(job.supervisor),
                  .keeper = process_status(job.keeper),
                  .watchdog = process_status(job.watchdog),
                  .workers = {},
                  .run_seconds = seconds(now - job.started_ns),
                  .seconds_left = {},
                  .tasks_total = {},
                  .submitted = job.submitted,
                  .completed = job.completed + job.recorded_before,
                  .failed = job.failed,
                  .attempts = job.attempts,
                  .retries = job.retries_blamed + job.retries_free,
                  .late_discarded = job.late_discarded,
                  .quarantined = job.quarantined,
                  .queued = job.queued,
                  .leased = job.leased,
                  .spawns = job.spawns,
                  .deaths = job.deaths,
                  .tasks_per_second = job.rate,
                  .progress_note = std::string(store::text_in(job.workload_line)),
                  .last_fault = std::string(store::text_in(job.last_fault))};
  if (job.deadline_ns != 0) live.seconds_left = std::max(0.0, seconds(job.deadline_ns - host.clock.boottime().count()));
  if (job.tasks_total != store::kNoTask) live.tasks_total = job.tasks_total;
  for (const store::LiveSlot& slot : snapshot.slots) {
    WorkerStatus worker{.slot = slot.slot,
                        .incarnation = slot.incarnation,
                        .host_pid = slot.host_pid,
                        .state = std::string(name_of(slot.state)),
                        .task = {},
                        .attempt = slot.attempt,
                        .leases = slot.leases,
                        .deaths = slot.deaths,
                        .progress = slot.progress,
                        .completed = slot.completed,
                        .rss_bytes = slot.rss_bytes,
                        .cpu_seconds = seconds(slot.cpu_ns),
                        .tasks_per_second = slot.rate,
                        .state_seconds = slot.since_ns == 0 ? 0.0 : seconds(now - slot.since_ns),
                        .last_fault = std::string(store::text_in(slot.last_fault))};
    if (slot.task != store::kNoTask) worker.task = slot.task;
    // The page samples these only while a limit needs them; the kernel knows them now.
    if (worker.host_pid > 0) {
      const auto pid = static_cast<pid_t>(worker.host_pid);
      if (worker.rss_bytes == 0) worker.rss_bytes = rss_bytes(pid).value_or(0);
      if (slot.cpu_ns == 0) worker.cpu_seconds = seconds(cpu_time(pid).value_or(Nanos::zero()).count());
    }
    live.workers.push_back(std::move(worker));
  }
  return live;
}

std::string base_name(std::string_view path) {
  while (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
  return std::string(path.substr(path.find_last_of('/') + 1));
}

ordered_json counts_of(const std::vector<std::pair<std::string, std::uint64_t>>& counts) {
  ordered_json out = ordered_json::object();
  for (const auto& [name, count] : counts) out[name] = count;
  return out;
}

ordered_json nullable(const auto& value) { return value ? ordered_json(*value) : ordered_json(nullptr); }
ordered_json text_or_null(const std::string& text) { return text.empty() ? ordered_json(nullptr) : ordered_json(text); }

ordered_json json_of_process(const ProcessStatus& process) {
  if (process.host_pid == 0) return nullptr;
  return {{"host_pid", process.host_pid}, {"alive", process.alive}};
}

ordered_json json_of_worker(const WorkerStatus& w) {
  return {{"slot", w.slot},
          {"incarnation", w.incarnation},
          {"host_pid", w.host_pid == 0 ? ordered_json(nullptr) : ordered_json(w.host_pid)},
          {"state", w.state},
          {"task", nullable(w.task)},
          {"attempt", w.task ? ordered_json(w.attempt) : ordered_json(nullptr)},
          {"progress", w.progress},
          {"leases", w.leases},
          {"completed", w.completed},
          {"deaths", w.deaths},
          {"rss_bytes", w.rss_bytes},
          {"cpu_seconds", w.cpu_seconds},
          {"tasks_per_second", w.tasks_per_second},
          {"state_seconds", w.state_seconds},
          {"last_fault", text_or_null(w.last_fault)}};
}

std::string joined(const std::vector<std::pair<std::string, std::uint64_t>>& counts) {
  std::string text;
  for (const auto& [name, count] : counts) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count, name);
  return text;
}

}  // namespace

Host this_host() { return {.fs = posix_file_system(), .clock = system_clock(), .boot_id = boot_id()}; }

bool is_resumable(std::string_view ending_name) { return ending_name != "completed" && ending_name != "incomplete"; }

std::string sentence_of(std::string_view name, std::string_view text) {
  if (name == "completed") return "every task completed";
  // `limit(wall)` -> `wall`: the name is said in words.
  const std::string_view evidence = text.starts_with(fmt::format("{}(", name)) && text.ends_with(')') ? text.substr(name.size() + 1, text.size() - name.size() - 2) : text;
  if (name == "incomplete") return evidence == name ? "the job went to its end, some tasks did not complete" : std::string(evidence);
  if (name == "limit") return fmt::format("stopped at its limit of {}", evidence == "wall" ? "time" : evidence == "until" ? "--until" : evidence);
  if (name == "stalled") return evidence == name ? "no task advanced any more" : fmt::format("stalled: {}", evidence);
  if (name == "gave_up") return fmt::format("gave up: {}", evidence);
  if (name == "fenced") return "another supervisor took the job over";
  if (name == "cancelled") return text.ends_with("(interrupt)") ? "stopped by Ctrl-C" : "stopped by its operator";
  if (name == "host_fault") return fmt::format("this host failed: {}", evidence);
  if (name == "supervisor_lost") return "the supervisor died without a word";
  if (name == "host_reboot") return "the host was restarted while it ran";
  return std::string(text);
}

std::optional<LiveStatus> read_live(const Host& host, const std::string& directory) {
  const std::string page = directory + "/live";
  auto snapshot = store::read_live_page(host.fs, page);
  bool torn = false;
  if (!snapshot && snapshot.error().code() == ErrorCode::busy) {
    snapshot = store::read_live_page_torn(host.fs, page);
    torn = true;
  }
  if (!snapshot || snapshot->stale || snapshot->job.state == store::LiveJobState::ended) return std::nullopt;
  LiveStatus live = live_status(host, *snapshot, torn);
  if (!live.supervisor.alive) return std::nullopt;
  return live;
}

Result<JobStatus> read_status(const Host& host, const std::string& directory) {
  DROVER_TRY(store::Ledger ledger, store::Ledger::open_to_read(host.fs, directory + "/ledger.db"));
  const store::JobHeader& header = ledger.header();
  JobStatus status;
  status.directory = directory;
  status.name = base_name(directory);
  status.workload = header.workload;
  status.id = header.id;
  status.created = header.created;
  status.seed = header.seed;
  status.durability = std::string(name_of(ledger.durability()));
  status.grain = std::string(name_of(ledger.grain()));
  // The live page first: what it counts may be in the ledger a moment later, never the other way round.
  status.live = read_live(host, directory);

  DROVER_TRY(const std::vector<store::RunRow> runs, ledger.runs(host.boot_id, [&](const store::RunStart& start) {
    return store::is_alive({.pid = start.supervisor_pid, .start_ticks = start.supervisor_start_ticks, .boot_id = start.boot_id, .host = {}, .started = {}});
  }));
  status.runs = static_cast<std::uint32_t>(runs.size());
  if (!runs.empty()) {
    const store::RunRow& last = runs.back();
    status.consumed_seconds = seconds(last.consumed.count());
    status.outcome = last.ending_name;
    if (!last.ending_name.empty()) {
      status.exit_reason = sentence_of(last.ending_name, last.ending_text);
      status.resumable = is_resumable(last.ending_name);
      status.live.reset();  // it has said its last word, whatever the page still shows
    }
    if (!last.digest.empty()) status.digest = last.digest;
    status.digest_reason = last.digest_note;
    status.digest_tasks = last.digest_tasks;
  }
  DROVER_TRY(const store::LedgerCounts counts, ledger.counts());
  status.recorded = counts.recorded;
  status.completed = counts.completed;
  for (const auto& [name, count] : counts.by_outcome) {
    if (name != "completed") status.endings.emplace_back(name, count);
  }
  status.faults = counts.attempts_by_outcome;
  DROVER_TRY(const std::vector<store::CheckpointRow> checkpoints, ledger.checkpoints());
  for (const auto& row : checkpoints) status.checkpoints += row.state == store::CheckpointState::good ? 1 : 0;
  return status;
}

std::string json_of(const JobStatus& s) {
  const auto& live = s.live;
  ordered_json workers = ordered_json::array();
  if (live) {
    for (const WorkerStatus& worker : live->workers) workers.push_back(json_of_worker(worker));
  }
  const std::string state = live ? live->state : s.outcome.empty() ? "starting" : "ended";
  const ordered_json out{
      {"job_directory", s.directory},
      {"name", s.name},
      {"workload", s.workload},
      {"id", s.id},
      {"created", s.created},
      {"seed", s.seed},
      {"durability", s.durability},
      {"grain", s.grain},
      {"runs", s.runs},
      {"state", state},
      {"live", live.has_value()},
      {"outcome", text_or_null(s.outcome)},
      {"exit_reason", text_or_null(s.exit_reason)},
      {"resumable", s.resumable},
      {"digest", nullable(s.digest)},
      {"digest_tasks", s.digest ? ordered_json(s.digest_tasks) : ordered_json(nullptr)},
      {"digest_reason", text_or_null(s.digest_reason)},
      {"supervisor", live ? json_of_process(live->supervisor) : ordered_json(nullptr)},
      {"keeper", live ? json_of_process(live->keeper) : ordered_json(nullptr)},
      {"watchdog", live ? json_of_process(live->watchdog) : ordered_json(nullptr)},
      {"workers", workers},
      {"counts",
       {{"tasks", live ? nullable(live->tasks_total) : ordered_json(nullptr)},
        {"recorded", s.recorded},
        {"completed", live ? std::max(live->completed, s.completed) : s.completed},
        {"endings", counts_of(s.endings)},
        {"faults", counts_of(s.faults)},
        {"queued", live ? live->queued : 0},
        {"leased", live ? live->leased : 0},
        {"attempts", live ? ordered_json(live->attempts) : ordered_json(nullptr)},
        {"retries", live ? ordered_json(live->retries) : ordered_json(nullptr)},
        {"late_discarded", live ? ordered_json(live->late_discarded) : ordered_json(nullptr)},
        {"spawns", live ? ordered_json(live->spawns) : ordered_json(nullptr)},
        {"deaths", live ? ordered_json(live->deaths) : ordered_json(nullptr)},
        {"checkpoints", s.checkpoints}}},
      {"timings",
       {{"consumed_seconds", s.consumed_seconds},
        {"run_seconds", live ? ordered_json(live->run_seconds) : ordered_json(nullptr)},
        {"seconds_left", live ? nullable(live->seconds_left) : ordered_json(nullptr)},
        {"tasks_per_second", live ? ordered_json(live->tasks_per_second) : ordered_json(nullptr)},
        {"snapshot_age_seconds", live ? ordered_json(live->age_seconds) : ordered_json(nullptr)}}},
      {"progress_note", live ? text_or_null(live->progress_note) : ordered_json(nullptr)},
      {"last_fault", live ? text_or_null(live->last_fault) : ordered_json(nullptr)},
  };
  return out.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::vector<std::string> worker_lines(const LiveStatus& live, std::size_t width) {
  Table table({"slot", "inc", "pid", "state", "for", "task", "progress", "done", "rss", "cpu", "deaths", "last fault"});
  for (const WorkerStatus& w : live.workers) {
    table.row({std::to_string(w.slot), std::to_string(w.incarnation), w.host_pid == 0 ? "-" : std::to_string(w.host_pid), w.state,
               short_duration(w.state_seconds), w.task ? std::to_string(*w.task) : "-", std::to_string(w.progress), std::to_string(w.completed),
               text_of_bytes(w.rss_bytes), short_duration(w.cpu_seconds), std::to_string(w.deaths), w.last_fault.empty() ? "-" : w.last_fault});
  }
  return table.lines(width);
}

std::string text_of(const JobStatus& s) {
  std::string out = fmt::format("{}  {}  {}\n", s.name, s.workload, s.live ? s.live->state : s.outcome.empty() ? "starting" : s.outcome);
  out += fmt::format("  directory    {}\n", s.directory);
  if (!s.exit_reason.empty()) out += fmt::format("  ended        {}{}\n", s.exit_reason, s.resumable ? fmt::format("; `drover resume {}` continues it", s.name) : "");
  if (s.digest) out += fmt::format("  digest       {}{}\n", *s.digest, s.digest_tasks == 0 ? "" : fmt::format(" over {} tasks", s.digest_tasks));
  else if (!s.digest_reason.empty()) out += fmt::format("  digest       none: {}\n", s.digest_reason);
  out += fmt::format("  recorded     {} tasks, {} completed{}{}\n", s.recorded, s.completed, s.endings.empty() ? "" : ", ", joined(s.endings));
  if (!s.faults.empty()) out += fmt::format("  faults       {}\n", joined(s.faults));
  out += fmt::format("  runs         {}, {} of the budget used; ledger grain {}, durability {}{}\n", s.runs, short_duration(s.consumed_seconds), s.grain, s.durability,
                     s.checkpoints == 0 ? "" : fmt::format(", {} good checkpoint{}", s.checkpoints, s.checkpoints == 1 ? "" : "s"));
  if (s.live) {
    const LiveStatus& live = *s.live;
    out += fmt::format("  live         {} old{}\n", short_duration(live.age_seconds), live.torn ? ", torn: the supervisor stopped half-way; only pids are certain" : "");
    const auto process = [](std::string_view name, const ProcessStatus& p) {
      return p.host_pid == 0 ? fmt::format("no {}", name) : fmt::format("{} {}{}", name, p.host_pid, p.alive ? "" : " (gone)");
    };
    out += fmt::format("  processes    {}, {}, {}\n", process("supervisor", live.supervisor), process("keeper", live.keeper), process("watchdog", live.watchdog));
    out += fmt::format("  progress     {}{} tasks, {:.1f}/s, {} queued, {} leased{}\n", live.completed, live.tasks_total ? fmt::format(" of {}", *live.tasks_total) : "",
                       live.tasks_per_second, live.queued, live.leased, live.progress_note.empty() ? "" : "; " + live.progress_note);
    out += fmt::format("  time         {} in this run{}\n", short_duration(live.run_seconds), live.seconds_left ? fmt::format(", {} left", short_duration(*live.seconds_left)) : "");
    if (!live.last_fault.empty()) out += fmt::format("  last fault   {}\n", live.last_fault);
    for (const std::string& line : worker_lines(live, 0)) out += "  " + line + "\n";
  }
  return out;
}

}  // namespace drover::report
