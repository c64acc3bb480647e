/// Schema: each option turns text into its field and back, and says in one phrase what it allows.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "base/assert.hpp"
#include "base/text.hpp"
#include "config/words.hpp"
#include "drover/config.hpp"

namespace drover {
namespace {

std::unexpected<Error> refuse(std::string why, std::string advice = {}) { return fail(ErrorCode::usage, std::move(why), std::move(advice)); }

/// `1 to 1024`, `at least 1`, `at most 9`; empty when every value is allowed.
template <class T, class Text>
std::string range_text(Range<T> range, T lowest, T highest, const Text& text) {
  if (range.min > lowest && range.max < highest) return range.min == range.max ? text(range.min) : text(range.min) + " to " + text(range.max);
  if (range.min > lowest) return "at least " + text(range.min);
  if (range.max < highest) return "at most " + text(range.max);
  return {};
}

std::string joined(std::string_view what, const std::string& range) {
  return range.empty() ? std::string(what) : range.starts_with("at ") ? fmt::format("{}, {}", what, range) : fmt::format("{} from {}", what, range);
}

}  // namespace

namespace config {

std::string duration_word(Nanos value) {
  if (value == kUnlimited) return "none";
  static constexpr std::array<std::pair<std::int64_t, const char*>, 6> kUnits{
      {{3'600'000'000'000, "h"}, {60'000'000'000, "m"}, {1'000'000'000, "s"}, {1'000'000, "ms"}, {1'000, "us"}, {1, "ns"}}};
  std::int64_t left = value.count();
  if (left <= 0) return "0s";
  std::string text;
  for (const auto& [size, unit] : kUnits) {
    if (const std::int64_t n = left / size; n > 0) {
      text += std::to_string(n) + unit;
      left -= n * size;
    }
  }
  return text;
}

std::string bytes_word(std::uint64_t value) {
  static constexpr std::array<std::pair<std::uint64_t, const char*>, 4> kUnits{
      {{std::uint64_t{1} << 40, "TiB"}, {std::uint64_t{1} << 30, "GiB"}, {std::uint64_t{1} << 20, "MiB"}, {std::uint64_t{1} << 10, "KiB"}}};
  for (const auto& [size, unit] : kUnits) {
    if (value != 0 && value % size == 0) return std::to_string(value / size) + unit;
  }
  return std::to_string(value);
}

std::string real_word(double value) {
  std::array<char, 64> buffer;
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value).ptr;
  return std::string(buffer.data(), end);
}

bool is_utf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const auto byte = [&](std::size_t at) { return at < text.size() ? static_cast<unsigned char>(text[at]) : 0U; };
    const unsigned lead = byte(i);
    std::size_t more = 0;
    unsigned code = lead;
    if (lead < 0x80) more = 0;
    else if (lead >= 0xC2 && lead < 0xE0) { more = 1; code = lead & 0x1F; }
    else if (lead >= 0xE0 && lead < 0xF0) { more = 2; code = lead & 0x0F; }
    else if (lead >= 0xF0 && lead < 0xF5) { more = 3; code = lead & 0x07; }
    else return false;
    for (std::size_t k = 1; k <= more; ++k) {
      if ((byte(i + k) & 0xC0) != 0x80) return false;
      code = code << 6 | (byte(i + k) & 0x3F);
    }
    if ((more == 2 && code < 0x800) || (more == 3 && (code < 0x10000 || code > 0x10FFFF)) || (code >= 0xD800 && code < 0xE000)) return false;
    i += more + 1;
  }
  return true;
}

std::string list_of(const std::vector<std::string>& words) {
  std::string text;
  for (std::size_t i = 0; i < words.size(); ++i) text += (i == 0 ? "" : i + 1 == words.size() ? " or " : ", ") + words[i];
  return text;
}

std::string did_you_mean(std::string_view word, const std::vector<std::string>& candidates, std::string_view prefix) {
  const std::vector<std::string_view> views(candidates.begin(), candidates.end());
  const auto near = nearest_name(word, views);
  return near ? fmt::format("did you mean '{}{}'?", prefix, *near) : std::string();
}

}  // namespace config

Schema& Schema::add(Option option) {
  for (const Option& other : options_) DROVER_ASSERT(other.name != option.name, option.name);
  options_.push_back(std::move(option));
  return *this;
}

Schema& Schema::add_integer(std::string_view name, std::function<void(std::int64_t)> set, std::function<std::int64_t()> get, std::int64_t min,
                            std::int64_t max, std::string_view help) {
  const std::string allowed = joined("a whole number", range_text(Range<std::int64_t>{min, max}, INT64_MIN, INT64_MAX, [](std::int64_t v) { return std::to_string(v); }));
  return add({.name = std::string(name),
              .kind = OptionKind::integer,
              .allowed = allowed,
              .choices = {},
              .help = std::string(help),
              .set = [=, set = std::move(set)](std::string_view text) -> Result<void> {
                std::int64_t value = 0;
                const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
                if (error != std::errc() || end != text.data() + text.size() || value < min || value > max) return refuse("must be " + allowed);
                set(value);
                return {};
              },
              .get = [get = std::move(get)] { return std::to_string(get()); }});
}

Schema& Schema::real(std::string_view name, double& field, Range<double> range, std::string_view help) {
  const double lowest = std::numeric_limits<double>::lowest(), highest = std::numeric_limits<double>::max();
  const std::string allowed = joined("a number", range_text(range, lowest, highest, config::real_word));
  return add({.name = std::string(name),
              .kind = OptionKind::real,
              .allowed = allowed,
              .choices = {},
              .help = std::string(help),
              .set = [=, &field](std::string_view text) -> Result<void> {
                double value = 0;
                const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
                if (error != std::errc() || end != text.data() + text.size() || std::isnan(value) || value < range.min || value > range.max) {
                  return refuse("must be " + allowed);
                }
                field = value;
                return {};
              },
              .get = [&field] { return config::real_word(field); }});
}

Schema& Schema::duration(std::string_view name, Nanos& field, Range<Nanos> range, std::string_view help) {
  const std::string allowed = joined("a duration such as 250ms, 10m or 1h30m", range_text(Range<Nanos>{std::max(range.min, Nanos::zero()), range.max}, Nanos::zero(), Nanos::max(), config::duration_word));
  return add({.name = std::string(name),
              .kind = OptionKind::duration,
              .allowed = allowed,
              .choices = {},
              .help = std::string(help),
              .set = [=, &field](std::string_view text) -> Result<void> {
                auto value = parse_duration(text);
                if (!value || *value < range.min || *value > range.max) return refuse("must be " + allowed);
                field = *value;
                return {};
              },
              .get = [&field] { return config::duration_word(field); }});
}

Schema& Schema::bytes(std::string_view name, std::uint64_t& field, Range<std::uint64_t> range, std::string_view help) {
  const std::string allowed = joined("a size such as 4096, 512M or 4GiB", range_text(range, std::uint64_t{0}, UINT64_MAX, config::bytes_word));
  return add({.name = std::string(name),
              .kind = OptionKind::bytes,
              .allowed = allowed,
              .choices = {},
              .help = std::string(help),
              .set = [=, &field](std::string_view text) -> Result<void> {
                auto value = parse_bytes(text);
                if (!value || *value < range.min || *value > range.max) return refuse("must be " + allowed);
                field = *value;
                return {};
              },
              .get = [&field] { return config::bytes_word(field); }});
}

Schema& Schema::text(std::string_view name, std::string& field, std::string_view help) {
  return add({.name = std::string(name),
              .kind = OptionKind::text,
              .allowed = "text",
              .choices = {},
              .help = std::string(help),
              .set = [&field](std::string_view text) -> Result<void> {
                if (!config::is_utf8(text)) return refuse("must be UTF-8 text");
                if (text.find('\0') != text.npos) return refuse("must not hold a NUL character");
                field = std::string(text);
                return {};
              },
              .get = [&field] { return field; }});
}

Schema& Schema::choice(std::string_view name, std::string& field, std::vector<std::string> choices, std::string_view help) {
  const std::string allowed = config::list_of(choices);
  return add({.name = std::string(name),
              .kind = OptionKind::choice,
              .allowed = allowed,
              .choices = choices,
              .help = std::string(help),
              .set = [=, &field](std::string_view text) -> Result<void> {
                if (std::ranges::find(choices, text) == choices.end()) return refuse("must be " + allowed, config::did_you_mean(text, choices, ""));
                field = std::string(text);
                return {};
              },
              .get = [&field] { return field; }});
}

Schema& Schema::flag(std::string_view name, bool& field, std::string_view help) {
  return add({.name = std::string(name),
              .kind = OptionKind::flag,
              .allowed = "true or false",
              .choices = {},
              .help = std::string(help),
              .set = [&field](std::string_view text) -> Result<void> {
                if (text != "true" && text != "false") return refuse("must be true or false");
                field = text == "true";
                return {};
              },
              .get = [&field] { return std::string(field ? "true" : "false"); }});
}

Schema& Schema::words(std::string_view name, std::vector<std::string>& field, std::string_view help) {
  return add({.name = std::string(name),
              .kind = OptionKind::words,
              .required = true,
              .allowed = "a command and its arguments, after `--`",
              .choices = {},
              .help = std::string(help),
              .set = [&field](std::string_view text) -> Result<void> {
                if (!config::is_utf8(text) || text.find('\0') != text.npos) return refuse("must be UTF-8 text without NUL characters");
                DROVER_TRY(std::vector<std::string> words, split_words(text));
                if (words.empty()) return refuse("must be a command and its arguments");
                field = std::move(words);
                return {};
              },
              .get = [&field] { return join_words(field); },
              .set_words = [&field](std::vector<std::string> words) { field = std::move(words); }});
}

std::string join_words(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) {
    if (!text.empty()) text += ' ';
    const bool plain = !word.empty() && std::ranges::all_of(word, [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || std::string_view("_-./:=,+@%^").find(c) != std::string_view::npos;
    });
    if (plain) {
      text += word;
      continue;
    }
    text += '\'';
    for (const char c : word) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
    text += '\'';
  }
  return text;
}

Result<std::vector<std::string>> split_words(std::string_view text) {
  std::vector<std::string> words;
  bool in_word = false;
  char quote = 0;
  const auto put = [&](char c) {
    if (!in_word) words.emplace_back();
    in_word = true;
    words.back() += c;
  };
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quote == 0 && (c == ' ' || c == '\t' || c == '\n')) {
      in_word = false;
    } else if (quote == 0 && (c == '\'' || c == '"')) {
      quote = c;
      if (!in_word) words.emplace_back();
      in_word = true;
    } else if (c == quote) {
      quote = 0;
    } else if (c == '\\' && quote != '\'' && i + 1 < text.size() && (quote == 0 || text[i + 1] == '"' || text[i + 1] == '\\')) {
      put(text[++i]);
    } else {
      put(c);
    }
  }
  if (quote != 0) return refuse(fmt::format("must close its {}", quote));
  return words;
}

Schema& Schema::positional(bool required) {
  DROVER_ASSERT(!options_.empty());
  options_.back().positional = true;
  options_.back().required = required;
  return *this;
}

std::string help_of(const Schema& schema) {
  std::vector<std::pair<std::string, std::string>> lines;
  for (const Option& option : schema.options()) {
    std::string word = option.positional ? config::placeholder(option) : fmt::format("--{}", option.name);
    if (option.kind == OptionKind::words) word = "-- " + config::placeholder(option);
    else if (!option.positional && option.kind != OptionKind::flag) word += fmt::format(" {}", config::placeholder(option));
    std::string text = option.help;
    const std::string value = option.get();
    if (option.kind == OptionKind::choice || option.kind == OptionKind::integer || option.kind == OptionKind::real) text += fmt::format(" ({})", option.allowed);
    if (option.kind != OptionKind::flag && !option.required && !value.empty()) text += fmt::format(" [{}]", value);
    lines.emplace_back(std::move(word), std::move(text));
  }
  std::size_t width = 0;
  for (const auto& [word, text] : lines) width = std::max(width, std::min<std::size_t>(word.size(), 26));
  std::string out;
  for (const auto& [word, text] : lines) out += fmt::format("  {:<{}}  {}\n", word, width, text);
  return out;
}

namespace config {
std::string placeholder(const Option& option) {
  if (option.positional) {
    std::string name = option.name;
    for (char& c : name) c = c == '-' ? '_' : static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
    return name;
  }
  switch (option.kind) {
    case OptionKind::integer: return "N";
    case OptionKind::real: return "X";
    case OptionKind::duration: return "TIME";
    case OptionKind::bytes: return "SIZE";
    case OptionKind::text: return "TEXT";
    case OptionKind::choice: return "WORD";
    case OptionKind::flag: return "true|false";
    case OptionKind::words: return "COMMAND...";
  }
  std::unreachable();
}
}  // namespace config

}  // namespace drover
