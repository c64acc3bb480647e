#include "base/assert.hpp"

#include <cstdio>
#include <cstdlib>

namespace drover::detail {

void assertion_failed(const char* file, int line, const char* condition, const char* names,
                      std::initializer_list<std::string> values) noexcept {
  std::string_view name = file;
  if (const auto slash = name.rfind('/'); slash != std::string_view::npos) name.remove_prefix(slash + 1);
  std::string text = "drover: " + std::string(name) + ":" + std::to_string(line) + ": assertion failed: " + condition;
  if (values.size() != 0) {
    text += std::string(" (") + names + " = ";
    bool first = true;
    for (const auto& value : values) {
      if (!first) text += ", ";
      text += value;
      first = false;
    }
    text += ")";
  }
  text += "\n";
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
  std::abort();
}

}  // namespace drover::detail
