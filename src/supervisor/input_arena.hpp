#pragma once
/// The memory all workers read: task inputs above 32 bytes, the setup bytes and broadcasts. One sealed memfd per pool, written
/// by this process only, mapped read-only by every worker. An input lives here once, from submission to the task's end, whatever
/// number of attempts that takes.
///
/// Threads: all calls from any thread. Freed space of one size class is reused last-in first-out, so a steady job touches
/// the same warm pages. Memory once touched stays the pool's until its end (at most the peak of each size class): the seal that
/// keeps workers from writing here (F_SEAL_FUTURE_WRITE) also refuses to punch holes.

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "drover/types/bytes.hpp"
#include "drover/types/error.hpp"
#include "os/memfd.hpp"
#include "wire/layout.hpp"

namespace drover {

/// A piece of the arena. Empty when bytes == 0.
struct ArenaExtent {
  std::uint64_t offset = 0;   ///< from the start of the memfd; a multiple of wire::kGranule
  std::uint32_t bytes = 0;    ///< as asked for
  std::uint8_t size_class = 0;
  bool valid() const { return bytes != 0; }
  std::uint32_t granule() const { return static_cast<std::uint32_t>(offset / wire::kGranule); }
};

class InputArena {
 public:
  /// Address space for `capacity` bytes; memory is used as it is touched. `setup` is copied in.
  static Result<std::unique_ptr<InputArena>> create(std::uint64_t capacity, BytesView setup);

  /// no_space when the address space is used up.
  Result<ArenaExtent> allocate(std::uint64_t bytes);
  void free(const ArenaExtent& extent);
  std::span<std::byte> bytes(const ArenaExtent& extent) const { return {mapping_.data() + extent.offset, extent.bytes}; }

  /// Makes `bytes` the newest broadcast. busy: the entry it would replace is still referred to by an open task.
  Result<std::uint32_t> broadcast(BytesView bytes);
  /// The newest broadcast's bytes to be changed in place, under a new version. busy: a task that was given it is open.
  Result<std::uint32_t> edit_broadcast(const std::function<void(std::span<std::byte>)>& edit);
  /// A task begins being open with the newest broadcast; returns its version, 0 if there is none (then without a lock).
  std::uint32_t hold_newest_broadcast();
  /// That task is open no more.
  void drop_broadcast(std::uint32_t version);

  int fd() const { return memory_.fd(); }
  std::uint64_t size() const { return memory_.size(); }

 private:
  static constexpr std::size_t kClasses = 48;
  struct Broadcast {
    std::uint32_t version = 0;
    ArenaExtent extent{};
    std::uint64_t open_tasks = 0;
  };
  InputArena(Memfd memory, Mapping mapping) : memory_(std::move(memory)), mapping_(std::move(mapping)) {}
  wire::PoolPage& page() { return *reinterpret_cast<wire::PoolPage*>(mapping_.data()); }
  void publish(Broadcast& entry);
  void free_locked(const ArenaExtent& extent);

  Memfd memory_;
  Mapping mapping_;
  std::mutex mutex_;
  std::uint64_t bump_ = wire::kPoolArenaOffset;
  std::array<std::vector<std::uint64_t>, kClasses> free_;
  std::array<Broadcast, wire::kBroadcasts> broadcasts_{};
  std::atomic<std::uint32_t> newest_{0};
};

}  // namespace drover
