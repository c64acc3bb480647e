// drover doctor [--require LIST] [--json]: what this host lets drover enforce, tried for real.

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "base/text.hpp"
#include "cli/job_options.hpp"
#include "cli/messages.hpp"
#include "cli/program.hpp"
#include "os/death_watch.hpp"
#include "os/file_system.hpp"
#include "os/helper_image.hpp"
#include "os/host.hpp"
#include "os/limits.hpp"
#include "os/loop_priority.hpp"

namespace drover::cli {

int doctor(const Program&, const Words& words) {
  std::string require;
  bool json = false;
  Schema schema;
  schema.text("require", require, "end with status 2 unless this host enforces these: memory,processes,containment,tree_kill");
  schema.flag("json", json, "print one JSON object (docs/json.md)");
  if (const auto done = read_words("doctor", "[--require LIST] [--json]", "Shows what this host lets drover enforce", words, schema)) return *done;

  JobOptions asked;
  asked.require = require;
  const HostLimits limits = probe_limits();
  const HostMemory memory = host_memory();
  const std::string file_system = filesystem_name(".").value_or("unknown");
  const bool network = is_network_filesystem(".").value_or(false);
  bool realtime = false;
  std::jthread([&] { realtime = raise_loop_priority().has_value(); }).join();  // a thread of its own: the priority goes with it
  const bool death_hint = DeathWatch::start().has_value();
  const bool helpers = make_executable_image("doctor", std::as_bytes(std::span("#!", 2))).has_value();

  if (json) {
    nlohmann::ordered_json lines = limits.lines;
    const nlohmann::ordered_json out{{"version", DROVER_VERSION},
                                     {"kernel", kernel_release()},
                                     {"usable_cores", usable_cores()},
                                     {"memory_total_bytes", memory.total_bytes},
                                     {"memory_available_bytes", memory.available_bytes},
                                     {"layers",
                                      {{"memory", name_of(limits.layers.memory)},
                                       {"processes", name_of(limits.layers.processes)},
                                       {"containment", name_of(limits.layers.containment)},
                                       {"tree_kill", name_of(limits.layers.tree_kill)}}},
                                     {"lines", lines},
                                     {"file_system", file_system},
                                     {"network_file_system", network},
                                     {"realtime_loop", realtime},
                                     {"death_hint", death_hint},
                                     {"executable_memfd", helpers}};
    if (!print(out.dump() + "\n")) return kFault;
  } else {
    std::string text = fmt::format("drover {}, kernel {}\n", DROVER_VERSION, kernel_release());
    text += fmt::format("  cores        {} usable; up to {} workers without --oversubscribe\n", usable_cores(), 4 * usable_cores());
    text += fmt::format("  memory       {} available of {}{}\n", text_of_bytes(memory.available_bytes), text_of_bytes(memory.total_bytes), memory.limited_by_cgroup ? " (a control group's limit)" : "");
    for (const std::string& line : limits.lines) text += fmt::format("  {}\n", line);
    text += fmt::format("  this folder  {}{}\n", file_system, network ? ": a network file system, no job directory can be here" : "");
    text += fmt::format("  loop         {}\n", realtime ? "real-time priority permitted" : "ordinary priority: its deadlines may be some ms late while workers use every core");
    text += fmt::format("  death hint   {}\n", death_hint ? "available: a dead worker is known in well under a millisecond" : "absent (Linux 5.16 has it): a worker's death is known once its memory is freed");
    text += fmt::format("  helpers      {}\n", helpers ? "can be executed from memory" : "cannot be executed from memory: pools cannot start here");
    if (!print(text)) return kFault;
  }
  std::vector<Error> errors = asked.check();
  return errors.empty() ? kDone : complain("doctor", errors);
}

}  // namespace drover::cli
