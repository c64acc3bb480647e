#pragma once
/// What came of a submission: closed sets of outcomes for run, test and submission, each with its evidence. Everything outside
/// `measured` is a function of submission, languages and profile alone: byte-identical for any number of workers and any load.

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "drover/types/error.hpp"
#include "drover/types/time.hpp"
#include "judge/submission.hpp"

namespace drover::judge {

/// test_limit: the tests' own process reached a limit over what the candidate gave it: not passed.
enum class RunOutcome : std::uint8_t {
  ok, compile_error, load_error, runtime_error, nonzero_exit, signaled, cpu_limit, wall_limit, memory_limit, output_limit, denied_syscall, test_limit, bad_protocol, judge_error, cancelled
};
enum class TestOutcome : std::uint8_t { pass, fail, error, not_reached };
enum class SubmissionOutcome : std::uint8_t { all_passed, some_failed, none_passed, no_tests, not_judged };
std::string_view name_of(RunOutcome outcome);
std::string_view name_of(TestOutcome outcome);
std::string_view name_of(SubmissionOutcome outcome);

struct TestVerdict {
  TestOutcome outcome = TestOutcome::not_reached;
  RunOutcome run = RunOutcome::ok;
  std::string detail{};     ///< class of an exception, signal, exit status, limit
  friend bool operator==(const TestVerdict&, const TestVerdict&) = default;
};

/// Differs from run to run.
struct Measured {
  Nanos cpu{}, wall{}, compile_cpu{};
  std::uint64_t rss_peak_bytes = 0;
  std::uint32_t runs = 0, reruns = 0, left_behind = 0;
  bool near_limit = false;  ///< a run ended within a fifth of its CPU limit
  bool repeat = false;      ///< a run should be repeated alone, and has not been yet
  bool cached = false;      ///< verdict of an equal submission
  std::string errors{};     ///< the end of its stderr
};

struct Verdict {
  std::string id{};
  SubmissionOutcome outcome = SubmissionOutcome::not_judged;
  std::optional<double> reward{};  ///< nothing: not judged
  std::uint64_t passed = 0;
  Mode mode{};
  std::string profile{};
  std::string reason{};            ///< not_judged: why
  bool candidate_answers = false;  ///< split: a test that passed let an object of the candidate decide (its own ==, its own <)
  bool suspect = false;            ///< it broke two sandboxes in a row: no verdict to trust, and no reward for it either
  std::optional<bool> extracted{}; ///< asked to take a fenced block: whether there was one; if not, all of `code` was judged
  std::optional<TestVerdict> compile{};
  std::vector<TestVerdict> tests{};
  Measured measured{};
};

/// What a submission's outcome is worth. A `suspect` one, and one without tests, may be worth something of its own; what was not judged has no
/// reward under any rule.
struct RewardRule {
  bool fraction = false;  ///< passed / tests, where the outcome has no value below
  std::optional<double> all_passed{}, some_failed{}, none_passed{}, no_tests{}, suspect{};
};
/// `all` (1 for all tests, else 0), `fraction`, or values by outcome, the rest as in `all`: "all_passed=1,some_failed=0.1,suspect=-1"; `fraction` may
/// be among them. Error usage.
Result<RewardRule> parse_reward(std::string_view text);

/// Not judged because nobody wanted it any more, or its server stops.
bool was_cancelled(const Verdict& verdict);
/// Counts, names the outcome, gives the reward. `not_judged` with its reason stays.
void conclude(Verdict& verdict, const RewardRule& rule);
/// One line.
std::string json_of(const Verdict& verdict);
Result<Verdict> parse_verdict(std::string_view json);

}  // namespace drover::judge
