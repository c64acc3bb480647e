#include "drover/types/ending.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "drover/types/outcome.hpp"

namespace drover {

using nlohmann::json;

std::string_view name_of(JobLimit limit) {
  switch (limit) {
    using enum JobLimit;
    case wall: return "wall";
    case until: return "until";
    case tasks: return "tasks";
    case steps: return "steps";
    case cpu: return "cpu";
    case memory: return "memory";
    case checkpoints: return "checkpoints";
    case disk: return "disk";
  }
  std::unreachable();
}

std::string_view name_of(GiveUpReason reason) {
  switch (reason) {
    using enum GiveUpReason;
    case intensity: return "intensity";
    case no_progress: return "no_progress";
    case probe: return "probe";
  }
  std::unreachable();
}

std::string_view name_of(CancelledBy who) {
  switch (who) {
    using enum CancelledBy;
    case operator_: return "operator";
    case interrupt: return "interrupt";
  }
  std::unreachable();
}

std::string_view name_of(const Ending& ending) {
  return std::visit(Overloaded{[](const ending::Completed&) { return std::string_view("completed"); },
                               [](const ending::Incomplete&) { return std::string_view("incomplete"); },
                               [](const ending::Limit&) { return std::string_view("limit"); },
                               [](const ending::Stalled&) { return std::string_view("stalled"); },
                               [](const ending::GaveUp&) { return std::string_view("gave_up"); },
                               [](const ending::Fenced&) { return std::string_view("fenced"); },
                               [](const ending::Cancelled&) { return std::string_view("cancelled"); },
                               [](const ending::HostFault&) { return std::string_view("host_fault"); },
                               [](const ending::SupervisorLost&) { return std::string_view("supervisor_lost"); },
                               [](const ending::HostReboot&) { return std::string_view("host_reboot"); }},
                    ending);
}

std::string text_of(const Ending& ending) {
  const std::string_view name = name_of(ending);
  return std::visit(
      Overloaded{[&](const ending::Limit& e) {
                   return e.evidence.empty() ? fmt::format("{}({})", name, name_of(e.what)) : fmt::format("{}({}: {})", name, name_of(e.what), e.evidence);
                 },
                 [&](const ending::GaveUp& e) {
                   return e.evidence.empty() ? fmt::format("{}({})", name, name_of(e.why))
                                             : fmt::format("{}({}: {})", name, name_of(e.why), e.evidence);
                 },
                 [&](const ending::Cancelled& e) { return fmt::format("{}({})", name, name_of(e.who)); },
                 [&](const ending::HostFault& e) { return fmt::format("{}({})", name, e.step); },
                 [&](const ending::Completed&) { return std::string(name); },
                 [&](const ending::Incomplete& e) { return e.evidence.empty() ? std::string(name) : fmt::format("{}({})", name, e.evidence); },
                 [&](const ending::Stalled& e) { return e.evidence.empty() ? std::string(name) : fmt::format("{}({})", name, e.evidence); },
                 [&](const ending::Fenced&) { return std::string(name); },
                 [&](const ending::SupervisorLost&) { return std::string(name); },
                 [&](const ending::HostReboot&) { return std::string(name); }},
      ending);
}

std::string json_of(const Ending& ending) {
  json out{{"name", name_of(ending)}};
  std::visit(Overloaded{[&](const ending::Limit& e) {
                          out["what"] = name_of(e.what);
                          if (!e.evidence.empty()) out["evidence"] = e.evidence;
                        },
                        [&](const ending::Incomplete& e) {
                          if (!e.evidence.empty()) out["evidence"] = e.evidence;
                        },
                        [&](const ending::GaveUp& e) {
                          out["why"] = name_of(e.why);
                          out["evidence"] = e.evidence;
                        },
                        [&](const ending::Cancelled& e) { out["who"] = name_of(e.who); },
                        [&](const ending::HostFault& e) { out["step"] = e.step; },
                        [&](const ending::Stalled& e) {
                          if (!e.evidence.empty()) out["evidence"] = e.evidence;
                        },
                        [](const ending::Completed&) {},
                        [](const ending::Fenced&) {}, [](const ending::SupervisorLost&) {}, [](const ending::HostReboot&) {}},
             ending);
  return out.dump(-1, ' ', false, json::error_handler_t::replace);
}

Result<Ending> parse_ending(std::string_view text) {
  const auto corrupt = [&](std::string_view why) {
    return fail(ErrorCode::corrupt, fmt::format("ending '{}': {}", text.substr(0, 200), why));
  };
  const json in = json::parse(text, nullptr, false);
  if (!in.is_object()) return corrupt("no JSON object");
  const auto word = [&](const char* key) {
    const auto it = in.find(key);
    return it != in.end() && it->is_string() ? it->get<std::string>() : std::string();
  };
  const std::string name = word("name");
  if (name == "completed") return ending::Completed{};
  if (name == "incomplete") return ending::Incomplete{word("evidence")};
  if (name == "stalled") return ending::Stalled{word("evidence")};
  if (name == "fenced") return ending::Fenced{};
  if (name == "supervisor_lost") return ending::SupervisorLost{};
  if (name == "host_reboot") return ending::HostReboot{};
  if (name == "host_fault") return ending::HostFault{word("step")};
  if (name == "limit") {
    for (const JobLimit what : {JobLimit::wall, JobLimit::until, JobLimit::tasks, JobLimit::steps, JobLimit::cpu, JobLimit::memory, JobLimit::checkpoints, JobLimit::disk}) {
      if (word("what") == name_of(what)) return ending::Limit{what, word("evidence")};
    }
    return corrupt("unknown limit");
  }
  if (name == "gave_up") {
    for (const GiveUpReason why : {GiveUpReason::intensity, GiveUpReason::no_progress, GiveUpReason::probe}) {
      if (word("why") == name_of(why)) return ending::GaveUp{why, word("evidence")};
    }
    return corrupt("unknown reason");
  }
  if (name == "cancelled") {
    for (const CancelledBy who : {CancelledBy::operator_, CancelledBy::interrupt}) {
      if (word("who") == name_of(who)) return ending::Cancelled{who};
    }
    return corrupt("unknown canceller");
  }
  return corrupt("unknown name");
}

int exit_status_of(const Ending& ending) {
  return std::visit(Overloaded{[](const ending::Completed&) { return 0; }, [](const ending::Incomplete&) { return 1; },
                               [](const ending::Limit&) { return 3; },
                               [](const ending::Cancelled& e) { return e.who == CancelledBy::interrupt ? 130 : 3; },
                               [](const ending::Stalled&) { return 4; }, [](const ending::GaveUp&) { return 4; },
                               [](const ending::Fenced&) { return 4; }, [](const ending::HostFault&) { return 4; },
                               [](const ending::SupervisorLost&) { return 4; }, [](const ending::HostReboot&) { return 4; }},
                    ending);
}

}  // namespace drover
