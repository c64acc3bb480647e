// Goal: kill -9 at any instant costs nothing that was acknowledged, and nothing is recorded twice. Method: a child process writes and
// says through a pipe what was acknowledged to it; it is killed at every call SQLite makes to the system (by itself, so the instant is
// exact) and at random acknowledgements (by its parent). Then the ledger is opened as a resume does, and the next child goes on.

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

#include <functional>
#include <set>

#include "sim/fault_vfs.hpp"
#include "store/support.hpp"

namespace drover::store::test {
namespace {

struct Child {
  pid_t pid = -1;
  int out = -1;   // what it says, 8 bytes a word
};

/// Runs `body(say)` in a child; it must not return by itself before it is done.
Child start(const std::function<void(const std::function<void(std::uint64_t)>&)>& body) {
  int ends[2];
  if (::pipe(ends) != 0) std::abort();
  std::fflush(nullptr);
  const pid_t pid = ::fork();
  if (pid < 0) std::abort();
  if (pid == 0) {
    ::close(ends[0]);
    body([&](std::uint64_t word) {
      if (::write(ends[1], &word, sizeof word) != ssize_t{sizeof word}) ::_exit(9);
    });
    ::_exit(0);
  }
  ::close(ends[1]);
  return {pid, ends[0]};
}

/// The next word; nothing when the child is gone. Fails the test at the bound.
std::optional<std::uint64_t> hear(const Child& child) {
  pollfd one{child.out, POLLIN, 0};
  if (::poll(&one, 1, 60'000) != 1) {
    ADD_FAILURE() << "the child says nothing";
    ::kill(child.pid, SIGKILL);
    return std::nullopt;
  }
  std::uint64_t word = 0;
  return ::read(child.out, &word, sizeof word) == ssize_t{sizeof word} ? std::optional(word) : std::nullopt;
}
/// What it said until it was gone; its wait status.
int bury(const Child& child, std::vector<std::uint64_t>& said) {
  while (const auto word = hear(child)) said.push_back(*word);
  int status = 0;
  ::waitpid(child.pid, &status, 0);
  ::close(child.out);
  return status;
}

constexpr std::uint64_t kStarted = ~std::uint64_t{0}, kEnded = kStarted - 1;

/// Goes on with the job: the tasks that are not recorded, in batches of `width`; says each batch's tasks once acknowledged.
void work(const std::string& dir, Grain grain, const std::string& vfs, std::uint64_t tasks, std::uint64_t width, const std::function<void(std::uint64_t)>& say) {
  Job job(dir);
  if (!job.start({.grain = grain, .vfs = vfs}, {}, true)) ::_exit(3);
  say(kStarted);
  std::vector<std::uint64_t> open;
  std::size_t at = 0;
  for (std::uint64_t task = 0; task < tasks; ++task) {
    while (at < job.recovery.recorded.size() && job.recovery.recorded[at].last.value < task) ++at;
    if (at == job.recovery.recorded.size() || job.recovery.recorded[at].first.value > task) open.push_back(task);
  }
  const std::string large(6000, 'x');
  for (std::size_t i = 0; i < open.size(); i += width) {
    const std::size_t end = std::min<std::size_t>(i + width, open.size());
    for (std::size_t k = i; k < end; ++k) {
      const std::uint64_t task = open[k];
      if (task % 16 == 3) job.complete(task, large, true);
      else if (task % 16 == 5) job.complete(task, "small", true);
      else if (task % 16 == 7) job.batch.add(job.number(), TaskFailed{.task = TaskId(task), .outcome = outcome::AppError{"no"}});
      else job.complete(task);
    }
    if (!job.settle()) ::_exit(4);
    for (std::size_t k = i; k < end; ++k) say(open[k]);
  }
  if (!job.finish()) ::_exit(5);
  say(kEnded);
}

/// Opens as a resume does and checks everything that was acknowledged so far.
void check(const std::string& dir, const std::set<std::uint64_t>& acknowledged, bool ended, const std::string& what) {
  auto ledger = Ledger::open(posix_file_system(), dir + "/ledger.db", {});
  ASSERT_TRUE(ledger.has_value()) << what << ": " << ledger.error().what();
  const auto recovery = ledger->recover("boot-1", Nanos(9999));  // two records of one task would be an error here
  ASSERT_TRUE(recovery.has_value()) << what << ": " << recovery.error().what();
  std::size_t at = 0;
  for (const std::uint64_t task : acknowledged) {
    while (at < recovery->recorded.size() && recovery->recorded[at].last.value < task) ++at;
    ASSERT_TRUE(at < recovery->recorded.size() && recovery->recorded[at].first.value <= task) << what << ": task " << task << " was acknowledged and is lost";
    if (task % 16 == 3 || task % 16 == 5) {
      const auto result = ledger->result(TaskId(task));
      ASSERT_TRUE(result.has_value() && result->has_value()) << what << ": the result of task " << task << (result ? "" : ": " + result.error().what());
      ASSERT_EQ((*result)->size(), task % 16 == 3 ? 6000u : 5u) << what;
    }
  }
  ASSERT_TRUE(recovery->last_run.has_value()) << what;
  if (ended) {
    EXPECT_EQ(recovery->last_run->ending_name, "completed") << what;
  }
}

class EachGrainKilled : public ::testing::TestWithParam<Grain> {};
INSTANTIATE_TEST_SUITE_P(LedgerKill, EachGrainKilled, ::testing::Values(Grain::rows, Grain::ranges), [](const auto& which) { return std::string(name_of(which.param)); });

TEST_P(EachGrainKilled, AtEachCallToTheSystem) {
  constexpr std::uint64_t kTasks = 24;
  std::uint64_t calls = 0;
  {
    sim::FaultVfs vfs;
    TempDir dir;
    std::vector<std::uint64_t> said;
    const Child child = start([&](const auto& say) {
      work(dir.path(), GetParam(), sim::FaultVfs::name(), kTasks, 8, say);
      say(vfs.calls());
    });
    ASSERT_EQ(bury(child, said), 0);
    calls = said.back();
  }
  ASSERT_GT(calls, 20u);
  std::size_t kills = 0;
  const std::uint64_t stride = scaled<std::uint64_t>(3, 1);
  for (std::uint64_t k = 1; k <= calls; k += stride) {
    TempDir dir;
    std::vector<std::uint64_t> said;
    const Child child = start([&](const auto& say) {
      sim::FaultVfs vfs;
      vfs.arm({.at_call = k, .instead = [] { ::raise(SIGKILL); }});
      work(dir.path(), GetParam(), sim::FaultVfs::name(), kTasks, 8, say);
    });
    const int status = bury(child, said);
    ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << "call " << k << " status " << status;
    ++kills;
    if (said.empty()) {
      // Killed before the start was acknowledged. The ledger may be absent or unfinished, which is said as such, or usable.
      auto opened = Ledger::open(posix_file_system(), dir / "ledger.db", {});
      if (!opened) {
        EXPECT_TRUE(opened.error().code() == ErrorCode::not_found || opened.error().code() == ErrorCode::corrupt) << opened.error().what();
      }
      continue;
    }
    const std::set<std::uint64_t> acknowledged = [&] {
      std::set<std::uint64_t> tasks;
      for (const std::uint64_t word : said)
        if (word < kTasks) tasks.insert(word);
      return tasks;
    }();
    ASSERT_NO_FATAL_FAILURE(check(dir.path(), acknowledged, false, "killed at call " + std::to_string(k)));
    // The next run completes it.
    std::vector<std::uint64_t> more;
    const Child next = start([&](const auto& say) { work(dir.path(), GetParam(), "", kTasks, 8, say); });
    ASSERT_EQ(bury(next, more), 0) << "killed at call " << k;
    EXPECT_EQ(more.back(), kEnded);
    std::set<std::uint64_t> all;
    for (std::uint64_t task = 0; task < kTasks; ++task) all.insert(task);
    ASSERT_NO_FATAL_FAILURE(check(dir.path(), all, true, "after the resume of call " + std::to_string(k)));
  }
  std::printf("%zu kills at exact calls\n", kills);
}

TEST_P(EachGrainKilled, AtRandomInstantsManyTimesOverOneJob) {
  const std::uint64_t seed = seed_of("RandomKills");
  Random random(seed);
  const std::uint64_t tasks = scaled<std::uint64_t>(4'000, 400'000);
  const int kills_max = scaled(10, 500);
  TempDir dir;
  std::set<std::uint64_t> acknowledged;
  int kills = 0;
  for (bool ended = false; !ended;) {
    const Child child = start([&](const auto& say) { work(dir.path(), GetParam(), "", tasks, 37, say); });
    const bool kill = kills < kills_max;
    const std::uint64_t after_words = random.below(2 * tasks / static_cast<std::uint64_t>(kills_max));
    std::uint64_t heard = 0;
    while (const auto word = hear(child)) {
      if (*word == kEnded) ended = true;
      if (*word < tasks) {
        ASSERT_TRUE(acknowledged.insert(*word).second) << "task " << *word << " was acknowledged twice, seed " << seed;
      }
      if (kill && ++heard == after_words + 1) {
        ::kill(child.pid, SIGKILL);
        ++kills;
      }
    }
    int status = 0;
    ::waitpid(child.pid, &status, 0);
    ::close(child.out);
    ASSERT_TRUE(WIFSIGNALED(status) || (WIFEXITED(status) && WEXITSTATUS(status) == 0)) << status << " seed " << seed;
    ASSERT_NO_FATAL_FAILURE(check(dir.path(), acknowledged, ended, "seed " + std::to_string(seed)));
  }
  auto ledger = Ledger::open_to_read(posix_file_system(), dir / "ledger.db");
  ASSERT_OK(ledger);
  EXPECT_EQ(*ledger->recorded(), (std::vector<RecordedRange>{{TaskId(0), TaskId(tasks - 1)}}));
  std::printf("%d kills over %llu tasks, %zu runs\n", kills, static_cast<unsigned long long>(tasks), ledger->runs("boot-1", nullptr)->size());
}

}  // namespace
}  // namespace drover::store::test
