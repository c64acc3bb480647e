#pragma once
/// Behind include/drover/checkpoint.hpp: the store on any file system and any SQLite VFS, so that a simulated power failure can be
/// tried on it. See there for who uses it and what is promised.
///
/// In the directory: `store.db` (lineages, checkpoints; the only truth about order, heads and epochs), `objects/SHA256` (bytes),
/// `manifests/ID` (who they are), `pins/ID` and `quarantine/ID` (what a lost database must not forget). Every file is durable before
/// the row that needs it, and leaves after the row that needed it.

#include "drover/checkpoint.hpp"
#include "os/file_system.hpp"

namespace drover {

struct CheckpointStoreAccess {
  static Result<CheckpointStore> open(FileSystem& fs, const std::string& directory, const std::string& vfs);
  static Result<std::size_t> rebuild(FileSystem& fs, const std::string& directory, const std::string& vfs);
};

}  // namespace drover
