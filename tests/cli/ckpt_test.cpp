// Goal: `drover ckpt` does what it says, and a wrong word, name or damage is one clear line with the right exit status. Method: the real
// program on a store of its own.

#include <sqlite3.h>

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

TEST(Ckpt, AStoreThatIsNoneAnotherVersionOrDamagedIsRefusedAndLeftAsItIs) {
  const Scratch scratch;
  std::ofstream(scratch / "model") << "weights";
  const auto store_with = [&](const std::string& name, const char* sql) {
    EXPECT_EQ(run(scratch, {"ckpt", "commit", "--step", "1", "--store", name, "--", "model"}).status, 0);
    sqlite3* database = nullptr;
    EXPECT_EQ(sqlite3_open((scratch / (name + "/store.db")).c_str(), &database), SQLITE_OK);
    EXPECT_EQ(sqlite3_exec(database, sql, nullptr, nullptr, nullptr), SQLITE_OK) << sqlite3_errmsg(database);
    sqlite3_close(database);
  };
  store_with("newer", "PRAGMA user_version=99");
  const Ended newer = run(scratch, {"ckpt", "ls", "--store", "newer"});
  EXPECT_EQ(newer.status, 2) << newer.all();
  EXPECT_NE(newer.err.find("version 99"), std::string::npos) << newer.err;
  store_with("other", "PRAGMA application_id=7");
  EXPECT_EQ(run(scratch, {"ckpt", "ls", "--store", "other"}).status, 4);
  // A page of the database overwritten: said so; fsck makes it anew and the head is what it was.
  store_with("damaged", "PRAGMA wal_checkpoint(TRUNCATE)");
  std::fstream(scratch / "damaged/store.db", std::ios::in | std::ios::out | std::ios::binary).seekp(4096) << std::string(8192, 'x');
  const Ended damaged = run(scratch, {"ckpt", "ls", "--store", "damaged"});
  EXPECT_EQ(damaged.status, 4) << damaged.all();
  EXPECT_NE(damaged.err.find("fsck"), std::string::npos) << damaged.err;
  EXPECT_EQ(run(scratch, {"ckpt", "fsck", "--store", "damaged"}).status, 0);
  EXPECT_EQ(run(scratch, {"ckpt", "ls", "--store", "damaged", "--json"}).last_json()[0]["step"], 1);
  // Not a directory at all.
  const Ended file = run(scratch, {"guard", "--notify", "--store", "model", "--job", "a", "--", "true"});
  EXPECT_NE(file.status, 0) << file.all();
  EXPECT_EQ(read_file(scratch / "model"), "weights");
}

}  // namespace
}  // namespace drover::test::cli
