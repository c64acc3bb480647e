#include "judge/options.hpp"

#include <algorithm>
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

std::vector<std::string> split_list(std::string_view text) {
  std::vector<std::string> words;
  while (!text.empty()) {
    const std::string_view word = text.substr(0, text.find(','));
    text.remove_prefix(std::min(text.size(), word.size() + 1));
    if (!word.empty()) words.emplace_back(word);
  }
  return words;
}

}  // namespace drover::judge
