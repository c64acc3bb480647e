#include "os/seccomp_filter.hpp"

#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <memory>

#include "os/unique_fd.hpp"

namespace drover {
namespace {

/// Not among them: what keeps memory that no process has mapped and no limit of a process counts (memfd_create), or that outlives the run
/// (System V shared memory, semaphores and message queues).
constexpr const char* kAllowed[] = {
    // files
    "read", "write", "readv", "writev", "pread64", "pwrite64", "preadv", "pwritev", "preadv2", "pwritev2", "open", "openat", "close", "close_range", "creat", "lseek", "stat", "fstat", "lstat",
    "newfstatat", "statx", "statfs", "fstatfs", "access", "faccessat", "faccessat2", "readlink", "readlinkat", "getdents", "getdents64", "mkdir", "mkdirat", "rmdir", "unlink", "unlinkat", "rename",
    "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat", "chmod", "fchmod", "fchmodat", "chown", "fchown", "lchown", "fchownat", "umask", "utime", "utimes", "utimensat", "futimesat",
    "truncate", "ftruncate", "fallocate", "fsync", "fdatasync", "sync_file_range", "flock", "fcntl", "dup", "dup2", "dup3", "pipe", "pipe2", "chdir", "fchdir", "getcwd", "sendfile", "splice", "tee",
    "copy_file_range", "fadvise64", "readahead", "getxattr", "lgetxattr", "fgetxattr", "listxattr", "llistxattr", "flistxattr", "inotify_init", "inotify_init1", "inotify_add_watch",
    "inotify_rm_watch", "mknod", "mknodat",
    // waiting
    "poll", "ppoll", "select", "pselect6", "epoll_create", "epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "epoll_pwait2", "eventfd", "eventfd2", "timerfd_create", "timerfd_settime",
    "timerfd_gettime", "signalfd", "signalfd4",
    // memory
    "brk", "mmap", "munmap", "mprotect", "mremap", "madvise", "msync", "mincore", "mlock", "munlock", "mlock2", "mlockall", "munlockall", "membarrier", "pkey_alloc", "pkey_free",
    "pkey_mprotect", "get_mempolicy", "set_mempolicy", "mbind",
    // processes and threads
    "fork", "vfork", "execve", "execveat", "exit", "exit_group", "wait4", "waitid", "getpid", "getppid", "gettid", "getpgid", "getpgrp", "setpgid", "getsid", "setsid", "set_tid_address",
    "set_robust_list", "get_robust_list", "futex", "futex_waitv", "sched_yield", "sched_getaffinity", "sched_setaffinity", "sched_getparam", "sched_getscheduler", "sched_get_priority_max",
    "sched_get_priority_min", "sched_rr_get_interval", "getpriority", "rseq", "arch_prctl", "getrlimit", "getrusage", "times", "sysinfo", "uname", "getcpu", "kill", "tkill", "tgkill",
    "pidfd_open", "pidfd_send_signal",
    // signals
    "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "rt_sigpending", "rt_sigsuspend", "rt_sigtimedwait", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "sigaltstack", "pause", "alarm", "getitimer",
    "setitimer", "restart_syscall",
    // time
    "clock_gettime", "clock_getres", "clock_nanosleep", "gettimeofday", "nanosleep", "time", "timer_create", "timer_settime", "timer_gettime", "timer_getoverrun", "timer_delete",
    // identity
    "getuid", "geteuid", "getgid", "getegid", "getgroups", "getresuid", "getresgid", "capget",
    // a pair of sockets between a process and its own children
    "socketpair", "sendto", "recvfrom", "sendmsg", "recvmsg", "sendmmsg", "recvmmsg", "shutdown", "getsockopt", "setsockopt", "getsockname", "getpeername",
    "getrandom"};

constexpr const char* kKilled[] = {
    "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "pidfd_getfd", "kcmp", "mount", "umount2", "pivot_root", "chroot", "unshare", "setns", "open_tree", "move_mount", "fsopen",
    "fsconfig", "fsmount", "fspick", "mount_setattr", "bpf", "perf_event_open", "userfaultfd", "keyctl", "add_key", "request_key", "kexec_load", "kexec_file_load", "init_module", "finit_module",
    "delete_module", "reboot", "swapon", "swapoff", "open_by_handle_at", "name_to_handle_at", "iopl", "ioperm", "quotactl", "acct", "settimeofday", "clock_settime", "clock_adjtime", "adjtimex",
    "syslog", "lookup_dcookie", "nfsservctl", "vmsplice", "modify_ldt", "sethostname", "setdomainname", "vhangup", "fanotify_init", "migrate_pages", "move_pages"};

constexpr const char* kNotPermitted[] = {"setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setfsuid", "setfsgid", "setgroups", "capset", "setpriority", "ioprio_set", "sched_setparam",
                                         "sched_setscheduler", "sched_setattr", "setrlimit", "setxattr", "fsetxattr", "lsetxattr", "personality", "seccomp"};

/// New namespaces; and to be the sibling of who called: a child of the zygote's then, which waits for its own alone.
constexpr std::uint64_t kNoClone = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_PARENT;

/// Unknown names (another processor, an older library) are left to the default.
bool add(scmp_filter_ctx filter, std::uint32_t action, const char* name) {
  const int number = seccomp_syscall_resolve_name(name);
  return number == __NR_SCMP_ERROR || seccomp_rule_add(filter, action, number, 0) == 0;
}
bool add(scmp_filter_ctx filter, std::uint32_t action, int number, scmp_arg_cmp when) { return seccomp_rule_add_array(filter, action, number, 1, &when) == 0; }

}  // namespace

Result<std::vector<std::byte>> candidate_filter() {
  const std::unique_ptr<void, void (*)(scmp_filter_ctx)> owned(seccomp_init(SCMP_ACT_ERRNO(ENOSYS)), seccomp_release);
  const scmp_filter_ctx filter = owned.get();
  if (filter == nullptr) return fail(ErrorCode::unavailable, "seccomp: no filter can be made");
  bool done = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS) == 0 && seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2) == 0;
  for (const char* const name : kAllowed) done = done && add(filter, SCMP_ACT_ALLOW, name);
  for (const char* const name : kKilled) done = done && add(filter, SCMP_ACT_KILL_PROCESS, name);
  for (const char* const name : kNotPermitted) done = done && add(filter, SCMP_ACT_ERRNO(EPERM), name);
  // Threads and forks, no new namespace, no sibling.
  done = done && add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), SCMP_A0(SCMP_CMP_MASKED_EQ, kNoClone, 0));
  for (std::uint64_t bit = 1; bit != 0 && bit <= kNoClone; bit <<= 1)
    if ((kNoClone & bit) != 0) done = done && add(filter, SCMP_ACT_KILL_PROCESS, SCMP_SYS(clone), SCMP_A0(SCMP_CMP_MASKED_EQ, bit, bit));
  done = done && add(filter, SCMP_ACT_ERRNO(EAFNOSUPPORT), "socket");
  // Pushing characters into a terminal, and the console's own commands.
  for (const std::uint64_t request : {std::uint64_t{TIOCSTI}, std::uint64_t{0x541C} /* TIOCLINUX */, std::uint64_t{TIOCCONS}})
    done = done && add(filter, SCMP_ACT_KILL_PROCESS, SCMP_SYS(ioctl), SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffffU, request));
  for (const std::uint64_t request : {std::uint64_t{TCGETS}, std::uint64_t{TIOCGWINSZ}, std::uint64_t{FIONREAD}, std::uint64_t{FIONBIO}, std::uint64_t{FIOCLEX}, std::uint64_t{FIONCLEX}})
    done = done && add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffffU, request));
  // Reading its limits, not moving them; of prctl what sets names and death signals, not what loosens.
  done = done && add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), SCMP_A2(SCMP_CMP_EQ, 0)) && add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(prlimit64), SCMP_A2(SCMP_CMP_NE, 0));
  for (const std::uint64_t option : {std::uint64_t{1} /* PDEATHSIG */, std::uint64_t{3} /* GET_DUMPABLE */, std::uint64_t{15}, std::uint64_t{16} /* names */, std::uint64_t{21} /* GET_SECCOMP */,
                                     std::uint64_t{23} /* CAPBSET_READ */, std::uint64_t{39} /* GET_NO_NEW_PRIVS */, std::uint64_t{0x53564d41} /* names of mappings */})
    done = done && add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prctl), SCMP_A0(SCMP_CMP_EQ, option));
  if (!done) return fail(ErrorCode::system, "seccomp: a rule was refused");

  const UniqueFd file(::memfd_create("drover-seccomp", MFD_CLOEXEC));
  if (!file) return fail_errno(errno, "seccomp");
  if (const int error = seccomp_export_bpf(filter, file.get()); error != 0) return fail_errno(-error, "seccomp: export");
  struct stat kind {};
  if (::fstat(file.get(), &kind) != 0) return fail_errno(errno, "seccomp");
  std::vector<std::byte> program(static_cast<std::size_t>(kind.st_size));
  if (::pread(file.get(), program.data(), program.size(), 0) != static_cast<ssize_t>(program.size())) return fail_errno(errno, "seccomp: read");
  return program;
}

}  // namespace drover
