/// Command line words into a schema's fields: `--name value`, `--name=value`, `--flag`, positionals by place, `--` ends options
/// (and begins the command, where the schema has one).
/// The last word wins when an option is given twice, so that a wrapper can put defaults in front of what its user types.

#include <fmt/format.h>

#include <algorithm>

#include "base/text.hpp"
#include "config/words.hpp"
#include "drover/config.hpp"

namespace drover {
namespace {

Option* option_named(Schema& schema, std::string_view name) {
  for (Option& option : schema.options()) {
    if (option.name == name) return &option;
  }
  return nullptr;
}

void set(Option& option, std::string_view path, std::string_view value, std::vector<Error>& errors) {
  if (auto done = option.set(value); !done) {
    errors.push_back(std::move(done).error().with(fmt::format("{} '{}'", path, value)));
  }
  option.given = true;  // also when refused: it is wrong, not missing
}

}  // namespace

std::vector<Error> apply_words(const std::vector<std::string>& words, Schema& schema) {
  std::vector<Error> errors;
  std::vector<std::string> names;
  for (const Option& option : schema.options()) names.push_back(option.name);

  const auto command = std::ranges::find(schema.options(), OptionKind::words, &Option::kind);
  std::vector<std::string_view> by_place;
  bool options_ended = false;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string_view word = words[i];
    if (options_ended || word.size() < 2 || word.front() != '-') {
      by_place.push_back(word);
      continue;
    }
    if (word == "--") {
      if (command != schema.options().end()) {
        if (i + 1 < words.size()) command->set_words({words.begin() + static_cast<std::ptrdiff_t>(i) + 1, words.end()});
        command->given = command->given || i + 1 < words.size();
        break;
      }
      options_ended = true;
      continue;
    }
    std::string_view name = word.substr(word.starts_with("--") ? 2 : 1);
    std::optional<std::string_view> value;
    if (const auto equals = name.find('='); equals != name.npos) {
      value = name.substr(equals + 1);
      name = name.substr(0, equals);
    }
    Option* const option = word.starts_with("--") ? option_named(schema, name) : nullptr;
    if (option == nullptr) {
      errors.emplace_back(ErrorCode::usage, fmt::format("unknown option '{}'", word.substr(0, word.find('='))), config::did_you_mean(name, names, "--"));
      // Its value, if the next word looks like one, is not a positional gone astray: one mistake, one line.
      if (!value && i + 1 < words.size() && !words[i + 1].starts_with("-")) ++i;
      continue;
    }
    if (!value && option->kind == OptionKind::flag) value = "true";
    if (!value && i + 1 < words.size() && !words[i + 1].starts_with("--")) value = words[++i];
    if (!value) {
      errors.emplace_back(ErrorCode::usage, fmt::format("--{}: a value is missing: must be {}", option->name, option->allowed));
      option->given = true;
      continue;
    }
    set(*option, fmt::format("--{}", option->name), *value, errors);
  }

  std::size_t at = 0;
  for (Option& option : schema.options()) {
    if (!option.positional) continue;
    if (at < by_place.size()) set(option, config::placeholder(option), by_place[at++], errors);
  }
  for (; at < by_place.size(); ++at) {
    errors.emplace_back(ErrorCode::usage, fmt::format("'{}': one word too many", by_place[at]), config::did_you_mean(by_place[at], names, "--"));
  }
  for (const Option& option : schema.options()) {
    if (!option.required || option.given) continue;
    const std::string path = option.kind == OptionKind::words ? "the command" : option.positional ? config::placeholder(option) : fmt::format("--{}", option.name);
    errors.emplace_back(ErrorCode::usage, fmt::format("{} is missing: must be {}", path, option.allowed));
  }
  return errors;
}

}  // namespace drover
