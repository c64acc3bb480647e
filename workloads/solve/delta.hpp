#pragma once
/// The result of one batch in exact mode: additions to the cells of a table, as bytes for the channel. A receiver trusts
/// nothing: `apply_delta` checks every field before it writes the first cell.
///
///   delta   = magic u32 ("dltA") | encoding u32 | generation u64 | batch u64 | iterations u64 | cells u64 | payload
///   runs    = { gap varint | length varint | length * zigzag varint }*   gap: cells left out since the last run;
///             length >= 1; ends with the payload
///   dense   = cells * int64, taken when it is the smaller one
/// Integers are little-endian; a varint is 7 bits a byte, low bits first, at most 10 bytes.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "drover/types/bytes.hpp"
#include "drover/types/error.hpp"

namespace drover::solve {

inline constexpr std::size_t kDeltaHeaderBytes = 40;

struct DeltaHeader {
  std::uint64_t generation = 0;
  std::uint64_t batch = 0;
  std::uint64_t iterations = 0;
  std::uint64_t cells = 0;
  friend bool operator==(const DeltaHeader&, const DeltaHeader&) = default;
};

/// Builds a delta from additions given in ascending cell order.
class DeltaEncoder {
 public:
  explicit DeltaEncoder(const DeltaHeader& header);
  /// Zero values are dropped. `cell` must be greater than the last one.
  void add(std::uint64_t cell, std::int64_t value) {
    if (value == 0) return;
    cells_.push_back(cell);
    values_.push_back(value);
  }
  /// The smaller of both encodings.
  Bytes finish();

 private:
  DeltaHeader header_;
  std::vector<std::uint64_t> cells_;
  std::vector<std::int64_t> values_;
};

/// Bytes no delta of a table of `cells` cells exceeds.
constexpr std::size_t delta_bytes_max(std::uint64_t cells) { return kDeltaHeaderBytes + cells * 8; }

/// Checks everything and adds to `sums`. `expected` is what was asked for.
/// Errors: corrupt for bytes no honest worker writes, mismatch if it answers another batch, refused if a cell would leave
/// +-kCellLimit. `sums` is unchanged on corrupt and mismatch; after refused the job is over.
Result<void> apply_delta(BytesView bytes, const DeltaHeader& expected, std::span<std::int64_t> sums);

}  // namespace drover::solve
