// Goal: what a guarded trainer saves is durable, probed, fenced and within its limits, and nothing goes on from what is not good or
// does not match. Method: the real program on a trainer of ours that does what it is told through the C++ client; the Python client
// by its example.

#include <sys/mount.h>

#include <fstream>

#include "cli/program.hpp"

namespace drover::test::cli {
namespace {

const std::string kTrainee = DROVER_BINARY_DIR "/tests/evil/trainee";

struct Guarded {
  Ended ended;
  json result, store;   ///< store: `drover ckpt ls --json`
  std::string log;
  const json& figure(const char* name) const { return result["figures"][name]; }
};

Ended program(const Scratch& scratch, Words words) { return Started(scratch, std::move(words)).wait(); }

/// One job named `job` on the store `ckpt`.
Guarded guard(const Scratch& scratch, const std::string& job, std::vector<std::string> options, const std::vector<std::string>& deeds, bool notify = true) {
  std::vector<std::string> words{"guard", "--json", "--job", job, "--progress", "none", "--store", "ckpt", "--grace", "200ms"};
  if (notify) words.emplace_back("--notify");
  words.insert(words.end(), options.begin(), options.end());
  words.insert(words.end(), {"--", kTrainee});
  words.insert(words.end(), deeds.begin(), deeds.end());
  Guarded guarded{.ended = run(scratch, words), .result = {}, .store = {}, .log = read_file(scratch / (job + "/command.log"))};
  if (!guarded.ended.out.empty()) guarded.result = guarded.ended.last_json();
  guarded.store = run(scratch, {"ckpt", "ls", "--store", "ckpt", "--json"}).last_json();
  return guarded;
}

TEST(GuardStore, ARunGoesOnFromTheNewestGoodOneAfterACrashAndInTheNextJob) {
  const Scratch scratch;
  const Guarded first = guard(scratch, "a", {"--restart", "transient", "--restart-delay", "1ms"}, {"twice", "resumed", "step:1", "save:model:one", "step:2", "save:model:two", "abort"});
  EXPECT_EQ(first.ended.status, 0) << first.ended.all();
  EXPECT_EQ(first.figure("attempts"), 2);
  EXPECT_EQ(first.figure("checkpoints"), 2);
  const Guarded second = guard(scratch, "b", {"--restart", "transient"}, {"resumed", "step:3", "save:model:three"});
  EXPECT_NE(second.log.find("resumed 2 'two'"), std::string::npos) << second.log;
  EXPECT_EQ(second.store.back()["step"], 3);
  EXPECT_EQ(second.store.back()["parent"], first.store.back()["id"]);
  EXPECT_EQ(second.store.back()["epoch"], 3) << "each attempt fences the one before";
}

TEST(GuardStore, TheStepBudgetBelongsToTheLineageWhateverRuns) {
  const Scratch scratch;
  EXPECT_EQ(guard(scratch, "a", {"--steps", "7"}, {"step:6", "save:model:6"}).ended.status, 0);
  const Guarded over = guard(scratch, "b", {"--steps", "7"}, {"step:7", "save:model:7", "step:8", "keep:model:8", "stopped:20000"});
  EXPECT_EQ(over.ended.status, 3) << over.ended.all();
  EXPECT_EQ(over.result["outcome"], "limit");
  EXPECT_EQ(over.store.back()["step"], 7);
}

TEST(GuardStore, ADamagedNewestOneIsAnErrorNotAFreshStartAndNotTheOneBefore) {
  const Scratch scratch;
  const Guarded good = guard(scratch, "a", {}, {"step:1", "save:model:one", "step:2", "save:model:two"});
  std::ofstream(scratch / ("ckpt/objects/" + good.store.back()["files"][0]["sha256"].get<std::string>())) << "rot";
  const Guarded damaged = guard(scratch, "b", {}, {"resumed"});
  EXPECT_EQ(damaged.ended.status, 1) << damaged.ended.all();
  EXPECT_EQ(damaged.figure("command_end"), "not_started");
  EXPECT_EQ(damaged.log, "");
  EXPECT_EQ(run(scratch, {"ckpt", "verify", "--store", "ckpt"}).status, 4);
  const Guarded after = guard(scratch, "c", {}, {"resumed", "step:2", "save:model:two"});
  EXPECT_NE(after.log.find("resumed 1 'one'"), std::string::npos) << after.log;
  EXPECT_EQ(after.store.back()["head"], true) << "the same bytes again take the rotten ones' place";
}

TEST(GuardStore, AWriterWhoseLineageWasTakenOverIsFencedAndEnds) {
  const Scratch scratch;
  Started zombie(scratch, drover({"guard", "--json", "--job", "a", "--progress", "none", "--notify", "--store", "ckpt", "--restart", "permanent", "--", kTrainee, "step:1", "save:model:one", "write:ready:x", "stopped:20000", "sleep:1500", "step:2", "keep:model:two", "stopped:20000"}));
  ASSERT_TRUE(eventually([&] { return fs::exists(scratch / "ready"); }));
  // Frozen, all of it, as a machine that went to sleep: the supervisor by us, its worker and the trainer with it by their job.
  json workers;
  ASSERT_TRUE(eventually([&] {
    workers = status_of(scratch, "a")["workers"];
    return workers.is_array() && !workers.empty() && workers[0]["host_pid"].is_number();
  }));
  const pid_t worker = workers[0]["host_pid"];
  ASSERT_EQ(::kill(worker, SIGSTOP), 0);
  EXPECT_EQ(guard(scratch, "b", {}, {"step:10", "save:model:ten"}).ended.status, 0);
  ASSERT_EQ(::kill(worker, SIGCONT), 0);
  // It comes back and wants to save: the trainer is asked to by a stop.
  ASSERT_EQ(run(scratch, {"stop", "a", "--deadline", "10s"}).status, 0);
  const Ended over = zombie.wait();
  const json all = run(scratch, {"ckpt", "ls", "--store", "ckpt", "--json"}).last_json();
  ASSERT_EQ(all.back()["step"], 10) << "the head is b's: " << over.all();
  EXPECT_EQ(all.back()["head"], true);
  EXPECT_NE(read_file(scratch / "a/command.log").find("fenced"), std::string::npos) << over.all();
}

TEST(GuardStore, AFullDiskRefusesTheCheckpointAndLeavesTheHead) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to mount a small file system";
  const Scratch scratch;
  const std::string disk = scratch / "disk";
  fs::create_directory(disk);
  if (::mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=3m") != 0) GTEST_SKIP() << "no tmpfs can be mounted here";
  fs::create_directory_symlink(disk, scratch / "ckpt");
  const Guarded run_ = guard(scratch, "a", {"--keep-last", "100"}, {"step:1", "save:model:" + std::string(90'000, 'a'), "step:2", "write:" + disk + "/filler:" + std::string(120'000, 'f'),
                                                                   "fill:" + disk + "/rest", "keep:model:" + std::string(120'000, 'b')});
  EXPECT_EQ(run_.ended.status, 0) << run_.ended.all() << run_.log;
  EXPECT_GE(run_.figure("checkpoints_refused"), 1) << run_.ended.all();
  EXPECT_NE(run_.log.find("No space left"), std::string::npos) << run_.log;
  EXPECT_EQ(run_.store.back()["head"], true);
  EXPECT_EQ(run(scratch, {"ckpt", "verify", "--store", "ckpt"}).status, 0);
  ::umount2(disk.c_str(), MNT_DETACH);
}

TEST(GuardStore, AFreshStartMustBeAskedForOnceThereIsSomething) {
  const Scratch scratch;
  EXPECT_EQ(guard(scratch, "a", {}, {"step:5", "save:model:x"}).ended.status, 0);
  const std::string id = run(scratch, {"ckpt", "ls", "--store", "ckpt", "--json"}).last_json().back()["id"];
  ASSERT_EQ(run(scratch, {"ckpt", "quarantine", id, "--reason", "bad day", "--store", "ckpt"}).status, 0);
  const Guarded refused = guard(scratch, "b", {}, {"step:1", "save:model:y"});
  EXPECT_EQ(refused.ended.status, 1) << "none of them is good: " << refused.ended.all();
  EXPECT_EQ(refused.figure("command_end"), "not_started");
  const Guarded fresh = guard(scratch, "c", {"--fresh"}, {"resumed", "step:1", "save:model:y"});
  EXPECT_EQ(fresh.ended.status, 0) << fresh.ended.all();
  EXPECT_NE(fresh.log.find("resumed 0"), std::string::npos);
  EXPECT_EQ(fresh.store.back()["parent"], "");
  EXPECT_EQ(fresh.store.back()["step"], 1);
  // Crashed before it had saved anything it starts afresh again; after that it goes on from its own.
  const Guarded crashed = guard(scratch, "d", {"--fresh", "--restart", "transient", "--restarts", "2"}, {"resumed", "write:seen:x", "step:7", "exit:1"});
  EXPECT_EQ(crashed.log, "resumed 0 ''\nresumed 0 ''\n") << crashed.ended.all();
  const Guarded went_on = guard(scratch, "e", {"--fresh", "--restart", "transient"}, {"twice", "resumed", "step:3", "save:model:mine", "exit:1"});
  EXPECT_EQ(went_on.ended.status, 0) << went_on.ended.all();
  EXPECT_EQ(went_on.figure("attempts"), 2);
}

TEST(GuardStore, AnotherFingerprintIsRefusedWithTheDifference) {
  const Scratch scratch;
  std::ofstream(scratch / "one.json") << R"({"config": "lr=1", "features": [{"name": "close", "dtype": "float32", "shape": [4], "scale": 100.0}]})";
  std::ofstream(scratch / "two.json") << R"({"config": "lr=1", "features": [{"name": "macd", "dtype": "float32", "shape": [4], "scale": 100.0}]})";
  EXPECT_EQ(guard(scratch, "a", {"--fingerprint", "one.json"}, {"step:1", "save:model:x"}).ended.status, 0);
  const Guarded other = guard(scratch, "b", {"--fingerprint", "two.json"}, {"step:2", "save:model:y"});
  EXPECT_EQ(other.ended.status, 1);
  EXPECT_NE(other.result["exit_reason"].get<std::string>().find("feature 0: name 'macd' here, 'close' in the checkpoint"), std::string::npos) << other.ended.all();
  EXPECT_EQ(other.store.size(), 1u) << "nothing of it was loaded or kept";
  EXPECT_EQ(guard(scratch, "c", {"--fingerprint", "one.json"}, {"step:2", "save:model:y"}).ended.status, 0);
  EXPECT_EQ(guard(scratch, "d", {"--fingerprint", "none.json"}, {"step:2"}).ended.status, 2);
}

TEST(GuardStore, AFailedProbeQuarantinesAndTooManyInARowEndTheRun) {
  const Scratch scratch;
  const Guarded run_ = guard(scratch, "a", {"--probe", "finite; share policy 0.9", "--probe-failures", "2"},
                             {"step:1", "policy:0.4,0.3,0.3", "step:2", "policy:nan,0,0", "step:3", "policy:0.3,0.4,0.3", "step:4", "policy:0.98,0.01,0.01", "step:5", "policy:0.99,0.005,0.005", "stopped:20000"});
  EXPECT_EQ(run_.ended.status, 4) << run_.ended.all();
  EXPECT_EQ(run_.result["outcome"], "gave_up");
  EXPECT_EQ(run_.figure("command_end"), "probe");
  EXPECT_EQ(run_.figure("checkpoints"), 5);
  EXPECT_EQ(run_.figure("checkpoints_quarantined"), 3);
  std::vector<std::string> status;
  for (const json& one : run_.store) status.push_back(one["status"]);
  EXPECT_EQ(status, (std::vector<std::string>{"good", "quarantined", "good", "quarantined", "quarantined"}));
  EXPECT_EQ(run_.store[2]["head"], true);
  const Guarded next = guard(scratch, "b", {}, {"resumed"});
  EXPECT_NE(next.log.find("resumed 3"), std::string::npos) << next.log;
}

TEST(GuardStore, AProbeCommandJudgesAReadOnlyViewWhileTheTrainerGoesOn) {
  const Scratch scratch;
  std::ofstream(scratch / "probe.sh") << "grep -q good $DROVER_PROBE/model || { echo no good in it; exit 1; }\n[ ! -w $DROVER_PROBE/model ] || [ $(id -u) = 0 ]\n";
  const Guarded run_ = guard(scratch, "a", {"--probe-command", "sh probe.sh"}, {"step:1", "save:model:good 1", "step:2", "save:model:bad", "step:3", "save:model:good 3"});
  EXPECT_EQ(run_.ended.status, 0) << run_.ended.all();
  EXPECT_EQ(run_.store[0]["status"], "good");
  EXPECT_EQ(run_.store[1]["status"], "quarantined");
  EXPECT_EQ(run_.store[1]["reason"], "the probe ended with status 1: no good in it");
  EXPECT_EQ(run_.store[2]["head"], true) << "what was not probed when the trainer ended was probed before the run did";
  const Guarded hung = guard(scratch, "b", {"--probe-command", "sleep 1000", "--probe-time", "200ms"}, {"step:4", "save:model:good 4"});
  EXPECT_EQ(hung.store.back()["status"], "quarantined") << hung.ended.all();
}

TEST(GuardStore, ATrainerThatKnowsNothingOfUsIsSavedByWhatItCloses) {
  const Scratch scratch;
  fs::create_directory(scratch / "out");
  const Guarded run_ = guard(scratch, "a", {"--ingest", "out/*.pt", "--progress-regex", "step (\\d+)"}, {"write:out/notes.txt:no", "write:out/epoch1.pt:first", "sleep:500", "write:out/epoch2.pt:second"}, false);
  EXPECT_EQ(run_.ended.status, 0) << run_.ended.all();
  ASSERT_EQ(run_.store.size(), 2u) << run_.store;
  EXPECT_EQ(run_.store[0]["files"][0]["name"], "epoch1.pt");
  EXPECT_EQ(run_.store[1]["files"][0]["name"], "epoch2.pt") << "the last one was closed just before the end";
  EXPECT_EQ(read_file(scratch / "out/epoch2.pt"), "second") << "its own file is left to it";
  EXPECT_EQ(guard(scratch, "b", {"--ingest", "nowhere/*.pt"}, {"step:1"}).ended.status, 2);
}

TEST(GuardStore, ATornSafetensorsFileIsRefused) {
  const Scratch scratch;
  const Guarded run_ = guard(scratch, "a", {}, {"step:1", "policy:1,2", "step:2", "keep:cut.safetensors:xxxxxxxxxxx"});
  EXPECT_EQ(run_.ended.status, 0);
  EXPECT_EQ(run_.figure("checkpoints"), 1);
  EXPECT_EQ(run_.figure("checkpoints_refused"), 1);
  EXPECT_NE(run_.log.find("no sound safetensors file"), std::string::npos) << run_.log;
}

TEST(GuardStore, ASpareTakesOverFromTheNewestGoodOneAndADeadSpareIsNoHarm) {
  const Scratch scratch;
  const Guarded run_ = guard(scratch, "a", {"--restart", "transient", "--spare"}, {"twice", "resumed", "step:1", "save:model:one", "sleep:300", "abort"});
  EXPECT_EQ(run_.ended.status, 0) << run_.ended.all();
  EXPECT_EQ(run_.figure("attempts"), 2);
  // The one in front kills the spare beside it? It cannot see it: each lives in a namespace of its own.
  const Scratch other;
  const Guarded resumed = guard(other, "a", {"--restart", "transient", "--spare"}, {"resumed", "step:1", "save:model:one", "sleep:300", "exit:1"});
  EXPECT_EQ(resumed.result["outcome"], "gave_up") << "the same failure twice at the same step: " << resumed.ended.all();
  EXPECT_NE(resumed.log.find("resumed 1 'one'"), std::string::npos) << resumed.log;
  EXPECT_EQ(guard(other, "b", {"--spare"}, {"step:1"}).ended.status, 2);
}

TEST(GuardStore, DiskAndCheckpointLimitsEndTheRunAndKeepTheHead) {
  const Scratch scratch;
  const std::string big(60'000, 'x');
  const Guarded disk = guard(scratch, "a", {"--disk", "150K", "--keep-last", "100"}, {"step:1", "save:model:1" + big, "step:2", "save:model:2" + big, "step:3", "save:model:3" + big, "step:4", "save:model:4" + big, "stopped:20000"});
  EXPECT_EQ(disk.ended.status, 3) << disk.ended.all();
  EXPECT_EQ(disk.figure("command_end"), "disk");
  EXPECT_EQ(disk.store.back()["head"], true);
  const Scratch other;
  const Guarded count = guard(other, "a", {"--checkpoints", "2", "--keep-last", "5"}, {"step:1", "save:model:1", "step:2", "save:model:2", "step:3", "save:model:3", "stopped:20000"});
  EXPECT_EQ(count.ended.status, 3) << count.ended.all();
  EXPECT_EQ(count.figure("command_end"), "checkpoints");
  EXPECT_EQ(count.store.size(), 3u) << "nothing that is protected was deleted";
}

TEST(GuardStore, PhasesHaveTheirOwnTimesAndABeatIsNoStep) {
  const Scratch scratch;
  EXPECT_EQ(guard(scratch, "a", {"--stall", "300ms", "--phases", "load=20s"}, {"phase:load", "sleep:900", "phase:train", "step:1"}).ended.status, 0) << "loading may take longer than a stall";
  const Guarded slow = guard(scratch, "b", {"--stall", "20s", "--phases", "eval=200ms"}, {"step:2", "phase:eval", "beat:20000"});
  EXPECT_EQ(slow.ended.status, 4) << slow.ended.all();
  EXPECT_NE(slow.result["exit_reason"].get<std::string>().find("phase eval lasts for"), std::string::npos) << slow.result["exit_reason"];
  const Guarded frozen = guard(scratch, "c", {"--stall", "300ms"}, {"step:3", "beat:20000"});
  EXPECT_EQ(frozen.ended.status, 4) << frozen.ended.all();
  EXPECT_EQ(frozen.result["outcome"], "stalled");
  const std::string evidence = read_file(scratch / "c/evidence.txt");
  EXPECT_NE(evidence.find("step 3"), std::string::npos) << evidence;
  EXPECT_NE(evidence.find("open: "), std::string::npos) << evidence;
  EXPECT_EQ(guard(scratch, "d", {"--phases", "sleep=1s"}, {"step:1"}).ended.status, 2);
}

TEST(GuardStore, ATrainerAskedToStopSavesInsideItsGrace) {
  const Scratch scratch;
  const Guarded run_ = guard(scratch, "a", {"--wall", "700ms", "--grace", "5s"}, {"step:1", "stopped:20000", "save:model:at the last"});
  EXPECT_EQ(run_.ended.status, 3) << run_.ended.all();
  ASSERT_EQ(run_.store.size(), 1u);
  EXPECT_EQ(run_.store[0]["step"], 1);
}

TEST(GuardStore, AHostThatCannotContainRefusesUnlessItIsOnlyAdvisory) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to take the namespaces away";
  const Scratch scratch;
  const auto without = [&](const std::string& more) {
    const std::string line = "echo 0 > /proc/sys/user/max_pid_namespaces && exec " + std::string(DROVER_BINARY) + " guard --json --progress none " + more + " -- true";
    return program(scratch, {"/usr/bin/unshare", "-U", "-r", "sh", "-c", line});
  };
  const Ended refused = without("");
  if (refused.err.find("unshare") != std::string::npos || refused.err.find("Permission denied") != std::string::npos) GTEST_SKIP() << "this host makes no user namespace: " << refused.err;
  EXPECT_EQ(refused.status, 2) << refused.all();
  EXPECT_NE(refused.err.find("--advisory"), std::string::npos) << refused.err;
  const Ended advisory = without("--advisory");
  EXPECT_EQ(advisory.status, 0) << advisory.all();
  EXPECT_NE(advisory.err.find("best-effort"), std::string::npos) << advisory.err;
  EXPECT_EQ(advisory.last_json()["containment"], "best-effort");
}

TEST(GuardStore, ThePythonClientsExampleEndsTheSameWhateverDies) {
  if (::access("/usr/bin/python3", X_OK) != 0) GTEST_SKIP() << "python3 is not installed";
  const Scratch scratch;
  const std::string example = DROVER_SOURCE_DIR "/examples/trainer.py";
  const auto last_line = [](std::string text) {
    while (text.ends_with('\n')) text.pop_back();
    return text.substr(text.rfind('\n') + 1);
  };
  const std::string alone = last_line(program(scratch, {"/usr/bin/python3", example, "200"}).out);
  ASSERT_NE(alone.find("step 200: y = "), std::string::npos);
  const Ended guarded = run(scratch, {"guard", "--json", "--job", "a", "--progress", "none", "--notify", "--store", "ckpt", "--restart", "transient", "--restart-delay", "1ms", "--", "/usr/bin/python3", example, "200", "--die-at", "130"});
  EXPECT_EQ(guarded.status, 0) << guarded.all();
  EXPECT_EQ(guarded.last_json()["figures"]["attempts"], 2);
  EXPECT_EQ(last_line(read_file(scratch / "a/command.log")), alone);
}

}  // namespace
}  // namespace drover::test::cli
