#include "judge/foreign_api.hpp"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace drover::judge {
namespace {

using json = nlohmann::json;
using ordered = nlohmann::ordered_json;

Error wrong(std::string_view key, std::string_view why) { return Error(ErrorCode::usage, fmt::format("'{}' {}", key, why), "docs/judge_api.md has what is understood"); }
double seconds(Nanos time) { return static_cast<double>(time.count()) * 1e-9; }
std::string dump(const ordered& value) { return value.dump(-1, ' ', false, json::error_handler_t::replace) + "\n"; }

Result<std::string> text(const json& object, const char* key, bool required = false) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) {
    if (required) return std::unexpected(wrong(key, "is missing"));
    return std::string();
  }
  if (!found->is_string()) return std::unexpected(wrong(key, "must be a text"));
  return found->get<std::string>();
}
Result<double> number(const json& object, const char* key, double otherwise, double most) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return otherwise;
  if (!found->is_number() || !(found->get<double>() >= 0) || !(found->get<double>() <= most)) return std::unexpected(wrong(key, fmt::format("must be a number from 0 to {}", most)));
  return found->get<double>();
}

/// base64 (RFC 4648), as SandboxFusion's files come: with or without line ends and padding.
std::optional<std::string> from_base64(std::string text) {
  std::erase_if(text, [](char c) { return c == '\n' || c == '\r' || c == '='; });
  if (text.size() > (std::size_t{1} << 30)) return std::nullopt;  // more than the library counts
  const std::size_t bytes = text.size() * 6 / 8;
  text.resize((text.size() + 3) / 4 * 4, '=');
  std::string out(text.size() / 4 * 3, '\0');
  if (EVP_DecodeBlock(reinterpret_cast<unsigned char*>(out.data()), reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size())) < 0) return std::nullopt;
  out.resize(bytes);
  return out;
}

std::string fusion_language(const std::string& name) {
  if (name == "nodejs" || name == "javascript" || name == "js") return "node";
  if (name == "c++") return "cpp";
  if (name == "pytest" || name == "python3") return "python";
  return name;
}

ordered fusion_result(const SandboxEnd& end) {
  const bool finished = end.kind == SandboxEndKind::exited;
  const bool late = end.kind == SandboxEndKind::cpu_limit || end.kind == SandboxEndKind::wall_limit;
  ordered one{{"status", late ? "TimeLimitExceeded" : "Finished"}, {"execution_time", seconds(end.wall)}};
  one["return_code"] = late ? ordered(nullptr) : ordered(finished ? end.code : end.kind == SandboxEndKind::signalled ? -end.code : -9);
  one["stdout"] = end.output;
  one["stderr"] = end.errors;
  if (!finished && !late) one["ending"] = name_of(end.kind);  // ours: memory_limit, denied_syscall, ...
  return one;
}

}  // namespace

Result<Execution> read_run_code(std::string_view body) {
  const json object = json::parse(body, nullptr, false);
  if (!object.is_object()) return fail(ErrorCode::usage, "the body must be one JSON object");
  Execution e;
  DROVER_TRY(e.code, text(object, "code", true));
  DROVER_TRY(e.language, text(object, "language", true));
  e.language = fusion_language(e.language);
  DROVER_TRY(e.input, text(object, "stdin"));
  DROVER_TRY(const double run, number(object, "run_timeout", 10, 3600));
  DROVER_TRY(const double compile, number(object, "compile_timeout", 0, 3600));
  DROVER_TRY(const double memory, number(object, "memory_limit_MB", 512, 1 << 20));
  if (memory < 1) e.limits.memory_bytes = std::uint64_t{512} << 20;  // theirs: -1 or 0 is no limit
  else e.limits.memory_bytes = static_cast<std::uint64_t>(memory) << 20;
  e.limits.address_bytes = e.limits.memory_bytes * 4 + (std::uint64_t{1} << 30);
  e.limits.wall = Nanos(static_cast<std::int64_t>(run * 1e9));
  e.limits.cpu = e.limits.wall * 2;  // theirs is a wall time: threads may use more than it
  e.compile_wall = Nanos(static_cast<std::int64_t>(compile * 1e9));
  if (const auto files = object.find("files"); files != object.end() && !files->is_null()) {
    if (!files->is_object() || files->size() > 12) return std::unexpected(wrong("files", "must be an object of at most 12 files"));
    for (const auto& [name, value] : files->items()) {
      if (name.empty() || name.find('/') != std::string::npos || name.starts_with('.')) return std::unexpected(wrong("files", "names must be plain file names"));
      const auto bytes = value.is_string() ? from_base64(value.get<std::string>()) : std::nullopt;
      if (!bytes) return std::unexpected(wrong("files." + name, "must be base64"));
      e.files.emplace_back(name, *bytes);
    }
  }
  if (const auto fetch = object.find("fetch_files"); fetch != object.end() && fetch->is_array() && !fetch->empty()) return std::unexpected(wrong("fetch_files", "is not supported"));
  return e;
}

std::string write_run_code(const Execution&, const Executed& done) {
  const bool compiled = !done.compile || (done.compile->kind == SandboxEndKind::exited && done.compile->code == 0);
  const bool success = done.error.empty() && compiled && done.run && done.run->kind == SandboxEndKind::exited && done.run->code == 0;
  ordered answer{{"status", !done.error.empty() ? "SandboxError" : success ? "Success" : "Failed"}, {"message", done.error}};
  answer["compile_result"] = done.compile ? fusion_result(*done.compile) : ordered(nullptr);
  answer["run_result"] = done.run ? fusion_result(*done.run) : ordered(nullptr);
  answer["executor_pod_name"] = nullptr;
  answer["files"] = ordered::object();
  return dump(answer);
}

Result<GoJudgeRun> read_go_judge(std::string_view body) {
  const json object = json::parse(body, nullptr, false);
  if (!object.is_object() || !object.contains("cmd") || !object["cmd"].is_array()) return fail(ErrorCode::usage, "the body must be one JSON object with a list `cmd`");
  if (object["cmd"].size() != 1 || !object["cmd"][0].is_object()) return std::unexpected(wrong("cmd", "must hold one command: pipes between commands are not supported"));
  if (object.contains("pipeMapping") && !object["pipeMapping"].empty()) return std::unexpected(wrong("pipeMapping", "is not supported"));
  const json& cmd = object["cmd"][0];
  GoJudgeRun run;
  DROVER_TRY(run.request_id, text(object, "requestId"));
  Execution& e = run.execution;
  for (const auto& [key, words] : {std::pair("args", &e.argv), std::pair("env", &e.env)}) {
    if (!cmd.contains(key)) continue;
    if (!cmd[key].is_array()) return std::unexpected(wrong(key, "must be a list of texts"));
    for (const json& word : cmd[key]) {
      if (!word.is_string()) return std::unexpected(wrong(key, "must be a list of texts"));
      words->push_back(word);
    }
  }
  if (e.argv.empty()) return std::unexpected(wrong("args", "is missing"));
  if (e.argv[0].find('/') == std::string::npos) return std::unexpected(wrong("args", "must begin with a path: \"/usr/bin/python3\", or \"./program\" of copyIn"));
  constexpr double kNs = 3.6e12;
  DROVER_TRY(const double cpu, number(cmd, "cpuLimit", 1e9, kNs));
  DROVER_TRY(const double wall, number(cmd, "clockLimit", 0, kNs));
  DROVER_TRY(const double memory, number(cmd, "memoryLimit", 256 << 20, 1e12));
  DROVER_TRY(const double processes, number(cmd, "procLimit", 1, 10'000));
  e.limits.cpu = Nanos(static_cast<std::int64_t>(cpu));
  e.limits.wall = wall > 0 ? Nanos(static_cast<std::int64_t>(wall)) : e.limits.cpu * 2 + Seconds(1);
  e.limits.memory_bytes = static_cast<std::uint64_t>(memory);
  e.limits.address_bytes = e.limits.memory_bytes * 4 + (std::uint64_t{1} << 30);
  e.limits.processes = static_cast<std::uint32_t>(std::max(processes, 1.0));
  if (const auto files = cmd.find("files"); files != cmd.end() && files->is_array()) {
    if (files->size() > 3) return std::unexpected(wrong("files", "has more than stdin, stdout and stderr"));
    for (std::size_t i = 0; i < files->size(); ++i) {
      const json& file = (*files)[i];
      if (i == 0) {
        if (file.is_null()) continue;
        if (!file.is_object() || !file.contains("content") || !file["content"].is_string()) return std::unexpected(wrong("files[0]", "must be {\"content\": TEXT}"));
        e.input = file["content"];
        continue;
      }
      if (file.is_null()) {
        run.streams.emplace_back();
        continue;
      }
      if (!file.is_object() || !file.contains("name") || !file["name"].is_string()) return std::unexpected(wrong(fmt::format("files[{}]", i), "must be {\"name\": TEXT, \"max\": BYTES}"));
      run.streams.push_back(file["name"]);
      DROVER_TRY(const double most, number(file, "max", 1 << 20, 1 << 28));
      (i == 1 ? e.limits.output_bytes : e.limits.error_bytes) = static_cast<std::uint64_t>(most);
    }
  }
  if (const auto in = cmd.find("copyIn"); in != cmd.end() && !in->is_null()) {
    if (!in->is_object() || in->size() > 12) return std::unexpected(wrong("copyIn", "must be an object of at most 12 files"));
    for (const auto& [name, file] : in->items()) {
      if (name.empty() || name.find('/') != std::string::npos || name.starts_with('.')) return std::unexpected(wrong("copyIn", "names must be plain file names"));
      if (!file.is_object() || !file.contains("content") || !file["content"].is_string()) return std::unexpected(wrong("copyIn." + name, "must be {\"content\": TEXT}"));
      e.files.emplace_back(name, file["content"].get<std::string>());
    }
  }
  if (const auto cached = cmd.find("copyOutCached"); cached != cmd.end() && !cached->empty()) return std::unexpected(wrong("copyOutCached", "is not supported"));
  if (const auto out = cmd.find("copyOut"); out != cmd.end() && out->is_array())
    for (const json& name : *out) {
      if (!name.is_string()) return std::unexpected(wrong("copyOut", "must be a list of names"));
      if (name == "stdout" || name == "stderr") continue;
      if (!e.take.empty()) return std::unexpected(wrong("copyOut", "may name one file besides stdout and stderr"));
      e.take = name;
    }
  return run;
}

std::string write_go_judge(const GoJudgeRun& asked, const Executed& done) {
  ordered one;
  if (!done.error.empty() || !done.run) {
    one = {{"status", "Internal Error"}, {"error", done.error}, {"exitStatus", 0}, {"time", 0}, {"memory", 0}, {"runTime", 0}};
  } else {
    const SandboxEnd& end = *done.run;
    const char* status = "Accepted";
    switch (end.kind) {
      using enum SandboxEndKind;
      case exited: status = end.code == 0 ? "Accepted" : "Nonzero Exit Status"; break;
      case signalled: status = "Signalled"; break;
      case denied_syscall: status = "Dangerous Syscall"; break;
      case cpu_limit:
      case wall_limit: status = "Time Limit Exceeded"; break;
      case memory_limit: status = "Memory Limit Exceeded"; break;
      case output_limit: status = "Output Limit Exceeded"; break;
      case cancelled: status = "Internal Error"; break;
      case not_started: status = "File Error"; break;
    }
    one = {{"status", status}, {"exitStatus", end.code}, {"time", end.cpu.count()}, {"memory", end.rss_peak_bytes}, {"runTime", end.wall.count()}, {"procPeak", end.processes_peak}};
    ordered files = ordered::object();
    for (std::size_t i = 0; i < asked.streams.size(); ++i)
      if (!asked.streams[i].empty()) files[asked.streams[i]] = i == 0 ? end.output : end.errors;
    if (end.taken) files[asked.execution.take] = *end.taken;
    one["files"] = std::move(files);
  }
  return dump(ordered::array({std::move(one)}));
}

}  // namespace drover::judge
