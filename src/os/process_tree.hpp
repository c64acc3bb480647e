#pragma once
/// A process and its descendants as /proc shows them: a snapshot of a moving thing, taken without stopping it. Whoever forks
/// while we look may be missed once; who was seen is counted truthfully. Cost: about 20 us a process.

#include <sys/types.h>

#include <cstdint>

#include "drover/types/time.hpp"

namespace drover {

struct ProcessTreeUsage {
  Nanos cpu{};                  ///< of the living, and of the dead that were waited for by a living one
  std::uint64_t rss_bytes = 0;  ///< sum of resident sets
  std::uint32_t processes = 0;  ///< without the root
};

/// Of all descendants of `root` (host pid), not of itself; the CPU time of those that `root` reaped is counted.
ProcessTreeUsage usage_below(pid_t root);
/// Whether `root`'s first thread has a child, a dead one that nobody waited for included. True when it cannot be seen.
bool has_children(pid_t root);

}  // namespace drover
