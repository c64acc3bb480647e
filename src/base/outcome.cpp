#include "drover/types/outcome.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <nlohmann/json.hpp>
#include <utility>

namespace drover {

using nlohmann::json;

namespace {

constexpr std::string_view kNames[] = {"completed",       "app_error",        "exited",       "crashed",   "out_of_memory", "over_limit",
                                       "timed_out",       "stalled",          "lost",         "protocol_broken",
                                       "policy_violation", "start_failed",    "cancelled",    "quarantined", "rejected",
                                       "unknown_effect"};
static_assert(std::size(kNames) == std::variant_size_v<Outcome>);

Blame blame_of_loss(LossCause cause) {
  switch (cause) {
    using enum LossCause;
    case killed:
    case keeper:
    case supervisor: return Blame::host;
    case unstarted: return Blame::none;
    case operator_: return Blame::operator_;
  }
  std::unreachable();
}

std::string bytes_text(std::uint64_t bytes) {
  if (bytes < 1024) return fmt::format("{} B", bytes);
  if (bytes < 1024 * 1024) return fmt::format("{:.4g} KiB", static_cast<double>(bytes) / 1024);
  if (bytes < 1024ull * 1024 * 1024) return fmt::format("{:.4g} MiB", static_cast<double>(bytes) / (1024.0 * 1024));
  return fmt::format("{:.4g} GiB", static_cast<double>(bytes) / (1024.0 * 1024 * 1024));
}

}  // namespace

std::string_view name_of(TimeoutKind kind) {
  switch (kind) {
    using enum TimeoutKind;
    case queue: return "queue";
    case attempt_wall: return "attempt_wall";
    case attempt_cpu: return "attempt_cpu";
    case task: return "task";
    case run: return "run";
  }
  std::unreachable();
}

std::string_view name_of(StallKind kind) {
  switch (kind) {
    using enum StallKind;
    case spinning: return "spinning";
    case blocked: return "blocked";
    case stopped: return "stopped";
  }
  std::unreachable();
}

std::string_view name_of(LossCause cause) {
  switch (cause) {
    using enum LossCause;
    case killed: return "killed";
    case keeper: return "keeper";
    case supervisor: return "supervisor";
    case unstarted: return "unstarted";
    case operator_: return "operator";
  }
  std::unreachable();
}

std::string_view name_of(CancelKind kind) {
  switch (kind) {
    using enum CancelKind;
    case queued: return "queued";
    case running: return "running";
  }
  std::unreachable();
}

std::string_view name_of(RejectKind kind) {
  switch (kind) {
    using enum RejectKind;
    case full: return "full";
    case closing: return "closing";
  }
  std::unreachable();
}

std::string_view name_of(LimitKind kind) {
  switch (kind) {
    using enum LimitKind;
    case memory: return "memory";
    case processes: return "processes";
    case log_bytes: return "log_bytes";
    case result_bytes: return "result_bytes";
  }
  std::unreachable();
}

std::string_view name_of(RetryClass retry) {
  switch (retry) {
    using enum RetryClass;
    case none: return "none";
    case never: return "never";
    case blamed: return "blamed";
    case free: return "free";
  }
  std::unreachable();
}

std::string_view name_of(Blame blame) {
  switch (blame) {
    using enum Blame;
    case none: return "none";
    case task: return "task";
    case worker: return "worker";
    case host: return "host";
    case operator_: return "operator";
  }
  std::unreachable();
}

RetryClass retry_of(const Outcome& outcome) {
  using enum RetryClass;
  return std::visit(Overloaded{[](const outcome::Completed&) { return none; },
                               [](const outcome::AppError&) { return never; },
                               [](const outcome::Exited&) { return blamed; },
                               [](const outcome::Crashed&) { return blamed; },
                               [](const outcome::OutOfMemory& o) { return o.ours ? never : blamed; },
                               [](const outcome::OverLimit&) { return never; },
                               [](const outcome::TimedOut&) { return never; },
                               [](const outcome::Stalled&) { return blamed; },
                               [](const outcome::Lost&) { return free; },
                               [](const outcome::ProtocolBroken&) { return blamed; },
                               [](const outcome::PolicyViolation&) { return never; },
                               [](const outcome::StartFailed&) { return free; },
                               [](const outcome::Cancelled&) { return never; },
                               [](const outcome::Quarantined&) { return never; },
                               [](const outcome::Rejected&) { return never; },
                               [](const outcome::UnknownEffect&) { return never; }},
                    outcome);
}

Blame blame_of(const Outcome& outcome) {
  return std::visit(
      Overloaded{[](const outcome::Completed&) { return Blame::none; },
                 [](const outcome::AppError&) { return Blame::task; },
                 [](const outcome::Exited&) { return Blame::worker; },
                 [](const outcome::Crashed&) { return Blame::worker; },
                 [](const outcome::OutOfMemory& o) { return o.ours ? Blame::task : Blame::host; },
                 [](const outcome::OverLimit&) { return Blame::task; },
                 [](const outcome::TimedOut& o) {
                   switch (o.what) {
                     case TimeoutKind::queue: return Blame::host;
                     case TimeoutKind::attempt_wall:
                     case TimeoutKind::attempt_cpu:
                     case TimeoutKind::task: return Blame::task;
                     case TimeoutKind::run: return Blame::operator_;
                   }
                   std::unreachable();
                 },
                 [](const outcome::Stalled& o) { return o.how == StallKind::stopped ? Blame::host : Blame::worker; },
                 [](const outcome::Lost& o) { return blame_of_loss(o.cause); },
                 [](const outcome::ProtocolBroken&) { return Blame::worker; },
                 [](const outcome::PolicyViolation&) { return Blame::task; },
                 [](const outcome::StartFailed&) { return Blame::host; },
                 [](const outcome::Cancelled&) { return Blame::operator_; },
                 [](const outcome::Quarantined&) { return Blame::task; },
                 [](const outcome::Rejected&) { return Blame::operator_; },
                 [](const outcome::UnknownEffect& o) { return blame_of_loss(o.cause); }},
      outcome);
}

std::string_view name_of(const Outcome& outcome) { return kNames[outcome.index()]; }
bool is_completed(const Outcome& outcome) { return std::holds_alternative<outcome::Completed>(outcome); }

std::string signal_name(int signal) {
  if (const char* const name = ::sigabbrev_np(signal); name != nullptr) return std::string("SIG") + name;
  return "signal " + std::to_string(signal);
}

std::string text_of(Nanos duration) {
  if (duration == kUnlimited) return "none";
  const auto ns = duration.count();
  const double value = static_cast<double>(ns);
  const double size = value < 0 ? -value : value;
  if (size < 1e3) return fmt::format("{} ns", ns);
  if (size < 1e6) return fmt::format("{:.4g} us", value / 1e3);
  if (size < 1e9) return fmt::format("{:.4g} ms", value / 1e6);
  if (size < 60e9) return fmt::format("{:.4g} s", value / 1e9);
  if (size < 3600e9) return fmt::format("{:.4g} min", value / 60e9);
  if (size < 86400e9) return fmt::format("{:.4g} h", value / 3600e9);
  return fmt::format("{:.4g} d", value / 86400e9);
}

std::string text_of(const Outcome& outcome) {
  const std::string_view name = name_of(outcome);
  const auto with = [&](std::string_view evidence) {
    return evidence.empty() ? std::string(name) : fmt::format("{}({})", name, evidence);
  };
  return std::visit(
      Overloaded{[&](const outcome::Completed&) { return std::string(name); },
                 [&](const outcome::AppError& o) { return with(o.reason); },
                 [&](const outcome::Exited& o) { return with(std::to_string(o.code)); },
                 [&](const outcome::Crashed& o) { return with(signal_name(o.signal)); },
                 [&](const outcome::OutOfMemory& o) {
                   std::string text = o.ours ? "our limit " + bytes_text(o.limit_bytes) : std::string("host");
                   if (o.peak_bytes != 0) text += ", peak " + bytes_text(o.peak_bytes);
                   return with(text);
                 },
                 [&](const outcome::OverLimit& o) { return with(fmt::format("{} limit {}, seen {}", name_of(o.what), o.limit, o.seen)); },
                 [&](const outcome::TimedOut& o) {
                   return o.limit == kUnlimited ? with(name_of(o.what)) : with(fmt::format("{} {}", name_of(o.what), text_of(o.limit)));
                 },
                 [&](const outcome::Stalled& o) { return with(fmt::format("{} {}", name_of(o.how), text_of(o.silence))); },
                 [&](const outcome::Lost& o) { return with(name_of(o.cause)); },
                 [&](const outcome::ProtocolBroken& o) { return with(o.what); },
                 [&](const outcome::PolicyViolation& o) { return with(o.what); },
                 [&](const outcome::StartFailed& o) {
                   return o.errno_value == 0 ? with(o.step)
                                             : with(fmt::format("{}: {}", o.step, Error::from_errno(o.errno_value, "errno").what()));
                 },
                 [&](const outcome::Cancelled& o) { return with(name_of(o.when)); },
                 [&](const outcome::Quarantined& o) { return with(fmt::format("{} blamed attempts", o.blamed_attempts)); },
                 [&](const outcome::Rejected& o) { return with(name_of(o.why)); },
                 [&](const outcome::UnknownEffect& o) { return with(name_of(o.cause)); }},
      outcome);
}

std::string json_of(const Outcome& outcome) {
  json out{{"name", name_of(outcome)}};
  std::visit(Overloaded{[](const outcome::Completed&) {},
                        [&](const outcome::AppError& o) { out["reason"] = o.reason; },
                        [&](const outcome::Exited& o) { out["code"] = o.code; },
                        [&](const outcome::Crashed& o) {
                          out["signal"] = o.signal;
                          out["signal_name"] = signal_name(o.signal);
                        },
                        [&](const outcome::OutOfMemory& o) {
                          out["limit_bytes"] = o.limit_bytes;
                          out["peak_bytes"] = o.peak_bytes;
                          out["ours"] = o.ours;
                        },
                        [&](const outcome::OverLimit& o) {
                          out["what"] = name_of(o.what);
                          out["limit"] = o.limit;
                          out["seen"] = o.seen;
                        },
                        [&](const outcome::TimedOut& o) {
                          out["what"] = name_of(o.what);
                          out["limit_ns"] = o.limit.count();
                        },
                        [&](const outcome::Stalled& o) {
                          out["how"] = name_of(o.how);
                          out["silence_ns"] = o.silence.count();
                        },
                        [&](const outcome::Lost& o) { out["cause"] = name_of(o.cause); },
                        [&](const outcome::ProtocolBroken& o) { out["what"] = o.what; },
                        [&](const outcome::PolicyViolation& o) { out["what"] = o.what; },
                        [&](const outcome::StartFailed& o) {
                          out["step"] = o.step;
                          out["errno"] = o.errno_value;
                        },
                        [&](const outcome::Cancelled& o) { out["when"] = name_of(o.when); },
                        [&](const outcome::Quarantined& o) { out["blamed_attempts"] = o.blamed_attempts; },
                        [&](const outcome::Rejected& o) { out["why"] = name_of(o.why); },
                        [&](const outcome::UnknownEffect& o) { out["cause"] = name_of(o.cause); }},
             outcome);
  return out.dump(-1, ' ', false, json::error_handler_t::replace);
}

namespace {

/// Reads typed members of one object; the first that is missing or off is remembered.
class Reader {
 public:
  explicit Reader(const json& object) : object_(object) {}

  std::string text(const char* key) {
    const auto it = object_.find(key);
    if (it == object_.end() || !it->is_string()) return bad(key), std::string();
    return it->get<std::string>();
  }
  template <class T>
  T number(const char* key) {
    const auto it = object_.find(key);
    if (it == object_.end() || !it->is_number_integer()) return bad(key), T{};
    const bool below = it->is_number_unsigned() ? false : it->template get<std::int64_t>() < 0;
    if (below ? !std::in_range<T>(it->template get<std::int64_t>()) : !std::in_range<T>(it->template get<std::uint64_t>())) {
      return bad(key), T{};
    }
    return it->template get<T>();
  }
  bool truth(const char* key) {
    const auto it = object_.find(key);
    if (it == object_.end() || !it->is_boolean()) return bad(key), false;
    return it->get<bool>();
  }
  /// One of `last`+1 enumerators starting from 0, by name.
  template <class E>
  E word(const char* key, E last) {
    const std::string name = text(key);
    for (int i = 0; i <= static_cast<int>(last); ++i) {
      if (name == name_of(static_cast<E>(i))) return static_cast<E>(i);
    }
    return bad(key), E{};
  }
  const std::string& first_bad() const { return bad_; }

 private:
  void bad(const char* key) {
    if (bad_.empty()) bad_ = key;
  }
  const json& object_;
  std::string bad_;
};

}  // namespace

Result<Outcome> parse_outcome(std::string_view text) {
  const auto corrupt = [&](std::string_view why) {
    return fail(ErrorCode::corrupt, fmt::format("outcome '{}': {}", text.substr(0, 200), why));
  };
  const json in = json::parse(text, nullptr, false);
  if (!in.is_object()) return corrupt("no JSON object");
  Reader r(in);
  const std::string name = r.text("name");
  const auto* const found = std::ranges::find(kNames, name);
  if (found == std::end(kNames)) return corrupt("unknown name");
  const auto read = [&](std::size_t index) -> Outcome {
    switch (index) {  // the order of Outcome's alternatives; the round trip of each is tested
      case 0: return outcome::Completed{};
      case 1: return outcome::AppError{r.text("reason")};
      case 2: return outcome::Exited{r.number<int>("code")};
      case 3: return outcome::Crashed{r.number<int>("signal")};
      case 4:
        return outcome::OutOfMemory{r.number<std::uint64_t>("limit_bytes"), r.number<std::uint64_t>("peak_bytes"), r.truth("ours")};
      case 5:
        return outcome::OverLimit{r.word("what", LimitKind::result_bytes), r.number<std::uint64_t>("limit"), r.number<std::uint64_t>("seen")};
      case 6: return outcome::TimedOut{r.word("what", TimeoutKind::run), Nanos(r.number<std::int64_t>("limit_ns"))};
      case 7: return outcome::Stalled{r.word("how", StallKind::stopped), Nanos(r.number<std::int64_t>("silence_ns"))};
      case 8: return outcome::Lost{r.word("cause", LossCause::operator_)};
      case 9: return outcome::ProtocolBroken{r.text("what")};
      case 10: return outcome::PolicyViolation{r.text("what")};
      case 11: return outcome::StartFailed{r.text("step"), r.number<int>("errno")};
      case 12: return outcome::Cancelled{r.word("when", CancelKind::running)};
      case 13: return outcome::Quarantined{r.number<std::uint32_t>("blamed_attempts")};
      case 14: return outcome::Rejected{r.word("why", RejectKind::closing)};
      case 15: return outcome::UnknownEffect{r.word("cause", LossCause::operator_)};
      default: std::unreachable();
    }
  };
  Outcome out = read(static_cast<std::size_t>(found - kNames));
  if (!r.first_bad().empty()) return corrupt(fmt::format("'{}' is missing or wrong", r.first_bad()));
  return out;
}

}  // namespace drover
