#pragma once
/// Tables of an enumeration's words, read both ways.

#include <algorithm>
#include <iterator>
#include <optional>
#include <string_view>
#include <utility>

namespace drover::judge {

template <class T, std::size_t N>
using Words = const std::pair<T, std::string_view> (&)[N];

template <class T, std::size_t N>
std::string_view word_of(T value, Words<T, N> table) {
  return std::ranges::find(table, value, &std::pair<T, std::string_view>::first)->second;
}
/// Nothing: it is none of them.
template <class T, std::size_t N>
std::optional<T> value_of(std::string_view word, Words<T, N> table) {
  const auto found = std::ranges::find(table, word, &std::pair<T, std::string_view>::second);
  return found == std::end(table) ? std::nullopt : std::optional<T>(found->first);
}

}  // namespace drover::judge
