#pragma once
/// Typed configuration. A program describes its options once, bound to its own fields; command line, TOML file and `--help`
/// follow from that description. Every error is found in one pass, with its path (`solve.workers` or `--workers`), line, allowed range and
/// the nearest name; an unknown key is an error.

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "drover/types/error.hpp"
#include "drover/types/time.hpp"

namespace drover {

template <class T>
struct Range {
  T min = std::numeric_limits<T>::lowest();
  T max = std::numeric_limits<T>::max();
};

enum class OptionKind : std::uint8_t { integer, real, duration, bytes, text, choice, flag, words };

struct Option {
  std::string name;         ///< `attempt-wall`: `--attempt-wall` on the command line, `attempt_wall` in TOML and job.toml
  OptionKind kind{};
  bool positional = false;  ///< by place, in the order described; required unless it has a default
  bool required = false;
  std::string allowed;      ///< for messages: `1 to 1024`, `es, os, cfr+ or dcfr`
  std::vector<std::string> choices;
  std::string help;
  std::function<Result<void>(std::string_view)> set;  ///< text in; refuses with what is allowed
  std::function<std::string()> get;                   ///< canonical text; set(get()) changes nothing
  std::function<void(std::vector<std::string>)> set_words{};  ///< kind `words`: takes what follows `--` as it is
  bool given = false;       ///< set from a file or from words: then it is not missing any more
};

/// The options of one verb, each bound to a field that outlives the schema and holds the default.
class Schema {
 public:
  template <class T>
    requires std::is_integral_v<T>
  Schema& integer(std::string_view name, T& field, Range<T> range, std::string_view help) {
    return add_integer(name, [&field](std::int64_t v) { field = static_cast<T>(v); }, [&field] { return static_cast<std::int64_t>(field); },
                       static_cast<std::int64_t>(range.min),
                       range.max > static_cast<T>(0) && static_cast<std::uint64_t>(range.max) > static_cast<std::uint64_t>(INT64_MAX) ? INT64_MAX : static_cast<std::int64_t>(range.max), help);
  }
  Schema& real(std::string_view name, double& field, Range<double> range, std::string_view help);
  Schema& duration(std::string_view name, Nanos& field, Range<Nanos> range, std::string_view help);  ///< `250ms`, `10m`, `1h30m`, `none`
  Schema& bytes(std::string_view name, std::uint64_t& field, Range<std::uint64_t> range, std::string_view help);  ///< `512M`, `4GiB`
  Schema& text(std::string_view name, std::string& field, std::string_view help);
  Schema& choice(std::string_view name, std::string& field, std::vector<std::string> choices, std::string_view help);
  Schema& flag(std::string_view name, bool& field, std::string_view help);
  /// A command: on the command line all words after `--`; as text (TOML) words as a shell would split them, with its quotes and
  /// backslashes and nothing else of a shell. Required. At most one a schema.
  Schema& words(std::string_view name, std::vector<std::string>& field, std::string_view help);
  /// Makes the option described last positional, and required or not.
  Schema& positional(bool required);

  const std::vector<Option>& options() const { return options_; }
  std::vector<Option>& options() { return options_; }

 private:
  Schema& add(Option option);
  Schema& add_integer(std::string_view name, std::function<void(std::int64_t)> set, std::function<std::int64_t()> get, std::int64_t min,
                      std::int64_t max, std::string_view help);
  std::vector<Option> options_;
};

/// Sets the schema's fields from the table `[table]` of a TOML text. All errors at once, in the order of the text.
std::vector<Error> apply_toml(std::string_view toml, std::string_view file_name, std::string_view table, Schema& schema);
/// Sets the schema's fields from command line words. `--name value`, `--name=value`, positionals by place; `--` ends options.
std::vector<Error> apply_words(const std::vector<std::string>& words, Schema& schema);
/// A TOML text as the JSON of its tables, for what is no list of options. Error usage names the line.
Result<std::string> toml_to_json(std::string_view toml, std::string_view file_name);
/// The schema's fields as a TOML table that apply_toml reads back.
std::string to_toml(std::string_view table, const Schema& schema);
/// `python3 'my file.py'`: split_words gives the same words back.
std::string join_words(const std::vector<std::string>& words);
/// Errors: usage, when a quote is not closed.
Result<std::vector<std::string>> split_words(std::string_view text);
/// One line an option, for `--help`.
std::string help_of(const Schema& schema);

}  // namespace drover
