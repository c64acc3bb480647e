// Goal: whatever a hostile program does stays in its sandbox, is told as what it was, and leaves nothing for the next run. Method: a
// static program of many deeds under every profile this host allows; for each layer a deed that gets through when it is left out.

#include "drover/sandbox.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "os/clock.hpp"

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
  if (has("proc")) {
    EXPECT_EQ(end_of("cpu_by_forks", small).kind, SandboxEndKind::cpu_limit);
  }
  if (has("proc")) {
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
  if (has("proc")) {
    EXPECT_EQ(end_of("memory", small).kind, SandboxEndKind::memory_limit);
  }
  const SandboxEnd flood = end_of("flood", small);
  EXPECT_EQ(flood.kind, SandboxEndKind::output_limit);
  EXPECT_EQ(flood.output.size(), 1U << 20);
  SandboxLimits roomy = small;
  roomy.cpu = Seconds(5);
  roomy.disk_bytes = 4 << 20;
  EXPECT_EQ(end_of("tmpfs_memory", roomy).output, error(28 /* ENOSPC */)) << "the program itself lies there too";
  EXPECT_EQ(end_of("inodes", roomy).output, error(28 /* ENOSPC */));
  bool asked = false;
  EXPECT_EQ(sandbox->run(deed("sleep"), [&] { return std::exchange(asked, true); })->kind, SandboxEndKind::cancelled);
}

TEST_P(SandboxOf, WhatOnlyAnAttackAsksForIsKilledAndTheRestRefused) {
  for (const char* const name : {"ptrace", "ptrace_init", "vm_read_init", "mount", "umount", "unshare_user", "clone_user", "setns", "chroot", "bpf", "keyctl", "userfaultfd", "perf", "module", "reboot",
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
  EXPECT_EQ(said("open_write", "/w/mine"), "done\n");
  EXPECT_EQ(said("open_write", "/tmp/mine"), "done\n");
  EXPECT_EQ(said("open_write", "/dev/shm/mine"), "done\n");
  EXPECT_EQ(said("open_write", "/dev/null"), "done\n");
}

TEST_P(SandboxOf, NothingIsLeftForTheNextRun) {
  EXPECT_EQ(said("write_state"), "done\n");
  EXPECT_EQ(said("open_read", "/w/d/state"), error(2));
  const SandboxEnd daemon = run(deed("daemon"));
  EXPECT_EQ(daemon.output, "done\n");
  EXPECT_EQ(daemon.left_behind, 1U);
  // Nobody to signal: it is alone again.
  EXPECT_EQ(said("kill_others"), error(3 /* ESRCH */));
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
  };
  for (const Case& one : cases) {
    EXPECT_NE(said(one.deed, one.argument), one.without) << one.deed;
    std::optional<Sandbox> before = std::move(sandbox);
    start({.leave_out = one.leave_out});
    if (sandbox) {
      EXPECT_EQ(said(one.deed, one.argument), one.without) << one.deed << " without " << one.leave_out;
    }
    sandbox = std::move(before);
  }
}

TEST_P(SandboxOf, ManyRunsLeaveNoDescriptorNoMountAndNoProcess) {
  const auto count = [](const std::string& path) { return std::distance(std::filesystem::directory_iterator(path), std::filesystem::directory_iterator()); };
  run(deed("exit", "0"));
  const auto fds = count("/proc/self/fd");
  for (int i = 0; i < 50; ++i) EXPECT_EQ(run(deed(i % 5 == 0 ? "daemon" : "exit", "0")).kind, SandboxEndKind::exited);
  EXPECT_EQ(count("/proc/self/fd"), fds);
}

INSTANTIATE_TEST_SUITE_P(, SandboxOf, testing::Values(SandboxProfile::root, SandboxProfile::userns), [](const auto& one) { return std::string(name_of(one.param)); });

}  // namespace
}  // namespace drover::test
