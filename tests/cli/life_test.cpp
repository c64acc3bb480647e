// Goal: the life of a job as its operator sees it: status while it runs, stop, Ctrl-C, a killed or frozen supervisor, resume, one
// answer whatever happened. Method: real jobs of the echo workload, real signals; every wait is bounded.

#include <algorithm>

#include "cli/program.hpp"

namespace drover::test::cli {
namespace {

/// 400 tasks of 20 ms on two workers: four seconds of work.
Words slow_echo(const std::string& job) { return drover({"echo", "--tasks", "400", "--sleep", "20ms", "--workers", "2", "--window", "4", "--job", job, "--json"}); }

bool alive(std::int64_t pid) { return pid > 0 && ::kill(static_cast<pid_t>(pid), 0) == 0; }

/// Its status once some tasks are recorded and every worker is known.
json running_status(const Scratch& scratch, const std::string& job) {
  json status;
  EXPECT_TRUE(eventually([&] {
    if (!fs::exists(scratch / (job + "/ledger.db"))) return false;
    status = run(scratch, {"status", job, "--json"}).last_json();
    return status.is_object() && status["live"] == true && status["counts"]["completed"] >= 4 && status["workers"].size() == 2 &&
           std::ranges::all_of(status["workers"], [](const json& w) { return w["host_pid"].is_number() && w["state"] == "busy"; });
  })) << status;
  return status;
}

std::vector<std::int64_t> pids_of(const json& status) {
  std::vector<std::int64_t> pids;
  for (const char* who : {"supervisor", "keeper", "watchdog"}) pids.push_back(status[who].value("host_pid", 0));
  for (const json& worker : status["workers"]) pids.push_back(worker["host_pid"].is_number() ? worker["host_pid"].get<std::int64_t>() : 0);
  return pids;
}

std::string digest_of_a_whole_run() {
  static const std::string digest = [] {
    const Scratch scratch;
    return run(scratch, {"echo", "--tasks", "400", "--workers", "1", "--json"}).last_json().value("digest", "");
  }();
  return digest;
}

void expect_resumes_to_the_same_answer(const Scratch& scratch, const std::string& job) {
  const Ended resumed = run(scratch, {"resume", job, "--json"});
  EXPECT_EQ(resumed.status, 0) << resumed.all();
  const json result = resumed.last_json();
  EXPECT_EQ(result["outcome"], "completed") << resumed.all();
  EXPECT_EQ(result["digest"], digest_of_a_whole_run()) << resumed.all();
}

TEST(Life, AJobRunsToItsEndAndSaysSo) {
  const Scratch scratch;
  const Ended ended = run(scratch, {"echo", "--tasks", "500", "--json", "--progress=plain"});
  ASSERT_EQ(ended.status, 0) << ended.all();
  const json result = ended.last_json();
  EXPECT_EQ(result["outcome"], "completed");
  EXPECT_EQ(result["counts"]["tasks"], 500);
  EXPECT_EQ(result["counts"]["completed"], 500);
  EXPECT_EQ(result["digest"].get<std::string>().size(), 16u);
  EXPECT_TRUE(fs::is_directory(result["job_directory"].get<std::string>()));
  // The newest job here is found without a name.
  const json status = status_of(scratch, "");
  EXPECT_EQ(status["job_directory"], result["job_directory"]);
  EXPECT_EQ(status["outcome"], "completed");
  EXPECT_EQ(status["counts"]["recorded"], 500);
  const Ended again = run(scratch, {"resume"});
  EXPECT_EQ(again.status, 0) << again.all();
  EXPECT_NE(again.err.find("ended for good"), std::string::npos) << again.all();
}

TEST(Life, StatusNamesEveryProcessOfARunningJob) {
  const Scratch scratch;
  Started job(scratch, slow_echo("a"));
  const json status = running_status(scratch, "a");
  EXPECT_EQ(status["supervisor"]["host_pid"], job.pid());
  for (const std::int64_t pid : pids_of(status)) EXPECT_TRUE(alive(pid)) << pid << " in " << status;
  std::vector<int> slots;
  for (const json& worker : status["workers"]) slots.push_back(worker["slot"]);
  EXPECT_EQ(slots, (std::vector<int>{0, 1}));
  EXPECT_EQ(status["state"], "running");
  EXPECT_EQ(status["outcome"], nullptr);

  const Ended ps = run(scratch, {"ps", "--json"});
  ASSERT_EQ(ps.last_json()["jobs"].size(), 1u) << ps.all();
  EXPECT_EQ(ps.last_json()["jobs"][0]["supervisor"]["host_pid"], job.pid());
  const Ended top = run(scratch, {"top", "a"});
  EXPECT_EQ(top.status, 0) << top.all();
  EXPECT_NE(top.out.find("keeper " + std::to_string(status["keeper"]["host_pid"].get<int>())), std::string::npos) << top.all();

  const Ended watched = run(scratch, {"status", "a", "--json", "--watch", "--every", "200ms"});
  EXPECT_EQ(watched.last_json()["outcome"], "completed") << watched.all();
  EXPECT_EQ(job.wait().status, 0);
  for (const std::int64_t pid : pids_of(status)) EXPECT_TRUE(eventually([&] { return !alive(pid); })) << pid;
}

TEST(Life, ASecondResumeIsRefusedWhileTheJobRuns) {
  const Scratch scratch;
  Started job(scratch, slow_echo("a"));
  running_status(scratch, "a");
  const Ended second = run(scratch, {"resume", "a"});
  EXPECT_EQ(second.status, 2) << second.all();
  EXPECT_NE(second.err.find("drover: resume: "), std::string::npos) << second.all();
  EXPECT_NE(second.err.find(std::to_string(job.pid())), std::string::npos) << second.all();
  const Ended first = job.wait();
  EXPECT_EQ(first.status, 0) << first.all();
  EXPECT_EQ(first.last_json()["digest"], digest_of_a_whole_run());
}

TEST(Life, StopEndsItResumableAndResumeGivesTheSameAnswer) {
  const Scratch scratch;
  Started job(scratch, slow_echo("a"));
  const json status = running_status(scratch, "a");
  const Ended stop = run(scratch, {"stop", "a"});
  EXPECT_EQ(stop.status, 0) << stop.all();
  EXPECT_NE(stop.out.find("stopped by its operator"), std::string::npos) << stop.all();
  const Ended ended = job.wait();
  EXPECT_EQ(ended.status, 3) << ended.all();
  EXPECT_EQ(ended.last_json()["outcome"], "cancelled") << ended.all();
  EXPECT_EQ(ended.last_json()["resumable"], true);
  for (const std::int64_t pid : pids_of(status)) EXPECT_TRUE(eventually([&] { return !alive(pid); })) << pid;
  const Ended again = run(scratch, {"stop", "a"});
  EXPECT_EQ(again.status, 0) << again.all();
  expect_resumes_to_the_same_answer(scratch, "a");
}

TEST(Life, CtrlCToTheWholeGroupEndsItWith130AndResumable) {
  const Scratch scratch;
  Started job(scratch, slow_echo("a"));
  running_status(scratch, "a");
  job.signal_group(SIGINT);
  const Ended ended = job.wait();
  EXPECT_EQ(ended.status, 130) << ended.all();
  EXPECT_EQ(ended.last_json()["outcome"], "cancelled") << ended.all();
  EXPECT_NE(ended.err.find("resum"), std::string::npos) << ended.all();
  EXPECT_EQ(ended.last_json()["counts"]["faults"], json::object()) << "the terminal's SIGINT must not reach the workers\n" << ended.all();
  EXPECT_EQ(ended.last_json()["counts"]["attempts"], ended.last_json()["counts"]["completed"]) << ended.all();
  expect_resumes_to_the_same_answer(scratch, "a");
}

TEST(Life, TerminateEndsItWith3) {
  const Scratch scratch;
  Started job(scratch, slow_echo("a"));
  running_status(scratch, "a");
  job.signal(SIGTERM);
  const Ended ended = job.wait();
  EXPECT_EQ(ended.status, 3) << ended.all();
  expect_resumes_to_the_same_answer(scratch, "a");
}

TEST(Life, ASecondCtrlCEndsItAtOnce) {
  const Scratch scratch;
  Started job(scratch, drover({"echo", "--tasks", "10", "--hang-every", "1", "--workers", "2", "--job", "a", "--json"}));
  json status;
  ASSERT_TRUE(eventually([&] {
    status = status_of(scratch, "a");
    return status.is_object() && status["live"] == true && status["counts"]["leased"] > 0;
  }));
  job.signal(SIGINT);
  job.signal(SIGINT);
  ASSERT_TRUE(eventually([&] {
    if (job.has_ended()) return true;
    job.signal(SIGINT);
    return false;
  }, 20s));
  EXPECT_EQ(job.wait().status, 130);
  for (const std::int64_t pid : pids_of(status)) EXPECT_TRUE(eventually([&] { return !alive(pid); })) << pid;
}

TEST(Life, AKilledSupervisorLeavesNoProcessAndResumes) {
  const Scratch scratch;
  Started job(scratch, slow_echo("a"));
  const json status = running_status(scratch, "a");
  job.signal(SIGKILL);
  EXPECT_EQ(job.wait().status, 128 + SIGKILL);
  for (const std::int64_t pid : pids_of(status)) EXPECT_TRUE(eventually([&] { return !alive(pid); })) << pid;
  const Ended why = run(scratch, {"why", "a", "--json"});
  EXPECT_EQ(why.last_json()["outcome"], "supervisor_lost") << why.all();
  EXPECT_EQ(why.last_json()["runs"][0]["reconstructed"], true) << why.all();
  expect_resumes_to_the_same_answer(scratch, "a");
  EXPECT_EQ(run(scratch, {"why", "a", "--json"}).last_json()["runs"].size(), 2u);
}

TEST(Life, StopNowWorksOnAFrozenSupervisor) {
  const Scratch scratch;
  Started job(scratch, slow_echo("a"));
  const json status = running_status(scratch, "a");
  job.signal(SIGSTOP);
  const json frozen = status_of(scratch, "a");
  EXPECT_EQ(frozen["supervisor"]["host_pid"], job.pid()) << frozen;
  const Ended stop = run(scratch, {"stop", "a", "--now"});
  EXPECT_EQ(stop.status, 0) << stop.all();
  EXPECT_NE(stop.err.find("keeper " + std::to_string(status["keeper"]["host_pid"].get<int>())), std::string::npos) << stop.all();
  EXPECT_NE(stop.err.find("supervisor " + std::to_string(job.pid())), std::string::npos) << stop.all();
  job.wait();
  for (const std::int64_t pid : pids_of(status)) EXPECT_TRUE(eventually([&] { return !alive(pid); })) << pid;
  expect_resumes_to_the_same_answer(scratch, "a");
}

TEST(Life, ATimeBudgetStopsItResumableAndCountsOverResumes) {
  const Scratch scratch;
  const Ended first = run(scratch, {"echo", "--tasks", "400", "--sleep", "20ms", "--workers", "2", "--job", "a", "--time", "1s", "--json"});
  EXPECT_EQ(first.status, 3) << first.all();
  EXPECT_EQ(first.last_json()["outcome"], "limit") << first.all();
  const Ended again = run(scratch, {"resume", "a"});
  EXPECT_EQ(again.status, 2) << again.all();
  EXPECT_NE(again.err.find("budget of 1 s is used up"), std::string::npos) << again.all();
  EXPECT_NE(again.err.find("--time"), std::string::npos) << again.all();
  const Ended more = run(scratch, {"resume", "a", "--time", "10m", "--json"});
  EXPECT_EQ(more.status, 0) << more.all();
  EXPECT_EQ(more.last_json()["digest"], digest_of_a_whole_run());
}

TEST(Why, AQuarantinedTaskIsExplainedAndReplayed) {
  const Scratch scratch;
  const Ended ended = run(scratch, {"echo", "--tasks", "20", "--crash-every", "10", "--job", "a", "--json"});
  EXPECT_EQ(ended.status, 1) << ended.all();
  const json result = ended.last_json();
  EXPECT_EQ(result["outcome"], "incomplete");
  EXPECT_EQ(result["digest"], nullptr);
  EXPECT_NE(result["digest_reason"], nullptr);
  EXPECT_EQ(result["counts"]["quarantined"], 2);
  EXPECT_EQ(result["counts"]["faults"]["crashed"], 6) << "two tasks, three attempts each: " << result;

  const json job = run(scratch, {"why", "a", "--json"}).last_json();
  EXPECT_EQ(job["outcome"], "incomplete");
  EXPECT_EQ(job["quarantined"], (json{9, 19}));
  EXPECT_NE(job["cause"].get<std::string>().find("task 9"), std::string::npos) << job;
  const json task = run(scratch, {"why", "a", "9", "--json"}).last_json();
  EXPECT_EQ(task["outcome"], "quarantined") << task;
  ASSERT_EQ(task["attempts"].size(), 3u) << task;
  for (const json& attempt : task["attempts"]) {
    EXPECT_EQ(attempt["outcome"], "crashed");
    EXPECT_EQ(attempt["outcome_text"], "crashed(SIGABRT)");
  }
  EXPECT_EQ(run(scratch, {"why", "a", "3", "--json"}).last_json()["outcome"], "completed");
  EXPECT_NE(run(scratch, {"why", "a", "9"}).out.find("SIGABRT"), std::string::npos);

  const Ended replay = run(scratch, {"replay", "a", "9"});
  EXPECT_EQ(replay.status, 1) << replay.all();
  EXPECT_NE(replay.out.find("crashed(SIGABRT)"), std::string::npos) << replay.all();
  // A changed input is not the task's any more.
  const std::string input = scratch / ("a/" + task["input_file"].get<std::string>());
  std::string bytes = read_file(input);
  bytes[0] = static_cast<char>(bytes[0] ^ 1);
  fs::permissions(input, fs::perms::owner_write, fs::perm_options::add);
  std::ofstream(input, std::ios::binary | std::ios::trunc) << bytes;
  const Ended refused = run(scratch, {"replay", "a", "9"});
  EXPECT_EQ(refused.status, 4) << refused.all();
}

TEST(Why, FailuresOfTheTaskItselfAreNotRetried) {
  const Scratch scratch;
  const Ended ended = run(scratch, {"echo", "--tasks", "10", "--fail-every", "5", "--job", "a", "--json"});
  EXPECT_EQ(ended.status, 1) << ended.all();
  EXPECT_EQ(ended.last_json()["counts"]["faults"]["app_error"], 2) << ended.all();
  const json task = run(scratch, {"why", "a", "4", "--json"}).last_json();
  EXPECT_EQ(task["outcome"], "app_error") << task;
  EXPECT_NE(task["cause"].get<std::string>().find("asked to fail"), std::string::npos) << task;
}

TEST(Limits, AHangingTaskIsStoppedByTheLimitOfTheCommandLine) {
  const Scratch scratch;
  const Ended ended = run(scratch, {"echo", "--tasks", "6", "--hang-every", "3", "--attempt-wall", "300ms", "--job", "a", "--json"});
  EXPECT_EQ(ended.status, 1) << ended.all();
  EXPECT_EQ(ended.last_json()["counts"]["faults"]["timed_out"], 2) << ended.all();
  EXPECT_EQ(run(scratch, {"why", "a", "2", "--json"}).last_json()["outcome"], "timed_out");
}

}  // namespace
}  // namespace drover::test::cli
