#include "solve/delta.hpp"

#include <fmt/core.h>

#include <bit>
#include <cstring>

#include "solve/table.hpp"

namespace drover::solve {
namespace {

static_assert(std::endian::native == std::endian::little, "fields are copied as they are");

constexpr std::uint32_t kMagic = 0x41746c64;  // "dltA"
enum class Encoding : std::uint32_t { runs = 1, dense = 2 };

constexpr std::uint64_t zigzag(std::int64_t x) {
  return (static_cast<std::uint64_t>(x) << 1) ^ static_cast<std::uint64_t>(x >> 63);
}
constexpr std::int64_t unzigzag(std::uint64_t x) {
  return static_cast<std::int64_t>((x >> 1) ^ (~(x & 1) + 1));
}

class Writer {
 public:
  explicit Writer(std::size_t reserve) { bytes_.resize(reserve); }
  template <class T>
  void fixed(T value) {
    std::memcpy(bytes_.data() + at_, &value, sizeof value);
    at_ += sizeof value;
  }
  void varint(std::uint64_t value) {
    while (value >= 0x80) {
      bytes_[at_++] = static_cast<std::byte>(value | 0x80);
      value >>= 7;
    }
    bytes_[at_++] = static_cast<std::byte>(value);
  }
  std::size_t size() const { return at_; }
  Bytes take() && {
    bytes_.resize(at_);
    return std::move(bytes_);
  }

 private:
  Bytes bytes_;
  std::size_t at_ = 0;
};

class Reader {
 public:
  explicit Reader(BytesView bytes) : at_(bytes.data()), end_(bytes.data() + bytes.size()) {}
  bool empty() const { return at_ == end_; }
  /// False on a varint that is cut off or longer than 64 bits.
  bool varint(std::uint64_t& value) {
    value = 0;
    for (unsigned shift = 0; shift < 64 && at_ != end_; shift += 7) {
      const auto byte = static_cast<std::uint8_t>(*at_++);
      if (shift == 63 && byte > 1) return false;
      value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return true;
    }
    return false;
  }

 private:
  const std::byte* at_;
  const std::byte* end_;
};

template <class T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

bool in_range(std::int64_t value) { return value >= -kCellLimit && value <= kCellLimit; }

/// Calls visit(cell, value) for every addition; false if the payload is malformed.
template <class Visit>
bool for_each_addition(Encoding encoding, BytesView payload, std::uint64_t cells, Visit&& visit) {
  if (encoding == Encoding::dense) {
    if (payload.size() != cells * 8) return false;
    for (std::uint64_t cell = 0; cell < cells; ++cell) {
      const auto value = load<std::int64_t>(payload.data() + cell * 8);
      if (!in_range(value)) return false;
      visit(cell, value);
    }
    return true;
  }
  Reader reader(payload);
  std::uint64_t cell = 0;
  while (!reader.empty()) {
    std::uint64_t gap = 0, length = 0;
    if (!reader.varint(gap) || !reader.varint(length)) return false;
    if (gap > cells - cell || length == 0 || length > cells - cell - gap) return false;
    cell += gap;
    for (const std::uint64_t end = cell + length; cell < end; ++cell) {
      std::uint64_t word = 0;
      if (!reader.varint(word)) return false;
      const std::int64_t value = unzigzag(word);
      if (!in_range(value)) return false;
      visit(cell, value);
    }
  }
  return true;
}

}  // namespace

DeltaEncoder::DeltaEncoder(const DeltaHeader& header) : header_(header) {}

Bytes DeltaEncoder::finish() {
  const std::size_t dense_bytes = delta_bytes_max(header_.cells);
  // A run of one costs at most two varints and a value; nothing here is longer than 30 bytes.
  Writer writer(kDeltaHeaderBytes + cells_.size() * 30 + 64);
  const auto head = [this](Writer& w, Encoding encoding) {
    w.fixed(kMagic);
    w.fixed(encoding);
    w.fixed(header_.generation);
    w.fixed(header_.batch);
    w.fixed(header_.iterations);
    w.fixed(header_.cells);
  };
  head(writer, Encoding::runs);
  std::uint64_t position = 0;
  for (std::size_t i = 0; i < cells_.size() && writer.size() <= dense_bytes;) {
    std::size_t end = i + 1;
    while (end < cells_.size() && cells_[end] == cells_[end - 1] + 1) ++end;
    writer.varint(cells_[i] - position);
    writer.varint(end - i);
    position = cells_[i] + (end - i);
    for (; i < end; ++i) writer.varint(zigzag(values_[i]));
  }
  if (writer.size() <= dense_bytes) return std::move(writer).take();

  Writer dense(dense_bytes);
  head(dense, Encoding::dense);
  std::vector<std::int64_t> all(header_.cells, 0);
  for (std::size_t i = 0; i < cells_.size(); ++i) all[cells_[i]] = values_[i];
  for (const std::int64_t value : all) dense.fixed(value);
  return std::move(dense).take();
}

Result<void> apply_delta(BytesView bytes, const DeltaHeader& expected, std::span<std::int64_t> sums) {
  const auto corrupt = [&](std::string_view what) {
    return fail(ErrorCode::corrupt, fmt::format("the delta of batch {} {}", expected.batch, what));
  };
  if (bytes.size() < kDeltaHeaderBytes) return corrupt(fmt::format("has {} bytes, less than its header", bytes.size()));
  if (bytes.size() > delta_bytes_max(expected.cells)) return corrupt(fmt::format("has {} bytes, more than its table", bytes.size()));
  if (load<std::uint32_t>(bytes.data()) != kMagic) return corrupt("does not begin with its magic");
  const auto encoding = load<Encoding>(bytes.data() + 4);
  if (encoding != Encoding::runs && encoding != Encoding::dense) return corrupt("has an unknown encoding");
  const DeltaHeader header{.generation = load<std::uint64_t>(bytes.data() + 8),
                           .batch = load<std::uint64_t>(bytes.data() + 16),
                           .iterations = load<std::uint64_t>(bytes.data() + 24),
                           .cells = load<std::uint64_t>(bytes.data() + 32)};
  if (header != expected || sums.size() != expected.cells) {
    return fail(ErrorCode::mismatch,
                fmt::format("asked for batch {} of generation {} ({} iterations, {} cells), got batch {} of generation {} ({} "
                            "iterations, {} cells)",
                            expected.batch, expected.generation, expected.iterations, expected.cells, header.batch,
                            header.generation, header.iterations, header.cells));
  }
  const auto payload = bytes.subspan(kDeltaHeaderBytes);
  if (!for_each_addition(encoding, payload, header.cells, [](std::uint64_t, std::int64_t) {}))
    return corrupt("has a payload no worker writes");
  bool overflow = false;
  for_each_addition(encoding, payload, header.cells, [&](std::uint64_t cell, std::int64_t value) {
    std::int64_t sum = 0;
    overflow |= __builtin_add_overflow(sums[cell], value, &sum) || !in_range(sum);
    sums[cell] = sum;
  });
  if (overflow)
    return fail(ErrorCode::refused, fmt::format("batch {} drives a cell beyond 2^62: the table is full", expected.batch),
                "fewer iterations, smaller bets, or discounting for longer");
  return {};
}

}  // namespace drover::solve
