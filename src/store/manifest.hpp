#pragma once
/// The text of a checkpoint's manifest and back. Canonical: the same manifest always gives the same bytes, because its SHA-256 is the
/// checkpoint's id. Format and worked example: docs/checkpoint_format.md.

#include <string>
#include <string_view>

#include "drover/checkpoint.hpp"
#include "store/hash.hpp"

namespace drover::store {

std::string text_of(const Manifest& manifest);
/// Errors: corrupt, saying which field. Whatever is read gives the same text again, or it is refused.
Result<Manifest> parse_manifest(std::string_view text);
std::string id_of(const Manifest& manifest);

/// A name that stays inside the directory it is put into: relative, no empty, `.` or `..` part, no NUL, at most 255 bytes a part.
bool is_safe_name(std::string_view name);

}  // namespace drover::store
