// Goal: whatever is wrong is said in one clear line and one line on what to do, with the right exit status, and nothing is lost or left
// behind. Method: the real drover with wrong words, wrong places, a full disk, damaged files.

#include <sqlite3.h>
#include <sys/mount.h>

#include <algorithm>

#include "cli/program.hpp"

namespace drover::test::cli {
namespace {

bool says(const Ended& ended, std::string_view text) { return ended.err.find(text) != std::string::npos; }

void expect_refused(const Ended& ended, int status, const std::vector<std::string>& texts) {
  EXPECT_EQ(ended.status, status) << ended.all();
  EXPECT_TRUE(ended.err.starts_with("drover: ")) << ended.all();
  EXPECT_NE(ended.err.find("\n  "), std::string::npos) << "a line on what to do is missing\n" << ended.all();
  EXPECT_EQ(ended.out, "") << ended.all();
  for (const std::string& text : texts) EXPECT_TRUE(says(ended, text)) << "missing: " << text << "\n" << ended.all();
}

TEST(BadInput, UnknownWordsNameTheNearestOne) {
  const Scratch scratch;
  expect_refused(run(scratch, {"slove", "leduc"}), 2, {"drover: unknown word 'slove'", "did you mean 'solve'?"});
  expect_refused(run(scratch, {"stauts"}), 2, {"did you mean 'status'?"});
  expect_refused(run(scratch, {"echo", "--worker", "2"}), 2, {"drover: echo: unknown option '--worker'", "did you mean '--workers'?"});
}

TEST(BadInput, AnUnknownGameIsRefusedBeforeAnythingIsMade) {
  const Scratch scratch;
  expect_refused(run(scratch, {"solve", "leduk"}), 2, {"drover: solve: ", "'leduk'", "leduc"});
  EXPECT_FALSE(fs::exists(scratch / "drover-jobs"));
}

TEST(BadInput, ZeroAndTenThousandWorkersAreRefusedWithTheAllowedRange) {
  const Scratch scratch;
  expect_refused(run(scratch, {"echo", "--workers", "0"}), 2, {"drover: echo: --workers '0': must be a whole number from 1 to 1024"});
  expect_refused(run(scratch, {"echo", "--workers", "10000"}), 2, {"drover: echo: --workers '10000': must be a whole number from 1 to 1024"});
  expect_refused(run(scratch, {"echo", "--workers", "1024"}), 2, {"drover: echo: --workers '1024': must be 1 to ", "usable core"});
  EXPECT_FALSE(fs::exists(scratch / "drover-jobs"));
}

TEST(BadInput, EveryMistakeOfACommandLineIsToldAtOnce) {
  const Scratch scratch;
  expect_refused(run(scratch, {"echo", "--workers", "0", "--tasks", "many", "--bites", "1", "--time", "10"}), 2,
                 {"--workers '0'", "--tasks 'many'", "unknown option '--bites'", "did you mean '--bytes'?", "--time '10': must be a duration"});
}

TEST(BadInput, EveryMistakeOfAConfigurationFileIsToldWithItsLine) {
  const Scratch scratch;
  std::ofstream(scratch / "a.toml") << "[echo]\ntask = 3\nworkers = 0\nseed = \"x\"\n";
  expect_refused(run(scratch, {"echo", "--config", "a.toml"}), 2, {"a.toml:2: unknown key 'echo.task'", "did you mean 'tasks'?", "a.toml:3: echo.workers '0'", "a.toml:4: echo.seed is text"});
  expect_refused(run(scratch, {"echo", "--config", "b.toml"}), 2, {"'b.toml'", "No such file"});
}

TEST(BadInput, ALayerThisHostLacksOrNobodyKnowsIsRefused) {
  const Scratch scratch;
  expect_refused(run(scratch, {"echo", "--require", "memry"}), 2, {"--require 'memry'", "did you mean 'memory'?"});
}

TEST(BadInput, AJobDirectoryThatCannotBeMadeIsRefused) {
  const Scratch scratch;
  std::ofstream(scratch / "file") << "x";
  expect_refused(run(scratch, {"echo", "--job", "file/below"}), 2, {"drover: echo: ", "file/below"});
  expect_refused(run(scratch, {"echo", "--job", "file"}), 2, {"drover: echo: ", "file"});
  EXPECT_EQ(read_file(scratch / "file"), "x");
  fs::create_directory(scratch / "full");
  std::ofstream(scratch / "full/thesis.txt") << "years of work";
  expect_refused(run(scratch, {"echo", "--job", "full"}), 2, {"full"});
  EXPECT_EQ(read_file(scratch / "full/thesis.txt"), "years of work");
  if (::geteuid() != 0) {
    fs::create_directory(scratch / "locked");
    fs::permissions(scratch / "locked", fs::perms::owner_read | fs::perms::owner_exec);
    expect_refused(run(scratch, {"echo", "--job", "locked/job"}), 2, {"locked/job", "Permission denied"});
  } else {
    expect_refused(run(scratch, {"echo", "--job", "/proc/drover/job"}), 2, {"/proc/drover"});
  }
}

TEST(BadInput, AJobThatExistsIsNotBegunAgain) {
  const Scratch scratch;
  ASSERT_EQ(run(scratch, {"echo", "--tasks", "10", "--job", "a"}).status, 0);
  const std::string before = read_file(scratch / "a/job.toml");
  expect_refused(run(scratch, {"echo", "--tasks", "20", "--job", "a"}), 2, {"drover: echo: ", "drover resume"});
  EXPECT_EQ(read_file(scratch / "a/job.toml"), before);
}

TEST(BadInput, AJobThatIsNotThereIsNamedWithTheNearestOne) {
  const Scratch scratch;
  expect_refused(run(scratch, {"status"}), 2, {"drover: status: no job here"});
  expect_refused(run(scratch, {"resume", "nothing"}), 2, {"drover: resume: no job 'nothing'"});
  ASSERT_EQ(run(scratch, {"echo", "--tasks", "3", "--job", "drover-jobs/training"}).status, 0);
  expect_refused(run(scratch, {"why", "trianing"}), 2, {"no job 'trianing'", "did you mean 'training'?"});
  expect_refused(run(scratch, {"why", "training", "99"}), 2, {"task '99'", "no record"});
  expect_refused(run(scratch, {"replay", "training", "1"}), 2, {"its input was not saved"});
  fs::create_directory(scratch / "empty");
  expect_refused(run(scratch, {"status", "empty"}), 2, {"'empty' is not a job directory"});
}

TEST(BadInput, ACorruptLedgerIsRefusedAndLeftAsItIs) {
  const Scratch scratch;
  const Ended first = run(scratch, {"echo", "--tasks", "1000000", "--sleep", "1ms", "--time", "1500ms", "--job", "a"});
  ASSERT_EQ(first.status, 3) << first.all();
  const std::string file = scratch / "a/ledger.db";
  // Everything into the file itself: what stood in the write-ahead log would rightly mend the damage.
  sqlite3* database = nullptr;
  ASSERT_EQ(sqlite3_open(file.c_str(), &database), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(database, "PRAGMA wal_checkpoint(TRUNCATE)", nullptr, nullptr, nullptr), SQLITE_OK);
  sqlite3_close(database);
  std::string bytes = read_file(file);
  ASSERT_GT(bytes.size(), 20000u);
  for (std::size_t i = 8192; i < 16384; ++i) bytes[i] = static_cast<char>(i * 31);
  std::ofstream(file, std::ios::binary | std::ios::trunc) << bytes;
  expect_refused(run(scratch, {"resume", "a", "--time", "10m"}), 4, {"drover: resume: ", "ledger.db"});
  EXPECT_TRUE(read_file(file) == bytes) << "the damaged ledger was changed";
  std::ofstream(file, std::ios::binary | std::ios::trunc) << "this was a ledger";
  expect_refused(run(scratch, {"resume", "a"}), 4, {"drover: resume: ", "ledger.db"});
  expect_refused(run(scratch, {"status", "a"}), 4, {"drover: status: ", "ledger.db"});
  EXPECT_EQ(read_file(file), "this was a ledger");
}

TEST(BadInput, ACorruptCheckpointIsAnErrorThatNamesTheWayBack) {
  const Scratch scratch;
  const Ended first = run(scratch, {"solve", "kuhn", "--iterations", "2000000000", "--checkpoint-every", "300ms", "--time", "3s", "--job", "a", "--workers", "1"});
  ASSERT_EQ(first.status, 3) << first.all();
  std::vector<fs::path> checkpoints;
  for (const auto& entry : fs::directory_iterator(scratch / "a/checkpoints")) checkpoints.push_back(entry.path());
  std::ranges::sort(checkpoints, {}, [](const fs::path& file) { return std::stoull(file.filename().string()); });  // NUMBER-HASH.ckpt
  ASSERT_GE(checkpoints.size(), 2u);
  const std::string good = read_file(checkpoints.back());
  std::string bad = good;
  bad[bad.size() / 2] = static_cast<char>(bad[bad.size() / 2] ^ 1);
  fs::permissions(checkpoints.back(), fs::perms::owner_write, fs::perm_options::add);
  std::ofstream(checkpoints.back(), std::ios::binary | std::ios::trunc) << bad;
  const std::string more = std::to_string(static_cast<int>(status_of(scratch, "a")["timings"]["consumed_seconds"].get<double>()) + 4) + "s";
  const Ended resumed = run(scratch, {"resume", "a", "--time", more});
  EXPECT_EQ(resumed.status, 4) << resumed.all();
  EXPECT_TRUE(says(resumed, checkpoints.back().filename().string())) << resumed.all();
  EXPECT_TRUE(says(resumed, "drover resume --checkpoint")) << resumed.all();
  EXPECT_TRUE(read_file(checkpoints.back()) == bad);  // evidence, not repaired
  std::ofstream(checkpoints.back(), std::ios::binary | std::ios::trunc) << good;
  // The refused attempt was a run too, of no length.
  EXPECT_EQ(run(scratch, {"resume", "a", "--time", more}).status, 3);
}

/// A small disk of its own; skipped by name where it cannot be had.
class FullDisk : public testing::Test {
 protected:
  void SetUp() override {
    fs::create_directory(disk());
    if (::mount("tmpfs", disk().c_str(), "tmpfs", 0, "size=1m") != 0) GTEST_SKIP() << "no tmpfs can be mounted here";
    mounted_ = true;
  }
  void TearDown() override {
    if (mounted_) ::umount2(disk().c_str(), MNT_DETACH);
  }
  void resize(const char* size) { ASSERT_EQ(::mount("tmpfs", disk().c_str(), "tmpfs", MS_REMOUNT, size), 0); }
  std::string disk() const { return scratch_ / "disk"; }
  Scratch scratch_;
  bool mounted_ = false;
};

TEST_F(FullDisk, ADiskThatIsFullFromTheStartIsSaid) {
  expect_refused(run(scratch_, {"echo", "--job", "disk/a"}), 4, {"drover: echo: ", "No space left"});
}

TEST_F(FullDisk, ADiskThatFillsUpEndsTheJobWithItsEndingRecordedAndNothingLost) {
  resize("size=24m");
  const Ended first = run(scratch_, {"echo", "--job", "disk/a", "--tasks", "600", "--bytes", "64K", "--durability", "process", "--json"});
  ASSERT_EQ(first.status, 4) << first.all();
  const json result = first.last_json();
  EXPECT_EQ(result["outcome"], "host_fault") << first.all();
  EXPECT_EQ(result["resumable"], true);
  EXPECT_EQ(result["digest"], nullptr);
  const json status = status_of(scratch_, "disk/a");
  EXPECT_EQ(status["outcome"], "host_fault") << "the ending must be in the ledger though the disk is full: " << status;
  resize("size=200m");
  const Ended second = run(scratch_, {"resume", "disk/a", "--json"});
  ASSERT_EQ(second.status, 0) << second.all();
  const Ended whole = run(scratch_, {"echo", "--job", "b", "--tasks", "600", "--bytes", "64K", "--durability", "process", "--json"});
  EXPECT_EQ(second.last_json()["digest"], whole.last_json()["digest"]) << second.all();
}

}  // namespace
}  // namespace drover::test::cli
