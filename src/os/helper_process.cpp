#include "os/helper_process.hpp"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
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
namespace {

constexpr std::size_t kFdsMax = 8;
constexpr std::size_t kStackBytes = 64 * 1024;

/// Read by the new process between clone and exec. It shares our memory and, while it runs, our calling thread sleeps: it must
/// not allocate, lock, or call into anything that keeps state. System calls are made by number so that no sanitizer takes its
/// close() for ours.
struct Launch {
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
  const char* volatile failed_step = nullptr;
  volatile int failed_errno = 0;
};

#define DROVER_NO_SANITIZE __attribute__((no_sanitize("address", "thread", "undefined"), noinline))

DROVER_NO_SANITIZE int launch_failed(Launch* launch, const char* step) {
  launch->failed_errno = errno;
  launch->failed_step = step;
  syscall(SYS_exit_group, 127);
  __builtin_unreachable();
}

DROVER_NO_SANITIZE bool write_map(const char* path, const char* text) {
  const long fd = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CLOEXEC, 0);
  if (fd < 0) return false;
  std::size_t size = 0;
  while (text[size] != '\0') ++size;
  const long sent = syscall(SYS_write, fd, text, size);
  const int error = errno;
  syscall(SYS_close, fd);
  errno = error;
  return sent == static_cast<long>(size);
}

DROVER_NO_SANITIZE int launch_child(void* argument) {
  Launch* const launch = static_cast<Launch*>(argument);
  if (launch->map_user) {
    // Before the exec, which takes the new namespace's capabilities away. setgroups must be denied first (man 7 user_namespaces).
    if (!write_map("/proc/self/setgroups", "deny") && errno != ENOENT) return launch_failed(launch, "deny setgroups");
    if (!write_map("/proc/self/uid_map", launch->uid_map)) return launch_failed(launch, "map the user");
    if (!write_map("/proc/self/gid_map", launch->gid_map)) return launch_failed(launch, "map the group");
  }
  if (launch->probe_only) {
    syscall(SYS_exit_group, 0);
    __builtin_unreachable();
  }
  // Sources first move above every target.
  const long floor = 3 + static_cast<long>(launch->fds_count);
  const long image = syscall(SYS_fcntl, launch->image, F_DUPFD_CLOEXEC, floor);
  const long null = syscall(SYS_fcntl, launch->null, F_DUPFD_CLOEXEC, floor);
  long moved[kFdsMax];
  if (image < 0 || null < 0) return launch_failed(launch, "copy descriptors");
  for (std::size_t i = 0; i < launch->fds_count; ++i)
    if ((moved[i] = syscall(SYS_fcntl, launch->fds[i], F_DUPFD_CLOEXEC, floor)) < 0) return launch_failed(launch, "copy descriptors");
  for (long target = 0; target < 3; ++target)
    if (syscall(SYS_dup3, null, target, 0) < 0) return launch_failed(launch, "place descriptors");
  for (std::size_t i = 0; i < launch->fds_count; ++i)
    if (syscall(SYS_dup3, moved[i], 3 + static_cast<long>(i), 0) < 0) return launch_failed(launch, "place descriptors");
  // A host's descriptors need not be close-on-exec. Kernels before 5.11: one by one.
  if (syscall(SYS_close_range, static_cast<unsigned>(floor), ~0u, CLOSE_RANGE_CLOEXEC) != 0)
    for (long fd = floor; fd < 1024; ++fd) syscall(SYS_fcntl, fd, F_SETFD, FD_CLOEXEC);
  syscall(SYS_execveat, image, "", launch->argv, launch->env, AT_EMPTY_PATH);
  return launch_failed(launch, "execute");
}

void print_map(std::array<char, 48>& text, unsigned id) {
  const std::string line = std::to_string(id) + " " + std::to_string(id) + " 1";
  DROVER_ASSERT(line.size() < text.size());
  line.copy(text.data(), line.size());
}

Result<HelperProcess> launch_helper(Launch& launch, HelperNamespaces namespaces) {
  void* stack = ::mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
  if (stack == MAP_FAILED) return fail_errno(errno, "start a helper");

  int flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD;  // exit signal 0
  if (namespaces != HelperNamespaces::none) flags |= CLONE_NEWPID;
  if (namespaces == HelperNamespaces::user_and_pid) {
    flags |= CLONE_NEWUSER;
    launch.map_user = true;
    std::array<char, 48> text{};
    print_map(text, ::geteuid());
    std::copy(text.begin(), text.end(), launch.uid_map);
    text.fill(0);
    print_map(text, ::getegid());
    std::copy(text.begin(), text.end(), launch.gid_map);
  }
  // No handler of the host may run in the child, in our memory: signals wait until the clone has returned. The mask is the
  // calling thread's and is put back; the helper resets its own.
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  int raw_pidfd = -1;
  const pid_t pid = ::clone(launch_child, static_cast<std::byte*>(stack) + kStackBytes, flags, &launch, &raw_pidfd);
  const int error = errno;
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  ::munmap(stack, kStackBytes);

  if (pid < 0) {
    if (error == EPERM || error == EINVAL || error == ENOSPC || error == ENOSYS || error == EUSERS)  // ENOSPC, EUSERS: namespace limits
      return fail(ErrorCode::refused, "start a helper: " + Error::from_errno(error, "clone").what());
    return fail_errno(error, "start a helper");
  }
  HelperProcess helper{PidFd(UniqueFd(raw_pidfd)), pid};
  if (launch.failed_step != nullptr) {
    reap_helper(helper.pidfd, kNever);  // it has called exit already
    const int why = launch.failed_errno;
    const std::string what = std::string("start a helper: ") + launch.failed_step;
    if (why == EPERM || why == EACCES) return fail(ErrorCode::refused, Error::from_errno(why, what).what());
    return fail_errno(why, what);
  }
  return helper;
}

}  // namespace

Result<HelperProcess> start_helper(const HelperStart& start) {
  DROVER_ASSERT(start.fds.size() <= kFdsMax, start.fds.size());
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null) return fail_errno(errno, "start a helper: open '/dev/null'");
  std::vector<char*> argv;
  for (const std::string& argument : start.argv) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  char* env[] = {nullptr};
  Launch launch;
  launch.image = start.image;
  launch.null = null.get();
  launch.fds = start.fds.data();
  launch.fds_count = start.fds.size();
  launch.argv = argv.data();
  launch.env = env;
  return launch_helper(launch, start.namespaces);
}

bool reap_helper(const PidFd& helper, TimePoint deadline) {
  if (!helper.wait_dead(deadline)) return false;
  siginfo_t info{};
  // __WALL: it has no exit signal. Dead but not yet a zombie for all its threads is not possible: the pidfd says the group.
  while (::syscall(SYS_waitid, P_PIDFD, helper.fd(), &info, WEXITED | __WALL, nullptr) != 0 && errno == EINTR) {
  }
  return true;
}

LimitLayer probe_containment() {
  for (const HelperNamespaces namespaces : {HelperNamespaces::pid, HelperNamespaces::user_and_pid}) {
    Launch launch;
    launch.probe_only = true;
    auto child = launch_helper(launch, namespaces);
    if (!child) continue;
    reap_helper(child->pidfd, system_clock().now() + Seconds(5));
    return namespaces == HelperNamespaces::pid ? LimitLayer::pid_namespace : LimitLayer::user_pid_namespace;
  }
  return LimitLayer::absent;
}

}  // namespace drover
