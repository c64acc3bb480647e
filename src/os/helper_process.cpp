#include "os/helper_process.hpp"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <new>
#include <utility>
#include <vector>

#include "base/assert.hpp"
#include "os/clock.hpp"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif
#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC 4u
#endif

namespace drover {

/// Shared by the three processes of a start: us, the anchor and, until its exec, the helper. One memory mapping with their
/// stacks, which lives as long as the anchor.
struct Launch {
  static constexpr std::size_t kFdsMax = 8;
  static constexpr std::size_t kStackBytes = 32 * 1024;

  // What to start.
  int clone_flags = 0;
  bool map_user = false;
  bool probe_only = false;
  int image = -1;
  int null = -1;
  const int* fds = nullptr;
  std::size_t fds_count = 0;
  char* const* argv = nullptr;
  char* const* env = nullptr;
  char uid_map[48] = {};
  char gid_map[48] = {};
  pid_t supervisor = 0;

  // How it went. `phase` is a futex word: 0 starting, 1 the helper runs, 2 it does not, 3 we hold its pidfd.
  std::atomic<std::uint32_t> phase{0};
  pid_t helper = 0;
  const char* failed_step = nullptr;
  int failed_errno = 0;

  alignas(64) char anchor_stack[kStackBytes];
  alignas(64) char helper_stack[kStackBytes];
};

namespace {

// The functions marked so run in the anchor or, before its exec, in the helper: in our memory, beside our threads. They
// allocate nothing, lock nothing, and make system calls by number without touching errno, which is the calling thread's.
#define DROVER_IN_LAUNCH __attribute__((no_sanitize("address", "thread", "undefined"), noinline, no_stack_protector))

DROVER_IN_LAUNCH long raw(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0) {
  long result;
#if defined(__x86_64__)
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8) : "rcx", "r11", "memory");
#elif defined(__aarch64__)
  register long x8 __asm__("x8") = number;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  register long x3 __asm__("x3") = d;
  register long x4 __asm__("x4") = e;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
  result = x0;
#else
#error "one line of assembly is missing for this processor"
#endif
  return result;  // -errno on failure
}

DROVER_IN_LAUNCH long address(const volatile void* pointer) { return reinterpret_cast<long>(pointer); }

DROVER_IN_LAUNCH void leave(int status) {
  for (;;) raw(SYS_exit_group, status);
}

DROVER_IN_LAUNCH void helper_failed(Launch* launch, const char* step, long negative_errno) {
  launch->failed_errno = static_cast<int>(-negative_errno);
  launch->failed_step = step;
  leave(127);
}

DROVER_IN_LAUNCH long write_map(const char* path, const char* text) {
  const long fd = raw(SYS_openat, AT_FDCWD, address(path), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return fd;
  long size = 0;
  while (text[size] != '\0') ++size;
  const long sent = raw(SYS_write, fd, address(text), size);
  raw(SYS_close, fd);
  return sent == size ? 0 : (sent < 0 ? sent : -EIO);
}

DROVER_IN_LAUNCH int helper_main(void* argument) {
  Launch* const launch = static_cast<Launch*>(argument);
  if (launch->map_user) {
    // Before the exec, which takes the new namespace's capabilities away. setgroups must be denied first (man 7 user_namespaces).
    if (const long error = write_map("/proc/self/setgroups", "deny"); error < 0 && error != -ENOENT)
      helper_failed(launch, "deny setgroups", error);
    if (const long error = write_map("/proc/self/uid_map", launch->uid_map); error < 0) helper_failed(launch, "map the user", error);
    if (const long error = write_map("/proc/self/gid_map", launch->gid_map); error < 0) helper_failed(launch, "map the group", error);
  }
  if (launch->probe_only) leave(0);
  // Sources first move above every target.
  const long floor = 3 + static_cast<long>(launch->fds_count);
  const long image = raw(SYS_fcntl, launch->image, F_DUPFD_CLOEXEC, floor);
  const long null = raw(SYS_fcntl, launch->null, F_DUPFD_CLOEXEC, floor);
  if (image < 0 || null < 0) helper_failed(launch, "copy descriptors", image < 0 ? image : null);
  long moved[Launch::kFdsMax];
  for (std::size_t i = 0; i < launch->fds_count; ++i)
    if ((moved[i] = raw(SYS_fcntl, launch->fds[i], F_DUPFD_CLOEXEC, floor)) < 0) helper_failed(launch, "copy descriptors", moved[i]);
  for (long target = 0; target < 3; ++target)
    if (const long error = raw(SYS_dup3, null, target, 0); error < 0) helper_failed(launch, "place descriptors", error);
  for (std::size_t i = 0; i < launch->fds_count; ++i)
    if (const long error = raw(SYS_dup3, moved[i], 3 + static_cast<long>(i), 0); error < 0)
      helper_failed(launch, "place descriptors", error);
  // A host's descriptors need not be close-on-exec. Kernels before 5.11: one by one.
  if (raw(SYS_close_range, floor, 0xffffffffL, CLOSE_RANGE_CLOEXEC) < 0)
    for (long fd = floor; fd < 4096; ++fd) raw(SYS_fcntl, fd, F_SETFD, FD_CLOEXEC);
  helper_failed(launch, "execute", raw(SYS_execveat, image, address(""), address(launch->argv), address(launch->env), AT_EMPTY_PATH));
  return 0;
}

DROVER_IN_LAUNCH void announce(Launch* launch, std::uint32_t phase) {
  launch->phase.store(phase, std::memory_order_release);
  raw(SYS_futex, address(&launch->phase), FUTEX_WAKE, 1);
}

/// Every signal but KILL and STOP is blocked here, by the mask it was born with: nobody's handler runs, Ctrl-C passes by.
DROVER_IN_LAUNCH int anchor_main(void* argument) {
  Launch* const launch = static_cast<Launch*>(argument);
  raw(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
  if (raw(SYS_getppid) != launch->supervisor) leave(0);  // dead before that line
  raw(SYS_prctl, PR_SET_NAME, address("drover-anchor"));
  raw(SYS_setsid);
  const pid_t helper = ::clone(helper_main, launch->helper_stack + Launch::kStackBytes, launch->clone_flags, launch);
  if (helper < 0) {
    launch->failed_errno = *__errno_location();
    launch->failed_step = "clone";
    announce(launch, 2);
    leave(0);
  }
  launch->helper = helper;
  if (launch->failed_step != nullptr) {
    raw(SYS_waitid, P_PID, helper, 0, WEXITED | __WALL);
    announce(launch, 2);
    leave(0);
  }
  announce(launch, 1);
  while (launch->phase.load(std::memory_order_acquire) == 1) raw(SYS_futex, address(&launch->phase), FUTEX_WAIT, 1, 0);
  // Copies of a host's descriptors would keep its sockets and locks alive.
  if (raw(SYS_close_range, 0, 0xffffffffL, 0) < 0)
    for (long fd = 0; fd < 65536; ++fd) raw(SYS_close, fd);
  raw(SYS_chdir, address("/"));
  raw(SYS_waitid, P_PID, helper, 0, WEXITED | __WALL);
  leave(0);
  return 0;
}

void print_map(char (&text)[48], unsigned inside, unsigned outside) {
  const std::string line = std::to_string(inside) + " " + std::to_string(outside) + " 1";
  DROVER_ASSERT(line.size() < sizeof text);
  line.copy(text, line.size());
}

/// Of a dead process; nothing happens unless it is our child.
void reap_child(const PidFd& child) {
  siginfo_t info{};
  while (::syscall(SYS_waitid, P_PIDFD, child.fd(), &info, WEXITED | WNOHANG | __WALL, nullptr) != 0 && errno == EINTR) {
  }
}

Result<Launch*> make_launch(HelperNamespaces namespaces) {
  void* memory = ::mmap(nullptr, sizeof(Launch), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return fail_errno(errno, "start a helper");
  auto* launch = new (memory) Launch;
  launch->supervisor = ::getpid();
  launch->clone_flags = CLONE_VM | CLONE_VFORK | SIGCHLD;
  if (namespaces != HelperNamespaces::none) launch->clone_flags |= CLONE_NEWPID;
  if (namespaces == HelperNamespaces::user_and_pid || namespaces == HelperNamespaces::root_in_user_and_pid) {
    const bool root = namespaces == HelperNamespaces::root_in_user_and_pid;
    launch->clone_flags |= CLONE_NEWUSER;
    launch->map_user = true;
    print_map(launch->uid_map, root ? 0 : ::geteuid(), ::geteuid());
    print_map(launch->gid_map, root ? 0 : ::getegid(), ::getegid());
  }
  return launch;
}

void free_launch(Launch* launch) { ::munmap(launch, sizeof(Launch)); }

/// A child of ours that runs `body` in our memory. Its mask blocks everything; ours is put back at once.
Result<PidFd> clone_here(int (*body)(void*), Launch* launch) {
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  int pidfd = -1;
  const pid_t pid = ::clone(body, launch->anchor_stack + Launch::kStackBytes, CLONE_VM | CLONE_PIDFD, launch, &pidfd);  // exit signal 0
  const int error = errno;
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (pid < 0) return fail_errno(error, "start a helper");
  return PidFd(UniqueFd(pidfd));
}

/// Waits until `phase` is not 0; false when the deadline came or the anchor died first. The anchor's one call into libc
/// (clone) reports through errno, and its errno is this thread's: nothing here may set it, hence raw.
bool wait_phase(Launch* launch, const PidFd& anchor, TimePoint deadline) {
  while (launch->phase.load(std::memory_order_acquire) == 0) {
    pollfd death{anchor.fd(), POLLIN, 0};
    const timespec look{};
    const bool dead = raw(SYS_ppoll, address(&death), 1, address(&look)) > 0;
    if (dead || system_clock().now() >= deadline) return launch->phase.load(std::memory_order_acquire) != 0;
    const timespec at_most{.tv_sec = 0, .tv_nsec = 50'000'000};  // an anchor that is killed rings nobody
    raw(SYS_futex, address(&launch->phase), FUTEX_WAIT, 0, address(&at_most));
  }
  return true;
}

}  // namespace

void HelperProcess::kill() const {
  if (helper_.valid()) (void)helper_.send(SIGKILL);
}

bool HelperProcess::reap(TimePoint deadline) {
  if (launch_ == nullptr) return true;
  if (!helper_.wait_dead(deadline) || !anchor_.wait_dead(deadline)) return false;
  reap_child(anchor_);
  reap_child(helper_);  // ours by adoption if the anchor died first and this process is a subreaper, or PID 1 of a container
  free_launch(std::exchange(launch_, nullptr));
  return true;
}

Result<HelperProcess> start_helper(const HelperStart& start, TimePoint deadline) {
  DROVER_ASSERT(start.fds.size() <= Launch::kFdsMax, start.fds.size());
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null) return fail_errno(errno, "start a helper: open '/dev/null'");
  std::vector<char*> argv;
  for (const std::string& argument : start.argv) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  char* env[] = {nullptr};
  DROVER_TRY(Launch* const launch, make_launch(start.namespaces));
  launch->image = start.image;
  launch->null = null.get();
  launch->fds = start.fds.data();
  launch->fds_count = start.fds.size();
  launch->argv = argv.data();
  launch->env = env;
  auto anchor = clone_here(anchor_main, launch);
  if (!anchor) {
    free_launch(launch);
    return std::unexpected(std::move(anchor).error());
  }
  if (!wait_phase(launch, *anchor, deadline)) {
    (void)anchor->send(SIGKILL);
    // Its memory is ours to give back only when it is surely gone; argv and fds are not read any more once it is dead.
    if (anchor->wait_dead(after(system_clock().now(), Seconds(5)))) {
      reap_child(*anchor);
      free_launch(launch);
    }
    return fail(ErrorCode::timed_out, "start a helper: it did not come up in time");
  }
  if (launch->phase.load(std::memory_order_acquire) == 2) {
    const int why = launch->failed_errno;
    const std::string what = std::string("start a helper: ") + launch->failed_step;
    const bool in_clone = launch->helper == 0;
    anchor->wait_dead(kNever);  // it has called exit
    reap_child(*anchor);
    free_launch(launch);
    // From clone also: EINVAL, ENOSYS, ENOSPC and EUSERS where namespaces are not built in or used up.
    if (why == EPERM || why == EACCES || (in_clone && (why == EINVAL || why == ENOSYS || why == ENOSPC || why == EUSERS)))
      return fail(ErrorCode::refused, Error::from_errno(why, what).what());
    return fail_errno(why, what);
  }
  HelperProcess helper;
  helper.pid_ = launch->helper;
  auto pidfd = PidFd::open(launch->helper);  // it cannot be reaped before we say so: the number is still its own
  helper.anchor_ = std::move(*anchor);
  helper.launch_ = launch;
  launch->phase.store(3, std::memory_order_release);
  ::syscall(SYS_futex, &launch->phase, FUTEX_WAKE, 1, nullptr, nullptr, 0);
  if (!pidfd) {
    (void)helper.anchor_.send(SIGKILL);
    return std::unexpected(std::move(pidfd).error());
  }
  helper.helper_ = std::move(*pidfd);
  return helper;
}

LimitLayer probe_containment() {
  for (const HelperNamespaces namespaces : {HelperNamespaces::pid, HelperNamespaces::user_and_pid}) {
    auto launch = make_launch(namespaces);
    if (!launch) break;
    (*launch)->probe_only = true;
    auto anchor = clone_here(anchor_main, *launch);
    if (!anchor) {
      free_launch(*launch);
      break;
    }
    const bool works =
        wait_phase(*launch, *anchor, after(system_clock().now(), Seconds(5))) && (*launch)->phase.load(std::memory_order_acquire) == 1;
    (*launch)->phase.store(3, std::memory_order_release);
    ::syscall(SYS_futex, &(*launch)->phase, FUTEX_WAKE, 1, nullptr, nullptr, 0);
    if (anchor->wait_dead(after(system_clock().now(), Seconds(5)))) {
      reap_child(*anchor);
      free_launch(*launch);
    }
    if (works) return namespaces == HelperNamespaces::pid ? LimitLayer::pid_namespace : LimitLayer::user_pid_namespace;
  }
  return LimitLayer::absent;
}

}  // namespace drover
