// drover version [--json].

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cli/messages.hpp"
#include "cli/program.hpp"

namespace drover::cli {

int version(const Program& program, const Words& words) {
  bool json = false;
  Schema schema;
  schema.flag("json", json, "print one JSON object (docs/json.md)");
  if (const auto done = read_words("version", "[--json]", "Says which drover this is", words, schema)) return *done;
  nlohmann::ordered_json workloads = nlohmann::ordered_json::array();
  for (const auto& workload : program.workloads) workloads.push_back(workload->name());
  const std::string compiler = fmt::format("g++ {}.{}.{}", __GNUC__, __GNUC_MINOR__, __GNUC_PATCHLEVEL__);
  if (json) return print(nlohmann::ordered_json{{"version", DROVER_VERSION}, {"build_type", DROVER_BUILD_TYPE}, {"compiler", compiler}, {"workloads", workloads}}.dump() + "\n") ? kDone : kFault;
  return print(fmt::format("drover {} ({}, {})\n", DROVER_VERSION, DROVER_BUILD_TYPE, compiler)) ? kDone : kFault;
}

}  // namespace drover::cli
