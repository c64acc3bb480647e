#include "cli/job_result.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "report/status.hpp"
#include "report/table.hpp"

namespace drover::cli {
namespace {

using nlohmann::ordered_json;

ordered_json value_of(const Figure& figure) {
  return std::visit([](const auto& value) { return ordered_json(value); }, figure.value);
}

}  // namespace

std::string json_of(const JobReport& r) {
  ordered_json faults = ordered_json::object(), figures = ordered_json::object();
  for (const auto& [name, count] : r.faults) faults[name] = count;
  for (const Figure& figure : r.figures) figures[figure.key] = value_of(figure);
  const auto text_or_null = [](const std::string& text) { return text.empty() ? ordered_json(nullptr) : ordered_json(text); };
  return ordered_json{
      {"job_directory", r.directory.string()},
      {"workload", r.workload},
      {"outcome", name_of(r.ending)},
      {"exit_reason", report::sentence_of(name_of(r.ending), r.exit_reason)},
      {"exit_status", exit_status_of(r)},
      {"resumable", report::is_resumable(name_of(r.ending))},
      {"run", r.run},
      {"seed", r.seed},
      {"workers", r.workers},
      {"durability", name_of(r.durability)},
      {"grain", name_of(r.grain)},
      {"digest", r.digest ? ordered_json(*r.digest) : ordered_json(nullptr)},
      {"digest_covers", r.digest ? text_or_null(r.digest_covers) : ordered_json(nullptr)},
      {"digest_reason", r.digest ? ordered_json(nullptr) : text_or_null(r.digest_note)},
      {"counts",
       {{"tasks", r.tasks},
        {"completed", r.completed},
        {"failed", r.failed},
        {"replayed", r.replayed},
        {"recorded", r.recorded},
        {"attempts", r.attempts},
        {"retries", r.retries},
        {"late_discarded", r.late_discarded},
        {"quarantined", r.quarantined},
        {"workers_spawned", r.workers_spawned},
        {"workers_died", r.workers_died},
        {"faults", faults}}},
      {"timings", {{"wall_seconds", r.wall_seconds}, {"consumed_seconds", r.consumed_seconds}, {"worker_cpu_seconds", r.worker_cpu_seconds}}},
      {"figures", figures},
      {"layers",
       {{"memory", name_of(r.layers.memory)}, {"processes", name_of(r.layers.processes)}, {"containment", name_of(r.layers.containment)}, {"tree_kill", name_of(r.layers.tree_kill)}}},
      {"containment", r.containment}}
      .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string text_of_report(const JobReport& r) {
  std::string out = fmt::format("{} {} in {}\n", r.workload, name_of(r.ending), report::short_duration(r.wall_seconds));
  for (const Figure& figure : r.figures) {
    if (!figure.shown.empty()) out += fmt::format("  {}\n", report::printable(figure.shown));
  }
  if (r.digest) out += fmt::format("  digest {}{}\n", *r.digest, r.digest_covers.empty() ? "" : fmt::format(" ({})", r.digest_covers));
  else if (!r.digest_note.empty()) out += fmt::format("  no digest: {}\n", report::printable(r.digest_note));
  std::uint64_t faults = 0;
  std::string kinds;
  for (const auto& [name, count] : r.faults) {
    faults += count;
    kinds += fmt::format("{}{} {}", kinds.empty() ? "" : ", ", count, name);
  }
  out += fmt::format("  {} tasks: {} completed{}{}; {} faults{}{}\n", r.tasks, r.completed, r.failed == 0 ? "" : fmt::format(", {} failed", r.failed),
                     r.replayed == 0 ? "" : fmt::format(", {} of them in earlier runs", r.replayed), faults, faults == 0 ? "" : r.failed == 0 ? " survived: " : ": ", kinds);
  out += fmt::format("  {} workers, containment {}, ledger grain {}, durability {}\n", r.workers, r.containment, name_of(r.grain), name_of(r.durability));
  out += fmt::format("  job {}\n", r.directory.string());
  return out;
}

}  // namespace drover::cli
