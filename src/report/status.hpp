#pragma once
/// What a job is and how it stands: its ledger folded, and while it runs a snapshot of its `live` page beside it, marked as such.
/// Reads only; takes no lock, asks the supervisor nothing, works on a frozen one. `drover status`, `ps` and `top` show it.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "drover/types/error.hpp"
#include "os/clock.hpp"
#include "os/file_system.hpp"
#include "store/ledger.hpp"
#include "store/live_page.hpp"

namespace drover::report {

/// What the reader of a job needs of this host.
struct Host {
  FileSystem& fs;
  const Clock& clock;
  std::string boot_id;
};
/// This host, with the real file system and clock.
Host this_host();

struct ProcessStatus {
  std::int64_t host_pid = 0;
  bool alive = false;               ///< that very process, by pid and start time
};

struct WorkerStatus {
  std::uint32_t slot = 0, incarnation = 0;
  std::int64_t host_pid = 0;        ///< 0: none now
  std::string state;                ///< empty, backing_off, starting, idle, busy, stopping, retired
  std::optional<std::uint64_t> task;
  std::uint32_t attempt = 0, leases = 0, deaths = 0;
  std::uint64_t progress = 0, completed = 0, rss_bytes = 0;
  double cpu_seconds = 0, tasks_per_second = 0, state_seconds = 0;
  std::string last_fault;
};

struct LiveStatus {
  std::string state;                ///< starting, running, draining, stopping
  bool torn = false;                ///< the writer stopped half-way: only pids are certain
  double age_seconds = 0;           ///< of the snapshot; an idle job has nothing new to say
  ProcessStatus supervisor, keeper, watchdog;
  std::vector<WorkerStatus> workers;
  double run_seconds = 0;
  std::optional<double> seconds_left;     ///< of the budget
  std::optional<std::uint64_t> tasks_total;
  std::uint64_t submitted = 0, completed = 0, failed = 0, attempts = 0, retries = 0, late_discarded = 0, quarantined = 0;
  std::uint64_t queued = 0, leased = 0, spawns = 0, deaths = 0;
  double tasks_per_second = 0;
  std::string progress_note, last_fault;
};

struct JobStatus {
  std::string directory, name, workload, id, created;
  std::uint64_t seed = 0;
  std::string durability, grain;
  std::uint32_t runs = 0;
  /// Without an ending and with a dead supervisor: supervisor_lost or host_reboot, as `resume` would record it.
  std::string outcome;              ///< the ending's name; empty while it runs
  std::string exit_reason;          ///< one sentence for people
  bool resumable = false;
  std::optional<std::string> digest;
  std::string digest_reason;        ///< why there is none
  std::uint64_t digest_tasks = 0;
  double consumed_seconds = 0;      ///< of the budget, all runs together
  std::uint64_t recorded = 0, completed = 0;
  std::vector<std::pair<std::string, std::uint64_t>> endings;  ///< of tasks that did not complete, by outcome
  std::vector<std::pair<std::string, std::uint64_t>> faults;   ///< attempts that did not complete, by outcome
  std::uint64_t checkpoints = 0;    ///< good ones
  std::optional<LiveStatus> live;
};

/// Errors: not_found (no job there), corrupt, as Ledger::open_to_read.
Result<JobStatus> read_status(const Host& host, const std::string& directory);
/// The live part alone; nothing if the job does not run. Cheap: for `top` and progress.
std::optional<LiveStatus> read_live(const Host& host, const std::string& directory);

std::string json_of(const JobStatus& status);   ///< one line, docs/json.md
std::string text_of(const JobStatus& status);   ///< for people, several lines
/// The workers as a table, one line each; `width` cuts lines.
std::vector<std::string> worker_lines(const LiveStatus& live, std::size_t width);

/// What an ending means, in one sentence.
std::string sentence_of(std::string_view ending_name, std::string_view ending_text);
bool is_resumable(std::string_view ending_name);

}  // namespace drover::report
