#pragma once
/// Identifiers that cannot be mixed up: a function taking a SlotId does not compile with a TaskId.

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace drover {

template <class Tag, class Rep>
struct StrongId {
  Rep value{};
  constexpr StrongId() = default;
  constexpr explicit StrongId(Rep v) : value(v) {}
  friend constexpr auto operator<=>(const StrongId&, const StrongId&) = default;
  constexpr StrongId next() const { return StrongId(static_cast<Rep>(value + 1)); }
};

/// Unit of work, dense from 0 within one job: the id a result is recorded, delivered and replayed under.
using TaskId = StrongId<struct TaskIdTag, std::uint64_t>;
/// Capacity for one worker, 0..workers-1.
using SlotId = StrongId<struct SlotIdTag, std::uint32_t>;
/// The n-th process in a slot, from 1; 0 means none.
using Incarnation = StrongId<struct IncarnationTag, std::uint32_t>;
/// One lease of one task; grows with every lease of that task, over all attempts and resumes. 0 means never leased.
using Epoch = StrongId<struct EpochTag, std::uint32_t>;
/// Position in the ledger's order of records, from 1. `committed(upto)` names one.
using RecordNumber = StrongId<struct RecordNumberTag, std::uint64_t>;

}  // namespace drover

template <class Tag, class Rep>
struct std::hash<drover::StrongId<Tag, Rep>> {
  std::size_t operator()(const drover::StrongId<Tag, Rep>& id) const noexcept { return std::hash<Rep>{}(id.value); }
};
