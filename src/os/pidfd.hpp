#pragma once
/// A process, named by a descriptor that can never come to mean another process (a pid can, after 2 s of busy forking).
/// Readable in a Poller once the process is dead (reaped or not).

#include <sys/types.h>

#include "drover/types/error.hpp"
#include "drover/types/time.hpp"
#include "os/unique_fd.hpp"

namespace drover {

class PidFd {
 public:
  PidFd() = default;
  explicit PidFd(UniqueFd fd) : fd_(std::move(fd)) {}
  /// The process that has `pid` in our namespace now. ErrorCode::not_found if there is none.
  static Result<PidFd> open(pid_t pid);
  static Result<PidFd> self();

  /// True if the signal was queued, false if the process is gone already (which a caller that wants it gone calls success).
  /// ErrorCode::system with EPERM when it is not ours.
  Result<bool> send(int signal) const;
  bool is_dead() const;
  /// Sleeps until it is dead or the deadline has come; says whether it is dead.
  bool wait_dead(TimePoint deadline) const;
  /// Its pid in *our* namespace, whichever namespace it was born in (fdinfo "Pid:").
  /// ErrorCode::not_found once it is reaped.
  Result<pid_t> host_pid() const;

  int fd() const { return fd_.get(); }
  bool valid() const { return fd_.valid(); }

 private:
  UniqueFd fd_;
};

}  // namespace drover
