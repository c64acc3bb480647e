#include "store/ledger.hpp"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "base/bytes.hpp"
#include "base/hash.hpp"
#include "store/hash.hpp"
#include "store/ledger_impl.hpp"
#include "store/range_set.hpp"
#include "store/sqlite.hpp"
#include "store/wal_check.hpp"

namespace drover::store {
namespace {

constexpr std::int64_t kApplicationId = 0x44524f56;  // "DROV"
/// How long a call may wait for another process's lock on the database (a reader recovering the WAL, a closing one).
constexpr int kBusyMs = 5000;

// STRICT: a value of another type is refused by SQLite. Unsigned 64-bit values are kept as the same 64 bits.
constexpr const char* kSchema = R"sql(
CREATE TABLE job(
  one INTEGER PRIMARY KEY CHECK(one = 1), id TEXT NOT NULL, workload TEXT NOT NULL, spec_hash TEXT NOT NULL, code_id TEXT NOT NULL,
  created TEXT NOT NULL, seed INTEGER NOT NULL, digest_header TEXT NOT NULL, spec_json TEXT NOT NULL, durability TEXT NOT NULL,
  grain TEXT NOT NULL, fence INTEGER NOT NULL) STRICT;
CREATE TABLE runs(
  number INTEGER PRIMARY KEY, boot_id TEXT NOT NULL, pid INTEGER NOT NULL, start_ticks INTEGER NOT NULL, started_boottime_ns INTEGER NOT NULL,
  wall_time TEXT NOT NULL, version TEXT NOT NULL, argv TEXT NOT NULL, consumed_before_ns INTEGER NOT NULL, consumed_ns INTEGER NOT NULL,
  last_beat_boottime_ns INTEGER NOT NULL, ending TEXT, reconstructed INTEGER NOT NULL DEFAULT 0, digest TEXT NOT NULL DEFAULT '',
  digest_note TEXT NOT NULL DEFAULT '', digest_tasks INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE TABLE tasks(
  id INTEGER PRIMARY KEY, spec_hash INTEGER NOT NULL, epoch INTEGER NOT NULL, attempts INTEGER NOT NULL, outcome TEXT NOT NULL,
  final INTEGER NOT NULL, slot INTEGER NOT NULL, incarnation INTEGER NOT NULL, pid INTEGER NOT NULL, start_ns INTEGER NOT NULL,
  end_ns INTEGER NOT NULL, run INTEGER NOT NULL, has_result INTEGER NOT NULL, result BLOB, result_file TEXT, result_bytes INTEGER NOT NULL,
  result_hash INTEGER NOT NULL, check_hash INTEGER NOT NULL) STRICT;
CREATE TABLE ranges(first INTEGER PRIMARY KEY, last INTEGER NOT NULL, fold INTEGER NOT NULL, check_hash INTEGER NOT NULL) STRICT;
CREATE TABLE attempts(
  task INTEGER NOT NULL, epoch INTEGER NOT NULL, attempt INTEGER NOT NULL, slot INTEGER NOT NULL, incarnation INTEGER NOT NULL,
  pid INTEGER NOT NULL, start_ns INTEGER NOT NULL, end_ns INTEGER NOT NULL, outcome TEXT, retry TEXT NOT NULL, will_retry INTEGER NOT NULL,
  evidence TEXT NOT NULL, run INTEGER NOT NULL, PRIMARY KEY(task, epoch)) STRICT, WITHOUT ROWID;
CREATE TABLE checkpoints(
  number INTEGER PRIMARY KEY, name TEXT NOT NULL, sha256 TEXT NOT NULL, bytes INTEGER NOT NULL, meta TEXT NOT NULL, tasks_upto INTEGER NOT NULL,
  state TEXT NOT NULL) STRICT;
CREATE TABLE quarantine(task INTEGER PRIMARY KEY, input_file TEXT NOT NULL) STRICT;
CREATE TABLE incarnations(
  seq INTEGER PRIMARY KEY, run INTEGER NOT NULL, slot INTEGER NOT NULL, incarnation INTEGER NOT NULL, kind TEXT NOT NULL, pid INTEGER NOT NULL,
  at_ns INTEGER NOT NULL, cause TEXT NOT NULL) STRICT;
CREATE TABLE sinks(one INTEGER PRIMARY KEY CHECK(one = 1), upto INTEGER NOT NULL) STRICT;
)sql";

constexpr const char* kWayBack =
    "nothing was changed; keep a copy of the job directory, then `sqlite3 ledger.db .recover` writes the rows that can still be read "
    "to a new database, or start a new job in another directory (checkpoints/ and results/ are plain files)";

std::string directory_of(const std::string& path) {
  const auto slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

Error naming(Error error, const std::string& path) {
  if (error.what().starts_with("ledger '")) return error;  // said already
  if (error.code() == ErrorCode::corrupt) return std::move(error).with("ledger '" + path + "'").advise(kWayBack);
  return std::move(error).with("ledger '" + path + "'");
}
template <class T>
Result<T> named(Result<T> result, const std::string& path) {
  if (!result) return std::unexpected(naming(std::move(result).error(), path));
  return result;
}

std::unexpected<Error> corrupt(const std::string& path, std::string_view what) {
  return fail(ErrorCode::corrupt, "ledger '" + path + "': " + std::string(what), kWayBack);
}

Result<> set_durability(Database& database, Durability durability) {
  // NORMAL fsyncs the WAL before it is copied into the database: a power loss takes commits, never the database.
  return database.execute(durability == Durability::power ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL");
}

Result<JobHeader> read_header(Database& database, const std::string& path, LedgerOptions& options) {
  DROVER_TRY(Statement row, database.prepare("SELECT id, workload, spec_hash, code_id, created, seed, digest_header, spec_json, durability, grain FROM job"));
  DROVER_TRY(const bool there, row.step());
  if (!there) return corrupt(path, "it has no job row: its creation was interrupted before anything was recorded");
  JobHeader header{.id = row.text(0), .workload = row.text(1), .spec_hash = row.text(2), .code_id = row.text(3), .created = row.text(4),
                   .seed = row.unsigned_integer(5), .digest_header = row.text(6), .spec_json = row.text(7)};
  const std::string durability = row.text(8), grain = row.text(9);
  if (durability == name_of(Durability::power)) options.durability = Durability::power;
  else if (durability == name_of(Durability::process)) options.durability = Durability::process;
  else return corrupt(path, "unknown durability '" + durability + "'");
  if (grain == name_of(Grain::rows)) options.grain = Grain::rows;
  else if (grain == name_of(Grain::ranges)) options.grain = Grain::ranges;
  else return corrupt(path, "unknown grain '" + grain + "'");
  return header;
}

/// Ours, and of a version this program knows.
Result<> check_version(Database& database, const std::string& path) {
  DROVER_TRY(const std::int64_t application, named(database.integer_of("PRAGMA application_id"), path));
  DROVER_TRY(const std::int64_t version, named(database.integer_of("PRAGMA user_version"), path));
  if (application == 0 && version == 0) {
    DROVER_TRY(const std::int64_t tables, named(database.integer_of("SELECT count(*) FROM sqlite_schema"), path));
    if (tables == 0) return corrupt(path, "it is empty: its creation was interrupted before anything was recorded");
  }
  if (application != kApplicationId) return corrupt(path, "this is a database, but not a drover ledger");
  if (version > kSchemaVersion)
    return fail(ErrorCode::mismatch, "ledger '" + path + "': its schema is version " + std::to_string(version) + ", this program knows up to " + std::to_string(kSchemaVersion),
                "use the drover that made it, or a newer one");
  if (version < 1) return corrupt(path, "its schema version is " + std::to_string(version));
  return {};
}

AttemptPlace place_from(const Statement& row, int column) {
  return {.slot = SlotId(static_cast<std::uint32_t>(row.integer(column))),
          .incarnation = Incarnation(static_cast<std::uint32_t>(row.integer(column + 1))),
          .host_pid = static_cast<std::int32_t>(row.integer(column + 2)),
          .start = TimePoint(Nanos(row.integer(column + 3))),
          .end = TimePoint(Nanos(row.integer(column + 4)))};
}

constexpr std::string_view kTaskColumns =
    "id, spec_hash, epoch, attempts, outcome, final, slot, incarnation, pid, start_ns, end_ns, run, has_result, result_file, result_bytes, result_hash, "
    "check_hash, result";

Result<TaskRow> task_from(const Statement& row, const std::string& path, bool check_bytes) {
  TaskRow task{.task = TaskId(row.unsigned_integer(0)),
               .spec_hash = row.unsigned_integer(1),
               .epoch = Epoch(static_cast<std::uint32_t>(row.integer(2))),
               .attempts = static_cast<std::uint32_t>(row.integer(3)),
               .outcome_json = row.text(4),
               .place = place_from(row, 6),
               .has_result = row.integer(12) != 0,
               .result_file = row.text(13),
               .result_bytes = row.unsigned_integer(14),
               .final = row.integer(5) != 0,
               .in_range = false,
               .run = static_cast<std::uint32_t>(row.integer(11))};
  const std::uint64_t check = check_of_task(task.task.value, task.spec_hash, task.epoch.value, task.attempts, task.outcome_json, task.final, task.has_result,
                                            task.result_file, task.result_bytes, row.unsigned_integer(15));
  if (check != row.unsigned_integer(16)) return corrupt(path, "the row of task " + std::to_string(task.task.value) + " fails its check");
  if (check_bytes && task.has_result && task.result_file.empty() && xxh3_64(row.blob(17)) != row.unsigned_integer(15))
    return corrupt(path, "the result of task " + std::to_string(task.task.value) + " fails its check");
  return task;
}

const std::string& completed_json() {
  static const std::string json = json_of(Outcome(outcome::Completed{}));
  return json;
}

AttemptRow attempt_from(const Statement& row) {
  return {.task = TaskId(row.unsigned_integer(0)),
          .attempt = static_cast<std::uint32_t>(row.integer(2)),
          .epoch = Epoch(static_cast<std::uint32_t>(row.integer(1))),
          .place = place_from(row, 3),
          .outcome_json = row.text(8),
          .will_retry = row.integer(9) != 0,
          .evidence = row.text(10),
          .run = static_cast<std::uint32_t>(row.integer(11))};
}
constexpr std::string_view kAttemptColumns = "task, epoch, attempt, slot, incarnation, pid, start_ns, end_ns, outcome, will_retry, evidence, run";

std::string name_in(const std::string& outcome_json) {
  const auto object = nlohmann::json::parse(outcome_json, nullptr, false);
  if (object.is_object() && object.contains("name") && object["name"].is_string()) return object["name"].get<std::string>();
  return "unreadable";
}

/// What the last run left unsaid.
void reconstruct(RunRow& run, std::string_view boot_id) {
  const Ending ending = run.start.boot_id == boot_id ? Ending(ending::SupervisorLost{}) : Ending(ending::HostReboot{});
  run.ending_json = json_of_ending(ending);
  run.ending_name = drover::name_of(ending);
  run.ending_text = text_of(ending);
  run.reconstructed = true;
}

Result<std::vector<RunRow>> read_runs(Database& database) {
  DROVER_TRY(Statement row, database.prepare("SELECT number, boot_id, pid, start_ticks, started_boottime_ns, wall_time, version, argv, consumed_before_ns, consumed_ns, "
                                             "last_beat_boottime_ns, ending, reconstructed, digest, digest_note, digest_tasks FROM runs ORDER BY number"));
  std::vector<RunRow> runs;
  for (;;) {
    DROVER_TRY(const bool there, row.step());
    if (!there) return runs;
    RunRow run{.number = static_cast<std::uint32_t>(row.integer(0)),
               .start = {.boot_id = row.text(1), .supervisor_pid = static_cast<std::int32_t>(row.integer(2)), .supervisor_start_ticks = row.unsigned_integer(3),
                         .boottime = Nanos(row.integer(4)), .wall_time = row.text(5), .version = row.text(6), .argv_json = row.text(7)},
               .consumed_before = Nanos(row.integer(8)),
               .consumed = Nanos(row.integer(9)),
               .last_beat_boottime = Nanos(row.integer(10)),
               .ending_json = row.text(11),
               .ending_name = {},
               .ending_text = {},
               .reconstructed = row.integer(12) != 0,
               .digest = row.text(13),
               .digest_note = row.text(14),
               .digest_tasks = row.unsigned_integer(15)};
    if (!run.ending_json.empty()) {
      const auto object = nlohmann::json::parse(run.ending_json, nullptr, false);
      if (object.is_object()) {
        run.ending_name = object.value("name", "unreadable");
        run.ending_text = object.value("text", "");
      } else {
        run.ending_name = "unreadable";
      }
    }
    runs.push_back(std::move(run));
  }
}

CheckpointState checkpoint_state_of(std::string_view name) {
  if (name == name_of(CheckpointState::good)) return CheckpointState::good;
  if (name == name_of(CheckpointState::deleted)) return CheckpointState::deleted;
  return CheckpointState::quarantined;  // unknown is not good
}

}  // namespace

std::uint64_t check_of_task(std::uint64_t id, std::uint64_t spec_hash, std::uint64_t epoch, std::uint64_t attempts, std::string_view outcome, bool final,
                            bool has_result, std::string_view result_file, std::uint64_t result_bytes, std::uint64_t result_hash) {
  struct Fixed {
    std::uint64_t id, spec_hash, epoch, attempts, outcome, final, has_result, result_file, result_bytes, result_hash;
  };
  const Fixed fixed{id, spec_hash, epoch, attempts, xxh3_64(bytes_of(outcome)), final ? 1u : 0u, has_result ? 1u : 0u, xxh3_64(bytes_of(result_file)), result_bytes, result_hash};
  return xxh3_64(bytes_of_value(fixed));
}
std::uint64_t check_of_range(std::uint64_t first, std::uint64_t last, std::uint64_t fold) {
  const std::uint64_t fixed[3] = {first, last, fold};
  return xxh3_64(std::as_bytes(std::span(fixed)));
}

Ledger::Ledger(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Ledger::Ledger(Ledger&&) noexcept = default;
Ledger& Ledger::operator=(Ledger&&) noexcept = default;
Ledger::~Ledger() = default;

const JobHeader& Ledger::header() const { return impl_->header; }
Durability Ledger::durability() const { return impl_->options.durability; }
Grain Ledger::grain() const { return impl_->options.grain; }
const std::string& Ledger::path() const { return impl_->path; }

Result<Ledger> Ledger::create(FileSystem& fs, const std::string& path, const JobHeader& header, const LedgerOptions& options) {
  const std::string directory = directory_of(path);
  DROVER_TRY(const bool network, fs.is_network(directory));
  if (network)
    return fail(ErrorCode::refused, "ledger '" + path + "': this is a network file system, where SQLite's locks and mapped pages do not hold",
                "name a job directory on a local disk with --job");
  DROVER_TRY(const bool taken, fs.exists(path));
  if (taken) return fail(ErrorCode::exists, "ledger '" + path + "' exists", "`drover resume` goes on with it");

  const auto make = [&]() -> Result<Database> {
    DROVER_TRY(Database database, Database::open(path, DatabaseMode::create_new, options.vfs, kBusyMs));
    DROVER_TRY(const std::string mode, database.text_of("PRAGMA journal_mode=WAL"));
    if (mode != "wal") return fail(ErrorCode::unavailable, "this file system gives no shared mapping for the write-ahead log");
    DROVER_CHECK(database.execute("PRAGMA synchronous=FULL"));  // the header is durable at either level
    DROVER_TRY(Transaction transaction, Transaction::begin(database));
    DROVER_CHECK(database.execute(kSchema));
    DROVER_TRY(Statement insert, database.prepare("INSERT INTO job VALUES(1,?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,0)"));
    insert.bind(1, header.id).bind(2, header.workload).bind(3, header.spec_hash).bind(4, header.code_id).bind(5, header.created).bind(6, header.seed);
    insert.bind(7, header.digest_header).bind(8, header.spec_json).bind(9, name_of(options.durability)).bind(10, name_of(options.grain));
    DROVER_CHECK(insert.run());
    const std::string version = "PRAGMA application_id=" + std::to_string(kApplicationId) + "; PRAGMA user_version=" + std::to_string(kSchemaVersion);
    DROVER_CHECK(database.execute(version.c_str()));
    DROVER_CHECK(transaction.commit());
    DROVER_CHECK(database.execute("PRAGMA wal_checkpoint(TRUNCATE)"));  // the database stands on its own, even if its log is lost
    DROVER_CHECK(fs.sync_directory(directory));
    DROVER_CHECK(set_durability(database, options.durability));
    return database;
  };
  auto database = make();
  if (!database) {
    for (const char* suffix : {"", "-wal", "-shm", "-journal"}) (void)fs.unlink(path + suffix);  // nothing was recorded in it
    return std::unexpected(naming(std::move(database).error(), path));
  }
  auto impl = std::make_unique<Impl>();
  impl->fs = &fs;
  impl->path = path;
  impl->options = options;
  impl->header = header;
  impl->database = std::move(*database);
  return Ledger(std::move(impl));
}

namespace {
Result<std::unique_ptr<Ledger::Impl>> open_impl(FileSystem& fs, const std::string& path, const LedgerOptions& options, DatabaseMode mode) {
  DROVER_TRY(const bool there, fs.exists(path));
  if (!there) return fail(ErrorCode::not_found, "ledger '" + path + "' does not exist", "is this a job directory? `drover ps` lists the jobs of this host");
  auto impl = std::make_unique<Ledger::Impl>();
  impl->fs = &fs;
  impl->path = path;
  impl->options = options;
  DROVER_TRY(impl->database, named(Database::open(path, mode, options.vfs, kBusyMs), path));
  DROVER_CHECK(check_version(impl->database, path));
  return impl;
}
}  // namespace

Result<Ledger> Ledger::open(FileSystem& fs, const std::string& path, const LedgerOptions& options) {
  DROVER_TRY(const bool network, fs.is_network(directory_of(path)));
  if (network)
    return fail(ErrorCode::refused, "ledger '" + path + "': this is a network file system, where SQLite's locks and mapped pages do not hold",
                "copy the job directory to a local disk and resume it there");
  DROVER_TRY(std::unique_ptr<Impl> impl, open_impl(fs, path, options, DatabaseMode::read_write));
  Database& database = impl->database;
  DROVER_CHECK(named(check_length(fs, path), path));
  DROVER_TRY(const std::string verdict, named(database.text_of("PRAGMA quick_check(1)"), path));
  if (verdict != "ok") return corrupt(path, verdict);
  DROVER_TRY(impl->header, named(read_header(database, path, impl->options), path));
  // Before anything is written over it. Under `process` a power loss may tear more than the last commit, which is what it promises.
  if (impl->options.durability == Durability::power) DROVER_CHECK(named(check_wal(fs, path + "-wal"), path));
  DROVER_TRY(const std::string mode, named(database.text_of("PRAGMA journal_mode=WAL"), path));
  if (mode != "wal") return fail(ErrorCode::unavailable, "ledger '" + path + "': this file system gives no shared mapping for the write-ahead log");
  DROVER_CHECK(named(set_durability(database, impl->options.durability), path));
  return Ledger(std::move(impl));
}

Result<Ledger> Ledger::open_to_read(FileSystem& fs, const std::string& path) {
  DROVER_TRY(std::unique_ptr<Impl> impl, open_impl(fs, path, {}, DatabaseMode::read_only));
  DROVER_TRY(impl->header, named(read_header(impl->database, path, impl->options), path));
  return Ledger(std::move(impl));
}

// ---- Recovery ---------------------------------------------------------------------------------------------------------------

namespace {

struct Recorded {
  RangeSet all;                        // rows and ranges
  std::vector<FoldedRange> folded;     // ranges only
};

Result<Recorded> read_recorded(Database& database, const std::string& path) {
  Recorded recorded;
  DROVER_TRY(Statement range, database.prepare("SELECT first, last, fold, check_hash FROM ranges ORDER BY first"));
  for (;;) {
    DROVER_TRY(const bool there, range.step());
    if (!there) break;
    const FoldedRange one{TaskId(range.unsigned_integer(0)), TaskId(range.unsigned_integer(1)), range.unsigned_integer(2)};
    if (check_of_range(one.first.value, one.last.value, one.fold) != range.unsigned_integer(3))
      return corrupt(path, "the range starting at task " + std::to_string(one.first.value) + " fails its check");
    if (!recorded.all.load(one.first.value, one.last.value, 0)) return corrupt(path, "ranges overlap at task " + std::to_string(one.first.value));
    recorded.folded.push_back(one);
  }
  // Every row is checked: one flipped bit in `final` or in an id would make a task run twice, or never. Rows come in id order: runs
  // of them are gathered before they go into the map.
  DROVER_TRY(Statement row, database.prepare("SELECT " + std::string(kTaskColumns) + " FROM tasks ORDER BY id"));
  std::optional<RecordedRange> run;
  const auto flush = [&]() -> Result<> {
    if (run && !recorded.all.load(run->first.value, run->last.value, 0))
      return corrupt(path, "a task from " + std::to_string(run->first.value) + " to " + std::to_string(run->last.value) + " is recorded twice");
    return {};
  };
  for (;;) {
    DROVER_TRY(const bool there, row.step());
    if (!there) break;
    DROVER_TRY(const TaskRow task, task_from(row, path, false));
    if (!task.final) continue;
    const TaskId id = task.task;
    if (run && run->last.value + 1 == id.value) {
      run->last = id;
      continue;
    }
    DROVER_CHECK(flush());
    run = RecordedRange{id, id};
  }
  DROVER_CHECK(flush());
  return recorded;
}

}  // namespace

Result<Recovery> Ledger::recover(std::string_view boot_id, Nanos boottime_now) {
  Database& database = impl_->database;
  Recovery recovery;
  DROVER_TRY(Recorded recorded, named(read_recorded(database, impl_->path), impl_->path));
  recovery.recorded = recorded.all.recorded();
  recovery.folded = std::move(recorded.folded);

  DROVER_TRY(Statement open, named(database.prepare("SELECT task, max(epoch), sum(retry = 'blamed'), max(outcome IS NULL) FROM attempts "
                                                    "WHERE NOT EXISTS(SELECT 1 FROM tasks WHERE id = task AND final = 1) GROUP BY task ORDER BY task"), impl_->path));
  for (;;) {
    DROVER_TRY(const bool there, named(open.step(), impl_->path));
    if (!there) break;
    const TaskId task(open.unsigned_integer(0));
    if (recorded.all.contains(task.value)) continue;
    recovery.open.push_back({.task = task, .highest = Epoch(static_cast<std::uint32_t>(open.integer(1))),
                             .blamed_attempts = static_cast<std::uint32_t>(open.integer(2)), .effect_unknown = open.integer(3) != 0});
  }
  // Rows that are open again (cancelled, ...) keep their epoch.
  DROVER_TRY(Statement again, named(database.prepare("SELECT id, epoch FROM tasks WHERE final = 0 ORDER BY id"), impl_->path));
  std::map<TaskId, Recovery::OpenTask> by_task;
  for (const auto& task : recovery.open) by_task.emplace(task.task, task);
  for (;;) {
    DROVER_TRY(const bool there, named(again.step(), impl_->path));
    if (!there) break;
    const TaskId task(again.unsigned_integer(0));
    const Epoch epoch(static_cast<std::uint32_t>(again.integer(1)));
    auto& one = by_task[task];
    one.task = task;
    one.highest = std::max(one.highest, epoch);
  }
  recovery.open.clear();
  for (const auto& [id, task] : by_task) recovery.open.push_back(task);

  DROVER_TRY(std::vector<RunRow> runs, named(read_runs(database), impl_->path));
  recovery.runs = static_cast<std::uint32_t>(runs.size());
  if (!runs.empty()) {
    RunRow& last = runs.back();
    if (last.ending_json.empty()) {
      reconstruct(last, boot_id);
      // Charged until its last sign of life plus one period; within one boot never beyond now.
      Nanos charge = impl_->options.beat_period;
      if (last.start.boot_id == boot_id) charge = std::clamp(boottime_now - last.last_beat_boottime, Nanos(0), charge);
      last.consumed += charge;
    }
    recovery.consumed = last.consumed;
    recovery.last_run = last;
  }

  DROVER_TRY(const std::vector<CheckpointRow> all, checkpoints());
  for (const CheckpointRow& row : all) {
    if (row.state == CheckpointState::good) recovery.newest_good = row;
    recovery.next_checkpoint_number = row.number + 1;
  }
  DROVER_TRY(const std::int64_t upto, named(database.integer_of("SELECT upto FROM sinks"), impl_->path));
  recovery.sink_confirmed_upto = TaskId(static_cast<std::uint64_t>(upto));
  return recovery;
}

Result<std::uint32_t> Ledger::begin_run(const RunStart& start, const Recovery& recovery) {
  Database& database = impl_->database;
  const auto write = [&]() -> Result<std::uint32_t> {
    DROVER_CHECK(database.execute("PRAGMA synchronous=FULL"));
    DROVER_TRY(Transaction transaction, Transaction::begin(database));
    DROVER_TRY(const std::int64_t fence, database.integer_of("SELECT fence FROM job"));
    if (static_cast<std::uint32_t>(fence) != recovery.runs)
      return fail(ErrorCode::busy, "another supervisor began run " + std::to_string(fence) + " of this job", "`drover ps` shows it");
    if (recovery.last_run && recovery.last_run->reconstructed) {
      DROVER_TRY(Statement end, database.prepare("UPDATE runs SET ending = ?1, reconstructed = 1, consumed_ns = ?2 WHERE number = ?3 AND ending IS NULL"));
      end.bind(1, recovery.last_run->ending_json).bind(2, recovery.last_run->consumed.count()).bind(3, recovery.last_run->number);
      DROVER_CHECK(end.run());
    }
    const std::uint32_t number = recovery.runs + 1;
    DROVER_TRY(Statement insert, database.prepare("INSERT INTO runs(number, boot_id, pid, start_ticks, started_boottime_ns, wall_time, version, argv, consumed_before_ns, "
                                                  "consumed_ns, last_beat_boottime_ns) VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?9,?5)"));
    insert.bind(1, number).bind(2, start.boot_id).bind(3, start.supervisor_pid).bind(4, start.supervisor_start_ticks).bind(5, start.boottime.count());
    insert.bind(6, start.wall_time).bind(7, start.version).bind(8, start.argv_json).bind(9, recovery.consumed.count());
    DROVER_CHECK(insert.run());
    DROVER_TRY(Statement move, database.prepare("UPDATE job SET fence = ?1"));
    DROVER_CHECK(move.bind(1, number).run());
    DROVER_CHECK(transaction.commit());
    DROVER_CHECK(set_durability(database, impl_->options.durability));
    return number;
  };
  return named(write(), impl_->path);
}

// ---- Reading ----------------------------------------------------------------------------------------------------------------

Result<std::optional<TaskRow>> Ledger::task(TaskId id) {
  const auto read = [&]() -> Result<std::optional<TaskRow>> {
    DROVER_TRY(Statement row, impl_->database.prepare("SELECT " + std::string(kTaskColumns) + " FROM tasks WHERE id = ?1"));
    DROVER_TRY(const bool there, row.bind(1, id.value).step());
    if (there) {
      DROVER_TRY(TaskRow task, task_from(row, impl_->path, true));
      return task;
    }
    DROVER_TRY(Statement range, impl_->database.prepare("SELECT first, last, fold, check_hash FROM ranges WHERE first <= ?1 ORDER BY first DESC LIMIT 1"));
    DROVER_TRY(const bool near, range.bind(1, id.value).step());
    if (!near || range.unsigned_integer(1) < id.value) return std::nullopt;
    if (check_of_range(range.unsigned_integer(0), range.unsigned_integer(1), range.unsigned_integer(2)) != range.unsigned_integer(3))
      return corrupt(impl_->path, "the range starting at task " + std::to_string(range.unsigned_integer(0)) + " fails its check");
    TaskRow task;
    task.task = id;
    task.outcome_json = completed_json();
    task.in_range = true;
    return task;
  };
  return named(read(), impl_->path);
}

Result<std::optional<std::vector<std::byte>>> Ledger::result(TaskId id) {
  const auto read = [&]() -> Result<std::optional<std::vector<std::byte>>> {
    DROVER_TRY(Statement row, impl_->database.prepare("SELECT " + std::string(kTaskColumns) + " FROM tasks WHERE id = ?1"));
    DROVER_TRY(const bool there, row.bind(1, id.value).step());
    if (!there) return std::nullopt;
    DROVER_TRY(const TaskRow task, task_from(row, impl_->path, true));
    if (!task.has_result) return std::nullopt;
    if (task.result_file.empty()) {
      const auto bytes = row.blob(17);
      return std::vector<std::byte>(bytes.begin(), bytes.end());
    }
    const std::string file = directory_of(impl_->path) + "/results/" + task.result_file;
    DROVER_TRY(const std::unique_ptr<File> opened, impl_->fs->open(file, OpenMode::read));
    std::vector<std::byte> bytes(task.result_bytes);
    DROVER_TRY(const std::size_t got, opened->read_at(0, bytes));
    if (got != bytes.size() || xxh3_64(bytes) != row.unsigned_integer(15))
      return corrupt(impl_->path, "the result of task " + std::to_string(id.value) + " in '" + file + "' fails its check");
    return bytes;
  };
  return named(read(), impl_->path);
}

Result<std::vector<AttemptRow>> Ledger::attempts(TaskId id) {
  std::vector<AttemptRow> attempts;
  const auto read = [&]() -> Result<> {
    DROVER_TRY(Statement row, impl_->database.prepare("SELECT " + std::string(kAttemptColumns) + " FROM attempts WHERE task = ?1 ORDER BY epoch"));
    row.bind(1, id.value);
    for (;;) {
      DROVER_TRY(const bool there, row.step());
      if (!there) return {};
      attempts.push_back(attempt_from(row));
    }
  };
  DROVER_CHECK(named(read(), impl_->path));
  // The completing attempt is the task's row itself.
  DROVER_TRY(const std::optional<TaskRow> row, task(id));
  if (row && row->outcome_json == completed_json()) {
    std::erase_if(attempts, [&](const AttemptRow& a) { return !row->in_range && a.epoch == row->epoch; });  // opened, then completed
    attempts.push_back({.task = id, .attempt = row->attempts, .epoch = row->epoch, .place = row->place, .outcome_json = row->outcome_json,
                        .will_retry = false, .evidence = {}, .run = row->run});
  }
  return attempts;
}

Result<std::vector<TaskRow>> Ledger::tasks(TaskId first, std::size_t limit) {
  const auto read = [&]() -> Result<std::vector<TaskRow>> {
    DROVER_TRY(Statement row, impl_->database.prepare("SELECT " + std::string(kTaskColumns) + " FROM tasks WHERE id >= ?1 ORDER BY id LIMIT ?2"));
    row.bind(1, first.value).bind(2, static_cast<std::uint64_t>(limit));
    std::vector<TaskRow> tasks;
    for (;;) {
      DROVER_TRY(const bool there, row.step());
      if (!there) return tasks;
      DROVER_TRY(TaskRow task, task_from(row, impl_->path, false));
      tasks.push_back(std::move(task));
    }
  };
  return named(read(), impl_->path);
}

Result<std::vector<TaskRow>> Ledger::failures(std::size_t limit) {
  const auto read = [&]() -> Result<std::vector<TaskRow>> {
    DROVER_TRY(Statement row, impl_->database.prepare("SELECT " + std::string(kTaskColumns) + " FROM tasks WHERE outcome <> ?1 ORDER BY id LIMIT ?2"));
    row.bind(1, completed_json()).bind(2, static_cast<std::uint64_t>(limit));
    std::vector<TaskRow> tasks;
    for (;;) {
      DROVER_TRY(const bool there, row.step());
      if (!there) return tasks;
      DROVER_TRY(TaskRow task, task_from(row, impl_->path, false));
      tasks.push_back(std::move(task));
    }
  };
  return named(read(), impl_->path);
}

Result<std::vector<RecordedRange>> Ledger::recorded() {
  DROVER_TRY(const Recorded recorded, named(read_recorded(impl_->database, impl_->path), impl_->path));
  return recorded.all.recorded();
}

Result<LedgerCounts> Ledger::counts() {
  const auto read = [&]() -> Result<LedgerCounts> {
    Database& database = impl_->database;
    LedgerCounts counts;
    std::map<std::string, std::uint64_t> tasks, attempts;
    DROVER_TRY(const std::int64_t in_ranges, database.integer_of("SELECT coalesce(sum(last - first + 1), 0) FROM ranges"));
    if (in_ranges > 0) tasks["completed"] = static_cast<std::uint64_t>(in_ranges);
    DROVER_TRY(Statement task, database.prepare("SELECT outcome, count(*) FROM tasks GROUP BY outcome"));
    for (;;) {
      DROVER_TRY(const bool there, task.step());
      if (!there) break;
      tasks[name_in(task.text(0))] += task.unsigned_integer(1);
    }
    DROVER_TRY(Statement attempt, database.prepare("SELECT outcome, count(*) FROM attempts WHERE outcome IS NOT NULL GROUP BY outcome"));
    for (;;) {
      DROVER_TRY(const bool there, attempt.step());
      if (!there) break;
      attempts[name_in(attempt.text(0))] += attempt.unsigned_integer(1);
    }
    for (const auto& [name, n] : tasks) {
      counts.by_outcome.emplace_back(name, n);
      counts.recorded += n;
      if (name == "completed") counts.completed = n;
    }
    for (const auto& [name, n] : attempts) {
      counts.attempts_by_outcome.emplace_back(name, n);
      counts.attempts += n;
    }
    return counts;
  };
  return named(read(), impl_->path);
}

Result<std::vector<RunRow>> Ledger::runs(std::string_view boot_id, const std::function<bool(const RunStart&)>& alive) {
  DROVER_TRY(std::vector<RunRow> runs, named(read_runs(impl_->database), impl_->path));
  for (RunRow& run : runs)
    if (run.ending_json.empty() && (run.start.boot_id != boot_id || !alive || !alive(run.start))) reconstruct(run, boot_id);
  return runs;
}

Result<std::vector<CheckpointRow>> Ledger::checkpoints() {
  const auto read = [&]() -> Result<std::vector<CheckpointRow>> {
    DROVER_TRY(Statement row, impl_->database.prepare("SELECT number, name, sha256, bytes, meta, tasks_upto, state FROM checkpoints ORDER BY number"));
    std::vector<CheckpointRow> rows;
    for (;;) {
      DROVER_TRY(const bool there, row.step());
      if (!there) return rows;
      const auto hash = parse_sha256(row.text(2));
      if (!hash) return corrupt(impl_->path, "checkpoint " + std::to_string(row.integer(0)) + " has no readable hash");
      rows.push_back({.number = row.unsigned_integer(0), .name = row.text(1), .sha256 = *hash, .bytes = row.unsigned_integer(3), .meta_json = row.text(4),
                      .tasks_upto = row.unsigned_integer(5), .state = checkpoint_state_of(row.text(6))});
    }
  };
  return named(read(), impl_->path);
}

Result<std::vector<QuarantineRow>> Ledger::quarantined() {
  const auto read = [&]() -> Result<std::vector<QuarantineRow>> {
    DROVER_TRY(Statement row, impl_->database.prepare("SELECT task, input_file FROM quarantine ORDER BY task"));
    std::vector<QuarantineRow> rows;
    for (;;) {
      DROVER_TRY(const bool there, row.step());
      if (!there) return rows;
      rows.push_back({TaskId(row.unsigned_integer(0)), row.text(1)});
    }
  };
  return named(read(), impl_->path);
}

Result<std::vector<IncarnationRow>> Ledger::incarnations(std::uint32_t run) {
  const auto read = [&]() -> Result<std::vector<IncarnationRow>> {
    DROVER_TRY(Statement row, impl_->database.prepare("SELECT run, slot, incarnation, kind, pid, at_ns, cause FROM incarnations WHERE run = ?1 ORDER BY seq"));
    row.bind(1, run);
    std::vector<IncarnationRow> rows;
    for (;;) {
      DROVER_TRY(const bool there, row.step());
      if (!there) return rows;
      const std::string kind = row.text(3);
      rows.push_back({.run = static_cast<std::uint32_t>(row.integer(0)),
                      .event = {.slot = SlotId(static_cast<std::uint32_t>(row.integer(1))), .incarnation = Incarnation(static_cast<std::uint32_t>(row.integer(2))),
                                .kind = kind == "spawned" ? IncarnationEventKind::spawned : kind == "ready" ? IncarnationEventKind::ready : IncarnationEventKind::ended,
                                .host_pid = static_cast<std::int32_t>(row.integer(4)), .at = TimePoint(Nanos(row.integer(5))), .cause = row.text(6)}});
    }
  };
  return named(read(), impl_->path);
}

Result<std::vector<AttemptRow>> Ledger::last_attempts(std::size_t limit) {
  const auto read = [&]() -> Result<std::vector<AttemptRow>> {
    DROVER_TRY(Statement row, impl_->database.prepare("SELECT " + std::string(kAttemptColumns) + " FROM attempts WHERE outcome IS NOT NULL ORDER BY run DESC, end_ns DESC LIMIT ?1"));
    row.bind(1, static_cast<std::uint64_t>(limit));
    std::vector<AttemptRow> rows;
    for (;;) {
      DROVER_TRY(const bool there, row.step());
      if (!there) return rows;
      rows.push_back(attempt_from(row));
    }
  };
  return named(read(), impl_->path);
}

}  // namespace drover::store
