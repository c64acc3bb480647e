#include "judge/execute.hpp"

#include <nlohmann/json.hpp>

namespace drover::judge {
namespace {

using json = nlohmann::json;

constexpr std::string_view kMark = R"({"execute":)";

/// Programs print any bytes; JSON holds text. Latin-1 keeps each byte as one character, and is undone at the other side.
std::string widened(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80) text += c;
    else text += static_cast<char>(0xC0 | (byte >> 6)), text += static_cast<char>(0x80 | (byte & 0x3F));
  }
  return text;
}
std::string narrowed(std::string_view text) {
  std::string bytes;
  bytes.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c >= 0xC0 && i + 1 < text.size()) bytes += static_cast<char>(((c & 3U) << 6) | (static_cast<unsigned char>(text[++i]) & 0x3FU));
    else bytes += text[i];
  }
  return bytes;
}

json json_of_end(const SandboxEnd& end) {
  json one{{"kind", static_cast<int>(end.kind)}, {"code", end.code}, {"output", widened(end.output)}, {"errors", widened(end.errors)}, {"cpu", end.cpu.count()}, {"wall", end.wall.count()}, {"rss", end.rss_peak_bytes}, {"processes", end.processes_peak}};
  if (end.taken) one["taken"] = widened(*end.taken);
  return one;
}
SandboxEnd end_of(const json& one) {
  SandboxEnd end;
  end.kind = static_cast<SandboxEndKind>(one.at("kind").get<int>());
  end.code = one.at("code");
  end.output = narrowed(one.at("output").get<std::string>());
  end.errors = narrowed(one.at("errors").get<std::string>());
  end.cpu = Nanos(one.at("cpu").get<std::int64_t>());
  end.wall = Nanos(one.at("wall").get<std::int64_t>());
  end.rss_peak_bytes = one.at("rss");
  end.processes_peak = one.at("processes");
  if (one.contains("taken")) end.taken = narrowed(one["taken"].get<std::string>());
  return end;
}

}  // namespace

bool is_execution(std::string_view text) { return text.starts_with(kMark); }

std::string json_of(const Execution& e) {
  json files = json::array();
  for (const auto& [name, bytes] : e.files) files.push_back({widened(name), widened(bytes)});
  json argv = json::array(), env = json::array();
  for (const std::string& word : e.argv) argv.push_back(widened(word));
  for (const std::string& word : e.env) env.push_back(widened(word));
  const SandboxLimits& l = e.limits;
  return std::string(kMark) + json{{"language", e.language}, {"code", widened(e.code)}, {"argv", argv}, {"env", env}, {"files", files}, {"input", widened(e.input)}, {"take", widened(e.take)}, {"compile_wall", e.compile_wall.count()},
      {"limits", {l.cpu.count(), l.wall.count(), l.memory_bytes, l.address_bytes, l.output_bytes, l.error_bytes, l.disk_bytes, l.processes}}}.dump() + "}";
}

Result<Execution> parse_execution(std::string_view text) try {
  const json one = json::parse(text).at("execute");
  Execution e{.language = one.at("language"), .code = narrowed(one.at("code").get<std::string>())};
  for (const json& word : one.at("argv")) e.argv.push_back(narrowed(word.get<std::string>()));
  for (const json& word : one.at("env")) e.env.push_back(narrowed(word.get<std::string>()));
  for (const json& file : one.at("files")) e.files.emplace_back(narrowed(file.at(0).get<std::string>()), narrowed(file.at(1).get<std::string>()));
  e.input = narrowed(one.at("input").get<std::string>());
  e.take = narrowed(one.at("take").get<std::string>());
  e.compile_wall = Nanos(one.at("compile_wall").get<std::int64_t>());
  const json& l = one.at("limits");
  e.limits = {.cpu = Nanos(l.at(0).get<std::int64_t>()), .wall = Nanos(l.at(1).get<std::int64_t>()), .memory_bytes = l.at(2), .address_bytes = l.at(3), .output_bytes = l.at(4), .error_bytes = l.at(5), .disk_bytes = l.at(6), .processes = l.at(7)};
  return e;
} catch (const json::exception&) {
  return fail(ErrorCode::corrupt, "judge: this is no execution");
}

std::string json_of(const Executed& e) {
  json one{{"error", e.error}, {"profile", e.profile}};
  if (e.compile) one["compile"] = json_of_end(*e.compile);
  if (e.run) one["run"] = json_of_end(*e.run);
  return one.dump(-1, ' ', false, json::error_handler_t::replace);
}

Result<Executed> parse_executed(std::string_view text) try {
  const json one = json::parse(text);
  Executed e{.error = one.at("error"), .profile = one.at("profile")};
  if (one.contains("compile")) e.compile = end_of(one["compile"]);
  if (one.contains("run")) e.run = end_of(one["run"]);
  return e;
} catch (const json::exception&) {
  return fail(ErrorCode::corrupt, "judge: this is no answer to an execution");
}

}  // namespace drover::judge
