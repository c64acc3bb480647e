#pragma once
/// One checkpoint, one file, one new name. Commit: O_TMPFILE, write with pipelined sync_file_range, fsync, read back and verify,
/// linkat to checkpoints/<number>-<sha12>.ckpt, fsync of the directory. The caller then adds the row to the ledger: only a
/// checkpoint with a committed row exists for a resume. A file without a row is litter and is removed by `sweep`.
///
/// Where the file system has no O_TMPFILE the bytes go to <number>-<random>.tmp, renamed without replacing.
/// Any error abandons the file: after a failed fsync it is never fsync'ed again (the kernel may have dropped the pages).
/// This is the seam of the later full store: chunks, deltas and branches come behind the same three calls.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "drover/types/error.hpp"
#include "os/file_system.hpp"
#include "store/record.hpp"

namespace drover::store {

/// Gives the bytes piece by piece: calls `put` any number of times, in order. An error it returns abandons the commit.
using CheckpointPut = std::function<Result<>(std::span<const std::byte>)>;
using CheckpointWriter = std::function<Result<>(const CheckpointPut& put)>;

struct CheckpointMeta {
  std::uint64_t number = 0;       ///< Recovery::next_checkpoint_number, then one more each
  std::string meta_json{};
  std::uint64_t tasks_upto = 0;
};

/// On return the file is on disk under its final name and reads back with the returned hash. Blocks: not for the loop thread.
Result<CheckpointRow> commit_checkpoint(FileSystem& fs, const std::string& directory, std::span<const std::byte> bytes, const CheckpointMeta& meta);
Result<CheckpointRow> commit_checkpoint(FileSystem& fs, const std::string& directory, const CheckpointWriter& writer, const CheckpointMeta& meta);

/// The bytes, if size and SHA-256 match the row. not_found or corrupt otherwise, naming the file, both hashes, and the way back
/// (`drover resume --checkpoint N` with N the newest other one in `others` whose file verifies, if any): never another file's bytes.
Result<std::vector<std::byte>> load_checkpoint(FileSystem& fs, const std::string& directory, const CheckpointRow& row,
                                               std::span<const CheckpointRow> others = {});
/// The same without keeping the bytes.
Result<> verify_checkpoint(FileSystem& fs, const std::string& directory, const CheckpointRow& row);

/// Which rows may be deleted so that the newest `keep` good ones remain. The newest good one is never among them.
std::vector<CheckpointRow> surplus_checkpoints(std::span<const CheckpointRow> rows, std::size_t keep);
/// Removes the file of a row (its ledger row has been committed as deleted first) - absent is fine.
Result<> remove_checkpoint(FileSystem& fs, const std::string& directory, const CheckpointRow& row);
/// Removes files no row names: what a crash between linkat and the ledger's commit left. Returns how many.
Result<std::size_t> sweep_checkpoints(FileSystem& fs, const std::string& directory, std::span<const CheckpointRow> rows);

}  // namespace drover::store
