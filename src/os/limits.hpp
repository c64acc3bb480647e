#pragma once
/// Which limits this host can enforce for us, and the control groups that do it.
///
///   CgroupTree (one per job)                   CgroupLeaf (one per incarnation)
///   drover.<label>.<who> in whatever            its own memory and pids limit; the worker joins it before its exec, so
///   hierarchies are writable                   everything it ever starts is inside; kill() ends all of it at once
///
/// Each hierarchy is used for what it can do and missing ones degrade: pure v2 with delegated controllers, v1 `memory` and
/// `pids` with or without a bare v2 mount beside them (whose cgroup.kill works without controllers), or nothing at all.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "drover/types/error.hpp"
#include "drover/types/limits.hpp"
#include "os/unique_fd.hpp"

namespace drover {

struct HostLimits {
  LimitLayers layers;
  std::vector<std::string> lines;  ///< one a layer for `drover doctor`: what is enforced, by what, and what would improve it
};
/// Tries for real (makes and removes a cgroup, starts and ends a namespace). About 5 ms.
HostLimits probe_limits();

/// What the kernel counted for one incarnation, read after its death and before remove().
struct LeafUsage {
  std::uint64_t memory_peak_bytes = 0;  ///< 0 where unknown
  std::uint64_t oom_kills = 0;          ///< processes killed because *this leaf's* memory limit was reached
  std::uint64_t fork_refusals = 0;      ///< forks refused by the pids limit
};

class CgroupLeaf {
 public:
  CgroupLeaf() = default;
  CgroupLeaf(CgroupLeaf&&) noexcept = default;
  CgroupLeaf& operator=(CgroupLeaf&& other) noexcept;
  ~CgroupLeaf();  ///< remove(), best effort

  /// Descriptors for SpawnRequest::cgroup_procs_fds: the child writes "0" into each.
  std::vector<int> procs_fds() const;
  /// SIGKILL to every process in it, forks racing included; true if this hierarchy can (else the keeper's sweep must do).
  Result<bool> kill() const;
  /// True if no process is inside any more.
  bool is_empty() const;
  LeafUsage usage() const;
  /// ErrorCode::busy while a process is inside (a dead one counts until reaped): call again later.
  Result<void> remove();
  bool valid() const { return !directories_.empty(); }

 private:
  friend class CgroupTree;
  struct Directory {
    bool is_v2 = false;
    bool memory = false;  ///< it has the controller
    bool pids = false;
    std::string path{};
    UniqueFd procs{};
  };
  std::vector<Directory> directories_;
};

class CgroupTree {
 public:
  /// Makes the job's directory in every usable hierarchy below the cgroup this process is in, and sweeps away the leftovers
  /// of drover jobs whose supervisor is dead (PID namespace, pid and start time are in the name; their processes are
  /// SIGKILLed). Where the own cgroup cannot hold children with controllers (v2 forbids it while a process is inside), the
  /// nearest parent that can is used, but only past levels that set no limit of their own: a limit somebody put around us is
  /// never escaped. Never fails for want of permission: layers() then says what is left. `label` is for people; what is not
  /// [a-z0-9] in it becomes '-'.
  static Result<CgroupTree> create(std::string_view label);
  CgroupTree(CgroupTree&&) noexcept = default;
  CgroupTree& operator=(CgroupTree&& other) noexcept;
  ~CgroupTree();  ///< removes what is empty; the next start sweeps the rest

  /// memory, processes and tree_kill as this tree provides them; containment is the keeper's to say. Without a cgroup memory
  /// is `polling` (the supervisor's), processes `rlimit` for an ordinary user (RLIMIT_NPROC) and absent for root, who is
  /// exempt from it.
  const LimitLayers& layers() const { return layers_; }

  /// A leaf, with limits where the hierarchy has the controller (0 = no limit). Without any writable hierarchy an invalid
  /// leaf, which is not an error.
  Result<CgroupLeaf> make_leaf(std::string_view name, const WorkerLimits& limits);

 private:
  struct Branch {
    bool is_v2 = false;
    bool memory = false;
    bool pids = false;
    bool kill = false;
    std::string path{};
  };
  CgroupTree() = default;
  std::vector<Branch> branches_;
  LimitLayers layers_;
};

}  // namespace drover
