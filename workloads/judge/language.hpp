#pragma once
/// The languages: how a program of each is compiled and run inside the sandbox.

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "drover/types/error.hpp"

namespace drover::judge {

struct Language {
  std::string name{};
  std::string source{};                ///< file its code is put into
  std::vector<std::string> compile{};  ///< empty: none needed
  std::string artifact{};              ///< what compiling leaves, and all that is kept of it
  std::vector<std::string> run{};
  std::string needs{};                 ///< program on the host without which it is not there
  bool bounded_address_space = true;   ///< false: its runtime reserves more than it uses
};

/// From TOML: a table [language.NAME] each, with source, run, and if it is compiled compile and artifact; needs (default: run's first word) and
/// bounded_address_space. A name of the table below replaces it. Error usage names the key.
Result<std::vector<Language>> read_languages(std::string_view toml, std::string_view file);
nlohmann::json json_of(const Language& language);
Result<Language> parse_language(const nlohmann::json& object);

/// bash, c, cpp, go, java, node, python; by name.
const std::vector<Language>& languages();
const Language* language_named(std::string_view name);
/// Of a file name's suffix; null if none.
const Language* language_of_file(std::string_view name);

}  // namespace drover::judge
