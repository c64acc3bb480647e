#include "os/fork_guard.hpp"

#include <sys/mman.h>

namespace drover {

void keep_from_children(std::span<std::byte> bytes) { (void)::madvise(bytes.data(), bytes.size(), MADV_DONTFORK); }

}  // namespace drover
