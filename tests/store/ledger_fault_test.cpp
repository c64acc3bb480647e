// Goal: no fault of the disk makes the ledger acknowledge what is not there. Method: count the calls of a scenario once, then run it
// again with each call failing in each way; whatever was acknowledged must be in the ledger afterwards, once.

#include <sqlite3.h>

#include <cerrno>
#include <set>

#include "sim/fault_file_system.hpp"
#include "sim/fault_vfs.hpp"
#include "sim/memory_file_system.hpp"
#include "store/support.hpp"

namespace drover::store::test {
namespace {

/// What the caller was told.
struct Told {
  bool started = false;
  bool ended = false;
  std::set<std::uint64_t> tasks;
};

/// Four appends, each waited for; results in rows and in files, retries, ranges. Stops at the first refusal, then tries to end.
Told scenario(const std::string& dir, FileSystem& fs, Grain grain, Durability durability, const std::string& vfs) {
  Told told;
  Job job(dir, fs);
  const auto started = job.start({.durability = durability, .grain = grain, .vfs = vfs}, {}, true);
  if (!started) {
    EXPECT_FALSE(started.error().what().empty());
    return told;
  }
  told.started = true;
  const std::string large(20'000, 'L');
  std::uint64_t task = 0;
  for (int part = 0; part < 4; ++part) {
    std::vector<std::uint64_t> now_done;
    for (int i = 0; i < 5; ++i) {
      now_done.push_back(task);
      if (i == 2) job.complete(task, "small", true);
      else if (i == 3 && part % 2 == 0) job.complete(task, large, true);
      else job.complete(task);
      ++task;
    }
    job.batch.add(AttemptEnded{.task = TaskId(task), .attempt = 1, .epoch = Epoch(1), .outcome = outcome::Exited{1}, .will_retry = true});
    if (!job.settle()) {
      EXPECT_TRUE(job.writer->failure().has_value()) << "neither committed nor failed";
      break;
    }
    told.tasks.insert(now_done.begin(), now_done.end());
  }
  told.ended = job.finish(job.writer->failure() ? Ending(ending::HostFault{"ledger"}) : Ending(ending::Completed{})).has_value();
  return told;
}

void check(const std::string& dir, const Told& told, const std::string& what) {
  FileSystem& fs = posix_file_system();
  auto ledger = Ledger::open(fs, dir + "/ledger.db", {});
  if (!told.started) {
    // Never acknowledged: it may be absent, or there and empty.
    if (ledger) {
      EXPECT_TRUE(ledger->recorded()->empty()) << what;
    }
    return;
  }
  ASSERT_TRUE(ledger.has_value()) << what << ": " << ledger.error().what();
  const auto recovery = ledger->recover("boot-1", Nanos(99));
  ASSERT_TRUE(recovery.has_value()) << what << ": " << recovery.error().what();
  for (const std::uint64_t task : told.tasks) {
    const auto row = ledger->task(TaskId(task));
    ASSERT_TRUE(row.has_value() && row->has_value()) << what << ": task " << task << " was acknowledged and is not there";
    const auto result = ledger->result(TaskId(task));
    ASSERT_TRUE(result.has_value()) << what << ": " << result.error().what();
    if (task % 5 == 2) {
      ASSERT_TRUE(result->has_value());
    }
  }
  if (told.ended) {
    EXPECT_FALSE(recovery->last_run->reconstructed) << what;
  }
}

struct Way {
  const char* name;
  int code;
  bool for_good, half;
};

TEST(LedgerFault, EachCallOfTheDatabaseFailingInEachWayLosesNothingAcknowledged) {
  sim::FaultVfs vfs;
  std::size_t cases = 0, ended_after_fault = 0, one_off = 0;
  for (const Grain grain : {Grain::rows, Grain::ranges}) {
    std::uint64_t calls = 0;
    {
      TempDir dir;
      vfs.disarm();
      const Told told = scenario(dir.path(), posix_file_system(), grain, Durability::power, sim::FaultVfs::name());
      calls = vfs.calls();
      ASSERT_EQ(told.tasks.size(), 20u);
      ASSERT_NO_FATAL_FAILURE(check(dir.path(), told, "no fault"));
    }
    const std::uint64_t stride = scaled<std::uint64_t>(5, 1);
    for (const Way& way : {Way{"EIO", SQLITE_IOERR, false, false}, Way{"EIO for good", SQLITE_IOERR, true, true}, Way{"disk full", SQLITE_FULL, false, true}, Way{"disk full for good", SQLITE_FULL, true, false}}) {
      for (std::uint64_t k = 1 + cases % stride; k <= calls; k += stride) {
        TempDir dir;
        vfs.arm({.at_call = k, .sqlite_code = way.code, .for_good = way.for_good, .half_write = way.half});
        const Told told = scenario(dir.path(), posix_file_system(), grain, Durability::power, sim::FaultVfs::name());
        vfs.disarm();
        ++cases;
        if (!way.for_good && told.started) {
          ++one_off;
          if (told.ended) ++ended_after_fault;
        }
        ASSERT_NO_FATAL_FAILURE(check(dir.path(), told, std::string(name_of(grain)) + ", " + way.name + " at call " + std::to_string(k)));
      }
    }
  }
  std::printf("%zu faults; after %zu of %zu single ones the ending was recorded\n", cases, ended_after_fault, one_off);
  EXPECT_EQ(ended_after_fault, one_off) << "one failed call must not cost the run its ending";
}

TEST(LedgerFault, EachCallOnResultFilesFailingInEachWayLosesNothingAcknowledged) {
  std::size_t cases = 0;
  for (const int error : {EIO, ENOSPC, EMFILE, EINTR}) {
    for (std::uint64_t k = 1;; ++k) {
      TempDir dir;
      sim::FaultFileSystem fs(posix_file_system());
      fs.arm({.at_call = k, .errno_value = error, .half_write = true});
      const Told told = scenario(dir.path(), fs, Grain::rows, Durability::power, "");
      ++cases;
      ASSERT_NO_FATAL_FAILURE(check(dir.path(), told, std::to_string(error) + " at call " + std::to_string(k)));
      if (!fs.hit()) break;
      ASSERT_LT(k, 200u);
    }
  }
  std::printf("%zu faults\n", cases);
}

TEST(LedgerFault, UnderPowerNothingIsAcknowledgedWhileItsPagesAreUnsynced) {
  // The negative control is `process`, which must show unsynced pages at an acknowledgement, or this test sees nothing.
  for (const Durability durability : {Durability::power, Durability::process}) {
    sim::FaultVfs vfs;
    TempDir dir;
    std::atomic<std::uint64_t> worst{0}, acknowledged{0};
    FileSystem& fs = posix_file_system();
    ASSERT_OK(fs.make_directory(dir / "results"));
    auto ledger = Ledger::create(fs, dir / "ledger.db", header(), {.durability = durability, .grain = Grain::rows, .vfs = sim::FaultVfs::name()});
    ASSERT_OK(ledger);
    const auto recovery = ledger->recover("boot-1", Nanos(1));
    ASSERT_OK(recovery);
    const auto run = ledger->begin_run(run_start(), *recovery);
    ASSERT_OK(run);
    EXPECT_EQ(vfs.unsynced_wal_bytes(), 0u) << "the run's row is durable at either level";
    Bell bell;
    auto writer = make_ledger_writer(fs, std::move(*ledger), *run, dir / "results", "", {.wake = [&] {  // on the writer's thread: nothing is written meanwhile
      worst = std::max(worst.load(), vfs.unsynced_wal_bytes());
      ++acknowledged;
      bell.ring();
    }});
    ASSERT_OK(writer);
    RecordBatch batch;
    for (std::uint64_t n = 1; n <= 200; ++n) {
      batch.add(RecordNumber(n), TaskCompleted{.task = TaskId(n)});
      ASSERT_TRUE((*writer)->append(batch, now()).has_value());
      ASSERT_TRUE(bell.wait([&] { return (*writer)->committed() == RecordNumber(n); }));
    }
    ASSERT_OK((*writer)->finish({.ending = ending::Completed{}}, after(now(), kBound)));
    EXPECT_EQ(acknowledged, 200u);
    if (durability == Durability::power) {
      EXPECT_EQ(worst, 0u);
    } else {
      EXPECT_GT(worst, 0u);
    }
  }
}

/// Acknowledges one large result whose file lives on a simulated disk, then takes the power away. True if it is still whole.
bool result_survives(const sim::MemoryFileSystemOptions& options) {
  TempDir dir;
  sim::MemoryFileSystem memory(options);
  EXPECT_OK(memory.make_directories("/results"));
  memory.power_loss([](std::size_t) { return true; });
  auto ledger = Ledger::create(posix_file_system(), dir / "ledger.db", header(), {.grain = Grain::rows});
  EXPECT_OK(ledger);
  const auto recovery = ledger->recover("boot-1", Nanos(1));
  const auto run = ledger->begin_run(run_start(), *recovery);
  Bell bell;
  auto writer = make_ledger_writer(memory, std::move(*ledger), *run, "/results", "", {.wake = [&] { bell.ring(); }});
  EXPECT_OK(writer);
  const std::string large(50'000, 'R');
  RecordBatch batch;
  batch.add(RecordNumber(1), TaskCompleted{.task = TaskId(0), .keep_result = true, .result = bytes_of(large)});
  EXPECT_TRUE((*writer)->append(batch, now()).has_value());
  EXPECT_TRUE(bell.wait([&] { return (*writer)->committed() == RecordNumber(1); }));
  EXPECT_OK((*writer)->finish({.ending = ending::Completed{}}, after(now(), kBound)));
  memory.power_loss([](std::size_t) { return false; });
  const auto reader = Ledger::open_to_read(posix_file_system(), dir / "ledger.db");
  EXPECT_OK(reader);
  const auto names = memory.list("/results");
  return names && names->size() == 1 && *memory.read_file("/results/" + names->front()) == large;
}

TEST(LedgerFault, ALargeResultIsOnDiskBeforeItsRow) {
  EXPECT_TRUE(result_survives({}));
  EXPECT_TRUE(result_survives({.has_unnamed = false}));
}
TEST(LedgerFault, NegativeControlWithoutEitherFsyncTheResultIsLost) {
  EXPECT_FALSE(result_survives({.ignore_file_sync = true}));
  EXPECT_FALSE(result_survives({.ignore_directory_sync = true}));
}

TEST(LedgerFault, AResultFileLeftByAnUncommittedRunIsReplaced) {
  TempDir dir;
  const std::string large(10'000, 'A');
  FileSystem& fs = posix_file_system();
  std::string name;
  {
    Job job(dir.path());
    ASSERT_OK(job.start({}));
    job.complete(0, large, true);
    ASSERT_TRUE(job.settle());
    ASSERT_OK(job.finish());
    name = fs.list(dir / "results")->front();
  }
  // Another job, the same task, and a torn file of that very name.
  TempDir other;
  Job job(other.path());
  ASSERT_OK(job.start({}));
  ASSERT_OK(fs.replace_file(other / ("results/" + name), "torn"));
  job.complete(0, large, true);
  ASSERT_TRUE(job.settle()) << job.writer->failure()->what();
  ASSERT_OK(job.finish());
  EXPECT_EQ(drover::to_string(**job.read()->result(TaskId(0))), large);
}

}  // namespace
}  // namespace drover::store::test
