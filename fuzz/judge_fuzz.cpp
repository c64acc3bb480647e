// What clients, data sets and candidates send to judge: refused with a reason, or read and written back as the same.

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "judge/compare.hpp"
#include "judge/execute.hpp"
#include "judge/foreign_api.hpp"
#include "judge/inproc.hpp"
#include "judge/language.hpp"
#include "judge/split.hpp"
#include "judge/submission.hpp"
#include "judge/test_sets.hpp"
#include "judge/verdict.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace drover;
  using namespace drover::judge;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto dump = [](const Submission& one) { return json_of(one).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace); };
  if (const auto one = parse_submission(text)) {
    const std::string once = dump(*one);
    const auto again = parse_submission(once);
    if (!again || dump(*again) != once) std::abort();
    TestSets sets;
    Submission moved = *one;
    if (moved.test_set.empty() && !moved.tests.empty()) {
      const std::string sha = sets.take_from(moved);
      const Bytes image = sets.image();
      const auto found = find_test_set(image, sha);
      if (!found || !attach(moved, *found) || moved.tests != one->tests) std::abort();
    }
  }
  if (const auto verdict = parse_verdict(text)) {
    const auto again = parse_verdict(json_of(*verdict));
    if (!again || json_of(*again) != json_of(*verdict)) std::abort();
  }
  if (const auto execution = parse_execution(text); execution && json_of(*parse_execution(json_of(*execution))) != json_of(*execution)) std::abort();
  (void)parse_executed(text);
  (void)read_run_code(text);
  (void)read_go_judge(text);
  (void)read_languages(text, "fuzz");
  (void)fenced_code(text);
  (void)find_test_set(BytesView(reinterpret_cast<const std::byte*>(data), size), std::string(64, 'a'));
  // Lines a candidate may have written: as many verdicts as there are tests, and never more passes than lines that say so.
  for (const std::size_t tests : {std::size_t{0}, std::size_t{1}, std::size_t{7}}) {
    if (read_inproc(text, tests, RunOutcome::ok, "").size() != tests) std::abort();
    const SandboxEnd fine{.kind = SandboxEndKind::exited};
    if (read_split(text, tests, RunOutcome::ok, "", fine).tests.size() != tests) std::abort();
  }
  (void)agrees(text.substr(0, size / 2), IoTest{.output = std::string(text.substr(size / 2)), .comparison = Comparison::floats});
  return 0;
}
