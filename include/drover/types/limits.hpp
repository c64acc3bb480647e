#pragma once
/// What one task, attempt, worker and run may use. A limit is a hard bound; which layer of this host enforces it
/// (cgroup v2, cgroup v1, rlimit, polling) is told by `LimitLayers` and printed by `drover doctor` and every result.

#include <cstdint>
#include <string_view>

#include "drover/types/time.hpp"

namespace drover {

/// Times a task may take. `queue`: waiting for a lease. `attempt_wall`: from the moment the supervisor sees that the attempt
/// is at the head of its worker's window until its result is seen. `attempt_cpu`: CPU time of the worker process during the
/// attempt. `task`: from submission to the end of the last attempt. All on the monotonic clock.
struct TaskLimits {
  Nanos queue = kUnlimited;
  Nanos attempt_wall = kUnlimited;
  Nanos attempt_cpu = kUnlimited;
  Nanos task = kUnlimited;
  /// Without `Context::progress` for this long the attempt is `stalled`: spinning if the worker's CPU clock rose by more
  /// than half of it, stopped if the kernel says so, blocked otherwise.
  Nanos stall = kUnlimited;
  friend constexpr bool operator==(const TaskLimits&, const TaskLimits&) = default;
};

/// What one incarnation may use. memory_bytes counts what its enforcing layer counts: cgroup: charged pages of the
/// incarnation's whole tree, its share of shared memory included; polling: RSS of the worker process, read every 50 ms while
/// it holds leases. 0 means no limit.
struct WorkerLimits {
  std::uint64_t memory_bytes = 0;
  std::uint32_t processes = 0;        ///< the worker and everything it starts; 0 means no limit
  std::uint64_t log_bytes = 1 << 20;  ///< of stdout and stderr kept per incarnation; the rest is read, counted and dropped
  friend constexpr bool operator==(const WorkerLimits&, const WorkerLimits&) = default;
};

enum class LimitLayer : std::uint8_t { absent, polling, rlimit, cgroup_v1, cgroup_v2, pid_namespace, user_pid_namespace };
std::string_view name_of(LimitLayer layer);

/// The layer set a run works under.
struct LimitLayers {
  LimitLayer memory = LimitLayer::absent;
  LimitLayer processes = LimitLayer::absent;
  LimitLayer containment = LimitLayer::absent;  ///< pid_namespace, user_pid_namespace, or absent = best effort
  LimitLayer tree_kill = LimitLayer::absent;    ///< cgroup_v2 when cgroup.kill works, else absent (the keeper sweeps orphans)
  friend constexpr bool operator==(const LimitLayers&, const LimitLayers&) = default;
};

}  // namespace drover
