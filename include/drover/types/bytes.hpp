#pragma once
/// Bytes as seen and as owned.

#include <cstddef>
#include <span>
#include <vector>

namespace drover {
using BytesView = std::span<const std::byte>;
using Bytes = std::vector<std::byte>;
}  // namespace drover
