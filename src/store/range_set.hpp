#pragma once
/// A set of task ids as maximal contiguous runs, each with the fold of its tasks, and what changed since the ledger last wrote it.

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "store/record.hpp"

namespace drover::store {

class RangeSet {
 public:
  struct Run {
    std::uint64_t last = 0;
    std::uint64_t fold = 0;
  };

  /// False if any of [first, last] is in the set already: then nothing is changed.
  bool insert(std::uint64_t first, std::uint64_t last, std::uint64_t fold);
  bool contains(std::uint64_t id) const;
  /// Without marking anything as changed: what a ledger had on record.
  bool load(std::uint64_t first, std::uint64_t last, std::uint64_t fold);

  const std::map<std::uint64_t, Run>& runs() const { return runs_; }
  std::vector<RecordedRange> recorded() const;

  /// Run starts whose row must be written (with the run's present end) or removed. Both are emptied by `written`.
  const std::set<std::uint64_t>& changed() const { return changed_; }
  const std::set<std::uint64_t>& removed() const { return removed_; }
  void written();

 private:
  std::map<std::uint64_t, Run> runs_;   // key: first id; disjoint and never adjacent
  std::set<std::uint64_t> changed_;
  std::set<std::uint64_t> removed_;     // starts of rows that were absorbed by an earlier run
};

}  // namespace drover::store
