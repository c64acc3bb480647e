// Goal: mode split carries honest programs whole and believes hostile ones nothing. Method: honest programs of every kind that a plain
// split breaks, judged in split and in-process with one result.
// Forged ones: attacks.txt, by judge attack.

#include <gtest/gtest.h>
#include <unistd.h>

#include "judge/slot.hpp"
#include "judge/split.hpp"

namespace drover::judge {
namespace {

class SplitTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::access("/usr/bin/python3", X_OK) != 0) GTEST_SKIP() << "needs /usr/bin/python3";
    auto sandbox = make_sandbox({}, SandboxFor::candidates);
    if (!sandbox) GTEST_SKIP() << sandbox.error().what();
    slot.emplace(SlotOptions{}, std::move(*sandbox));
  }
  Verdict judge(const std::string& code, const std::string& test, Mode mode = Mode::split, std::vector<std::string> names = {"f", "S", "E"}, const std::string& prelude = {}) {
    const Submission submission{.id = "x", .code = code, .prelude = prelude, .entry_points = std::move(names), .tests = {CodeTest{test}}, .limits = {.cpu = Millis(500), .wall = Seconds(3), .memory_bytes = 256 << 20}, .mode = mode};
    return slot->judge(submission, [] { return false; });
  }
  std::optional<Slot> slot;
};

struct Honest {
  const char *code, *test;
  bool answers = false;  // an object of the candidate decides
};

const Honest kHonest[] = {
    {"def f(x): return x + 1", "assert f(1) == 2 and f(-3) == -2"},
    {"def f(a, b=2, *c, d=4): return [a, b, c, d]", "assert f(1, d=5) == [1, 2, (), 5] and f(1, 2, 3, 4) == [1, 2, (3, 4), 4]"},
    {"def f(x): return x * 0.1", "assert abs(f(3) - 0.3) < 1e-12 and f(float('inf')) == float('inf')"},
    {"def f(x): return x ** 500", "assert f(7) == 7 ** 500 and f(-7) == 7 ** 500"},
    {"def f(s): return s[::-1]", "assert f('héllo\\ud800') == '\\ud800olléh'"},
    {"def f(b): return b + b'\\x00'", "assert f(b'ab') == b'ab\\x00' and f(bytearray(b'a')) == bytearray(b'a\\x00')"},
    {"def f(n): return {i: [i, (i, {i})] for i in range(n)}", "assert f(2) == {0: [0, (0, {0})], 1: [1, (1, {1})]}"},
    {"def f(n): return None if n else frozenset([1])", "assert f(1) is None and f(0) == frozenset([1])"},
    {"def f(n): return 2 + 1j * n", "assert f(3) == 2 + 3j"},
    {"def f(n): return range(n)", "assert f(3) == range(3) and list(f(2)) == [0, 1]"},
    {"from collections import Counter\ndef f(s): return Counter(s)", "assert f('aab').most_common(1) == [('a', 2)] and f('ab') == {'a': 1, 'b': 1}"},
    {"from collections import defaultdict, OrderedDict, deque\ndef f(s):\n  d = defaultdict(list)\n  for c in s: d[c].append(1)\n  return d, OrderedDict(a=1), deque([1, 2], 5)",
     "d, o, q = f('ab')\nassert d == {'a': [1], 'b': [1]} and d['z'] == [] and list(o) == ['a'] and q.popleft() == 1 and q.maxlen == 5"},
    {"from fractions import Fraction\nfrom decimal import Decimal\ndef f(n): return Fraction(1, n), Decimal('1.10')", "from fractions import Fraction\nfrom decimal import Decimal\na, b = f(3)\nassert a + Fraction(2, 3) == 1 and b == Decimal('1.1') and str(b) == '1.10'"},
    {"import datetime\ndef f(n): return datetime.date(2024, 2, n), datetime.timedelta(days=n)", "import datetime\na, b = f(28)\nassert a + datetime.timedelta(2) == datetime.date(2024, 3, 1) and b.days == 28"},
    {"from collections import namedtuple\nP = namedtuple('P', 'x y')\ndef f(n): return P(n, 2)", "p = f(1)\nassert p == (1, 2) and p.x == 1 and p[1] == 2"},
    {"def f(n):\n  for i in range(n): yield i * i", "assert list(f(3)) == [0, 1, 4] and next(iter(f(2))) == 0 and sum(f(4)) == 14"},
    {"def f(n): return map(str, range(n))", "assert ','.join(f(3)) == '0,1,2'"},
    {"def f(n): return zip([1, 2], 'ab')", "assert dict(f(0)) == {1: 'a', 2: 'b'}"},
    {"def f(g, n): return [g(i) for i in range(n)]", "assert f(lambda x: x * 2, 3) == [0, 2, 4]"},
    {"def f(g):\n  try: return g()\n  except ValueError: return 'caught'", "def g(): raise ValueError('x')\nassert f(g) == 'caught'"},
    {"def f(n): return lambda x: x + n", "assert f(2)(3) == 5 and [f(i)(0) for i in range(3)] == [0, 1, 2]"},
    {"def f(l): l.sort(); l.append(9)", "x = [3, 1]\ny = x\nf(x)\nassert x == [1, 3, 9] and y is x"},
    {"def f(m): m[0][0] = 7", "x = [[1], [2]]\nrow = x[0]\nf(x)\nassert x == [[7], [2]] and row == [7]"},
    {"def f(d): d.pop('a'); d['b'] = 2", "x = {'a': 1}\nf(x)\nassert x == {'b': 2}"},
    {"def f(s): s.add(3)", "x = {1}\nf(x)\nassert x == {1, 3}"},
    {"def f(n):\n  if n < 0: raise ValueError('negative')\n  return n", "try:\n  f(-1)\n  assert False\nexcept ValueError as e:\n  assert str(e) == 'negative'"},
    {"def f(n): return {}[n]", "try: f(1)\nexcept KeyError as e: assert e.args == (1,)\nelse: assert False"},
    {"class E(Exception): pass\ndef f(n): raise E('mine', n)", "try: f(3)\nexcept E as e: assert e.args == ('mine', 3)\nelse: assert False"},
    {"class E(ValueError): pass\ndef f(n): raise E('mine')", "try: f(3)\nexcept ValueError as e: assert str(e) == 'mine'\nelse: assert False"},
    {"class S:\n  def __init__(s): s.i = []\n  def push(s, x): s.i.append(x); return s\n  def __len__(s): return len(s.i)\n  def __getitem__(s, k): return s.i[k]\n  def __iter__(s): return iter(s.i)\n  def __bool__(s): return bool(s.i)",
     "s = S()\nassert not s and len(s) == 0\ns.push(1).push(2)\nassert len(s) == 2 and s[1] == 2 and list(s) == [1, 2] and s and s.i == [1, 2]"},
    {"class S:\n  def __init__(s, v): s.v = v\n  def __eq__(s, o): return isinstance(o, S) and s.v == o.v\n  def __hash__(s): return hash(s.v)", "assert S(1) == S(1) and S(1) != S(2)\nx = S(1)\nassert x == x and {x: 1}[x] == 1", true},
    {"class S:\n  def __init__(s, v): s.v = v\n  def __lt__(s, o): return s.v < o.v\n  def __add__(s, o): return S(s.v + o.v)\n  def __repr__(s): return f'S({s.v})'", "a, b = S(2), S(1)\nassert [x.v for x in sorted([a, b])] == [1, 2] and (a + b).v == 3 and repr(a) == 'S(2)'", true},
    {"class S:\n  def __init__(s): s.open = False\n  def __enter__(s): s.open = True; return s\n  def __exit__(s, *a): s.open = False", "s = S()\nwith s as t: assert t.open\nassert not s.open"},
    {"class S: pass\ndef f(n): return S()", "assert isinstance(f(0), S) and not isinstance(3, S)"},
    {"class S:\n  n = 0\n  def __init__(s): s.x = 1", "s = S()\ns.x = 5\nassert s.x == 5 and S.n == 0\nassert not hasattr(s, 'nothing')"},
    {"async def f(n):\n  import asyncio\n  async def g(): return n\n  return sum(await asyncio.gather(g(), g())) - n + 1", "import asyncio\nassert asyncio.run(f(1)) == 2"},
    {"def f(n):\n  print('noise' * 100)\n  import sys\n  print('more', file=sys.stderr)\n  return n", "assert f(3) == 3"},
    {"x = []\ndef f(n):\n  x.append(n)\n  return len(x)", "assert f(1) == 1 and f(1) == 2"},
    {"import enum\nclass S(enum.Enum):\n  A = 1\n  B = 2\ndef f(n): return S(n)", "assert f(1) == S.A and f(2) is S.B and f(1).value == 1 and f(1).name == 'A'"},
    {"def sum(a, b): return a + b + 1", "assert sum(1, 2) == 4"},
    {"f = lambda n: n + 1", "assert f(1) == 2"},
    {"import functools\n@functools.lru_cache(None)\ndef f(n): return n if n < 2 else f(n - 1) + f(n - 2)", "assert f(50) == 12586269025"},
    {"def f(t): return type(t) is int", "assert f(3) and not f(True) and not f(3.0)"},
    {"def f(t): return t", "assert f(int) is int and f(...) is ... and f(KeyError) is KeyError"},
};

TEST_F(SplitTest, HonestProgramsPassAsTheyDoInTheirOwnProcess) {
  for (const Honest& one : kHonest) {
    const std::vector<std::string> names = std::string(one.code).find("def sum") != std::string::npos ? std::vector<std::string>{"sum"} : std::vector<std::string>{"f", "S", "E"};
    const Verdict split = judge(one.code, one.test, Mode::split, names);
    EXPECT_EQ(split.outcome, SubmissionOutcome::all_passed) << one.code << "\n" << one.test << "\n" << json_of(split);
    EXPECT_EQ(split.candidate_answers, one.answers) << one.code << "\n" << one.test;
    const Verdict inproc = judge(one.code, one.test, Mode::inproc);
    EXPECT_EQ(inproc.outcome, SubmissionOutcome::all_passed) << one.code << "\n" << one.test << "\n" << json_of(inproc);
  }
}

/// Values that travel as data: an expression, and what must hold of it as `v` on the other side.
struct Carried {
  const char *make, *probe;
};
const Carried kCarried[] = {
    {"collections.Counter('abca')", "v.most_common(1) == [('a', 2)]"},
    {"collections.defaultdict(int, a=1)", "v['a'] == 1"},
    {"collections.OrderedDict([('b', 1), ('a', 2)])", "list(v) == ['b', 'a']"},
    {"collections.deque([1, 2, 3])", "v[0] == 1 and len(v) == 3"},
    {"decimal.Decimal('1.10')", "v + 1 == decimal.Decimal('2.10') and str(v) == '1.10'"},
    {"fractions.Fraction(1, 3)", "v * 3 == 1"},
    {"datetime.datetime(2020, 1, 2, 3, 4, 5)", "v.year == 2020"},
    {"datetime.date(2020, 2, 29)", "v.isoformat() == '2020-02-29'"},
    {"datetime.timedelta(days=1, seconds=2)", "v.total_seconds() == 86402"},
    {"3+4j", "abs(v) == 5"},
    {"b'\\x00\\xff'", "v[1] == 255"},
    {"bytearray(b'ab')", "v.decode() == 'ab'"},
    {"frozenset({1, 2})", "2 in v"},
    {"{3, 4}", "sum(v) == 7"},
    {"(1, (2, (3,)))", "v[1][1][0] == 3"},
    {"[[], [[]]]", "len(v) == 2 and v[1] == [[]]"},
    {"{'a': None, 1: True, (1, 2): 'x'}", "v[(1, 2)] == 'x'"},
    {"{1: {2: {3: 'deep'}}}", "v[1][2][3] == 'deep'"},
    {"float('inf')", "v > 1e308"},
    {"-0.0", "str(v) == '-0.0'"},
    {"1e-300", "v < 1e-299"},
    {"0.1 + 0.2", "v == 0.30000000000000004"},
    {"10 ** 40", "v % 7 == 10 ** 40 % 7"},
    {"-(1 << 63)", "v.bit_length() == 64"},
    {"'\\u00e9\\U0001F600'", "len(v) == 2"},
    {"'a\\x00b\\n'", "len(v) == 4"},
    {"''", "v == '' and not v"},
    {"None", "v is None"},
    {"True", "v is True"},
    {"range(2, 10, 3)", "list(v) == [2, 5, 8]"},
    {"...", "v is ..."},
    {"ValueError", "issubclass(v, Exception)"},
};

TEST_F(SplitTest, EveryKindOfValueTravelsEveryWay) {
  const std::string imports = "import collections, datetime, decimal, fractions\n";
  int programs = 0;
  for (const Carried& one : kCarried) {
    const std::string make = one.make;
    const std::pair<std::string, std::string> ways[] = {
        {"def f(x): return " + make, "assert f(0) == " + make},                                                                            // handed back
        {"def f(x): return x == " + make, "assert f(" + make + ") is True"},                                                               // handed over
        {"def f(x): return x", "v = f(" + make + ")\nassert v == " + make + " and type(v) is type(" + make + ")"},                          // there and back
        {"def f(x): return {'a': [" + make + ", (" + make + ",)]}", "assert f(0) == {'a': [" + make + ", (" + make + ",)]}"},                // within others
        {"def f(x): return " + make, "v = f(0)\nassert " + std::string(one.probe)},                                                        // used
        {"def f(*a, **k): return (a, k)", "a, k = f(1, " + make + ", z=" + make + ")\nassert a[1] == " + make + " and k['z'] == " + make},   // by place and by name
    };
    for (const auto& [code, test] : ways) {
      ++programs;
      const Verdict split = judge((imports + code).c_str(), (imports + test).c_str()), inproc = judge((imports + code).c_str(), (imports + test).c_str(), Mode::inproc);
      EXPECT_EQ(split.outcome, SubmissionOutcome::all_passed) << code << "\n" << test << "\n" << json_of(split);
      EXPECT_EQ(inproc.outcome, SubmissionOutcome::all_passed) << code << "\n" << test << "\n" << json_of(inproc);
    }
  }
  EXPECT_GE(programs + static_cast<int>(std::size(kHonest)), 200);
}

TEST_F(SplitTest, WhereAnObjectOfTheCandidateDecidesTheVerdictSaysSo) {
  const char* const told_the_other = "class Y:\n  def __sub__(s, o): return 0\n  def __lt__(s, o): return True\n  def __contains__(s, o): return True\ndef f(x): return Y()";
  for (const char* const test : {"assert abs(f(1) - 5) < 1", "assert f(1) < 5", "assert 5 in f(1)"}) {
    const Verdict verdict = judge(told_the_other, test);
    EXPECT_TRUE(verdict.candidate_answers) << test << "\n" << json_of(verdict);
    EXPECT_NE(json_of(verdict).find("\"trust\":\"candidate_answers\""), std::string::npos);
  }
}

TEST_F(SplitTest, WhatATestCannotHandOverIsNotJudged) {
  const Verdict verdict = judge("def f(x): return 1", "class Own: pass\nassert f(Own()) == 1");
  EXPECT_EQ(verdict.outcome, SubmissionOutcome::not_judged);
  EXPECT_EQ(verdict.reason, "unsupported: a test passes an object that cannot be carried: Own");
  EXPECT_FALSE(verdict.reward);
}

TEST_F(SplitTest, TheCandidatesEndIsToldAsWhatItWas) {
  const std::pair<const char*, const char*> cases[] = {
      {"def f(x):\n  while True: pass", "cpu_limit"},     {"import signal\ndef f(x): signal.pause()", "wall_limit"}, {"def f(x): return [bytearray(1 << 20) for _ in range(4096)]", "memory_limit"},
      {"import os\ndef f(x): os.abort()", "signaled"},    {"import os\ndef f(x): os._exit(3)", "nonzero_exit"},       {"import os\ndef f(x): os._exit(0)", "bad_protocol"},
      {"import ctypes\ndef f(x): return ctypes.CDLL(None).unshare(0x10000000)", "denied_syscall"}, {"def f(:", "load_error"}, {"def f(x): return {}[1]", "runtime_error"},
      {"def f(x):\n  while True: print('x' * 100000)", "output_limit"}, {"def f(x): return [i * ((1 << 61) - 1) for i in range(250000)]", "test_limit"}};
  for (const auto& [code, run] : cases) {
    const bool flooding = std::string_view(run) == "test_limit";
    const Verdict verdict = judge(code, flooding ? "assert set(f(1)) == {1}" : "assert f(1) == 2");
    ASSERT_EQ(verdict.tests.size(), 1U);
    if (!flooding) {
      EXPECT_EQ(name_of(verdict.tests[0].run), run) << code << "\n" << json_of(verdict);
    }
    EXPECT_NE(verdict.tests[0].outcome, TestOutcome::pass);
  }
}

TEST(SplitLines, AreReadAsFarAsTheyGo) {
  const SandboxEnd fine{.kind = SandboxEndKind::exited}, slow{.kind = SandboxEndKind::cpu_limit};
  const auto gone = read_split("pass\ngone\n", 3, RunOutcome::signaled, "crashed(SIGSEGV)", fine);
  EXPECT_EQ(gone.tests[0].outcome, TestOutcome::pass);
  EXPECT_EQ(gone.tests[1].run, RunOutcome::signaled);
  EXPECT_EQ(gone.tests[1].detail, "crashed(SIGSEGV)");
  EXPECT_EQ(gone.tests[2].outcome, TestOutcome::not_reached);
  const auto limit = read_split("marked\n", 2, RunOutcome::cancelled, "", slow);
  EXPECT_TRUE(limit.candidate_answers);
  EXPECT_EQ(limit.tests[1].run, RunOutcome::test_limit);
  EXPECT_EQ(limit.tests[1].detail, "cpu_limit");
  EXPECT_EQ(read_split("broken\n", 1, RunOutcome::ok, "", fine).tests[0].run, RunOutcome::bad_protocol);
  EXPECT_EQ(read_split("unsupported Own\n", 1, RunOutcome::ok, "", fine).unsupported, "Own");
}

}  // namespace
}  // namespace drover::judge
