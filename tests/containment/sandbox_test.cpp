// Goal: whatever a hostile program does stays in its sandbox, is told as what it was, and leaves nothing for the next run. Method: a
// static program of many deeds under every profile this host allows; for each layer a deed that gets through when it is left out.

#include "drover/sandbox.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <thread>

#include "os/clock.hpp"
#include "os/process_tree.hpp"

namespace drover::test {
namespace {

TimePoint in(Nanos timeout) { return after(system_clock().now(), timeout); }

const std::string& candidate() {
  static const std::string bytes = [] {
    std::ifstream file(std::string(DROVER_BINARY_DIR) + "/tests/evil/candidate", std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  }();
  return bytes;
}

SandboxRun deed(std::string name, std::string argument = {}) {
  return {.argv = {"./candidate", std::move(name), std::move(argument)}, .files = {{"candidate", candidate()}}, .limits = {.cpu = Seconds(5), .wall = Seconds(20)}};
}

class SandboxOf : public testing::TestWithParam<SandboxProfile> {
 protected:
  void SetUp() override {
    ASSERT_FALSE(candidate().empty());
    start({});
  }
  void start(SandboxOptions options) {
    options.profile = GetParam();
    auto made = Sandbox::start(options, in(Seconds(10)));
    if (!made && made.error().code() == ErrorCode::unavailable) GTEST_SKIP() << made.error().what();
    ASSERT_TRUE(made) << made.error().what();
    sandbox.emplace(std::move(*made));
  }
  SandboxEnd run(const SandboxRun& run) {
    auto end = sandbox->run(run);
    EXPECT_TRUE(end) << end.error().what();
    return end ? *end : SandboxEnd{};
  }
  std::string said(const std::string& name, const std::string& argument = {}) {
    const SandboxEnd end = run(deed(name, argument));
    return end.kind == SandboxEndKind::exited ? end.output : std::string(name_of(end.kind));
  }
  bool has(std::string_view layer) const { return std::ranges::find(sandbox->layers(), layer) != sandbox->layers().end(); }
  std::optional<Sandbox> sandbox;
};

std::string error(int number) { return "errno " + std::to_string(number) + "\n"; }

TEST_P(SandboxOf, AnHonestProgramReadsPrintsAndExits) {
  const std::string script = "read a b; echo $((a + b)); echo complaint >&2; exit 3\n";
  const SandboxEnd end = run({.argv = {"/bin/sh", "main.sh"}, .files = {{"main.sh", script}}, .input = "3 4\n"});
  EXPECT_EQ(end.kind, SandboxEndKind::exited);
  EXPECT_EQ(end.code, 3);
  EXPECT_EQ(end.output, "7\n");
  EXPECT_EQ(end.errors, "complaint\n");
  EXPECT_GT(end.cpu, Nanos(0));
  EXPECT_EQ(end.left_behind, 0U);
  EXPECT_EQ(run({.argv = {"/no/such"}}).kind, SandboxEndKind::not_started);
  const std::string large(3 << 20, 'x');
  const SandboxEnd full = run({.argv = {"/bin/true"}, .files = {{"large", large}}, .limits = {.disk_bytes = 1 << 20}});
  if (has("private_tmpfs")) {
    EXPECT_EQ(full.kind, SandboxEndKind::not_started);
    EXPECT_EQ(full.code, 28 /* ENOSPC */);
  }
  EXPECT_EQ(run({.argv = {"/bin/true"}}).kind, SandboxEndKind::exited) << "and it goes on";
}

TEST_P(SandboxOf, EveryEndIsToldAsWhatItWas) {
  const auto end_of = [&](const std::string& name, SandboxLimits limits) {
    SandboxRun one = deed(name);
    one.limits = limits;
    return run(one);
  };
  const SandboxLimits small{.cpu = Millis(300), .wall = Seconds(10), .memory_bytes = 64 << 20, .output_bytes = 1 << 20, .disk_bytes = 8 << 20, .inodes = 64, .processes = 20};
  EXPECT_EQ(end_of("spin", small).kind, SandboxEndKind::cpu_limit);
  EXPECT_EQ(end_of("spin_ignoring_all", small).kind, SandboxEndKind::cpu_limit);
  if (has("proc") || has("cpu_cgroup")) {
    EXPECT_EQ(end_of("cpu_by_forks", small).kind, SandboxEndKind::cpu_limit);
    EXPECT_EQ(end_of("fork_bomb", small).kind, SandboxEndKind::cpu_limit);
  }
  SandboxLimits short_wall = small;
  short_wall.wall = Millis(200);
  EXPECT_EQ(end_of("sleep", short_wall).kind, SandboxEndKind::wall_limit);
  EXPECT_EQ(end_of("stop_self", short_wall).kind, SandboxEndKind::wall_limit);
  const SandboxEnd aborted = end_of("abort", small);
  EXPECT_EQ(aborted.kind, SandboxEndKind::signalled);
  EXPECT_EQ(aborted.code, 6) << "PID 1 would have shown 11";
  EXPECT_EQ(end_of("segv", small).code, 11);
  if (has("proc") || has("memory_cgroup")) {
    EXPECT_EQ(end_of("memory", small).kind, SandboxEndKind::memory_limit);
  }
  const SandboxEnd flood = end_of("flood", small);
  EXPECT_EQ(flood.kind, SandboxEndKind::output_limit);
  EXPECT_EQ(flood.output.size(), 1U << 20);
  SandboxLimits roomy = small;
  roomy.cpu = Seconds(5);
  roomy.disk_bytes = 4 << 20;
  if (has("private_tmpfs")) {
    EXPECT_EQ(end_of("tmpfs_memory", roomy).output, error(28 /* ENOSPC */)) << "the program itself lies there too";
    EXPECT_EQ(end_of("inodes", roomy).output, error(28 /* ENOSPC */));
  } else {
    EXPECT_EQ(end_of("tmpfs_memory", roomy).output, error(27 /* EFBIG */)) << "of one file";
  }
  bool asked = false;
  EXPECT_EQ(sandbox->run(deed("sleep"), [&] { return std::exchange(asked, true); })->kind, SandboxEndKind::cancelled);
}

TEST_P(SandboxOf, WhatOnlyAnAttackAsksForIsKilledAndTheRestRefused) {
  for (const char* const name : {"ptrace", "ptrace_init", "vm_read_init", "mount", "umount", "unshare_user", "clone_user", "sibling", "setns", "chroot", "bpf", "keyctl", "userfaultfd", "perf", "module", "reboot",
                                 "tiocsti", "hostname"})
    EXPECT_EQ(said(name), "denied_syscall") << name;
  for (const char* const name : {"inet_socket", "netlink_socket", "vsock", "abstract_socket"}) EXPECT_EQ(said(name), error(97 /* EAFNOSUPPORT */)) << name;
  for (const char* const name : {"clone3", "io_uring", "fchmodat2"}) EXPECT_EQ(said(name), error(38 /* ENOSYS */)) << name;
  for (const char* const name : {"setuid_root", "mknod_disk"}) EXPECT_NE(said(name), "done\n") << name;
  EXPECT_EQ(said("raise_limit"), error(1 /* EPERM */));
  EXPECT_EQ(said("no_new_privs"), "1\n");
  EXPECT_EQ(said("count_fds"), "0\n");
}

TEST_P(SandboxOf, NothingOfTheHostCanBeReadOrWritten) {
  for (const char* const path : {"/etc/shadow", "/root", "/home", "/var", "/sys", "/proc/1/mem", "/proc/1/environ", "/proc/kcore", "/dev/sda", "/dev/mem", "/dev/kmsg", "/dev/tty", "/run"})
    EXPECT_NE(said("open_read", path), "done\n") << path;
  for (const char* const path : {"/usr/bin/evil", "/etc/passwd", "/evil", "/proc/sys/kernel/core_pattern", "/proc/1/oom_score_adj", "/dev/evil", "/bin/sh"}) EXPECT_NE(said("open_write", path), "done\n") << path;
  EXPECT_NE(said("unlink", "/usr/bin/env"), "done\n");
  EXPECT_EQ(said("open_write", "mine"), "done\n");
  EXPECT_EQ(said("open_write", "/tmp/mine") == "done\n", has("private_tmpfs"));
  EXPECT_EQ(said("open_write", "/dev/shm/mine") == "done\n", has("private_tmpfs"));
  EXPECT_EQ(said("open_write", "/dev/null"), "done\n");
}

TEST_P(SandboxOf, NothingIsLeftForTheNextRun) {
  EXPECT_EQ(said("write_state"), "done\n");
  EXPECT_EQ(said("open_read", "d/state"), error(2));
  // However it is nested, named or closed to its owner.
  SandboxRun nest{.argv = {"/bin/sh", "-c", "i=0; while [ $i -lt 600 ]; do mkdir d && cd d || exit 9; echo x > f; ln -s / l; i=$((i+1)); done; cd $HOME; mkdir -p '.a b/moved-up-1'; mkfifo p; chmod 0 d p; ls -A . | wc -l"}};
  EXPECT_EQ(run(nest).output, "3\n");
  const SandboxEnd after = run({.argv = {"/bin/sh", "-c", "ls -A . | wc -l; stat -c %a .; df -i . | tail -n 1 | tr -s ' ' | cut -d ' ' -f 3"}});
  if (has("private_tmpfs")) EXPECT_EQ(after.output, "0\n700\n1\n") << "an inode of it is still in use";
  else EXPECT_EQ(after.output.substr(0, 6), "0\n700\n");
  const SandboxEnd daemon = run(deed("daemon"));
  EXPECT_EQ(daemon.output, "done\n");
  EXPECT_EQ(daemon.left_behind, 1U);
  // Nobody to signal: it is alone again.
  if (has("pid_namespace")) {
    EXPECT_EQ(said("kill_others"), error(3 /* ESRCH */));
  }
  // PID 1 takes no signal from below: the run goes on or is killed, the sandbox lives.
  said("kill_init");
  EXPECT_EQ(said("exit", "0"), "");
  if (has("own_uid")) {
    const std::string first = said("getuid"), second = said("getuid");
    EXPECT_NE(first, second);
    EXPECT_NE(first.substr(0, 2), "0 ");
  }
}

TEST_P(SandboxOf, AFileIsHandedOutOnlyIfItIsOne) {
  SandboxRun one{.argv = {"/bin/sh", "-c", "echo built > out"}, .take = "out"};
  EXPECT_EQ(run(one).taken, "built\n");
  for (const char* const command : {"ln -s /etc/passwd out", "mkfifo out", "mkdir out", "true", "mknod out c 1 3"}) {
    one.argv[2] = command;
    EXPECT_EQ(run(one).taken, std::nullopt) << command;
  }
  one.argv[2] = "dd if=/dev/zero of=out bs=1M count=3 2> err";
  one.take_max = 1 << 20;
  EXPECT_EQ(run(one).taken, std::nullopt) << "too large";
  one.take = "../etc/passwd";
  EXPECT_EQ(run(one).taken, std::nullopt);
}

TEST_P(SandboxOf, AMissingLayerIsRefusedWhereItIsRequired) {
  const auto made = Sandbox::start({.profile = GetParam(), .require = "seccomp,landlock", .leave_out = "seccomp"}, in(Seconds(10)));
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code(), ErrorCode::refused) << made.error().what();
  EXPECT_NE(made.error().what().find("seccomp"), std::string::npos);
  EXPECT_EQ(Sandbox::start({.profile = GetParam(), .require = "moat"}, in(Seconds(10))).error().code(), ErrorCode::usage);
}

// What each layer is good for: with it the deed fails, without it it gets through (to the next layer at most).
TEST_P(SandboxOf, EachLayerStopsSomethingTheOthersDoNot) {
  struct Case {
    const char* leave_out;
    const char* deed;
    const char* argument;
    const char* without;  // what it says then
  };
  const Case cases[] = {
      {"seccomp", "keyctl", "", "errno 22\n"},
      {"seccomp", "unshare_user", "", "done\n"},
      {"seccomp", "inet_socket", "", "done\n"},
      {"seccomp,landlock,own_uid,no_capabilities,net_namespace", "mount", "", "done\n"},
      {"own_uid,no_capabilities,seccomp", "chroot", "", "done\n"},
      {"landlock", "open_write", "/proc/self/oom_score_adj", "done\n"},
      {"own_uid,process_cgroup", "forks", "", "done\n"},  // RLIMIT_NPROC does not bind root
      {"process_cgroup", "forks", "", "done\n"},          // of a run that stays root
  };
  for (const Case& one : cases) {
    const std::string_view left = one.leave_out;
    if (left == "own_uid,process_cgroup" && !has("own_uid")) continue;
    if (left == "process_cgroup" && (has("own_uid") || !has("process_cgroup") || ::geteuid() != 0)) continue;
    if (!has("pid_namespace") && (std::string_view(one.leave_out).find("own_uid") != std::string_view::npos || std::string_view(one.leave_out).find("landlock") != std::string_view::npos)) continue;  // it refuses to work without them
    if (std::string_view(one.argument).starts_with("/proc/") && !has("proc")) continue;
    EXPECT_NE(said(one.deed, one.argument), one.without) << one.deed;
    std::optional<Sandbox> before = std::exchange(sandbox, std::nullopt);
    start({.leave_out = one.leave_out});
    if (sandbox) {
      EXPECT_EQ(said(one.deed, one.argument), one.without) << one.deed << " without " << one.leave_out;
    }
    sandbox = std::move(before);
  }
}

// What its parent does not wait for is in no account of the kernel's but the cgroup's.
TEST_P(SandboxOf, CpuTimeOfChildrenNobodyWaitedForCounts) {
  if (!has("cpu_cgroup")) GTEST_SKIP() << "no cgroup v2 here";
  SandboxRun one = deed("cpu_by_forgotten_forks");
  one.limits = {.cpu = Millis(300), .wall = Seconds(3), .processes = 20};
  const SandboxEnd end = run(one);
  EXPECT_EQ(end.kind, SandboxEndKind::cpu_limit);
  EXPECT_GE(end.cpu, Millis(300));
  start({.leave_out = "cpu_cgroup"});
  EXPECT_EQ(run(one).kind, SandboxEndKind::wall_limit) << "then nothing sees it";
}

TEST_P(SandboxOf, MemoryIsHeldByTheKernelWhereNobodyLooks) {
  if (!has("memory_cgroup") || !has("pid_namespace")) GTEST_SKIP() << "no memory cgroup here, or a profile that cannot work without /proc";
  SandboxRun one = deed("memory");
  one.limits = {.cpu = Seconds(5), .wall = Seconds(2), .memory_bytes = 32 << 20, .address_bytes = 256 << 20, .disk_bytes = 8 << 20, .processes = 1};
  start({.leave_out = "proc"});
  EXPECT_EQ(run(one).kind, SandboxEndKind::memory_limit);
  EXPECT_EQ(said("exit", "0"), "") << "and the warden lives on";
  start({.leave_out = "proc,memory_cgroup"});
  EXPECT_EQ(run(one).kind, SandboxEndKind::wall_limit) << "then nothing sees it";
}

TEST_P(SandboxOf, WhoHidesItsFilesInProcIsSeenAllTheSame) {
  if (!has("proc")) GTEST_SKIP() << "no /proc inside";
  SandboxRun one = deed("undumpable");
  one.limits = {.cpu = Seconds(5), .wall = Seconds(3), .memory_bytes = 32 << 20, .address_bytes = 256 << 20};
  start({.leave_out = "memory_cgroup"});
  const SandboxEnd end = run(one);
  EXPECT_EQ(end.kind, SandboxEndKind::memory_limit) << end.output;
  EXPECT_GE(end.processes_peak, 2U);
}

TEST_P(SandboxOf, ASleeperIsNotStarved) {
  if (!has("proc")) GTEST_SKIP() << "no /proc inside";
  SandboxRun one = deed("sleep");
  one.limits.wall = Millis(300);
  const SandboxEnd end = run(one);
  EXPECT_EQ(end.kind, SandboxEndKind::wall_limit);
  ASSERT_TRUE(end.starved);
  EXPECT_LT(*end.starved, Millis(200));
}

// Beside as many busy processes as take half of every core from it and more, a short wall must not end it.
TEST_P(SandboxOf, WhoWaitsForACoreIsGivenTheTimeBack) {
  if (!has("proc")) GTEST_SKIP() << "no /proc inside";
  std::vector<pid_t> busy;
  for (unsigned i = 0; i < 4 * std::thread::hardware_concurrency(); ++i) {
    const pid_t pid = ::fork();
    if (pid == 0)
      for (;;) asm volatile("");
    busy.push_back(pid);
  }
  SandboxRun one = deed("spin_a_while");
  one.limits = {.cpu = Seconds(5), .wall = Millis(500)};  // its work takes most of it on a core of its own
  std::vector<SandboxEnd> ends;
  for (int i = 0; i < 3; ++i) ends.push_back(run(one));
  for (const pid_t pid : busy) ::kill(pid, SIGKILL);
  for (const pid_t pid : busy) ::waitpid(pid, nullptr, 0);
  for (const SandboxEnd& end : ends)
    if (end.kind == SandboxEndKind::wall_limit) {  // so starved that twice the wall was not enough: that is told
      ASSERT_TRUE(end.starved);
      EXPECT_GT(*end.starved, Millis(400));
    } else {
      EXPECT_EQ(end.kind, SandboxEndKind::exited);
    }
}

TEST_P(SandboxOf, WaitingCostsNothing) {
  SandboxRun one = deed("sleep");
  one.limits.wall = Seconds(1);
  const Nanos before = usage_below(::getpid()).cpu;
  EXPECT_EQ(run(one).kind, SandboxEndKind::wall_limit);
  EXPECT_LT(usage_below(::getpid()).cpu - before, Millis(500)) << "somebody spins beside a sleeping program";
}

TEST_P(SandboxOf, ManyRunsLeaveNoDescriptorNoMountAndNoProcess) {
  const auto count = [](const std::string& path) { return std::distance(std::filesystem::directory_iterator(path), std::filesystem::directory_iterator()); };
  run(deed("exit", "0"));
  const auto fds = count("/proc/self/fd");
  for (int i = 0; i < 50; ++i) EXPECT_EQ(run(deed(i % 5 == 0 ? "daemon" : "exit", "0")).kind, SandboxEndKind::exited);
  EXPECT_EQ(count("/proc/self/fd"), fds);
}

// ---- the zygote -------------------------------------------------------------------------------------------------------------------------

constexpr const char* kInside = R"python(
import ctypes, os, signal, sys
def tried(what):
    try:
        what()
        return "done"
    except BaseException as error:
        return type(error).__name__
def main():
    deed = sys.argv[1] if len(sys.argv) > 1 else ""
    if deed == "status":
        fields = dict(line.split(":", 1) for line in open("/proc/self/status"))
        print(*(fields[name].strip() for name in ("CapEff", "CapPrm", "CapBnd", "NoNewPrivs", "Seccomp")), len(os.listdir("/proc/self/fd")) - 1, os.getuid() != 0 and os.getuid() == os.geteuid() == os.getgid())
    if deed == "reach":
        print(tried(lambda: os.setuid(0)), tried(lambda: open("/usr/evil", "w")), tried(lambda: open("/etc/shadow")), tried(lambda: __import__("socket").socket()), tried(lambda: os.listdir("/root")))
    if deed == "zygote":  # 2 is the zygote where there is one PID namespace: it can be neither seen nor reached, and nothing of it is at hand
        print(tried(lambda: os.kill(2 if os.getpid() != 2 else 3, 9)), tried(lambda: open("/proc/2/mem")), tried(lambda: os.kill(os.getppid() or 1, 9)), [name for name in globals() if name in ("warden", "programs", "sources")])
    if deed == "sibling":  # 0x8000: CLONE_PARENT
        if ctypes.CDLL(None).syscall(56 if os.uname().machine == "x86_64" else 220, 0x8000 | signal.SIGCHLD, 0, 0, 0, 0) == 0:
            while True: signal.pause()
    if deed == "everybody":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print(tried(lambda: os.kill(-1, signal.SIGTERM)), flush=True)
    if deed == "daemon":
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.close(1)
                os.close(2)
                while True: signal.pause()
            os._exit(0)
        os.wait()
    if deed == "bomb":
        while True:
            try: os.fork()
            except OSError: pass
    if deed == "spin":
        while True: pass
    if deed == "ptrace":
        ctypes.CDLL(None).ptrace(0, 0, 0, 0)
    if deed == "exit":
        os._exit(int(sys.argv[2]))
    if deed == "hash":
        import random
        print(hash("a"), id(type("X", (), {})) % 16)
)python";

class ZygoteOf : public testing::TestWithParam<SandboxProfile> {
 protected:
  void SetUp() override {
    if (::access("/usr/bin/python3", X_OK) != 0) GTEST_SKIP() << "needs /usr/bin/python3";
    auto made = Sandbox::start({.profile = GetParam(), .zygote = {.python = "/usr/bin/python3", .preload = {"json", "no_such_module"}, .programs = {{"inside", kInside}}}}, in(Seconds(30)));
    if (!made && made.error().code() == ErrorCode::unavailable) GTEST_SKIP() << made.error().what();
    ASSERT_TRUE(made) << made.error().what();
    ASSERT_TRUE(made->has_zygote());
    sandbox.emplace(std::move(*made));
  }
  bool has(std::string_view layer) const { return std::ranges::find(sandbox->layers(), layer) != sandbox->layers().end(); }
  SandboxEnd run(std::vector<std::string> words, SandboxLimits limits = {.cpu = Seconds(2), .wall = Seconds(10)}) {
    words.insert(words.begin(), {"inside", "inside.py"});
    auto end = sandbox->run({.argv = std::move(words), .from_zygote = true, .limits = limits});
    EXPECT_TRUE(end) << end.error().what();
    return end ? *end : SandboxEnd{};
  }
  std::optional<Sandbox> sandbox;
};

TEST_P(ZygoteOf, ItsChildrenAreLockedDownAsOthersAre) {
  const bool root = GetParam() == SandboxProfile::root, container = GetParam() == SandboxProfile::container;
  if (has("proc") && !container) {
    EXPECT_EQ(run({"status"}).output, std::string("0000000000000000 0000000000000000 0000000000000000 1 2 3 ") + (root ? "True\n" : "False\n"));
  }
  EXPECT_EQ(run({"reach"}).output, container ? "PermissionError PermissionError PermissionError OSError PermissionError\n" : "PermissionError OSError FileNotFoundError OSError FileNotFoundError\n");
  EXPECT_EQ(run({"ptrace"}).kind, SandboxEndKind::denied_syscall);
  EXPECT_EQ(run({"exit", "7"}).code, 7);
  const std::string first = run({"hash"}).output;
  for (int i = 0; i < 3; ++i) EXPECT_EQ(run({"hash"}).output, first);
}

TEST_P(ZygoteOf, NobodyReachesItAndItOutlivesThemAll) {
  const bool container = GetParam() == SandboxProfile::container, root = GetParam() == SandboxProfile::root || container;
  for (int i = 0; i < 3; ++i) {
    const SandboxEnd reached = run({"zygote"});
    // In userns a run's own namespace has nobody else but an init that takes no signal from below.
    EXPECT_EQ(reached.output, (container ? std::string("PermissionError PermissionError ") : root ? std::string("PermissionError FileNotFoundError ") : std::string("ProcessLookupError FileNotFoundError ")) + (root || has("landlock_scope") ? "PermissionError" : "done") + " []\n") << reached.errors;
    EXPECT_EQ(run({"everybody"}).kind, SandboxEndKind::exited);
    EXPECT_EQ(run({"daemon"}).left_behind, root ? 1U : 0U) << "what dies with a namespace is not counted";
    EXPECT_EQ(run({"spin"}, {.cpu = Millis(100), .wall = Seconds(10)}).kind, SandboxEndKind::cpu_limit);
    if (root || ::geteuid() != 0 || has("process_cgroup")) {  // in userns a run is the user who started it, and RLIMIT_NPROC does not bind root
      const SandboxEnd bomb = run({"bomb"}, {.cpu = Millis(200), .wall = Seconds(3), .processes = 20});
      EXPECT_EQ(bomb.kind, SandboxEndKind::cpu_limit) << name_of(bomb.kind);
    }
    EXPECT_EQ(run({"exit", "0"}).processes_peak <= 1, true);
  }
  // A program beside it is executed and cleaned away as ever.
  const SandboxEnd shell = *sandbox->run({.argv = {"/bin/sh", "-c", "sleep 100 & echo $(id -u)"}});
  EXPECT_EQ(shell.kind, SandboxEndKind::exited);
  if (root) {
    EXPECT_GE(shell.left_behind, 1U);
  }
  EXPECT_EQ(run({"exit", "3"}).code, 3);
}

// A child that a candidate makes its sibling is the zygote's, and hidden from who looks at the warden's children alone. The filter kills it; without
// the filter it is seen, and since nobody can take it away the sandbox is given up, not passed on.
TEST_P(ZygoteOf, ASiblingIsNotOverlooked) {
  EXPECT_EQ(run({"sibling"}).kind, SandboxEndKind::denied_syscall);
  EXPECT_EQ(run({"exit", "3"}).code, 3);
  auto made = Sandbox::start({.profile = GetParam(), .zygote = {.python = "/usr/bin/python3", .programs = {{"inside", kInside}}}, .leave_out = "seccomp"}, in(Seconds(30)));
  if (!made) GTEST_SKIP() << made.error().what();
  const auto end = made->run({.argv = {"inside", "inside.py", "sibling"}, .from_zygote = true, .limits = {.cpu = Seconds(2), .wall = Seconds(10)}});
  if (end) EXPECT_EQ(GetParam(), SandboxProfile::userns) << "there it is in the run's own namespace, and dies with it";
  else EXPECT_EQ(end.error().code(), ErrorCode::timed_out) << end.error().what();
}

// What tells a run's PID 1 to end may come before it waits for it: lost, it cost a run 2.5 s now and then.
TEST_P(ZygoteOf, NoShortRunWaitsForItsEnd) {
  std::vector<std::jthread> busy;
  for (unsigned i = 0; i < 2 * std::thread::hardware_concurrency(); ++i)
    busy.emplace_back([](const std::stop_token& stop) {
      while (!stop.stop_requested()) asm volatile("");
    });
  for (int i = 0; i < 150; ++i) {
    const TimePoint begin = system_clock().now();
    const SandboxEnd end = run({"exit", "0"});
    EXPECT_EQ(end.kind, SandboxEndKind::exited);
    EXPECT_LT(system_clock().now() - begin - end.wall, Seconds(2));
  }
}

// Where no namespace ends with its warden, the warden ends in order.
TEST(SandboxInAContainer, LeavesNoProcessAndNoDirectoryWhenItsOwnerIsKilled) {
  const auto homes = [] {
    std::set<std::string> all;
    for (const auto& entry : std::filesystem::directory_iterator("/tmp"))
      if (entry.path().filename().string().starts_with("drover-sandbox-")) all.insert(entry.path());
    return all;
  };
  const auto before = homes();
  int told[2];
  ASSERT_EQ(::pipe(told), 0);
  const pid_t owner = ::fork();
  if (owner == 0) {
    auto made = Sandbox::start({.profile = SandboxProfile::container}, in(Seconds(10)));
    if (!made) ::_exit(7);
    SandboxRun daemon{.argv = {"/bin/sh", "-c", "(setsid sleep 14881 &) ; sleep 14882"}, .limits = {.wall = Seconds(60)}};
    const auto begun = [&] { (void)!::write(told[1], "x", 1); };
    (void)made->run(daemon, {}, begun);
    ::_exit(0);
  }
  ::close(told[1]);
  char word = 0;
  if (::read(told[0], &word, 1) != 1) {
    int status = 0;
    ::waitpid(owner, &status, 0);
    GTEST_SKIP() << "profile container cannot be made here";
  }
  ::close(told[0]);
  ::kill(owner, SIGKILL);
  ::waitpid(owner, nullptr, 0);
  const auto patience = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  const auto left = [&] {
    std::set<std::string> more;
    for (const std::string& home : homes())
      if (!before.contains(home)) more.insert(home);
    return more;
  };
  while (!left().empty() && std::chrono::steady_clock::now() < patience) ::usleep(20'000);  // sleep: for another process' end, bounded
  EXPECT_EQ(left(), std::set<std::string>());
  // By figures of its own: other tests, which may run beside this one, sleep too.
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    std::ifstream file(entry.path() / "cmdline");
    std::string words;
    std::getline(file, words);
    EXPECT_EQ(words.find(std::string("sleep\00014881", 11)), std::string::npos) << entry.path();
    EXPECT_EQ(words.find(std::string("sleep\00014882", 11)), std::string::npos) << entry.path();
  }
}

TEST(SandboxInAContainer, RemovesWhatAnOwnerAndItsWardenLeftWhenBothWereKilled) {
  const std::string left = "/tmp/drover-sandbox-left-" + std::to_string(::getpid());
  std::filesystem::create_directories(left + "/below");
  std::ofstream(left + "/below/file") << "x";
  auto first = Sandbox::start({.profile = SandboxProfile::container}, in(Seconds(10)));
  if (!first) {
    std::filesystem::remove_all(left);
    GTEST_SKIP() << first.error().what();
  }
  EXPECT_FALSE(std::filesystem::exists(left));
  // That of a sandbox that lives is nobody's to remove.
  auto second = Sandbox::start({.profile = SandboxProfile::container}, in(Seconds(10)));
  ASSERT_TRUE(second) << second.error().what();
  EXPECT_EQ(first->run({.argv = {"/bin/sh", "-c", "echo x > file && echo done"}})->output, "done\n");
}

INSTANTIATE_TEST_SUITE_P(, ZygoteOf, testing::Values(SandboxProfile::root, SandboxProfile::userns, SandboxProfile::container), [](const auto& one) { return std::string(name_of(one.param)); });
INSTANTIATE_TEST_SUITE_P(, SandboxOf, testing::Values(SandboxProfile::root, SandboxProfile::userns, SandboxProfile::container), [](const auto& one) { return std::string(name_of(one.param)); });

}  // namespace
}  // namespace drover::test
