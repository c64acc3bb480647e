#pragma once
/// Tests in the candidate's own interpreter: what every Python judge before did. Fast, and forgeable: the candidate can write the
/// verdict, so results say so. The harness runs each test in a fresh module with the candidate's code, and appends a line a test to a
/// file, before the next begins: what was reached before a kill is known.

#include <string>
#include <string_view>
#include <vector>

#include "judge/submission.hpp"
#include "judge/verdict.hpp"

namespace drover::judge {

/// The file that python/inproc.py writes; it finds candidate.py and tests.json beside it.
inline constexpr const char* kInprocResults = "results";
/// The tests as the harness reads them.
std::string inproc_tests(const Submission& submission);

/// What the lines say, as far as they go; every text of it is the candidate's word. `run`: how its process ended; the test that was
/// running when it did not end by itself is an error of that kind, those behind it were not reached.
std::vector<TestVerdict> read_inproc(std::string_view lines, std::size_t tests, RunOutcome run, const std::string& detail);

}  // namespace drover::judge
