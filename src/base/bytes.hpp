#pragma once
/// Bytes: views of plain values, little-endian integers at any address, hex.

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace drover {

using ByteSpan = std::span<const std::byte>;
using MutableByteSpan = std::span<std::byte>;
using Bytes = std::vector<std::byte>;

inline ByteSpan bytes_of(std::string_view text) { return std::as_bytes(std::span(text.data(), text.size())); }
template <class T>
  requires std::is_trivially_copyable_v<T>
ByteSpan bytes_of_value(const T& value) {
  return std::as_bytes(std::span(&value, 1));
}
inline std::string_view text_view(ByteSpan bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }
inline std::string to_string(ByteSpan bytes) { return std::string(text_view(bytes)); }
inline Bytes to_bytes(std::string_view text) {
  const ByteSpan view = bytes_of(text);
  return Bytes(view.begin(), view.end());
}

/// Writes `value` at `to`, little-endian, any alignment. The caller owns sizeof(T) bytes there.
template <std::unsigned_integral T>
void put_le(std::byte* to, T value) {
  for (std::size_t i = 0; i < sizeof(T); ++i) to[i] = static_cast<std::byte>(static_cast<unsigned char>(value >> (8 * i)));
}
template <std::unsigned_integral T>
T get_le(const std::byte* from) {
  T value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) value = static_cast<T>(value | (static_cast<T>(from[i]) << (8 * i)));
  return value;
}
/// Appends `value`.
template <std::unsigned_integral T>
void append_le(Bytes& to, T value) {
  const std::size_t at = to.size();
  to.resize(at + sizeof(T));
  put_le(to.data() + at, value);
}
/// Takes a value off the front; nothing if there are too few bytes left, and then `from` is unchanged.
template <std::unsigned_integral T>
std::optional<T> take_le(ByteSpan& from) {
  if (from.size() < sizeof(T)) return std::nullopt;
  const T value = get_le<T>(from.data());
  from = from.subspan(sizeof(T));
  return value;
}

/// Lower-case, two digits a byte.
std::string hex_of(ByteSpan bytes);
/// Nothing for an odd length or a character that is no hex digit.
std::optional<Bytes> bytes_of_hex(std::string_view hex);

}  // namespace drover
