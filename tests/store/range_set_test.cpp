// Goal: runs of ids merge and never lose, gain or repeat one. Method: random insertions against a std::set and a table that is
// written as the ledger writes it, seeded and replayable.

#include <map>
#include <set>

#include "store/hash.hpp"
#include "store/range_set.hpp"
#include "store/support.hpp"

namespace drover::store::test {
namespace {

TEST(RangeSet, AgreesWithASetOfIdsAndItsTableFollows) {
  const std::uint64_t seed = seed_of("RangeSet");
  const int rounds = scaled(300, 20'000);
  for (int round = 0; round < rounds; ++round) {
    Random random(seed + static_cast<std::uint64_t>(round));
    RangeSet set;
    std::set<std::uint64_t> oracle;
    struct Row { std::uint64_t last, fold; };
    std::map<std::uint64_t, Row> table;
    const std::uint64_t span = 1 + random.below(200);
    const int steps = 1 + static_cast<int>(random.below(150));
    for (int step = 0; step < steps; ++step) {
      const std::uint64_t first = random.below(span), last = first + random.below(1 + random.below(6));
      bool taken = false;
      std::uint64_t fold = 0;
      for (std::uint64_t id = first; id <= last; ++id) {
        taken = taken || oracle.contains(id);
        fold += fold_of(TaskId(id), id * 7);
      }
      ASSERT_EQ(set.insert(first, last, fold), !taken) << "seed " << seed << " round " << round << " step " << step;
      if (!taken)
        for (std::uint64_t id = first; id <= last; ++id) oracle.insert(id);
      if (random.below(3) == 0) {  // a commit
        for (const std::uint64_t gone : set.removed()) table.erase(gone);
        for (const std::uint64_t start : set.changed()) table[start] = {set.runs().at(start).last, set.runs().at(start).fold};
        set.written();
      }
    }
    for (const std::uint64_t gone : set.removed()) table.erase(gone);
    for (const std::uint64_t start : set.changed()) table[start] = {set.runs().at(start).last, set.runs().at(start).fold};
    set.written();
    // Maximal runs of the oracle, with their folds, equal the set's and the table's.
    std::map<std::uint64_t, Row> expected;
    for (const std::uint64_t id : oracle) {
      const std::uint64_t fold = fold_of(TaskId(id), id * 7);
      if (!expected.empty() && expected.rbegin()->second.last + 1 == id) {
        expected.rbegin()->second.last = id;
        expected.rbegin()->second.fold += fold;
      } else {
        expected[id] = {id, fold};
      }
    }
    ASSERT_EQ(set.runs().size(), expected.size()) << "seed " << seed << " round " << round;
    ASSERT_EQ(table.size(), expected.size()) << "seed " << seed << " round " << round;
    for (const auto& [first, row] : expected) {
      ASSERT_EQ(set.runs().at(first).last, row.last);
      ASSERT_EQ(set.runs().at(first).fold, row.fold);
      ASSERT_TRUE(table.contains(first));
      ASSERT_EQ(table.at(first).last, row.last);
      ASSERT_EQ(table.at(first).fold, row.fold);
    }
    for (std::uint64_t id = 0; id < span + 8; ++id) ASSERT_EQ(set.contains(id), oracle.contains(id));
  }
}

TEST(RangeSet, AdjacentRowsThatWereLoadedMergeOnDiskToo) {
  RangeSet set;
  ASSERT_TRUE(set.load(0, 4, 1));
  ASSERT_TRUE(set.load(5, 9, 2));
  EXPECT_EQ(set.changed(), std::set<std::uint64_t>{0});
  EXPECT_FALSE(set.load(9, 12, 1));
  RangeSet apart;
  ASSERT_TRUE(apart.load(0, 4, 1));
  ASSERT_TRUE(apart.load(6, 9, 2));
  EXPECT_TRUE(apart.changed().empty() && apart.removed().empty());
}

}  // namespace
}  // namespace drover::store::test
