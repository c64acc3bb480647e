#pragma once
/// What the supervisor keeps of every open task besides the scheduler's view: where its input is, whom the answer goes to, and
/// the answer itself until it is recorded and delivered. Slab plus chained buckets; no allocation per task once warm.

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "base/assert.hpp"
#include "drover/types/ids.hpp"
#include "drover/types/outcome.hpp"
#include "drover/types/task.hpp"
#include "supervisor/input_arena.hpp"
#include "wire/rings.hpp"

namespace drover {

struct StreamState;

struct TaskEntry {
  TaskId id{};
  StreamState* stream = nullptr;
  std::uint64_t tag = 0;
  std::uint64_t spec_hash = 0;
  wire::Payload payload{};
  ArenaExtent extent{};
  std::uint32_t broadcast = 0;
  std::uint16_t function = 0;
  std::uint16_t limits = 0;
  EffectClass effect = EffectClass::pure;
  // the current lease
  Epoch epoch{};
  SlotId slot{};
  Incarnation incarnation{};
  TimePoint leased_at{};
  // the answer
  wire::Completion result{};
  BytesView large{};
  std::shared_ptr<const void> hold{};
  std::unique_ptr<Outcome> outcome{};
  std::uint32_t attempts = 1;
};

class TaskEntries {
 public:
  TaskEntries() : buckets_(64, kNone) {}

  /// The id must not be open.
  TaskEntry& insert(TaskId id) {
    if (size_ == buckets_.size()) grow();
    std::uint32_t at = free_;
    if (at == kNone) {
      at = static_cast<std::uint32_t>(slab_.size());
      slab_.emplace_back();
    } else {
      free_ = slab_[at].next;
    }
    slab_[at].entry.id = id;
    link(at);
    ++size_;
    return slab_[at].entry;
  }
  TaskEntry* find(TaskId id) {
    std::uint32_t at = buckets_[bucket_of(id)];
    while (at != kNone && slab_[at].entry.id != id) at = slab_[at].next;
    return at == kNone ? nullptr : &slab_[at].entry;
  }
  void erase(TaskId id) {
    std::uint32_t* link = &buckets_[bucket_of(id)];
    while (slab_[*link].entry.id != id) link = &slab_[*link].next;
    const std::uint32_t at = *link;
    *link = slab_[at].next;
    slab_[at].entry = TaskEntry{};
    slab_[at].next = free_;
    free_ = at;
    --size_;
  }
  std::size_t size() const { return size_; }
  template <class F>
  void for_each(F f) {
    for (const std::uint32_t first : buckets_)
      for (std::uint32_t at = first; at != kNone; at = slab_[at].next) f(slab_[at].entry);
  }

 private:
  static constexpr std::uint32_t kNone = ~std::uint32_t{0};
  struct Node {
    TaskEntry entry;
    std::uint32_t next = kNone;  ///< in its bucket, or in the free list
  };
  /// Open ids are nearly dense: they fill the buckets in order, one each.
  std::size_t bucket_of(TaskId id) const { return id.value & (buckets_.size() - 1); }
  void link(std::uint32_t at) {
    std::uint32_t& first = buckets_[bucket_of(slab_[at].entry.id)];
    slab_[at].next = first;
    first = at;
  }
  void grow() {
    std::vector<std::uint32_t> open;
    open.reserve(size_);
    for (std::uint32_t at : buckets_)
      for (; at != kNone; at = slab_[at].next) open.push_back(at);
    buckets_.assign(buckets_.size() * 2, kNone);
    for (const std::uint32_t at : open) link(at);
  }
  std::deque<Node> slab_;  ///< entries never move
  std::vector<std::uint32_t> buckets_;
  std::uint32_t free_ = kNone;
  std::size_t size_ = 0;
};

}  // namespace drover
