#pragma once
/// A histogram of non-negative integers (nanoseconds, bytes) whose buckets grow in proportion to the value: 16 to an octave, so
/// a percentile is at most 1/16 above the truth. Fixed size, no allocation, adding is a few instructions; two merge by addition.

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace drover {

class Histogram {
 public:
  static constexpr unsigned kSubBits = 4;
  static constexpr std::size_t kBuckets = (64 - kSubBits + 1) << kSubBits;

  void add(std::uint64_t value, std::uint64_t times = 1) {
    counts_[bucket_of(value)] += times;
    count_ += times;
    sum_ += value * times;
    if (value > max_) max_ = value;
    if (value < min_) min_ = value;
  }
  void merge(const Histogram& other) {
    for (std::size_t i = 0; i < kBuckets; ++i) counts_[i] += other.counts_[i];
    count_ += other.count_;
    sum_ += other.sum_;
    if (other.max_ > max_) max_ = other.max_;
    if (other.min_ < min_) min_ = other.min_;
  }
  void clear() { *this = Histogram(); }

  std::uint64_t count() const { return count_; }
  std::uint64_t sum() const { return sum_; }
  std::uint64_t min() const { return count_ == 0 ? 0 : min_; }
  std::uint64_t max() const { return max_; }
  double mean() const { return count_ == 0 ? 0.0 : static_cast<double>(sum_) / static_cast<double>(count_); }

  /// The smallest bucket bound that at least `percent` (0..100) of the values do not exceed, never above max(); 0 when empty.
  std::uint64_t percentile(double percent) const {
    if (count_ == 0) return 0;
    double rank = percent / 100.0 * static_cast<double>(count_);
    if (rank < 1.0) rank = 1.0;
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < kBuckets; ++i) {
      seen += counts_[i];
      if (static_cast<double>(seen) >= rank) return upper_bound(i) < max_ ? upper_bound(i) : max_;
    }
    return max_;
  }

  std::uint64_t bucket_count(std::size_t bucket) const { return counts_[bucket]; }
  static constexpr std::size_t bucket_of(std::uint64_t value) {
    if (value < (1u << kSubBits)) return static_cast<std::size_t>(value);
    const unsigned top = static_cast<unsigned>(std::bit_width(value)) - 1;  // >= kSubBits
    const std::uint64_t sub = (value >> (top - kSubBits)) & ((1u << kSubBits) - 1);
    return (static_cast<std::size_t>(top - kSubBits + 1) << kSubBits) + static_cast<std::size_t>(sub);
  }
  /// The largest value that falls into the bucket.
  static constexpr std::uint64_t upper_bound(std::size_t bucket) {
    if (bucket < (1u << kSubBits)) return bucket;
    const unsigned shift = static_cast<unsigned>(bucket >> kSubBits) - 1;
    const std::uint64_t sub = bucket & ((1u << kSubBits) - 1);
    return ((((std::uint64_t{1} << kSubBits) + sub) << shift) - 1) + (std::uint64_t{1} << shift);
  }

 private:
  std::array<std::uint64_t, kBuckets> counts_{};
  std::uint64_t count_ = 0, sum_ = 0, max_ = 0, min_ = ~std::uint64_t{0};
};

}  // namespace drover
