#include "judge/verbs.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "drover/pool.hpp"
#include "judge/attack.hpp"
#include "judge/dataset.hpp"
#include "judge/options.hpp"
#include "judge/server.hpp"
#include "judge/slot.hpp"

namespace drover::judge {
namespace {

bool is_executable(const std::string& path) {
  std::error_code error;
  return std::filesystem::exists(path, error);
}

Result<Submission> submission_of(const std::string& file, const std::string& language, const std::string& tests, const std::string& mode) {
  DROVER_TRY(const std::string text, read_text(file));
  if (file.ends_with(".json")) return parse_submission(text);
  nlohmann::json object{{"id", file}, {"code", text}};
  if (!language.empty()) object["language"] = language;
  else if (const Language* const found = language_of_file(file)) object["language"] = found->name;
  if (!tests.empty()) {
    DROVER_TRY(const std::string list, read_text(tests));
    object["tests"] = nlohmann::json::parse(list, nullptr, false);
    if (!object["tests"].is_array()) return fail(ErrorCode::usage, fmt::format("--tests '{}': is no JSON list", tests), R"(as in: [{"input": "3 4", "output": "7"}] or ["assert f(1) == 2"])");
  }
  if (!mode.empty()) object["mode"] = mode;
  return parse_submission(object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

std::string shown(const Verdict& v) {
  std::string text = fmt::format("{}  {}/{} tests  mode {} ({}), profile {}, {:.0f} ms of CPU time\n", name_of(v.outcome), v.passed, v.tests.size(), name_of(v.mode), trust_of(v.mode),
                                 v.profile.empty() ? "none" : v.profile, static_cast<double>((v.measured.cpu + v.measured.compile_cpu).count()) * 1e-6);
  if (!v.reason.empty()) text += fmt::format("  {}\n", v.reason);
  const auto line = [](const std::string& what, const TestVerdict& one) {
    return fmt::format("  {:<10} {}{}{}\n", what, name_of(one.outcome), one.run == RunOutcome::ok ? "" : fmt::format("  {}", name_of(one.run)), one.detail.empty() ? "" : fmt::format("({})", one.detail));
  };
  if (v.compile && v.compile->outcome != TestOutcome::pass) text += line("compile", *v.compile);
  for (std::size_t i = 0; i < v.tests.size(); ++i) text += line(fmt::format("test {}", i + 1), v.tests[i]);
  if (v.outcome != SubmissionOutcome::all_passed && !v.measured.errors.empty()) {
    text += "  stderr:\n    ";
    for (const char c : v.measured.errors) {  // a terminal obeys control characters
      if (c == '\n') text += "\n    ";
      else text += static_cast<unsigned char>(c) < 32 || c == 127 ? '.' : c;
    }
    text += '\n';
  }
  return text;
}

Result<int> run(const std::vector<std::string>& words) {
  std::string file, language, tests, mode;
  SlotOptions options;
  bool json = false;
  Schema schema;
  schema.text("file", file, "a program, or a submission as JSON (docs/judge_api.md); - is stdin").positional(true);
  schema.text("language", language, "of the program; else by its suffix");
  schema.text("tests", tests, R"(JSON list: {"input", "output"} or code)");
  schema.choice("mode", mode, {"", "split", "stdio", "exit", "inproc"}, "where the verdict comes from; else by the tests");
  describe(schema, options);
  schema.flag("json", json, "the verdict as JSON");
  DROVER_TRY(const bool go_on, read_options(words, schema, "drover judge run FILE [options]\nJudges one program."));
  if (!go_on) return 0;
  DROVER_CHECK(complete(options));
  DROVER_TRY(const Submission submission, submission_of(file, language, tests, mode));
  const std::string setup = json_of(options);
  const BytesView bytes = std::as_bytes(std::span(setup));
  DROVER_TRY(Pool pool, Pool::start({.workers = 1, .setup = Bytes(bytes.begin(), bytes.end())}));
  DROVER_TRY(auto future, pool.submit(judge_task, json_of(submission).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace), {.effect = EffectClass::pure}));
  const auto result = future.get();
  if (!result || !*result) return fail(ErrorCode::unavailable, fmt::format("no verdict: {}", result ? result->error().text() : "the pool ended"), "`drover judge doctor` says what this host allows");
  DROVER_TRY(const Verdict verdict, parse_verdict(**result));
  const std::string text = json ? json_of(verdict) + "\n" : shown(verdict);
  std::fwrite(text.data(), 1, text.size(), stdout);
  return verdict.outcome == SubmissionOutcome::all_passed ? 0 : verdict.outcome == SubmissionOutcome::not_judged ? 4 : 1;
}

Result<int> doctor(const std::vector<std::string>& words) {
  std::string require;
  bool json = false;
  Schema schema;
  schema.text("require", require, "layers that must be there, else the exit status is 2");
  schema.flag("json", json, "as JSON");
  DROVER_TRY(const bool go_on, read_options(words, schema, "drover judge doctor [options]\nTries the sandbox on this host: its profiles, their layers, the languages."));
  if (!go_on) return 0;
  nlohmann::ordered_json profiles = nlohmann::ordered_json::object();
  std::string text, refusal;
  bool any = false;
  for (const SandboxProfile profile : kSandboxProfiles) {
    const std::string name(name_of(profile));
    auto sandbox = make_sandbox({.profile = name, .require = require});
    if (sandbox) {
      any = true;
      profiles[name] = {{"works", true}, {"layers", sandbox->layers()}};
      text += fmt::format("profile {:<9} works: {}\n", name, fmt::join(sandbox->layers(), ", "));
    } else {
      if (sandbox.error().code() == ErrorCode::usage) return std::unexpected(std::move(sandbox).error());
      refusal = sandbox.error().what();
      profiles[name] = {{"works", false}, {"reason", refusal}};
      text += fmt::format("profile {:<9} not here: {}\n", name, refusal);
    }
  }
  nlohmann::ordered_json present = nlohmann::ordered_json::object();
  for (const Language& language : languages()) {
    present[language.name] = is_executable(language.needs);
    text += fmt::format("language {:<6} {}\n", language.name, is_executable(language.needs) ? language.needs : "not here: " + language.needs);
  }
  if (json) text = nlohmann::ordered_json{{"profiles", profiles}, {"languages", present}}.dump() + "\n";
  std::fwrite(text.data(), 1, text.size(), stdout);
  return any ? 0 : 2;
}

}  // namespace

std::vector<WorkloadVerb> judge_verbs() {
  return {{"run", "judge one program and say what came of it", run},
          {"attack", "run a corpus of hostile programs against this host's sandbox", attack},
          {"serve", "judge over HTTP: a Unix socket, a loopback port", [](const std::vector<std::string>& words) { return serve(words); }, [](const std::vector<std::string>& words) { return std::ranges::find(words, "--durable") != words.end() && std::ranges::find(words, "--help") == words.end(); }},
          {"doctor", "what the sandbox of this host holds, and which languages there are", doctor}};
}

}  // namespace drover::judge
