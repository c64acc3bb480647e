// Goal: what is recorded is what is read, once; what is damaged is refused with a way back. Method: real databases in a temporary
// directory, written through the writer as the loop does.

#include <fstream>

#include "sim/fault_file_system.hpp"
#include "store/support.hpp"

namespace drover::store::test {
namespace {

class EachGrain : public ::testing::TestWithParam<Grain> {};
INSTANTIATE_TEST_SUITE_P(Ledger, EachGrain, ::testing::Values(Grain::rows, Grain::ranges), [](const auto& which) { return std::string(name_of(which.param)); });

TEST_P(EachGrain, AJobIsReadBackAsItWasRecorded) {
  TempDir dir;
  Job job(dir.path());
  ASSERT_OK(job.start({.durability = Durability::power, .grain = GetParam()}));
  const std::string small = "small result", large(100'000, 'x');
  for (std::uint64_t task : {0u, 1u, 2u, 5u, 4u}) job.complete(task);
  job.complete(3, small, true);
  job.complete(7, large, true);
  job.complete(8, "", true);
  job.batch.add(AttemptEnded{.task = TaskId(9), .attempt = 1, .epoch = Epoch(1), .place = {.slot = SlotId(1), .incarnation = Incarnation(2), .host_pid = 99},
                             .outcome = outcome::Crashed{11}, .will_retry = true, .evidence = "{\"rss\":1}"});
  job.complete(9, {}, false, 2);
  job.batch.add(QuarantinedInput{.task = TaskId(10), .input = bytes_of("poison")});
  job.batch.add(job.number(), TaskFailed{.task = TaskId(10), .spec_hash = 30, .epoch = Epoch(3), .attempt = 3, .outcome = outcome::Quarantined{3}});
  job.batch.add(job.number(), TaskFailed{.task = TaskId(11), .spec_hash = 33, .epoch = Epoch(1), .attempt = 1, .outcome = outcome::Cancelled{CancelKind::queued}});
  job.batch.add(AttemptEnded{.task = TaskId(12), .attempt = 1, .epoch = Epoch(4), .outcome = outcome::Lost{LossCause::killed}, .will_retry = true});
  job.batch.add(job.number(), AttemptOpened{.task = TaskId(13), .spec_hash = 1, .attempt = 1, .epoch = Epoch(1)});
  job.batch.add(IncarnationEvent{.slot = SlotId(1), .incarnation = Incarnation(2), .kind = IncarnationEventKind::ended, .host_pid = 99, .cause = "crashed"});
  job.batch.add(job.number(), CheckpointRow{.number = 1, .name = "000001-abc.ckpt", .sha256 = sha256_of("a"), .bytes = 5, .meta_json = "{}", .tasks_upto = 3});
  job.batch.add(job.number(), CheckpointRow{.number = 2, .name = "000002-abd.ckpt", .sha256 = sha256_of("b"), .bytes = 5, .meta_json = "{}", .tasks_upto = 6});
  job.batch.add(job.number(), CheckpointRow{.number = 2, .name = "000002-abd.ckpt", .sha256 = sha256_of("b"), .bytes = 5, .meta_json = "{}", .tasks_upto = 6, .state = CheckpointState::quarantined});
  job.batch.add(SinkConfirmed{TaskId(3)});
  job.batch.add(RunBeat{.consumed = Nanos(500), .boottime = Nanos(1500)});
  ASSERT_TRUE(job.settle()) << job.writer->failure()->what();
  ASSERT_OK(job.writer->finish(RunEnded{.ending = ending::Limit{JobLimit::wall}, .consumed = Nanos(600), .boottime = Nanos(1600), .digest = "d1", .digest_note = "", .digest_tasks = 6}, after(now(), kBound)));
  EXPECT_EQ(job.writer->append(job.batch, now()), (std::expected<void, AppendRefused>()));  // nothing to append is nothing to refuse
  job.complete(99);
  EXPECT_EQ(job.writer->append(job.batch, now()).error(), AppendRefused::stopped);

  auto ledger = job.read();
  ASSERT_OK(ledger);
  EXPECT_EQ(ledger->header().workload, "echo");
  EXPECT_EQ(ledger->grain(), GetParam());
  const auto recorded = ledger->recorded();
  ASSERT_OK(recorded);
  EXPECT_EQ(*recorded, (std::vector<RecordedRange>{{TaskId(0), TaskId(5)}, {TaskId(7), TaskId(10)}}));
  for (std::uint64_t task : {0u, 5u}) {
    const auto row = ledger->task(TaskId(task));
    ASSERT_OK(row);
    ASSERT_TRUE(row->has_value());
    EXPECT_EQ((*row)->in_range, GetParam() == Grain::ranges);
    EXPECT_EQ((*row)->outcome_json, json_of(Outcome(outcome::Completed{})));
  }
  EXPECT_FALSE((*ledger->task(TaskId(6))).has_value());
  const auto text_of_result = [&](std::uint64_t task) { return drover::to_string(**ledger->result(TaskId(task))); };
  EXPECT_EQ(text_of_result(3), small);
  EXPECT_EQ(text_of_result(7), large);
  EXPECT_EQ(text_of_result(8), "");
  EXPECT_FALSE((*ledger->result(TaskId(9))).has_value());
  const auto attempts = ledger->attempts(TaskId(9));
  ASSERT_OK(attempts);
  ASSERT_EQ(attempts->size(), 2u);
  EXPECT_EQ((*attempts)[0].place.host_pid, 99);
  EXPECT_EQ((*attempts)[0].outcome_json, json_of(Outcome(outcome::Crashed{11})));
  EXPECT_EQ((*attempts)[0].evidence, "{\"rss\":1}");
  EXPECT_EQ((*attempts)[1].attempt, 2u);
  const auto failures = ledger->failures(10);
  ASSERT_OK(failures);
  ASSERT_EQ(failures->size(), 2u);
  EXPECT_TRUE((*failures)[0].final);
  EXPECT_FALSE((*failures)[1].final);
  const auto quarantined = ledger->quarantined();
  ASSERT_OK(quarantined);
  ASSERT_EQ(quarantined->size(), 1u);
  EXPECT_EQ(*posix_file_system().read_file(dir / ("results/" + (*quarantined)[0].input_file)), "poison");
  EXPECT_EQ((*ledger->incarnations(1)).size(), 1u);
  const auto counts = ledger->counts();
  ASSERT_OK(counts);
  EXPECT_EQ(counts->completed, 9u);
  EXPECT_EQ(counts->recorded, 11u);
  EXPECT_EQ(counts->attempts, 2u);

  auto again = Ledger::open(posix_file_system(), job.ledger_path(), {});
  ASSERT_OK(again);
  const auto recovery = again->recover("boot-1", Nanos(99999));
  ASSERT_OK(recovery);
  EXPECT_EQ(recovery->recorded, *recorded);
  EXPECT_EQ(recovery->consumed, Nanos(600));
  EXPECT_EQ(recovery->last_run->ending_name, "limit");
  EXPECT_EQ(recovery->last_run->digest, "d1");
  EXPECT_FALSE(recovery->last_run->reconstructed);
  ASSERT_TRUE(recovery->newest_good.has_value());
  EXPECT_EQ(recovery->newest_good->number, 1u);
  EXPECT_EQ(recovery->next_checkpoint_number, 3u);
  EXPECT_EQ(recovery->sink_confirmed_upto, TaskId(3));
  ASSERT_EQ(recovery->open.size(), 3u);
  EXPECT_EQ(recovery->open[0].task, TaskId(11));
  EXPECT_EQ(recovery->open[1].highest, Epoch(4));
  EXPECT_EQ(recovery->open[1].blamed_attempts, 0u);
  EXPECT_FALSE(recovery->open[1].effect_unknown);
  EXPECT_EQ(recovery->open[2].task, TaskId(13));
  EXPECT_TRUE(recovery->open[2].effect_unknown);
}

TEST_P(EachGrain, ATaskIsRecordedOnceAndASecondEndingStopsTheWriter) {
  for (const bool keep : {false, true}) {
    TempDir dir;
    Job job(dir.path());
    ASSERT_OK(job.start({.grain = GetParam()}));
    for (std::uint64_t task = 0; task < 10; ++task) job.complete(task);
    ASSERT_TRUE(job.settle());
    job.complete(10);
    job.complete(4, "again", keep);
    EXPECT_FALSE(job.settle());
    ASSERT_TRUE(job.writer->failure().has_value());
    EXPECT_EQ(job.writer->failure()->code(), ErrorCode::exists);
    EXPECT_NE(job.writer->failure()->what().find("task 4"), std::string::npos) << job.writer->failure()->what();
    EXPECT_EQ(job.writer->committed(), RecordNumber(10));
    ASSERT_OK(job.finish(ending::HostFault{"ledger"}));  // the ending is recorded all the same
    auto ledger = job.read();
    ASSERT_OK(ledger);
    EXPECT_EQ(*ledger->recorded(), (std::vector<RecordedRange>{{TaskId(0), TaskId(9)}}));
    EXPECT_EQ((*ledger->runs("boot-1", nullptr)).back().ending_name, "host_fault");
  }
}

TEST_P(EachGrain, ATaskThatWasCancelledIsOpenForAResumeAndThenFinal) {
  TempDir dir;
  {
    Job job(dir.path());
    ASSERT_OK(job.start({.grain = GetParam()}));
    job.complete(0);
    job.batch.add(job.number(), TaskFailed{.task = TaskId(1), .epoch = Epoch(5), .outcome = outcome::Cancelled{CancelKind::running}});
    job.batch.add(job.number(), TaskFailed{.task = TaskId(2), .epoch = Epoch(1), .outcome = outcome::TimedOut{TimeoutKind::run, Seconds(1)}});
    ASSERT_TRUE(job.settle());
    ASSERT_OK(job.finish(ending::Cancelled{}));
  }
  {
    Job job(dir.path());
    ASSERT_OK(job.start({.grain = GetParam()}));
    EXPECT_EQ(job.recovery.recorded, (std::vector<RecordedRange>{{TaskId(0), TaskId(0)}}));
    ASSERT_EQ(job.recovery.open.size(), 2u);
    EXPECT_EQ(job.recovery.open[0].highest, Epoch(5));
    job.complete(1);
    job.complete(2, "kept", true);
    ASSERT_TRUE(job.settle()) << job.writer->failure()->what();
    job.complete(1);
    EXPECT_FALSE(job.settle());
    ASSERT_OK(job.finish());
  }
  auto ledger = Job(dir.path()).read();
  ASSERT_OK(ledger);
  EXPECT_EQ(*ledger->recorded(), (std::vector<RecordedRange>{{TaskId(0), TaskId(2)}}));
  EXPECT_TRUE(ledger->failures(10)->empty());
}

TEST(Ledger, AResumeChecksItsInputRangeByRange) {
  TempDir dir;
  Job job(dir.path());
  ASSERT_OK(job.start({.grain = Grain::ranges}));
  for (std::uint64_t task = 0; task < 100; ++task) job.complete(task);
  ASSERT_TRUE(job.settle());
  ASSERT_OK(job.finish());
  auto ledger = Ledger::open(posix_file_system(), job.ledger_path(), {});
  ASSERT_OK(ledger);
  const auto recovery = ledger->recover("boot-1", Nanos(1));
  ASSERT_OK(recovery);
  std::uint64_t fold = 0;
  for (std::uint64_t task = 0; task < 100; ++task) fold += fold_of(TaskId(task), task * 3);
  EXPECT_EQ(recovery->folded, (std::vector<FoldedRange>{{TaskId(0), TaskId(99), fold}}));
}

TEST(Ledger, AnUncleanEndIsReconstructedAndChargedUntilItsLastBeatPlusOnePeriod) {
  struct Case { const char* boot; Nanos now; Nanos charged; const char* ending; };
  for (const Case& c : {Case{"boot-1", Nanos(2'000'000'000), Nanos(700 + 1'000'000), "supervisor_lost"}, Case{"boot-1", Nanos(4100), Nanos(700 + 100), "supervisor_lost"},
                        Case{"boot-2", Nanos(50), Nanos(700 + 1'000'000), "host_reboot"}}) {
    TempDir dir;
    {
      Job job(dir.path());
      ASSERT_OK(job.start({}));
      job.batch.add(RunBeat{.consumed = Nanos(700), .boottime = Nanos(4000)});
      job.complete(0);
      ASSERT_TRUE(job.settle());
    }  // no finish: as if killed
    auto ledger = Ledger::open(posix_file_system(), dir / "ledger.db", {.beat_period = Millis(1)});
    ASSERT_OK(ledger);
    const auto recovery = ledger->recover(c.boot, c.now);
    ASSERT_OK(recovery);
    EXPECT_EQ(recovery->consumed, c.charged);
    EXPECT_EQ(recovery->last_run->ending_name, c.ending);
    EXPECT_TRUE(recovery->last_run->reconstructed);
    const auto while_alive = ledger->runs("boot-1", [](const RunStart&) { return true; });
    ASSERT_OK(while_alive);
    EXPECT_EQ(while_alive->back().ending_name, "");
    ASSERT_OK(ledger->begin_run(run_start(c.boot), *recovery));
    const auto runs = ledger->runs(c.boot, [](const RunStart&) { return true; });
    ASSERT_OK(runs);
    ASSERT_EQ(runs->size(), 2u);
    EXPECT_EQ((*runs)[0].ending_name, c.ending);
    EXPECT_EQ((*runs)[0].consumed, c.charged);
    EXPECT_EQ((*runs)[1].consumed_before, c.charged);
  }
}

TEST(Ledger, AnOlderRunIsFencedOffByAYoungerOne) {
  TempDir dir;
  Job old(dir.path());
  ASSERT_OK(old.start({}));
  old.complete(0);
  ASSERT_TRUE(old.settle());
  Job young(dir.path());
  ASSERT_OK(young.start({}));
  old.complete(1);
  EXPECT_FALSE(old.settle());
  ASSERT_TRUE(old.writer->failure().has_value());
  EXPECT_EQ(old.writer->failure()->code(), ErrorCode::busy);
  young.complete(1);
  EXPECT_TRUE(young.settle());
  EXPECT_FALSE(old.finish());
  ASSERT_OK(young.finish());
  EXPECT_EQ(*old.read()->recorded(), (std::vector<RecordedRange>{{TaskId(0), TaskId(1)}}));
}

TEST(Ledger, CreateNeverReplacesAndOpenNeverCreates) {
  TempDir dir;
  ASSERT_OK(Ledger::create(posix_file_system(), dir / "ledger.db", header(), {}));
  EXPECT_EQ(Ledger::create(posix_file_system(), dir / "ledger.db", header(), {}).error().code(), ErrorCode::exists);
  EXPECT_EQ(Ledger::open(posix_file_system(), dir / "other.db", {}).error().code(), ErrorCode::not_found);
  EXPECT_EQ(Ledger::open_to_read(posix_file_system(), dir / "other.db").error().code(), ErrorCode::not_found);
  EXPECT_FALSE(*posix_file_system().exists(dir / "other.db"));
}

TEST(Ledger, ANetworkFileSystemIsRefused) {
  TempDir dir;
  sim::FaultFileSystem fs(posix_file_system());
  ASSERT_OK(Ledger::create(fs, dir / "ledger.db", header(), {}));
  fs.pretend_network(true);
  EXPECT_EQ(Ledger::create(fs, dir / "new.db", header(), {}).error().code(), ErrorCode::refused);
  EXPECT_EQ(Ledger::open(fs, dir / "ledger.db", {}).error().code(), ErrorCode::refused);
}

void overwrite(const std::string& path, std::uint64_t at, std::string_view bytes) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(static_cast<std::streamoff>(at));
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  ASSERT_TRUE(file.good());
}

TEST(Ledger, ANewerSchemaIsRefusedAndLeftAlone) {
  TempDir dir;
  ASSERT_OK(Ledger::create(posix_file_system(), dir / "ledger.db", header(), {}));
  overwrite(dir / "ledger.db", 60, std::string_view("\0\0\0\x63", 4));  // user_version in the file's header: SQLite file format 1.3
  const auto opened = Ledger::open(posix_file_system(), dir / "ledger.db", {});
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code(), ErrorCode::mismatch) << opened.error().what();
  EXPECT_NE(opened.error().what().find("99"), std::string::npos);
}

TEST(Ledger, WhatIsNoLedgerIsCorruptWithAWayBack) {
  TempDir dir;
  std::ofstream(dir / "ledger.db") << "this is not a database, this is not a database, this is not a database";
  std::ofstream(dir / "empty.db") << "";
  for (const char* name : {"ledger.db", "empty.db"}) {
    const auto opened = Ledger::open(posix_file_system(), dir / name, {});
    ASSERT_FALSE(opened) << name;
    EXPECT_EQ(opened.error().code(), ErrorCode::corrupt) << opened.error().what();
    EXPECT_FALSE(opened.error().advice().empty());
  }
}

/// One ledger with rows, ranges, attempts and results, closed so that everything is in the database file.
void fill(const std::string& dir, Grain grain) {
  Job job(dir);
  ASSERT_OK(job.start({.grain = grain}));
  for (std::uint64_t task = 0; task < 400; ++task) {
    if (task % 3 == 0) job.complete(task, "result of " + std::to_string(task), true);
    else if (task % 7 == 1) job.batch.add(job.number(), TaskFailed{.task = TaskId(task), .outcome = outcome::AppError{"reason " + std::to_string(task)}});
    else if (task % 50 != 2) job.complete(task);
  }
  ASSERT_TRUE(job.settle());
  ASSERT_OK(job.finish());
}

TEST_P(EachGrain, AFlippedBitIsFoundOrHarmlessNeverAWrongAnswer) {
  const std::uint64_t seed = seed_of("AFlippedBit");
  Random random(seed);
  TempDir dir;
  ASSERT_NO_FATAL_FAILURE(fill(dir.path(), GetParam()));
  FileSystem& fs = posix_file_system();
  const std::string good = *fs.read_file(dir / "ledger.db");
  struct Truth { std::vector<RecordedRange> recorded; std::vector<std::string> rows; };
  const auto read_all = [&](const std::string& path, Truth& truth) -> Result<> {
    DROVER_TRY(Ledger ledger, Ledger::open(fs, path, {}));
    DROVER_TRY(const Recovery recovery, ledger.recover("boot-1", Nanos(1)));
    truth.recorded = recovery.recorded;
    for (std::uint64_t task = 0; task < 400; ++task) {
      DROVER_TRY(const auto row, ledger.task(TaskId(task)));
      std::string text = row ? row->outcome_json + (row->final ? "f" : "o") : "-";
      DROVER_TRY(const auto result, ledger.result(TaskId(task)));
      if (result) text += drover::to_string(*result);
      truth.rows.push_back(text);
    }
    return {};
  };
  Truth truth;
  ASSERT_OK(read_all(dir / "ledger.db", truth));
  int found = 0, harmless = 0;
  for (int round = 0; round < scaled(60, 10'000); ++round) {
    std::string bad = good;
    const std::uint64_t bit = random.below(bad.size() * 8);
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << (bit % 8)));
    const std::string path = dir / "flipped.db";
    for (const char* suffix : {"", "-wal", "-shm"}) (void)fs.unlink(path + suffix);
    std::ofstream(path, std::ios::binary) << bad;
    Truth seen;
    const auto read = read_all(path, seen);
    if (!read) {
      ++found;
      EXPECT_FALSE(read.error().what().empty());
      continue;
    }
    ++harmless;  // a free page, an unused byte, a time
    ASSERT_EQ(seen.recorded, truth.recorded) << "seed " << seed << " bit " << bit;
    ASSERT_EQ(seen.rows, truth.rows) << "seed " << seed << " bit " << bit;
  }
  std::printf("bit flips: %d refused, %d without effect\n", found, harmless);
  EXPECT_GT(found, 0);
}

TEST_P(EachGrain, ATruncatedLedgerIsRefused) {
  TempDir dir;
  ASSERT_NO_FATAL_FAILURE(fill(dir.path(), GetParam()));
  FileSystem& fs = posix_file_system();
  const std::string good = *fs.read_file(dir / "ledger.db");
  for (std::size_t size = 1; size < good.size(); size += scaled<std::size_t>(4099, 97)) {
    const std::string path = dir / "short.db";
    for (const char* suffix : {"", "-wal", "-shm"}) (void)fs.unlink(path + suffix);
    std::ofstream(path, std::ios::binary) << good.substr(0, size);
    const auto opened = Ledger::open(fs, path, {});
    ASSERT_FALSE(opened) << size << " of " << good.size() << " bytes";
    EXPECT_EQ(opened.error().code(), ErrorCode::corrupt) << opened.error().what();
    EXPECT_EQ(fs.stat(path)->size_bytes, size) << "it was changed";
  }
}

TEST_P(EachGrain, ARottenWriteAheadLogNeverLosesAnAcknowledgedCommitInSilence) {
  const std::uint64_t seed = seed_of("RottenWal");
  Random random(seed);
  TempDir dir;
  FileSystem& fs = posix_file_system();
  Job job(dir.path());
  ASSERT_OK(job.start({.grain = GetParam()}));
  constexpr std::uint64_t kCommits = 12, kEach = 5;
  for (std::uint64_t commit = 0; commit < kCommits; ++commit) {
    for (std::uint64_t i = 0; i < kEach; ++i) job.complete(commit * kEach + i);
    ASSERT_TRUE(job.settle());
  }
  // The run is still on and idle: what lies on the disk now is what a kill -9 leaves.
  const std::string database = *fs.read_file(job.ledger_path()), wal = *fs.read_file(job.ledger_path() + "-wal");
  ASSERT_GT(wal.size(), 32u + kCommits * 4096);
  const std::string copy = dir / "copy.db";
  const auto recorded_of = [&](const std::string& log) -> Result<std::vector<RecordedRange>> {
    for (const char* suffix : {"", "-wal", "-shm"}) (void)fs.unlink(copy + suffix);
    std::ofstream(copy, std::ios::binary) << database;
    std::ofstream(copy + "-wal", std::ios::binary) << log;
    DROVER_TRY(Ledger ledger, Ledger::open(fs, copy, {}));
    return ledger.recorded();
  };
  const std::vector<RecordedRange> all = {{TaskId(0), TaskId(kCommits * kEach - 1)}}, but_last = {{TaskId(0), TaskId((kCommits - 1) * kEach - 1)}};
  const auto whole = recorded_of(wal);
  ASSERT_OK(whole);
  ASSERT_EQ(*whole, all);
  int refused = 0, harmless = 0, torn_end = 0;
  for (int round = 0; round < scaled(80, 10'000); ++round) {
    std::string bad = wal;
    const std::uint64_t bit = random.below(bad.size() * 8);
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << (bit % 8)));
    const auto seen = recorded_of(bad);
    if (!seen) {
      ++refused;
      EXPECT_EQ(seen.error().code(), ErrorCode::corrupt) << seen.error().what();
    } else if (*seen == all) {
      ++harmless;
    } else {
      ++torn_end;
      ASSERT_EQ(*seen, but_last) << "bit " << bit << " of " << wal.size() * 8 << ", seed " << seed << ": acknowledged commits are gone without a word";
    }
  }
  // A log that is cut is a torn end: what is in front of the cut counts, and nobody complains.
  for (std::size_t cut = 0; cut < wal.size(); cut += 1 + random.below(scaled<std::uint64_t>(9000, 300))) {
    const auto seen = recorded_of(wal.substr(0, cut));
    ASSERT_OK(seen);
    EXPECT_TRUE(seen->empty() || (seen->size() == 1 && (*seen)[0].first == TaskId(0) && ((*seen)[0].last.value + 1) % kEach == 0)) << "half a commit";
  }
  std::printf("%d refused, %d without effect, %d in the last commit\n", refused, harmless, torn_end);
  EXPECT_GT(refused, 0);
  ASSERT_OK(job.finish());
}

TEST(LedgerWriter, AQueueThatIsFullSaysSoAndKeepsTheBatch) {
  TempDir dir;
  Job job(dir.path());
  ASSERT_OK(job.start({.grain = Grain::rows}, {.queue_records_max = 100}));
  // The writer cannot commit while another connection holds the write lock.
  auto reader = sqlite3_lock(dir / "ledger.db");
  ASSERT_NE(reader, nullptr);
  for (std::uint64_t task = 0; task < 80; ++task) job.complete(task);
  ASSERT_TRUE(job.writer->append(job.batch, now()).has_value());
  EXPECT_TRUE(job.batch.empty());
  for (std::uint64_t task = 80; task < 160; ++task) job.complete(task);
  const auto refused = job.writer->append(job.batch, now());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error(), AppendRefused::full);
  EXPECT_EQ(job.batch.records(), 80u);
  EXPECT_EQ(job.writer->committed(), RecordNumber(0));
  EXPECT_GE(job.writer->oldest_uncommitted_age(now() + Seconds(10)), Seconds(10));
  sqlite3_unlock(reader);
  ASSERT_TRUE(job.bell->wait([&] { return job.writer->committed() == RecordNumber(80); }));
  EXPECT_EQ(job.writer->oldest_uncommitted_age(now() + Seconds(10)), Nanos(0));
  ASSERT_TRUE(job.settle());
  ASSERT_OK(job.finish());
}

TEST(LedgerWriter, AHungDiskDoesNotHoldUpTheEnd) {
  TempDir dir;
  Job job(dir.path());
  ASSERT_OK(job.start({.grain = Grain::rows}));
  auto holder = sqlite3_lock(dir / "ledger.db");  // as good as a disk that does not answer: a commit that does not return
  ASSERT_NE(holder, nullptr);
  job.complete(0);
  ASSERT_TRUE(job.writer->append(job.batch, now()).has_value());
  const auto from = now();
  const auto finished = job.writer->finish(RunEnded{.ending = ending::HostFault{"ledger"}}, after(from, Millis(50)));
  ASSERT_FALSE(finished);
  EXPECT_EQ(finished.error().code(), ErrorCode::timed_out);
  EXPECT_EQ(job.writer->committed(), RecordNumber(0));
  job.writer.reset();  // does not wait either; the thread owns what it uses
  EXPECT_LT(now() - from, Seconds(4)) << "SQLite's own wait for the lock is 5 s: somebody waited for the thread";
  sqlite3_unlock(holder);
}

TEST(LedgerWriter, NothingIsAllocatedPerRecordOnceItIsWarm) {
  TempDir dir;
  Job job(dir.path());
  ASSERT_OK(job.start({.grain = Grain::rows}));
  std::size_t warm = 0;
  for (int round = 0; round < 12; ++round) {
    for (std::uint64_t i = 0; i < 1000; ++i) job.complete(static_cast<std::uint64_t>(round) * 1000 + i, "0123456789", true);
    const std::size_t bytes = job.batch.bytes();
    if (round == 6) warm = bytes;
    if (round > 6) {
      EXPECT_EQ(bytes, warm);
    }
    ASSERT_TRUE(job.settle());
  }
  ASSERT_OK(job.finish());
}

TEST(MemoryLedger, CommitsAtOnceAndRefusesASecondEnding) {
  MemoryLedger ledger;
  RecordBatch batch;
  for (std::uint64_t n = 1; n <= 100; ++n) batch.add(RecordNumber(n), TaskCompleted{.task = TaskId(200 - n)});
  ASSERT_TRUE(ledger.append(batch, now()).has_value());
  EXPECT_TRUE(batch.empty());
  EXPECT_EQ(ledger.committed(), RecordNumber(100));
  EXPECT_EQ(ledger.recorded(), (std::vector<RecordedRange>{{TaskId(100), TaskId(199)}}));
  EXPECT_TRUE(ledger.is_recorded(TaskId(150)));
  EXPECT_FALSE(ledger.is_recorded(TaskId(200)));
  batch.add(RecordNumber(101), TaskFailed{.task = TaskId(150), .outcome = outcome::AppError{"x"}});
  EXPECT_EQ(ledger.append(batch, now()).error(), AppendRefused::failed);
  EXPECT_EQ(ledger.committed(), RecordNumber(100));
}

}  // namespace
}  // namespace drover::store::test
