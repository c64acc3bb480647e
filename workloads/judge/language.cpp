#include "judge/language.hpp"

#include <algorithm>

namespace drover::judge {

const std::vector<Language>& languages() {
  static const std::vector<Language> table{
      {.name = "bash", .source = "main.sh", .run = {"/bin/bash", "main.sh"}, .needs = "/bin/bash"},
      {.name = "c", .source = "main.c", .compile = {"/usr/bin/gcc", "-O2", "-std=gnu17", "-o", "program", "main.c", "-lm"}, .artifact = "program", .run = {"./program"}, .needs = "/usr/bin/gcc"},
      {.name = "cpp", .source = "main.cpp", .compile = {"/usr/bin/g++", "-O1", "-std=gnu++20", "-o", "program", "main.cpp"}, .artifact = "program", .run = {"./program"}, .needs = "/usr/bin/g++"},
      {.name = "node", .source = "main.js", .run = {"/usr/bin/node", "main.js"}, .needs = "/usr/bin/node", .bounded_address_space = false},
      // No -I and no -E: they would ignore PYTHONHASHSEED.
      {.name = "python", .source = "main.py", .run = {"/usr/bin/python3", "-s", "-S", "-P", "-B", "main.py"}, .needs = "/usr/bin/python3"},
  };
  return table;
}

const Language* language_named(std::string_view name) {
  const auto found = std::ranges::find(languages(), name, &Language::name);
  return found == languages().end() ? nullptr : &*found;
}

const Language* language_of_file(std::string_view name) {
  const std::size_t dot = name.rfind('.');
  if (dot == std::string_view::npos) return nullptr;
  const std::string_view suffix = name.substr(dot);
  if (suffix == ".cc") return language_named("cpp");
  const auto found = std::ranges::find_if(languages(), [&](const Language& one) { return one.source.ends_with(suffix); });
  return found == languages().end() ? nullptr : &*found;
}

}  // namespace drover::judge
