#pragma once
/// The earliest of many deadlines, one per small integer key, each changed or removed in O(log n). Only tasks with a queue or
/// task limit are ever in it.

#include <cstdint>
#include <vector>

#include "drover/types/time.hpp"

namespace drover::engine {

class DeadlineHeap {
 public:
  bool empty() const { return heap_.empty(); }
  TimePoint earliest() const { return heap_.empty() ? kNever : heap_.front().at; }
  std::uint32_t earliest_key() const { return heap_.front().key; }

  /// kNever removes the key.
  void set(std::uint32_t key, TimePoint at) {
    if (at == kNever) return remove(key);
    if (key >= position_.size()) position_.resize(key + 1, kAbsent);
    std::uint32_t i = position_[key];
    if (i == kAbsent) {
      i = static_cast<std::uint32_t>(heap_.size());
      heap_.push_back({at, key});
    } else {
      heap_[i].at = at;
    }
    position_[key] = i;
    down(up(i));
  }
  void remove(std::uint32_t key) {
    if (key >= position_.size() || position_[key] == kAbsent) return;
    const std::uint32_t i = position_[key];
    position_[key] = kAbsent;
    const Entry last = heap_.back();
    heap_.pop_back();
    if (i == heap_.size()) return;
    heap_[i] = last;
    position_[last.key] = i;
    down(up(i));
  }

 private:
  static constexpr std::uint32_t kAbsent = ~std::uint32_t{0};
  struct Entry {
    TimePoint at;
    std::uint32_t key;
  };
  std::uint32_t up(std::uint32_t i) {
    const Entry entry = heap_[i];
    while (i > 0 && entry.at < heap_[(i - 1) / 2].at) {
      place(i, heap_[(i - 1) / 2]);
      i = (i - 1) / 2;
    }
    place(i, entry);
    return i;
  }
  void down(std::uint32_t i) {
    const Entry entry = heap_[i];
    const auto size = static_cast<std::uint32_t>(heap_.size());
    for (std::uint32_t child = 2 * i + 1; child < size; child = 2 * i + 1) {
      if (child + 1 < size && heap_[child + 1].at < heap_[child].at) ++child;
      if (!(heap_[child].at < entry.at)) break;
      place(i, heap_[child]);
      i = child;
    }
    place(i, entry);
  }
  void place(std::uint32_t i, const Entry& entry) {
    heap_[i] = entry;
    position_[entry.key] = i;
  }
  std::vector<Entry> heap_;
  std::vector<std::uint32_t> position_;
};

}  // namespace drover::engine
