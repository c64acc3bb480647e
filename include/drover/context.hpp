#pragma once
/// What a task function sees of the runtime while it runs, in a worker process. One Context per worker, used by the one thread
/// that runs tasks; it lives as long as the worker. Nothing here blocks, allocates or makes a system call unless it says so.

#include <atomic>
#include <cstdint>
#include <span>

#include "drover/types/bytes.hpp"
#include "drover/types/error.hpp"
#include "drover/types/ids.hpp"
#include "drover/types/random.hpp"

namespace drover {

class Context {
 public:
  TaskId task() const { return task_; }
  Epoch epoch() const { return epoch_; }
  SlotId slot() const { return slot_; }
  Incarnation incarnation() const { return incarnation_; }

  /// The task's own random stream: a function of (job seed, task id) only, so a retry, another worker or a resumed job draws
  /// the same numbers. Starts anew with every task.
  Rng& rng() { return rng_; }
  std::uint64_t job_seed() const { return job_seed_; }

  /// "I am advancing": call from the work loop, never from a helper thread. Any growing number will do; one relaxed store.
  void progress(std::uint64_t done) { progress_->store(done, std::memory_order_relaxed); }
  /// True once the worker was asked to stop (cancel, recycling, shutdown): return soon, what you return is still taken.
  bool stopping() const { return stop_->load(std::memory_order_relaxed) != 0; }

  /// The broadcast version this task was leased with; stays mapped and unchanged until the task ends. Empty if there is none.
  BytesView broadcast() const { return broadcast_; }
  std::uint32_t broadcast_version() const { return broadcast_version_; }
  /// PoolOptions::setup, the same for every worker.
  BytesView setup() const { return setup_; }
  /// PoolOptions::shared_segment_bytes of memory that every worker and the pool's owner map writable. Every cell must be valid
  /// by itself (aligned 8-byte atomics, no locks): any worker may be killed between two instructions. Empty if there is none.
  std::span<std::byte> shared_segment() const { return shared_; }

 protected:
  Context() = default;
  ~Context() = default;
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  TaskId task_{};
  Epoch epoch_{};
  SlotId slot_{};
  Incarnation incarnation_{};
  std::uint64_t job_seed_ = 0;
  Rng rng_{0};
  std::atomic<std::uint64_t>* progress_ = nullptr;
  const std::atomic<std::uint32_t>* stop_ = nullptr;
  BytesView broadcast_{};
  std::uint32_t broadcast_version_ = 0;
  BytesView setup_{};
  std::span<std::byte> shared_{};
};

/// Where a task function puts its result's bytes. Results up to 32 bytes travel inside the completion slot, larger ones in
/// the worker's warm arena without a further copy.
class ResultWriter {
 public:
  /// `size` writable bytes, uninitialised, 64-byte aligned; a second call replaces the first. Up to `result_bytes_max()`, more
  /// is ErrorCode::no_space. Waits while earlier results of this worker still fill the arena.
  virtual Result<std::span<std::byte>> reserve(std::size_t size) = 0;
  /// Gives back the tail of the reserved bytes: the result is its first `size` bytes.
  virtual void truncate(std::size_t size) = 0;
  Result<void> write(BytesView bytes);

 protected:
  ~ResultWriter() = default;
};

/// The largest result or input: 384 MiB.
inline constexpr std::uint64_t kPayloadBytesMax = std::uint64_t{384} << 20;

}  // namespace drover
