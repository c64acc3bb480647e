// Goal: `drover guard` ends a command at each of its limits, tells the cause, and leaves nobody behind. Method: the real program
// on real commands, which hold a pipe of ours for as long as they live.

#include <fstream>

#include "cli/program.hpp"

namespace drover::test::cli {
namespace {

struct Guarded {
  Ended ended;
  json result;
};
Guarded guard(const Scratch& scratch, std::vector<std::string> options, const std::vector<std::string>& command) {
  std::vector<std::string> words{"guard", "--json", "--job", "a", "--progress", "none"};
  words.insert(words.end(), options.begin(), options.end());
  words.emplace_back("--");
  words.insert(words.end(), command.begin(), command.end());
  Guarded guarded{.ended = run(scratch, words), .result = {}};
  if (!guarded.ended.out.empty()) guarded.result = guarded.ended.last_json();
  return guarded;
}

TEST(Guard, TheCommandsOwnEndIsTheJobs) {
  const Scratch scratch;
  const Guarded good = guard(scratch, {}, {"sh", "-c", "echo said; exit 0"});
  EXPECT_EQ(good.ended.status, 0) << good.ended.all();
  EXPECT_EQ(good.result["outcome"], "completed");
  std::ifstream log(scratch / "a/command.log");
  std::string line;
  std::getline(log, line);
  EXPECT_EQ(line, "said");

  const Scratch other;
  const Guarded bad = guard(other, {}, {"sh", "-c", "exit 3"});
  EXPECT_EQ(bad.ended.status, 1) << bad.ended.all();
  EXPECT_EQ(bad.result["outcome"], "incomplete");
  EXPECT_EQ(bad.result["exit_reason"], "exited(3)");
  EXPECT_EQ(bad.result["figures"]["command_code"], 3);
}

TEST(Guard, EachLimitEndsItAndIsNamed) {
  const struct {
    std::vector<std::string> options, command;
    const char* outcome;
    const char* command_end;
    int status;
  } cases[] = {
      {{"--wall", "600ms", "--grace", "100ms"}, {"sh", "-c", "trap '' TERM; while :; do sleep 0.01; done"}, "limit", "stopped", 3},
      {{"--cpu", "200ms", "--grace", "100ms"}, {"sh", "-c", "(while :; do :; done) & while :; do :; done"}, "limit", "cpu", 3},
      {{"--memory", "64M"}, {"sh", "-c", "head -c 1000000000 /dev/zero | tail; sleep 1000"}, "limit", "memory", 3},
      {{"--stall", "200ms"}, {"sleep", "1000"}, "stalled", "stalled", 4},
      {{"--stall", "300ms", "--progress-regex", "step (\\d+)"}, {"sh", "-c", "while :; do echo step 7; sleep 0.01; done"}, "stalled", "stalled", 4},
      {{"--steps", "5", "--progress-regex", "step (\\d+)", "--grace", "100ms"}, {"sh", "-c", "i=0; while :; do i=$((i+1)); echo step $i; sleep 0.02; done"}, "limit", "steps", 3},
  };
  for (const auto& one : cases) {
    const Scratch scratch;
    const Guarded guarded = guard(scratch, one.options, one.command);
    EXPECT_EQ(guarded.ended.status, one.status) << one.options[0] << "\n" << guarded.ended.all();
    EXPECT_EQ(guarded.result["outcome"], one.outcome) << one.options[0] << "\n" << guarded.ended.all();
    EXPECT_EQ(guarded.result["figures"]["command_end"], one.command_end) << one.options[0] << "\n" << guarded.ended.all();
  }
}

TEST(Guard, ARestartedCommandGoesOnUntilItSucceedsAndItsAttemptsAreCounted) {
  const Scratch scratch;
  const Guarded guarded = guard(scratch, {"--restart", "transient"}, {"sh", "-c", "n=$(cat n 2>/dev/null || echo 0); n=$((n+1)); echo $n > n; [ $n -ge 4 ]"});
  EXPECT_EQ(guarded.ended.status, 0) << guarded.ended.all();
  EXPECT_EQ(guarded.result["figures"]["attempts"], 4);
}

TEST(Guard, TheMemoryIsFreedByTheDeadlineWhereThatIsAskedFor) {
  const Scratch scratch;
  const Guarded guarded = guard(scratch, {"--wall", "2s", "--grace", "50ms", "--memory", "4G", "--hard-release"}, {"sh", "-c", "trap '' TERM; while :; do :; done"});
  EXPECT_EQ(guarded.ended.status, 3) << guarded.ended.all();
  EXPECT_LE(guarded.result["timings"]["consumed_seconds"], 1.75) << "a second of its two was for its memory: " << guarded.ended.all();
  EXPECT_TRUE(guarded.result["figures"]["release_seconds"].is_number());
  EXPECT_EQ(guard(scratch, {"--hard-release"}, {"true"}).ended.status, 2);
}

TEST(Guard, ALargeMemoryDoesNotKeepTheReportFromComingInTime) {
  if (::access("/usr/bin/python3", X_OK) != 0) GTEST_SKIP() << "needs python3";
  const Scratch scratch;  // 3 GiB take far longer to be freed than is left at the end of --wall
  const Guarded guarded = guard(scratch, {"--wall", "6s", "--grace", "50ms"}, {"/usr/bin/python3", "-c", "import signal; signal.signal(15, signal.SIG_IGN); b = bytearray(b'x') * (3 << 30); signal.pause()"});
  EXPECT_EQ(guarded.ended.status, 3) << guarded.ended.all();
  EXPECT_EQ(guarded.result["outcome"], "limit");
  EXPECT_GT(guarded.result["figures"]["rss_peak_bytes"], std::uint64_t{1} << 30) << guarded.ended.all();
  EXPECT_GT(guarded.result["figures"]["cpu_seconds"], 0.0);
}

TEST(Guard, WhatCannotBeStartedIsSaid) {
  const Scratch scratch;
  const Guarded guarded = guard(scratch, {"--restart", "permanent"}, {"no-such-program"});
  EXPECT_EQ(guarded.ended.status, 1);
  EXPECT_EQ(guarded.result["exit_reason"], "cannot execute 'no-such-program': no such program in PATH");
  const Scratch other;
  EXPECT_EQ(run(other, {"guard"}).status, 2);
  EXPECT_EQ(run(other, {"guard", "--progress-regex", "(", "--", "true"}).status, 2);
  EXPECT_EQ(run(other, {"guard", "--steps", "3", "--", "true"}).status, 2);
}

TEST(Guard, AKilledSupervisorLeavesNobodyAndAResumeCountsOn) {
  const Scratch scratch;
  // The command holds a fifo for as long as anybody of it lives.
  const std::string fifo = scratch / "held";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  const int reader = ::open(fifo.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  ASSERT_GE(reader, 0);
  Started job(scratch, drover({"guard", "--job", "a", "--progress", "none", "--restart", "transient", "--", "sh", "-c",
                               "exec 3> held; [ -e second ] && exit 0; touch second; (setsid sleep 1000 &); echo x >&3; exec sleep 1000"}));
  char byte = 0;
  ASSERT_TRUE(eventually([&] { return ::read(reader, &byte, 1) == 1; }));
  ASSERT_EQ(::kill(job.pid(), SIGKILL), 0);
  job.wait();
  EXPECT_TRUE(eventually([&] {
    char bytes[16];
    return ::read(reader, bytes, sizeof bytes) == 0;
  })) << "somebody outlived the supervisor";
  const Ended resumed = run(scratch, {"resume", "a", "--json"});
  EXPECT_EQ(resumed.status, 0) << resumed.all();
  EXPECT_EQ(resumed.last_json()["figures"]["attempts"], 2) << "the attempt that died with the supervisor counts";
  ::close(reader);  // only now: a fifo without a reader holds its writer
}

}  // namespace
}  // namespace drover::test::cli
