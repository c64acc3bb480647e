#include "judge/slot_options.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "drover/clock.hpp"
#include "judge/dataset.hpp"
#include "judge/options.hpp"
#include "judge/python_sources.hpp"

namespace drover::judge {
namespace {

/// Whoever names an interpreter or modules of his own wants its site-packages; else they are left out, which starts faster.
bool with_site(const SlotOptions& options) { return !options.preload.empty() || options.python != "/usr/bin/python3"; }

/// The table's Python, of another interpreter or with what is installed for it.
void use_python(SlotOptions& options) {
  if (!with_site(options)) return;
  Language python = *find_language(options, "python");
  python.run[0] = python.needs = options.python;
  std::erase(python.run, "-S");
  std::erase_if(options.languages, [](const Language& one) { return one.name == "python"; });
  options.languages.push_back(std::move(python));
}

}  // namespace

void describe(Schema& schema, SlotOptions& options) {
  schema.choice("profile", options.profile, {"", "root", "userns", "container"}, "of the sandbox; else the strongest this host allows");
  schema.text("require", options.require, "layers without which nothing is judged: seccomp,landlock,net_namespace");
  schema.text("languages", options.languages_file, "TOML file of more languages (docs/judge_api.md)");
  schema.text("python", options.python, "interpreter of Python programs and tests; one outside /usr has its prefix bound read-only");
  schema.text("preload", options.preload, "modules its zygote loads once for all runs: numpy,scipy");
}

Result<void> complete(SlotOptions& options) {
  if (!options.languages_file.empty()) {
    DROVER_TRY(const std::string text, read_text(options.languages_file));
    DROVER_TRY(options.languages, read_languages(text, options.languages_file));
  }
  if (!options.python.starts_with('/')) return fail(ErrorCode::usage, fmt::format("--python '{}': must be an absolute path", options.python));
  return {};
}

const Language* find_language(const SlotOptions& options, std::string_view name) {
  const auto found = std::ranges::find(options.languages, name, &Language::name);
  return found != options.languages.end() ? &*found : language_named(name);
}

std::string json_of(const SlotOptions& options) {
  nlohmann::json languages = nlohmann::json::array();
  for (const Language& one : options.languages) languages.push_back(json_of(one));
  return nlohmann::json{{"languages", languages}, {"python", options.python}, {"preload", options.preload}, {"profile", options.profile}, {"require", options.require}, {"leave_out", options.leave_out}, {"repeat_later", options.repeat_later}, {"stop_cancels", options.stop_cancels}}.dump();
}

Result<SlotOptions> parse_slot_options(std::string_view text) {
  const nlohmann::json object = nlohmann::json::parse(text, nullptr, false);
  if (!object.is_object() || !object.contains("profile") || !object["profile"].is_string() || !object.contains("require") || !object["require"].is_string())
    return fail(ErrorCode::corrupt, "judge: the worker's setup cannot be read");
  std::vector<Language> languages;
  if (object.contains("languages"))
    for (const nlohmann::json& one : object["languages"]) {
      DROVER_TRY(Language language, parse_language(one));
      languages.push_back(std::move(language));
    }
  SlotOptions options{.profile = object["profile"], .require = object["require"], .languages = std::move(languages), .python = object.value("python", "/usr/bin/python3"), .preload = object.value("preload", ""), .leave_out = object.value("leave_out", ""), .repeat_later = object.value("repeat_later", false), .stop_cancels = object.value("stop_cancels", false)};
  use_python(options);
  return options;
}

Result<Sandbox> make_sandbox(const SlotOptions& options, SandboxFor use) {
  SandboxOptions sandbox{.require = options.require, .leave_out = options.leave_out};
  for (const SandboxProfile profile : kSandboxProfiles)
    if (options.profile == name_of(profile)) sandbox.profile = profile;
  if (!options.python.starts_with("/usr/")) {
    // An interpreter and its library: DIRECTORY/bin/python3, and where that leads to.
    sandbox.binds = system_binds();
    std::error_code error;
    for (const std::filesystem::path& path : {std::filesystem::path(options.python), std::filesystem::weakly_canonical(options.python, error)}) {
      const std::string prefix = path.parent_path().parent_path().string();
      if (prefix.size() > 1 && !prefix.starts_with("/usr") && std::ranges::find(sandbox.binds, prefix, &SandboxBind::path) == sandbox.binds.end()) sandbox.binds.push_back({prefix, prefix});
    }
  }
  if (use != SandboxFor::any && std::filesystem::exists(options.python)) {
    sandbox.zygote = {.python = options.python, .site = with_site(options), .preload = {"json", "re", "collections", "importlib", "operator", "types", "random", "math", "itertools", "functools", "typing", "string", "heapq", "bisect", "copy", "datetime", "decimal", "fractions", "statistics"}};
    for (std::string& module : split_list(options.preload)) sandbox.zygote.preload.push_back(std::move(module));
    if (use == SandboxFor::candidates) sandbox.zygote.programs = {{"inproc", std::string(inproc_source())}, {"split_candidate", split_candidate_source()}};
    else sandbox.zygote.programs = {{"split_tests", split_tests_source()}};
  }
  return Sandbox::start(sandbox, in(Seconds(40)));
}

}  // namespace drover::judge
