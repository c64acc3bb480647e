#include "judge/submission.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "judge/hash.hpp"
#include "judge/words.hpp"

namespace drover::judge {
namespace {

using json = nlohmann::json;

constexpr std::pair<Mode, std::string_view> kModes[] = {{Mode::split, "split"}, {Mode::stdio, "stdio"}, {Mode::exit, "exit"}, {Mode::inproc, "inproc"}};
constexpr std::pair<Comparison, std::string_view> kComparisons[] = {{Comparison::exact, "exact"}, {Comparison::tokens, "tokens"}, {Comparison::floats, "floats"}};

Error wrong(const std::string& key, const std::string& why) { return Error(ErrorCode::usage, fmt::format("'{}': {}", key, why), "docs/judge_api.md has the shape of a submission"); }

/// Takes keys out of an object; what is left over is unknown.
class Reader {
 public:
  Reader(const json& object, std::string path) : object_(object), path_(std::move(path)) {}
  Result<void> text(const char* key, std::string& into, bool required = false) {
    const json* const value = take(key);
    if (value == nullptr) return required ? Result<void>(std::unexpected(wrong(path_ + key, "is missing"))) : Result<void>();
    if (!value->is_string()) return std::unexpected(wrong(path_ + key, "must be a text"));
    into = value->get<std::string>();
    return {};
  }
  Result<void> seconds(const char* key, Nanos& into) {
    double value = static_cast<double>(into.count()) * 1e-9;
    DROVER_CHECK(number(key, value, 0, 86400));
    into = Nanos(static_cast<std::int64_t>(value * 1e9));
    return {};
  }
  template <class T>
  Result<void> count(const char* key, T& into, std::uint64_t unit, double max) {
    double value = static_cast<double>(into / unit);
    DROVER_CHECK(number(key, value, 1, max));
    into = static_cast<T>(value * static_cast<double>(unit));
    return {};
  }
  Result<void> number(const char* key, double& into, double min, double max) {
    const json* const value = take(key);
    if (value == nullptr) return {};
    if (!value->is_number()) return std::unexpected(wrong(path_ + key, "must be a number"));
    if (!(value->get<double>() >= min && value->get<double>() <= max)) return std::unexpected(wrong(path_ + key, fmt::format("must be from {} to {}", min, max)));
    into = value->get<double>();
    return {};
  }
  const json* take(const char* key) {
    const auto found = object_.find(key);
    if (found == object_.end()) return nullptr;
    taken_.emplace_back(key);
    return found->is_null() ? nullptr : &*found;
  }
  Result<void> nothing_else() const {
    for (const auto& [key, value] : object_.items())
      if (std::ranges::find(taken_, key) == taken_.end()) return std::unexpected(wrong(path_ + key, "is not known"));
    return {};
  }

 private:
  const json& object_;
  std::string path_;
  std::vector<std::string> taken_;
};

bool is_name(const std::string& text) {
  return !text.empty() && text.size() <= 200 && !(text[0] >= '0' && text[0] <= '9') && std::ranges::all_of(text, [](unsigned char c) { return c == '_' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); });
}

/// A test file of the standard library's or pytest's kind is code, and what runs its cases.
constexpr std::pair<const char*, const char*> kCodeKeys[] = {
    {"code", ""},
    {"unittest", R"(
import unittest as _unittest
_suite = _unittest.TestSuite(_unittest.defaultTestLoader.loadTestsFromTestCase(_c) for _c in list(globals().values()) if type(_c) is type and issubclass(_c, _unittest.TestCase))
assert _suite.countTestCases() > 0, "no tests"
_result = _unittest.TestResult()
_suite.run(_result)
for _case, _text in (_result.errors + _result.failures)[:1]: raise AssertionError(_text[-300:])
)"},
    {"pytest", R"(
_found = [_v for _n, _v in list(globals().items()) if _n.startswith("test") and type(_v) is type(lambda: 0)]
for _n, _v in list(globals().items()):
    if _n.startswith("Test") and type(_v) is type: _found += [(lambda c=_v, m=_m: getattr(c(), m)()) for _m in vars(_v) if _m.startswith("test")]
assert _found, "no tests"
for _f in _found: _f()
)"}};

Result<Test> parse_test(const json& value, const std::string& path) {
  if (value.is_string()) return CodeTest{value.get<std::string>()};
  if (!value.is_object()) return std::unexpected(wrong(path, "must be an object or a text of code"));
  Reader reader(value, path + ".");
  for (const auto& [key, trailer] : kCodeKeys) {
    if (!value.contains(key)) continue;
    CodeTest test;
    DROVER_CHECK(reader.text(key, test.code, true));
    DROVER_CHECK(reader.nothing_else());
    test.code += trailer;
    return test;
  }
  IoTest test;
  std::string comparison(word_of(test.comparison, kComparisons));
  DROVER_CHECK(reader.text("input", test.input));
  DROVER_CHECK(reader.text("output", test.output, true));
  DROVER_CHECK(reader.text("compare", comparison));
  DROVER_CHECK(reader.number("absolute", test.absolute, 0, 1e300));
  DROVER_CHECK(reader.number("relative", test.relative, 0, 1e300));
  DROVER_CHECK(reader.nothing_else());
  const auto found = value_of(comparison, kComparisons);
  if (!found) return std::unexpected(wrong(path + ".compare", "must be exact, tokens or floats"));
  test.comparison = *found;
  return test;
}

}  // namespace

std::string_view name_of(Mode mode) { return word_of(mode, kModes); }
std::optional<Mode> mode_named(std::string_view name) { return value_of(name, kModes); }
std::string_view trust_of(Mode mode) { return mode == Mode::stdio || mode == Mode::split ? "unforgeable" : "forgeable"; }

Mode Submission::mode_for(bool io, bool named) const {
  if (mode) return *mode;
  if (io) return Mode::stdio;
  if (language != "python") return Mode::exit;
  return named ? Mode::split : Mode::inproc;
}

std::optional<std::string> fenced_code(std::string_view text) {
  std::optional<std::string> found;
  std::string_view fence;  // of the block we are in
  std::size_t begin = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    std::string_view line = text.substr(at, end - at);
    while (!line.empty() && line.front() == ' ') line.remove_prefix(1);
    const std::size_t width = std::min(line.find_first_not_of(line.empty() ? ' ' : line.front()), line.size());
    if (fence.empty() && width >= 3 && (line.front() == '`' || line.front() == '~')) {
      fence = line.substr(0, width);
      begin = std::min(end + 1, text.size());
    } else if (!fence.empty() && width >= fence.size() && line.front() == fence.front() && line.find_first_not_of(" \r", width) == std::string_view::npos) {
      found = std::string(text.substr(begin, at - begin));
      fence = {};
    }
    at = end + 1;
  }
  if (!fence.empty()) found = std::string(text.substr(begin));
  return found;
}

Result<Submission> parse_submission(std::string_view text) { return read_submission(json::parse(text, nullptr, false)); }

Result<Submission> read_submission(const json& object) {
  if (!object.is_object()) return fail(ErrorCode::usage, "a submission must be one JSON object", "docs/judge_api.md has its shape");
  Submission submission;
  Reader reader(object, "");
  DROVER_CHECK(reader.text("id", submission.id));
  DROVER_CHECK(reader.text("language", submission.language));
  DROVER_CHECK(reader.text("code", submission.code, true));
  std::string extract = "none";
  DROVER_CHECK(reader.text("extract", extract));
  if (extract != "none" && extract != "fenced") return std::unexpected(wrong("extract", "must be none or fenced"));
  submission.extract = extract == "fenced";
  std::string mode;
  DROVER_CHECK(reader.text("mode", mode));
  if (!mode.empty() && !(submission.mode = mode_named(mode))) return std::unexpected(wrong("mode", "must be split, stdio, exit or inproc"));
  if (const json* const tests = reader.take("tests")) {
    if (!tests->is_array()) return std::unexpected(wrong("tests", "must be a list"));
    for (std::size_t i = 0; i < tests->size(); ++i) {
      DROVER_TRY(Test test, parse_test((*tests)[i], fmt::format("tests[{}]", i)));
      submission.tests.push_back(std::move(test));
    }
  }
  DROVER_CHECK(reader.text("prelude", submission.prelude));
  if (const json* const names = reader.take("entry_points")) {
    const json list = names->is_string() ? json::array({*names}) : *names;
    if (!list.is_array()) return std::unexpected(wrong("entry_points", "must be a name or a list of names"));
    for (const json& name : list) {
      if (!name.is_string() || !is_name(name.get<std::string>())) return std::unexpected(wrong("entry_points", "holds something that is no name"));
      submission.entry_points.push_back(name);
    }
  }
  if (const json* const checker = reader.take("checker")) {
    if (!checker->is_object()) return std::unexpected(wrong("checker", "must be an object"));
    Reader of(*checker, "checker.");
    Checker& c = submission.checker.emplace();
    DROVER_CHECK(of.text("language", c.language));
    DROVER_CHECK(of.text("code", c.code, true));
    DROVER_CHECK(of.nothing_else());
  }
  if (const json* const limits = reader.take("limits")) {
    if (!limits->is_object()) return std::unexpected(wrong("limits", "must be an object"));
    Reader of(*limits, "limits.");
    Limits& l = submission.limits;
    DROVER_CHECK(of.seconds("cpu_seconds", l.cpu));
    DROVER_CHECK(of.seconds("wall_seconds", l.wall));
    DROVER_CHECK(of.count("memory_mib", l.memory_bytes, 1 << 20, 1 << 20));
    DROVER_CHECK(of.count("output_kib", l.output_bytes, 1 << 10, 1 << 20));
    DROVER_CHECK(of.count("disk_mib", l.disk_bytes, 1 << 20, 1 << 16));
    DROVER_CHECK(of.count("processes", l.processes, 1, 10'000));
    DROVER_CHECK(of.count("value_mib", l.value_bytes, 1 << 20, 1024));
    DROVER_CHECK(of.count("int_bits", l.int_bits, 1, 1 << 26));
    DROVER_CHECK(of.nothing_else());
  }
  DROVER_CHECK(reader.text("test_set", submission.test_set));
  DROVER_CHECK(reader.nothing_else());
  if (!submission.test_set.empty()) {
    if (submission.test_set.size() != 64 || submission.test_set.find_first_not_of("0123456789abcdef") != std::string::npos) return std::unexpected(wrong("test_set", "must be a sha256 in hex"));
    if (!submission.tests.empty() || !submission.prelude.empty() || !submission.entry_points.empty()) return std::unexpected(wrong("test_set", "stands for tests, prelude and entry_points: not both"));
    return submission;
  }
  DROVER_CHECK(check_tests(submission));
  return submission;
}

Result<void> check_tests(const Submission& submission) {
  const bool io = submission.mode_chosen() == Mode::stdio;
  if (submission.checker && !io) return std::unexpected(wrong("checker", "is for inputs and outputs"));
  for (std::size_t i = 0; i < submission.tests.size(); ++i)
    if (std::holds_alternative<IoTest>(submission.tests[i]) != io)
      return std::unexpected(wrong(fmt::format("tests[{}]", i), io ? "mode stdio needs input and output" : fmt::format("mode {} needs code", name_of(submission.mode_chosen()))));
  return {};
}

nlohmann::ordered_json json_of(const Submission& s) {
  nlohmann::ordered_json tests = nlohmann::ordered_json::array();
  for (const Test& test : s.tests) {
    if (const auto* const code = std::get_if<CodeTest>(&test)) {
      tests.push_back({{"code", code->code}});
      continue;
    }
    const auto& io = std::get<IoTest>(test);
    nlohmann::ordered_json one{{"input", io.input}, {"output", io.output}, {"compare", word_of(io.comparison, kComparisons)}};
    if (io.comparison == Comparison::floats) one["absolute"] = io.absolute, one["relative"] = io.relative;
    tests.push_back(std::move(one));
  }
  const auto seconds = [](Nanos time) { return static_cast<double>(time.count()) * 1e-9; };
  nlohmann::ordered_json object{{"id", s.id},
          {"language", s.language},
          {"code", s.code},
          {"prelude", s.prelude},
          {"entry_points", s.entry_points},
          {"tests", std::move(tests)},
          {"limits",
           {{"cpu_seconds", seconds(s.limits.cpu)},
            {"wall_seconds", seconds(s.limits.wall)},
            {"memory_mib", s.limits.memory_bytes >> 20},
            {"output_kib", s.limits.output_bytes >> 10},
            {"disk_mib", s.limits.disk_bytes >> 20},
            {"processes", s.limits.processes},
            {"value_mib", s.limits.value_bytes >> 20},
            {"int_bits", s.limits.int_bits}}}};
  if (s.mode || s.test_set.empty()) object["mode"] = name_of(s.mode_chosen());  // else its tests will say
  if (s.checker) object["checker"] = {{"language", s.checker->language}, {"code", s.checker->code}};
  if (s.extract) object["extract"] = "fenced";
  if (!s.test_set.empty()) object["test_set"] = s.test_set;
  return object;
}

std::string content_key(const Submission& submission) {
  nlohmann::ordered_json content = json_of(submission);
  content.erase("id");
  return sha256_hex(content.dump(-1, ' ', false, json::error_handler_t::replace));
}

}  // namespace drover::judge
