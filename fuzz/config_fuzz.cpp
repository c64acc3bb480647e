// A TOML file: every field stays in its range whatever the text, and what is written back reads as the same values.

#include <cstdint>
#include <cstdlib>
#include <string>

#include "drover/config.hpp"

namespace {
struct Fields {
  int workers = 2;
  double share = 0.5;
  drover::Nanos wall{};
  std::uint64_t memory = 1 << 20;
  std::string name = "a", mode = "exact";
  bool json = false;
  drover::Schema schema() {
    drover::Schema s;
    s.integer("workers", workers, {1, 64}, "w").real("share", share, {0.0, 1.0}, "s").duration("attempt-wall", wall, {drover::Nanos(0), std::chrono::hours(1)}, "d");
    s.bytes("memory", memory, {1, 1u << 30}, "m").text("name", name, "n").choice("mode", mode, {"exact", "shared"}, "c").flag("json", json, "j");
    return s;
  }
};
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace drover;
  Fields fields;
  Schema schema = fields.schema();
  const auto errors = apply_toml(std::string_view(reinterpret_cast<const char*>(data), size), "job.toml", "job", schema);
  if (fields.workers < 1 || fields.workers > 64 || !(fields.share >= 0 && fields.share <= 1) || (fields.mode != "exact" && fields.mode != "shared")) std::abort();
  if (errors.empty()) {
    Fields again;
    Schema other = again.schema();
    const std::string text = to_toml("job", schema);
    if (!apply_toml(text, "job.toml", "job", other).empty() || to_toml("job", other) != text) std::abort();
  }
  return 0;
}
