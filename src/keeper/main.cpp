/// The keeper: starts every worker of a run, reaps it, tells how it ended, and outlives nothing. PID 1 of the run's PID
/// namespace where the host allows one: when it ends, for whatever reason, the kernel kills everything inside.
///
/// It ends by itself when the supervisor's process is dead, when the supervisor hung up, when the run's deadline has passed,
/// when a request is not one of ours, and when orphans cannot be swept away in time. It is killed with the thread that
/// started it (PR_SET_PDEATHSIG, even while stopped).
///
/// One thread, one poll(), no allocation but the table below, no C++ library. Nothing here waits for the supervisor: replies
/// that cannot be sent are kept in a bounded queue, and when that is full no request is read and no child reaped until there
/// is room: a zombie keeps its own exit status.
///
/// argv: name, KeeperMode, run deadline (CLOCK_BOOTTIME ns, -1 none), sweep timeout (ms). Descriptors: keeper_message.hpp.

#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "os/bare.hpp"
#include "wire/keeper_message.hpp"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

namespace {

using namespace drover;
using namespace drover::wire;

constexpr std::size_t kChildrenMax = 4096;
constexpr std::size_t kRepliesMax = 1024;
constexpr int kRequestsATurn = 16;
constexpr std::size_t kChildStackBytes = 64 * 1024;

struct Child {
  pid_t pid = 0;         // as we see it; 0: free entry
  pid_t proc_pid = 0;    // as /proc shows it; 0: unknown
  bool started = false;  // its exec succeeded: its end is told
  std::uint32_t slot = 0;
  std::uint32_t incarnation = 0;
};

struct QueuedReply {
  KeeperReply reply;
  int fd = -1;  // owned; -1: none
};

struct Keeper {
  KeeperMode mode = KeeperMode::subreaper;
  std::int64_t sweep_timeout_ns = 0;
  int timer = -1;
  int deaths = -1;     // signalfd of SIGCHLD
  pid_t proc_pid = 0;  // our own pid as /proc shows it; 0: /proc is of no use here
  Child children[kChildrenMax];
  std::size_t children_end = 0;  // no used entry at or behind it
  QueuedReply replies[kRepliesMax];
  std::size_t replies_begin = 0;
  std::size_t replies_count = 0;
  bool dead_wait = false;  // children may be waiting to be reaped although no signal will say so again
  // The sweep in progress.
  std::int64_t sweep_started_ns = 0;  // 0: none
  std::uint32_t sweep_killed = 0;
};

constinit Keeper keeper;  // no constructor runs before main
alignas(64) char child_stack[kChildStackBytes];

// ---------------------------------------------------------------------------------------------------- replies

bool flush_replies() {  // false: the supervisor hung up
  while (keeper.replies_count > 0) {
    QueuedReply& next = keeper.replies[keeper.replies_begin];
    if (bare::send_message(kKeeperSocketFd, &next.reply, sizeof next.reply, next.fd) != 0)
      return errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS || errno == ENOMEM || errno == ETOOMANYREFS;
    if (next.fd >= 0) close(next.fd);
    keeper.replies_begin = (keeper.replies_begin + 1) % kRepliesMax;
    --keeper.replies_count;
  }
  return true;
}

std::size_t replies_room() { return kRepliesMax - keeper.replies_count; }

void queue_reply(const KeeperReply& reply, int fd = -1) {  // callers check replies_room() first
  QueuedReply& slot = keeper.replies[(keeper.replies_begin + keeper.replies_count) % kRepliesMax];
  slot.reply = reply;
  slot.fd = fd;
  ++keeper.replies_count;
}

// ---------------------------------------------------------------------------------------------------- /proc

/// Reads up to size - 1 bytes of a small file, ends them; -1 on failure.
ssize_t read_small(int directory, const char* path, char* into, std::size_t size) {
  const int fd = openat(directory, path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  std::size_t have = 0;
  while (have < size - 1) {
    const ssize_t got = read(fd, into + have, size - 1 - have);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    have += static_cast<std::size_t>(got);
  }
  close(fd);
  into[have] = '\0';
  return static_cast<ssize_t>(have);
}

/// The pid that /proc shows for the process of a pidfd; 0 if unknown.
pid_t proc_pid_of(int pidfd) {
  char path[64];
  char text[512];
  bare::append_number(bare::append_text(path, "/proc/self/fdinfo/"), static_cast<std::uint64_t>(pidfd));
  if (read_small(AT_FDCWD, path, text, sizeof text) <= 0) return 0;
  const char* found = strstr(text, "Pid:");
  if (found == nullptr) return 0;
  pid_t pid = 0;
  for (found += 4; *found == '\t' || *found == ' '; ++found) {
  }
  for (; *found >= '0' && *found <= '9'; ++found) pid = pid * 10 + (*found - '0');
  return pid;
}

pid_t own_proc_pid() {
  char text[32];
  const ssize_t size = readlink("/proc/self", text, sizeof text - 1);
  if (size <= 0) return 0;
  text[size] = '\0';
  const std::int64_t pid = bare::parse_number(text);
  char probe[8];
  if (pid <= 0 || read_small(AT_FDCWD, "/proc/thread-self/children", probe, sizeof probe) < 0) return 0;
  return static_cast<pid_t>(pid);
}

bool is_own_child(pid_t proc_pid) {
  for (std::size_t i = 0; i < keeper.children_end; ++i)
    if (keeper.children[i].pid != 0 && keeper.children[i].proc_pid == proc_pid) return true;
  return false;
}

/// SIGKILLs the process that /proc shows as `proc_pid` if it is a living child of ours. 1: it was sent; 0: nothing alive
/// there; -1: it cannot be signalled. A /proc/<pid> directory held open names its process for ever, and the kernel takes it
/// for a pidfd: pidfd_open would look the number up in our own namespace, where it means somebody else.
int kill_orphan(pid_t proc_pid) {
  char path[32];
  char text[512];
  bare::append_number(bare::append_text(path, "/proc/"), static_cast<std::uint64_t>(proc_pid));
  const int process = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (process < 0) return 0;
  int result = 0;
  if (read_small(process, "stat", text, sizeof text) > 0) {
    const char* rest = strrchr(text, ')');  // "pid (name) state ppid": a name may hold anything
    if (rest != nullptr && rest[1] == ' ') {
      const char state = rest[2];
      pid_t parent = 0;
      for (const char* digit = rest + 4; *digit >= '0' && *digit <= '9'; ++digit) parent = parent * 10 + (*digit - '0');
      if (parent == keeper.proc_pid && state != 'Z' && state != 'X')
        result = bare::send_signal(process, SIGKILL) == 0 ? 1 : (errno == ESRCH ? 0 : -1);
    }
  }
  close(process);
  return result;
}

/// Kills every living child that is not one of `spare_own`; how many it found. -1: cannot look.
int kill_children(bool spare_own) {
  const int list = open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC);
  if (list < 0) return -1;
  int found = 0;
  char text[4096];
  pid_t pid = 0;
  for (;;) {
    const ssize_t got = read(list, text, sizeof text);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    for (ssize_t i = 0; i < got; ++i) {
      if (text[i] >= '0' && text[i] <= '9') {
        pid = pid * 10 + (text[i] - '0');
        continue;
      }
      if (pid > 0 && !(spare_own && is_own_child(pid)) && kill_orphan(pid) != 0) ++found;
      pid = 0;
    }
  }
  close(list);
  return found;
}

// ---------------------------------------------------------------------------------------------------- the end

[[noreturn]] void finish() {
  if (keeper.mode == KeeperMode::subreaper) {  // no namespace to do it for us: what can be found is killed, in bounded time
    const std::int64_t give_up_ns = bare::now_ns(CLOCK_MONOTONIC) + 1'000'000'000;
    while (kill_children(false) > 0 && bare::now_ns(CLOCK_MONOTONIC) < give_up_ns) {
      pollfd deaths{keeper.deaths, POLLIN, 0};
      poll(&deaths, 1, 10);
      signalfd_siginfo drained[8];
      while (read(keeper.deaths, drained, sizeof drained) > 0) {
      }
      while (waitpid(-1, nullptr, WNOHANG | __WALL) > 0) {
      }
    }
  }
  _exit(0);
}

[[noreturn]] void give_up(KeeperGaveUp why) {
  KeeperReply reply{};
  reply.kind = KeeperReplyKind::gave_up;
  reply.what = static_cast<std::int32_t>(why);
  flush_replies();
  bare::send_message(kKeeperSocketFd, &reply, sizeof reply, -1);
  finish();
}

// ---------------------------------------------------------------------------------------------------- sweeping

/// Looks for children we did not start (their parents died) and kills them. They die, are reaped, and what they leave to us
/// is found by the next call: until none is left.
void sweep() {
  if (keeper.proc_pid == 0) return;
  const int found = kill_children(true);
  if (found > 0) {
    if (keeper.sweep_started_ns == 0) keeper.sweep_started_ns = bare::now_ns(CLOCK_MONOTONIC);
    keeper.sweep_killed += static_cast<std::uint32_t>(found);
    return;
  }
  if (keeper.sweep_started_ns == 0) return;
  KeeperReply reply{};
  reply.kind = KeeperReplyKind::orphans_swept;
  reply.value = static_cast<std::int32_t>(keeper.sweep_killed);
  if (replies_room() > 0) queue_reply(reply);
  keeper.sweep_started_ns = 0;
  keeper.sweep_killed = 0;
}

/// Milliseconds the sweep may still take, 0 when it is over time, -1 when there is none.
int sweep_left_ms() {
  if (keeper.sweep_started_ns == 0) return -1;
  const std::int64_t left = keeper.sweep_started_ns + keeper.sweep_timeout_ns - bare::now_ns(CLOCK_MONOTONIC);
  return left <= 0 ? 0 : static_cast<int>(left / 1'000'000 + 1);
}

// ---------------------------------------------------------------------------------------------------- reaping

void reap() {
  signalfd_siginfo drained[8];
  while (read(keeper.deaths, drained, sizeof drained) > 0) {
  }
  bool own_died = false;  // an orphan that ends of itself leaves the others alone: their family still runs
  keeper.dead_wait = false;
  for (;;) {
    if (replies_room() < 2) {
      keeper.dead_wait = true;
      break;
    }
    siginfo_t info{};
    rusage usage{};
    if (syscall(SYS_waitid, P_ALL, 0, &info, WEXITED | WNOHANG | __WALL, &usage) != 0 || info.si_pid == 0) break;
    for (std::size_t i = 0; i < keeper.children_end; ++i) {
      Child& child = keeper.children[i];
      if (child.pid != info.si_pid) continue;
      own_died = true;
      if (child.started) {
        KeeperReply reply{};
        reply.kind = KeeperReplyKind::ended;
        reply.slot = child.slot;
        reply.incarnation = child.incarnation;
        reply.what = info.si_code;
        reply.value = info.si_status;
        reply.user_ns = std::int64_t{usage.ru_utime.tv_sec} * 1'000'000'000 + usage.ru_utime.tv_usec * 1000;
        reply.system_ns = std::int64_t{usage.ru_stime.tv_sec} * 1'000'000'000 + usage.ru_stime.tv_usec * 1000;
        reply.rss_max_bytes = static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;
        queue_reply(reply);
      }
      child = Child{};
      while (keeper.children_end > 0 && keeper.children[keeper.children_end - 1].pid == 0) --keeper.children_end;
      break;
    }
  }
  if (own_died || keeper.sweep_started_ns != 0) sweep();
}

// ---------------------------------------------------------------------------------------------------- spawning

/// What the new process reads between clone and exec; it shares our memory and runs while we are suspended.
struct Launch {
  const KeeperSpawn* spawn;
  char* const* argv;
  char* const* env;
  const char* cwd;
  int image;
  int stdio[3];
  const int* cgroups;
  const int* fds;
  pid_t parent;  // getppid() it must see
  volatile KeeperStep failed_step;
  volatile int failed_errno;
};

[[noreturn]] void launch_failed(Launch& launch, KeeperStep step) {
  launch.failed_errno = errno;
  launch.failed_step = step;
  _exit(127);
}

int launch_child(void* argument) {
  Launch& launch = *static_cast<Launch*>(argument);
  const KeeperSpawn& spawn = *launch.spawn;
  if (setsid() < 0) launch_failed(launch, KeeperStep::session);  // no terminal signal reaches it, and kill(-pid) its group
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != launch.parent) _exit(127);

  for (std::uint32_t i = 0; i < spawn.cgroups; ++i)
    if (write(launch.cgroups[i], "0", 1) != 1) launch_failed(launch, KeeperStep::cgroup);

  // Every source is first moved above every target, so that no dup2 overwrites a source still needed.
  const int floor = 3 + static_cast<int>(spawn.fds);
  const int image = fcntl(launch.image, F_DUPFD_CLOEXEC, floor);
  if (image < 0) launch_failed(launch, KeeperStep::fds);
  int moved[kKeeperFdsMax];
  for (std::uint32_t i = 0; i < spawn.fds; ++i)
    if ((moved[i] = fcntl(launch.fds[i], F_DUPFD_CLOEXEC, floor)) < 0) launch_failed(launch, KeeperStep::fds);
  int moved_stdio[3];
  for (int i = 0; i < 3; ++i)
    if ((moved_stdio[i] = fcntl(launch.stdio[i], F_DUPFD_CLOEXEC, floor)) < 0) launch_failed(launch, KeeperStep::stdio);
  for (int i = 0; i < 3; ++i)
    if (dup2(moved_stdio[i], i) < 0) launch_failed(launch, KeeperStep::stdio);
  for (std::uint32_t i = 0; i < spawn.fds; ++i)
    if (dup2(moved[i], 3 + static_cast<int>(i)) < 0) launch_failed(launch, KeeperStep::fds);
  if (syscall(SYS_close_range, static_cast<unsigned>(floor), ~0u, 4u /* CLOSE_RANGE_CLOEXEC */) != 0 && errno != ENOSYS && errno != EINVAL)
    launch_failed(launch, KeeperStep::fds);

  rlimit no_core{0, 0};
  setrlimit(RLIMIT_CORE, &no_core);  // a core dump delays the news of a death by its size
  for (std::uint32_t i = 0; i < spawn.rlimits; ++i) {
    const rlimit limit{spawn.rlimit[i].soft, spawn.rlimit[i].hard};
    if (setrlimit(static_cast<__rlimit_resource_t>(spawn.rlimit[i].resource), &limit) != 0) launch_failed(launch, KeeperStep::rlimit);
  }
  if ((spawn.flags & keeper_flag::kNice) != 0 && setpriority(PRIO_PROCESS, 0, spawn.nice) != 0) launch_failed(launch, KeeperStep::nice);
  if (launch.cwd[0] != '\0' && chdir(launch.cwd) != 0) launch_failed(launch, KeeperStep::cwd);

  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  syscall(SYS_execveat, image, "", launch.argv, launch.env, AT_EMPTY_PATH);
  launch_failed(launch, KeeperStep::exec);
}

void reply_failed(const KeeperSpawn& spawn, KeeperStep step, int error) {
  KeeperReply reply{};
  reply.kind = KeeperReplyKind::spawn_failed;
  reply.slot = spawn.slot;
  reply.incarnation = spawn.incarnation;
  reply.what = static_cast<std::int32_t>(step);
  reply.value = error;
  queue_reply(reply);
}

void start_child(const KeeperSpawn& spawn, const int* fds, char* const* argv, char* const* env, const char* cwd) {
  Child* child = nullptr;
  for (std::size_t i = 0; i < kChildrenMax && child == nullptr; ++i)
    if (keeper.children[i].pid == 0) child = &keeper.children[i];
  if (child == nullptr) return reply_failed(spawn, KeeperStep::table, EAGAIN);

  Launch launch{};
  launch.spawn = &spawn;
  launch.argv = argv;
  launch.env = env;
  launch.cwd = cwd;
  launch.parent = getpid();
  std::size_t next = 1;  // fds[0] is the blob
  launch.image = (spawn.flags & keeper_flag::kImage) != 0 ? fds[next++] : kKeeperImageFd;
  launch.stdio[0] = (spawn.flags & keeper_flag::kStdin) != 0 ? fds[next++] : 0;
  launch.stdio[1] = (spawn.flags & keeper_flag::kStdout) != 0 ? fds[next++] : 1;
  launch.stdio[2] = (spawn.flags & keeper_flag::kStderr) != 0 ? fds[next++] : 2;
  launch.cgroups = fds + next;
  launch.fds = fds + next + spawn.cgroups;

  int pidfd = -1;
  const pid_t pid = clone(launch_child, child_stack + sizeof child_stack, CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, &launch, &pidfd);
  if (pid < 0) return reply_failed(spawn, KeeperStep::clone, errno);

  child->pid = pid;
  child->proc_pid = proc_pid_of(pidfd);
  child->started = launch.failed_step == KeeperStep::none;
  child->slot = spawn.slot;
  child->incarnation = spawn.incarnation;
  const std::size_t index = static_cast<std::size_t>(child - keeper.children);
  if (index >= keeper.children_end) keeper.children_end = index + 1;
  if (!child->started) {
    close(pidfd);
    return reply_failed(spawn, launch.failed_step, launch.failed_errno);
  }
  KeeperReply reply{};
  reply.kind = KeeperReplyKind::spawned;
  reply.slot = spawn.slot;
  reply.incarnation = spawn.incarnation;
  reply.what = child->proc_pid;
  queue_reply(reply, pidfd);
}

/// Makes argv, env and cwd of the blob, and starts the process.
void handle_spawn(const KeeperSpawn& spawn, const int* fds) {
  const std::size_t strings = std::size_t{spawn.argc} + spawn.envc + 1;
  const std::size_t table_bytes = (strings + 2) * sizeof(char*);
  struct stat blob_stat{};
  if (fstat(fds[0], &blob_stat) != 0 || blob_stat.st_size < static_cast<off_t>(spawn.blob_bytes))
    return reply_failed(spawn, KeeperStep::arguments, EINVAL);
  void* blob = mmap(nullptr, spawn.blob_bytes, PROT_READ, MAP_PRIVATE, fds[0], 0);
  if (blob == MAP_FAILED) return reply_failed(spawn, KeeperStep::arguments, errno);
  void* memory = mmap(nullptr, table_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    reply_failed(spawn, KeeperStep::arguments, errno);
  } else {
    // [argv..., null, env..., null, cwd]: the strings are split in order, then env and cwd move up by their nulls.
    const char** table = static_cast<const char**>(memory);
    if (!split_blob(static_cast<const char*>(blob), spawn.blob_bytes, table, strings)) {
      reply_failed(spawn, KeeperStep::arguments, EINVAL);
    } else {
      const char* cwd = table[strings - 1];
      const char** env = table + spawn.argc + 1;
      memmove(env, table + spawn.argc, spawn.envc * sizeof(char*));
      table[spawn.argc] = nullptr;
      env[spawn.envc] = nullptr;
      start_child(spawn, fds, const_cast<char* const*>(table), const_cast<char* const*>(env), cwd);
    }
    munmap(memory, table_bytes);
  }
  munmap(blob, spawn.blob_bytes);
}

/// A few requests, then the loop looks at deaths again: a stream of requests must not keep the dead in the table of children.
/// False: the supervisor hung up.
bool read_requests() {
  for (int taken = 0; taken < kRequestsATurn && replies_room() >= 2; ++taken) {
    KeeperSpawn spawn;
    int fds[kKeeperMessageFdsMax];
    std::size_t count = 0;
    const ssize_t got = bare::receive_message(kKeeperSocketFd, &spawn, sizeof spawn, fds, kKeeperMessageFdsMax, &count);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return true;
    if (got == 0 || (got < 0 && errno == ECONNRESET)) return false;
    if (got < 0 || !is_valid(spawn, static_cast<std::size_t>(got), count)) give_up(KeeperGaveUp::broken_request);
    handle_spawn(spawn, fds);
    for (std::size_t i = 0; i < count; ++i) close(fds[i]);
    if (!flush_replies()) return false;
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  bare::reset_signals();
  keeper.mode = static_cast<KeeperMode>(bare::parse_number(argv[1]));
  prctl(PR_SET_NAME, "drover-keeper");
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  // The supervisor may have died before that line, and getppid() could not tell: it is 0 for the first process of a namespace.
  // The loop below looks at its pidfd before anything else.
  setsid();
  if (keeper.mode == KeeperMode::subreaper) prctl(PR_SET_CHILD_SUBREAPER, 1);

  const std::int64_t deadline_ns = bare::parse_number(argv[2]);
  keeper.sweep_timeout_ns = bare::parse_number(argv[3]) * 1'000'000;
  sigset_t child_deaths;
  sigemptyset(&child_deaths);
  sigaddset(&child_deaths, SIGCHLD);
  sigprocmask(SIG_BLOCK, &child_deaths, nullptr);
  keeper.deaths = signalfd(-1, &child_deaths, SFD_CLOEXEC | SFD_NONBLOCK);
  if (deadline_ns >= 0) keeper.timer = bare::make_boottime_timer(deadline_ns);
  if (keeper.deaths < 0 || (deadline_ns >= 0 && keeper.timer < 0)) return 3;
  for (int fd = kKeeperSocketFd; fd <= kKeeperImageFd; ++fd) fcntl(fd, F_SETFD, FD_CLOEXEC);
  keeper.proc_pid = own_proc_pid();

  KeeperReply hello{};
  hello.kind = KeeperReplyKind::hello;
  hello.what = static_cast<std::int32_t>(keeper.mode);
  hello.value = keeper.proc_pid != 0;
  queue_reply(hello);

  for (;;) {
    if (!flush_replies()) finish();
    if (keeper.dead_wait && replies_room() >= kRepliesMax / 2) {
      reap();
      continue;
    }
    const bool room = replies_room() >= 2;
    short socket_events = 0;
    if (room) socket_events |= POLLIN;
    if (keeper.replies_count > 0) socket_events |= POLLOUT;
    pollfd waits[4] = {
        {kKeeperSupervisorFd, POLLIN, 0},
        {keeper.timer, POLLIN, 0},
        {kKeeperSocketFd, socket_events, 0},
        {room ? keeper.deaths : -1, POLLIN, 0},
    };
    const int sweep_ms = sweep_left_ms();
    if (sweep_ms == 0) give_up(KeeperGaveUp::sweep_did_not_converge);
    if (poll(waits, 4, sweep_ms) < 0 && errno != EINTR) return 4;
    if (waits[0].revents != 0) finish();
    if (waits[1].revents != 0) give_up(KeeperGaveUp::deadline);
    if (waits[3].revents != 0) reap();
    if ((waits[2].revents & (POLLIN | POLLHUP | POLLERR)) != 0 && room && !read_requests()) finish();
    if (!room && (waits[2].revents & (POLLHUP | POLLERR)) != 0) finish();
  }
}
