#include "store/manifest.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/bytes.hpp"

namespace drover {

namespace {

/// Where two long texts differ, with a little around it: `...seed: 7`.
std::string around(const std::string& text, const std::string& other) {
  constexpr std::size_t kAround = 16, kWhole = 100;
  if (text.size() <= kWhole && other.size() <= kWhole) return text;
  const auto begin = static_cast<std::size_t>(std::ranges::mismatch(text, other).in1 - text.begin());
  std::size_t same_end = 0;
  while (same_end < std::min(text.size(), other.size()) - begin && text[text.size() - 1 - same_end] == other[other.size() - 1 - same_end]) ++same_end;
  const std::size_t from = begin < kAround ? 0 : begin - kAround, to = std::min({text.size(), text.size() - same_end + kAround, from + kWhole});
  return fmt::format("{}{}{}", from == 0 ? "" : "...", text.substr(from, to - from), to == text.size() ? "" : "...");
}

}  // namespace

std::vector<std::string> differences(const Fingerprint& here, const Fingerprint& there) {
  std::vector<std::string> lines;
  if (!here.config.empty() && !there.config.empty() && here.config != there.config) lines.push_back(fmt::format("configuration: '{}' here, '{}' in the checkpoint", around(here.config, there.config), around(there.config, here.config)));
  if (here.features.empty() || there.features.empty()) return lines;
  if (here.features.size() != there.features.size()) lines.push_back(fmt::format("features: {} here, {} in the checkpoint", here.features.size(), there.features.size()));
  for (std::size_t i = 0; i < std::min(here.features.size(), there.features.size()); ++i) {
    const FeatureColumn &a = here.features[i], &b = there.features[i];
    const auto tell = [&](std::string_view what, const std::string& mine, const std::string& theirs) {
      if (mine != theirs) lines.push_back(fmt::format("feature {}: {} '{}' here, '{}' in the checkpoint", i, what, mine, theirs));
    };
    tell("name", a.name, b.name);
    tell("dtype", a.dtype, b.dtype);
    tell("shape", fmt::format("{}", fmt::join(a.shape, "x")), fmt::format("{}", fmt::join(b.shape, "x")));
    tell("scale", fmt::format("{}", a.scale), fmt::format("{}", b.scale));
  }
  return lines;
}

std::string_view name_of(CheckpointStatus status) {
  switch (status) {
    using enum CheckpointStatus;
    case verified: return "verified";
    case good: return "good";
    case quarantined: return "quarantined";
  }
  std::unreachable();
}

}  // namespace drover

namespace drover::store {

using nlohmann::ordered_json;

namespace {
constexpr std::string_view kFormat = "drover-checkpoint";
constexpr int kVersion = 1;
}  // namespace

bool is_safe_name(std::string_view name) {
  if (name.empty() || name.size() > 1024 || name.front() == '/' || name.find('\0') != name.npos) return false;
  while (true) {
    const auto slash = name.find('/');
    const std::string_view part = name.substr(0, slash);
    if (part.empty() || part == "." || part == ".." || part.size() > 255) return false;
    if (slash == name.npos) return true;
    name.remove_prefix(slash + 1);
  }
}

namespace {

/// JSON knows no NaN; a training run does.
ordered_json json_of(double number) {
  if (std::isfinite(number)) return number;
  return std::isnan(number) ? "nan" : number > 0 ? "inf" : "-inf";
}
double number_in(const ordered_json& in) {
  if (!in.is_string()) return in.get<double>();
  return in == "nan" ? std::numeric_limits<double>::quiet_NaN() : in == "inf" ? std::numeric_limits<double>::infinity() : -std::numeric_limits<double>::infinity();
}

ordered_json json_of(const StoredFile& f) {
  ordered_json tensors = ordered_json::array();
  for (const Tensor& t : f.tensors) tensors.push_back({{"name", t.name}, {"dtype", t.dtype}, {"shape", t.shape}, {"offset", t.offset}, {"bytes", t.bytes}});
  return {{"name", f.name}, {"bytes", f.bytes}, {"sha256", f.sha256}, {"encoding", f.chunked ? "chunked" : "whole"}, {"tensors", std::move(tensors)}};
}
StoredFile file_in(const ordered_json& in) {
  StoredFile f{.name = in.at("name"), .bytes = in.at("bytes"), .sha256 = in.at("sha256"), .chunked = in.at("encoding") == "chunked", .tensors = {}};
  for (const auto& t : in.at("tensors")) f.tensors.push_back({t.at("name"), t.at("dtype"), t.at("shape").get<std::vector<std::uint64_t>>(), t.at("offset"), t.at("bytes")});
  return f;
}

std::vector<FeatureColumn> features_in(const ordered_json& in) {
  std::vector<FeatureColumn> features;
  for (const auto& f : in) features.push_back({f.at("name"), f.at("dtype"), f.at("shape").get<std::vector<std::uint64_t>>(), f.at("scale")});
  return features;
}

}  // namespace

std::string text_of(const Manifest& m) {
  ordered_json features = ordered_json::array(), files = ordered_json::array(), metrics = ordered_json::object();
  for (const FeatureColumn& f : m.fingerprint.features) features.push_back({{"name", f.name}, {"dtype", f.dtype}, {"shape", f.shape}, {"scale", f.scale}});
  for (const StoredFile& f : m.files) files.push_back(json_of(f));
  for (const auto& [name, value] : m.metrics) metrics[name] = json_of(value);
  const ordered_json out = {{"format", kFormat},
                            {"version", kVersion},
                            {"lineage", m.lineage},
                            {"parent", m.parent},
                            {"epoch", m.epoch},
                            {"step", m.step},
                            {"run", m.run},
                            {"argv", m.argv},
                            {"created", m.created},
                            {"config", m.fingerprint.config},
                            {"features", std::move(features)},
                            {"state", m.state},
                            {"metric", m.metric ? ordered_json(*m.metric) : ordered_json(nullptr)},
                            {"metrics", std::move(metrics)},
                            {"files", std::move(files)}};
  return out.dump(1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

Result<Manifest> parse_manifest(std::string_view text) {
  const auto corrupt = [](std::string_view why) { return fail(ErrorCode::corrupt, fmt::format("manifest: {}", why)); };
  const ordered_json in = ordered_json::parse(text, nullptr, false);
  if (!in.is_object()) return corrupt("no JSON object");
  Manifest m;
  try {
    if (in.at("format") != kFormat) return corrupt("another format");
    if (in.at("version") != kVersion) return fail(ErrorCode::refused, fmt::format("manifest: version {}, this drover reads {}", in.at("version").dump(), kVersion), "use the drover that wrote it");
    m.lineage = in.at("lineage");
    m.parent = in.at("parent");
    m.epoch = in.at("epoch");
    m.step = in.at("step");
    m.run = in.at("run");
    m.argv = in.at("argv").get<std::vector<std::string>>();
    m.created = in.at("created");
    m.fingerprint.config = in.at("config");
    m.fingerprint.features = features_in(in.at("features"));
    m.state = in.at("state");
    if (!in.at("metric").is_null()) m.metric = in.at("metric").get<double>();
    for (const auto& [name, value] : in.at("metrics").items()) m.metrics[name] = number_in(value);
    for (const auto& f : in.at("files")) m.files.push_back(file_in(f));
  } catch (const nlohmann::json::exception& e) {
    return corrupt(e.what());
  }
  for (const StoredFile& f : m.files) {
    if (!is_safe_name(f.name)) return corrupt(fmt::format("file name '{}' leaves its directory", f.name));
    if (!parse_sha256(f.sha256)) return corrupt(fmt::format("file '{}' has no SHA-256", f.name));
  }
  if (text_of(m) != text) return corrupt("not in canonical form");
  return m;
}

Result<std::vector<Tensor>> safetensors_in(std::uint64_t file_bytes, const std::function<Result<Bytes>(std::uint64_t offset, std::size_t size)>& read) {
  const auto unsound = [](std::string_view why) { return fail(ErrorCode::corrupt, fmt::format("no sound safetensors file: {}", why), "it may have been cut while it was saved"); };
  constexpr std::uint64_t kHeaderMax = 100u << 20;
  if (file_bytes < 8) return unsound("it is shorter than its header");
  DROVER_TRY(const Bytes length, read(0, 8));
  const auto size = get_le<std::uint64_t>(length.data());
  if (size > kHeaderMax || size > file_bytes - 8) return unsound("its header is longer than the file");
  DROVER_TRY(const Bytes header, read(8, static_cast<std::size_t>(size)));
  const ordered_json in = ordered_json::parse(text_view(header), nullptr, false);
  if (!in.is_object()) return unsound("its header is no JSON object");
  std::vector<Tensor> tensors;
  std::uint64_t end = 0;
  try {
    for (const auto& [name, t] : in.items()) {
      if (name == "__metadata__") continue;
      const auto offsets = t.at("data_offsets").get<std::vector<std::uint64_t>>();
      if (offsets.size() != 2 || offsets[1] < offsets[0] || offsets[1] > file_bytes - 8 - size) return unsound(fmt::format("tensor '{}' ends behind the file", name));
      tensors.push_back({name, t.at("dtype"), t.at("shape").get<std::vector<std::uint64_t>>(), 8 + size + offsets[0], offsets[1] - offsets[0]});
      end = std::max(end, offsets[1]);
    }
  } catch (const nlohmann::json::exception& e) {
    return unsound(e.what());
  }
  if (8 + size + end != file_bytes) return unsound(fmt::format("{} bytes follow its last tensor", file_bytes - 8 - size - end));
  return tensors;
}

std::string id_of(const Manifest& manifest) { return hex_of(sha256_of(text_of(manifest))); }

}  // namespace drover::store

namespace drover {

Result<Fingerprint> parse_fingerprint(std::string_view json) {
  const nlohmann::ordered_json in = nlohmann::ordered_json::parse(json, nullptr, false);
  if (!in.is_object()) return fail(ErrorCode::usage, "a fingerprint is a JSON object", "{\"config\": TEXT, \"features\": [{\"name\": ..., \"dtype\": ..., \"shape\": [...], \"scale\": ...}]}");
  Fingerprint out;
  try {
    for (const auto& [key, value] : in.items()) {
      if (key == "config") out.config = value.is_string() ? value.get<std::string>() : value.dump();
      else if (key == "features") out.features = store::features_in(value);
      else return fail(ErrorCode::usage, fmt::format("fingerprint: unknown key '{}'", key), "config and features are known");
    }
  } catch (const nlohmann::json::exception& e) {
    return fail(ErrorCode::usage, fmt::format("fingerprint: {}", e.what()));
  }
  return out;
}

}  // namespace drover
