#pragma once
/// What the tests of the wire share: tasks whose right answer anybody can compute, a worker in a few lines made of the real
/// reader, arena and writer, and memory for both.

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "drover/types/random.hpp"
#include "supervisor/worker_link.hpp"
#include "wire/rings.hpp"

namespace drover::test {

/// What a task asks for; the word travels in its input.
enum class Kind : std::uint32_t { small = 1, large, refusal, nothing, many };

inline std::uint64_t mixed(std::uint64_t task, std::uint64_t i) { return splitmix64(task * 1000 + i); }

/// The one right answer: words of a stream named by the task.
inline std::size_t answer_size(Kind kind, std::uint64_t task) {
  switch (kind) {
    case Kind::small: return 8 + task % 4 * 8;
    case Kind::large: return 160;
    case Kind::refusal: return 40;
    case Kind::nothing: return 0;
    case Kind::many: return 3072;
  }
  return 0;
}
inline void write_answer(Kind kind, std::uint64_t task, std::byte* out) {
  const std::size_t words = answer_size(kind, task) / 8;
  for (std::size_t i = 0; i < words; ++i) {
    const std::uint64_t word = mixed(task, i);
    std::memcpy(out + 8 * i, &word, 8);
  }
}
inline bool is_answer(Kind kind, std::uint64_t task, const std::byte* bytes, std::size_t size) {
  if (size != answer_size(kind, task)) return false;
  for (std::size_t i = 0; i < size / 8; ++i) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes + 8 * i, 8);
    if (word != mixed(task, i)) return false;
  }
  return true;
}

/// The input of a task, inline: its kind and its own number, so that a torn slot shows.
inline wire::Payload payload_of(Kind kind, std::uint64_t task) {
  wire::Payload payload;
  payload.length = 16;
  payload.inline_size = 16;
  const std::array<std::uint64_t, 2> words = {static_cast<std::uint64_t>(kind), mixed(task, 7)};
  std::memcpy(payload.inline_bytes.data(), words.data(), 16);
  return payload;
}
/// True if the slot is the whole submission of `task`: every field the writer sets.
inline bool is_whole(const wire::Slot& slot, Kind kind, std::uint64_t task, std::uint32_t epoch) {
  const wire::Payload want = payload_of(kind, task);
  return slot.task == task && slot.epoch == epoch && slot.broadcast == 0 && slot.length == 16 && slot.granule == 0 && slot.function_or_extent == 0 &&
         slot.kind == static_cast<std::uint8_t>(wire::SlotKind::task) && slot.inline_size == 16 && slot.inline_bytes == want.inline_bytes;
}
inline Kind kind_in(const wire::Slot& slot) {
  std::uint64_t word = 0;
  std::memcpy(&word, slot.inline_bytes.data(), 8);
  return static_cast<Kind>(word);
}

/// True if a completion read through `link` is the right ending of `task`.
inline bool is_right(const WorkerLink& link, const wire::Completion& c, Kind kind, std::uint64_t task, std::uint32_t epoch) {
  const auto want = kind == Kind::refusal ? wire::SlotKind::app_error : wire::SlotKind::completed;
  if (c.task != task || c.epoch != epoch || c.kind != static_cast<std::uint8_t>(want)) return false;
  if (c.extent == wire::kNoExtent) return is_answer(kind, task, c.inline_bytes.data(), c.inline_size);
  const BytesView bytes = link.bytes(c);
  return is_answer(kind, task, bytes.data(), bytes.size());
}

/// The worker's half without a process: claims, answers, publishes.
class SmallWorker {
 public:
  SmallWorker(wire::IncarnationView view, std::uint64_t arena_bytes) : view_(view), reader_(view), writer_(view), arena_(view, arena_bytes) {}
  bool has_work() const { return !reader_.empty(); }
  const wire::Slot* claim() { return reader_.claim_next(); }
  /// The ending of a claimed task, in place; nothing if the arena has no room now.
  std::optional<wire::Completion> answer(const wire::Slot& slot) {
    const Kind kind = kind_in(slot);
    wire::Completion c;
    c.task = slot.task;
    c.epoch = slot.epoch;
    c.kind = static_cast<std::uint8_t>(kind == Kind::refusal ? wire::SlotKind::app_error : wire::SlotKind::completed);
    c.length = static_cast<std::uint32_t>(answer_size(kind, slot.task));
    if (c.length <= wire::kInlineBytes) {
      c.inline_size = static_cast<std::uint8_t>(c.length);
      write_answer(kind, slot.task, c.inline_bytes.data());
      return c;
    }
    const auto extent = arena_.allocate(c.length);
    if (!extent) return std::nullopt;
    c.extent = extent->index;
    c.granule = extent->granule;
    write_answer(kind, slot.task, view_.arena() + std::uint64_t{c.granule} * wire::kGranule);
    return c;
  }
  /// True: the supervisor's bell must be rung.
  bool publish(const wire::Completion& c) { return writer_.publish(c); }
  wire::ResultArena& arena() { return arena_; }

 private:
  wire::IncarnationView view_;
  wire::SubmissionReader reader_;
  wire::CompletionWriter writer_;
  wire::ResultArena arena_;
};

inline std::unique_ptr<WorkerLink> make_link(std::uint64_t arena_bytes, std::uint64_t functions_hash = 0, std::uint64_t pool_bytes = 0) {
  auto link = WorkerLink::create({.slot = SlotId(1), .incarnation = Incarnation(1), .arena_bytes = arena_bytes, .pool_bytes = pool_bytes, .job_seed = 5, .functions_hash = functions_hash});
  if (!link) {
    std::fprintf(stderr, "%s\n", link.error().what().c_str());
    std::abort();
  }
  return std::move(*link);
}

/// Fills everything an incarnation has not written yet with what another life could have left there.
inline void fill_with_garbage(wire::IncarnationView view, std::uint64_t arena_bytes) {
  std::memset(static_cast<void*>(view.submissions()), 0xa5, wire::kSlots * sizeof(wire::Slot));
  std::memset(static_cast<void*>(view.completions()), 0xa5, wire::kSlots * sizeof(wire::Slot));
  std::memset(view.arena(), 0xa5, arena_bytes);
}

/// The seed of a random test: DROVER_TEST_SEED, or the one given. Print it with every failure.
inline std::uint64_t seed_or(std::uint64_t otherwise) {
  const char* asked = std::getenv("DROVER_TEST_SEED");
  return asked != nullptr && *asked != '\0' ? std::strtoull(asked, nullptr, 10) : otherwise;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

}  // namespace drover::test
