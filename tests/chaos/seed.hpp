#pragma once
// Every chaos test draws its faults from one seed, prints it, and takes it again from DROVER_TEST_SEED: the same faults at the
// same points of the work, as far as the machine's own timing allows.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>

namespace drover::test {

inline std::uint64_t chaos_seed() {
  const char* given = std::getenv("DROVER_TEST_SEED");
  const std::uint64_t seed = given != nullptr && *given != '\0' ? std::strtoull(given, nullptr, 0) : std::random_device()();
  std::printf("seed: DROVER_TEST_SEED=%llu\n", static_cast<unsigned long long>(seed));
  std::fflush(stdout);
  return seed;
}

}  // namespace drover::test
