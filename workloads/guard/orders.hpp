#pragma once
/// What the plan tells its worker once: everything about the command that does not change from attempt to attempt.

#include <cstdint>
#include <string>
#include <vector>

#include "drover/types/bytes.hpp"
#include "drover/types/error.hpp"
#include "drover/types/time.hpp"
#include "guard/policy.hpp"

namespace drover::guard {

/// What holds for every attempt; travels as the pool's broadcast, so that an attempt's input is a function of its history alone.
struct Orders {
  std::vector<std::string> command{};
  std::string directory{};         ///< the command's working directory
  std::string log{};               ///< file that takes what it writes
  std::string evidence{};          ///< file that takes what the kernel said of it when it stalled
  std::string notify_directory{};  ///< "" = no NOTIFY_SOCKET
  std::string progress_regex{};    ///< "" = none; group 1, where there is one, is the step number
  std::string progress_file{};     ///< "" = none; a newer modification time is progress
  std::string store{};             ///< checkpoint store; "" = none
  std::string lineage{};           ///< of the checkpoints
  std::string staging{};           ///< directory where the command puts what is to be committed
  std::string run{};               ///< the job's name, for manifests
  std::string fingerprint{};       ///< JSON that checkpoints must match, "" = nothing is compared
  std::string probe_rules{};       ///< drover/probe.hpp
  std::string ingest{};            ///< DIRECTORY/PATTERN: files closed there are checkpoints; "" = none
  std::string phase_times{};       ///< guard/progress.hpp
  std::vector<std::string> probe_command{};  ///< exits with 0 if the checkpoint in DROVER_PROBE is good
  std::uint64_t log_bytes_max = 0;
  std::uint64_t memory_bytes_max = 0;  ///< 0 = none
  std::uint64_t steps_max = 0;         ///< 0 = none; of the lineage
  Nanos stall = kUnlimited;
  Nanos stop_grace{};              ///< between TERM and KILL
  Nanos release{};                     ///< at the job's end: its memory may take so long to be freed before the attempt is reported
  Nanos probe_time{};              ///< of the probe command
  std::uint64_t probe_failures = 3;  ///< so many in a row end the run
  std::uint64_t disk_bytes_max = 0;  ///< of staging and store; 0 = none
  RestartPolicy policy{};
  bool fresh = false;              ///< starts anew, whatever the lineage holds, until the head is of this run
  bool spare = false;              ///< the next attempt's command is started beforehand and waits at its gate
  std::uint64_t keep_last = 0, keep_best = 0, keep_every = 0, checkpoints_max = 0;  ///< Retention
  friend bool operator==(const Orders&, const Orders&) = default;
};
Bytes encode(const Orders& orders);
Result<Orders> decode_orders(BytesView bytes);

}  // namespace drover::guard
