// Goal: whatever a worker writes into the memory it shares with the supervisor, the supervisor's reader answers with good endings
// or with one complaint, and never reads outside the arena, crashes or loses its own books. Method: each single lie by hand, with
// the complaint it must get; then seeded garbage in every word a worker can write, between any two calls. The sanitizer presets
// run this; fuzz/completion_reader_fuzz.cpp searches further.

#include <gtest/gtest.h>

#include <functional>

#include "support/long.hpp"
#include "wire/support.hpp"

namespace drover::test {
namespace {

constexpr std::uint64_t kArena = 4096;

/// Two leases given and published; the completion of the first one, as an honest worker writes it.
struct Liar {
  std::unique_ptr<WorkerLink> link = make_link(kArena);
  wire::Slot& slot = link->memory()->view().completions()[0];
  wire::ControlPage& control = link->control();
  Liar() {
    for (const std::uint64_t task : {1u, 2u}) EXPECT_TRUE(link->lease(TaskId(task), Epoch(7), 0, 0, payload_of(Kind::small, task)));
    link->publish();
    slot.task = 1;
    slot.epoch = 7;
    slot.kind = static_cast<std::uint8_t>(wire::SlotKind::completed);
    slot.length = slot.inline_size = 8;
    slot.function_or_extent = wire::kNoExtent;
    control.completion_tail.store(1);
  }
  std::string complaint() {
    std::array<wire::Completion, 4> out;
    const auto read = link->read(out);
    EXPECT_LE(read.count, 1u);
    return read.complaint != nullptr ? read.complaint : "";
  }
  void in_arena(std::uint32_t granule, std::uint32_t length) {
    slot.inline_size = 0;
    slot.function_or_extent = 3;
    slot.granule = granule;
    slot.length = length;
  }
};

struct Lie {
  const char* name;
  std::function<void(Liar&)> tell;
  const char* complaint;
};

TEST(Hostile, EachLieGetsItsComplaint) {
  const Lie lies[] = {
      {"the truth", [](Liar&) {}, ""},
      {"the truth, in the arena", [](Liar& l) { l.in_arena(32, 2048); }, ""},
      {"an empty result at the very end of the arena", [](Liar& l) { l.in_arena(64, 0); }, ""},
      {"no kind", [](Liar& l) { l.slot.kind = 0; }, "completion of unknown kind"},
      {"a submission's kind", [](Liar& l) { l.slot.kind = 1; }, "completion of unknown kind"},
      {"a kind of the future", [](Liar& l) { l.slot.kind = 4; }, "completion of unknown kind"},
      {"33 inline bytes", [](Liar& l) { l.slot.inline_size = 33; l.slot.length = 33; }, "inline result larger than its slot"},
      {"two lengths", [](Liar& l) { l.slot.length = 9; }, "inline result with a second length"},
      {"an extent too many", [](Liar& l) { l.in_arena(0, 8); l.slot.function_or_extent = wire::kExtents; }, "extent index out of range"},
      {"the last extent but one", [](Liar& l) { l.in_arena(0, 8); l.slot.function_or_extent = 0xfffe; }, "extent index out of range"},
      {"inline and in the arena", [](Liar& l) { l.in_arena(0, 8); l.slot.inline_size = 8; }, "result both inline and in the arena"},
      {"a byte too far", [](Liar& l) { l.in_arena(32, 2049); }, "result outside the arena"},
      {"begins behind the arena", [](Liar& l) { l.in_arena(65, 0); }, "result outside the arena"},
      {"the largest place there is", [](Liar& l) { l.in_arena(0xffffffff, 0xffffffff); }, "result outside the arena"},
      {"the largest length there is", [](Liar& l) { l.in_arena(0, 0xffffffff); }, "result outside the arena"},
      {"a task it does not hold", [](Liar& l) { l.slot.task = 3; }, "completion of a task it does not hold, or out of order"},
      {"its second lease first", [](Liar& l) { l.slot.task = 2; }, "completion of a task it does not hold, or out of order"},
      {"an older epoch", [](Liar& l) { l.slot.epoch = 6; }, "completion of a task it does not hold, or out of order"},
      {"the same ending twice", [](Liar& l) { l.link->memory()->view().completions()[1].task = 1; l.link->memory()->view().completions()[1].epoch = 7;
         l.link->memory()->view().completions()[1].kind = 2; l.link->memory()->view().completions()[1].function_or_extent = wire::kNoExtent; l.control.completion_tail.store(2); },
       "completion of a task it does not hold, or out of order"},
      {"more endings than there can be leases", [](Liar& l) { l.control.completion_tail.store(129); }, "completion tail beyond the window"},
      {"fewer than none", [](Liar& l) { l.control.completion_tail.store(~std::uint64_t{0}); }, "completion tail beyond the window"},
  };
  for (const Lie& lie : lies) {
    Liar liar;
    lie.tell(liar);
    EXPECT_EQ(liar.complaint(), lie.complaint) << lie.name;
  }
}

TEST(Hostile, AnAnswerToATaskThatWasTakenBackIsRefused) {
  Liar liar;
  ASSERT_TRUE(liar.link->revoke(TaskId(1), Epoch(7)));
  EXPECT_EQ(liar.complaint(), "completion of a task it does not hold, or out of order");
}

TEST(Hostile, TheTailGoingBackIsRefusedOnceSomethingWasRead) {
  Liar liar;
  EXPECT_EQ(liar.complaint(), "");
  liar.control.completion_tail.store(0);
  EXPECT_EQ(liar.complaint(), "completion tail beyond the window");
}

/// A word that is often nearly right.
std::uint64_t word(Rng& rng, std::uint64_t near) {
  switch (rng() % 8) {
    case 0: return rng();
    case 1: return rng() & 0xffffffff;
    case 2: return ~std::uint64_t{0} - rng() % 300;
    case 3: return 0;
    default: return near + rng() % 4 - 1;
  }
}

TEST(Hostile, GarbageInEveryWordOfTheWorkerIsAnsweredWithGoodEndingsOrAComplaint) {
  const std::uint64_t first = seed_or(31);
  const bool one = std::getenv("DROVER_TEST_SEED") != nullptr;
  const std::uint64_t seeds = one ? 1 : scaled<std::uint64_t>(kSanitized ? 1'000 : 4'000, 1'000'000);
  std::uint64_t good = 0, complaints = 0, sum = 0;
  for (std::uint64_t seed = first; seed < first + seeds; ++seed) {
    SCOPED_TRACE("DROVER_TEST_SEED=" + std::to_string(seed));
    Rng rng(seed, TaskId(0));
    const auto link = make_link(kArena);
    const auto view = link->memory()->view();
    wire::ControlPage& control = link->control();
    std::uint64_t next_task = 0, read_total = 0, given = 0;
    const bool nearly_honest = rng() % 2 == 0;
    for (int step = 0; step < 60; ++step) {
      // Half of the workers are nearly honest, so that what lies behind the first checks is reached.
      static constexpr std::array<int, 10> kNearly = {0, 0, 2, 5, 5, 5, 5, 6, 7, 9};
      const auto pick = static_cast<int>(rng() % 10);
      const bool lie = !nearly_honest || rng() % 32 == 0;
      switch (nearly_honest ? kNearly[static_cast<std::size_t>(pick)] : pick) {
        case 0:
        case 1: {
          const auto payload = payload_of(Kind::small, next_task);
          if (link->lease(TaskId(next_task), Epoch(1), 0, 0, payload)) ++next_task, ++given;
          break;
        }
        case 2: link->publish(); break;
        case 3: control.completion_tail.store(word(rng, read_total)); break;
        case 4: {  // a whole slot
          auto* bytes = reinterpret_cast<std::byte*>(&view.completions()[rng() % wire::kSlots]);
          for (std::size_t i = 0; i < sizeof(wire::Slot); i += 8) {
            const std::uint64_t w = word(rng, i);
            std::memcpy(bytes + i, &w, 8);
          }
          break;
        }
        case 5: {  // a slot that is nearly right, at the place that is read next
          if (nearly_honest && read_total == given) break;
          wire::Slot& s = view.completions()[read_total % wire::kSlots];
          s.task = lie ? word(rng, read_total) : read_total;
          s.epoch = 1;
          s.kind = static_cast<std::uint8_t>(lie ? rng() : 2 + rng() % 2);
          const bool in_arena = rng() % 2 == 0;
          const auto extent = static_cast<std::uint16_t>(lie ? rng() : rng() % wire::kExtents);
          s.function_or_extent = in_arena ? extent : wire::kNoExtent;
          s.granule = static_cast<std::uint32_t>(lie ? word(rng, kArena / 64) : rng() % (kArena / 64));
          s.inline_size = static_cast<std::uint8_t>(in_arena ? 0 : rng() % (lie ? 40 : 33));
          s.length = !in_arena ? s.inline_size : static_cast<std::uint32_t>(lie ? word(rng, kArena) : rng() % (kArena - 64 * std::uint64_t{s.granule} + 1));
          control.completion_tail.store(read_total + 1);
          break;
        }
        case 6: view.submissions()[rng() % wire::kSlots].claim.store(static_cast<std::uint32_t>(word(rng, rng() % 4))); break;
        case 7:
          control.skipped_upto.store(word(rng, given));
          control.worker_sleeping.store(static_cast<std::uint32_t>(rng() % 2));
          control.ready.store(static_cast<std::uint32_t>(rng()));
          control.progress.store(rng());
          control.death_word.store(static_cast<std::uint32_t>(rng()));
          for (char& c : control.start_error) c = static_cast<char>(rng());
          view.released()[rng() % wire::kExtents].store(static_cast<std::uint32_t>(rng()));
          break;
        case 8: (void)link->revoke(TaskId(rng() % (next_task + 1)), Epoch(1)); break;
        default: break;
      }
      (void)link->started();
      (void)link->has_completions();
      std::array<wire::Completion, 8> out;
      const std::size_t before = link->leases();
      const auto read = link->read(std::span(out).first(1 + rng() % out.size()));
      ASSERT_LE(read.count, out.size());
      ASSERT_EQ(link->leases(), before - read.count);
      for (std::size_t i = 0; i < read.count; ++i) {
        const wire::Completion& c = out[i];
        ASSERT_LT(c.task, next_task);
        ASSERT_TRUE(c.kind == 2 || c.kind == 3);
        if (c.extent == wire::kNoExtent) {
          ASSERT_LE(c.inline_size, wire::kInlineBytes);
          for (std::size_t b = 0; b < c.inline_size; ++b) sum += static_cast<unsigned>(c.inline_bytes[b]);
          continue;
        }
        const auto hold = link->hold(c.extent);
        const BytesView bytes = link->bytes(c);
        ASSERT_TRUE(bytes.data() >= view.arena() && bytes.data() + bytes.size() <= view.arena() + kArena);
        for (const std::byte b : bytes) sum += static_cast<unsigned>(b);
      }
      good += read.count;
      read_total += read.count;
      if (read.complaint != nullptr) {  // the supervisor ends this incarnation; nothing is read from it again
        ++complaints;
        break;
      }
    }
    // Its books still close: everything is taken back, or said to be claimed by the one who lied about that.
    for (std::uint64_t task = 0; task < next_task; ++task) (void)link->revoke(TaskId(task), Epoch(1));
    ASSERT_LE(link->leases(), wire::kWindowMax);
  }
  if (!one) {
    EXPECT_GT(good, seeds) << "hardly an ending was good: the garbage is too coarse to test what follows";
    EXPECT_GT(complaints, seeds / 4);
  }
  std::printf("%llu seeds, %llu good endings, %llu complaints (%llu)\n", static_cast<unsigned long long>(seeds), static_cast<unsigned long long>(good),
              static_cast<unsigned long long>(complaints), static_cast<unsigned long long>(sum % 10));
}

TEST(Hostile, AnArenaWhoseReleaseWordsLieStaysInsideItself) {
  // A worker can damage only itself here; but its own code must not be led out of its arena by a word that is not what it wrote.
  Rng rng(seed_or(32), TaskId(0));
  const auto link = make_link(kArena);
  wire::ResultArena arena(link->memory()->view(), kArena);
  for (int step = 0; step < 100'000; ++step) {
    if (rng() % 4 == 0) link->memory()->view().released()[rng() % wire::kExtents].store(static_cast<std::uint32_t>(rng() % 4));
    const std::uint64_t size = rng() % 700;
    if (const auto got = arena.allocate(size)) {
      ASSERT_LE(std::uint64_t{got->granule} * wire::kGranule + size, kArena);
      ASSERT_LT(got->index, wire::kExtents);
      if (rng() % 8 == 0) arena.abandon(got->index);
    }
    if (rng() % 64 == 0) arena.abandon(static_cast<std::uint16_t>(rng()));
  }
}

}  // namespace
}  // namespace drover::test
