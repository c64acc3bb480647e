#pragma once
/// The slot driver: one a worker. It holds the tests and the verdict, parses hostile bytes and owns a sandbox; candidates are never
/// workers. Whatever a candidate does is a Verdict; a fault of the host is tried again on a new sandbox, and then `not_judged`.
///
/// Limits decide as measured, not as they fall: a run is ended at 1.2 times its CPU limit; one that ended between 0.8 and 1.2 of it is
/// repeated once, and the second decides against the limit. The wall is for sleepers: a run that it ended while it waited for a core half of
/// the time is repeated too, and if that does not change, not judged; so is one of which that is not known, and then the second decides.
/// A batch repeats at its end, alone on the host as far as drover goes (SlotOptions::repeat_later).

#include <functional>
#include <optional>
#include <string>

#include "drover/context.hpp"
#include "drover/sandbox.hpp"
#include "drover/task.hpp"
#include "judge/execute.hpp"
#include "judge/slot_options.hpp"
#include "judge/verdict.hpp"

namespace drover::judge {

class Slot {
 public:
  /// From Context::setup: json_of(SlotOptions).
  static Result<Slot> start(Context& context);
  Slot(SlotOptions options, Sandbox sandbox) : options_(std::move(options)), sandbox_(std::move(sandbox)) {}

  /// The task: a submission as JSON in, its verdict as JSON out; or an execution. Errors: usage (neither), not_found (its test set).
  /// After kDecide it is judged once and that decides.
  Result<std::string> judge(const std::string& submission, Context& context);
  static constexpr std::string_view kDecide = "decide ";
  /// `stop`: asked every 50 ms; true ends the submission as not judged.
  Verdict judge(const Submission& submission, const std::function<bool()>& stop);
  /// Runs a program and says what it printed; no tests, no verdict, no second try.
  Executed execute(const Execution& execution, const std::function<bool()>& stop);

 private:
  struct Ran {
    SandboxEnd end;
    bool over_cpu = false;  ///< by the rule above
    bool starved = false;
  };
  enum class Repeat : std::uint8_t { at_once, later, never };
  /// Whether to repeat now what ended so; what is to be repeated later is noted.
  bool repeats(const SandboxEnd& end, const Limits& limits, Nanos wall, Measured& measured);
  Result<Ran> run(const SandboxRun& spec, const Limits& limits, Measured& measured, const std::function<bool()>& stop);
  Result<SandboxEnd> run_once(const SandboxRun& spec, Measured& measured, const std::function<bool()>& stop);
  Result<void> judge_tests(const Submission& submission, const Language& language, Verdict& verdict, const std::function<bool()>& stop);
  Result<void> judge_split(const Submission& submission, const Language& language, Verdict& verdict, const std::function<bool()>& stop);
  Result<void> judge_inproc(const Submission& submission, const Language& language, Verdict& verdict, const std::function<bool()>& stop);
  /// What a checker says of what a program printed.
  Result<TestVerdict> check(const Submission& submission, const IoTest& test, const std::string& printed, Verdict& verdict, const std::function<bool()>& stop);
  Result<void> need_tests_sandbox();
  /// False: it does not compile, and the verdict says so.
  Result<bool> compile(const Submission& submission, const Language& language, const std::string& code, std::string& artifact, Verdict& verdict, const std::function<bool()>& stop);

  SlotOptions options_;
  Repeat repeat_ = Repeat::at_once;  ///< of the submission it is at
  std::optional<Sandbox> sandbox_;  ///< of candidates
  std::optional<Sandbox> tests_;    ///< of the tests' process and of checkers; no candidate's code ever runs there
  Checker checker_{};               ///< compiled last
  std::string checker_artifact_{};
};

inline constexpr auto judge_task = stateful_task<"judge", static_cast<Result<std::string> (Slot::*)(const std::string&, Context&)>(&Slot::judge)>;

}  // namespace drover::judge
