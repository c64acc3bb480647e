#pragma once
/// Memory that forked children do not get.

#include <cstddef>
#include <span>

namespace drover {

/// Whole pages of `bytes` are not mapped in children this process forks from here on (madvise(2), MADV_DONTFORK): touching them
/// there is SIGSEGV. Best effort: a kernel that refuses leaves them as they were.
void keep_from_children(std::span<std::byte> bytes);

}  // namespace drover
