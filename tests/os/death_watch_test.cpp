// Goal: a worker's death is told by its death word, of the right worker, whatever its size; and no worker can hurt or stop the
// watch. Method: tests/evil/mourner.cpp holds the word.

#include "os/death_watch.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "os/clock.hpp"
#include "os/memfd.hpp"
#include "os/pidfd.hpp"
#include "os/poller.hpp"
#include "os/process_stats.hpp"
#include "support/long.hpp"

namespace drover::test {
namespace {

TimePoint in(Nanos timeout) { return after(system_clock().now(), timeout); }

/// A mourner with a page of its own.
class Mourner {
 public:
  explicit Mourner(std::vector<std::string> arguments)
      : page_(Memfd::create("page", 4096).value()), mapping_(page_.map_writable().value()) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) abort();
    arguments.insert(arguments.begin(), "mourner");
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    const std::string path = std::string(DROVER_BINARY_DIR) + "/tests/evil/mourner";
    pid_ = ::fork();
    if (pid_ == 0) {
      const int page = ::fcntl(page_.fd(), F_DUPFD, 20);
      const int ready = ::fcntl(ends[1], F_DUPFD, 20);
      ::dup2(page, 3);
      ::dup2(ready, 4);
      ::execv(path.c_str(), argv.data());
      ::_exit(127);
    }
    ::close(ends[1]);
    ready_.reset(ends[0]);
    process_ = PidFd::open(pid_).value();
  }
  ~Mourner() { end(); }
  Mourner(const Mourner&) = delete;

  bool wait_ready() {
    char byte;
    return wait_readable(ready_.get(), in(Seconds(20))) && ::read(ready_.get(), &byte, 1) == 1;
  }
  void end() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }
  std::atomic<std::uint32_t>* word() { return reinterpret_cast<std::atomic<std::uint32_t>*>(mapping_.data()); }
  const PidFd& process() const { return process_; }
  pid_t pid() const { return pid_; }

 private:
  Memfd page_;
  Mapping mapping_;
  UniqueFd ready_;
  PidFd process_;
  pid_t pid_ = 0;
};

std::unique_ptr<DeathWatch> start_watch() {
  auto watch = DeathWatch::start();
  return watch ? std::move(*watch) : nullptr;
}

std::vector<std::uint64_t> wait_hints(DeathWatch& watch, TimePoint deadline) {
  std::vector<std::uint64_t> tokens;
  if (wait_readable(watch.fd(), deadline)) watch.take(tokens);
  return tokens;
}

#define NEEDS_WATCH(name)          \
  const auto name = start_watch(); \
  if (!name) GTEST_SKIP() << "this kernel has no futex_waitv"

TEST(DeathWatchTest, TheRightWorkerIsHintedAndFastWhateverItsSize) {
  NEEDS_WATCH(watch);
  for (const std::string mebibytes : {"0", "256"}) {
    std::vector<double> hint_ms;
    std::vector<double> pidfd_ms;
    for (int round = 0; round < scaled(3, 15); ++round) {
      Mourner a({"stay"});
      Mourner b({"stay", mebibytes});
      ASSERT_TRUE(watch->add(a.word(), 1));
      ASSERT_TRUE(watch->add(b.word(), 2));
      ASSERT_TRUE(a.wait_ready() && b.wait_ready());
      const TimePoint killed = system_clock().now();
      ASSERT_TRUE(b.process().send(SIGKILL));
      EXPECT_EQ(wait_hints(*watch, in(Seconds(5))), std::vector<std::uint64_t>{2});
      hint_ms.push_back(static_cast<double>((system_clock().now() - killed).count()) / 1e6);
      EXPECT_TRUE(b.process().wait_dead(in(Seconds(5))));
      pidfd_ms.push_back(static_cast<double>((system_clock().now() - killed).count()) / 1e6);
      watch->remove(1);
      watch->remove(2);
    }
    std::ranges::sort(hint_ms);
    std::ranges::sort(pidfd_ms);
    std::printf("%s MiB: death hint p50 %.2f ms, pidfd p50 %.2f ms\n", mebibytes.c_str(), hint_ms[hint_ms.size() / 2],
                pidfd_ms[pidfd_ms.size() / 2]);
  }
}

TEST(DeathWatchTest, AnExitAndAnExecAreHintedToo) {
  NEEDS_WATCH(watch);
  for (const std::string how : {"exit", "exec"}) {
    Mourner worker({how});
    ASSERT_TRUE(watch->add(worker.word(), 5));
    EXPECT_EQ(wait_hints(*watch, in(Seconds(5))), std::vector<std::uint64_t>{5}) << how;
    watch->remove(5);
  }
}

// libc keeps its own robust mutexes in the same list; linking and unlinking around our entry must not break either.
TEST(DeathWatchTest, TheListIsSharedWithLibcsRobustMutexes) {
  NEEDS_WATCH(watch);
  Mourner worker({"mutex"});
  ASSERT_TRUE(watch->add(worker.word(), 5));
  ASSERT_TRUE(worker.wait_ready());
  ASSERT_TRUE(worker.process().send(SIGKILL));
  EXPECT_EQ(wait_hints(*watch, in(Seconds(5))), std::vector<std::uint64_t>{5});
}

TEST(DeathWatchTest, AWorkerThatDiedBeforeItWasWatchedIsHintedAtOnce) {
  NEEDS_WATCH(watch);
  Mourner worker({"exit"});
  ASSERT_TRUE(worker.wait_ready());
  ASSERT_TRUE(worker.process().wait_dead(in(Seconds(5))));
  ASSERT_TRUE(watch->add(worker.word(), 6));
  EXPECT_EQ(wait_hints(*watch, in(Seconds(5))), std::vector<std::uint64_t>{6});
}

TEST(DeathWatchTest, ARemovedWordIsNeverReadAgainAndItsHintIsForgotten) {
  NEEDS_WATCH(watch);
  for (int round = 0; round < scaled(50, 1000); ++round) {
    auto memory = Memfd::create("word", 4096);
    auto mapping = memory->map_writable();
    auto* word = reinterpret_cast<std::atomic<std::uint32_t>*>(mapping->data());
    ASSERT_TRUE(watch->add(word, 7));
    if (round % 2 == 1) word->store(0x40000000u | 1234);  // FUTEX_OWNER_DIED, seen or not
    watch->remove(7);
    *mapping = Mapping();  // unmapped: a read of it would be the end of this test
  }
  std::vector<std::uint64_t> tokens;
  watch->take(tokens);
  EXPECT_TRUE(tokens.empty());
  std::atomic<std::uint32_t> dead{0x40000000u | 1234};
  ASSERT_TRUE(watch->add(&dead, 8));
  ASSERT_TRUE(wait_readable(watch->fd(), in(Seconds(5))));  // hinted, not yet taken
  watch->remove(8);
  watch->take(tokens);
  EXPECT_TRUE(tokens.empty());
}

TEST(DeathWatchTest, ItHoldsItsBoundAndAllOfThemWork) {
  NEEDS_WATCH(watch);
  auto memory = Memfd::create("words", 64 * (DeathWatch::kWordsMax + 1));
  auto mapping = memory->map_writable();
  const auto word = [&](std::size_t i) { return reinterpret_cast<std::atomic<std::uint32_t>*>(mapping->data() + 64 * i); };
  for (std::size_t i = 0; i < DeathWatch::kWordsMax; ++i) ASSERT_TRUE(watch->add(word(i), i));
  EXPECT_EQ(watch->add(word(DeathWatch::kWordsMax), 999).error().code(), ErrorCode::no_space);
  Mourner last({"stay"});
  watch->remove(DeathWatch::kWordsMax - 1);
  ASSERT_TRUE(watch->add(last.word(), 999));
  ASSERT_TRUE(last.wait_ready());
  ASSERT_TRUE(last.process().send(SIGKILL));
  EXPECT_EQ(wait_hints(*watch, in(Seconds(5))), std::vector<std::uint64_t>{999});
}

// A worker that rings and changes its word without end gets dropped: the watching thread must fall asleep again.
TEST(DeathWatchTest, ALiarDoesNotKeepTheWatchAwake) {
  NEEDS_WATCH(watch);
  Mourner liar({"lie"});
  Mourner honest({"stay"});
  ASSERT_TRUE(watch->add(liar.word(), 1));
  ASSERT_TRUE(watch->add(honest.word(), 2));
  ASSERT_TRUE(liar.wait_ready() && honest.wait_ready());
  const auto cpu_of_this_process = [] { return cpu_time(::getpid()).value(); };
  EXPECT_TRUE(wait_hints(*watch, in(Millis(100))).empty());
  const Nanos before = cpu_of_this_process();
  EXPECT_TRUE(wait_hints(*watch, in(Millis(300))).empty());
  EXPECT_LT(cpu_of_this_process() - before, Millis(10)) << "the watch spins";
  ASSERT_TRUE(honest.process().send(SIGKILL));
  EXPECT_EQ(wait_hints(*watch, in(Seconds(5))), std::vector<std::uint64_t>{2});
}

TEST(DeathWatchTest, AnIdleWatchDoesNotWakeUp) {
  NEEDS_WATCH(watch);
  Mourner worker({"stay"});
  ASSERT_TRUE(watch->add(worker.word(), 1));
  ASSERT_TRUE(worker.wait_ready());
  EXPECT_TRUE(wait_hints(*watch, in(Millis(20))).empty());
  const Nanos before = cpu_time(::getpid()).value();
  const std::uint64_t switches = voluntary_switches(::getpid()).value();
  EXPECT_TRUE(wait_hints(*watch, in(Millis(scaled(300, 3000)))).empty());
  EXPECT_LE(voluntary_switches(::getpid()).value() - switches, 2u) << "ours is one of them: it slept in poll";
  EXPECT_LT(cpu_time(::getpid()).value() - before, Millis(20));
}

}  // namespace
}  // namespace drover::test
