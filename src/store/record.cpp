#include "store/record.hpp"

#include <nlohmann/json.hpp>
#include <utility>

namespace drover::store {

std::string_view name_of(IncarnationEventKind kind) {
  switch (kind) {
    case IncarnationEventKind::spawned: return "spawned";
    case IncarnationEventKind::ready: return "ready";
    case IncarnationEventKind::ended: return "ended";
  }
  std::unreachable();
}
std::string_view name_of(CheckpointState state) {
  switch (state) {
    case CheckpointState::good: return "good";
    case CheckpointState::quarantined: return "quarantined";
    case CheckpointState::deleted: return "deleted";
  }
  std::unreachable();
}

bool reopens_on_resume(const Outcome& outcome) {
  return std::visit(Overloaded{[](const outcome::Completed&) { return false; },
                               [](const outcome::AppError&) { return false; },
                               [](const outcome::Exited&) { return false; },
                               [](const outcome::Crashed&) { return false; },
                               [](const outcome::OutOfMemory&) { return false; },
                               [](const outcome::OverLimit&) { return false; },
                               [](const outcome::TimedOut& o) { return o.what == TimeoutKind::run; },
                               [](const outcome::Stalled&) { return false; },
                               [](const outcome::Lost&) { return false; },
                               [](const outcome::ProtocolBroken&) { return false; },
                               [](const outcome::PolicyViolation&) { return false; },
                               [](const outcome::StartFailed&) { return false; },
                               [](const outcome::Cancelled&) { return true; },
                               [](const outcome::Quarantined&) { return false; },
                               [](const outcome::Rejected&) { return true; },
                               [](const outcome::UnknownEffect&) { return false; }},
                    outcome);
}

std::string json_of_ending(const Ending& ending) {
  const nlohmann::json object = {{"name", drover::name_of(ending)}, {"text", text_of(ending)}};
  return object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace drover::store
