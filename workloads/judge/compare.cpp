#include "judge/compare.hpp"

#include <charconv>
#include <cmath>

namespace drover::judge {
namespace {

/// The next word, or an empty one at the end. White space is ASCII's, whatever the locale.
std::string_view next_token(std::string_view& rest) {
  constexpr std::string_view kSpace(" \t\n\r\v\f");
  const std::size_t begin = rest.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) {
    rest = {};
    return {};
  }
  rest.remove_prefix(begin);
  const std::string_view token = rest.substr(0, rest.find_first_of(kSpace));
  rest.remove_prefix(token.size());
  return token;
}

std::optional<double> number(std::string_view token) {
  if (token.starts_with('+')) token.remove_prefix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(token.data(), token.data() + token.size(), value);
  if (error != std::errc() || end != token.data() + token.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

bool near(std::string_view printed, std::string_view expected, const IoTest& test) {
  const auto a = number(printed), b = number(expected);
  return a && b && (std::abs(*a - *b) <= test.absolute || std::abs(*a - *b) <= test.relative * std::abs(*b));
}

}  // namespace

bool agrees(std::string_view printed, const IoTest& test) {
  if (test.comparison == Comparison::exact) return printed == test.output;
  std::string_view expected = test.output;
  for (;;) {
    const std::string_view mine = next_token(printed), theirs = next_token(expected);
    if (mine.empty() && theirs.empty()) return true;
    if (mine != theirs && !(test.comparison == Comparison::floats && near(mine, theirs, test))) return false;
  }
}

}  // namespace drover::judge
