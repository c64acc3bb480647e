#include "store/range_set.hpp"

#include <iterator>

#include "base/assert.hpp"

namespace drover::store {

bool RangeSet::insert(std::uint64_t first, std::uint64_t last, std::uint64_t fold) {
  DROVER_ASSERT(first <= last, first, last);
  auto next = runs_.upper_bound(first);                      // the first run that starts after `first`
  if (next != runs_.end() && next->first <= last) return false;
  auto previous = next == runs_.begin() ? runs_.end() : std::prev(next);
  if (previous != runs_.end() && previous->second.last >= first) return false;

  const bool joins_previous = previous != runs_.end() && previous->second.last + 1 == first;
  const bool joins_next = next != runs_.end() && last + 1 == next->first;
  if (joins_next) {
    last = next->second.last;
    fold += next->second.fold;
    removed_.insert(next->first);
    changed_.erase(next->first);
    runs_.erase(next);
  }
  if (joins_previous) {
    previous->second.last = last;
    previous->second.fold += fold;
    changed_.insert(previous->first);
  } else {
    runs_.emplace(first, Run{last, fold});
    changed_.insert(first);
    removed_.erase(first);
  }
  return true;
}

bool RangeSet::load(std::uint64_t first, std::uint64_t last, std::uint64_t fold) {
  if (first > last || !insert(first, last, fold)) return false;
  // As on disk, so nothing to write; unless it was adjacent to another row, which then merge on disk too.
  if (const auto run = runs_.find(first); run != runs_.end() && run->second.last == last) changed_.erase(first);
  return true;
}

bool RangeSet::contains(std::uint64_t id) const {
  auto next = runs_.upper_bound(id);
  return next != runs_.begin() && std::prev(next)->second.last >= id;
}

std::vector<RecordedRange> RangeSet::recorded() const {
  std::vector<RecordedRange> all;
  all.reserve(runs_.size());
  for (const auto& [first, run] : runs_) all.push_back({TaskId(first), TaskId(run.last)});
  return all;
}

void RangeSet::written() {
  changed_.clear();
  removed_.clear();
}

}  // namespace drover::store
