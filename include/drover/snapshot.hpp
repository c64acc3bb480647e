#pragma once
/// Saves a trainer's state beside its training: the trainer pauses for one copy into memory that was touched beforehand (a first
/// touch is ten times as dear), a thread commits it. Two buffers: while one is committed the next may be filled; a third save waits.
///
///   auto writer = drover::SnapshotWriter::start(directory, lease, {.bytes_max = state.size(), .changes_only = true});
///   DROVER_CHECK(writer->save(bytes_of(state), {.step = step}));      // durable later: see durable()
///   DROVER_CHECK(writer->wait());                                     // before the end
///
/// Used by one thread. Not durable on return of save(): whoever needs that calls wait(). An error of a commit is told by the next
/// call, once; the state of that save is lost, the head is what it was, and the next save is tried again.

#include <cstddef>
#include <memory>
#include <optional>
#include <string>

#include "drover/checkpoint.hpp"

namespace drover {

struct SnapshotOptions {
  std::size_t bytes_max = 0;         ///< of one state; two buffers of this size are taken, and touched, at the start
  std::string file = "state";        ///< its name in the checkpoint
  bool changes_only = false;         ///< NewCheckpoint::File::changes_only
};

class SnapshotWriter {
 public:
  /// Errors: of opening the store, no_space (memory).
  static Result<SnapshotWriter> start(const std::string& directory, const WriterLease& lease, const SnapshotOptions& options);
  SnapshotWriter(SnapshotWriter&&) noexcept;
  SnapshotWriter& operator=(SnapshotWriter&&) noexcept;
  ~SnapshotWriter();                 ///< finishes the commit that runs and the one that waits; their errors are lost

  /// `checkpoint` without files: step, metrics, fingerprint. Errors: usage (larger than bytes_max), or the last commit's.
  Result<void> save(BytesView state, NewCheckpoint checkpoint);
  /// Until all that was saved is durable. Error: the last commit's.
  Result<void> wait();
  /// The newest that is durable; nothing before the first.
  std::optional<CheckpointEntry> durable() const;

 private:
  struct Impl;
  explicit SnapshotWriter(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace drover
