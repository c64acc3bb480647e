// Goal: the limits hold on this host, not in theory; whoever writes past drover is named; the incident that drover was made after ends
// well. Method: the self-test in full; foreign holders and a writer that is gone in an instant; the demo as users run it.

#include <sys/stat.h>

#include <fstream>
#include <random>

#include "cli/program.hpp"
#include "support/long.hpp"

namespace drover::test::cli {
namespace {

bool contained_here(const Scratch& scratch) { return run(scratch, {"doctor", "--json"}).last_json()["layers"]["containment"] != "absent"; }

TEST(Selftest, EveryEnforcerHoldsOnThisHost) {
  const Scratch scratch;
  if (!contained_here(scratch)) GTEST_SKIP() << "this host contains nothing";
  const Ended ended = run(scratch, {"selftest", "--json"});
  const json result = ended.last_json();
  EXPECT_EQ(ended.status, 0) << ended.all();
  EXPECT_EQ(result["failed"], 0) << result.dump(1);
  EXPECT_GE(result["cases"].size(), 13u);
  EXPECT_FALSE(fs::exists(scratch / "drover-jobs")) << "it leaves nothing here";
}

TEST(Guard, AWallClockThatJumpsByDaysChangesNoLimitAndNoOrder) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "the sanitizer wants to be loaded first";
#endif
  const Scratch scratch;
  const std::string preload = "LD_PRELOAD=" DROVER_BINARY_DIR "/tests/evil/wall_clock.so";
  const auto with_jumps = [&](Words words) {
    words.insert(words.begin(), {"/usr/bin/env", preload, DROVER_BINARY});
    return Started(scratch, std::move(words)).wait();
  };
  const auto begin = std::chrono::steady_clock::now();
  const Ended wall = with_jumps({"guard", "--json", "--job", "a", "--progress", "none", "--wall", "1500ms", "--grace", "100ms", "--stall", "20s", "--", "sh", "-c", "while :; do :; done"});
  EXPECT_EQ(wall.status, 3) << wall.all();
  EXPECT_EQ(wall.last_json()["outcome"], "limit");
  EXPECT_GE(std::chrono::steady_clock::now() - begin, 1000ms) << "not before its time either: it is asked 300 ms ahead";
  const Ended steps = with_jumps({"guard", "--json", "--job", "b", "--progress", "none", "--notify", "--store", "ckpt", "--", DROVER_BINARY_DIR "/tests/evil/trainee", "step:1", "save:model:1", "sleep:120", "step:2", "save:model:2", "sleep:120", "step:3", "save:model:3"});
  EXPECT_EQ(steps.status, 0) << steps.all();
  const json all = run(scratch, {"ckpt", "ls", "--store", "ckpt", "--json"}).last_json();
  ASSERT_EQ(all.size(), 3u);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(all[i]["step"], i + 1);
  EXPECT_EQ(all[2]["head"], true);
}

TEST(Audit, NamesWhoHoldsAndWhoWritesHoweverShortly) {
  const Scratch scratch;
  fs::create_directory(scratch / "store");
  const Ended nobody = run(scratch, {"audit", "store"});
  EXPECT_TRUE(nobody.status == 0 || nobody.status == 1) << nobody.all();
  {
    std::ofstream held(scratch / "store/held");
    const Ended found = run(scratch, {"audit", "store", "--json"});
    EXPECT_EQ(found.status, 4) << found.all();
    ASSERT_EQ(found.last_json()["foreign"].size(), 1u);
    EXPECT_EQ(found.last_json()["foreign"][0]["pid"], ::getpid());
    EXPECT_EQ(found.last_json()["foreign"][0]["writes"], true);
  }
  if (::geteuid() != 0) GTEST_SKIP() << "watching for writers needs root";
  Started watching(scratch, drover({"audit", "store", "--watch", "1500ms", "--json"}));
  int round = 0;
  EXPECT_TRUE(eventually([&] {
    std::ofstream(scratch / "store/short") << round++;  // open, write, close: between two looks at /proc
    return watching.has_ended();
  }));
  const Ended found = watching.wait();
  if (found.err.find("fanotify") != std::string::npos) GTEST_SKIP() << found.err;
  EXPECT_EQ(found.status, 4) << found.all();
  EXPECT_NE(found.out.find("store/short"), std::string::npos) << found.all();
}

TEST(Guard, NobodyOutlivesASupervisorKilledAtAnyInstantLaunchIncluded) {
  const Scratch scratch;
  if (!contained_here(scratch)) GTEST_SKIP() << "this host contains nothing";
  const char* const given = std::getenv("DROVER_TEST_SEED");
  const std::uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
  std::printf("Survivors: DROVER_TEST_SEED=%llu\n", static_cast<unsigned long long>(seed));
  std::mt19937_64 random(seed);
  int before_it_ran = 0;
  const int rounds = scaled(12, 1000);
  for (int round = 0; round < rounds; ++round) {
    const std::string fifo = scratch / ("held-" + std::to_string(round));
    ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
    const int reader = ::open(fifo.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    const std::string script = "exec 3> " + fifo + "; (setsid sh -c 'trap \"\" TERM HUP; sleep 1000' &); echo x >&3; trap '' TERM; sleep 1000";
    Started job(scratch, drover({"guard", "--job", "j" + std::to_string(round), "--progress", "none", "--", "sh", "-c", script}));
    ::usleep(static_cast<useconds_t>(random() % 150'000));  // sleep: the kill comes at any instant
    job.signal(SIGKILL);
    job.wait();
    bool seen = false;
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_TRUE(eventually([&] {
      char bytes[16];
      const ssize_t n = ::read(reader, bytes, sizeof bytes);
      seen = seen || n > 0;
      // Before it ran nobody has opened it: then nobody may open it later either.
      return n == 0 && (seen || std::chrono::steady_clock::now() - begin > 150ms);
    }, 10s)) << "seed " << seed << ", round " << round << ": somebody outlived the supervisor";
    before_it_ran += seen ? 0 : 1;
    ::close(reader);
  }
  std::printf("%d kills, %d of them before the command ran\n", rounds, before_it_ran);
}

TEST(Incident, EndsAsPromisedUnderDrover) {
  const Scratch scratch;
  if (!contained_here(scratch)) GTEST_SKIP() << "this host contains nothing";
  const Ended demo = Started(scratch, {"/usr/bin/env", "INCIDENT_SECONDS=50", DROVER_SOURCE_DIR "/examples/incident/run.sh", DROVER_BINARY_DIR}).wait(std::chrono::minutes(3));
  EXPECT_EQ(demo.status, 0) << demo.all();
  EXPECT_NE(demo.out.find("drover kept its promises"), std::string::npos) << demo.all();
}

TEST(Incident, TheCppExampleGoesOnAfterItsSupervisorIsKilled) {
  const Scratch scratch;
  const std::string example = DROVER_BINARY_DIR "/examples/trainer";
  const std::string alone = Started(scratch, {example, "20000"}).wait().out;
  ASSERT_NE(alone.find("step 20000: y = "), std::string::npos);
  Started job(scratch, drover({"guard", "--job", "a", "--progress", "none", "--notify", "--store", "ckpt", "--restart", "transient", "--", example, "20000"}));
  ASSERT_TRUE(eventually([&] { return run(scratch, {"ckpt", "ls", "--store", "ckpt"}).out.find("head") != std::string::npos; }));
  job.signal(SIGKILL);
  job.wait();
  const Ended resumed = run(scratch, {"resume", "a", "--json"});
  EXPECT_EQ(resumed.status, 0) << resumed.all();
  EXPECT_NE(read_file(scratch / "a/command.log").find(alone), std::string::npos) << "the same to the last bit: " << read_file(scratch / "a/command.log");
}

}  // namespace
}  // namespace drover::test::cli
