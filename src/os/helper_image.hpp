#pragma once
/// An executable that lives in our own binary is put into a sealed memfd, to be exec'd by descriptor: no path, no package
/// file, no version mix after an upgrade on disk.

#include <cstddef>
#include <span>
#include <string_view>

#include "drover/types/error.hpp"
#include "os/unique_fd.hpp"

namespace drover {

/// A descriptor for fexecve of `image`. Where the host forbids executing memfds (vm.memfd_noexec=2) an unnamed file in
/// /dev/shm, XDG_RUNTIME_DIR or /tmp; ErrorCode::unavailable if none of them allows it.
Result<UniqueFd> make_executable_image(std::string_view name, std::span<const std::byte> image);

/// Descriptor of this process's own executable, for exec'ing workers: stays the same file after an upgrade on disk.
Result<UniqueFd> open_own_executable();

}  // namespace drover
