// Goal: an acknowledged checkpoint survives a power loss at any instant, an unacknowledged one never passes for good, and a damaged one
// is named, never replaced in silence. Method: the commit runs on a simulated file system that stops at every call; then every subset
// of what was not synced is kept. Negative controls: a file system whose fsync of files, or of directories, does nothing must fail.

#include <algorithm>
#include <cerrno>

#include "sim/fault_file_system.hpp"
#include "sim/memory_file_system.hpp"
#include "store/checkpoint_file.hpp"
#include "store/support.hpp"

namespace drover::store::test {
namespace {

std::vector<std::byte> pattern(std::size_t size, std::uint64_t seed) {
  Random random(seed);
  std::vector<std::byte> bytes(size);
  for (auto& byte : bytes) byte = static_cast<std::byte>(random.next());
  return bytes;
}

struct PowerLossCount {
  std::size_t cases = 0;
  std::size_t acknowledged_lost = 0;   // an acknowledged checkpoint is missing or damaged
  std::size_t false_good = 0;          // a file under a final name that does not hold what its name says
  std::string first;                   // description of the first violation
};

/// Two checkpoints, the machine stops at call `stop_at` (0: after the second), every subset of what is pending survives.
PowerLossCount every_power_loss(const sim::MemoryFileSystemOptions& options, std::uint64_t seed) {
  PowerLossCount count;
  const auto first = pattern(3000, 1), second = pattern(5000, 2);
  for (std::uint64_t stop_at = 1;; ++stop_at) {
    bool reached = false;
    std::size_t subsets = 1;
    for (std::size_t subset = 0; subset < subsets; ++subset) {
      sim::MemoryFileSystem memory(options);
      sim::FaultFileSystem fs(memory);
      EXPECT_OK(fs.make_directories("/job/checkpoints"));
      // The directories themselves are durable whatever the control ignores: a mkdir is not what is tested.
      memory.power_loss([](std::size_t) { return true; });
      std::vector<std::pair<CheckpointRow, const std::vector<std::byte>*>> acknowledged;
      fs.arm({.at_call = stop_at, .instead = [&] { memory.stop(); }});
      // Written in pieces, as a workload does.
      const auto put_in_pieces = [](const std::vector<std::byte>& bytes) {
        return [&bytes](const CheckpointPut& put) -> Result<> {
          const std::size_t half = bytes.size() / 2;
          DROVER_CHECK(put(std::span(bytes).first(half)));
          return put(std::span(bytes).subspan(half));
        };
      };
      if (const auto row = commit_checkpoint(fs, "/job/checkpoints", put_in_pieces(first), {.number = 1})) acknowledged.emplace_back(*row, &first);
      if (const auto row = commit_checkpoint(fs, "/job/checkpoints", put_in_pieces(second), {.number = 2})) acknowledged.emplace_back(*row, &second);
      reached = fs.hit();
      const std::size_t pending = memory.pending();
      constexpr std::size_t kAll = 10;  // up to 1,024 subsets each; beyond that as many at random
      subsets = std::size_t{1} << std::min(pending, kAll);
      Random random(seed + subset);
      memory.power_loss([&](std::size_t i) { return pending <= kAll ? ((subset >> i) & 1) != 0 : subset == 0 ? false : subset == 1 ? true : random.below(2) == 0; });
      fs.arm({});
      ++count.cases;
      const auto violated = [&](const std::string& what) {
        if (count.first.empty()) count.first = what + ", stopped at call " + std::to_string(stop_at) + ", subset " + std::to_string(subset) + ", seed " + std::to_string(seed);
      };
      for (const auto& [row, bytes] : acknowledged) {
        const auto loaded = load_checkpoint(fs, "/job/checkpoints", row);
        if (!loaded || *loaded != *bytes) {
          ++count.acknowledged_lost;
          violated("checkpoint " + std::to_string(row.number) + " was acknowledged and is lost: " + (loaded ? "other bytes" : loaded.error().what()));
        }
      }
      // Whatever else is there was never acknowledged; sweep takes it, and it can never be mistaken for a row's file.
      std::vector<CheckpointRow> rows;
      for (const auto& [row, bytes] : acknowledged) rows.push_back(row);
      EXPECT_OK(sweep_checkpoints(fs, "/job/checkpoints", rows));
      const auto names = fs.list("/job/checkpoints");
      EXPECT_OK(names);
      if (count.acknowledged_lost == 0) {
        EXPECT_EQ(names->size(), rows.size());
      }
      for (const std::string& name : *names) {
        const bool known = std::ranges::any_of(rows, [&](const CheckpointRow& row) { return row.name == name; });
        if (!known) {
          ++count.false_good;
          violated("litter passes for a checkpoint: " + name);
        }
      }
      // And the next save under the same number goes through.
      const auto again = commit_checkpoint(fs, "/job/checkpoints", second, {.number = 2});
      EXPECT_OK(again);
    }
    if (!reached) return count;
  }
}

class EachFileSystem : public ::testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Checkpoint, EachFileSystem, ::testing::Bool(), [](const auto& which) { return which.param ? "WithUnnamedFiles" : "WithTemporaryNames"; });

TEST_P(EachFileSystem, AnAcknowledgedCheckpointSurvivesAPowerLossAtEveryCallWithEverySubset) {
  const std::uint64_t seed = seed_of("PowerLoss");
  const PowerLossCount count = every_power_loss({.has_unnamed = GetParam()}, seed);
  std::printf("%zu power losses\n", count.cases);
  EXPECT_GT(count.cases, 15u);  // few with unnamed files: what has no name cannot survive, so there is little to choose
  EXPECT_EQ(count.acknowledged_lost, 0u) << count.first;
  EXPECT_EQ(count.false_good, 0u) << count.first;
}

TEST_P(EachFileSystem, NegativeControlWithoutFsyncOfTheFileCheckpointsAreLost) {
  const PowerLossCount count = every_power_loss({.ignore_file_sync = true, .has_unnamed = GetParam()}, 1);
  EXPECT_GT(count.acknowledged_lost, 0u) << "the suite cannot see a missing fsync of the file";
}

TEST_P(EachFileSystem, NegativeControlWithoutFsyncOfTheDirectoryCheckpointsAreLost) {
  const PowerLossCount count = every_power_loss({.ignore_directory_sync = true, .has_unnamed = GetParam()}, 1);
  EXPECT_GT(count.acknowledged_lost, 0u) << "the suite cannot see a missing fsync of the directory";
}

TEST_P(EachFileSystem, EveryCallThatFailsIsAnErrorAndHarmsNothing) {
  const auto first = pattern(3000, 1), second = pattern(5000, 2);
  std::size_t cases = 0;
  for (const int error : {EIO, ENOSPC, EMFILE, EINTR, EDQUOT}) {
    for (const bool half : {false, true}) {
      for (std::uint64_t k = 1;; ++k) {
        sim::MemoryFileSystem memory({.has_unnamed = GetParam()});
        sim::FaultFileSystem fs(memory);
        ASSERT_OK(fs.make_directories("/job/checkpoints"));
        memory.power_loss([](std::size_t) { return true; });
        const auto good = commit_checkpoint(fs, "/job/checkpoints", first, {.number = 1});
        ASSERT_OK(good);
        fs.arm({.at_call = k, .errno_value = error, .half_write = half});
        const auto row = commit_checkpoint(fs, "/job/checkpoints", second, {.number = 2});
        const bool hit = fs.hit();
        const std::string call = fs.names().empty() ? "" : fs.names().back();
        fs.arm({});
        ++cases;
        const auto again = row ? row : commit_checkpoint(fs, "/job/checkpoints", second, {.number = 2});
        ASSERT_OK(again);
        if (!row) {
          EXPECT_FALSE(row.error().what().empty());
          if (error == ENOSPC) {
            EXPECT_EQ(row.error().code(), ErrorCode::no_space) << row.error().what();
          }
        }
        memory.power_loss([](std::size_t) { return false; });
        EXPECT_OK(verify_checkpoint(fs, "/job/checkpoints", *good));
        EXPECT_TRUE(verify_checkpoint(fs, "/job/checkpoints", *again).has_value()) << "call " << k << " " << call;
        if (!hit) break;
        ASSERT_LT(k, 100u);
      }
    }
  }
  std::printf("%zu faults\n", cases);
}

TEST_P(EachFileSystem, AFailedFsyncIsNeverBelievedLater) {
  sim::MemoryFileSystem memory({.has_unnamed = GetParam()});
  ASSERT_OK(memory.make_directories("/job/checkpoints"));
  memory.power_loss([](std::size_t) { return true; });
  const auto bytes = pattern(4000, 3);
  memory.lose_next_sync();
  ASSERT_FALSE(commit_checkpoint(memory, "/job/checkpoints", bytes, {.number = 1}));
  const auto row = commit_checkpoint(memory, "/job/checkpoints", bytes, {.number = 1});
  ASSERT_OK(row);
  memory.power_loss([](std::size_t) { return false; });
  EXPECT_OK(verify_checkpoint(memory, "/job/checkpoints", *row));
}

TEST_P(EachFileSystem, BytesThatTheDiskChangedOnTheirWayNeverBecomeACheckpoint) {
  std::size_t caught = 0;
  for (std::uint64_t k = 1;; ++k) {
    sim::MemoryFileSystem memory({.has_unnamed = GetParam()});
    sim::FaultFileSystem fs(memory);
    ASSERT_OK(fs.make_directory("/c", 0755));
    fs.arm({.at_call = k, .errno_value = EIO, .flips_a_bit = true, .writes_only = true});
    const auto bytes = pattern(3000, 1);
    const auto row = commit_checkpoint(fs, "/c", bytes, {.number = 1});
    const bool hit = fs.hit();
    fs.arm({});
    if (row) {
      EXPECT_OK(verify_checkpoint(fs, "/c", *row));
    } else if (row.error().code() == ErrorCode::corrupt) {
      ++caught;
    }
    if (!hit) break;
  }
  EXPECT_EQ(caught, 1u);  // the one write of bytes among the calls
}

TEST(Checkpoint, AWriterThatGivesUpLeavesNothing) {
  sim::MemoryFileSystem memory;
  ASSERT_OK(memory.make_directories("/c"));
  const auto row = commit_checkpoint(memory, "/c", [](const CheckpointPut& put) -> Result<> {
    DROVER_CHECK(put(bytes_of("half of it")));
    return fail(ErrorCode::refused, "the table overflowed");
  }, {.number = 3});
  ASSERT_FALSE(row);
  EXPECT_NE(row.error().what().find("checkpoint 3: the table overflowed"), std::string::npos) << row.error().what();
  EXPECT_TRUE(memory.list("/c")->empty());
}

TEST(Checkpoint, ADamagedOneIsNamedWithBothHashesAndTheWayBack) {
  sim::MemoryFileSystem memory;
  ASSERT_OK(memory.make_directories("/c"));
  std::vector<CheckpointRow> rows;
  for (std::uint64_t n = 1; n <= 3; ++n) rows.push_back(*commit_checkpoint(memory, "/c", pattern(2000, n), {.number = n, .tasks_upto = n * 10}));
  for (const std::uint64_t bit : {std::uint64_t{0}, std::uint64_t{2000 * 8 - 1}, std::uint64_t{777}}) {
    ASSERT_OK(memory.flip_bit("/c/" + rows[2].name, bit));
    const auto loaded = load_checkpoint(memory, "/c", rows[2], rows);
    ASSERT_FALSE(loaded);
    EXPECT_EQ(loaded.error().code(), ErrorCode::corrupt);
    EXPECT_NE(loaded.error().what().find(hex_of(rows[2].sha256)), std::string::npos);
    EXPECT_NE(loaded.error().advice().find("drover resume --checkpoint 2"), std::string::npos) << loaded.error().advice();
    ASSERT_OK(memory.flip_bit("/c/" + rows[2].name, bit));
    ASSERT_OK(load_checkpoint(memory, "/c", rows[2], rows));
  }
  // The way back is one that verifies: 2 is damaged, 1 quarantined.
  ASSERT_OK(memory.flip_bit("/c/" + rows[1].name, 5));
  rows[0].state = CheckpointState::quarantined;
  ASSERT_OK(memory.unlink("/c/" + rows[2].name));
  const auto gone = load_checkpoint(memory, "/c", rows[2], rows);
  ASSERT_FALSE(gone);
  EXPECT_EQ(gone.error().code(), ErrorCode::not_found);
  EXPECT_NE(gone.error().advice().find("no other checkpoint"), std::string::npos) << gone.error().advice();
}

TEST(Checkpoint, TheNewestGoodOnesAreKept) {
  std::vector<CheckpointRow> rows;
  for (std::uint64_t n = 1; n <= 6; ++n) rows.push_back({.number = n, .state = n == 5 || n == 6 ? CheckpointState::quarantined : CheckpointState::good});
  const auto surplus = surplus_checkpoints(rows, 2);
  ASSERT_EQ(surplus.size(), 2u);
  EXPECT_EQ(surplus[0].number, 1u);
  EXPECT_EQ(surplus[1].number, 2u);
  EXPECT_EQ(surplus_checkpoints(rows, 0).size(), 3u) << "the newest good one stays whatever is asked";
}

TEST(Checkpoint, ARealFileSystemKeepsA20MiBOne) {
  TempDir dir;
  FileSystem& fs = posix_file_system();
  const auto bytes = pattern(20 << 20, 9);
  const auto from = now();
  const auto row = commit_checkpoint(fs, dir.path(), bytes, {.number = 1, .meta_json = "{}"});
  ASSERT_OK(row);
  std::printf("20 MiB committed and verified in %.0f ms\n", std::chrono::duration<double, std::milli>(now() - from).count());
  EXPECT_EQ(row->name, "000001-" + hex_of(row->sha256).substr(0, 12) + ".ckpt");
  const auto loaded = load_checkpoint(fs, dir.path(), *row);
  ASSERT_OK(loaded);
  EXPECT_EQ(*loaded, bytes);
  EXPECT_EQ(*fs.list(dir.path()), std::vector<std::string>{row->name});
  ASSERT_OK(remove_checkpoint(fs, dir.path(), *row));
  ASSERT_OK(remove_checkpoint(fs, dir.path(), *row));
}

}  // namespace
}  // namespace drover::store::test
