// A hostile program of many deeds, for the sandbox: does what it is told by name and says on stdout how it went, "errno N" or "done".
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sched.h>
#include <string>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <ctime>
#include <unistd.h>

namespace {

int say(long result) {
  if (result < 0) std::printf("errno %d\n", errno);
  else std::printf("done\n");
  std::fflush(stdout);
  return 0;
}

[[noreturn]] void spin() {
  for (;;) asm volatile("");
}

int abstract_socket() {
  const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
  if (fd < 0) return -1;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, "\0drover-evil", 12);
  return ::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(sa_family_t) + 12);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string deed = argc > 1 ? argv[1] : "";
  const char* const argument = argc > 2 ? argv[2] : "";
  if (deed == "open_read") return say(::open(argument, O_RDONLY));
  if (deed == "open_write") return say(::open(argument, O_WRONLY | O_CREAT, 0600));
  if (deed == "unlink") return say(::unlink(argument));
  if (deed == "chmod_suid") return say(::chmod(argv[0], 04755));
  if (deed == "mknod_disk") return say(::mknod("disk", S_IFBLK | 0600, 8 << 8));
  if (deed == "inet_socket") return say(::socket(AF_INET, SOCK_STREAM, 0));
  if (deed == "netlink_socket") return say(::socket(AF_NETLINK, SOCK_RAW, 0));
  if (deed == "vsock") return say(::socket(40, SOCK_STREAM, 0));
  if (deed == "abstract_socket") return say(abstract_socket());
  if (deed == "ptrace") return say(::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr));
  if (deed == "ptrace_init") return say(::ptrace(PTRACE_ATTACH, 1, nullptr, nullptr));
  if (deed == "vm_read_init") return say(::syscall(SYS_process_vm_readv, 1, nullptr, 0, nullptr, 0, 0));
  if (deed == "mount") return say(::mount("none", "/w", "tmpfs", 0, nullptr));
  if (deed == "umount") return say(::umount2("/proc", MNT_DETACH));
  if (deed == "unshare_user") return say(::unshare(CLONE_NEWUSER));
  if (deed == "clone_user") return say(::syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0));
  if (deed == "clone3") return say(::syscall(435, nullptr, 0));
  if (deed == "setns") return say(::setns(0, 0));
  if (deed == "chroot") return say(::chroot("/w"));
  if (deed == "bpf") return say(::syscall(SYS_bpf, 0, nullptr, 0));
  if (deed == "keyctl") return say(::syscall(SYS_keyctl, 0, 0, 0, 0, 0));
  if (deed == "userfaultfd") return say(::syscall(SYS_userfaultfd, 0));
  if (deed == "io_uring") return say(::syscall(425, 8, nullptr));
  if (deed == "perf") return say(::syscall(SYS_perf_event_open, nullptr, 0, -1, -1, 0));
  if (deed == "module") return say(::syscall(SYS_init_module, nullptr, 0, ""));
  if (deed == "reboot") return say(::syscall(SYS_reboot, 0, 0, 0, nullptr));
  if (deed == "tiocsti") return say(::ioctl(0, TIOCSTI, "x"));
  if (deed == "setuid_root") return say(::setuid(0));
  if (deed == "raise_limit") {
    const rlimit all{RLIM_INFINITY, RLIM_INFINITY};
    return say(::setrlimit(RLIMIT_NPROC, &all));
  }
  if (deed == "fchmodat2") return say(::syscall(452, AT_FDCWD, "x", 0777, 0));
  if (deed == "kill_init") return say(::kill(1, SIGKILL));
  if (deed == "kill_others") {
    ::signal(SIGTERM, SIG_IGN);
    return say(::kill(-1, SIGTERM));
  }
  if (deed == "hostname") return say(::sethostname("evil", 4));
  if (deed == "getuid") return std::printf("%u %u\n", ::getuid(), ::geteuid()), 0;
  if (deed == "no_new_privs") return std::printf("%d\n", ::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)), 0;
  if (deed == "count_fds") {
    int count = 0;
    for (int fd = 3; fd < 1024; ++fd) count += ::fcntl(fd, F_GETFD) != -1;
    return std::printf("%d\n", count), 0;
  }
  if (deed == "spin") spin();
  if (deed == "spin_ignoring_all") {
    for (int signal = 1; signal < 65; ++signal) ::signal(signal, SIG_IGN);
    spin();
  }
  if (deed == "spin_a_while") {  // 0.3 s of CPU time
    timespec used{};
    do {
      ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    } while (used.tv_sec == 0 && used.tv_nsec < 300'000'000);
    return say(0);
  }
  if (deed == "sleep") for (;;) ::pause();
  if (deed == "stop_self") {
    ::raise(SIGSTOP);
    spin();
  }
  if (deed == "abort") std::abort();
  if (deed == "segv") return *static_cast<volatile int*>(nullptr);
  if (deed == "exit") return std::atoi(argument);
  if (deed == "memory") {  // touched, one child after the other if a limit stops the first
    for (;;) {
      auto* const block = static_cast<char*>(std::malloc(16 << 20));
      if (block == nullptr) {
        if (::fork() >= 0) continue;
        ::pause();
      }
      std::memset(block, 1, 16 << 20);
    }
  }
  if (deed == "tmpfs_memory") {
    const int fd = ::open("big", O_WRONLY | O_CREAT, 0600);
    static char block[1 << 20];
    std::memset(block, 1, sizeof block);
    ::signal(SIGXFSZ, SIG_IGN);
    for (;;)
      if (::write(fd, block, sizeof block) < 0) return say(-1);
  }
  if (deed == "inodes") {
    for (int i = 0;; ++i)
      if (const int fd = ::open(("f" + std::to_string(i)).c_str(), O_WRONLY | O_CREAT, 0600); fd < 0) return say(-1);
      else ::close(fd);
  }
  if (deed == "flood") {
    static char block[1 << 16];
    std::memset(block, 'x', sizeof block);
    for (;;)
      if (::write(1, block, sizeof block) < 0) return 1;
  }
  if (deed == "fork_bomb") {
    for (;;)
      if (::fork() < 0 && errno == ENOSYS) return 9;
  }
  if (deed == "forks") {
    int count = 0;
    for (; count < 100; ++count) {
      const pid_t child = ::fork();
      if (child < 0) return say(-1);
      if (child == 0)
        for (;;) ::pause();
    }
    return say(0);
  }
  if (deed == "cpu_by_forks" || deed == "cpu_by_forgotten_forks") {  // no process lives long enough for a limit of its own
    if (deed == "cpu_by_forgotten_forks") ::signal(SIGCHLD, SIG_IGN);  // and the kernel adds what they used to nobody's account
    for (;;) {
      const pid_t child = ::fork();
      if (child == 0) {
        for (volatile std::uint64_t i = 0; i < 20'000'000; i = i + 1) {
        }
        ::_exit(0);
      }
      ::waitpid(child, nullptr, 0);
    }
  }
  if (deed == "undumpable") {  // who executes what it may not read has its files in /proc belong to root
    if (::fork() != 0) for (;;) ::pause();
    if (::chmod(argv[0], 0111) != 0) return say(-1);
    ::execl(argv[0], argv[0], "memory", nullptr);
    return say(-1);
  }
  if (deed == "sibling") {  // a child of its parent's
    const long child = ::syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
    if (child == 0) for (;;) ::pause();
    return say(child);
  }
  if (deed == "daemon") {  // leaves a daemon behind and ends well
    if (::fork() == 0) {
      ::setsid();
      if (::fork() == 0) {
        ::close(1);
        ::close(2);
        for (;;) ::pause();
      }
      ::_exit(0);
    }
    ::wait(nullptr);
    return say(0);
  }
  if (deed == "write_state") {  // for the next run to find
    (void)!::mkdir("d", 0700);
    return say(::open("d/state", O_WRONLY | O_CREAT, 0600));
  }
  std::fprintf(stderr, "candidate: unknown deed '%s'\n", deed.c_str());
  return 2;
}
