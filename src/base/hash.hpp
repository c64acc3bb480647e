#pragma once
/// Small hashes for tables and seeds. Content hashes (checkpoints, digests) are xxHash or SHA-256 in store, never these.

#include <cstdint>
#include <span>
#include <string_view>

#include "drover/types/random.hpp"  // splitmix64, stream_seed, Rng

namespace drover {

constexpr std::uint64_t hash_combine(std::uint64_t seed, std::uint64_t value) { return splitmix64(seed ^ splitmix64(value)); }

/// FNV-1a, 64 bits, finalised; for names.
constexpr std::uint64_t hash_of(std::string_view text) {
  std::uint64_t h = 0xcbf29ce484222325u;
  for (const char c : text) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return splitmix64(h);
}

}  // namespace drover
