#include "judge/language.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>
#include <toml++/toml.h>

namespace drover::judge {

nlohmann::json json_of(const Language& l) {
  return {{"name", l.name}, {"source", l.source}, {"compile", l.compile}, {"artifact", l.artifact}, {"run", l.run}, {"needs", l.needs}, {"bounded_address_space", l.bounded_address_space}};
}

Result<Language> parse_language(const nlohmann::json& o) try {
  return Language{.name = o.at("name"), .source = o.at("source"), .compile = o.at("compile"), .artifact = o.at("artifact"), .run = o.at("run"), .needs = o.at("needs"), .bounded_address_space = o.at("bounded_address_space")};
} catch (const nlohmann::json::exception&) {
  return fail(ErrorCode::corrupt, "judge: this is no language");
}

Result<std::vector<Language>> read_languages(std::string_view text, std::string_view file) try {
  const toml::table root = toml::parse(text, file);
  const auto wrong = [&](const std::string& key, const char* why) { return fail(ErrorCode::usage, fmt::format("'{}': '{}' {}", file, key, why), "docs/judge_api.md has an example"); };
  std::vector<Language> all;
  for (const auto& [key, value] : root)
    if (key.str() != "language" || !value.is_table()) return wrong(std::string(key.str()), "is not known");
  const toml::table* const tables = root["language"].as_table();
  if (tables == nullptr) return wrong("language", "is missing");
  for (const auto& [name, value] : *tables) {
    const std::string path = "language." + std::string(name.str());
    const toml::table* const table = value.as_table();
    if (table == nullptr) return wrong(path, "must be a table");
    Language language{.name = std::string(name.str())};
    for (const auto& [key, entry] : *table) {
      const std::string of = path + "." + std::string(key.str());
      const auto words = [&](std::vector<std::string>& into) {
        const toml::array* const list = entry.as_array();
        if (list == nullptr || list->empty()) return false;
        for (const auto& word : *list) {
          if (!word.is_string()) return false;
          into.push_back(word.as_string()->get());
        }
        return true;
      };
      const auto text_into = [&](std::string& into) {
        if (entry.is_string()) into = entry.as_string()->get();
        return entry.is_string();
      };
      bool good = false;
      if (key.str() == "source") good = text_into(language.source) && language.source.find('/') == std::string::npos;
      else if (key.str() == "artifact") good = text_into(language.artifact) && language.artifact.find('/') == std::string::npos;
      else if (key.str() == "needs") good = text_into(language.needs);
      else if (key.str() == "compile") good = words(language.compile);
      else if (key.str() == "run") good = words(language.run);
      else if (key.str() == "bounded_address_space") good = entry.is_boolean() && ((language.bounded_address_space = entry.as_boolean()->get()), true);
      else return wrong(of, "is not known");
      if (!good) return wrong(of, "is not what it must be: a list of words, a file name without '/', a path, or true or false");
    }
    if (language.source.empty() || language.run.empty()) return wrong(path, "lacks source or run");
    if (language.compile.empty() != language.artifact.empty()) return wrong(path, "needs compile and artifact, or neither");
    if (language.needs.empty()) language.needs = language.compile.empty() ? language.run[0] : language.compile[0];
    if (!language.needs.starts_with('/')) return wrong(path + ".needs", "must be an absolute path");
    all.push_back(std::move(language));
  }
  return all;
} catch (const toml::parse_error& error) {
  return fail(ErrorCode::usage, fmt::format("'{}', line {}: {}", file, error.source().begin.line, std::string(error.description())));
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
