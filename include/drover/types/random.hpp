#pragma once
/// Random numbers that are the same on every machine, compiler and worker count. A task's stream is a function of the job's seed
/// and the task's id, never of worker, attempt or time: that is half of the promise "the same answer under chaos".

#include <cstdint>

#include "drover/types/ids.hpp"

namespace drover {

/// Finaliser of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014; constants of
/// Stafford's variant 13). A bijection of 64 bits: different inputs never collide.
constexpr std::uint64_t splitmix64(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

/// Seed of one task's stream.
constexpr std::uint64_t stream_seed(std::uint64_t job_seed, std::uint64_t task_id) {
  return splitmix64(splitmix64(job_seed) ^ splitmix64(task_id + 0x632be59bd9b4e019u));
}
constexpr std::uint64_t stream_seed(std::uint64_t job_seed, TaskId task) { return stream_seed(job_seed, task.value); }

/// SplitMix64 as a counter-based generator: number i is a pure function of (seed, i), so a stream can be cut, skipped and
/// continued. Satisfies std::uniform_random_bit_generator, but use below() and unit(): the standard distributions differ
/// between libraries.
class Rng {
 public:
  using result_type = std::uint64_t;
  constexpr explicit Rng(std::uint64_t seed) : state_(seed) {}
  constexpr Rng(std::uint64_t job_seed, TaskId task) : state_(stream_seed(job_seed, task)) {}

  static constexpr std::uint64_t min() { return 0; }
  static constexpr std::uint64_t max() { return ~std::uint64_t{0}; }
  constexpr std::uint64_t operator()() {
    const std::uint64_t out = splitmix64(state_);
    state_ += kStep;
    return out;
  }
  /// Uniform in [0, n), n >= 1, without bias (Lemire, Fast Random Integer Generation in an Interval, 2019).
  constexpr std::uint64_t below(std::uint64_t n) {
    __extension__ using Wide = unsigned __int128;
    Wide product = static_cast<Wide>((*this)()) * n;
    if (static_cast<std::uint64_t>(product) < n) {
      const std::uint64_t threshold = (0 - n) % n;
      while (static_cast<std::uint64_t>(product) < threshold) product = static_cast<Wide>((*this)()) * n;
    }
    return static_cast<std::uint64_t>(product >> 64);
  }
  /// Uniform in [0, 1), 53 bits.
  constexpr double unit() { return static_cast<double>((*this)() >> 11) * 0x1.0p-53; }
  /// True with probability p.
  constexpr bool chance(double p) { return unit() < p; }
  /// As if n numbers had been taken.
  constexpr void skip(std::uint64_t n) { state_ += kStep * n; }
  /// What to store to continue the stream: Rng(state()).
  constexpr std::uint64_t state() const { return state_; }
  friend constexpr bool operator==(const Rng&, const Rng&) = default;

 private:
  static constexpr std::uint64_t kStep = 0x9e3779b97f4a7c15u;
  std::uint64_t state_;
};

}  // namespace drover
