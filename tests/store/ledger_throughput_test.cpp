// Goal: the ledger keeps up. Method: append batches as the loop does and print the rate; nothing is asserted about time, because a
// shared machine has none - `drover bench` holds the figures. What is asserted: every record is there afterwards.

#include "store/support.hpp"

namespace drover::store::test {
namespace {

double rate_of(Grain grain, Durability durability, std::uint64_t records, std::size_t batch_size) {
  TempDir dir;
  Job job(dir.path());
  const auto started = job.start({.durability = durability, .grain = grain});
  EXPECT_OK(started);
  if (!started) return 0;
  const auto from = std::chrono::steady_clock::now();
  for (std::uint64_t task = 0; task < records;) {
    for (std::size_t i = 0; i < batch_size && task < records; ++i) job.complete(task++);
    while (!job.batch.empty()) {
      const auto taken = job.writer->append(job.batch, now());
      if (taken) break;
      EXPECT_EQ(taken.error(), AppendRefused::full);
      const auto before = job.writer->committed();
      if (!job.bell->wait([&] { return job.writer->committed() > before || job.writer->failure(); }) || job.writer->failure()) {
        ADD_FAILURE() << (job.writer->failure() ? job.writer->failure()->what() : "no commit in time");
        return 0;
      }
    }
  }
  EXPECT_TRUE(job.settle());
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - from).count();
  const WriterStats stats = job.writer->stats();
  EXPECT_OK(job.finish());
  auto ledger = job.read();
  EXPECT_OK(ledger);
  const auto recorded = ledger->recorded();
  EXPECT_OK(recorded);
  EXPECT_EQ(*recorded, (std::vector<RecordedRange>{{TaskId(0), TaskId(records - 1)}}));
  std::printf("%s/%s, batches of %zu: %.0f records/s, %llu commits, slowest %.1f ms\n", std::string(name_of(grain)).c_str(), std::string(name_of(durability)).c_str(), batch_size,
              static_cast<double>(records) / seconds, static_cast<unsigned long long>(stats.commits), std::chrono::duration<double, std::milli>(stats.slowest_commit).count());
  return static_cast<double>(records) / seconds;
}

TEST(LedgerThroughput, EveryRecordOfALongStreamIsThere) {
  const std::uint64_t rows = scaled<std::uint64_t>(200'000, 2'000'000), ranges = scaled<std::uint64_t>(1'000'000, 20'000'000);
  EXPECT_GT(rate_of(Grain::rows, Durability::power, rows, 256), 0);
  EXPECT_GT(rate_of(Grain::rows, Durability::process, rows, 256), 0);
  EXPECT_GT(rate_of(Grain::ranges, Durability::power, ranges, 256), 0);
}

TEST(LedgerThroughput, OneRecordAtATimeIsAcknowledgedOneAtATime) {
  TempDir dir;
  Job job(dir.path());
  ASSERT_OK(job.start({.durability = Durability::power, .grain = Grain::rows}));
  const std::uint64_t n = scaled<std::uint64_t>(200, 5'000);
  const auto from = std::chrono::steady_clock::now();
  for (std::uint64_t task = 0; task < n; ++task) {
    job.complete(task);
    ASSERT_TRUE(job.settle());
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - from).count();
  std::printf("rows/power, one at a time: %.3f ms a commit\n", 1000 * seconds / static_cast<double>(n));
  EXPECT_EQ(job.writer->stats().commits, n);
  ASSERT_OK(job.finish());
}

}  // namespace
}  // namespace drover::store::test
