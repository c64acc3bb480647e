#pragma once
/// Small questions to the host's files, for sandboxes: what is there, and files as descriptors to hand on.

#include <cstdint>
#include <optional>
#include <string>

#include "drover/types/error.hpp"
#include "os/unique_fd.hpp"

namespace drover {

bool path_exists(const std::string& path);
/// Of a symbolic link; nothing if it is none.
std::optional<std::string> link_target(const std::string& path);
Result<UniqueFd> open_null();
/// A second, read-only descriptor of the same file: whoever gets it cannot write, whatever the first one may.
Result<UniqueFd> reopen_read_only(int fd);
/// At most `bytes_max` bytes from its beginning.
Result<std::string> read_whole(int fd, std::uint64_t bytes_max);

/// A directory opened under an exclusive lock (flock) that goes with the descriptor, or with the process, however it dies. Errors: busy
/// (somebody holds it), system; also when the last part of the path is a link.
Result<UniqueFd> lock_directory(const std::string& path);

}  // namespace drover
