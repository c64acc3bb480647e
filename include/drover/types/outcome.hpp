#pragma once
/// How an attempt ended: one closed variant with its evidence. Data, never an Error. Every visit is exhaustive, without
/// default: a new ending does not compile until every reader has said what it means.
///
/// Retry class and blame follow from the outcome alone (`retry_of`, `blame_of`); docs/outcomes.md is tested against them.

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>

#include "drover/types/error.hpp"
#include "drover/types/time.hpp"

namespace drover {

enum class TimeoutKind : std::uint8_t { queue, attempt_wall, attempt_cpu, task, run };
enum class StallKind : std::uint8_t { spinning, blocked, stopped };
enum class LossCause : std::uint8_t {
  killed,     ///< a SIGKILL we did not send and cannot attribute
  keeper,     ///< the keeper died, and the kernel killed its namespace
  supervisor, ///< the supervisor died while the lease was held (found at resume)
  unstarted,  ///< leased, never started: the worker died or the lease was taken back before the task began
  operator_,  ///< the incarnation was ended by us for a reason that is not this task's (recycling, drain past its deadline)
};
enum class CancelKind : std::uint8_t { queued, running };
enum class RejectKind : std::uint8_t { full, closing };
enum class LimitKind : std::uint8_t { memory, processes, log_bytes, result_bytes };

namespace outcome {
struct Completed { bool operator==(const Completed&) const = default; };  ///< the workload's bytes are the result
struct AppError { std::string reason; bool operator==(const AppError&) const = default; };  ///< the task function returned an error or threw
struct Exited { int code = 0; bool operator==(const Exited&) const = default; };  ///< the worker process exited, 0 included, before answering
struct Crashed { int signal = 0; bool operator==(const Crashed&) const = default; };  ///< a signal other than an unexplained SIGKILL
struct OutOfMemory { std::uint64_t limit_bytes = 0, peak_bytes = 0; bool ours = false; bool operator==(const OutOfMemory&) const = default; };  ///< ours: our own limit, not the host's
struct OverLimit { LimitKind what{}; std::uint64_t limit = 0, seen = 0; bool operator==(const OverLimit&) const = default; };
struct TimedOut { TimeoutKind what{}; Nanos limit{}; bool operator==(const TimedOut&) const = default; };
struct Stalled { StallKind how{}; Nanos silence{}; bool operator==(const Stalled&) const = default; };
struct Lost { LossCause cause{}; bool operator==(const Lost&) const = default; };
struct ProtocolBroken { std::string what; bool operator==(const ProtocolBroken&) const = default; };  ///< the worker wrote something no honest worker writes
struct PolicyViolation { std::string what; bool operator==(const PolicyViolation&) const = default; };  ///< the sandbox refused and the profile says that ends it
struct StartFailed { std::string step; int errno_value = 0; bool operator==(const StartFailed&) const = default; };  ///< the incarnation never became ready
struct Cancelled { CancelKind when{}; bool operator==(const Cancelled&) const = default; };
struct Quarantined { std::uint32_t blamed_attempts = 0; bool operator==(const Quarantined&) const = default; };  ///< the task kept killing workers; its input is saved
struct Rejected { RejectKind why{}; bool operator==(const Rejected&) const = default; };
struct UnknownEffect { LossCause cause{}; bool operator==(const UnknownEffect&) const = default; };  ///< effectful, and nobody can know whether it happened
}  // namespace outcome

using Outcome =
    std::variant<outcome::Completed, outcome::AppError, outcome::Exited, outcome::Crashed, outcome::OutOfMemory,
                 outcome::OverLimit, outcome::TimedOut, outcome::Stalled, outcome::Lost, outcome::ProtocolBroken,
                 outcome::PolicyViolation, outcome::StartFailed, outcome::Cancelled, outcome::Quarantined, outcome::Rejected,
                 outcome::UnknownEffect>;

enum class RetryClass : std::uint8_t {
  none,    ///< completed: nothing to retry
  never,   ///< the same would happen again, or was asked for
  blamed,  ///< may be the task's doing: default budget 2 more attempts, then quarantine
  free,    ///< certainly not the task's doing: retried with a large cap
};
enum class Blame : std::uint8_t { none, task, worker, host, operator_ };

RetryClass retry_of(const Outcome& outcome);
Blame blame_of(const Outcome& outcome);

/// The field's word, as in the ledger and `--json`: `completed`, `app_error`, `timed_out`, ...
std::string_view name_of(const Outcome& outcome);
/// With the evidence, for people: `crashed(SIGSEGV)`, `timed_out(attempt_wall 5 s)`, `lost(killed)`.
std::string text_of(const Outcome& outcome);
bool is_completed(const Outcome& outcome);

std::string_view name_of(TimeoutKind kind);
std::string_view name_of(StallKind kind);
std::string_view name_of(LossCause cause);
std::string_view name_of(CancelKind kind);
std::string_view name_of(RejectKind kind);
std::string_view name_of(LimitKind kind);
std::string_view name_of(RetryClass retry);
std::string_view name_of(Blame blame);
/// `SIGSEGV`, or `signal 64` where it has no name.
std::string signal_name(int signal);
/// `250 ms`, `5 s`, `1.5 h`, `none`.
std::string text_of(Nanos duration);
/// `250ms`, `1.5h`, `2m30s`, `90 s`, `none` (kUnlimited). Units ns us ms s m min h d; numbers without a unit are refused, as
/// are negative ones and sums above 292 years. Error: usage, with the grammar in the advice.
Result<Nanos> parse_duration(std::string_view text);

/// Bytes for the ledger and back: `name` and the evidence as one JSON object. parse_outcome accepts what json_of wrote.
/// Bytes in a text that are not UTF-8 become U+FFFD. Errors of parse_outcome: corrupt, with what was not understood.
std::string json_of(const Outcome& outcome);
Result<Outcome> parse_outcome(std::string_view json);

/// So that a visit can be written as a list of lambdas.
template <class... Fs>
struct Overloaded : Fs... {
  using Fs::operator()...;
};
template <class... Fs>
Overloaded(Fs...) -> Overloaded<Fs...>;

}  // namespace drover
