#include "judge/options.hpp"

#include <cstdio>

namespace drover::judge {

Result<bool> read_options(const std::vector<std::string>& words, Schema& schema, std::string_view usage) {
  for (const std::string& word : words)
    if (word == "--help" || word == "-h") {
      std::printf("%.*s\n\n%s", static_cast<int>(usage.size()), usage.data(), help_of(schema).c_str());
      return false;
    }
  const std::vector<Error> errors = apply_words(words, schema);
  if (errors.empty()) return true;
  std::string all;
  for (const Error& error : errors) all += (all.empty() ? "" : "; ") + error.what();
  return fail(ErrorCode::usage, all, errors.front().advice());
}

}  // namespace drover::judge
