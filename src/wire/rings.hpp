#pragma once
/// The two single-producer single-consumer rings of one incarnation, one class a side and direction. All are plain memory
/// operations: no system call, no allocation, no lock; killing either side between any two instructions leaves the other with
/// either the old or the new state (tests/wire/crash_points_test.cpp kills at every one).
///
///   supervisor                              worker
///   SubmissionWriter.put, publish   ---->   SubmissionReader.claim_next
///   SubmissionWriter.revoke (claim word)    (compare-and-swap decides who has the task)
///   CompletionReader.read           <----   CompletionWriter.publish
///
/// Bells. After publish, ring the other's eventfd if its sleeping flag is set; before sleeping set the flag, then look again.
/// Flag and tail are sequentially consistent, so one of the two sides always sees the other (Dekker); no wake-up is lost.

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>

#include "drover/types/bytes.hpp"
#include "wire/layout.hpp"

namespace drover::wire {

/// A task's payload as it travels: up to kInlineBytes inside the slot, more by its place in an arena.
struct Payload {
  std::uint32_t length = 0;
  std::uint32_t granule = 0;
  std::uint8_t inline_size = 0;
  std::array<std::byte, kInlineBytes> inline_bytes{};
};

/// One lease going out.
struct Submission {
  std::uint64_t task = 0;
  std::uint32_t epoch = 0;
  std::uint32_t broadcast = 0;
  std::uint16_t function = 0;
  const Payload* payload = nullptr;
};

class SubmissionWriter {
 public:
  explicit SubmissionWriter(IncarnationView view) : view_(view) {}
  /// Writes the slot of the next position; invisible to the worker until publish(). The caller keeps at most kWindowMax open.
  void put(const Submission& s) {
    Slot& slot = view_.submissions()[tail_ % kSlots];
    slot.task = s.task;
    slot.epoch = s.epoch;
    slot.broadcast = s.broadcast;
    slot.length = s.payload->length;
    slot.granule = s.payload->granule;
    slot.function_or_extent = s.function;
    slot.kind = static_cast<std::uint8_t>(SlotKind::task);
    slot.inline_size = s.payload->inline_size;
    std::memcpy(slot.inline_bytes.data(), s.payload->inline_bytes.data(), kInlineBytes);
    slot.claim.store(static_cast<std::uint32_t>(Claim::leased), std::memory_order_relaxed);
    ++tail_;
  }
  /// Makes everything put so far visible. Returns true if the worker sleeps and its bell must be rung.
  bool publish() {
    view_.control().submission_tail.store(tail_, std::memory_order_seq_cst);
    return view_.control().worker_sleeping.load(std::memory_order_seq_cst) != 0;
  }
  std::uint64_t tail() const { return tail_; }
  /// Takes the lease at `position` back unless the worker has claimed it. True: it will never run there.
  bool revoke(std::uint64_t position) {
    std::uint32_t expected = static_cast<std::uint32_t>(Claim::leased);
    return view_.submissions()[position % kSlots].claim.compare_exchange_strong(
        expected, static_cast<std::uint32_t>(Claim::revoked), std::memory_order_acq_rel);
  }
  bool claimed(std::uint64_t position) const {
    return view_.submissions()[position % kSlots].claim.load(std::memory_order_acquire) == static_cast<std::uint32_t>(Claim::claimed);
  }

 private:
  IncarnationView view_;
  std::uint64_t tail_ = 0;
};

class SubmissionReader {
 public:
  explicit SubmissionReader(IncarnationView view) : view_(view) {}
  bool empty() const { return next_ == view_.control().submission_tail.load(std::memory_order_seq_cst); }
  /// The next task that was not taken back, now claimed: the attempt has started. Null if there is none. The slot stays
  /// untouched by the supervisor until this task's completion is published.
  const Slot* claim_next() {
    while (next_ != tail_seen_ || next_ != (tail_seen_ = view_.control().submission_tail.load(std::memory_order_acquire))) {
      Slot& slot = view_.submissions()[next_ % kSlots];
      ++next_;
      std::uint32_t expected = static_cast<std::uint32_t>(Claim::leased);
      if (slot.claim.compare_exchange_strong(expected, static_cast<std::uint32_t>(Claim::claimed), std::memory_order_acq_rel)) return &slot;
      view_.control().skipped_upto.store(next_, std::memory_order_release);
    }
    return nullptr;
  }

 private:
  IncarnationView view_;
  std::uint64_t next_ = 0, tail_seen_ = 0;
};

/// One ending coming back, copied out of shared memory: nothing in it changes any more, nothing in it is believed yet.
struct Completion {
  std::uint64_t task = 0;
  std::uint32_t epoch = 0;
  std::uint32_t length = 0;
  std::uint32_t granule = 0;
  std::uint16_t extent = kNoExtent;
  std::uint8_t kind = 0;
  std::uint8_t inline_size = 0;
  std::array<std::byte, kInlineBytes> inline_bytes{};
};

class CompletionWriter {
 public:
  explicit CompletionWriter(IncarnationView view) : view_(view) {}
  /// Publishes one ending. Returns true if the supervisor sleeps and its bell must be rung.
  bool publish(const Completion& c) {
    Slot& slot = view_.completions()[tail_ % kSlots];
    slot.task = c.task;
    slot.epoch = c.epoch;
    slot.length = c.length;
    slot.granule = c.granule;
    slot.function_or_extent = c.extent;
    slot.kind = c.kind;
    slot.inline_size = c.inline_size;
    std::memcpy(slot.inline_bytes.data(), c.inline_bytes.data(), kInlineBytes);
    ++tail_;
    view_.control().completion_tail.store(tail_, std::memory_order_seq_cst);
    return view_.control().supervisor_sleeping.load(std::memory_order_seq_cst) != 0;
  }

 private:
  IncarnationView view_;
  std::uint64_t tail_ = 0;
};

/// Why a worker's writing was refused: a short constant text for outcome::ProtocolBroken.
using Complaint = const char*;

/// The supervisor's reader: the one place that looks at what a hostile worker wrote. Copies a slot, then validates the copy.
class CompletionReader {
 public:
  CompletionReader(IncarnationView view, std::uint64_t arena_bytes) : view_(view), arena_bytes_(arena_bytes) {}
  bool empty() const { return head_ == view_.control().completion_tail.load(std::memory_order_seq_cst); }
  /// Reads at most out.size() endings. A complaint ends the incarnation; endings before it (`count`) are good.
  struct Read {
    std::size_t count = 0;
    Complaint complaint = nullptr;
  };
  Read read(std::span<Completion> out) {
    const std::uint64_t tail = view_.control().completion_tail.load(std::memory_order_acquire);
    if (tail - head_ > kWindowMax) return {0, "completion tail beyond the window"};
    Read r;
    while (head_ != tail && r.count < out.size()) {
      copy(view_.completions()[head_ % kSlots], out[r.count]);
      if ((r.complaint = check(out[r.count])) != nullptr) return r;
      ++head_;
      ++r.count;
    }
    return r;
  }
  /// What is wrong with an ending by itself; null if nothing is. That it answers an open lease is the caller's check.
  Complaint check(const Completion& c) const;

 private:
  static void copy(const Slot& slot, Completion& out) {
    // Memory another process may be writing: each of the eight words is loaded once, atomically, and what is checked later is
    // what was loaded. A worker that writes meanwhile gets a mixture of its own words refused or believed, nothing else happens.
    static_assert(std::endian::native == std::endian::little && offsetof(Slot, epoch) == 8 && offsetof(Slot, length) == 20 &&
                  offsetof(Slot, granule) == 24 && offsetof(Slot, function_or_extent) == 28 && offsetof(Slot, kind) == 30 &&
                  offsetof(Slot, inline_size) == 31 && offsetof(Slot, inline_bytes) == 32);
    const auto word = [words = reinterpret_cast<const std::uint64_t*>(&slot)](std::size_t i) { return __atomic_load_n(words + i, __ATOMIC_RELAXED); };
    out.task = word(0);
    out.epoch = static_cast<std::uint32_t>(word(1));
    out.length = static_cast<std::uint32_t>(word(2) >> 32);
    const std::uint64_t rest = word(3);
    out.granule = static_cast<std::uint32_t>(rest);
    out.extent = static_cast<std::uint16_t>(rest >> 32);
    out.kind = static_cast<std::uint8_t>(rest >> 48);
    out.inline_size = static_cast<std::uint8_t>(rest >> 56);
    for (std::size_t i = 0; i < kInlineBytes / 8; ++i) {
      const std::uint64_t bytes = word(4 + i);
      std::memcpy(out.inline_bytes.data() + 8 * i, &bytes, 8);
    }
  }
  IncarnationView view_;
  std::uint64_t arena_bytes_;
  std::uint64_t head_ = 0;
};

/// The worker's allocator of result space in its own arena: lowest place first, so a steady job reuses the same warm pages.
/// An extent is free again when the supervisor's side has counted its release word up.
class ResultArena {
 public:
  ResultArena(IncarnationView view, std::uint64_t bytes) : view_(view), bytes_(bytes) {}
  struct Extent {
    std::uint16_t index = kNoExtent;
    std::uint32_t granule = 0;
  };
  /// Nothing when neither an index nor a gap of that size is free now.
  std::optional<Extent> allocate(std::uint64_t size);
  /// Gives back an extent that was never published.
  void abandon(std::uint16_t index);

 private:
  void collect();  ///< drops released extents from live_
  struct Live {
    std::uint64_t begin, end;
    std::uint16_t index;
  };
  IncarnationView view_;
  std::uint64_t bytes_;
  std::array<Live, kExtents> live_{};  ///< sorted by begin
  std::size_t live_count_ = 0;
  std::array<std::uint32_t, kExtents> generation_{};
  std::uint64_t used_mask_ = 0;
};

}  // namespace drover::wire
