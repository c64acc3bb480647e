#pragma once
/// Mode split: what the tests' own process wrote, line by line (python/split_tests.py). It is trusted with the verdict, not with its limits:
/// what the candidate gives it may be made to exhaust it, and that is the candidate's failure.

#include <string>
#include <string_view>
#include <vector>

#include "drover/sandbox.hpp"
#include "judge/submission.hpp"
#include "judge/verdict.hpp"

namespace drover::judge {

/// Prelude, names and tests as that process reads them.
std::string split_tests(const Submission& submission);

struct SplitResult {
  std::vector<TestVerdict> tests;
  bool candidate_answers = false;
  std::string unsupported;  ///< type of an object of the tests that cannot be carried; "" = none
};
/// `candidate` with `detail`: how the candidate's process ended, for the test that found it gone. `tester`: how the tests' process did.
SplitResult read_split(std::string_view lines, std::size_t tests, RunOutcome candidate, const std::string& detail, const SandboxEnd& tester);

}  // namespace drover::judge
