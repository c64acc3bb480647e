// Goal: a job whose supervisor or workers are SIGKILLed at random moments comes, by resumes, to the answer of an undisturbed run,
// with every task recorded once. Method: the real drover, real jobs, a seed for the moments.

#include "chaos/seed.hpp"
#include "cli/program.hpp"
#include "drover/types/random.hpp"
#include "os/file_system.hpp"
#include "os/pidfd.hpp"
#include "store/ledger.hpp"
#include "support/long.hpp"

namespace drover::test::cli {
namespace {

void pass(std::chrono::nanoseconds span) { std::this_thread::sleep_for(span); }  // sleep: the moment of a fault

/// `words` starts the job; then its supervisor is killed again and again, each time at a random moment of the resume, until
/// `kills` are done or the job has; then it is let through. The last JSON line of the run that completed it, or what the ledger says of it.
json finish_despite_kills(const Scratch& scratch, const Words& words, const std::string& job, int kills, std::chrono::nanoseconds latest, int& killed) {
  Rng rng(chaos_seed());
  bool begun = false;
  killed = 0;
  for (;;) {
    if (!begun) fs::remove_all(scratch / job);
    Started run(scratch, drover(begun ? Words{"resume", job, "--json"} : words));
    if (killed < kills) {
      pass(std::chrono::nanoseconds(static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(latest.count())))));
      if (!run.has_ended()) {
        run.signal(SIGKILL);
        ++killed;
      }
    }
    const Ended ended = run.wait(std::chrono::minutes(10));
    if (ended.status == 128 + SIGKILL) {
      // Killed before there was anything to resume: that is a job not begun, not a job lost.
      if (!begun) begun = fs::exists(scratch / (job + "/ledger.db")) && cli::run(scratch, {"status", job, "--json"}).status == 0;
      continue;
    }
    EXPECT_EQ(ended.status, 0) << "after " << killed << " kills: " << ended.all();
    // Killed after the end was recorded and before it was told: the next resume finds nothing to do, and the record has outcome and digest.
    return ended.out.empty() ? cli::run(scratch, {"status", job, "--json"}).last_json() : ended.last_json();
  }
}

void expect_each_recorded_once(const Scratch& scratch, const std::string& job, std::uint64_t tasks) {
  auto ledger = store::Ledger::open_to_read(posix_file_system(), scratch / (job + "/ledger.db"));
  ASSERT_TRUE(ledger) << ledger.error().what();
  auto rows = ledger->tasks(TaskId(0), tasks + 10);
  ASSERT_TRUE(rows) << rows.error().what();
  ASSERT_EQ(rows->size(), tasks);
  for (std::uint64_t i = 0; i < tasks; ++i) ASSERT_EQ((*rows)[i].task.value, i);
}

TEST(Chaos, AnEchoJobWithKilledSupervisorsRecordsEveryTaskOnceAndGivesTheSameDigest) {
  const Scratch scratch;
  const std::uint64_t tasks = scaled<std::uint64_t>(6'000, 100'000);
  const auto words = [&](const std::string& job) {
    return Words{"echo", "--tasks", std::to_string(tasks), "--bytes", "100", "--work", "200us", "--workers", "2", "--window", "8", "--job", job, "--json"};
  };
  const Ended undisturbed = run(scratch, words("quiet"), std::chrono::minutes(5));
  ASSERT_EQ(undisturbed.status, 0) << undisturbed.all();
  int killed = 0;
  const json result = finish_despite_kills(scratch, words("stormy"), "stormy", scaled(10, 200), 400ms, killed);
  EXPECT_EQ(result["outcome"], "completed") << result;
  EXPECT_EQ(result["digest"], undisturbed.last_json()["digest"]) << result;
  expect_each_recorded_once(scratch, "quiet", tasks);
  expect_each_recorded_once(scratch, "stormy", tasks);
  std::printf("%llu tasks, %d supervisors killed: each recorded once, the same digest\n", static_cast<unsigned long long>(tasks), killed);
  EXPECT_GE(killed, 3) << "the job was over before it could be disturbed";
}

// ---- solve: the same digest -----------------------------------------------------------------------------------------------------------

Words solve(const std::string& job, int workers) {
  return {"solve", "leduc", "--mode", "exact", "--iterations", scaled("400000", "20000000"), "--workers", std::to_string(workers), "--job", job, "--json"};
}

/// The first line of a file that may vanish while it is read.
std::string line_of(const fs::path& path) {
  std::ifstream file(path);
  std::string text;
  std::getline(file, text);
  return text;
}

/// Kills one of the job's workers: a descendant of the program that is called one. The pidfd is taken before its name is read.
bool kill_a_worker(pid_t supervisor, Rng& rng) {
  std::vector<pid_t> family{supervisor}, workers;
  for (std::size_t i = 0; i < family.size(); ++i) {
    std::error_code gone;
    for (const auto& task : fs::directory_iterator("/proc/" + std::to_string(family[i]) + "/task", gone)) {
      std::istringstream list(line_of(task.path() / "children"));
      for (pid_t child = 0; list >> child;) family.push_back(child);
    }
    if (line_of("/proc/" + std::to_string(family[i]) + "/cmdline").starts_with("drover-worker")) workers.push_back(family[i]);
  }
  if (workers.empty()) return false;
  const pid_t victim = workers[rng.below(workers.size())];
  const auto process = PidFd::open(victim);
  if (!process || !line_of("/proc/" + std::to_string(victim) + "/cmdline").starts_with("drover-worker")) return false;
  const auto sent = process->send(SIGKILL);
  return sent && *sent;
}

TEST(Chaos, SolveGivesTheSameDigestForAnyWorkersAndAnyKills) {
  const Scratch scratch;
  const Ended one = run(scratch, solve("one", 1), std::chrono::minutes(10));
  ASSERT_EQ(one.status, 0) << one.all();
  const json reference = one.last_json()["digest"];
  ASSERT_TRUE(reference.is_string()) << one.all();

  const Ended two = run(scratch, solve("two", 2), std::chrono::minutes(10));
  EXPECT_EQ(two.status, 0) << two.all();
  EXPECT_EQ(two.last_json()["digest"], reference);

  Rng rng(chaos_seed());
  int kills = 0;
  {
    Started stormy(scratch, drover(solve("stormy", 2)));
    while (kills < 20 && !stormy.has_ended()) {
      pass(std::chrono::microseconds(rng.below(20'000)));
      if (!kill_a_worker(stormy.pid(), rng)) continue;
      // Eleven restarts without one completed task would end the job, and rightly: on a busy machine let one through in between.
      if (++kills % 8 == 0) {
        const auto completed = [&] { return status_of(scratch, "stormy")["counts"].value("completed", 0); };
        const int before = completed();
        eventually([&] { return stormy.has_ended() || completed() > before; });
      }
    }
    const Ended ended = stormy.wait(std::chrono::minutes(10));
    EXPECT_EQ(ended.status, 0) << ended.all();
    EXPECT_EQ(ended.last_json()["digest"], reference) << ended.all();
  }
  int killed = 0;
  const json resumed = finish_despite_kills(scratch, solve("killed", 2), "killed", scaled(3, 30), 500ms, killed);
  EXPECT_EQ(resumed["digest"], reference) << resumed;
  std::printf("one worker, two workers, two with %d kills, %d supervisors killed and resumed: digest %s\n", kills, killed, reference.get<std::string>().c_str());
  EXPECT_GE(kills, 5) << "the job was over before it could be disturbed";
}

}  // namespace
}  // namespace drover::test::cli
