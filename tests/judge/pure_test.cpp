// Goal: comparing, reading submissions and reading a candidate's own lines decide what they say. Method: tables; damaged input is
// refused with its key.

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "judge/attack.hpp"
#include "judge/compare.hpp"
#include "judge/dataset.hpp"
#include "judge/foreign_api.hpp"
#include "judge/inproc.hpp"
#include "judge/language.hpp"
#include "judge/submission.hpp"
#include "judge/test_sets.hpp"
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

TEST(Fences, TheLastBlockOfAnAnswerIsTheProgram) {
  const std::pair<const char*, std::optional<std::string>> cases[] = {
      {"no code here", std::nullopt}, {"```python\na = 1\n```\n", "a = 1\n"}, {"x\n```\nfirst\n```\ny\n~~~py\nsecond\n~~~\nz", "second\n"}, {"````\n```\ninner\n```\n````\n", "```\ninner\n```\n"},
      {"```python\nnever closed", "never closed"}, {"  ```\n  indented\n  ```", "  indented\n"}, {"`a` and ``b``", std::nullopt}, {"```\n```", ""}, {"", std::nullopt}, {"```", ""}};
  for (const auto& [text, code] : cases) EXPECT_EQ(fenced_code(text), code) << text;
}

TEST(TestSets, TravelByTheirHash) {
  TestSets sets;
  const auto a = sets.add(R"({"tests": ["assert f(1) == 2"], "entry_points": ["f"]})"), again = sets.add(R"({"entry_points": "f", "tests": [{"code": "assert f(1) == 2"}]})"), b = sets.add(R"({"tests": [{"output": "1"}]})");
  ASSERT_TRUE(a && again && b);
  EXPECT_EQ(*a, *again);
  EXPECT_EQ(sets.size(), 2U);
  const Bytes image = sets.image();
  Submission one{.code = "x", .test_set = *a};
  ASSERT_TRUE(find_test_set(image, *a));
  ASSERT_TRUE(attach(one, *find_test_set(image, *a)));
  EXPECT_EQ(one.mode_chosen(), Mode::split);
  EXPECT_EQ(one.entry_points, std::vector<std::string>{"f"});
  Submission wrong{.code = "x", .test_set = *b, .mode = Mode::split};
  EXPECT_FALSE(attach(wrong, *find_test_set(image, *b)));
  EXPECT_FALSE(find_test_set(image, std::string(64, 'a')));
  for (std::size_t cut = 0; cut < image.size(); ++cut) (void)find_test_set(BytesView(image).first(cut), *b);  // damaged: nothing, and no further than its end
  for (const char* const text : {"", "[]", R"({"tests": 1})", R"({"tests": [], "code": "x"})"}) EXPECT_FALSE(sets.add(text)) << text;
}

TEST(Languages, AreReadFromTomlAndWhatIsWrongIsNamed) {
  const auto all = read_languages("[language.perl]\nsource = 'main.pl'\nrun = ['/usr/bin/perl', 'main.pl']\n[language.rust]\nsource = 'main.rs'\ncompile = ['/usr/bin/rustc', '-o', 'p', 'main.rs']\nartifact = 'p'\nrun = ['./p']\nbounded_address_space = false\n", "l.toml");
  ASSERT_TRUE(all) << all.error().what();
  ASSERT_EQ(all->size(), 2U);
  EXPECT_EQ((*all)[0].needs, "/usr/bin/perl");
  EXPECT_EQ((*all)[1].needs, "/usr/bin/rustc");
  EXPECT_FALSE((*all)[1].bounded_address_space);
  EXPECT_EQ(json_of(*parse_language(json_of((*all)[1]))), json_of((*all)[1]));
  const std::pair<const char*, const char*> wrong[] = {{"x = 1", "'x'"}, {"[language.a]\nsource = 'm'", "language.a"}, {"[language.a]\nsource = 'a/m'\nrun = ['/x']", "language.a.source"}, {"[language.a]\nsource = 'm'\nrun = 'x'", "language.a.run"},
                                                       {"[language.a]\nsource = 'm'\nrun = ['x']", "language.a.needs"}, {"[language.a]\nsource = 'm'\nrun = ['/x']\ncompile = ['/y']", "language.a"}, {"[language.a]\nspeed = 1", "language.a.speed"}, {"[language", "line 1"}};
  for (const auto& [text, names] : wrong) {
    const auto read = read_languages(text, "l.toml");
    ASSERT_FALSE(read) << text;
    EXPECT_NE(read.error().what().find(names), std::string::npos) << read.error().what();
  }
}

TEST(ForeignApi, WhatIsNotUnderstoodIsRefusedByName) {
  const std::pair<const char*, const char*> fusion[] = {{"[]", "object"}, {"{}", "code"}, {R"({"code": "x"})", "language"}, {R"({"code": "x", "language": "bash", "run_timeout": "soon"})", "run_timeout"},
                                                        {R"({"code": "x", "language": "bash", "files": {"../a": ""}})", "files"}, {R"({"code": "x", "language": "bash", "files": {"a": "?"}})", "files.a"}, {R"({"code": "x", "language": "bash", "fetch_files": ["a"]})", "fetch_files"}};
  for (const auto& [text, key] : fusion) {
    const auto read = read_run_code(text);
    ASSERT_FALSE(read) << text;
    EXPECT_NE(read.error().what().find(key), std::string::npos) << read.error().what();
  }
  const std::pair<const char*, const char*> judge[] = {{"{}", "cmd"}, {R"({"cmd": [{}, {}]})", "cmd"}, {R"({"cmd": [{}]})", "args"}, {R"({"cmd": [{"args": ["sh"]}]})", "args"}, {R"({"cmd": [{"args": ["/bin/sh"], "cpuLimit": -1}]})", "cpuLimit"},
                                                       {R"({"cmd": [{"args": ["/bin/sh"], "copyOutCached": ["a"]}]})", "copyOutCached"}, {R"({"cmd": [{"args": ["/bin/sh"], "files": [{"src": "/etc/shadow"}]}]})", "files[0]"}, {R"({"cmd": [{"args": ["/bin/sh"], "copyIn": {"a": {"src": "/etc/shadow"}}}]})", "copyIn.a"}};
  for (const auto& [text, key] : judge) {
    const auto read = read_go_judge(text);
    ASSERT_FALSE(read) << text;
    EXPECT_NE(read.error().what().find(key), std::string::npos) << read.error().what();
  }
}

TEST(Executions, ComeBackAsTheyWere) {
  Execution one{.language = "bash", .code = std::string("a\0\xff\xc3\xa9", 5), .argv = {"/x", "\x80"}, .env = {"A=b"}, .files = {{"f", std::string("\0\x01\xfe", 3)}}, .input = "in", .take = "t", .compile_wall = Seconds(3)};
  one.limits.cpu = Millis(7);
  const auto back = parse_execution(json_of(one));
  ASSERT_TRUE(back);
  EXPECT_TRUE(is_execution(json_of(one)));
  EXPECT_EQ(back->code, one.code);
  EXPECT_EQ(back->files, one.files);
  EXPECT_EQ(back->argv, one.argv);
  EXPECT_EQ(back->limits.cpu, Millis(7));
  Executed done{.profile = "root"};
  done.run = SandboxEnd{.kind = SandboxEndKind::signalled, .code = 9, .output = std::string("\xff\0x", 3), .taken = "\xfe"};
  const auto again = parse_executed(json_of(done));
  ASSERT_TRUE(again && again->run);
  EXPECT_EQ(again->run->output, done.run->output);
  EXPECT_EQ(again->run->taken, "\xfe");
  EXPECT_FALSE(parse_executed("{}"));
  EXPECT_FALSE(parse_execution("{\"execute\":{}}"));
}

TEST(Attacks, TheCorpusIsWholeAndEachIsNamedOnce) {
  std::set<std::string> names;
  for (const Attack& one : attacks({.file = "/canary", .socket = "/s", .port = 5, .pid = 7})) {
    EXPECT_TRUE(names.insert(one.name).second) << one.name;
    EXPECT_TRUE(one.submission.mode == Mode::stdio || one.submission.mode == Mode::split) << one.name;
    EXPECT_NE(language_named(one.submission.language), nullptr) << one.name;
    EXPECT_EQ(one.submission.code.find("@CANARY"), std::string::npos) << one.name;
    EXPECT_TRUE(parse_submission(json_of(one.submission).dump())) << one.name;
  }
  EXPECT_GE(names.size(), 140U);
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
  conclude(none, RewardRule{.fraction = true});
  EXPECT_EQ(none.outcome, SubmissionOutcome::no_tests);
  EXPECT_FALSE(none.reward);
  Verdict half;
  half.tests = {{TestOutcome::pass}, {TestOutcome::fail}};
  conclude(half, RewardRule{.fraction = true});
  EXPECT_EQ(half.outcome, SubmissionOutcome::some_failed);
  EXPECT_EQ(half.reward, 0.5);
  conclude(half, RewardRule{});
  EXPECT_EQ(half.reward, 0.0);
  Verdict fault = half;
  fault.reason = "judge_error: the host";
  conclude(fault, RewardRule{});
  EXPECT_EQ(fault.outcome, SubmissionOutcome::not_judged);
  EXPECT_FALSE(fault.reward);
  const auto back = parse_verdict(json_of(half));
  ASSERT_TRUE(back) << back.error().what();
  EXPECT_EQ(json_of(*back), json_of(half));
  EXPECT_FALSE(parse_verdict("{}"));
  EXPECT_FALSE(parse_verdict(R"({"id":"","outcome":"all_passed","reward":1,"passed":1,"mode":"stdio","profile":"","tests":[],"measured":{"runs":"many"}})"));
}

nlohmann::json document(const std::string& name) {
  std::ifstream file(std::string(DROVER_SOURCE_DIR) + "/docs/" + name);
  return nlohmann::json::parse(file, nullptr, false);
}

TEST(Verdicts, ARewardIsWhatItsMapSaysAndAFaultHasNone) {
  const auto rule = parse_reward("all_passed=2,some_failed=0.25,suspect=-1,no_tests=0.5");
  ASSERT_TRUE(rule) << rule.error().what();
  const auto reward = [](Verdict verdict, const RewardRule& by) {
    conclude(verdict, by);
    return verdict.reward;
  };
  const TestVerdict pass{TestOutcome::pass, RunOutcome::ok, {}}, fail{TestOutcome::fail, RunOutcome::ok, {}};
  EXPECT_EQ(reward({.tests = {pass}}, *rule), 2.0);
  EXPECT_EQ(reward({.tests = {pass, fail}}, *rule), 0.25);
  EXPECT_EQ(reward({.tests = {fail}}, *rule), 0.0);
  EXPECT_EQ(reward({}, *rule), 0.5);
  EXPECT_EQ(reward({.suspect = true, .tests = {fail}}, *rule), -1.0);
  EXPECT_EQ(reward({.reason = "judge_error: x"}, *rule), std::nullopt);
  EXPECT_EQ(reward({.tests = {pass, fail}}, *parse_reward("fraction")), 0.5);
  EXPECT_EQ(reward({.tests = {pass, pass}}, *parse_reward("fraction,all_passed=3")), 3.0);
  EXPECT_EQ(reward({.tests = {pass, fail}}, *parse_reward("all")), 0.0);
  for (const char* const wrong : {"", "some", "all_passed", "all_passed=", "all_passed=x", "all_passed=nan", "all,fraction", "not_judged=0", "all_passed=1,"}) EXPECT_FALSE(parse_reward(wrong)) << wrong;
}

TEST(Document, TheSchemaHasTheKeysOfASubmissionAndNoOthers) {
  const nlohmann::json schema = document("judge_submission.schema.json");
  ASSERT_TRUE(schema.is_object());
  Submission one{.code = "x", .extract = true, .tests = {IoTest{.comparison = Comparison::floats}}, .checker = Checker{.code = "c"}};
  nlohmann::json written = json_of(one);
  written["test_set"] = "";
  for (const auto& [key, value] : written.items()) EXPECT_TRUE(schema["properties"].contains(key)) << key;
  EXPECT_EQ(schema["properties"].size(), written.size());
  for (const auto& [key, value] : written["limits"].items()) EXPECT_EQ(schema["properties"]["limits"]["properties"][key]["default"], value) << key;
  EXPECT_EQ(schema["properties"]["limits"]["properties"].size(), written["limits"].size());
}

TEST(Document, TheDescriptionOfTheServerHasTheWordsOfAVerdict) {
  const nlohmann::json api = document("judge_openapi.json");
  ASSERT_TRUE(api.is_object());
  const nlohmann::json& properties = api["components"]["schemas"]["Verdict"]["properties"];
  Verdict verdict{.reason = "r", .suspect = true, .extracted = true, .compile = TestVerdict{}};
  const nlohmann::json written = nlohmann::json::parse(json_of(verdict));
  for (const auto& [key, value] : written.items()) EXPECT_TRUE(properties.contains(key)) << key;
  EXPECT_EQ(properties.size(), written.size());
  for (const SubmissionOutcome outcome : {SubmissionOutcome::all_passed, SubmissionOutcome::some_failed, SubmissionOutcome::none_passed, SubmissionOutcome::no_tests, SubmissionOutcome::not_judged})
    EXPECT_NE(std::ranges::find(properties["outcome"]["enum"], name_of(outcome)), properties["outcome"]["enum"].end());
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
