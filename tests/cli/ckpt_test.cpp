// Goal: `drover ckpt` does what it says, and a wrong word, name or damage is one clear line with the right exit status. Method: the real
// program on a store of its own.

#include <fstream>

#include "cli/program.hpp"

namespace drover::test::cli {
namespace {

TEST(Ckpt, ALineOfCheckpointsIsCommittedListedPinnedRolledBackAndExported) {
  const Scratch scratch;
  for (int step = 1; step <= 4; ++step) {
    std::ofstream(scratch / "model") << "weights of step " << step;
    const Ended committed = run(scratch, {"ckpt", "commit", "--step", std::to_string(step * 10), "--metric", std::to_string(-step), "--json", "--", "model"});
    ASSERT_EQ(committed.status, 0) << committed.all();
  }
  const json all = run(scratch, {"ckpt", "ls", "--json"}).last_json();
  ASSERT_EQ(all.size(), 4u);
  EXPECT_EQ(all[3]["head"], true);
  EXPECT_EQ(all[3]["parent"], all[2]["id"]);
  ASSERT_EQ(run(scratch, {"ckpt", "pin", "2"}).status, 0);
  ASSERT_EQ(run(scratch, {"ckpt", "quarantine", "4", "--reason", "NaN"}).status, 0);
  EXPECT_EQ(run(scratch, {"ckpt", "log", "--json"}).last_json()[0]["number"], 3);
  ASSERT_EQ(run(scratch, {"ckpt", "retain", "--last", "1", "--best", "0"}).status, 0);
  const json left = run(scratch, {"ckpt", "ls", "--json"}).last_json();
  ASSERT_EQ(left.size(), 3u) << left;  // 3 is the head, 2 is pinned and its parent, 4 is quarantined: evidence; 1 is gone
  ASSERT_EQ(run(scratch, {"ckpt", "rollback", "2"}).status, 0);
  ASSERT_EQ(run(scratch, {"ckpt", "export", "2", "--to", "out"}).status, 0);
  std::string line;
  std::ifstream out(scratch / "out/model");
  std::getline(out, line);
  EXPECT_EQ(line, "weights of step 2");
  EXPECT_NE(run(scratch, {"ckpt", "diff", "2", "3"}).out.find("file model: "), std::string::npos);
}

TEST(Ckpt, WrongWordsAndDamageAreOneLine) {
  const Scratch scratch;
  EXPECT_EQ(run(scratch, {"ckpt"}).status, 2);
  EXPECT_EQ(run(scratch, {"ckpt", "lss"}).status, 2);
  EXPECT_EQ(run(scratch, {"ckpt", "ls", "--store", "nowhere"}).status, 2);
  std::ofstream(scratch / "model") << "weights";
  const json one = run(scratch, {"ckpt", "commit", "--step", "1", "--json", "--", "model"}).last_json();
  ASSERT_TRUE(one.is_array());
  EXPECT_EQ(run(scratch, {"ckpt", "pin", "99"}).status, 2);
  EXPECT_EQ(run(scratch, {"ckpt", "commit", "--step", "2", "--", "no-such-file"}).status, 2);
  EXPECT_EQ(run(scratch, {"ckpt", "ls", "--json"}).last_json().size(), 1u);
  std::ofstream(scratch / ("drover-store/objects/" + one[0]["files"][0]["sha256"].get<std::string>())) << "weightz";
  EXPECT_EQ(run(scratch, {"ckpt", "verify"}).status, 4);
  EXPECT_EQ(run(scratch, {"ckpt", "ls", "--json"}).last_json()[0]["status"], "quarantined");
  fs::remove(scratch / "drover-store/store.db");
  EXPECT_EQ(run(scratch, {"ckpt", "ls"}).status, 4) << "a lost database is not an empty store";
  EXPECT_EQ(run(scratch, {"ckpt", "fsck"}).status, 0);
  EXPECT_EQ(run(scratch, {"ckpt", "ls", "--json"}).last_json()[0]["status"], "quarantined");
}

}  // namespace
}  // namespace drover::test::cli
