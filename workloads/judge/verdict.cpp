#include "judge/verdict.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "judge/words.hpp"

namespace drover::judge {
namespace {

constexpr std::pair<RunOutcome, std::string_view> kRuns[] = {
    {RunOutcome::ok, "ok"}, {RunOutcome::compile_error, "compile_error"}, {RunOutcome::load_error, "load_error"}, {RunOutcome::runtime_error, "runtime_error"}, {RunOutcome::nonzero_exit, "nonzero_exit"},
    {RunOutcome::signaled, "signaled"}, {RunOutcome::cpu_limit, "cpu_limit"}, {RunOutcome::wall_limit, "wall_limit"}, {RunOutcome::memory_limit, "memory_limit"}, {RunOutcome::output_limit, "output_limit"},
    {RunOutcome::denied_syscall, "denied_syscall"}, {RunOutcome::test_limit, "test_limit"}, {RunOutcome::bad_protocol, "bad_protocol"}, {RunOutcome::judge_error, "judge_error"}, {RunOutcome::cancelled, "cancelled"}};
constexpr std::pair<TestOutcome, std::string_view> kTests[] = {{TestOutcome::pass, "pass"}, {TestOutcome::fail, "fail"}, {TestOutcome::error, "error"}, {TestOutcome::not_reached, "not_reached"}};
constexpr std::pair<SubmissionOutcome, std::string_view> kSubmissions[] = {{SubmissionOutcome::all_passed, "all_passed"}, {SubmissionOutcome::some_failed, "some_failed"},
    {SubmissionOutcome::none_passed, "none_passed"}, {SubmissionOutcome::no_tests, "no_tests"}, {SubmissionOutcome::not_judged, "not_judged"}};
template <class T, std::size_t N>
bool read_word(const nlohmann::json& value, T& into, const std::pair<T, std::string_view> (&table)[N]) {
  const auto found = value.is_string() ? value_of(value.get<std::string>(), table) : std::nullopt;
  if (found) into = *found;
  return found.has_value();
}

nlohmann::ordered_json json_of(const TestVerdict& test) {
  nlohmann::ordered_json one{{"outcome", name_of(test.outcome)}, {"run", name_of(test.run)}};
  if (!test.detail.empty()) one["detail"] = test.detail;
  return one;
}

bool read(const nlohmann::json& value, TestVerdict& into) {
  if (!value.is_object() || !value.contains("outcome") || !value.contains("run")) return false;
  into.detail = value.value("detail", "");
  return read_word(value["outcome"], into.outcome, kTests) && read_word(value["run"], into.run, kRuns);
}

}  // namespace

std::string_view name_of(RunOutcome outcome) { return word_of(outcome, kRuns); }
std::string_view name_of(TestOutcome outcome) { return word_of(outcome, kTests); }
std::string_view name_of(SubmissionOutcome outcome) { return word_of(outcome, kSubmissions); }

Result<RewardRule> parse_reward(std::string_view text) {
  RewardRule rule;
  const std::pair<std::string_view, std::optional<double>*> keys[] = {{"all_passed", &rule.all_passed}, {"some_failed", &rule.some_failed}, {"none_passed", &rule.none_passed}, {"no_tests", &rule.no_tests}, {"suspect", &rule.suspect}};
  if (text == "all") return rule;
  for (std::string_view rest = text;;) {
    const std::string_view one = rest.substr(0, rest.find(','));
    const std::size_t equals = one.find('=');
    const auto key = std::ranges::find(keys, one.substr(0, equals), &std::pair<std::string_view, std::optional<double>*>::first);
    if (one == "fraction") {
      rule.fraction = true;
    } else {
      double value = 0;
      const std::string_view number = equals == std::string_view::npos ? std::string_view() : one.substr(equals + 1);
      const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), value);
      if (key == std::end(keys) || error != std::errc() || end != number.data() + number.size() || !std::isfinite(value))
        return fail(ErrorCode::usage, "--reward '" + std::string(text) + "': must be all, fraction, or values like all_passed=1,some_failed=0.1", "outcomes: all_passed, some_failed, none_passed, no_tests, suspect");
      *key->second = value;
    }
    if (one.size() == rest.size()) return rule;
    rest.remove_prefix(one.size() + 1);
  }
}

bool was_cancelled(const Verdict& verdict) { return verdict.outcome == SubmissionOutcome::not_judged && verdict.reason.starts_with("cancelled"); }

void conclude(Verdict& verdict, const RewardRule& rule) {
  if (!verdict.reason.empty()) {
    verdict.outcome = SubmissionOutcome::not_judged;
    verdict.reward.reset();
    return;
  }
  const std::size_t tests = verdict.tests.size();
  verdict.passed = static_cast<std::uint64_t>(std::ranges::count(verdict.tests, TestOutcome::pass, &TestVerdict::outcome));
  verdict.outcome = tests == 0 ? SubmissionOutcome::no_tests : verdict.passed == tests ? SubmissionOutcome::all_passed : verdict.passed == 0 ? SubmissionOutcome::none_passed : SubmissionOutcome::some_failed;
  const std::optional<double>& value = verdict.suspect && rule.suspect ? rule.suspect : tests == 0 ? rule.no_tests : verdict.passed == tests ? rule.all_passed : verdict.passed == 0 ? rule.none_passed : rule.some_failed;
  if (value || tests == 0) verdict.reward = value;
  else verdict.reward = rule.fraction ? static_cast<double>(verdict.passed) / static_cast<double>(tests) : verdict.passed == tests ? 1.0 : 0.0;
}

std::string json_of(const Verdict& v) {
  nlohmann::ordered_json tests = nlohmann::ordered_json::array();
  for (const TestVerdict& test : v.tests) tests.push_back(json_of(test));
  nlohmann::ordered_json object{{"id", v.id},
                                {"outcome", name_of(v.outcome)},
                                {"reward", v.reward ? nlohmann::ordered_json(*v.reward) : nlohmann::ordered_json(nullptr)},
                                {"passed", v.passed},
                                {"total", v.tests.size()},
                                {"mode", name_of(v.mode)},
                                {"trust", v.candidate_answers ? "candidate_answers" : trust_of(v.mode)},
                                {"profile", v.profile}};
  if (!v.reason.empty()) object["reason"] = v.reason;
  if (v.suspect) object["suspect"] = true;
  if (v.extracted) object["extracted"] = *v.extracted;
  if (v.compile) object["compile"] = json_of(*v.compile);
  object["tests"] = std::move(tests);
  const auto seconds = [](Nanos time) { return static_cast<double>(time.count() / 1000) / 1e6; };
  const Measured& m = v.measured;
  object["measured"] = {{"cpu_seconds", seconds(m.cpu)}, {"wall_seconds", seconds(m.wall)}, {"compile_cpu_seconds", seconds(m.compile_cpu)}, {"rss_peak_bytes", m.rss_peak_bytes}, {"runs", m.runs},
                        {"reruns", m.reruns}, {"left_behind", m.left_behind}, {"near_limit", m.near_limit}, {"repeat", m.repeat}, {"cached", m.cached}, {"errors", m.errors}};
  return object.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

Result<Verdict> parse_verdict(std::string_view text) try {
  const nlohmann::json object = nlohmann::json::parse(text, nullptr, false);
  const auto broken = [] { return fail(ErrorCode::corrupt, "this is no verdict of judge"); };
  for (const char* const key : {"id", "outcome", "reward", "passed", "mode", "profile", "tests", "measured"})
    if (!object.is_object() || !object.contains(key)) return broken();
  Verdict v;
  if (!object["id"].is_string() || !object["profile"].is_string() || !object["passed"].is_number_unsigned() || !object["tests"].is_array() || !object["measured"].is_object()) return broken();
  v.id = object["id"], v.profile = object["profile"], v.passed = object["passed"];
  v.reason = object.value("reason", "");
  v.suspect = object.value("suspect", false);
  if (object.contains("extracted")) v.extracted = object["extracted"].get<bool>();
  v.candidate_answers = object.value("trust", "") == "candidate_answers";
  const auto mode = mode_named(object["mode"].get<std::string>());
  if (object["reward"].is_number()) v.reward = object["reward"].get<double>();
  if (!read_word(object["outcome"], v.outcome, kSubmissions) || !mode) return broken();
  v.mode = *mode;
  if (object.contains("compile") && !read(object["compile"], v.compile.emplace())) return broken();
  for (const auto& one : object["tests"])
    if (!read(one, v.tests.emplace_back())) return broken();
  const nlohmann::json& m = object["measured"];
  const auto time = [&](const char* key) { return Nanos(static_cast<std::int64_t>(m.value(key, 0.0) * 1e9)); };
  v.measured = {.cpu = time("cpu_seconds"), .wall = time("wall_seconds"), .compile_cpu = time("compile_cpu_seconds"), .rss_peak_bytes = m.value("rss_peak_bytes", std::uint64_t{0}), .runs = m.value("runs", 0U),
                .reruns = m.value("reruns", 0U), .left_behind = m.value("left_behind", 0U), .near_limit = m.value("near_limit", false), .repeat = m.value("repeat", false), .cached = m.value("cached", false), .errors = m.value("errors", "")};
  return v;
} catch (const nlohmann::json::exception&) {
  return fail(ErrorCode::corrupt, "this is no verdict of judge: a value has another type");
}

}  // namespace drover::judge
