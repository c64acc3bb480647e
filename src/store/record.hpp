#pragma once
/// What the loop thread hands to the ledger writer, and what a reader of the ledger gets back. Plain values.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "drover/types/ending.hpp"
#include "drover/types/ids.hpp"
#include "drover/types/ledger.hpp"
#include "drover/types/outcome.hpp"
#include "drover/types/time.hpp"
#include "store/hash.hpp"

namespace drover::store {

using drover::Durability;
using drover::Grain;

/// Results up to this live in their row; larger ones are a file in results/, durable before the row.
inline constexpr std::size_t kInlineResultBytes = 4096;

/// Where and when an attempt ran. Times on the monotonic clock of this boot; zero when it never started.
struct AttemptPlace {
  SlotId slot{};
  Incarnation incarnation{};
  std::int32_t host_pid = 0;
  TimePoint start{};
  TimePoint end{};
};

/// A task completed. `result` is copied by RecordBatch::add. keep_result false: the bytes are not stored (only then, and only for
/// attempt 1, may the record merge into a range); true with an empty span stores an empty result.
struct TaskCompleted {
  TaskId task{};
  std::uint64_t spec_hash = 0;
  Epoch epoch{};
  std::uint32_t attempt = 1;
  AttemptPlace place{};
  bool keep_result = false;
  std::span<const std::byte> result{};
};

/// A task ended in any other way.
struct TaskFailed {
  TaskId task{};
  std::uint64_t spec_hash = 0;
  Epoch epoch{};
  std::uint32_t attempt = 1;
  AttemptPlace place{};
  Outcome outcome{};
};

/// Whether a task that ended this way is open again for a resume: cancelled, rejected, timed_out(run). Its row says how the run left
/// it and is replaced by the final one; every other ending is final, and a second one of the same task is an error.
bool reopens_on_resume(const Outcome& outcome);

/// One attempt that did not complete, whether or not it was the task's last.
struct AttemptEnded {
  TaskId task{};
  std::uint32_t attempt = 1;
  Epoch epoch{};
  AttemptPlace place{};
  Outcome outcome{};
  bool will_retry = false;
  std::string evidence{};  ///< JSON object or empty: what was seen before the kill
};

/// For effectful tasks: committed before the lease is given, so that a resume knows the attempt may have happened.
struct AttemptOpened {
  TaskId task{};
  std::uint64_t spec_hash = 0;
  std::uint32_t attempt = 1;
  Epoch epoch{};
  AttemptPlace place{};
};

enum class IncarnationEventKind : std::uint8_t { spawned, ready, ended };
std::string_view name_of(IncarnationEventKind kind);
struct IncarnationEvent {
  SlotId slot{};
  Incarnation incarnation{};
  IncarnationEventKind kind{};
  std::int32_t host_pid = 0;
  TimePoint at{};
  std::string cause{};  ///< JSON object or one word; for `ended`: how
};

/// The input of a task that kept killing workers, saved as results/task-<id>.input before its row.
struct QuarantinedInput {
  TaskId task{};
  std::span<const std::byte> input{};  ///< copied by RecordBatch::add
};

enum class CheckpointState : std::uint8_t { good, quarantined, deleted };
std::string_view name_of(CheckpointState state);
/// One committed checkpoint file. checkpoint_file.hpp makes it; it exists for a resume once its record is committed.
struct CheckpointRow {
  std::uint64_t number = 0;       ///< from 1, never reused
  std::string name{};               ///< file name inside checkpoints/
  Sha256 sha256{};
  std::uint64_t bytes = 0;
  std::string meta_json{};          ///< the workload's: what it is for (game, abstraction, version, hashes)
  std::uint64_t tasks_upto = 0;   ///< it holds the effect of tasks 0..tasks_upto-1
  CheckpointState state = CheckpointState::good;
};

/// The sink confirmed every task before `upto`.
struct SinkConfirmed { TaskId upto{}; };

/// Persisted now and then while tasks run: after an unclean end a resume charges until this plus one period.
struct RunBeat {
  Nanos consumed{};    ///< of the job's budget, all runs together
  Nanos boottime{};    ///< CLOCK_BOOTTIME of this beat
};

/// The last record of a run.
struct RunEnded {
  Ending ending{};
  Nanos consumed{};
  Nanos boottime{};
  std::string digest{};         ///< hex, or empty
  std::string digest_note{};    ///< why there is none
  std::uint64_t digest_tasks = 0;  ///< the n it covers
};

/// How a run begins: one supervisor life.
struct RunStart {
  std::string boot_id{};
  std::int32_t supervisor_pid = 0;
  std::uint64_t supervisor_start_ticks = 0;   ///< /proc/<pid>/stat field 22: tells a reused pid from this process
  Nanos boottime{};
  std::string wall_time{};                      ///< RFC 3339, for people only
  std::string version{};                        ///< of drover
  std::string argv_json{};
};

// ---- What a reader gets ---------------------------------------------------------------------------------------------------

struct JobHeader {
  std::string id{};             ///< unique name of the job
  std::string workload{};
  std::string spec_hash{};      ///< hex SHA-256 of the normalised job spec
  std::string code_id{};        ///< of the executable's code that computes
  std::string created{};        ///< RFC 3339, for people only
  std::uint64_t seed = 0;
  std::string digest_header{};  ///< the parameters the digest is claimed for
  std::string spec_json{};      ///< the job spec itself, so that `resume` needs nothing else
};

/// How an ending is kept: {"name":..., "text":...}.
std::string json_of_ending(const Ending& ending);

/// Contiguous tasks [first, last] that need not be done again.
struct RecordedRange {
  TaskId first{};
  TaskId last{};
  friend bool operator==(const RecordedRange&, const RecordedRange&) = default;
};
/// The same with what they were, so that a re-supplied input can be compared: fold = wrapping sum of fold_of(id, spec hash).
struct FoldedRange {
  TaskId first{};
  TaskId last{};
  std::uint64_t fold = 0;
  friend bool operator==(const FoldedRange&, const FoldedRange&) = default;
};

struct TaskRow {
  TaskId task{};
  std::uint64_t spec_hash = 0;    ///< 0 when the task is known by its range only
  Epoch epoch{};
  std::uint32_t attempts = 1;
  std::string outcome_json{};       ///< json_of(Outcome)
  AttemptPlace place{};
  bool has_result = false;        ///< the bytes were kept
  std::string result_file{};        ///< inside results/, empty when inline
  std::uint64_t result_bytes = 0;
  bool final = true;              ///< false: open again on resume (reopens_on_resume)
  bool in_range = false;          ///< recorded as part of a range: no place, no times
  std::uint32_t run = 0;
};

struct AttemptRow {
  TaskId task{};
  std::uint32_t attempt = 1;
  Epoch epoch{};
  AttemptPlace place{};
  std::string outcome_json{};       ///< empty: opened, never ended (effectful; the supervisor was lost)
  bool will_retry = false;
  std::string evidence{};
  std::uint32_t run = 0;
};

struct RunRow {
  std::uint32_t number = 0;       ///< from 1
  RunStart start{};
  Nanos consumed_before{};        ///< of the budget, by earlier runs
  Nanos consumed{};               ///< all together, as of the last beat or the end
  Nanos last_beat_boottime{};
  std::string ending_json{};        ///< {"name":..., "text":...}; empty: it did not record one
  std::string ending_name{};        ///< `completed`, ..., or as reconstructed: `supervisor_lost`, `host_reboot`; empty: it may still run
  std::string ending_text{};
  bool reconstructed = false;
  std::string digest{}, digest_note{};
  std::uint64_t digest_tasks = 0;
};

struct IncarnationRow {
  std::uint32_t run = 0;
  IncarnationEvent event{};
};

struct QuarantineRow {
  TaskId task{};
  std::string input_file{};         ///< inside results/
};

/// Counts by outcome name, for `status` of a job that is not running.
struct LedgerCounts {
  std::uint64_t recorded = 0;
  std::uint64_t completed = 0;
  std::uint64_t attempts = 0;     ///< that did not complete
  std::vector<std::pair<std::string, std::uint64_t>> by_outcome{};          ///< of tasks
  std::vector<std::pair<std::string, std::uint64_t>> attempts_by_outcome{}; ///< of attempts that did not complete
};

/// Everything a resume needs, read once.
struct Recovery {
  std::vector<RecordedRange> recorded{};     ///< ascending, disjoint, maximal
  std::vector<FoldedRange> folded{};         ///< the ones kept as ranges; single rows are asked by Ledger::task
  struct OpenTask {
    TaskId task{};
    Epoch highest{};                       ///< Scheduler::set_epoch
    std::uint32_t blamed_attempts = 0;     ///< used up of its retry budget
    bool effect_unknown = false;           ///< an effectful attempt was opened and never ended: unknown_effect
  };
  std::vector<OpenTask> open{};              ///< attempts on record, no ending yet; ascending by task
  Nanos consumed{};                        ///< of the budget, the last unclean end charged (see Ledger::begin_run)
  std::uint32_t runs = 0;
  std::optional<RunRow> last_run{};          ///< its ending reconstructed when it recorded none
  std::optional<CheckpointRow> newest_good{};
  std::uint64_t next_checkpoint_number = 1;
  TaskId sink_confirmed_upto{};
};

}  // namespace drover::store
