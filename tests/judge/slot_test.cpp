// Goal: a slot tells every program's end as what it was, in every mode, and its verdicts do not change. Method: one slot in this
// process, real sandboxes; languages that are not there are skipped aloud.

#include "judge/slot.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

namespace drover::judge {
namespace {

class SlotTest : public testing::Test {
 protected:
  void SetUp() override {
    auto sandbox = make_sandbox({}, SandboxFor::candidates);
    if (!sandbox) GTEST_SKIP() << sandbox.error().what();
    slot.emplace(SlotOptions{}, std::move(*sandbox));
  }
  bool there(const char* language) {
    const std::string& needs = language_named(language)->needs;
    if (::access(needs.c_str(), X_OK) == 0) return true;
    std::printf("not tested: %s is not here\n", needs.c_str());
    return false;
  }
  Verdict judge(const Submission& submission) {
    return slot->judge(submission, [] { return false; });
  }
  std::optional<Slot> slot;
};

Submission sum(const char* language, const char* code) { return {.id = "sum", .language = language, .code = code, .tests = {IoTest{.input = "3 4\n", .output = "7"}, IoTest{.input = "1 1\n", .output = "3"}}}; }

TEST_F(SlotTest, EveryLanguageAddsTwoNumbers) {
  const std::pair<const char*, const char*> programs[] = {
      {"bash", "read a b; echo $((a + b))"},
      {"c", "#include <stdio.h>\nint main(void) { int a, b; scanf(\"%d%d\", &a, &b); printf(\"%d\\n\", a + b); }"},
      {"cpp", "#include <iostream>\nint main() { int a, b; std::cin >> a >> b; std::cout << a + b; }"},
      {"node", "const [a, b] = require('fs').readFileSync(0, 'utf8').split(' ').map(Number); console.log(a + b)"},
      {"python", "a, b = map(int, input().split())\nprint(a + b)"},
  };
  for (const auto& [language, code] : programs) {
    if (!there(language)) continue;
    const Verdict verdict = judge(sum(language, code));
    EXPECT_EQ(verdict.outcome, SubmissionOutcome::some_failed) << language << ": " << json_of(verdict);
    EXPECT_EQ(verdict.passed, 1U);
    EXPECT_EQ(verdict.tests.at(1).outcome, TestOutcome::fail);
  }
}

TEST_F(SlotTest, ABrokenProgramIsACompileErrorAndItsCompilerIsContained) {
  if (!there("cpp")) GTEST_SKIP();
  const Verdict broken = judge(sum("cpp", "int main({"));
  EXPECT_EQ(broken.outcome, SubmissionOutcome::none_passed);
  EXPECT_EQ(broken.compile->run, RunOutcome::compile_error);
  EXPECT_EQ(broken.tests.at(0).outcome, TestOutcome::not_reached);
  // The compiler sees no file of the host but its own.
  EXPECT_EQ(judge(sum("cpp", "#include \"/etc/shadow\"\nint main() {}")).compile->run, RunOutcome::compile_error);
  EXPECT_EQ(judge(sum("cpp", "asm(\".incbin \\\"/proc/1/environ\\\"\");\nint main() {}")).compile->run, RunOutcome::compile_error);
}

TEST_F(SlotTest, AProgramThatCannotBeStartedIsItsOwnFault) {
  if (!there("c")) GTEST_SKIP();
  const std::pair<const char*, std::uint64_t> programs[] = {
      {"const char loader[] __attribute__((section(\".interp\"))) = \"/no/such/loader\";\nint main(void) { return 0; }", 64 << 20},  // names a loader that is not there
      {"char large[8 << 20] = {1};\nint main(void) { return large[0]; }", 4 << 20},                                                    // does not fit
  };
  for (const auto& [code, disk] : programs) {
    Submission submission = sum("c", code);
    submission.limits.disk_bytes = disk;
    const Verdict verdict = judge(submission);
    EXPECT_EQ(verdict.reward, 0.0) << "no verdict is no escape: " << json_of(verdict);
  }
}

TEST_F(SlotTest, ExitModeLinksTheTestIn) {
  if (!there("cpp")) GTEST_SKIP();
  const Verdict verdict = judge({.id = "x", .language = "cpp", .code = "#include <cassert>\nint twice(int x) { return x + x; }", .tests = {CodeTest{"int main() { assert(twice(2) == 4); }"}, CodeTest{"int main() { return twice(2) == 5 ? 0 : 1; }"}}});
  EXPECT_EQ(verdict.mode, Mode::exit);
  EXPECT_EQ(verdict.tests.at(0).outcome, TestOutcome::pass) << json_of(verdict);
  EXPECT_EQ(verdict.tests.at(1).outcome, TestOutcome::fail);
  EXPECT_EQ(trust_of(verdict.mode), "forgeable");
}

TEST_F(SlotTest, EveryEndOfAPythonProgramIsToldAsWhatItWas) {
  if (!there("python")) GTEST_SKIP();
  struct Case {
    const char* code;
    TestOutcome outcome;
    RunOutcome run;
    const char* detail;
  };
  const Case cases[] = {
      {"def f(x): return 2", TestOutcome::pass, RunOutcome::ok, ""},
      {"def f(x): return 3", TestOutcome::fail, RunOutcome::ok, ""},
      {"def f(:", TestOutcome::error, RunOutcome::load_error, "SyntaxError"},
      {"import nonsense", TestOutcome::error, RunOutcome::load_error, "ModuleNotFoundError"},
      {"def f(x): return {}[x]", TestOutcome::error, RunOutcome::runtime_error, "KeyError"},
      {"def f(x): raise BaseException", TestOutcome::error, RunOutcome::runtime_error, "BaseException"},
      {"def f(x): raise SystemExit", TestOutcome::error, RunOutcome::runtime_error, "SystemExit"},
      {"import os\ndef f(x): os._exit(0)", TestOutcome::error, RunOutcome::bad_protocol, "it ended before its tests did"},
      {"import os\ndef f(x): os._exit(3)", TestOutcome::error, RunOutcome::nonzero_exit, "3"},
      {"import os\ndef f(x): os.abort()", TestOutcome::error, RunOutcome::signaled, "crashed(SIGABRT)"},
      {"import os\ndef f(x): os.kill(os.getpid(), 9)", TestOutcome::error, RunOutcome::signaled, "crashed(SIGKILL)"},
      {"def f(x):\n  while True: pass", TestOutcome::error, RunOutcome::cpu_limit, ""},
      {"def f(x):\n  while True:\n    try: pass\n    except BaseException: pass", TestOutcome::error, RunOutcome::cpu_limit, ""},
      {"import signal\ndef f(x): signal.pause()", TestOutcome::error, RunOutcome::wall_limit, ""},
      {"def f(x): return [bytearray(1 << 20) for _ in range(4096)]", TestOutcome::error, RunOutcome::memory_limit, ""},
      {"def f(x):\n  while True: print('x' * 10000)", TestOutcome::error, RunOutcome::output_limit, ""},
      {"import ctypes\ndef f(x): return ctypes.CDLL(None).unshare(0x10000000)", TestOutcome::error, RunOutcome::denied_syscall, ""},
      {"import socket\ndef f(x): socket.socket()", TestOutcome::error, RunOutcome::runtime_error, "OSError"},
      {"def f(x): return f(x)", TestOutcome::error, RunOutcome::runtime_error, "RecursionError"},
      {"import threading, tempfile, subprocess\ndef f(x):\n  r = []\n  t = threading.Thread(target=lambda: r.append(2)); t.start(); t.join()\n  open(tempfile.mktemp(), 'w').close()\n  return int(subprocess.check_output(['echo', '2'])) "
       "if r == [2] else 0",
       TestOutcome::pass, RunOutcome::ok, ""},
  };
  for (const Case& one : cases) {
    const Submission submission{.id = "x", .code = one.code, .tests = {CodeTest{"assert f(1) == 2"}}, .limits = {.cpu = Millis(800), .wall = Seconds(3), .memory_bytes = 128 << 20, .output_bytes = 1 << 20}};
    const Verdict verdict = judge(submission);
    ASSERT_EQ(verdict.tests.size(), 1U) << json_of(verdict);
    EXPECT_EQ(verdict.tests[0].outcome, one.outcome) << one.code << "\n" << json_of(verdict);
    EXPECT_EQ(name_of(verdict.tests[0].run), name_of(one.run)) << one.code << "\n" << json_of(verdict);
    EXPECT_EQ(verdict.tests[0].detail, one.detail) << one.code;
  }
}

TEST_F(SlotTest, WhatCannotBeJudgedHasNoRewardAndSaysWhy) {
  const Verdict unknown = judge({.id = "x", .language = "cobol", .code = "", .tests = {IoTest{}}});
  EXPECT_EQ(unknown.outcome, SubmissionOutcome::not_judged);
  EXPECT_FALSE(unknown.reward);
  EXPECT_EQ(unknown.reason, "unsupported: language 'cobol'");
  EXPECT_EQ(judge({.id = "x", .code = "x = 1"}).outcome, SubmissionOutcome::no_tests);
  EXPECT_EQ(make_sandbox({.profile = {}, .require = "moat"}).error().code(), ErrorCode::usage);
}

TEST_F(SlotTest, TestFilesOfUnittestAndPytestAreRunAndAnEmptyOneIsNoPass) {
  if (!there("python")) return;
  const std::pair<const char*, bool> tests[] = {
      {R"({"unittest": "import unittest\nclass T(unittest.TestCase):\n  def test_a(self): self.assertEqual(f(1), 2)\n  def test_b(self): self.assertRaises(TypeError, f, 'x')\n"})", true},
      {R"({"unittest": "import unittest\nclass T(unittest.TestCase):\n  def test_a(self): self.assertEqual(f(1), 3)\n"})", false},
      {R"({"unittest": "import unittest\nclass T(unittest.TestCase):\n  def setUp(self): self.x = f(1)\n  def test_a(self): raise ValueError\n"})", false},
      {R"({"unittest": "import unittest"})", false},
      {R"({"pytest": "def test_x():\n  assert f(3) == 4\nclass TestY:\n  def test_y(self): assert f(0) == 1\n"})", true},
      {R"({"pytest": "def test_x():\n  assert f(3) == 5\n"})", false},
      {R"({"pytest": "class TestY:\n  def test_y(self): assert f(0) == 2\n"})", false},
      {R"({"pytest": "def helper(): pass"})", false}};
  for (const char* const mode : {"split", "inproc"})
    for (const auto& [test, passes] : tests) {
      const auto one = parse_submission(R"({"code": "def f(x): return x + 1", "entry_points": "f", "mode": ")" + std::string(mode) + R"(", "tests": [)" + test + "]}");
      ASSERT_TRUE(one) << one.error().what();
      const Verdict verdict = judge(*one);
      EXPECT_EQ(verdict.outcome == SubmissionOutcome::all_passed, passes) << mode << " " << test << "\n" << json_of(verdict);
    }
}

TEST_F(SlotTest, ACheckerDecidesWhereTheCandidateIsNot) {
  Submission one{.language = "bash", .code = "read a; echo $((a / 2)) $((a - a / 2)); echo x > /w/left", .tests = {IoTest{.input = "7\n"}, IoTest{.input = "9\n"}}};
  one.checker = Checker{.language = "bash", .code = "read n < $1; read a b < $2; [ -e /w/left ] && exit 3; [ $((a + b)) = $n ]"};
  EXPECT_EQ(judge(one).outcome, SubmissionOutcome::all_passed) << json_of(judge(one));
  one.code = "echo 3 4";
  const Verdict half = judge(one);
  EXPECT_EQ(half.passed, 1U);
  EXPECT_EQ(half.tests.at(1).outcome, TestOutcome::fail);
  // What a program prints may break its checker: then it has not passed, and it is no fault of the judge.
  one.code = "echo '; kill -9 $$'";
  one.checker->code = "read line < $2; eval \"true $line\"";
  const Verdict broke = judge(one);
  EXPECT_EQ(broke.tests.at(0).run, RunOutcome::test_limit) << json_of(broke);
  EXPECT_EQ(broke.reward, 0.0);
  one.checker->language = "cobol";
  EXPECT_EQ(judge(one).outcome, SubmissionOutcome::not_judged);
  one.checker.reset();
  one.code = "";
  one.tests = {IoTest{.input = "", .output = ""}};
  EXPECT_EQ(judge(one).outcome, SubmissionOutcome::all_passed) << "a program without a byte prints nothing";
}

TEST_F(SlotTest, TheProgramIsTakenOutOfAnAnswerAndTheVerdictSaysWhether) {
  Submission one{.language = "bash", .code = "Try this:\n```bash\necho 7\n```\nGood luck!", .extract = true, .tests = {IoTest{.input = "", .output = "7"}}};
  const Verdict verdict = judge(one);
  EXPECT_EQ(verdict.outcome, SubmissionOutcome::all_passed) << json_of(verdict);
  EXPECT_EQ(verdict.extracted, true);
  one.code = "echo 7";
  EXPECT_EQ(judge(one).extracted, false);
  EXPECT_EQ(parse_verdict(json_of(judge(one)))->extracted, false);
}

TEST_F(SlotTest, ALanguageOfTheUsersOwnIsAsContainedAsTheOthers) {
  auto languages = read_languages("[language.sh]\nsource = 'main.sh'\nrun = ['/bin/sh', 'main.sh']\n[language.copied]\nsource = 'in'\ncompile = ['/bin/cp', 'in', 'out']\nartifact = 'out'\nrun = ['/bin/sh', 'out']\n", "l.toml");
  ASSERT_TRUE(languages);
  auto sandbox = make_sandbox({}, SandboxFor::candidates);
  ASSERT_TRUE(sandbox);
  slot.emplace(SlotOptions{.languages = *languages}, std::move(*sandbox));
  for (const char* const name : {"sh", "copied"}) {
    EXPECT_EQ(judge({.language = name, .code = "echo 7", .tests = {IoTest{.output = "7"}}}).outcome, SubmissionOutcome::all_passed) << name;
    EXPECT_EQ(judge({.language = name, .code = "cat /etc/shadow && echo 7", .tests = {IoTest{.output = "7"}}}).outcome, SubmissionOutcome::none_passed) << name;
  }
}

TEST_F(SlotTest, HashesAndRandomNumbersAreTheSameEveryTime) {
  if (!there("python")) GTEST_SKIP();
  const Submission submission{.id = "x", .code = "import random\nprint(hash('a'), random.seed(0) or random.random(), id(object()) % 2, len(__import__('os').environ))", .tests = {IoTest{.output = "?"}}};
  Submission shown = submission;
  shown.language = "python";
  std::string first;
  for (int i = 0; i < 3; ++i) {
    SandboxRun run{.argv = language_named("python")->run, .files = {{"main.py", submission.code}}};
    auto sandbox = make_sandbox({});
    const auto end = sandbox->run(run);
    ASSERT_TRUE(end);
    if (first.empty()) first = end->output;
    EXPECT_EQ(end->output, first);
  }
}

}  // namespace
}  // namespace drover::judge
