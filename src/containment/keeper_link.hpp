#pragma once
/// The supervisor's end of the keeper: a small static process, PID 1 of the run's PID namespace, which starts every worker,
/// reaps it and relays how it ended. The supervisor holds the link; dropping it ends the keeper and with it, by the kernel's
/// hand, every process of the namespace.
///
/// Nothing here blocks but start() and wait_gone(), both with a deadline. Requests are answered by messages: the caller keeps
/// a deadline per request and kills a keeper that stays silent.
///
/// Start it from the thread that lives as long as the run (the loop thread): the keeper asks to be killed when the *thread*
/// that started it ends (PR_SET_PDEATHSIG), and watches the process by its pidfd besides. A host's SIGCHLD handler and
/// wait() never see keeper or watchdog (os/helper_process.hpp says how).

#include <sys/resource.h>
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "drover/types/error.hpp"
#include "drover/types/ids.hpp"
#include "drover/types/limits.hpp"
#include "drover/types/time.hpp"
#include "os/helper_process.hpp"
#include "os/pidfd.hpp"
#include "os/unique_fd.hpp"

namespace drover {

struct SpawnRlimit {
  int resource = 0;  ///< RLIMIT_*
  std::uint64_t soft = 0, hard = 0;
};

/// One process to start. Descriptors are borrowed until request_spawn returns.
struct SpawnRequest {
  SlotId slot{};
  Incarnation incarnation{};
  int executable = -1;              ///< descriptor to exec (ELF, not a script); -1: KeeperOptions::executable
  std::vector<std::string> argv{};  ///< argv[0] included, not empty
  std::vector<std::string> env{};   ///< complete: "NAME=value"
  std::vector<int> fds{};           ///< become descriptors 3, 4, ... of the process; at most kSpawnFdsMax
  int stdin_fd = -1;                ///< -1: /dev/null, and so for the next two
  int stdout_fd = -1;
  int stderr_fd = -1;
  std::string cwd{};                   ///< "": the keeper's, which is where the supervisor was when it started it
  std::vector<SpawnRlimit> rlimits{};  ///< besides RLIMIT_CORE 0, which is always set unless named here
  std::vector<int> cgroup_procs{};     ///< CgroupLeaf::procs_fds(): joined before the exec
  std::optional<int> nice{};
};
inline constexpr std::size_t kSpawnFdsMax = 32;
inline constexpr std::size_t kSpawnRlimitsMax = 16;
inline constexpr std::size_t kSpawnCgroupsMax = 4;

namespace keeper {
/// The process runs the new image (its exec succeeded). Sent before anything else about this incarnation.
struct Spawned {
  SlotId slot;
  Incarnation incarnation;
  PidFd pidfd;
  pid_t host_pid = 0;  ///< 0 if it cannot be told (no /proc, and reaped before we looked)
};
struct SpawnFailed {
  SlotId slot;
  Incarnation incarnation;
  std::string step;  ///< request, table, arguments, clone, stdio, fds, cgroup, rlimit, nice, cwd, exec
  int errno_value = 0;
};
/// Reaped. The last word about this incarnation.
struct Ended {
  SlotId slot;
  Incarnation incarnation;
  int cld_code = 0;                  ///< CLD_EXITED, CLD_KILLED, CLD_DUMPED
  int status = 0;                    ///< exit code or signal (not "si_status": that is a macro of <signal.h>)
  Nanos user_time{}, system_time{};  ///< of it and all descendants it waited for
  std::uint64_t rss_max_bytes = 0;
};
/// Processes left behind by a dead one were killed, and none is left.
struct OrphansSwept {
  std::uint32_t killed = 0;
};
/// The keeper ended the whole run itself, for this reason.
struct GaveUp {
  enum class Why : std::uint8_t { deadline, sweep_did_not_converge, broken_request } why{};
};
/// It hung up: dead or dying, and with it (PID namespace) every process it started; wait_gone() proves that they are gone.
/// No message follows.
struct Gone {};
}  // namespace keeper

using KeeperMessage = std::variant<keeper::Spawned, keeper::SpawnFailed, keeper::Ended, keeper::OrphansSwept, keeper::GaveUp, keeper::Gone>;

struct KeeperOptions {
  int executable = -1;  ///< default for SpawnRequest::executable; borrowed during start(); -1: this process's own
  /// When the run must be over, CLOCK_BOOTTIME (Clock::boottime); the keeper's own timer ends it then. kUnlimited: never.
  Nanos run_deadline_boottime = kUnlimited;
  /// Longest a sweep of orphans may take before the keeper ends everything.
  Millis sweep_timeout{1000};
  bool allow_namespaces = true;  ///< false: best effort on purpose (tests; hosts that trace forks)
};

class KeeperLink {
 public:
  /// Starts it and waits for its hello. Tries a PID namespace, then a user + PID namespace, then best effort as a subreaper;
  /// containment() says what was had and note() why not more.
  /// Errors: timed_out (it is killed), unavailable (helper cannot be executed), no_space.
  static Result<KeeperLink> start(const KeeperOptions& options, TimePoint deadline);

  KeeperLink(KeeperLink&&) noexcept = default;
  KeeperLink& operator=(KeeperLink&&) noexcept;
  ~KeeperLink();  ///< kill(), then waits up to 250 ms to reap it

  /// Sends the request; the answer is Spawned or SpawnFailed. busy: its queue is full, ask again later; closed: it is dead;
  /// refused: the request is out of bounds (kSpawn*Max, empty argv), or no_space.
  Result<void> request_spawn(const SpawnRequest& request);

  /// Readable when receive() has something.
  int fd() const { return socket_.get(); }
  /// Appends what has arrived. Never blocks. Gone comes once, last.
  Result<void> receive(std::vector<KeeperMessage>& messages);

  const PidFd& pidfd() const { return process_.pidfd(); }  ///< readable once the keeper and all of its namespace are dead
  pid_t host_pid() const { return process_.pid(); }
  /// pid_namespace, user_pid_namespace, or absent: best effort (a subreaper with PR_SET_PDEATHSIG workers; a process that
  /// clears it and loses its parent can escape a SIGKILLed keeper).
  LimitLayer containment() const { return containment_; }
  const std::string& note() const { return note_; }

  void kill();                         ///< SIGKILL; ends everything it started. Does not wait.
  bool wait_gone(TimePoint deadline);  ///< reaps it; true once it is dead, which proves its namespace empty

 private:
  KeeperLink() = default;
  UniqueFd socket_;
  HelperProcess process_;
  LimitLayer containment_ = LimitLayer::absent;
  std::string note_;
  bool gone_told_ = false;
};

}  // namespace drover
