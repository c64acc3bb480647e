#pragma once
/// What makes a task the same task after a resume: its function, its input's bytes and its effect class. Limits may change.

#include <string_view>

#include "drover/types/bytes.hpp"
#include "drover/types/task.hpp"
#include "store/hash.hpp"

namespace drover {
std::uint64_t spec_hash_of(std::string_view function, BytesView input, EffectClass effect);
}  // namespace drover
