#include "store/manifest.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace drover {

std::vector<std::string> differences(const Fingerprint& here, const Fingerprint& there) {
  std::vector<std::string> lines;
  if (!here.config.empty() && !there.config.empty() && here.config != there.config) lines.push_back(fmt::format("configuration: '{}' here, '{}' in the checkpoint", here.config, there.config));
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
    case deleted: return "deleted";
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

std::string text_of(const Manifest& m) {
  ordered_json features = ordered_json::array(), files = ordered_json::array();
  for (const FeatureColumn& f : m.fingerprint.features) features.push_back({{"name", f.name}, {"dtype", f.dtype}, {"shape", f.shape}, {"scale", f.scale}});
  for (const StoredFile& f : m.files) files.push_back({{"name", f.name}, {"bytes", f.bytes}, {"sha256", f.sha256}});
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
    for (const auto& f : in.at("features")) m.fingerprint.features.push_back({f.at("name"), f.at("dtype"), f.at("shape").get<std::vector<std::uint64_t>>(), f.at("scale")});
    m.state = in.at("state");
    if (!in.at("metric").is_null()) m.metric = in.at("metric").get<double>();
    for (const auto& f : in.at("files")) m.files.push_back({f.at("name"), f.at("bytes"), f.at("sha256")});
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

std::string id_of(const Manifest& manifest) { return hex_of(sha256_of(text_of(manifest))); }

}  // namespace drover::store
