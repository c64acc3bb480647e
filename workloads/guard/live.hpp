#pragma once
/// What the running attempt has reached, for people who look (`drover top`, the progress line): cells of the pool's shared segment that
/// the worker writes and the client thread reads. Nothing is decided by them; what counts is the attempt's report.

#include <atomic>
#include <cstdint>
#include <span>
#include <string>

#include "drover/types/time.hpp"
#include "guard/progress.hpp"

namespace drover::guard {

class LiveAttempt {
 public:
  static constexpr std::size_t kBytes = 4096;

  /// `segment`: at least kBytes, zero at first.
  static LiveAttempt in(std::span<std::byte> segment) { return LiveAttempt(*reinterpret_cast<Cells*>(segment.data())); }

  void write(std::uint64_t step, Phase phase, std::uint64_t processes, std::uint64_t rss_bytes) const;
  void committed(std::uint64_t step, TimePoint at) const;

  struct Seen {
    std::uint64_t step = 0;
    std::string text;  ///< ", step 1200, phase save, 3 processes, 1.2 GiB, checkpoint at step 1000 12 s ago"
  };
  Seen read(TimePoint now) const;

 private:
  using Cell = std::atomic<std::uint64_t>;
  struct Cells {
    Cell step, phase, processes, rss_bytes, checkpoint_step, checkpoint_at_ns;  ///< checkpoint_at_ns 0: none yet
  };
  static_assert(sizeof(Cells) <= kBytes && Cell::is_always_lock_free);
  explicit LiveAttempt(Cells& cells) : cells_(&cells) {}
  Cells* cells_;
};

}  // namespace drover::guard
