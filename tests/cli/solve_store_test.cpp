// Goal: a line of trainings in a checkpoint store goes on over jobs as if it were one, and only from what is its own. Method: the
// real program; a job killed in the middle and a second one end at the digest of one that was never disturbed.

#include "cli/program.hpp"

namespace drover::test::cli {
namespace {

Words solve(const std::string& job, Words more) {
  Words words{"solve", "leduc", "--json", "--progress", "none", "--workers", "2", "--checkpoint-every", "20ms", "--job", job};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}
json stored(const Scratch& scratch) {
  const json list = run(scratch, {"ckpt", "ls", "--store", "ckpt", "--json"}).last_json();
  return list.is_array() ? list : json::array();
}

TEST(SolveStore, AKilledJobAndTheNextOneOfItsLineageEndAtTheDigestOfOne) {
  const Scratch scratch;
  const json whole = run(scratch, solve("whole", {"--iterations", "3000000"})).last_json();
  {
    Started first(scratch, drover(solve("first", {"--iterations", "3000000", "--store", "ckpt"})));
    ASSERT_TRUE(eventually([&] { return stored(scratch).size() >= 2; })) << first.err();
    first.signal(SIGKILL);
    first.wait();
  }
  const json before = stored(scratch);
  ASSERT_LT(before.back()["step"], 3000000) << "it ended before the kill: nothing was tried";
  const Ended second = run(scratch, solve("second", {"--iterations", "3000000", "--store", "ckpt"}));
  ASSERT_EQ(second.status, 0) << second.all();
  EXPECT_EQ(second.last_json()["digest"], whole["digest"]);
  EXPECT_LT(second.last_json()["counts"]["completed"], whole["counts"]["completed"]) << "it began anew";
  const json after = stored(scratch);
  EXPECT_EQ(after.back()["step"], 3000000);
  EXPECT_NEAR(after.back()["metric"].get<double>(), -second.last_json()["figures"]["exploitability_chips"].get<double>(), 1e-12);
  EXPECT_EQ(run(scratch, {"ckpt", "verify", "--store", "ckpt"}).status, 0);

  // The job itself can be resumed too; its own checkpoint goes first, and the lineage is no longer its to move.
  const Ended resumed = run(scratch, {"resume", "first", "--json", "--progress", "none"});
  EXPECT_EQ(stored(scratch).back()["step"], 3000000) << resumed.all();
}

TEST(SolveStore, SharedModeGoesOnToo) {
  const Scratch scratch;
  ASSERT_EQ(run(scratch, solve("a", {"--mode", "shared", "--iterations", "200000", "--store", "ckpt"})).status, 0);
  const Ended second = run(scratch, solve("b", {"--mode", "shared", "--iterations", "500000", "--store", "ckpt"}));
  ASSERT_EQ(second.status, 0) << second.all();
  EXPECT_EQ(second.last_json()["figures"]["iterations"], 500000);
  EXPECT_EQ(stored(scratch).back()["step"], 500000);
}

TEST(SolveStore, AJobThatWasOvertakenIsFenced) {
  const Scratch scratch;
  Started old(scratch, drover(solve("old", {"--iterations", "2000000000", "--store", "ckpt"})));
  ASSERT_TRUE(eventually([&] { return !stored(scratch).empty(); })) << old.err();
  ASSERT_EQ(run(scratch, solve("new", {"--iterations", "1000", "--store", "ckpt", "--fresh"})).status, 0);
  const Ended ended = old.wait();
  EXPECT_EQ(ended.status, 4) << ended.all();
  EXPECT_EQ(ended.last_json()["outcome"], "fenced");
  const json there = stored(scratch);
  EXPECT_EQ(there.back()["step"], 1000) << "the overtaken one moved the lineage";
  EXPECT_TRUE(there.back()["parent"].get<std::string>().empty()) << "--fresh has no parent";
}

TEST(SolveStore, AnotherTrainingIsRefusedWithTheDifference) {
  const Scratch scratch;
  ASSERT_EQ(run(scratch, solve("a", {"--iterations", "1000", "--store", "ckpt"})).status, 0);
  const json before = stored(scratch);
  const Ended other = run(scratch, solve("b", {"--iterations", "2000", "--store", "ckpt", "--seed", "7"}));
  EXPECT_NE(other.status, 0);
  EXPECT_NE(other.err.find("seed: 7' here"), std::string::npos) << other.all();
  EXPECT_EQ(stored(scratch), before);
  const Ended words = run(scratch, solve("c", {"--lineage", "x"}));
  EXPECT_EQ(words.status, 2);
  EXPECT_NE(words.err.find("--lineage needs --store"), std::string::npos) << words.all();
}

}  // namespace
}  // namespace drover::test::cli
