// Goal: `drover judge` gives the same verdicts for any number of workers and any kills, in input order, and loses none. Method: the
// real program on submissions of every kind; OUT compared byte by byte outside `measured`.

#include <memory>
#include <set>

#include "cli/program.hpp"
#include "support/long.hpp"

namespace drover::test::cli {
namespace {

/// OUT without what was measured.
std::vector<json> verdicts(const Scratch& scratch, const std::string& out) {
  std::vector<json> all;
  std::istringstream lines(read_file(scratch / out));
  for (std::string line; std::getline(lines, line);) {
    json one = json::parse(line, nullptr, false);
    one.erase("measured");
    all.push_back(std::move(one));
  }
  return all;
}

void write_submissions(const Scratch& scratch, int count) {
  std::ofstream file(scratch / "in.jsonl");
  for (int i = 0; i < count; ++i) {
    json one{{"id", "s" + std::to_string(i)}, {"language", "bash"}, {"tests", {{{"input", std::to_string(i)}, {"output", std::to_string(2 * i)}}}}};
    one["code"] = i % 5 == 4 ? "exit 3" : i % 5 == 3 ? "kill -9 $$" : i % 5 == 2 ? "echo 1" : "read a; echo $((2 * a)); : " + std::to_string(i / 10);
    file << one.dump() << "\n";
  }
}

bool no_sandbox(const Scratch& scratch) { return run(scratch, {"judge", "doctor"}).status != 0; }

TEST(Judge, OneOrFourWorkersOneAnswer) {
  const Scratch scratch;
  if (no_sandbox(scratch)) GTEST_SKIP() << "this host allows no sandbox";
  write_submissions(scratch, 60);
  const Ended one = run(scratch, {"judge", "batch", "in.jsonl", "one.jsonl", "--workers", "1", "--job", "one", "--json", "--progress", "none"});
  const Ended four = run(scratch, {"judge", "batch", "in.jsonl", "four.jsonl", "--workers", "4", "--job", "four", "--json", "--progress", "none"});
  ASSERT_EQ(one.status, 0) << one.all();
  ASSERT_EQ(four.status, 0) << four.all();
  EXPECT_EQ(one.last_json()["digest"], four.last_json()["digest"]);
  const auto all = verdicts(scratch, "one.jsonl");
  EXPECT_EQ(all, verdicts(scratch, "four.jsonl"));
  ASSERT_EQ(all.size(), 60U);
  for (std::size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(all[i]["id"], "s" + std::to_string(i)) << "input order";
    EXPECT_EQ(all[i]["outcome"], i % 5 < 2 ? "all_passed" : "none_passed") << all[i];
  }
  EXPECT_EQ(all[3]["tests"][0]["run"], "signaled");
  EXPECT_EQ(all[4]["tests"][0]["detail"], "3");
}

TEST(Judge, AKilledBatchGoesOnAndItsAnswerIsThatOfOneThatWasNot) {
  const Scratch scratch;
  if (no_sandbox(scratch)) GTEST_SKIP() << "this host allows no sandbox";
  write_submissions(scratch, 400);
  const json whole = run(scratch, {"judge", "batch", "in.jsonl", "whole.jsonl", "--job", "whole", "--json", "--progress", "none"}).last_json();
  {
    Started killed(scratch, drover({"judge", "batch", "in.jsonl", "out.jsonl", "--job", "killed", "--progress", "none"}));
    ASSERT_TRUE(eventually([&] {
      const json status = run(scratch, {"status", "killed", "--json"}).last_json();
      return status.is_object() && status["counts"]["completed"] > 0;
    })) << killed.err();
    killed.signal(SIGKILL);
    killed.wait();
  }
  EXPECT_FALSE(fs::exists(scratch / "out.jsonl")) << "it ended before the kill, or OUT appeared in part";
  const Ended resumed = run(scratch, {"resume", "killed", "--json", "--progress", "none"});
  ASSERT_EQ(resumed.status, 0) << resumed.all();
  EXPECT_EQ(resumed.last_json()["digest"], whole["digest"]);
  EXPECT_EQ(verdicts(scratch, "out.jsonl"), verdicts(scratch, "whole.jsonl"));
}

TEST(Judge, ASubmissionThatAStopCutsOffIsJudgedByTheNextRun) {
  const Scratch scratch;
  if (no_sandbox(scratch)) GTEST_SKIP() << "this host allows no sandbox";
  // It spins until its limit: long enough to be stopped in the middle, and ends by itself in the next run.
  std::ofstream(scratch / "in.jsonl") << R"({"id":"spin","language":"bash","code":"while :; do :; done","tests":[{"output":""}],"limits":{"cpu_seconds":4}})" "\n"
                                      << R"({"id":"quick","language":"bash","code":"echo 1","tests":[{"output":"1"}]})" "\n";
  {
    Started stopped(scratch, drover({"judge", "batch", "in.jsonl", "out.jsonl", "--job", "cut", "--progress", "none", "--workers", "1"}));
    ASSERT_TRUE(eventually([&] {
      const json status = run(scratch, {"status", "cut", "--json"}).last_json();
      return status.is_object() && status["live"] == true && !status["workers"].empty() && status["workers"][0]["state"] == "busy";
    })) << stopped.err();
    run(scratch, {"stop", "cut", "--now"});
    const Ended ended = stopped.wait();
    EXPECT_EQ(ended.status, 3) << ended.all();
  }
  EXPECT_FALSE(fs::exists(scratch / "out.jsonl"));
  const Ended resumed = run(scratch, {"resume", "cut", "--json", "--progress", "none"});
  ASSERT_EQ(resumed.status, 0) << resumed.all();
  const auto all = verdicts(scratch, "out.jsonl");
  ASSERT_EQ(all.size(), 2U);
  EXPECT_EQ(all[0]["tests"][0]["run"], "cpu_limit") << all[0];
  EXPECT_EQ(all[1]["outcome"], "all_passed");
}

// At a limit's edge a loaded host must not decide: judged again at the end, one at a time, as many as the budget allows.
TEST(Judge, WhatIsAtALimitsEdgeIsJudgedOnceMoreAtTheEnd) {
  const Scratch scratch;
  if (no_sandbox(scratch)) GTEST_SKIP() << "this host allows no sandbox";
  if (!fs::exists("/usr/bin/python3")) GTEST_SKIP() << "python3 is not here";
  {
    std::ofstream file(scratch / "in.jsonl");
    for (int i = 0; i < 5; ++i) {  // one plain, three at the edge, one beyond it
      const json one{{"id", std::to_string(i)}, {"language", "python"}, {"code", "import time\nwhile time.process_time() < " + std::string(i == 0 ? "0" : i == 4 ? "2" : "0.85") + ": pass\nprint(" + std::to_string(i) + ")"},
                     {"tests", {{{"input", ""}, {"output", std::to_string(i)}}}}, {"limits", {{"cpu_seconds", 1}}}};
      file << one.dump() << "\n";
    }
  }
  const Ended ended = run(scratch, {"judge", "batch", "in.jsonl", "out.jsonl", "--job", "edge", "--rerun-budget", "2", "--json", "--progress", "none"});
  ASSERT_EQ(ended.status, 0) << ended.all();
  const json result = ended.last_json();
  EXPECT_EQ(result["figures"]["rerun"], 2) << result;
  EXPECT_EQ(result["figures"]["rerun_over_budget"], 1) << result;
  std::istringstream lines(read_file(scratch / "out.jsonl"));
  std::vector<json> all;
  for (std::string line; std::getline(lines, line);) all.push_back(json::parse(line, nullptr, false));
  ASSERT_EQ(all.size(), 5U);
  const int reruns[] = {0, 1, 1, 0, 0};
  for (std::size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(all[i]["outcome"], i < 4 ? "all_passed" : "none_passed") << all[i];
    EXPECT_EQ(all[i]["measured"]["near_limit"], i > 0 && i < 4) << all[i];
    EXPECT_EQ(all[i]["measured"]["reruns"], reruns[i]) << all[i];
    EXPECT_EQ(all[i]["measured"]["repeat"], i == 3) << all[i];
  }
  EXPECT_EQ(all[4]["tests"][0]["run"], "cpu_limit") << "ended at 1.2 times the limit is final";
}

TEST(Judge, EqualSubmissionsAreJudgedOnce) {
  const Scratch scratch;
  if (no_sandbox(scratch)) GTEST_SKIP() << "this host allows no sandbox";
  std::ofstream(scratch / "in.jsonl") << R"({"id":"a","language":"bash","code":"echo 1","tests":[{"output":"1"}]})" "\n"
                                      << R"({"id":"b","language":"bash","code":"echo 1","tests":[{"output":"1"}]})" "\n"
                                      << R"({"id":"c","language":"bash","code":"echo 1","tests":[{"output":"2"}]})" "\n";
  const Ended ended = run(scratch, {"judge", "batch", "in.jsonl", "out.jsonl", "--json", "--progress", "none"});
  ASSERT_EQ(ended.status, 0) << ended.all();
  EXPECT_EQ(ended.last_json()["counts"]["tasks"], 2);
  const auto all = verdicts(scratch, "out.jsonl");
  ASSERT_EQ(all.size(), 3U);
  EXPECT_EQ(all[1]["id"], "b");
  EXPECT_EQ(all[1]["outcome"], "all_passed");
  EXPECT_EQ(all[2]["outcome"], "none_passed");
}

TEST(Judge, ADataSetsOwnSolutionsPass) {
  const fs::path data = fs::path(DROVER_SOURCE_DIR).parent_path() / "shared/data/judge/HumanEval.jsonl.gz";
  if (!fs::exists(data)) GTEST_SKIP() << "the data set is not here: " << data;
  if (::access("/usr/bin/python3", X_OK) != 0) GTEST_SKIP() << "needs /usr/bin/python3";
  const Scratch scratch;
  if (no_sandbox(scratch)) GTEST_SKIP() << "this host allows no sandbox";
  const Ended ended = run(scratch, {"judge", "batch", data.string(), "out.jsonl", "--dataset", "humaneval", "--json", "--progress", "none"}, 120s);
  ASSERT_EQ(ended.status, 0) << ended.all();
  EXPECT_EQ(ended.last_json()["figures"]["all_passed"], 164);
}

TEST(Judge, OneProgramFromTheCommandLine) {
  const Scratch scratch;
  if (no_sandbox(scratch)) GTEST_SKIP() << "this host allows no sandbox";
  std::ofstream(scratch / "sum.sh") << "read a b; echo $((a + b))\n";
  std::ofstream(scratch / "tests.json") << R"([{"input": "3 4", "output": "7"}])";
  const Ended passed = run(scratch, {"judge", "run", "sum.sh", "--tests", "tests.json"});
  EXPECT_EQ(passed.status, 0) << passed.all();
  EXPECT_NE(passed.out.find("all_passed  1/1 tests  mode stdio (unforgeable)"), std::string::npos) << passed.out;
  std::ofstream(scratch / "tests.json") << R"([{"input": "3 4", "output": "8"}])";
  EXPECT_EQ(run(scratch, {"judge", "run", "sum.sh", "--tests", "tests.json", "--json"}).status, 1);
  EXPECT_EQ(run(scratch, {"judge", "run", "sum.sh"}).status, 1) << "no tests is no pass";
}

TEST(Judge, WrongWordsAndFilesAreOneLine) {
  const Scratch scratch;
  const auto refused = [&](const Words& words, const std::string& says) {
    const Ended ended = run(scratch, words);
    EXPECT_EQ(ended.status, 2) << ended.all();
    EXPECT_NE(ended.err.find(says), std::string::npos) << ended.all();
  };
  std::ofstream(scratch / "bad.jsonl") << "{\"code\": \"x\"}\n{\"id\": 3}\n";
  refused({"judge", "batch", "none.jsonl", "out.jsonl"}, "'" + (scratch / "none.jsonl") + "'");
  refused({"judge", "batch", "bad.jsonl", "out.jsonl"}, "record 2");
  refused({"judge", "batch", "bad.jsonl", "out.jsonl", "--require", "moat"}, "");
  refused({"judge", "bunch", "bad.jsonl", "out.jsonl"}, "");
  refused({"judge", "run", "none.py"}, "none.py");
  std::ofstream(scratch / "x.jsonl") << R"({"code": "x", "tests": ["assert 1"]})" "\n";
  refused({"judge", "batch", "x.jsonl", "out.jsonl", "--mode", "stdio"}, "not for --mode stdio");
  EXPECT_FALSE(fs::exists(scratch / "out.jsonl"));
}

TEST(Judge, FunctionCallsOfAppsAndTacoAndEvalPlusAreJudgedAsTheirAuthorsDo) {
  const Scratch scratch;
  if (no_sandbox(scratch)) GTEST_SKIP() << "this host allows no sandbox";
  if (!fs::exists("/usr/bin/python3")) GTEST_SKIP() << "python3 is not here";
  std::ofstream(scratch / "io.jsonl") << R"lines({"id":"a","inputs":[[1,2],[3,4]],"outputs":[3,[7]],"fn_name":"add","code":"def add(a,b): return a+b"}
{"id":"b","inputs":[[[1,2]]],"outputs":[[2,1]],"fn_name":"rev","starter_code":"class Solution:\n  def rev(self,x):","code":"class Solution:\n  def rev(self,x): return tuple(x[::-1])"}
{"id":"c","input_output":"{\"inputs\": [\"1 2\\n\"], \"outputs\": [\"3\\n\"]}","code":"print(sum(map(int,input().split())))"}
{"id":"d","inputs":[[1,2]],"outputs":[4],"fn_name":"add","code":"def add(a,b): return a+b"}
)lines";
  ASSERT_EQ(run(scratch, {"judge", "batch", "io.jsonl", "io.out", "--dataset", "io", "--progress", "none"}).status, 0);
  const auto io = verdicts(scratch, "io.out");
  ASSERT_EQ(io.size(), 4U);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(io[static_cast<std::size_t>(i)]["outcome"], i < 3 ? "all_passed" : "none_passed") << io[static_cast<std::size_t>(i)];
  // The second input is larger than any machine word: it must arrive as it was written. Floats may differ within atol.
  std::ofstream(scratch / "plus.jsonl") << R"lines({"task_id":"P/0","prompt":"def twice(x):\n    \"twice\"\n","entry_point":"twice","canonical_solution":"    return x * 2\n","base_input":[[1],[123456789012345678901234567890]],"plus_input":[[0.5]],"atol":0}
{"task_id":"P/1","prompt":"def third(x):\n    \"third\"\n","entry_point":"third","canonical_solution":"    return x / 3\n","base_input":[[1.0]],"plus_input":[[2.0]],"atol":0.001}
)lines";
  std::ofstream(scratch / "mine.jsonl") << R"lines({"task_id":"P/0","solution":"def twice(x): return x + x if x != 123456789012345677877719597056 else 0"}
{"task_id":"P/0","solution":"def twice(x): return 2"}
{"task_id":"P/1","solution":"def third(x): return x * 0.3333"}
{"task_id":"P/1","solution":"def third(x): return x * 0.3"}
)lines";
  ASSERT_EQ(run(scratch, {"judge", "batch", "plus.jsonl", "canonical.out", "--dataset", "evalplus", "--progress", "none"}).status, 0);
  for (const json& one : verdicts(scratch, "canonical.out")) EXPECT_EQ(one["outcome"], "all_passed") << one;
  ASSERT_EQ(run(scratch, {"judge", "batch", "plus.jsonl", "mine.out", "--dataset", "evalplus", "--candidates", "mine.jsonl", "--progress", "none"}).status, 0);
  const auto mine = verdicts(scratch, "mine.out");
  ASSERT_EQ(mine.size(), 4U);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(mine[static_cast<std::size_t>(i)]["outcome"], i % 2 == 0 ? "all_passed" : "none_passed") << mine[static_cast<std::size_t>(i)];
}

// 10,000 runs under --long: one and four workers, alone and beside spinning processes; not one verdict differs.
TEST(Judge, VerdictsDoNotChangeWithWorkersAndLoad) {
  const Scratch scratch;
  if (no_sandbox(scratch)) GTEST_SKIP() << "this host allows no sandbox";
  if (!fs::exists("/usr/bin/python3")) GTEST_SKIP() << "python3 is not here";
  const int count = scaled(50, 2500);
  {
    std::ofstream file(scratch / "in.jsonl");
    const char* const bodies[] = {"return x + %", "return {x: %}.get(x)", "raise KeyError(%)", "import os; os._exit(%)", "return hash('%')", "import random; return random.random() * %", "import os; os.abort() if % else 0", "return [0] * 10 ** 10 + [%]"};
    for (int i = 0; i < count; ++i) {
      std::string body = bodies[i % 8];
      body.replace(body.find('%'), 1, std::to_string(i));
      file << json{{"id", std::to_string(i)}, {"code", "def f(x):\n  " + body}, {"entry_points", "f"}, {"tests", {"assert f(1) == " + std::to_string(i + 1), "assert f(0) is not None", "assert f(1) == f(1)"}}, {"limits", {{"memory_mib", 128}}}}.dump() << "\n";
    }
  }
  std::set<std::string> digests;
  for (const int spinners : {0, 4}) {
    std::vector<std::unique_ptr<Started>> load;
    for (int i = 0; i < spinners; ++i) load.push_back(std::make_unique<Started>(scratch, Words{"/bin/sh", "-c", "while :; do :; done"}));
    for (const char* const workers : {"1", "4"}) {
      const std::string job = std::string("job-") + workers + "-" + std::to_string(spinners);
      const Ended ended = run(scratch, {"judge", "batch", "in.jsonl", job + ".jsonl", "--workers", workers, "--job", job, "--json", "--progress", "none"}, scaled(std::chrono::milliseconds(120'000), std::chrono::milliseconds(1'800'000)));
      ASSERT_EQ(ended.status, 0) << ended.all();
      digests.insert(ended.last_json()["digest"].get<std::string>());
    }
  }
  EXPECT_EQ(digests.size(), 1U);
}

TEST(JudgeAttack, TheWholeCorpusIsContained) {
  const Scratch scratch;
  if (no_sandbox(scratch)) GTEST_SKIP() << "this host allows no sandbox";
  const json doctor = run(scratch, {"judge", "doctor", "--json"}).last_json();
  bool first = true;
  for (const char* const profile : {"root", "userns", "container"}) {
    if (!doctor["profiles"][profile]["works"].get<bool>()) continue;
    // What waits for its limits takes a minute: under --long for every profile, else for the strongest.
    Words words{"judge", "attack", "--json", "--profile", profile};
    if (!std::exchange(first, false) && !long_run()) words.insert(words.end(), {"--only", "files,network,kernel,processes,search,protocol,output,crash"});
    const json said = run(scratch, words, std::chrono::seconds(280)).last_json()["profiles"][profile];
    ASSERT_TRUE(said.is_object()) << profile;
    EXPECT_TRUE(said["contained"]) << profile << ": " << said;
    EXPECT_GT(said["neighbours"].get<int>(), 140) << "one an attack";
  }
}

// The test above notices: without its wall, a program gets through.
TEST(JudgeAttack, WithoutALayerItSaysWhoGetsThrough) {
  const Scratch scratch;
  if (no_sandbox(scratch)) GTEST_SKIP() << "this host allows no sandbox";
  const json doctor = run(scratch, {"judge", "doctor", "--json"}).last_json();
  if (doctor["profiles"]["root"]["works"].get<bool>()) {
    const std::pair<const char*, const char*> walls[] = {{"seccomp", "kernel/keyctl"}, {"landlock", "files/oom_score_of_its_own"}, {"own_uid,process_cgroup", "resources/process_limit"}, {"cpu_cgroup", "resources/cpu_by_forgotten_forks"}};
    for (const auto& [layer, attack] : walls) {
      const auto layers = doctor["profiles"]["root"]["layers"];
      if (std::find(layers.begin(), layers.end(), std::string(layer).substr(0, std::string_view(layer).find(','))) == layers.end()) continue;  // an older kernel, no cgroup
      if (!fs::exists(std::string(attack) == "resources/process_limit" ? "/usr/bin/gcc" : "/usr/bin/python3")) continue;
      const Ended open = run(scratch, {"judge", "attack", "--profile", "root", "--without", layer, "--only", attack, "--json"});
      EXPECT_EQ(open.status, 1) << layer << ": " << open.all();
      EXPECT_EQ(open.last_json()["profiles"]["root"]["escaped"], json::array({attack}));
    }
  }
  const Ended nothing = run(scratch, {"judge", "attack", "--only", "files,luck"});
  EXPECT_EQ(nothing.status, 2) << "nothing attacked is not everything contained";
  EXPECT_NE(nothing.err.find("--only 'luck'"), std::string::npos) << nothing.err;
  const Ended unknown = run(scratch, {"judge", "attack", "--without", "luck"});
  EXPECT_EQ(unknown.status, 2);
  EXPECT_NE(unknown.err.find("no such layer"), std::string::npos) << unknown.err;
}

}  // namespace
}  // namespace drover::test::cli
