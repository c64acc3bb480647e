// Goal: the arena hands out no place twice, and a link's book of leases stays right over any order of leasing, taking back,
// claiming, answering and reading. Method: random walks beside a plain model that keeps everything; the walk and the model must
// agree on every answer. A failure prints the seed; DROVER_TEST_SEED=N repeats it.

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>

#include "support/long.hpp"
#include "wire/support.hpp"

namespace drover::test {
namespace {

TEST(Arena, PlacesAreTheLowestFreeOnesNeverSharedAndComeBackInAnyOrder) {
  const std::uint64_t seed = seed_or(21);
  SCOPED_TRACE("DROVER_TEST_SEED=" + std::to_string(seed));
  Rng rng(seed, TaskId(0));
  constexpr std::uint64_t kArena = 64 * 1024;
  const auto link = make_link(kArena);
  wire::ResultArena arena(link->memory()->view(), kArena);
  struct Live {
    std::uint64_t begin, end;
    bool published;
  };
  std::map<std::uint16_t, Live> live;
  const auto lowest_gap = [&](std::uint64_t need) -> std::optional<std::uint64_t> {
    std::vector<std::pair<std::uint64_t, std::uint64_t>> taken;
    for (const auto& [index, l] : live) taken.emplace_back(l.begin, l.end);
    std::ranges::sort(taken);
    std::uint64_t at = 0;
    for (const auto& [begin, end] : taken) {
      if (begin - at >= need) break;
      at = end;
    }
    if (at + need > kArena) return std::nullopt;
    return at;
  };
  std::size_t refused_for_room = 0, refused_for_index = 0;
  for (std::uint64_t step = 0; step < scaled<std::uint64_t>(300'000, 10'000'000); ++step) {
    const std::uint64_t mode = step / 20'000 % 3;  // large pieces, small ones (runs out of indices), both
    if (rng() % 16 < (mode == 1 ? 12u : 9u)) {
      const std::uint64_t size = mode == 1 ? rng() % 200 : rng() % (rng() % 8 == 0 ? kArena + 100 : 6000);
      const std::uint64_t need = std::max<std::uint64_t>((size + 63) / 64 * 64, 64);
      const auto got = arena.allocate(size);
      if (live.size() == wire::kExtents) {
        ASSERT_FALSE(got.has_value()) << "step " << step;
        ++refused_for_index;
        const auto victim = std::next(live.begin(), static_cast<std::ptrdiff_t>(rng() % live.size()));
        link->memory()->release(victim->first);
        live.erase(victim);
        continue;
      }
      const auto want = lowest_gap(need);
      ASSERT_EQ(got.has_value(), want.has_value()) << "step " << step << ", " << size << " bytes";
      if (!got) {
        ++refused_for_room;
        continue;
      }
      ASSERT_EQ(std::uint64_t{got->granule} * wire::kGranule, *want) << "step " << step;
      ASSERT_LT(got->index, wire::kExtents);
      ASSERT_TRUE(live.emplace(got->index, Live{*want, *want + need, rng() % 8 != 0}).second) << "step " << step << ": index " << got->index << " is in use";
    } else if (!live.empty()) {
      const auto victim = std::next(live.begin(), static_cast<std::ptrdiff_t>(rng() % live.size()));
      if (victim->second.published) link->memory()->release(victim->first);
      else arena.abandon(victim->first);
      live.erase(victim);
    }
  }
  EXPECT_GT(refused_for_room, 100u) << "the arena was never full: nothing was tested";
  EXPECT_GT(refused_for_index, 100u) << "the indices never ran out: nothing was tested";
}

/// One position of the submission ring as the model sees it.
struct Position {
  std::uint64_t task;
  std::uint32_t epoch;
  Kind kind;
  bool taken_back = false, passed = false, claimed = false, published = false, read = false;
  bool open() const { return !taken_back && !read; }
};

TEST(Leases, AMillionPositionsAgreeWithAModelLongRunsTakenBackIncluded) {
  const std::uint64_t seed = seed_or(22);
  SCOPED_TRACE("DROVER_TEST_SEED=" + std::to_string(seed));
  Rng rng(seed, TaskId(0));
  constexpr std::uint64_t kArena = 16 * 1024;
  const auto link = make_link(kArena);
  fill_with_garbage(link->memory()->view(), kArena);
  SmallWorker worker(link->memory()->view(), kArena);

  std::deque<Position> all;          // from position `base`
  std::uint64_t base = 0, visible = 0, next_claim = 0;
  const auto at = [&](std::uint64_t p) -> Position& { return all[p - base]; };
  const auto tail = [&] { return base + all.size(); };
  std::uint64_t next_task = 0;
  const wire::Slot* running = nullptr;
  std::uint64_t running_position = 0;
  std::uint64_t in_a_row = 0, longest_run = 0, refused = 0, taken_back = 0;
  const std::uint64_t positions = scaled<std::uint64_t>(1'100'000, 20'000'000);

  std::uint64_t first_open = 0;      // oldest position that is open, or taken back and not passed yet
  const auto advance = [&] {
    while (first_open < tail() && (at(first_open).read || (at(first_open).taken_back && at(first_open).passed))) ++first_open;
    while (base + 2 * wire::kSlots < first_open) {
      all.pop_front();
      ++base;
    }
  };
  std::size_t open = 0;
  std::array<wire::Completion, 16> batch;

  for (std::uint64_t step = 0; tail() < positions; ++step) {
    // Modes: steady; all that is given is taken back while the worker is busy or asleep; the worker is slow; the reader is slow.
    const std::uint64_t mode = step / 3000 % 4;
    const std::uint64_t dice = rng() % 64;
    if (dice < 24) {  // lease a few
      for (std::uint64_t n = 1 + rng() % 8; n > 0; --n) {
        const std::uint64_t p = tail();
        const Kind kind = next_task % 5 == 0 ? Kind::large : Kind::small;
        const bool expected = open < wire::kWindowMax && p - first_open < wire::kSlots;
        const bool given = link->lease(TaskId(next_task), Epoch(1 + static_cast<std::uint32_t>(next_task % 3)), 0, 0, payload_of(kind, next_task));
        ASSERT_EQ(given, expected) << "position " << p << ", oldest open " << first_open << ", " << open << " open";
        if (!given) {
          ++refused;
          break;
        }
        if (p >= base + wire::kSlots) {
          const Position& before = at(p - wire::kSlots);  // whose slot this is now
          ASSERT_TRUE(before.passed && (before.taken_back || before.read)) << "position " << p << " took a slot that is still in use";
        }
        all.push_back({next_task, 1 + static_cast<std::uint32_t>(next_task % 3), kind});
        ++next_task;
        ++open;
        if (mode == 1) {  // and take it back at once
          ASSERT_TRUE(link->revoke(TaskId(all.back().task), Epoch(all.back().epoch)));
          all.back().taken_back = true;
          --open;
          ++taken_back;
          longest_run = std::max(longest_run, ++in_a_row);
        } else {
          in_a_row = 0;
        }
      }
    } else if (dice < 30) {
      link->publish();
      visible = tail();
    } else if (dice < 36 && tail() > first_open) {  // take one back, any
      const std::uint64_t p = first_open + rng() % (tail() - first_open);
      Position& one = at(p);
      const bool expected = one.open() && !one.claimed;
      ASSERT_EQ(link->revoke(TaskId(one.task), Epoch(one.epoch)), expected) << "position " << p;
      ASSERT_FALSE(link->revoke(TaskId(one.task), Epoch(one.epoch + 1))) << "a lease of another epoch";
      if (expected) {
        one.taken_back = true;
        --open;
        ++taken_back;
      }
    } else if (dice < 50 && (mode != 2 || rng() % 8 == 0)) {  // the worker
      for (std::uint64_t n = 1 + rng() % 8; n > 0; --n) {
        if (running == nullptr) {
          running = worker.claim();
          while (next_claim < visible && at(next_claim).taken_back) at(next_claim++).passed = true;
          ASSERT_EQ(running != nullptr, next_claim < visible);
          if (running == nullptr) break;
          running_position = next_claim++;
          Position& one = at(running_position);
          ASSERT_TRUE(is_whole(*running, one.kind, one.task, one.epoch)) << "position " << running_position;
          one.claimed = true;
          if (rng() % 4 == 0) break;  // stay busy for a while
        }
        Position& one = at(running_position);
        ASSERT_TRUE(is_whole(*running, one.kind, one.task, one.epoch)) << "position " << running_position << " changed while it ran";
        const auto answer = worker.answer(*running);
        if (!answer) break;  // no room: until endings are read
        (void)worker.publish(*answer);
        one.published = one.passed = true;
        running = nullptr;
      }
    } else if (mode != 3 || rng() % 8 == 0) {
      const std::size_t most = 1 + rng() % batch.size();
      const auto read = link->read(std::span(batch).first(most));
      ASSERT_EQ(read.complaint, nullptr) << read.complaint;
      std::size_t expected = 0;
      for (std::uint64_t p = first_open; p < tail() && expected < most; ++p) {
        Position& one = at(p);
        if (one.taken_back || one.read) continue;
        if (!one.published) break;
        ASSERT_LT(expected, read.count) << "position " << p << " is published and was not read";
        ASSERT_TRUE(is_right(*link, batch[expected], one.kind, one.task, one.epoch)) << "position " << p;
        if (batch[expected].extent != wire::kNoExtent) (void)link->hold(batch[expected].extent);
        one.read = true;
        --open;
        ++expected;
      }
      ASSERT_EQ(read.count, expected);
    }
    advance();
    ASSERT_EQ(link->leases(), open);
    std::optional<TaskId> started;
    for (std::uint64_t p = first_open; p < tail(); ++p) {
      if (!at(p).open()) continue;
      if (at(p).claimed) started = TaskId(at(p).task);
      break;
    }
    if (step % 4 == 0) {
      ASSERT_EQ(link->started(), started);
    }
  }
  EXPECT_GT(longest_run, 256u) << "no run of more positions taken back than the ring has slots";
  EXPECT_GT(refused, 1000u);
  EXPECT_GT(taken_back, positions / 10);
}

}  // namespace
}  // namespace drover::test
