#include "judge/inproc.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace drover::judge {

std::string inproc_tests(const Submission& submission) {
  nlohmann::json tests = nlohmann::json::array();
  for (const Test& test : submission.tests) tests.push_back(std::get<CodeTest>(test).code);
  return tests.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
}

std::vector<TestVerdict> read_inproc(std::string_view lines, std::size_t tests, RunOutcome run, const std::string& detail) {
  std::vector<TestVerdict> verdicts(tests);
  const auto a_name = [](std::string_view text) {  // of a class: it is shown, so it is kept to what a name may be
    std::string name(text.substr(0, 100));
    std::erase_if(name, [](unsigned char c) { return !(std::isalnum(c) || c == '_'); });
    return name;
  };
  std::size_t told = 0;
  for (; told < tests; ++told) {
    const std::size_t end = lines.find('\n');
    if (end == std::string_view::npos) break;
    const std::string_view line = lines.substr(0, end);
    lines.remove_prefix(end + 1);
    TestVerdict& verdict = verdicts[told];
    if (line == "pass") verdict.outcome = TestOutcome::pass;
    else if (line == "fail") verdict.outcome = TestOutcome::fail;
    else if (line.starts_with("load ")) verdict = {TestOutcome::error, RunOutcome::load_error, a_name(line.substr(5))};
    else if (line.starts_with("error ")) verdict = {TestOutcome::error, RunOutcome::runtime_error, a_name(line.substr(6))};
    else verdict = {TestOutcome::error, RunOutcome::bad_protocol, {}};
  }
  if (told < tests) verdicts[told] = {TestOutcome::error, run == RunOutcome::ok ? RunOutcome::bad_protocol : run, run == RunOutcome::ok ? "it ended before its tests did" : detail};
  return verdicts;
}

}  // namespace drover::judge
