#pragma once
/// How a job ended: one of a closed set, recorded before the process exits or reconstructed by the next `resume` or `why`.

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>

#include "drover/types/error.hpp"

namespace drover {
enum class JobLimit : std::uint8_t { wall, until, tasks, steps, cpu, memory, checkpoints, disk };
enum class GiveUpReason : std::uint8_t { intensity, no_progress, probe };
enum class CancelledBy : std::uint8_t { operator_, interrupt };

namespace ending {
struct Completed { bool operator==(const Completed&) const = default; };  ///< every task completed
struct Incomplete { std::string evidence{}; bool operator==(const Incomplete&) const = default; };  ///< the job went to its end, some tasks did not complete
struct Limit { JobLimit what{}; std::string evidence{}; bool operator==(const Limit&) const = default; };  ///< stopped at a limit; resumable
struct Stalled { std::string evidence{}; bool operator==(const Stalled&) const = default; };
struct GaveUp { GiveUpReason why{}; std::string evidence; bool operator==(const GaveUp&) const = default; };
struct Fenced { bool operator==(const Fenced&) const = default; };  ///< another supervisor took the job over
struct Cancelled { CancelledBy who{}; bool operator==(const Cancelled&) const = default; };  ///< `drover stop`, TERM or Ctrl-C; resumable
struct HostFault { std::string step; bool operator==(const HostFault&) const = default; };  ///< disk, ledger, host: says which step
struct SupervisorLost { bool operator==(const SupervisorLost&) const = default; };  ///< found by the next reader: the supervisor died without a word
struct HostReboot { bool operator==(const HostReboot&) const = default; };  ///< found by the next reader: the boot id differs
}  // namespace ending

using Ending = std::variant<ending::Completed, ending::Incomplete, ending::Limit, ending::Stalled, ending::GaveUp, ending::Fenced,
                            ending::Cancelled, ending::HostFault, ending::SupervisorLost, ending::HostReboot>;

std::string_view name_of(const Ending& ending);
std::string text_of(const Ending& ending);
std::string_view name_of(JobLimit limit);
std::string_view name_of(GiveUpReason reason);
std::string_view name_of(CancelledBy who);
/// One JSON object for the ledger, and back; as json_of(Outcome).
std::string json_of(const Ending& ending);
Result<Ending> parse_ending(std::string_view json);
/// 0 completed; 1 incomplete; 3 limit, cancelled(operator); 130 cancelled(interrupt); 4 the rest.
int exit_status_of(const Ending& ending);
}  // namespace drover
