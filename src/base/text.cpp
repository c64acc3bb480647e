#include "base/text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <vector>

namespace drover {
namespace {

constexpr bool is_space(char c) { return c == ' ' || c == '\t'; }
constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }

void skip_spaces(std::string_view& text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
}

/// A decimal number without sign or exponent off the front.
std::optional<long double> take_number(std::string_view& text) {
  std::size_t length = 0;
  bool digit = false;
  bool point = false;
  while (length < text.size() && (is_digit(text[length]) || (text[length] == '.' && !point))) {
    digit |= is_digit(text[length]);
    point |= text[length] == '.';
    ++length;
  }
  if (!digit) return std::nullopt;
  long double value = 0;
  long double scale = 1;
  point = false;
  for (const char c : text.substr(0, length)) {
    if (c == '.') {
      point = true;
    } else {
      value = value * 10 + static_cast<long double>(c - '0');
      if (point) scale *= 10;
    }
  }
  text.remove_prefix(length);
  return value / scale;
}

std::string_view take_word(std::string_view& text) {
  std::size_t length = 0;
  while (length < text.size() && ((text[length] | 32) >= 'a' && (text[length] | 32) <= 'z')) ++length;
  const std::string_view word = text.substr(0, length);
  text.remove_prefix(length);
  return word;
}

struct Unit {
  std::string_view name;
  long double factor;
};

constexpr Unit kTimeUnits[] = {{"ns", 1.0L},     {"us", 1e3L},      {"ms", 1e6L},       {"s", 1e9L},
                               {"m", 60e9L},     {"min", 60e9L},    {"h", 3600e9L},     {"d", 86400e9L}};
constexpr long double kKi = 1024.0L;
constexpr Unit kSizeUnits[] = {{"", 1.0L},           {"B", 1.0L},
                               {"K", kKi},           {"KiB", kKi},           {"KB", 1e3L},  {"kB", 1e3L}, {"k", kKi},
                               {"M", kKi* kKi},      {"MiB", kKi* kKi},      {"MB", 1e6L},
                               {"G", kKi* kKi* kKi}, {"GiB", kKi* kKi* kKi}, {"GB", 1e9L},
                               {"T", kKi* kKi* kKi* kKi}, {"TiB", kKi* kKi* kKi* kKi}, {"TB", 1e12L}};

}  // namespace

Result<Nanos> parse_duration(std::string_view text) {
  const auto refuse = [&](std::string_view why) {
    return fail(ErrorCode::usage, fmt::format("'{}' is not a duration: {}", text, why),
                "write for example 250ms, 1.5h, 2m30s or none; units: ns us ms s m h d");
  };
  std::string_view rest = text;
  skip_spaces(rest);
  if (rest == "none" || rest == "unlimited") return kUnlimited;
  if (rest.empty()) return refuse("it is empty");
  long double total = 0;
  while (!rest.empty()) {
    const auto number = take_number(rest);
    if (!number) return refuse(rest.front() == '-' ? "it is negative" : "a number is expected");
    skip_spaces(rest);
    const std::string_view word = take_word(rest);
    if (word.empty()) return refuse("a unit is missing");
    const auto* const unit = std::ranges::find(kTimeUnits, word, &Unit::name);
    if (unit == std::end(kTimeUnits)) return refuse(fmt::format("unknown unit '{}'", word));
    total += *number * unit->factor;
    skip_spaces(rest);
  }
  if (total >= 9.2e18L) return refuse("it is longer than 292 years");
  return Nanos(static_cast<std::int64_t>(std::llround(total)));
}

Result<std::uint64_t> parse_bytes(std::string_view text) {
  const auto refuse = [&](std::string_view why) {
    return fail(ErrorCode::usage, fmt::format("'{}' is not a size: {}", text, why),
                "write for example 4096, 64K, 2GiB or 1.5GB (K M G T and KiB.. are powers of 1024, KB.. of 1000)");
  };
  std::string_view rest = text;
  skip_spaces(rest);
  if (rest.empty()) return refuse("it is empty");
  const auto number = take_number(rest);
  if (!number) return refuse(rest.front() == '-' ? "it is negative" : "a number is expected");
  skip_spaces(rest);
  const std::string_view word = take_word(rest);
  const auto* const unit = std::ranges::find(kSizeUnits, word, &Unit::name);
  if (unit == std::end(kSizeUnits)) return refuse(fmt::format("unknown unit '{}'", word));
  skip_spaces(rest);
  if (!rest.empty()) return refuse(fmt::format("'{}' follows the unit", rest));
  const long double total = *number * unit->factor;
  if (total >= 1.8e19L) return refuse("it is too large");
  return static_cast<std::uint64_t>(std::floor(total + 0.5L));
}

std::string text_of_bytes(std::uint64_t bytes) {
  if (bytes < 1024) return fmt::format("{} B", bytes);
  static constexpr std::array<const char*, 6> kNames = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  double value = static_cast<double>(bytes) / 1024.0;
  std::size_t unit = 0;
  while (value >= 1024.0 && unit + 1 < kNames.size()) {
    value /= 1024.0;
    ++unit;
  }
  return fmt::format("{:.1f} {}", value, kNames[unit]);
}

std::optional<std::string_view> nearest_name(std::string_view word, std::span<const std::string_view> candidates) {
  std::optional<std::string_view> best;
  std::size_t best_distance = std::max<std::size_t>(1, word.size() / 3) + 1;
  for (const std::string_view candidate : candidates) {
    // Optimal string alignment, three rows.
    std::vector<std::size_t> before(candidate.size() + 1);
    std::vector<std::size_t> last(candidate.size() + 1);
    std::vector<std::size_t> row(candidate.size() + 1);
    for (std::size_t j = 0; j <= candidate.size(); ++j) last[j] = j;
    for (std::size_t i = 1; i <= word.size(); ++i) {
      row[0] = i;
      for (std::size_t j = 1; j <= candidate.size(); ++j) {
        const std::size_t cost = word[i - 1] == candidate[j - 1] ? 0 : 1;
        row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + cost});
        if (i > 1 && j > 1 && word[i - 1] == candidate[j - 2] && word[i - 2] == candidate[j - 1]) {
          row[j] = std::min(row[j], before[j - 2] + 1);
        }
      }
      std::swap(before, last);
      std::swap(last, row);
    }
    if (last[candidate.size()] < best_distance) {
      best_distance = last[candidate.size()];
      best = candidate;
    }
  }
  return best;
}

}  // namespace drover
