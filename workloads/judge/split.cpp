#include "judge/split.hpp"

#include <nlohmann/json.hpp>

#include "judge/inproc.hpp"

namespace drover::judge {

std::string split_tests(const Submission& submission) {
  nlohmann::json tests = nlohmann::json::array();
  for (const Test& test : submission.tests) tests.push_back(std::get<CodeTest>(test).code);
  return nlohmann::json{{"prelude", submission.prelude}, {"names", submission.entry_points}, {"caps", {submission.limits.value_bytes, (submission.limits.int_bits + 3) / 4}}, {"tests", std::move(tests)}}.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
}

SplitResult read_split(std::string_view lines, std::size_t tests, RunOutcome candidate, const std::string& detail, const SandboxEnd& tester) {
  SplitResult result;
  // Its words for a pass that was answered, a candidate that is gone and one that broke the protocol; the rest is as in inproc.
  std::string plain;
  bool ended = false;
  RunOutcome how = RunOutcome::bad_protocol;
  std::string why;
  while (!ended) {
    const std::size_t end = lines.find('\n');
    if (end == std::string_view::npos) {
      if (tester.kind != SandboxEndKind::exited || tester.code != 0) how = RunOutcome::test_limit, why = name_of(tester.kind);
      break;
    }
    const std::string_view line = lines.substr(0, end);
    lines.remove_prefix(end + 1);
    if (line == "gone") {
      ended = true;
      how = candidate == RunOutcome::ok || candidate == RunOutcome::cancelled ? RunOutcome::bad_protocol : candidate;
      why = how == RunOutcome::bad_protocol ? "it ended before its tests did" : detail;
    } else if (line == "broken") {
      ended = true;
    } else if (line.starts_with("unsupported ")) {
      result.unsupported = line.substr(12);
      plain += "fail\n";
    } else if (line == "marked") {
      result.candidate_answers = true;
      plain += "pass\n";
    } else {
      plain.append(line).push_back('\n');
    }
  }
  result.tests = read_inproc(plain, tests, how, why);
  return result;
}

}  // namespace drover::judge
