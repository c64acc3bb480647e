#include "judge/language.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "drover/config.hpp"

namespace drover::judge {

nlohmann::json json_of(const Language& l) {
  return {{"name", l.name}, {"source", l.source}, {"compile", l.compile}, {"artifact", l.artifact}, {"run", l.run}, {"needs", l.needs}, {"bounded_address_space", l.bounded_address_space}};
}

Result<Language> parse_language(const nlohmann::json& o) try {
  return Language{.name = o.at("name"), .source = o.at("source"), .compile = o.at("compile"), .artifact = o.at("artifact"), .run = o.at("run"), .needs = o.at("needs"), .bounded_address_space = o.at("bounded_address_space")};
} catch (const nlohmann::json::exception&) {
  return fail(ErrorCode::corrupt, "judge: this is no language");
}

Result<std::vector<Language>> read_languages(std::string_view text, std::string_view file) {
  DROVER_TRY(const std::string converted, toml_to_json(text, file));
  const nlohmann::json root = nlohmann::json::parse(converted, nullptr, false);
  const auto wrong = [&](const std::string& key, const char* why) { return fail(ErrorCode::usage, fmt::format("'{}': '{}' {}", file, key, why), "docs/judge_api.md has an example"); };
  if (!root.is_object()) return wrong("", "holds what has no meaning here");
  for (const auto& [key, value] : root.items())
    if (key != "language" || !value.is_object()) return wrong(key, "is not known");
  if (!root.contains("language")) return wrong("language", "is missing");
  std::vector<Language> all;
  for (const auto& [name, table] : root["language"].items()) {
    const std::string path = "language." + name;
    if (!table.is_object()) return wrong(path, "must be a table");
    Language language{.name = name};
    const std::pair<const char*, std::string*> texts[] = {{"source", &language.source}, {"artifact", &language.artifact}, {"needs", &language.needs}};
    const std::pair<const char*, std::vector<std::string>*> lists[] = {{"compile", &language.compile}, {"run", &language.run}};
    for (const auto& [key, value] : table.items()) {
      bool known = false, good = false;
      for (const auto& [word, into] : texts)
        if (key == word && (known = true) && (good = value.is_string())) *into = value;
      for (const auto& [word, into] : lists)
        if (key == word && (known = true) && (good = value.is_array() && !value.empty() && std::ranges::all_of(value, [](const auto& one) { return one.is_string(); }))) *into = value;
      if (key == "bounded_address_space" && (known = true) && (good = value.is_boolean())) language.bounded_address_space = value;
      if (!known) return wrong(path + "." + key, "is not known");
      if (!good || ((key == "source" || key == "artifact") && value.get<std::string>().find('/') != std::string::npos))
        return wrong(path + "." + key, "is not what it must be: a list of words, a file name without '/', a path, or true or false");
    }
    if (language.source.empty() || language.run.empty()) return wrong(path, "lacks source or run");
    if (language.compile.empty() != language.artifact.empty()) return wrong(path, "needs compile and artifact, or neither");
    if (language.needs.empty()) language.needs = language.compile.empty() ? language.run[0] : language.compile[0];
    if (!language.needs.starts_with('/')) return wrong(path + ".needs", "must be an absolute path");
    all.push_back(std::move(language));
  }
  return all;
}

const std::vector<Language>& languages() {
  static const std::vector<Language> table{
      {.name = "bash", .source = "main.sh", .run = {"/bin/bash", "main.sh"}, .needs = "/bin/bash"},
      {.name = "c", .source = "main.c", .compile = {"/usr/bin/gcc", "-O2", "-std=gnu17", "-o", "program", "main.c", "-lm"}, .artifact = "program", .run = {"./program"}, .needs = "/usr/bin/gcc"},
      {.name = "cpp", .source = "main.cpp", .compile = {"/usr/bin/g++", "-O1", "-std=gnu++20", "-o", "program", "main.cpp"}, .artifact = "program", .run = {"./program"}, .needs = "/usr/bin/g++"},
      {.name = "go", .source = "main.go", .compile = {"/usr/bin/go", "build", "-o", "program", "main.go"}, .artifact = "program", .run = {"./program"}, .needs = "/usr/bin/go", .bounded_address_space = false},
      {.name = "java", .source = "Main.java", .compile = {"/bin/sh", "-c", "javac -d . Main.java && jar cfe program.jar Main *.class"}, .artifact = "program.jar", .run = {"/usr/bin/java", "-Xss64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-jar", "program.jar"},
       .needs = "/usr/bin/javac", .bounded_address_space = false},
      {.name = "node", .source = "main.js", .run = {"/usr/bin/node", "main.js"}, .needs = "/usr/bin/node", .bounded_address_space = false},
      // No -I and no -E: they would ignore PYTHONHASHSEED.
      {.name = "python", .source = "main.py", .run = {"/usr/bin/python3", "-s", "-S", "-B", "main.py"}, .needs = "/usr/bin/python3"},
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
