#pragma once
/// Which limits this host can enforce for us, and the control groups that do it.
///
///   CgroupTree (one per job)                   CgroupLeaf (one per incarnation)
///   drover.<label>.<who> in whatever            its own memory and pids limit; the worker joins it before its exec, so
///   hierarchies are writable                   everything it ever starts is inside; kill() ends all of it at once
///
/// Each hierarchy is used for what it can do and missing ones degrade: pure v2 with delegated controllers, v1 `memory` and
/// `pids` with or without a bare v2 mount beside them (whose cgroup.kill works without controllers), or nothing at all.

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "drover/types/error.hpp"
#include "drover/types/limits.hpp"
#include "drover/types/time.hpp"
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
  std::uint64_t memory_bytes = 0;       ///< charged now
};

class CgroupLeaf {
 public:
  CgroupLeaf() = default;
  CgroupLeaf(CgroupLeaf&&) noexcept = default;
  CgroupLeaf& operator=(CgroupLeaf&& other) noexcept;
  ~CgroupLeaf();  ///< remove(), best effort

  /// Descriptors for SpawnRequest::cgroup_procs_fds: the child writes "0" into each.
  std::vector<int> procs_fds() const;
  /// Moves a process into it, with all it will start. Errors: system.
  Result<void> join(pid_t pid) const;
  /// New limits where the hierarchy has the controller (0 = none from now on). Error: busy and the like, when more is in use than a new
  /// limit allows and the kernel does not take it.
  Result<void> set_limits(const WorkerLimits& limits);
  /// SIGKILL to every process in it, forks racing included; true if this hierarchy can (else the keeper's sweep must do).
  Result<bool> kill() const;
  /// True if no process is inside any more.
  bool is_empty() const;
  LeafUsage usage() const;
  std::uint64_t oom_kills() const;       ///< of usage(), for who asks often
  /// CPU time of all that ever ran in it, children nobody waited for included. Nothing: no v2 hierarchy (it needs no controller for this).
  std::optional<Nanos> cpu() const;
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
  /// Makes the job's directory in every usable hierarchy below the cgroup this process is in, and sweeps away those of the dead:
  /// who lives holds the lock of its directory; whatever is inside a dead one's is SIGKILLed. Where the own cgroup cannot hold
  /// children with controllers (v2 forbids it while a process is inside), the nearest parent that can is used, but only past
  /// levels that set no limit of their own: a limit somebody put around us is never escaped. Never fails for want of permission:
  /// layers() then says what is left. `label` is for people; what is not [a-z0-9] in it becomes '-'.
  static Result<CgroupTree> create(std::string_view label);
  /// Sweeps away those of the dead, wherever create() could have made them: for who ends last.
  static void sweep();
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
    UniqueFd lock{};
  };
  CgroupTree() = default;
  std::vector<Branch> branches_;
  LimitLayers layers_;
};

}  // namespace drover
