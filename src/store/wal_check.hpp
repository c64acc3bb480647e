#pragma once
/// SQLite reads its write-ahead log up to the first frame that fails its checksum and takes that for the end: right after a power loss,
/// when only the last commit can be torn, and a silent loss of acknowledged commits when a byte in the middle has rotted. This tells
/// the two apart. Format: sqlite.org/fileformat2.html, section 4 ("The Write-Ahead Log").

#include <string>

#include "drover/types/error.hpp"
#include "os/file_system.hpp"

namespace drover::store {

/// For a log written with synchronous=FULL, where every commit but the last was on disk before the next began. A missing or empty
/// log is fine. Error: corrupt, if a commit stands behind the frame at which SQLite would stop. Reads only.
Result<> check_wal(FileSystem& fs, const std::string& path);

/// Refuses a database that ends inside a page while no write-ahead log holds that page: SQLite reads the missing bytes as zeros,
/// and if they were zeros says nothing. Changes nothing. Errors: corrupt, or the file system's own.
Result<> check_length(FileSystem& fs, const std::string& path);

}  // namespace drover::store
