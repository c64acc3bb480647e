// Goal: comparing, reading submissions and reading a candidate's own lines decide what they say. Method: tables; damaged input is
// refused with its key.

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "judge/compare.hpp"
#include "judge/dataset.hpp"
#include "judge/inproc.hpp"
#include "judge/submission.hpp"
#include "judge/verdict.hpp"

namespace drover::judge {
namespace {

TEST(Compare, ExactTokensAndFloats) {
  struct Case {
    Comparison how;
    const char *printed, *expected;
    bool agrees;
  };
  const Case cases[] = {
      {Comparison::exact, "7\n", "7\n", true},        {Comparison::exact, "7", "7\n", false},           {Comparison::tokens, "  7\r\n\n8 ", "7 8", true}, {Comparison::tokens, "7 8 9", "7 8", false},
      {Comparison::tokens, "7", "7 8", false},        {Comparison::tokens, "", "", true},               {Comparison::tokens, "YES", "Yes", false},        {Comparison::tokens, "0.30000000000000004", "0.3", false},
      {Comparison::floats, "0.30000000000000004 x", "0.3 x", true}, {Comparison::floats, "1e3", "1000", true}, {Comparison::floats, "0.31", "0.3", false}, {Comparison::floats, "nan", "0.3", false},
      {Comparison::floats, "nan", "nan", true},       {Comparison::floats, "inf", "1e308", false},      {Comparison::floats, "0x1", "1", false},          {Comparison::floats, "1000000000.5", "1000000000.0", true},
      {Comparison::floats, "1 2", "1", false},
  };
  for (const Case& one : cases) EXPECT_EQ(agrees(one.printed, {.output = one.expected, .comparison = one.how}), one.agrees) << one.printed << " against " << one.expected;
}

TEST(Submissions, ComeBackAsTheyWereAndEqualOnesHaveOneKey) {
  Submission one{.id = "a", .language = "cpp", .code = "int main(){}\n\xc3\xa9", .tests = {IoTest{.input = "1", .output = "2", .comparison = Comparison::floats, .absolute = 0.5}}, .limits = {.cpu = Millis(1500)}, .mode = Mode::stdio};
  const auto back = parse_submission(json_of(one).dump());
  ASSERT_TRUE(back) << back.error().what();
  EXPECT_EQ(*back, one);
  Submission other = one;
  other.id = "b";
  EXPECT_EQ(content_key(one), content_key(other));
  std::get<IoTest>(other.tests[0]).output = "3";
  EXPECT_NE(content_key(one), content_key(other));
  EXPECT_EQ(Submission{.tests = {CodeTest{"assert 1"}}}.mode_chosen(), Mode::inproc);
  EXPECT_EQ((Submission{.language = "cpp", .tests = {CodeTest{"}"}}}).mode_chosen(), Mode::exit);
}

TEST(Submissions, WhatIsWrongIsNamed) {
  const std::pair<const char*, const char*> cases[] = {
      {"[]", "one JSON object"},
      {R"({"tests": []})", "'code': is missing"},
      {R"({"code": 3})", "'code': must be a text"},
      {R"({"code": "", "test": []})", "'test': is not known"},
      {R"({"code": "", "tests": [{"input": "x"}]})", "'tests[0].output': is missing"},
      {R"({"code": "", "tests": [{"output": "x", "compare": "fuzzy"}]})", "'tests[0].compare'"},
      {R"({"code": "", "mode": "magic"})", "'mode'"},
      {R"({"code": "", "limits": {"cpu_seconds": -1}})", "'limits.cpu_seconds': must be from"},
      {R"({"code": "", "limits": {"cpus": 1}})", "'limits.cpus': is not known"},
      {R"({"code": "", "mode": "stdio", "tests": ["assert 1"]})", "'tests[0]'"},
  };
  for (const auto& [text, says] : cases) {
    const auto parsed = parse_submission(text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_NE(parsed.error().what().find(says), std::string::npos) << parsed.error().what();
  }
}

TEST(Inproc, TheCandidatesLinesAreReadAsFarAsTheyGo) {
  using enum TestOutcome;
  const auto outcomes = [](const std::vector<TestVerdict>& verdicts) {
    std::vector<TestOutcome> all;
    for (const TestVerdict& one : verdicts) all.push_back(one.outcome);
    return all;
  };
  EXPECT_EQ(outcomes(read_inproc("pass\nfail\nerror KeyError\n", 3, RunOutcome::ok, "")), (std::vector{pass, fail, error}));
  const auto killed = read_inproc("pass\n", 3, RunOutcome::cpu_limit, "");
  EXPECT_EQ(outcomes(killed), (std::vector{pass, error, not_reached}));
  EXPECT_EQ(killed[1].run, RunOutcome::cpu_limit);
  EXPECT_EQ(outcomes(read_inproc("pas", 1, RunOutcome::ok, "")), (std::vector{error}));
  EXPECT_EQ(read_inproc("", 1, RunOutcome::ok, "")[0].run, RunOutcome::bad_protocol);
  EXPECT_EQ(read_inproc("error \x1b[2Jevil()\n", 1, RunOutcome::ok, "")[0].detail, "2Jevil") << "only what a name may hold";
  EXPECT_EQ(read_inproc("pass\npass\npass\n", 2, RunOutcome::ok, "").size(), 2U) << "more lines than tests";
}

TEST(Verdicts, NothingIsPassedWithoutATestAndAFaultHasNoReward) {
  Verdict none;
  conclude(none, RewardRule::fraction);
  EXPECT_EQ(none.outcome, SubmissionOutcome::no_tests);
  EXPECT_FALSE(none.reward);
  Verdict half;
  half.tests = {{TestOutcome::pass}, {TestOutcome::fail}};
  conclude(half, RewardRule::fraction);
  EXPECT_EQ(half.outcome, SubmissionOutcome::some_failed);
  EXPECT_EQ(half.reward, 0.5);
  conclude(half, RewardRule::all);
  EXPECT_EQ(half.reward, 0.0);
  Verdict fault = half;
  fault.reason = "judge_error: the host";
  conclude(fault, RewardRule::all);
  EXPECT_EQ(fault.outcome, SubmissionOutcome::not_judged);
  EXPECT_FALSE(fault.reward);
  const auto back = parse_verdict(json_of(half));
  ASSERT_TRUE(back) << back.error().what();
  EXPECT_EQ(json_of(*back), json_of(half));
  EXPECT_FALSE(parse_verdict("{}"));
  EXPECT_FALSE(parse_verdict(R"({"id":"","outcome":"all_passed","reward":1,"passed":1,"mode":"stdio","profile":"","tests":[],"measured":{"runs":"many"}})"));
}

TEST(Document, ItsExamplesAreSubmissionsAndItHasEveryWord) {
  std::ifstream file(std::string(DROVER_SOURCE_DIR) + "/docs/judge_api.md");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  ASSERT_FALSE(text.empty());
  int examples = 0;
  for (std::size_t at = 0; (at = text.find("```json\n", at)) != std::string::npos; ++examples) {
    at += 8;
    const auto parsed = parse_submission(text.substr(at, text.find("```", at) - at));
    EXPECT_TRUE(parsed) << parsed.error().what();
  }
  EXPECT_GE(examples, 1);
  const auto has = [&](std::string_view word) { EXPECT_NE(text.find("`" + std::string(word) + "`"), std::string::npos) << "docs/judge_api.md does not know '" << word << "'"; };
  for (int i = 0; i <= static_cast<int>(RunOutcome::cancelled); ++i) has(name_of(static_cast<RunOutcome>(i)));
  for (int i = 0; i <= static_cast<int>(TestOutcome::not_reached); ++i) has(name_of(static_cast<TestOutcome>(i)));
  for (int i = 0; i <= static_cast<int>(SubmissionOutcome::not_judged); ++i) has(name_of(static_cast<SubmissionOutcome>(i)));
  for (const Mode mode : {Mode::split, Mode::stdio, Mode::exit, Mode::inproc}) has(name_of(mode));
  // Every key that is written is explained.
  for (const auto& object : {nlohmann::json::parse(json_of(Verdict{})), nlohmann::json::parse(json_of(Submission{}).dump()), nlohmann::json::parse(json_of(Verdict{}))["measured"], nlohmann::json::parse(json_of(Submission{}).dump())["limits"]})
    for (const auto& [key, value] : object.items()) has(key);
}

}  // namespace
}  // namespace drover::judge
