/// Out-of-line parts of the rings: validation of a worker's endings, and the worker's arena allocator.
#include "wire/rings.hpp"

#include <algorithm>
#include <bit>

namespace drover::wire {

Complaint CompletionReader::check(const Completion& c) const {
  if (c.kind != static_cast<std::uint8_t>(SlotKind::completed) && c.kind != static_cast<std::uint8_t>(SlotKind::app_error))
    return "completion of unknown kind";
  if (c.extent == kNoExtent) {
    if (c.inline_size > kInlineBytes) return "inline result larger than its slot";
    if (c.length != c.inline_size) return "inline result with a second length";
    return nullptr;
  }
  if (c.extent >= kExtents) return "extent index out of range";
  if (c.inline_size != 0) return "result both inline and in the arena";
  const std::uint64_t begin = std::uint64_t{c.granule} * kGranule;
  if (begin > arena_bytes_ || c.length > arena_bytes_ - begin) return "result outside the arena";
  return nullptr;
}

void ResultArena::collect() {
  std::size_t kept = 0;
  for (std::size_t i = 0; i < live_count_; ++i) {
    const std::uint16_t index = live_[i].index;
    // Sequentially consistent: this is also the last look of a worker that goes to sleep for want of room.
    if (view_.released()[index].load(std::memory_order_seq_cst) == generation_[index]) {
      used_mask_ &= ~(std::uint64_t{1} << index);
    } else {
      live_[kept++] = live_[i];
    }
  }
  live_count_ = kept;
}

std::optional<ResultArena::Extent> ResultArena::allocate(std::uint64_t size) {
  collect();
  if (~used_mask_ == 0) return std::nullopt;
  const std::uint64_t need = std::max<std::uint64_t>((size + kGranule - 1) / kGranule * kGranule, kGranule);
  std::uint64_t begin = 0;
  std::size_t at = 0;
  for (; at < live_count_ && live_[at].begin - begin < need; ++at) begin = live_[at].end;
  if (begin > bytes_ || bytes_ - begin < need) return std::nullopt;
  const auto index = static_cast<std::uint16_t>(std::countr_one(used_mask_));
  std::copy_backward(live_.begin() + static_cast<std::ptrdiff_t>(at), live_.begin() + static_cast<std::ptrdiff_t>(live_count_),
                     live_.begin() + static_cast<std::ptrdiff_t>(live_count_) + 1);
  live_[at] = {begin, begin + need, index};
  ++live_count_;
  used_mask_ |= std::uint64_t{1} << index;
  ++generation_[index];
  return Extent{index, static_cast<std::uint32_t>(begin / kGranule)};
}

void ResultArena::abandon(std::uint16_t index) {
  const auto end = live_.begin() + static_cast<std::ptrdiff_t>(live_count_);
  const auto it = std::find_if(live_.begin(), end, [&](const Live& l) { return l.index == index; });
  if (it == end) return;
  std::copy(it + 1, end, it);
  --live_count_;
  used_mask_ &= ~(std::uint64_t{1} << index);
  --generation_[index];
}

}  // namespace drover::wire
