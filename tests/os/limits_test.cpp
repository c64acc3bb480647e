// Goal: cgroup limits are enforced where layers() says so, nothing is left behind, and leftovers of a dead job are swept.

#include "os/limits.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <functional>

#include "os/cgroup_paths.hpp"
#include "os/clock.hpp"
#include "os/pidfd.hpp"

namespace drover::test {
namespace {

namespace fs = std::filesystem;

TimePoint in(Nanos timeout) { return after(system_clock().now(), timeout); }

/// Every drover cgroup whose name holds `part`, anywhere.
std::vector<std::string> cgroups_named(const std::string& part) {
  std::vector<std::string> found;
  for (const CgroupMount& mount : cgroup_mounts())
    for (const std::string& level : mount.own_directory_and_parents()) {
      std::error_code error;
      for (const auto& entry : fs::directory_iterator(level, error))
        if (entry.path().filename().string().find(part) != std::string::npos) found.push_back(entry.path());
    }
  return found;
}

/// A child that is in all of the leaf's hierarchies: between the first and the last of them the leaf could be removed under it.
pid_t start_inside(const CgroupLeaf& leaf) {
  int inside[2];
  if (::pipe(inside) != 0) return -1;
  const pid_t child = ::fork();
  if (child == 0) {
    for (const int fd : leaf.procs_fds())
      if (::write(fd, "0", 1) != 1) ::_exit(90);
    (void)!::write(inside[1], "x", 1);
    ::close_range(3, ~0U, 0);  // as an exec does: the lock of a maker is not its children's
    for (;;) ::pause();
  }
  ::close(inside[1]);
  char word = 0;
  (void)!::read(inside[0], &word, 1);  // or its end
  ::close(inside[0]);
  return child;
}

bool remove_soon(CgroupLeaf& leaf) {
  const TimePoint deadline = in(Seconds(5));
  while (system_clock().now() < deadline)
    if (leaf.remove()) return true;
  return false;
}

TEST(Limits, ALeafIsJoinedKilledEmptiedAndRemoved) {
  auto tree = CgroupTree::create("test-life");
  ASSERT_TRUE(tree);
  auto leaf = tree->make_leaf("one", {.memory_bytes = 64u << 20, .processes = 8});
  ASSERT_TRUE(leaf) << leaf.error().what();
  if (!leaf->valid()) GTEST_SKIP() << "no cgroup is writable here";
  EXPECT_TRUE(leaf->is_empty());
  const pid_t child = start_inside(*leaf);
  const TimePoint deadline = in(Seconds(5));
  while (leaf->is_empty() && system_clock().now() < deadline) ::sched_yield();
  EXPECT_FALSE(leaf->is_empty());
  EXPECT_EQ(leaf->remove().error().code(), ErrorCode::busy);
  auto killed = leaf->kill();
  ASSERT_TRUE(killed);
  EXPECT_EQ(*killed, tree->layers().tree_kill == LimitLayer::cgroup_v2);
  if (!*killed) ::kill(child, SIGKILL);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  EXPECT_TRUE(remove_soon(*leaf));
  EXPECT_FALSE(leaf->valid());
}

TEST(Limits, ATreeLeavesNothingBehind) {
  {
    auto tree = CgroupTree::create("test-gone");
    ASSERT_TRUE(tree);
    auto a = tree->make_leaf("a", {});
    auto b = tree->make_leaf("b", {.memory_bytes = 64u << 20});
    ASSERT_TRUE(a && b);
    if (!a->valid()) GTEST_SKIP() << "no cgroup is writable here";
    EXPECT_FALSE(cgroups_named("test-gone").empty());
    EXPECT_FALSE(tree->make_leaf("a", {})) << "a name twice";
    // Only a half: what a failure had made is taken back.
    EXPECT_TRUE(tree->make_leaf("c", {}));
  }
  EXPECT_TRUE(cgroups_named("test-gone").empty());
}

// A supervisor is SIGKILLed with a process in its leaf. The next start of anything, or the end of any pool, kills that process and removes the
// cgroup; a cgroup of a living job is not touched.
void leftovers_go(const std::function<void()>& sweep) {
  auto living = CgroupTree::create("test-living");
  ASSERT_TRUE(living);
  auto living_leaf = living->make_leaf("one", {});
  ASSERT_TRUE(living_leaf);
  if (!living_leaf->valid()) GTEST_SKIP() << "no cgroup is writable here";
  const pid_t survivor = start_inside(*living_leaf);

  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const pid_t job = ::fork();
  if (job == 0) {
    auto tree = CgroupTree::create("test-dead");
    if (!tree) ::_exit(90);
    auto leaf = tree->make_leaf("one", {});
    if (!leaf) ::_exit(91);
    const pid_t worker = start_inside(*leaf);
    while (leaf->is_empty()) ::sched_yield();
    (void)!::write(ends[1], &worker, sizeof worker);
    for (;;) ::pause();
  }
  pid_t worker = 0;
  ASSERT_EQ(::read(ends[0], &worker, sizeof worker), static_cast<ssize_t>(sizeof worker));
  ::close(ends[0]);
  ::close(ends[1]);
  auto worker_process = PidFd::open(worker);
  ASSERT_TRUE(worker_process);
  ::kill(job, SIGKILL);
  ::waitpid(job, nullptr, 0);
  EXPECT_FALSE(worker_process->is_dead());
  EXPECT_FALSE(cgroups_named("test-dead").empty());

  const TimePoint deadline = in(Seconds(5));
  while (!cgroups_named("test-dead").empty() && system_clock().now() < deadline) sweep();
  EXPECT_TRUE(cgroups_named("test-dead").empty());
  EXPECT_TRUE(worker_process->wait_dead(in(Seconds(5))));
  EXPECT_FALSE(cgroups_named("test-living").empty());
  EXPECT_EQ(::waitpid(survivor, nullptr, WNOHANG), 0) << "a living job's worker was killed";
  ::kill(survivor, SIGKILL);
  ::waitpid(survivor, nullptr, 0);
  EXPECT_TRUE(remove_soon(*living_leaf));
}

TEST(Limits, LeftoversOfADeadJobAreSweptByTheNextStart) {
  leftovers_go([] { EXPECT_TRUE(CgroupTree::create("test-next")); });
}
TEST(Limits, LeftoversOfADeadJobAreSweptByTheEndOfAPool) { leftovers_go([] { CgroupTree::sweep(); }); }

TEST(Limits, AnyLabelMakesAName) {
  auto tree = CgroupTree::create("Über/../x y");
  ASSERT_TRUE(tree);
  auto leaf = tree->make_leaf("one", {});
  ASSERT_TRUE(leaf);
  if (!leaf->valid()) GTEST_SKIP() << "no cgroup is writable here";
  EXPECT_FALSE(cgroups_named("drover.--ber----x-y").empty());
}

TEST(Limits, WithoutPermissionItSaysWhatIsLeftAndGoesOn) {
  const pid_t child = ::fork();
  if (child == 0) {
    if (::geteuid() == 0 && (::setresgid(65534, 65534, 65534) != 0 || ::setresuid(65534, 65534, 65534) != 0)) ::_exit(90);
    auto tree = CgroupTree::create("test-nobody");
    if (!tree) ::_exit(1);
    auto leaf = tree->make_leaf("one", {.memory_bytes = 1 << 20});
    if (!leaf) ::_exit(2);
    if (leaf->valid()) ::_exit(0);  // delegated to this user: fine too
    if (tree->layers().memory != LimitLayer::polling || tree->layers().processes != LimitLayer::rlimit ||
        tree->layers().tree_kill != LimitLayer::absent)
      ::_exit(3);
    auto killed = leaf->kill();
    if (!killed || *killed) ::_exit(4);
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(Limits, TheProbeExplainsEveryLayerAndLeavesNothing) {
  const HostLimits host = probe_limits();
  EXPECT_EQ(host.lines.size(), 4u);
  for (const std::string& line : host.lines) {
    std::printf("%s\n", line.c_str());
    EXPECT_NE(line.find(" - "), std::string::npos);
  }
  EXPECT_TRUE(cgroups_named("drover.probe").empty());
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG | __WALL), -1);
}

}  // namespace
}  // namespace drover::test
