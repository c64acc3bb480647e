#pragma once
/// Facts about this machine, as far as they bound or name a job.

#include <cstdint>
#include <string>
#include <vector>

#include "drover/types/error.hpp"
#include "drover/types/time.hpp"

namespace drover {

/// CPUs this process may use: affinity mask, cut by the CPU quota of its cgroup and that of every parent (v2 cpu.max, v1
/// cfs quota; rounded up). At least 1.
std::uint32_t usable_cores();

struct HostMemory {
  std::uint64_t total_bytes = 0;      ///< of the machine, or the smallest memory limit of our cgroups if that is less
  std::uint64_t available_bytes = 0;  ///< without swapping, below that limit
  bool limited_by_cgroup = false;
};
HostMemory host_memory();

std::string boot_id();  ///< changes with every boot; "" if unreadable
std::string host_name();
std::string kernel_release();
/// This process's own executable, as a path for people ("" if unreadable); to run it again use its descriptor.
std::string executable_path();

/// True for NFS, SMB, 9p, FUSE and the like, where locks and fsync do not mean what the ledger needs. `path` must exist.
Result<bool> is_network_filesystem(const std::string& path);
/// `ext4`, `tmpfs`, `overlayfs`, or the magic number in hex.
Result<std::string> filesystem_name(const std::string& path);

}  // namespace drover
