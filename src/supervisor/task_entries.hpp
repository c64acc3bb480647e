#pragma once
/// What the supervisor keeps of every open task besides the scheduler's view: where its input is, whom the answer goes to, and
/// the answer itself until it is recorded and delivered. Slab plus open addressing; no allocation per task once warm.

#include <cstdint>
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
  TaskEntries() : index_(64, kFree), mask_(63) {}

  TaskEntry& insert(TaskId id) {
    if ((size_ + 1) * 2 > index_.size()) grow();
    std::uint32_t at;
    if (!free_.empty()) {
      at = free_.back();
      free_.pop_back();
    } else {
      at = static_cast<std::uint32_t>(slab_.size());
      slab_.emplace_back(std::make_unique<TaskEntry>());
    }
    slab_[at]->id = id;
    place(id, at);
    ++size_;
    return *slab_[at];
  }
  TaskEntry* find(TaskId id) {
    for (std::size_t i = id.value & mask_;; i = (i + 1) & mask_) {
      if (index_[i] == kFree) return nullptr;
      if (slab_[index_[i]]->id == id) return slab_[index_[i]].get();
    }
  }
  void erase(TaskId id) {
    std::size_t i = id.value & mask_;
    while (slab_[index_[i]]->id != id) i = (i + 1) & mask_;
    const std::uint32_t at = index_[i];
    // Backward-shift deletion keeps every probe sequence unbroken (Knuth, TAOCP vol. 3, 6.4 algorithm R).
    for (std::size_t j = (i + 1) & mask_; index_[j] != kFree; j = (j + 1) & mask_) {
      const std::size_t home = slab_[index_[j]]->id.value & mask_;
      if (((j - home) & mask_) >= ((j - i) & mask_)) {
        index_[i] = index_[j];
        i = j;
      }
    }
    index_[i] = kFree;
    *slab_[at] = TaskEntry{};
    free_.push_back(at);
    --size_;
  }
  std::size_t size() const { return size_; }
  template <class F>
  void for_each(F f) {
    for (const std::uint32_t at : index_)
      if (at != kFree) f(*slab_[at]);
  }

 private:
  static constexpr std::uint32_t kFree = ~std::uint32_t{0};
  void place(TaskId id, std::uint32_t at) {
    std::size_t i = id.value & mask_;
    while (index_[i] != kFree) {
      DROVER_ASSERT(slab_[index_[i]]->id != id);
      i = (i + 1) & mask_;
    }
    index_[i] = at;
  }
  void grow() {
    const std::vector<std::uint32_t> old = std::move(index_);
    index_.assign(old.size() * 2, kFree);
    mask_ = index_.size() - 1;
    for (const std::uint32_t at : old)
      if (at != kFree) place(slab_[at]->id, at);
  }
  std::vector<std::uint32_t> index_;
  std::size_t mask_;
  std::vector<std::unique_ptr<TaskEntry>> slab_;
  std::vector<std::uint32_t> free_;
  std::size_t size_ = 0;
};

}  // namespace drover
