#pragma once
/// Records that were handed to the ledger and are not committed yet, oldest first. Record numbers are consecutive, so the ring
/// needs to store none.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "drover/types/ids.hpp"
#include "drover/types/time.hpp"

namespace drover::engine {

class RecordRing {
 public:
  struct Entry {
    std::uint32_t task;
    TimePoint at;
  };
  bool empty() const { return size_ == 0; }
  std::size_t size() const { return size_; }
  const Entry& oldest() const { return entries_[first_]; }
  RecordNumber oldest_number() const { return RecordNumber(last_.value + 1 - size_); }
  RecordNumber last_number() const { return last_; }

  RecordNumber push(std::uint32_t task, TimePoint at) {
    if (size_ == entries_.size()) grow();
    entries_[(first_ + size_++) & (entries_.size() - 1)] = {task, at};
    last_ = last_.next();
    return last_;
  }
  Entry pop() {
    const Entry entry = entries_[first_];
    first_ = (first_ + 1) & (entries_.size() - 1);
    --size_;
    return entry;
  }

 private:
  void grow() {
    std::vector<Entry> larger(entries_.size() * 2);
    for (std::size_t i = 0; i < size_; ++i) larger[i] = entries_[(first_ + i) & (entries_.size() - 1)];
    entries_.swap(larger);
    first_ = 0;
  }
  std::vector<Entry> entries_ = std::vector<Entry>(256);
  std::size_t first_ = 0, size_ = 0;
  RecordNumber last_{};
};

}  // namespace drover::engine
