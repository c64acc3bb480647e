#pragma once
/// Words people type and read: durations, sizes, near names.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "drover/types/error.hpp"
#include "drover/types/outcome.hpp"  // text_of(Nanos), parse_duration
#include "drover/types/time.hpp"

namespace drover {

/// `4096`, `64K`, `2GiB`, `1.5 MB`: K M G T (with or without iB) are powers of 1024, KB MB GB TB are powers of 1000. Error: usage.
Result<std::uint64_t> parse_bytes(std::string_view text);

/// `0 B`, `4.0 KiB`, `1.5 GiB`.
std::string text_of_bytes(std::uint64_t bytes);

/// The candidate closest to `word` by insertions, deletions, replacements and swaps of neighbours, when it is close enough to be
/// meant (at most a third of the letters, at least one); for "did you mean 'solve'?".
std::optional<std::string_view> nearest_name(std::string_view word, std::span<const std::string_view> candidates);

}  // namespace drover
