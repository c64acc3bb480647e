#pragma once
/// The text of a checkpoint's manifest and back. Canonical: the same manifest always gives the same bytes, because its SHA-256 is the
/// checkpoint's id. Format and worked example: docs/checkpoint_format.md.

#include <functional>
#include <string>
#include <string_view>

#include "drover/checkpoint.hpp"
#include "store/hash.hpp"

namespace drover::store {

std::string text_of(const Manifest& manifest);
/// Errors: corrupt, saying which field. Whatever is read gives the same text again, or it is refused.
Result<Manifest> parse_manifest(std::string_view text);
std::string id_of(const Manifest& manifest);

/// The tensors of a safetensors file, by its header: 8 bytes length, little-endian; JSON {name: {dtype, shape, data_offsets}}; bytes.
/// Error: corrupt, where header and length do not fit (a file that was cut while it was saved).
Result<std::vector<Tensor>> safetensors_in(std::uint64_t file_bytes, const std::function<Result<Bytes>(std::uint64_t offset, std::size_t size)>& read);

/// A name that stays inside the directory it is put into: relative, no empty, `.` or `..` part, no NUL, at most 255 bytes a part.
bool is_safe_name(std::string_view name);

}  // namespace drover::store
