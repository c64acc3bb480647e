// What solve reads from elsewhere: deltas from workers, checkpoints and strategies from disk.

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "solve/checkpoint_payload.hpp"
#include "solve/delta.hpp"
#include "solve/strategy_file.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace drover;
  if (size == 0) return 0;
  const std::uint8_t which = data[0] % 4;
  const BytesView bytes(reinterpret_cast<const std::byte*>(data + 1), size - 1);
  if (which < 2) {
    solve::DeltaHeader expected{.generation = 1, .batch = 2, .iterations = 3, .cells = 24};
    std::array<std::int64_t, 24> sums{};
    // An honest head, or the first check would end nearly everything.
    Bytes delta(bytes.begin(), bytes.end());
    if (which == 1) {
      solve::DeltaEncoder encoder(expected);
      Bytes honest = encoder.finish();
      delta.resize(std::max(delta.size(), solve::kDeltaHeaderBytes));
      for (std::size_t i = 0; i < solve::kDeltaHeaderBytes; ++i)
        if (i < 4 || i >= 8) delta[i] = honest[i];  // the encoding stays foreign
      delta[4] = delta[4] & std::byte{3};
      delta[5] = delta[6] = delta[7] = std::byte{0};
    }
    const auto applied = solve::apply_delta(delta, expected, sums);
    if (!applied && applied.error().code() != ErrorCode::refused)
      for (const std::int64_t cell : sums)
        if (cell != 0) std::abort();  // refused bytes must leave the table as it was
  } else if (which == 2) {
    (void)solve::decode_checkpoint(bytes);
  } else {
    (void)solve::read_strategy(std::string_view(reinterpret_cast<const char*>(data + 1), size - 1), nullptr);
  }
  return 0;
}
