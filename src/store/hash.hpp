#pragma once
/// SHA-256 for what people compare and keep (checkpoints, digests, specs), XXH3 for what only this program compares.

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "drover/types/ids.hpp"

namespace drover::store {

struct Sha256 {
  std::array<std::uint8_t, 32> bytes{};
  friend constexpr auto operator<=>(const Sha256&, const Sha256&) = default;
};
std::string hex_of(const Sha256& hash);                       ///< 64 lower-case digits
std::optional<Sha256> parse_sha256(std::string_view hex);     ///< exactly 64 digits, or nothing

Sha256 sha256_of(std::span<const std::byte> bytes);
Sha256 sha256_of(std::string_view text);

/// The same over pieces. Move-only; `finish` may be called once.
class Sha256Stream {
 public:
  Sha256Stream();
  ~Sha256Stream();
  Sha256Stream(Sha256Stream&&) noexcept;
  Sha256Stream& operator=(Sha256Stream&&) noexcept;
  void update(std::span<const std::byte> bytes);
  Sha256 finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

std::uint64_t xxh3_64(std::span<const std::byte> bytes);
using Xxh128 = std::array<std::byte, 16>;
Xxh128 xxh3_128(std::span<const std::byte> bytes);

/// The same over pieces; 20 times as fast as SHA-256. `finish` may be called once.
class Xxh128Stream {
 public:
  Xxh128Stream();
  ~Xxh128Stream();
  Xxh128Stream(const Xxh128Stream&) = delete;
  Xxh128Stream& operator=(const Xxh128Stream&) = delete;
  void update(std::span<const std::byte> bytes);
  Xxh128 finish();

 private:
  void* state_;
};

/// What a task's (id, spec hash) adds to the fold of a range. A range stores the wrapping sum of these, so ranges merge without
/// the tasks in them and a resumed input is checked range by range.
std::uint64_t fold_of(TaskId task, std::uint64_t spec_hash);

}  // namespace drover::store
