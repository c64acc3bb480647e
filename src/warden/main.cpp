/// The warden: PID 1 of a sandbox. It builds a root of read-only binds once, then runs one hostile program at a time in it, each on a
/// fresh tmpfs and under a uid of its own, watches what all its processes use together, and answers when the last of them is dead and
/// reaped. Nothing a candidate does reaches it but by the kernel: they share no descriptor, no memory and no writable file.
///
/// It ends when its owner is dead or hung up; then the kernel kills its namespace. One thread, poll(), no allocation, no C++ library.
///
/// Where there are no namespaces (profile container) it is a subreaper instead of PID 1, its runs work in a directory of the host, landlock is
/// what hides the rest of the files, and a run is told from the rest of the host by its uid alone: all of that uid are killed, nobody else is.
///
/// Knowledge: man 7 pid_namespaces, mount_namespaces, landlock, capabilities; man 2 seccomp, mount_setattr, pivot_root.

#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "os/bare.hpp"
#include "wire/keeper_message.hpp"
#include "wire/warden_message.hpp"

namespace {

using namespace drover;
using namespace drover::wire;
namespace layer = warden_layer;

constexpr std::int64_t kLookNs = 10'000'000, kKillPatienceNs = 5'000'000'000;
constexpr int kHandleTree = 1 | 0x80000;  // OPEN_TREE_CLONE | O_CLOEXEC
constexpr std::uint64_t kAttrReadOnly = 1, kAttrNoSuid = 2, kAttrNoDev = 4;
constexpr std::size_t kFilterMax = 4096, kPathMax = 560;  // a home, a slash, a name
constexpr int kLastCapability = 63;

// Of the kernel's headers, which are older here than the kernel may be.
enum SystemCall : long { kOpenTree = 428, kMoveMount = 429, kMountSetattr = 442, kLandlockCreate = 444, kLandlockAdd = 445, kLandlockRestrict = 446 };
struct MountAttributes {
  std::uint64_t set = 0, clear = 0, propagation = 0, userns_fd = 0;
};
struct LandlockRuleset {
  std::uint64_t fs = 0, net = 0, scoped = 0;
};
struct clone_args_t {
  std::uint64_t flags = 0, pidfd = 0, child_tid = 0, parent_tid = 0, exit_signal = 0, stack = 0, stack_size = 0, tls = 0, set_tid = 0, set_tid_size = 0, cgroup = 0;
};
struct __attribute__((packed)) LandlockBeneath {
  std::uint64_t allowed;
  std::int32_t parent;
};
constexpr std::uint64_t kFsExecute = 1, kFsWriteFile = 2, kFsReadFile = 4, kFsReadDir = 8;

struct Warden {
  WardenSetup setup;
  std::uint32_t layers = 0;
  int deaths = -1;
  int ruleset = -1;
  sock_filter filter[kFilterMax] = {};
  std::size_t filter_count = 0;
  std::uint32_t runs = 0;
  bool tmpfs = false;  // one is mounted on /w
  std::uint64_t tmpfs_bytes = 0, tmpfs_inodes = 0;
  pid_t zygote = 0;    // 0: none, or it has died
  int zygote_socket = -1;
  int self = -1;       // pidfd of this process
  char home[256] = "/w";  // where runs work
  std::uint32_t uid = 0;  // of the run
};
constinit Warden warden;

bool uses(std::uint32_t one) { return (warden.setup.leave_out & one) == 0; }
bool has(std::uint32_t one) { return (warden.layers & one) != 0; }
bool in_namespaces() { return warden.setup.home == 0; }
[[noreturn]] void leave();

void send_reply(const WardenReply& reply, int fd = -1) {
  while (bare::send_message(kWardenSocketFd, &reply, sizeof reply, fd) != 0) {
    if (errno != EAGAIN && errno != ENOBUFS && errno != ENOMEM) leave();
    pollfd room{kWardenSocketFd, POLLOUT, 0};
    poll(&room, 1, 100);
  }
}

void fail_run(std::uint32_t number, WardenStep step, int error) {
  WardenReply reply;
  reply.kind = WardenKind::failed;
  reply.number = number;
  reply.step = step;
  reply.error = error;
  send_reply(reply);
}

[[noreturn]] void give_up(WardenStep step) {
  fail_run(0, step, errno);
  _exit(1);
}

// ---------------------------------------------------------------------------------------------------- the root

/// 0: this kernel has none.
long landlock_abi() {
  const long abi = syscall(kLandlockCreate, nullptr, 0, 1);
  return abi < 1 ? 0 : abi;
}

void make_parents(char* path) {
  for (char* at = path + 1; *at != '\0'; ++at)
    if (*at == '/') {
      *at = '\0';
      mkdir(path, 0755);
      *at = '/';
    }
}

/// Binds and links, on a tmpfs that becomes the root. Sources are opened first: the tmpfs hides what lies under it.
void build_root(const char** strings) {
  static int trees[kWardenStringsMax / 2];
  if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) give_up(WardenStep::root);
  for (std::uint32_t i = 0; i < warden.setup.binds; ++i) {
    trees[i] = -1;
    if (strings[2 * i][0] == '@') continue;
    trees[i] = static_cast<int>(syscall(kOpenTree, AT_FDCWD, strings[2 * i], kHandleTree | AT_RECURSIVE));
    if (trees[i] < 0) give_up(WardenStep::binds);
    const bool device = strncmp(strings[2 * i + 1], "/dev/", 5) == 0;
    const MountAttributes attributes{.set = kAttrNoSuid | (uses(layer::kReadOnlyRoot) ? kAttrReadOnly : 0) | (device ? 0 : kAttrNoDev)};
    if (syscall(kMountSetattr, trees[i], "", AT_EMPTY_PATH | AT_RECURSIVE, &attributes, sizeof attributes) != 0) give_up(WardenStep::binds);
  }
  if (mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,nr_inodes=1k,mode=755") != 0 || chdir("/tmp") != 0) give_up(WardenStep::root);
  for (std::uint32_t i = 0; i < warden.setup.binds; ++i) {
    char path[4096] = ".";
    if (strlen(strings[2 * i + 1]) > sizeof path - 2) give_up(WardenStep::binds);
    strcpy(path + 1, strings[2 * i + 1]);
    make_parents(path);
    if (trees[i] < 0) {
      if (symlink(strings[2 * i] + 1, path) != 0) give_up(WardenStep::binds);
      continue;
    }
    struct stat kind{};
    if (fstat(trees[i], &kind) != 0) give_up(WardenStep::binds);
    const int made = S_ISDIR(kind.st_mode) ? mkdir(path, 0755) : mknod(path, S_IFREG | 0644, 0);
    if (made != 0 && errno != EEXIST) give_up(WardenStep::binds);
    if (syscall(kMoveMount, trees[i], "", AT_FDCWD, path, 4 /* MOVE_MOUNT_F_EMPTY_PATH */) != 0) give_up(WardenStep::binds);
    close(trees[i]);
  }
  if ((mkdir("w", 0755) != 0) | (mkdir("proc", 0755) != 0) | (mkdir("dev", 0755) != 0 && errno != EEXIST) | (symlink("w", "tmp") != 0) | (symlink("/w", "dev/shm") != 0))
    give_up(WardenStep::root);
  if (syscall(SYS_pivot_root, ".", ".") != 0 || umount2(".", MNT_DETACH) != 0 || chdir("/") != 0) give_up(WardenStep::root);
  warden.layers |= layer::kMountNamespace;
  // Only its own processes are there for a candidate (hidepid), all for us. Where /proc may not be mounted, limits are the rlimits.
  if (uses(layer::kProc) && mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, "hidepid=2") == 0) warden.layers |= layer::kProc;
  if (uses(layer::kReadOnlyRoot)) {
    if (mount(nullptr, "/", nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV, nullptr) != 0) give_up(WardenStep::root);
    warden.layers |= layer::kReadOnlyRoot;
  }
}

/// A second lock on the same doors: writing below /w and to devices, reading and executing elsewhere. False: errno.
const char* blob_strings[2 * kWardenStringsMax + kWardenFilesMax + 8];  // of the setup, then of the run
bool make_ruleset() {
  const long abi = landlock_abi();
  std::uint64_t all = (1u << 13) - 1;
  if (abi >= 2) all |= 1u << 13;
  if (abi >= 3) all |= 1u << 14;
  const std::uint64_t handled = abi >= 5 ? all | 1u << 15 : all;  // ioctl on devices: nowhere
  const LandlockRuleset rules{.fs = handled, .net = abi >= 4 ? 3u : 0u, .scoped = abi >= 6 ? 3u : 0u};
  warden.ruleset = static_cast<int>(syscall(kLandlockCreate, &rules, sizeof rules, 0));
  const auto allow = [](const char* path, std::uint64_t what) {
    const int parent = open(path, O_PATH | O_CLOEXEC);
    if (parent < 0) return false;
    const LandlockBeneath beneath{what, parent};
    const bool done = syscall(kLandlockAdd, warden.ruleset, 1, &beneath, 0) == 0;
    close(parent);
    return done;
  };
  const std::uint64_t read = kFsExecute | kFsReadFile | kFsReadDir;
  if (warden.ruleset < 0 || !allow(warden.home, all)) return false;
  if (in_namespaces()) return allow("/", read) && allow("/dev", read | kFsWriteFile);
  for (std::uint32_t i = 0; i < warden.setup.binds; ++i) {  // the host's own root is around us: what would be bound is what may be seen
    const char* const path = blob_strings[2 * i + 1];
    struct stat kind{};
    if (stat(path, &kind) != 0) continue;
    const std::uint64_t device = strncmp(path, "/dev/", 5) == 0 ? kFsWriteFile : 0;
    if (!allow(path, S_ISDIR(kind.st_mode) ? read : (kFsExecute | kFsReadFile | device))) return false;
  }
  return true;
}

void take_filter(int fd) {
  const ssize_t size = pread(fd, warden.filter, sizeof warden.filter, 0);
  if (size <= 0 || static_cast<std::size_t>(size) % sizeof(sock_filter) != 0 || static_cast<std::uint32_t>(size) != warden.setup.filter_bytes) give_up(WardenStep::seccomp);
  warden.filter_count = static_cast<std::size_t>(size) / sizeof(sock_filter);
  if (uses(layer::kSeccomp)) warden.layers |= layer::kSeccomp;
}

// ---------------------------------------------------------------------------------------------------- looking

struct Usage {
  std::int64_t cpu_ns = 0;
  std::uint64_t rss_bytes = 0;
  std::uint32_t processes = 0;
  std::uint64_t threads = 0;
  std::int64_t starved_ns = 0;  ///< the most that one of them waited for a core; looked at when asked for
};

/// Calls `visit(name)` for each entry; false as soon as that is, or when the directory cannot be read.
template <class Visit>
bool each_entry(int directory, const Visit& visit) {
  alignas(8) char entries[8192];
  for (;;) {
    const long got = syscall(SYS_getdents64, directory, entries, sizeof entries);
    if (got <= 0) return got == 0;
    for (long at = 0; at < got;) {
      std::uint16_t length = 0;
      memcpy(&length, entries + at + 16, sizeof length);
      const char* const name = entries + at + 19;
      at += length;
      if (!visit(name)) return false;
    }
  }
}

/// The beginning of a file of a process.
bool read_proc(int directory, const char* process, const char* name, char (&text)[1024]) {
  char path[64];
  bare::append_text(bare::append_text(path, process), name);
  const int file = openat(directory, path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return false;
  const ssize_t size = read(file, text, sizeof text - 1);
  close(file);
  text[size > 0 ? size : 0] = '\0';
  return size > 0;
}

/// The digits `text` begins with; what follows them does not matter. -1: none.
std::int64_t number_at(const char* text) {
  if (text == nullptr || *text < '0' || *text > '9') return -1;
  std::int64_t value = 0;
  for (; *text >= '0' && *text <= '9' && value < INT64_MAX / 20; ++text) value = value * 10 + (*text - '0');
  return value;
}

/// Whether it is of the run, where the rest of the host is in the same /proc. The owner of its directory is its uid, or root when it has made
/// itself undumpable.
bool is_of_run(int directory, const char* name) {
  struct stat owner{};
  if (fstatat(directory, name, &owner, 0) != 0) return false;
  if (owner.st_uid == warden.uid) return true;
  if (owner.st_uid != 0) return false;
  char text[1024];
  if (!read_proc(directory, name, "/status", text)) return false;
  const char* const uid = strstr(text, "\nUid:\t");
  return uid != nullptr && number_at(uid + 6) == static_cast<std::int64_t>(warden.uid);
}

/// Of all processes but us: those that live, and those they waited for.
Usage look(bool starved = false) {
  Usage usage;
  const int directory = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) return usage;
  static const long ticks = sysconf(_SC_CLK_TCK), page = sysconf(_SC_PAGESIZE);
  each_entry(directory, [&](const char* name) {
    if (name[0] < '0' || name[0] > '9' || (in_namespaces() && name[0] == '1' && name[1] == '\0')) return true;
    if (warden.zygote != 0 && bare::parse_number(name) == warden.zygote) return true;
    if (!in_namespaces() && !is_of_run(directory, name)) return true;
    char text[1024];
    if (!read_proc(directory, name, "/stat", text)) return true;
    const char* field = strrchr(text, ')');
    if (field == nullptr) return true;
    // After the name: state is field 3; utime 14, stime 15, cutime 16, cstime 17, num_threads 20, rss 24 (man 5 proc).
    std::uint64_t value[25] = {};
    int number = 2;
    for (const char* c = field; *c != '\0' && number < 25; ++c) {
      if (*c == ' ') ++number;
      else if (*c >= '0' && *c <= '9') value[number] = value[number] * 10 + static_cast<std::uint64_t>(*c - '0');
    }
    usage.cpu_ns += static_cast<std::int64_t>(value[14] + value[15] + value[16] + value[17]) * (1'000'000'000 / ticks);
    usage.rss_bytes += value[24] * static_cast<std::uint64_t>(page);
    usage.threads += value[20];
    ++usage.processes;
    // Run delay is the second of its numbers (kernel: sched-stats.rst).
    if (starved && read_proc(directory, name, "/schedstat", text)) {
      const char* const delay = strchr(text, ' ');
      if (const std::int64_t waited = delay != nullptr ? number_at(delay + 1) : 0; waited > usage.starved_ns) usage.starved_ns = waited;
    }
    return true;
  });
  close(directory);
  return usage;
}

// ---------------------------------------------------------------------------------------------------- a run

/// Removes what is in `directory`; directories that are not empty have their children moved up into /w, so that no nesting is too deep.
/// False: something would not go.
bool empty_once(int root, int directory, std::uint32_t& found, std::uint32_t& moved) {
  return each_entry(directory, [&](const char* name) {
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) return true;
    ++found;
    if (unlinkat(directory, name, 0) == 0 || unlinkat(directory, name, AT_REMOVEDIR) == 0) return true;
    if (errno != ENOTEMPTY) return false;
    if (directory == root) {
      const int below = openat(root, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
      const bool done = below >= 0 && empty_once(root, below, found, moved);
      if (below >= 0) close(below);
      return done && unlinkat(root, name, AT_REMOVEDIR) == 0;
    }
    char up[32] = "moved-up-";
    bare::append_number(up + 9, moved++);
    return renameat(directory, name, root, up) == 0;
  });
}

/// The home as new: empty, of another owner. Unmounting a tmpfs and mounting the next made short runs a twentieth slower; that is the way only
/// when something would not go.
bool wiped(std::uint32_t uid) {
  const int root = open(warden.home, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (root < 0) return false;
  bool empty = false;
  std::uint32_t moved = 0;
  for (int pass = 0; pass < 10'000 && !empty; ++pass) {
    std::uint32_t found = 0;
    if (lseek(root, 0, SEEK_SET) != 0 || !empty_once(root, root, found, moved)) break;
    empty = found == 0;  // seen to be, not believed
  }
  const bool done = empty && fchown(root, uid, uid) == 0 && fchmod(root, 0700) == 0;
  close(root);
  return done;
}

/// The directory a run works in, with nothing of the last one in it: a file system of its own size, where there are namespaces. False: errno.
bool fresh_home(const WardenRun& run, std::uint32_t uid) {
  if (!in_namespaces()) return wiped(uid);
  char options[160];
  char* end = bare::append_number(bare::append_text(options, "mode=700,size="), run.tmpfs_bytes);
  bare::append_number(bare::append_text(end, ",nr_inodes="), run.tmpfs_inodes);
  const bool same = run.tmpfs_bytes == warden.tmpfs_bytes && run.tmpfs_inodes == warden.tmpfs_inodes;
  if (warden.tmpfs && same && wiped(uid)) return true;
  if (warden.tmpfs && umount2("/w", MNT_DETACH) != 0) return false;
  warden.tmpfs = false;
  if (mount("tmpfs", "/w", "tmpfs", MS_NOSUID | MS_NODEV, options) != 0 || chown("/w", uid, uid) != 0) return false;
  warden.tmpfs = true;
  warden.tmpfs_bytes = run.tmpfs_bytes;
  warden.tmpfs_inodes = run.tmpfs_inodes;
  if (warden.ruleset >= 0) close(warden.ruleset);
  warden.ruleset = -1;  // it names the tmpfs
  return true;
}

/// The path of a file right in the home. False: the name is none for that.
bool path_in_home(const char* name, char (&path)[kPathMax]) {
  if (name[0] == '\0' || name[0] == '.' || strchr(name, '/') != nullptr || strlen(name) > 255) {
    errno = EINVAL;
    return false;
  }
  bare::append_text(bare::append_text(bare::append_text(path, warden.home), "/"), name);
  return true;
}

bool copy_in(const char* name, int from, std::uint32_t uid) {
  char path[kPathMax];
  if (!path_in_home(name, path)) return false;
  const int to = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0700);
  if (to < 0) return false;
  off_t at = 0;
  struct stat source{};
  ssize_t sent = fstat(from, &source);
  if (S_ISREG(source.st_mode))  // else it is /dev/null: nothing is in it
    while ((sent = sendfile(to, from, &at, 1u << 30)) > 0) {
    }
  const bool done = sent == 0 && (uid == 0 || fchown(to, uid, uid) == 0);
  close(to);
  return done;
}

struct ChildWord {
  WardenStep step;
  int error;
};

[[noreturn]] void child_failed(int words, WardenStep step) {
  const ChildWord word{step, errno};
  (void)!write(words, &word, sizeof word);
  _exit(127);
}

void limit(int words, __rlimit_resource_t resource, std::uint64_t value, std::uint64_t hard) {
  const rlimit both{value, hard};
  if (setrlimit(resource, &both) != 0) child_failed(words, WardenStep::rlimit);
}

/// Of all that a limit of memory holds for, the kernel is to kill the candidate's.
void offer_to_killer() {
  const int file = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (file < 0) return;
  (void)!write(file, "1000", 4);
  close(file);
}

[[noreturn]] void become_candidate(const WardenRun& run, const int* fds, char* const* argv, char* const* env, std::uint32_t uid, int words) {
  for (int i = 0; i < 3; ++i)
    if (dup2(fds[1 + i], i) < 0) child_failed(words, WardenStep::fds);
  // 3 and 4 are the warden's own here, so none of what came with the run.
  if (run.channel != 0 && dup2(fds[4 + run.files], 3) < 0) child_failed(words, WardenStep::fds);
  if (syscall(SYS_close_range, 3u + run.channel, ~0u, 4u /* CLOSE_RANGE_CLOEXEC */) != 0) child_failed(words, WardenStep::fds);
  setsid();
  if (chdir(warden.home) != 0) child_failed(words, WardenStep::tmpfs);
  umask(077);
  if (warden.setup.first_to_go != 0) offer_to_killer();
  const std::uint64_t seconds = static_cast<std::uint64_t>(run.cpu_ns / 1'000'000'000) + 2;
  limit(words, RLIMIT_CPU, seconds, seconds);  // the backstop of the look at all of them
  limit(words, RLIMIT_CORE, 0, 0);
  limit(words, RLIMIT_FSIZE, run.file_bytes, run.file_bytes);
  limit(words, RLIMIT_NOFILE, run.open_files, run.open_files);
  limit(words, RLIMIT_MEMLOCK, 65536, 65536);
  limit(words, RLIMIT_MSGQUEUE, 0, 0);
  if (run.stack_bytes != 0) limit(words, RLIMIT_STACK, run.stack_bytes, run.stack_bytes);
  if (run.address_bytes != 0) limit(words, RLIMIT_AS, run.address_bytes, run.address_bytes);
  if (uses(layer::kNoCapabilities))
    for (unsigned long capability = 0; capability <= kLastCapability; ++capability) prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
  if (uid != 0) {
    if (syscall(SYS_setgroups, 0, nullptr) != 0 || syscall(SYS_setresgid, uid, uid, uid) != 0 || syscall(SYS_setresuid, uid, uid, uid) != 0) child_failed(words, WardenStep::uid);
  }
  limit(words, RLIMIT_NPROC, run.processes, run.processes);
  if (uses(layer::kNoCapabilities)) {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct none[2] = {};
    if (syscall(SYS_capset, &header, none) != 0) child_failed(words, WardenStep::capabilities);
  }
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) child_failed(words, WardenStep::capabilities);
  if (has(layer::kLandlock)) {
    if (syscall(kLandlockRestrict, warden.ruleset, 0) != 0) child_failed(words, WardenStep::landlock);
  }
  (void)syscall(SYS_personality, 0x0040000);  // ADDR_NO_RANDOMIZE: some containers refuse it; then addresses differ from run to run
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  if (has(layer::kSeccomp)) {
    const sock_fprog program{static_cast<unsigned short>(warden.filter_count), warden.filter};
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0) child_failed(words, WardenStep::seccomp);
  }
  execve(argv[0], argv, env);
  child_failed(words, WardenStep::exec);
}

void drain_deaths() {
  signalfd_siginfo drained[8];
  while (read(warden.deaths, drained, sizeof drained) > 0) {
  }
}
void await_death() {
  pollfd death{warden.deaths, POLLIN, 0};
  poll(&death, 1, 20);
  drain_deaths();
}

struct Reaped {
  std::int64_t user_ns = 0, system_ns = 0;
  std::uint64_t rss_bytes = 0;
  std::uint32_t count = 0;
  pid_t helper = 0;          // kill_uid's
  bool helper_done = false;  // it has sent the signals
  bool helper_inherits = false;  // it is the run's PID 1: what its orphans used is in its account
  bool zygote_told = true;   // it has told the end of its child, or has none

  void add_times(const rusage& usage) {
    user_ns += std::int64_t{usage.ru_utime.tv_sec} * 1'000'000'000 + usage.ru_utime.tv_usec * 1000;
    system_ns += std::int64_t{usage.ru_stime.tv_sec} * 1'000'000'000 + usage.ru_stime.tv_usec * 1000;
  }
};

/// Reaps whoever is dead. True once `first` is among them; its end goes to `reply`. Our own helpers are not counted.
bool reap(pid_t first, WardenReply& reply, Reaped& sum) {
  bool ended = false;
  for (;;) {
    siginfo_t info{};
    rusage usage{};
    if (syscall(SYS_waitid, P_ALL, 0, &info, WEXITED | WNOHANG | __WALL, &usage) != 0 || info.si_pid == 0) return ended;
    if (info.si_pid == warden.zygote) {
      warden.zygote = 0;
      continue;
    }
    if (info.si_pid == sum.helper) {
      if (sum.helper_inherits) sum.add_times(usage);
      sum.helper = 0;
      sum.helper_done = info.si_code == CLD_EXITED && info.si_status == 0;
      continue;
    }
    sum.add_times(usage);
    const auto rss = static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;
    if (rss > sum.rss_bytes) sum.rss_bytes = rss;
    ++sum.count;
    if (info.si_pid != first) continue;
    ended = true;
    reply.cld_code = info.si_code;
    reply.status = info.si_status;
  }
}

ssize_t hear_zygote(char* text, std::size_t size, int milliseconds);

/// The run's own PID 1, where runs have no uid of their own and a zygote must live on: all of the run are below it, the kernel kills them with
/// it, and it is gone only when they are. It reaps orphans, and at our word (SIGTERM) kills and reaps everybody, so that what they used is
/// counted: when the kernel does that itself, it is not.
struct RunNamespace {
  pid_t init = 0;
  int pidfd = -1;
};
bool make_namespace(RunNamespace& made) {
  clone_args_t arguments{};
  arguments.flags = CLONE_NEWPID | CLONE_PIDFD;
  arguments.pidfd = reinterpret_cast<std::uint64_t>(&made.pidfd);
  arguments.exit_signal = SIGCHLD;
  made.init = static_cast<pid_t>(syscall(SYS_clone3, &arguments, sizeof arguments));
  if (made.init < 0) return false;
  if (made.init > 0) return true;
  syscall(SYS_close_range, 0u, ~0u, 0u);
  sigset_t words;  // both are blocked since the warden began: a SIGTERM that comes before its first wait is not lost
  sigemptyset(&words);
  sigaddset(&words, SIGCHLD);
  sigaddset(&words, SIGTERM);
  for (bool last = false;;) {
    siginfo_t info{};
    while (syscall(SYS_waitid, P_ALL, 0, &info, WEXITED | WNOHANG | __WALL, nullptr) == 0 && info.si_pid != 0) info.si_pid = 0;
    // Until there is nobody: children of the dead come to us only when their parents are.
    if (last && kill(-1, SIGKILL) != 0 && errno == ESRCH) _exit(0);
    const timespec while_asleep{0, last ? 1'000'000 : 999'000'000};
    if (sigtimedwait(&words, nullptr, &while_asleep) == SIGTERM) last = true;
  }
}

/// The zygote's word on the end of its child. False: none came.
bool hear_end(WardenReply& reply, Reaped& sum, int milliseconds) {
  char text[160];
  if (hear_zygote(text, sizeof text, milliseconds) < 0) return false;
  std::int64_t value[5] = {};
  int number = 0;
  for (const char* c = text; *c != '\0' && number < 5; ++c) {
    if (*c == ' ') ++number;
    else if (*c >= '0' && *c <= '9') value[number] = value[number] * 10 + (*c - '0');
  }
  reply.cld_code = value[0] != 0 ? CLD_KILLED : CLD_EXITED;
  reply.status = static_cast<std::int32_t>(value[1]);
  sum.user_ns += value[2];
  sum.system_ns += value[3];
  if (static_cast<std::uint64_t>(value[4]) > sum.rss_bytes) sum.rss_bytes = static_cast<std::uint64_t>(value[4]);
  ++sum.count;
  sum.zygote_told = true;
  return true;
}

/// Everybody but us, in one step: no fork is left half done (the kernel restarts it and finds the signal). False: somebody did not die.
bool kill_all(WardenReply& reply, Reaped& sum) {
  const std::int64_t patience = bare::now_ns(CLOCK_MONOTONIC) + kKillPatienceNs;
  for (;;) {
    kill(-1, SIGKILL);
    reap(0, reply, sum);
    siginfo_t info{};
    if (syscall(SYS_waitid, P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL, nullptr) != 0 && errno == ECHILD) return true;
    if (bare::now_ns(CLOCK_MONOTONIC) > patience) return false;
    await_death();
  }
}

/// The children of a process of one thread, as the kernel lists them (proc_pid_children(5)). False: there is no such list.
bool children_of(pid_t pid, char (&text)[64]) {
  char path[64];
  char* const end = bare::append_text(bare::append_number(bare::append_text(path, "/proc/"), pid), "/task/");
  bare::append_text(bare::append_number(end, pid), "/children");
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return false;
  const ssize_t size = read(file, text, sizeof text - 1);
  close(file);
  text[size > 0 ? size : 0] = '\0';
  return size >= 0;
}

/// Whether nobody of the run is left, its first process being reaped: whoever of it lives descends from a child of ours or of the zygote's. We
/// and the zygote are the only ones who reap those, so none is missed in the list.
bool no_child_but_zygote() {
  char ours[64], zygotes[64];
  if (!children_of(getpid(), ours)) return false;
  if (warden.zygote == 0) return ours[0] == '\0';
  return number_at(ours) == warden.zygote && strchr(ours, ' ') == strrchr(ours, ' ') && children_of(warden.zygote, zygotes) && zygotes[0] == '\0';
}

/// Everybody of the run's uid, where a zygote must live on: a helper of that uid kills all it may, in one step. Whoever lived then has the
/// signal pending and cannot fork any more, so none left in /proc is none left. A candidate cannot leave its uid (no capability, seccomp),
/// and the zygote, of another, is out of the helper's reach.
bool kill_uid(std::uint32_t uid, WardenReply& reply, Reaped& sum) {
  const std::int64_t patience = bare::now_ns(CLOCK_MONOTONIC) + kKillPatienceNs;
  if (reply.limit == WardenLimit::none) {  // as a rule: it ended, is reaped, and nobody else was there
    reap(0, reply, sum);
    if (no_child_but_zygote()) return true;
  }
  sum.helper = fork();
  if (sum.helper < 0) return false;
  if (sum.helper == 0) {
    if (syscall(SYS_setresgid, uid, uid, uid) != 0 || syscall(SYS_setresuid, uid, uid, uid) != 0) _exit(1);
    kill(-1, SIGKILL);
    _exit(0);
  }
  for (;;) {
    reap(0, reply, sum);
    if (sum.helper == 0 && sum.helper_done && !sum.zygote_told && !hear_end(reply, sum, 1'000)) return false;
    if (sum.helper == 0 && (!sum.helper_done || look().processes == 0)) return sum.helper_done && (warden.zygote != 0 || warden.setup.zygote_argc == 0);
    if (bare::now_ns(CLOCK_MONOTONIC) > patience) return false;
    await_death();
  }
}

/// Everybody of the run's namespace.
bool kill_namespace(RunNamespace& space, WardenReply& reply, Reaped& sum) {
  const std::int64_t patience = bare::now_ns(CLOCK_MONOTONIC) + kKillPatienceNs;
  kill(space.init, SIGTERM);
  close(space.pidfd);
  sum.helper = space.init;
  sum.helper_inherits = true;
  while (sum.helper != 0) {
    if (!sum.zygote_told && !hear_end(reply, sum, 4'000)) return false;  // the kernel waits for the zygote to reap its child
    reap(0, reply, sum);
    if (sum.helper == 0) break;
    const std::int64_t now = bare::now_ns(CLOCK_MONOTONIC);
    if (now > patience - kKillPatienceNs / 2) kill(space.init, SIGKILL);
    if (now > patience) return false;
    await_death();
  }
  return warden.zygote != 0;
}

/// What the file's owner may be given: a regular file, by its descriptor.
int take(const char* name, WardenReply& reply) {
  char path[kPathMax];
  reply.taken_bytes = ~std::uint64_t{0};
  if (!path_in_home(name, path)) return -1;
  const int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  struct stat kind{};
  if (fd < 0) return -1;
  if (fstat(fd, &kind) != 0 || !S_ISREG(kind.st_mode)) {
    close(fd);
    return -1;
  }
  reply.taken_bytes = static_cast<std::uint64_t>(kind.st_size);
  return fd;
}

/// Waits for the end of the first process, for a limit, or for the owner's word.
void watch(const WardenRun& run, pid_t first, WardenReply& reply, Reaped& sum) {
  const std::int64_t begin = bare::now_ns(CLOCK_MONOTONIC);
  std::int64_t next_look = begin + kLookNs, wall_ns = run.wall_ns;
  for (;;) {
    const std::int64_t now = bare::now_ns(CLOCK_MONOTONIC);
    reply.wall_ns = now - begin;
    if (reply.wall_ns >= wall_ns) {
      // The wall is for sleepers: what it waited for a core is given back, up to as much again.
      const Usage usage = has(layer::kProc) ? look(true) : Usage{};
      if (usage.processes == 1 && usage.threads == 1 && sum.count == 0) reply.starved_ns = usage.starved_ns;
      const std::int64_t more = run.wall_ns + (usage.starved_ns < run.wall_ns ? usage.starved_ns : run.wall_ns);
      if (more > wall_ns + kLookNs) wall_ns = more;
      else reply.limit = WardenLimit::wall;
    }
    if (now >= next_look && has(layer::kProc)) {
      const Usage usage = look();
      if (usage.rss_bytes > reply.rss_peak_bytes) reply.rss_peak_bytes = usage.rss_bytes;
      if (usage.processes > reply.processes_peak) reply.processes_peak = usage.processes;
      if (usage.cpu_ns + sum.user_ns + sum.system_ns >= run.cpu_ns) reply.limit = WardenLimit::cpu;
      if (usage.rss_bytes > run.memory_bytes) reply.limit = WardenLimit::memory;
      next_look = bare::now_ns(CLOCK_MONOTONIC) + kLookNs;
    }
    if (reply.limit != WardenLimit::none) return;
    std::int64_t wait = begin + wall_ns - now;
    if (has(layer::kProc) && next_look - now < wait) wait = next_look - now;  // else there is nothing to look at before the wall
    if (wait < 0) wait = 0;
    const timespec time{.tv_sec = static_cast<time_t>(wait / 1'000'000'000), .tv_nsec = wait % 1'000'000'000};
    pollfd waits[4] = {{kWardenOwnerFd, POLLIN, 0}, {kWardenSocketFd, POLLIN, 0}, {warden.deaths, POLLIN, 0}, {sum.zygote_told ? -1 : warden.zygote_socket, POLLIN, 0}};
    ppoll(waits, 4, &time, nullptr);
    if (waits[0].revents != 0) leave();
    if (waits[1].revents != 0) {
      WardenRun message{};
      std::size_t count = 0;
      int fds[1];
      const ssize_t got = bare::receive_message(kWardenSocketFd, &message, sizeof message, fds, 1, &count);
      if (got <= 0) leave();
      if (message.kind == WardenKind::cancel && message.number == run.number) reply.limit = WardenLimit::cancelled;
    }
    if (waits[3].revents != 0) {
      reply.wall_ns = bare::now_ns(CLOCK_MONOTONIC) - begin;
      if (!hear_end(reply, sum, 0)) leave();  // the zygote is gone: its owner starts anew
      return;
    }
    if (waits[2].revents != 0) {
      drain_deaths();
      if (reap(first, reply, sum)) {
        reply.wall_ns = bare::now_ns(CLOCK_MONOTONIC) - begin;
        return;
      }
    }
  }
}

/// Nobody of the run is left when it returns true.
bool end_all(std::uint32_t uid, RunNamespace& space, WardenReply& reply, Reaped& sum) {
  if (space.init > 0) return kill_namespace(space, reply, sum);
  return (warden.zygote != 0 && uid != 0) || !in_namespaces() ? kill_uid(uid, reply, sum) : kill_all(reply, sum);
}

/// The end of the sandbox. Where no namespace ends with us, what is of the run is ended here.
void leave() {
  if (!in_namespaces()) {
    WardenReply reply;
    reply.limit = WardenLimit::cancelled;  // it may be the zygote's child still
    Reaped sum;
    if (warden.uid != 0) (void)kill_uid(warden.uid, reply, sum);  // else there was no run yet
    (void)wiped(0);
    rmdir(warden.home);
  }
  _exit(0);
}

// ---------------------------------------------------------------------------------------------------- the zygote

/// One message of the zygote within `milliseconds`; its size, or -1.
ssize_t hear_zygote(char* text, std::size_t size, int milliseconds) {
  pollfd word{warden.zygote_socket, POLLIN, 0};
  if (poll(&word, 1, milliseconds) != 1) return -1;
  const ssize_t got = recv(warden.zygote_socket, text, size - 1, MSG_DONTWAIT);
  if (got <= 0) return -1;
  text[got] = '\0';
  return got;
}

void start_zygote(char* const* argv) {
  int pair[2];
  static char home[sizeof warden.home + 8];
  bare::append_text(bare::append_text(home, "HOME="), warden.home);
  static const char* const kEnvironment[] = {"PATH=/usr/local/bin:/usr/bin:/bin", home, "LANG=C.UTF-8", "TZ=UTC", "PYTHONHASHSEED=0", "PYTHONSAFEPATH=1", nullptr};
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) give_up(WardenStep::zygote);
  warden.zygote = fork();
  if (warden.zygote < 0) give_up(WardenStep::zygote);
  if (warden.zygote == 0) {
    if (dup2(pair[1], 3) < 0 || syscall(SYS_close_range, 4u, ~0u, 0u) != 0) _exit(127);
    (void)syscall(SYS_personality, 0x0040000);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    execve(argv[0], argv, const_cast<char* const*>(kEnvironment));
    _exit(127);
  }
  close(pair[1]);
  warden.zygote_socket = pair[0];
  char text[16];
  if (bare::send_message(warden.zygote_socket, warden.filter, warden.filter_count * sizeof(sock_filter), -1) != 0 || hear_zygote(text, sizeof text, 30'000) < 0 || strcmp(text, "ready") != 0)
    give_up(WardenStep::zygote);
  warden.layers |= layer::kZygote;
}

/// Has the zygote make the run's first process, whose end it tells. Its pid, or -1.
pid_t fork_from_zygote(const WardenRun& run, const int* fds, const char** argv, std::uint32_t uid, int words, int space) {
  static char message[kWardenBlobBytesMax + 512];
  const std::uint64_t numbers[] = {uid,
                                   (has(layer::kLandlock) ? 1u : 0u) | (run.channel != 0 ? 2u : 0u) | (has(layer::kNoCapabilities) ? 4u : 0u) | (has(layer::kSeccomp) ? 8u : 0u) | (space >= 0 ? 16u : 0u) | (warden.setup.first_to_go != 0 ? 32u : 0u),
                                   static_cast<std::uint64_t>(run.cpu_ns / 1'000'000'000) + 2,
                                   run.file_bytes,
                                   run.open_files,
                                   65536,
                                   run.stack_bytes,
                                   run.address_bytes,
                                   run.processes};
  char* end = message;
  for (const std::uint64_t number : numbers) end = bare::append_number(end, number) + 1;
  for (std::uint32_t i = 0; i < run.argc; ++i) end = bare::append_text(end, argv[i]) + 1;
  int handed[7] = {fds[1], fds[2], fds[3], words};
  std::size_t count = 4;
  if (has(layer::kLandlock)) handed[count++] = warden.ruleset;
  if (run.channel != 0) handed[count++] = fds[4 + run.files];
  if (space >= 0) handed[count++] = space;
  char text[32];
  if (bare::send_message(warden.zygote_socket, message, static_cast<std::size_t>(end - message) - 1, handed, count) != 0 || hear_zygote(text, sizeof text, 5'000) < 0) return -1;
  return static_cast<pid_t>(bare::parse_number(text));
}

void run_one(const WardenRun& run, int* fds, const char** strings) {
  // [argv..., null, env..., null, names...]: split in order, then moved apart by their nulls.
  const std::size_t names_at = run.argc + run.envc;
  const char** const names = strings + names_at + 2;
  memmove(names, strings + names_at, (run.files + run.take) * sizeof(char*));
  memmove(strings + run.argc + 1, strings + run.argc, run.envc * sizeof(char*));
  strings[run.argc] = nullptr;
  strings[names_at + 1] = nullptr;

  const std::uint32_t uid = has(layer::kOwnUid) ? warden.setup.uid_first + warden.runs++ % warden.setup.uid_count : 0;
  warden.uid = uid;
  if (!fresh_home(run, uid)) return fail_run(run.number, WardenStep::tmpfs, errno);
  for (std::uint32_t i = 0; i < run.files; ++i)
    if (!copy_in(names[i], fds[4 + i], uid)) return fail_run(run.number, WardenStep::files, errno);
  if (has(layer::kLandlock) && warden.ruleset < 0 && !make_ruleset()) return fail_run(run.number, WardenStep::landlock, errno);

  if (run.zygote != 0 && warden.zygote == 0) return fail_run(run.number, WardenStep::zygote, ECHILD);
  // Where a candidate cannot be told from the zygote by its uid, it is by its namespace.
  RunNamespace space;
  if (warden.zygote != 0 && uid == 0 && !make_namespace(space)) return fail_run(run.number, WardenStep::clone, errno);
  int words[2];
  if (pipe2(words, O_CLOEXEC) != 0) leave();  // out of descriptors: its owner starts anew
  if (run.zygote == 0 && space.init > 0 && syscall(SYS_setns, space.pidfd, CLONE_NEWPID) != 0) _exit(1);
  const pid_t first = run.zygote != 0 ? fork_from_zygote(run, fds, strings, uid, words[1], space.pidfd) : fork();
  if (first != 0 && run.zygote == 0 && space.init > 0 && syscall(SYS_setns, warden.self, CLONE_NEWPID) != 0) _exit(1);  // our next helpers are our own again
  if (first == 0) become_candidate(run, fds, const_cast<char* const*>(strings), const_cast<char* const*>(strings + run.argc + 1), uid, words[1]);
  const int clone_error = errno;
  close(words[1]);
  if (run.channel != 0) {
    close(fds[4 + run.files]);
    fds[4 + run.files] = -1;
  }
  for (int i = 1; i < 4; ++i) {  // the other ends see the end of file when the last candidate is gone
    close(fds[i]);
    fds[i] = -1;
  }
  ChildWord word{WardenStep::none, 0};
  if (first > 0) {
    const ssize_t got = read(words[0], &word, sizeof word);
    if (got != sizeof word) word = {got > 0 ? WardenStep::zygote : WardenStep::none, EPROTO};
  }
  close(words[0]);
  WardenReply reply;
  Reaped sum;
  sum.zygote_told = run.zygote == 0 || first < 0;
  if (first < 0 || word.step != WardenStep::none) {
    reply.limit = WardenLimit::cancelled;  // nobody has seen its end
    (void)end_all(uid, space, reply, sum);
    return fail_run(run.number, first < 0 ? WardenStep::clone : word.step, first < 0 ? clone_error : word.error);
  }
  reply.kind = WardenKind::ended;
  reply.number = run.number;
  watch(run, first, reply, sum);
  const std::uint32_t reaped = sum.count;
  if (!end_all(uid, space, reply, sum)) return fail_run(run.number, WardenStep::kill, ETIMEDOUT);
  reply.left_behind = sum.count - reaped;
  if (reply.limit != WardenLimit::none && reply.left_behind > 0) --reply.left_behind;  // the first is no orphan
  reply.user_ns = sum.user_ns;
  reply.system_ns = sum.system_ns;
  if (sum.rss_bytes > reply.rss_peak_bytes) reply.rss_peak_bytes = sum.rss_bytes;
  const int taken = run.take != 0 ? take(names[run.files], reply) : -1;
  send_reply(reply, taken);
  if (taken >= 0) close(taken);
}

bool is_valid(const WardenRun& run, std::size_t bytes, std::size_t fds) {
  return bytes == sizeof run && run.magic == kWardenMagic && run.kind == WardenKind::run && run.argc >= 1 && run.argc <= kWardenStringsMax && run.envc <= kWardenStringsMax &&
         run.files <= kWardenFilesMax && run.take <= 1 && run.channel <= 1 && run.zygote <= 1 && run.blob_bytes != 0 && run.blob_bytes <= kWardenBlobBytesMax && fds == 4 + run.files + run.channel;
}

/// The strings of a blob; they point into a mapping that stays until the next call.
bool read_strings(int blob, std::size_t bytes, const char** table, std::size_t count) {
  static void* mapped = nullptr;
  static std::size_t mapped_bytes = 0;
  if (mapped != nullptr) munmap(mapped, mapped_bytes);
  struct stat kind{};
  mapped = nullptr;
  if (fstat(blob, &kind) != 0 || kind.st_size < static_cast<off_t>(bytes)) return false;
  mapped = mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, blob, 0);
  mapped_bytes = bytes;
  if (mapped == MAP_FAILED) {
    mapped = nullptr;
    return false;
  }
  return split_blob(static_cast<const char*>(mapped), bytes, table, count);
}

void enter_namespaces() {
  warden.layers = getpid() == 1 ? layer::kPidNamespace : 0;
  const struct {
    int flag;
    std::uint32_t one;
  } spaces[] = {{CLONE_NEWNS, layer::kMountNamespace}, {CLONE_NEWNET, layer::kNetNamespace}, {CLONE_NEWIPC, layer::kIpcNamespace}, {CLONE_NEWUTS, layer::kUtsNamespace}};
  for (const auto& space : spaces)
    if (uses(space.one) && unshare(space.flag) == 0) warden.layers |= space.one;
  if (!has(layer::kPidNamespace) || !has(layer::kMountNamespace)) give_up(WardenStep::root);
  if (has(layer::kUtsNamespace)) (void)!sethostname("drover", 6);
}

void enter_home(const char* home) {
  if (strlen(home) >= sizeof warden.home || chdir(home) != 0) give_up(WardenStep::root);
  strcpy(warden.home, home);
  prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);  // orphans of a run come to us
  prctl(PR_SET_PDEATHSIG, 0);                 // nothing dies with us by itself: we end by our owner's pidfd, and in order
  struct stat proc{};
  if (stat("/proc/1", &proc) != 0) give_up(WardenStep::proc);  // by which a run is seen to be gone
  warden.layers |= layer::kProc;
}

}  // namespace

int main() {
  bare::reset_signals();
  prctl(PR_SET_NAME, "drover-warden");
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  prctl(PR_SET_DUMPABLE, 0);
  umask(022);  // the root it builds is for others to read, whatever its owner's mask
  setsid();
  sigset_t child_deaths;
  sigemptyset(&child_deaths);
  sigaddset(&child_deaths, SIGCHLD);
  sigset_t blocked = child_deaths;
  sigaddset(&blocked, SIGTERM);  // what a run's PID 1 is told by; a PID 1 ignores what it does not block
  sigprocmask(SIG_BLOCK, &blocked, nullptr);
  warden.deaths = signalfd(-1, &child_deaths, SFD_CLOEXEC | SFD_NONBLOCK);
  for (int fd = kWardenSocketFd; fd <= kWardenOwnerFd; ++fd) fcntl(fd, F_SETFD, FD_CLOEXEC);

  pollfd first[2] = {{kWardenOwnerFd, POLLIN, 0}, {kWardenSocketFd, POLLIN, 0}};
  int fds[kWardenFdsMax];
  std::size_t count = 0;
  poll(first, 2, -1);
  if (first[0].revents != 0) return 0;
  warden.self = static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0));
  if (bare::receive_message(kWardenSocketFd, &warden.setup, sizeof warden.setup, fds, kWardenFdsMax, &count) != sizeof warden.setup || count != 2 || warden.setup.magic != kWardenMagic ||
      warden.setup.binds > kWardenStringsMax / 2 || warden.setup.zygote_argc > kWardenStringsMax || warden.setup.home > 1 || !read_strings(fds[0], warden.setup.blob_bytes, blob_strings, 2 * warden.setup.binds + warden.setup.zygote_argc + warden.setup.home))
    give_up(WardenStep::blob);

  if (in_namespaces()) enter_namespaces();
  else enter_home(blob_strings[2 * warden.setup.binds + warden.setup.zygote_argc]);
  take_filter(fds[1]);
  if (in_namespaces()) build_root(blob_strings);
  if (const long abi = landlock_abi(); abi > 0 && uses(layer::kLandlock)) warden.layers |= layer::kLandlock | (abi >= 6 ? layer::kLandlockScope : 0);
  warden.layers |= layer::kNoNewPrivileges | (in_namespaces() ? layer::kPrivateTmpfs : 0);
  if (uses(layer::kNoCapabilities)) warden.layers |= layer::kNoCapabilities;
  if (warden.setup.uid_first != 0 && warden.setup.uid_count != 0 && uses(layer::kOwnUid)) warden.layers |= layer::kOwnUid;
  if (!in_namespaces() && !has(layer::kOwnUid)) give_up(WardenStep::uid);  // it could not be told from the rest of the host
  if (!in_namespaces() && (!has(layer::kLandlock) || !make_ruleset())) give_up(WardenStep::landlock);  // nothing else hides the host's files
  for (std::size_t i = 0; i < count; ++i) close(fds[i]);
  // It must be out of the candidates' reach: by a uid of their own, or by a PID namespace for each run.
  if (warden.setup.zygote_argc != 0 && (has(layer::kProc) || !has(layer::kOwnUid))) {
    const char** const argv = blob_strings + 2 * warden.setup.binds;
    argv[warden.setup.zygote_argc] = nullptr;  // the home behind it has been taken
    start_zygote(const_cast<char* const*>(argv));
  }
  WardenReply ready;
  ready.layers = warden.layers;
  send_reply(ready);

  for (;;) {
    pollfd waits[2] = {{kWardenOwnerFd, POLLIN, 0}, {kWardenSocketFd, POLLIN, 0}};
    if (poll(waits, 2, -1) < 0) continue;
    if (waits[0].revents != 0) leave();
    WardenRun run{};
    const ssize_t got = bare::receive_message(kWardenSocketFd, &run, sizeof run, fds, kWardenFdsMax, &count);
    if (got <= 0) leave();
    if (run.kind == WardenKind::cancel) continue;  // of a run that has ended meanwhile
    if (!is_valid(run, static_cast<std::size_t>(got), count) || !read_strings(fds[0], run.blob_bytes, blob_strings, run.argc + run.envc + run.files + run.take)) leave();
    run_one(run, fds, blob_strings);
    for (std::size_t i = 0; i < count; ++i)
      if (fds[i] >= 0) close(fds[i]);
  }
}
