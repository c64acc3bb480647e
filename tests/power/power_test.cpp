// Goal: a power failure loses no acknowledged checkpoint, tears none, and leaves a store that opens. Method: a real ext4 and XFS in a
// loop image; a process commits and retains there as fast as it can and says each acknowledgement; FS_IOC_SHUTDOWN without a log flush
// (what was not on disk is gone), kill, unmount, mount, and look. Needs root and loop devices; skips, saying so, without.
//
// What this cannot show: a device that reorders or tears behind its write cache. tests/store simulates that.

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <random>

#include "drover/checkpoint.hpp"
#include "support/long.hpp"

namespace drover::test {
namespace {

namespace fs = std::filesystem;

constexpr unsigned long kShutdown = _IOR('X', 125, __u32);  // FS_IOC_SHUTDOWN, the same for both
constexpr __u32 kNoLogFlush = 2;

bool ran(const std::string& line) { return std::system((line + " >/dev/null 2>&1").c_str()) == 0; }

/// A file system in an image, mounted; gone with this.
class Image {
 public:
  Image(const std::string& kind, const std::string& options) : options_(options) {
    std::string pattern = (fs::temp_directory_path() / "drover-power-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) return;
    root_ = pattern;
    fs::create_directory(mount());
    made_ = ran(fmt::format("truncate -s 320M {0}/image && mkfs.{1} -q {0}/image", root_, kind)) && attach();
  }
  ~Image() {
    detach();
    std::error_code ignored;
    if (!root_.empty()) fs::remove_all(root_, ignored);
  }
  Image(const Image&) = delete;
  Image& operator=(const Image&) = delete;
  bool made() const { return made_; }
  std::string mount() const { return root_ + "/mount"; }
  bool attach() { return ran(fmt::format("mount -o loop,{1} {0}/image {0}/mount", root_, options_)); }
  bool detach() { return root_.empty() || ::umount2(mount().c_str(), 0) == 0 || ::umount2(mount().c_str(), MNT_DETACH) == 0; }
  bool fail_power() const {
    const int fd = ::open(mount().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    __u32 how = kNoLogFlush;
    const bool failed = fd >= 0 && ::ioctl(fd, kShutdown, &how) == 0;
    if (fd >= 0) ::close(fd);
    return failed;
  }

 private:
  std::string root_, options_;
  bool made_ = false;
};

/// Commits for ever; each acknowledged step is a word in the pipe.
[[noreturn]] void commit_for_ever(const std::string& directory, int acknowledged, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  auto store = CheckpointStore::open(directory);
  if (!store) ::_exit(1);
  const auto lease = store->acquire("run", {});
  if (!lease) ::_exit(1);
  const auto head = store->newest_good("run", {});
  std::uint64_t step = head ? head->manifest.step : 0;
  std::vector<std::byte> model(200'000 + random() % 400'000), table(std::size_t{2} << 20);
  for (;;) {
    ++step;
    for (std::size_t i = 0; i < model.size(); i += 8) model[i] = static_cast<std::byte>(random());
    table[random() % table.size()] = static_cast<std::byte>(random());
    NewCheckpoint checkpoint{.step = step};
    checkpoint.files.push_back({.name = "model", .source = BytesView(model)});
    checkpoint.files.push_back({.name = "table", .source = BytesView(table), .changes_only = true});
    if (!store->commit(*lease, checkpoint)) ::_exit(0);  // the power is gone
    if (::write(acknowledged, &step, sizeof step) != sizeof step) ::_exit(0);
    if (!store->retain("run", {.last = 3, .best = 0})) ::_exit(0);
  }
}

void fails_often(const std::string& kind, const std::string& options) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to mount";
  if (!ran("command -v mkfs." + kind)) GTEST_SKIP() << "mkfs." << kind << " is not installed";
  Image image(kind, options);
  if (!image.made()) GTEST_SKIP() << "this host mounts no loop image with " << kind;
  const char* const given = std::getenv("DROVER_TEST_SEED");
  const std::uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
  std::printf("Power: DROVER_TEST_SEED=%llu\n", static_cast<unsigned long long>(seed));
  std::mt19937_64 random(seed);
  std::uint64_t acknowledgements = 0, failures = 0;
  for (int round = 0; round < scaled(4, 220); ++round) {
    const std::string context = fmt::format("{}, seed {}, round {}", kind, seed, round);
    std::array<int, 2> pipe{};
    ASSERT_EQ(::pipe2(pipe.data(), O_CLOEXEC), 0);
    const std::uint64_t child_seed = random();
    const pid_t pid = ::fork();
    if (pid == 0) commit_for_ever(image.mount() + "/store", pipe[1], child_seed);
    ::close(pipe[1]);
    ::usleep(static_cast<useconds_t>(50'000 + random() % 500'000));  // sleep: the failure comes at any instant
    // Only what was said before the power failed counts.
    std::deque<std::uint64_t> said;
    ::fcntl(pipe[0], F_SETFL, O_NONBLOCK);
    std::uint64_t step = 0;
    while (::read(pipe[0], &step, sizeof step) == sizeof step) said.push_back(step);
    ASSERT_TRUE(image.fail_power()) << context;
    ::kill(pid, SIGKILL);
    ASSERT_EQ(::waitpid(pid, nullptr, 0), pid);
    ::close(pipe[0]);
    ASSERT_TRUE(image.detach() && image.attach()) << context;
    acknowledgements += said.size();
    ++failures;
    auto store = CheckpointStore::open(image.mount() + "/store");
    ASSERT_TRUE(store.has_value()) << context << ": " << store.error().what();
    const auto damaged = store->verify();
    ASSERT_TRUE(damaged.has_value()) << context << ": " << damaged.error().what();
    ASSERT_TRUE(damaged->empty()) << context << ": torn: " << (*damaged)[0].reason;
    const auto all = store->list("run");
    ASSERT_TRUE(all.has_value()) << context;
    const auto head = store->newest_good("run", {});
    if (said.empty()) continue;
    ASSERT_TRUE(head.has_value()) << context << ": step " << said.back() << " was acknowledged: " << head.error().what();
    ASSERT_GE(head->manifest.step, said.back()) << context << ": an acknowledged checkpoint is lost";
    // The newest three that were acknowledged are kept, unless newer ones stand.
    std::uint64_t newer = 0;
    for (const CheckpointEntry& one : *all) newer += one.manifest.step > said.back() ? 1 : 0;
    for (std::size_t n = 0; n + newer < 3 && n < said.size(); ++n) {
      const std::uint64_t wanted = said[said.size() - 1 - n];
      ASSERT_TRUE(std::ranges::any_of(*all, [&](const CheckpointEntry& one) { return one.manifest.step == wanted; })) << context << ": step " << wanted << " is lost";
    }
    ASSERT_TRUE(store->collect_garbage().has_value()) << context;
  }
  std::printf("%s: %llu power failures, %llu acknowledged checkpoints, none lost, none torn\n", kind.c_str(), static_cast<unsigned long long>(failures), static_cast<unsigned long long>(acknowledgements));
  EXPECT_GT(acknowledgements, failures);
}

TEST(Power, AFailureOnExt4LosesAndTearsNothing) { fails_often("ext4", "commit=1,noauto_da_alloc"); }
TEST(Power, AFailureOnXfsLosesAndTearsNothing) { fails_often("xfs", "noatime"); }

}  // namespace
}  // namespace drover::test
