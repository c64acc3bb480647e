#pragma once
/// The durable truth of one job: an SQLite database in WAL mode. One process writes it (through LedgerWriter's thread, which
/// takes the Ledger over); any number read it, also while it is written.
///
/// Order of a life: create | open -> recover() -> begin_run() -> std::move into make_ledger_writer().
/// The FileSystem given must outlive every thread of the process (the real one does; a test keeps its own).
/// Every call returns Result; nothing throws. Durability of what is written is said with each call.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "drover/types/error.hpp"
#include "os/file_system.hpp"
#include "store/record.hpp"

namespace drover::store {

inline constexpr int kSchemaVersion = 1;

struct LedgerOptions {
  Durability durability = Durability::power;
  Grain grain = Grain::ranges;
  /// SQLite VFS to use, empty for its own. Tests name a faulty one.
  std::string vfs{};
  /// A beat is written at least this often while tasks run; an unclean end is charged until the last one plus this.
  Nanos beat_period = Seconds(1);
};

class Ledger {
 public:
  /// A new database at `path`, which must not exist (exists). On return the header is durable, directory entry included,
  /// under power; refused on a network file system (refused), no_space when the disk is full.
  static Result<Ledger> create(FileSystem& fs, const std::string& path, const JobHeader& header, const LedgerOptions& options);

  /// For a resume; the caller holds the job's lock. Durability and grain are as the job was created with; options give the rest.
  /// Errors: not_found; corrupt (quick_check or not a database; the advice names the way back; the file is left as it is);
  /// mismatch (schema newer than this program); refused (network file system); busy (another writer despite the lock).
  static Result<Ledger> open(FileSystem& fs, const std::string& path, const LedgerOptions& options);

  /// For status, why, ps: never writes, needs no lock, sees the last commit. Skips quick_check.
  static Result<Ledger> open_to_read(FileSystem& fs, const std::string& path);

  Ledger(Ledger&&) noexcept;
  Ledger& operator=(Ledger&&) noexcept;
  ~Ledger();

  const JobHeader& header() const;
  Durability durability() const;
  Grain grain() const;
  const std::string& path() const;

  /// Reads everything a resume needs. `boot_id` is the running boot's: a last run without an ending becomes host_reboot if its
  /// own differs, else supervisor_lost; its consumed budget is charged until its last beat plus one period (never beyond now).
  Result<Recovery> recover(std::string_view boot_id, Nanos boottime_now);

  /// Writes the reconstructed ending of the last run if it has none, and the new run's row. Returns the run's number, which
  /// fences every later commit: a commit made after a younger run began fails. Durable on return.
  Result<std::uint32_t> begin_run(const RunStart& start, const Recovery& recovery);

  // ---- Reading. Each is one query or one scan in id order. ----
  Result<std::optional<TaskRow>> task(TaskId id);
  /// The kept bytes, from the row or from results/ (hash checked: corrupt). Nothing if the task has none.
  Result<std::optional<std::vector<std::byte>>> result(TaskId id);
  Result<std::vector<AttemptRow>> attempts(TaskId id);
  /// In id order, from `first` on, at most `limit` rows; ranges are not expanded.
  Result<std::vector<TaskRow>> tasks(TaskId first, std::size_t limit);
  /// Only those that did not complete, in id order.
  Result<std::vector<TaskRow>> failures(std::size_t limit);
  Result<std::vector<RecordedRange>> recorded();
  Result<LedgerCounts> counts();
  /// `boot_id` as for recover(); `alive` tells whether the supervisor of a run without an ending still runs.
  Result<std::vector<RunRow>> runs(std::string_view boot_id, const std::function<bool(const RunStart&)>& alive);
  Result<std::vector<CheckpointRow>> checkpoints();          ///< ascending by number, deleted ones included
  Result<std::vector<QuarantineRow>> quarantined();
  Result<std::vector<IncarnationRow>> incarnations(std::uint32_t run);
  /// Every attempt that did not complete, newest first, at most `limit`: for `why JOB`.
  Result<std::vector<AttemptRow>> last_attempts(std::size_t limit);

  struct Impl;
  Impl& impl() { return *impl_; }  ///< for ledger_writer.cpp

 private:
  explicit Ledger(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace drover::store
