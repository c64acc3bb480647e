#pragma once
/// SHA-256 as a value: identity of games, layouts, tables and checkpoints.

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "drover/types/bytes.hpp"

namespace drover::solve {

using Hash256 = std::array<std::uint8_t, 32>;

Hash256 sha256(BytesView bytes);
Hash256 sha256(std::string_view text);
/// 64 lower-case hex digits.
std::string hex(const Hash256& hash);

/// The same over pieces that are not in one place.
class Sha256 {
 public:
  Sha256();
  Sha256(Sha256&&) noexcept;
  ~Sha256();
  void add(BytesView bytes);
  void add(std::string_view text);
  Hash256 finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace drover::solve
