/// XXH3 over the parts, each folded in turn, so that moving a byte from one part to the next changes the hash.
#include "supervisor/spec_hash.hpp"

#include "base/hash.hpp"

namespace drover {
std::uint64_t spec_hash_of(std::string_view function, BytesView input, EffectClass effect) {
  const std::uint64_t h = hash_combine(hash_of(function), store::xxh3_64(input));
  return hash_combine(h, static_cast<std::uint64_t>(effect));
}
}  // namespace drover
