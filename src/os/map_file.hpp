#pragma once
/// What is done to an open file and its File interface leaves out, because a simulation has no descriptor.

#include <cstddef>
#include <cstdint>

#include "drover/types/error.hpp"
#include "os/file_system.hpp"
#include "os/memfd.hpp"

namespace drover {

/// Shared mapping of the first `size_bytes`; the file must be at least that long, or touching it is SIGBUS.
/// Error: unavailable for a file without a descriptor.
Result<Mapping> map_file(File& file, std::size_t size_bytes, bool writable);

/// Gives the memory that caches the synced file back: it is not read again soon, and the next file written finds warm pages.
void drop_cached(File& file);

/// Starts writing the range to disk and returns at once: makes a later sync() short, promises nothing (sync_file_range(2)).
void start_writeback(File& file, std::uint64_t offset, std::uint64_t length);

}  // namespace drover
