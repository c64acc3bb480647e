// Outcomes and endings as they stand in a ledger that anybody may have edited: refused, or read and written back as the same words.

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/text.hpp"
#include "drover/types/ending.hpp"
#include "drover/types/outcome.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace drover;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto outcome = parse_outcome(text)) {
    const std::string once = json_of(*outcome);
    const auto again = parse_outcome(once);
    if (!again || json_of(*again) != once) std::abort();
  }
  if (const auto ending = parse_ending(text)) {
    const std::string once = json_of(*ending);
    const auto again = parse_ending(once);
    if (!again || json_of(*again) != once) std::abort();
  }
  (void)parse_duration(text);
  (void)parse_bytes(text);
  return 0;
}
