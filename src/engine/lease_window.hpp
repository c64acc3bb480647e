#pragma once
/// The leases one incarnation holds, oldest first: it works through them in this order, so the head is the only one that can be
/// running. Fixed capacity, allocated once.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/assert.hpp"

namespace drover::engine {

struct LeaseEntry {
  std::uint32_t task = 0;       ///< index in the task table
  bool revoke_pending = false;  ///< asked back, not answered yet
  bool claimed = false;         ///< asked back, and the worker had begun it
};

class LeaseWindow {
 public:
  explicit LeaseWindow(std::uint32_t capacity) : entries_(std::bit_ceil(capacity)), capacity_(capacity) {}

  bool empty() const { return size_ == 0; }
  bool full() const { return size_ == capacity_; }
  std::uint32_t size() const { return size_; }
  LeaseEntry& operator[](std::uint32_t i) { return entries_[(first_ + i) & mask()]; }
  const LeaseEntry& operator[](std::uint32_t i) const { return entries_[(first_ + i) & mask()]; }
  LeaseEntry& head() { return (*this)[0]; }
  const LeaseEntry& head() const { return (*this)[0]; }

  void push(std::uint32_t task) {
    DROVER_ASSERT(size_ < capacity_, size_, capacity_);
    entries_[(first_ + size_++) & mask()] = {task, false, false};
  }
  void pop_head() {
    first_ = (first_ + 1) & mask();
    --size_;
  }
  void erase(std::uint32_t i) {
    if (i == 0) return pop_head();
    for (; i + 1 < size_; ++i) (*this)[i] = (*this)[i + 1];
    --size_;
  }
  void clear() { size_ = 0; }

 private:
  std::uint32_t mask() const { return static_cast<std::uint32_t>(entries_.size()) - 1; }
  std::vector<LeaseEntry> entries_;
  std::uint32_t capacity_;
  std::uint32_t first_ = 0;
  std::uint32_t size_ = 0;
};

}  // namespace drover::engine
