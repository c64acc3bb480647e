#pragma once
/// A pipe whose read end never blocks: for what a child writes to its stdout and stderr.

#include <cstddef>
#include <optional>
#include <span>

#include "drover/types/error.hpp"
#include "os/unique_fd.hpp"

namespace drover {

struct Pipe {
  UniqueFd read_end;   ///< non-blocking
  UniqueFd write_end;  ///< blocking: the writer waits while the pipe (64 KiB) is full
  static Result<Pipe> create();
};

/// Bytes read; 0 at end of file; nothing when there is nothing now.
Result<std::optional<std::size_t>> read_some(int fd, std::span<std::byte> into);

}  // namespace drover
