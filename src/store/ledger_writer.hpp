#pragma once
/// Writes the ledger. The loop thread fills a RecordBatch and appends it; a thread of the writer's own stores large results,
/// commits the records in groups, and publishes `committed(upto)`. Nothing the loop thread calls here waits for a disk.
///
/// A batch is committed whole or not at all. `committed()` moves only after the transaction is durable at the ledger's level.
/// After the first error nothing is committed any more but the run's ending: failure() stays, leasing must stop.

#include <atomic>
#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "drover/types/error.hpp"
#include "store/ledger.hpp"
#include "store/record.hpp"

namespace drover::store {

/// Records in the order they are added, with the bytes they refer to. Reused without allocating once warm: append() swaps the
/// full batch for an empty one that keeps its capacity. Numbers must grow; records without a number ride along.
class RecordBatch {
 public:
  RecordBatch();
  ~RecordBatch();
  RecordBatch(RecordBatch&&) noexcept;
  RecordBatch& operator=(RecordBatch&&) noexcept;

  void add(RecordNumber number, const TaskCompleted& record);
  void add(RecordNumber number, TaskFailed record);
  void add(AttemptEnded record);
  /// An effectful attempt takes a number from the same sequence when its lease waits for it (0: none).
  void add(RecordNumber number, AttemptOpened record);
  void add(IncarnationEvent record);
  void add(const QuarantinedInput& record);     ///< before its TaskFailed
  void add(RecordNumber number, CheckpointRow record);  ///< number 0 when nobody waits for it
  void add(SinkConfirmed record);
  void add(RunBeat record);

  bool empty() const;
  std::size_t records() const;
  std::size_t bytes() const;      ///< approximate memory, payloads included
  RecordNumber upto() const;      ///< the highest number added, 0 if none
  void clear();                   ///< keeps capacity

  struct Impl;
  Impl& impl() { return *impl_; }   ///< for ledger_writer.cpp

 private:
  friend struct RecordBatchAccess;
  std::unique_ptr<Impl> impl_;
};

enum class AppendRefused : std::uint8_t {
  full,     ///< the writer is behind: keep the batch, stop leasing, try again at the next committed()
  failed,   ///< see failure(): end the job as a host fault
  stopped,  ///< finish() was called
};

struct LedgerWriterOptions {
  std::size_t queue_records_max = std::size_t{1} << 20;
  std::size_t queue_bytes_max = std::size_t{256} << 20;
  /// Called on the writer's thread after each durable commit and after a failure; must only ring a bell (an eventfd write).
  std::function<void()> wake{};
};

struct WriterStats {
  std::uint64_t commits = 0;
  std::uint64_t records = 0;
  std::uint64_t results_bytes = 0;
  Nanos last_commit{};        ///< how long it took, fsync included
  Nanos slowest_commit{};
};

/// One interface, two ledgers. All calls from one thread but where said.
class LedgerWriter {
 public:
  virtual ~LedgerWriter() = default;   ///< never waits: an unfinished thread is detached with all it needs

  /// Hands the batch over; on success `batch` is empty. Refused: `batch` is untouched. Never blocks.
  virtual std::expected<void, AppendRefused> append(RecordBatch& batch, TimePoint now) = 0;

  virtual RecordNumber committed() const = 0;              ///< any thread
  virtual std::optional<Error> failure() const = 0;        ///< any thread; set once
  /// How long the oldest appended and uncommitted batch has been waiting; 0 if none. Any thread.
  virtual Nanos oldest_uncommitted_age(TimePoint now) const = 0;
  virtual WriterStats stats() const = 0;                   ///< any thread

  /// Commits what is queued, then the run's ending, and stops. Waits until `deadline` at most (CLOCK_MONOTONIC): then timed_out,
  /// the thread is left behind and what is uncommitted stays unacknowledged. After a failure only the ending is tried; a full
  /// disk gives back its 8 MiB reserve first, so it can be recorded. Returns the failure if there was one and the ending could
  /// not be recorded either.
  virtual Result<> finish(const RunEnded& ending, TimePoint deadline) = 0;
};

/// Takes the ledger over after begin_run(). `results_dir` is where large results go; `reserve_path` names the reserve file, made
/// here (8 MiB, allocated) if missing, empty for none.
Result<std::unique_ptr<LedgerWriter>> make_ledger_writer(FileSystem& fs, Ledger ledger, std::uint32_t run,
                                                         const std::string& results_dir, const std::string& reserve_path,
                                                         const LedgerWriterOptions& options);

/// No job directory: remembers which tasks are recorded (ranges), commits at once, keeps no results, has no thread.
/// `is_recorded` answers for the pool's own checks.
class MemoryLedger final : public LedgerWriter {
 public:
  MemoryLedger();
  ~MemoryLedger() override;
  std::expected<void, AppendRefused> append(RecordBatch& batch, TimePoint now) override;
  RecordNumber committed() const override;
  std::optional<Error> failure() const override;
  Nanos oldest_uncommitted_age(TimePoint now) const override;
  WriterStats stats() const override;
  Result<> finish(const RunEnded& ending, TimePoint deadline) override;

  bool is_recorded(TaskId task) const;
  std::vector<RecordedRange> recorded() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace drover::store
