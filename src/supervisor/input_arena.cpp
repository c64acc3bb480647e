/// Size-class allocator over one sealed memfd, and the table of broadcasts.
#include "supervisor/input_arena.hpp"

#include <bit>
#include <cstring>

#include "base/assert.hpp"

namespace drover {
namespace {
/// Classes are 64 << c bytes, and three quarters steps between: 64, 96, 128, 192, 256, ... so at most a third is wasted.
std::uint64_t class_bytes(std::size_t c) {
  const std::uint64_t base = std::uint64_t{64} << (c / 2);
  return c % 2 == 0 ? base : base + base / 2;
}
std::size_t class_of(std::uint64_t bytes) {
  if (bytes <= 64) return 0;
  const auto log = static_cast<std::size_t>(std::bit_width(bytes - 1)) - 6;  // 65..128 -> 1
  const std::size_t c = 2 * log;
  return class_bytes(c - 1) >= bytes ? c - 1 : c;
}
std::uint64_t round_to_granule(std::uint64_t bytes) { return (bytes + wire::kGranule - 1) / wire::kGranule * wire::kGranule; }
}  // namespace

Result<std::unique_ptr<InputArena>> InputArena::create(std::uint64_t capacity, BytesView setup) {
  DROVER_TRY(Memfd memory, Memfd::create("drover-inputs", capacity, MemfdUse::published));
  DROVER_TRY(Mapping mapping, memory.map_writable());
  DROVER_CHECK(memory.seal_writes());
  auto arena = std::unique_ptr<InputArena>(new InputArena(std::move(memory), std::move(mapping)));
  new (arena->mapping_.data()) wire::PoolPage();
  if (!setup.empty()) {
    DROVER_TRY(const ArenaExtent extent, arena->allocate(setup.size()));
    std::memcpy(arena->bytes(extent).data(), setup.data(), setup.size());
    arena->page().setup_offset = extent.offset;
    arena->page().setup_length = setup.size();
  }
  return arena;
}

Result<ArenaExtent> InputArena::allocate(std::uint64_t bytes) {
  const std::size_t c = class_of(bytes);
  const std::uint64_t take = round_to_granule(class_bytes(c));
  const std::lock_guard lock(mutex_);
  ArenaExtent extent{.bytes = static_cast<std::uint32_t>(bytes), .size_class = static_cast<std::uint8_t>(c)};
  if (!free_[c].empty()) {
    extent.offset = free_[c].back();
    free_[c].pop_back();
    return extent;
  }
  if (take > memory_.size() - bump_)
    return fail(ErrorCode::no_space, "the input arena of " + std::to_string(memory_.size()) + " bytes is used up", "lower bytes_max or tasks_max");
  extent.offset = bump_;
  bump_ += take;
  return extent;
}

void InputArena::free(const ArenaExtent& extent) {
  if (!extent.valid()) return;
  const std::lock_guard lock(mutex_);
  free_locked(extent);
}

void InputArena::free_locked(const ArenaExtent& extent) {
  free_[extent.size_class].push_back(extent.offset);
}

void InputArena::publish(Broadcast& entry) {
  wire::BroadcastEntry& shown = page().broadcasts[entry.version % wire::kBroadcasts];
  shown.offset = entry.extent.offset;
  shown.length = entry.extent.bytes;
  shown.version.store(entry.version, std::memory_order_release);
  newest_ = entry.version;
}

Result<std::uint32_t> InputArena::broadcast(BytesView bytes) {
  if (bytes.empty() || bytes.size() > UINT32_MAX) return fail(ErrorCode::usage, "a broadcast of " + std::to_string(bytes.size()) + " bytes", "1 byte to 4 GiB");
  DROVER_TRY(const ArenaExtent extent, allocate(bytes.size()));
  std::memcpy(mapping_.data() + extent.offset, bytes.data(), bytes.size());
  const std::lock_guard lock(mutex_);
  const std::uint32_t version = newest_ + 1;
  Broadcast& entry = broadcasts_[version % wire::kBroadcasts];
  if (entry.open_tasks != 0) {
    free_locked(extent);
    return fail(ErrorCode::busy, "broadcast " + std::to_string(entry.version) + " is still used by open tasks", "take results before broadcasting more than 63 versions ahead");
  }
  if (Broadcast& old = broadcasts_[newest_ % wire::kBroadcasts]; newest_ != 0 && old.open_tasks == 0 && old.extent.valid()) {
    free_locked(old.extent);
    old.extent = {};
  }
  if (entry.extent.valid()) free_locked(entry.extent);
  entry = {version, extent, 0};
  publish(entry);
  return version;
}

Result<std::uint32_t> InputArena::edit_broadcast(const std::function<void(std::span<std::byte>)>& edit) {
  const std::lock_guard lock(mutex_);
  if (newest_ == 0) return fail(ErrorCode::not_found, "there is no broadcast to edit", "call broadcast first");
  Broadcast& old = broadcasts_[newest_ % wire::kBroadcasts];
  if (old.open_tasks != 0) return fail(ErrorCode::busy, "broadcast " + std::to_string(old.version) + " is used by " + std::to_string(old.open_tasks) + " open tasks", "take their results first");
  const std::uint32_t version = newest_ + 1;
  Broadcast& entry = broadcasts_[version % wire::kBroadcasts];
  if (entry.open_tasks != 0) return fail(ErrorCode::busy, "broadcast " + std::to_string(entry.version) + " is still used by open tasks");
  if (entry.extent.valid()) free_locked(entry.extent);
  edit(bytes(old.extent));
  entry = {version, old.extent, 0};
  old.extent = {};
  publish(entry);
  return version;
}

std::uint32_t InputArena::hold_newest_broadcast() {
  if (newest_.load(std::memory_order_relaxed) == 0) return 0;
  const std::lock_guard lock(mutex_);
  const std::uint32_t version = newest_.load();
  ++broadcasts_[version % wire::kBroadcasts].open_tasks;
  return version;
}

void InputArena::drop_broadcast(std::uint32_t version) {
  if (version == 0) return;
  const std::lock_guard lock(mutex_);
  Broadcast& entry = broadcasts_[version % wire::kBroadcasts];
  DROVER_ASSERT(entry.version == version && entry.open_tasks > 0);
  if (--entry.open_tasks == 0 && version != newest_ && entry.extent.valid()) {
    free_locked(entry.extent);
    entry.extent = {};
  }
}

}  // namespace drover
