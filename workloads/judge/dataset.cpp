#include "judge/dataset.hpp"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>

namespace drover::judge {
namespace {

using json = nlohmann::json;

Error at(const std::string& path, std::size_t line, const std::string& why) { return Error(ErrorCode::usage, fmt::format("'{}', record {}: {}", path, line, why), "docs/judge_api.md has the shapes"); }

/// The value of `key` as text; numbers too (task ids).
std::optional<std::string> text_of(const json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end()) return std::nullopt;
  if (found->is_string()) return found->get<std::string>();
  if (found->is_number_integer()) return std::to_string(found->get<std::int64_t>());
  return std::nullopt;
}

/// All objects of a JSON list or of lines; of lines their text too.
Result<std::vector<json>> records(const std::string& path, std::vector<std::string>* raw = nullptr) {
  DROVER_TRY(const std::string text, read_text(path));
  std::vector<json> all;
  if (const std::size_t begin = text.find_first_not_of(" \t\r\n"); begin != std::string::npos && text[begin] == '[') {
    json list = json::parse(text, nullptr, false);
    if (!list.is_array()) return std::unexpected(at(path, 1, "is no JSON list"));
    for (json& one : list) all.push_back(std::move(one));
  } else {
    std::size_t line = 0;
    for (std::size_t from = 0; from < text.size();) {
      const std::size_t end = std::min(text.find('\n', from), text.size());
      const std::string_view one = std::string_view(text).substr(from, end - from);
      from = end + 1;
      ++line;
      if (one.find_first_not_of(" \t\r") == std::string_view::npos) continue;
      all.push_back(json::parse(one, nullptr, false));
      if (raw != nullptr) raw->emplace_back(one);
      if (!all.back().is_object()) return std::unexpected(at(path, line, "is no JSON object"));
    }
  }
  return all;
}

/// Makes a submission of a problem; the candidate's text is put in by `with`.
struct Problem {
  Submission submission;
  std::string prompt{}, canonical{};
};

Result<Problem> humaneval(const json& record) {
  const auto id = text_of(record, "task_id"), prompt = text_of(record, "prompt"), entry = text_of(record, "entry_point"), solution = text_of(record, "canonical_solution"), test = text_of(record, "test");
  if (!id || !prompt || !entry || !solution || !test) return fail(ErrorCode::usage, "lacks task_id, prompt, entry_point, canonical_solution or test");
  Problem problem{.submission = {.id = *id, .prelude = *prompt, .entry_points = {*entry}}, .prompt = *prompt, .canonical = *prompt + *solution};
  problem.submission.tests.push_back(CodeTest{fmt::format("{}\ncheck({})\n", *test, *entry)});
  return problem;
}

/// What the author's solution defines at its top level and the tests use.
std::vector<std::string> names_used(const std::string& solution, const std::vector<Test>& tests) {
  static const std::regex defined(R"((?:^|\n)(?:async +def|def|class) +([A-Za-z_]\w*)|(?:^|\n)([A-Za-z_]\w*) *=[^=])"), word(R"([A-Za-z_]\w*)");
  std::set<std::string> used;
  for (const Test& test : tests) {
    const std::string& code = std::get<CodeTest>(test).code;
    for (std::sregex_iterator at(code.begin(), code.end(), word), end; at != end; ++at) used.insert(at->str());
  }
  std::vector<std::string> names;
  for (std::sregex_iterator at(solution.begin(), solution.end(), defined), end; at != end; ++at) {
    const std::string name = (*at)[1].matched ? (*at)[1].str() : (*at)[2].str();
    if (used.contains(name) && std::ranges::find(names, name) == names.end()) names.push_back(name);
  }
  return names;
}

Result<Problem> mbpp(const json& record) {
  const auto id = text_of(record, "task_id"), solution = text_of(record, "code");
  if (!id || !solution || !record.contains("test_list") || !record["test_list"].is_array()) return fail(ErrorCode::usage, "lacks task_id, code or test_list");
  Problem problem{.submission = {.id = *id}, .canonical = *solution};
  std::string setup = text_of(record, "test_setup_code").value_or("");
  if (record.contains("test_imports") && record["test_imports"].is_array())
    for (const json& line : record["test_imports"])
      if (line.is_string()) setup += line.get<std::string>() + "\n";
  for (const json& test : record["test_list"]) {
    if (!test.is_string()) return fail(ErrorCode::usage, "test_list holds something other than texts");
    problem.submission.tests.push_back(CodeTest{setup.empty() ? test.get<std::string>() : setup + "\n" + test.get<std::string>()});
  }
  problem.submission.entry_points = names_used(*solution, problem.submission.tests);
  // The tests lean on the imports of the author's own solution.
  static const std::regex import(R"((?:^|\n)((?:import|from) [^\n]*))");
  for (std::sregex_iterator at(solution->begin(), solution->end(), import), end; at != end; ++at) problem.submission.prelude += (*at)[1].str() + "\n";
  return problem;
}

/// A Python string literal: JSON's escapes are Python's, but for \/, which dump() does not write.
std::string literal(const std::string& text) { return json(text).dump(-1, ' ', true, json::error_handler_t::replace); }

/// HumanEval+: the expected values are what the author's solution gives. `raw` is the record as it was read: its integers may be larger than
/// any of ours.
Result<Problem> evalplus(const json& record, const std::string& raw) {
  const auto id = text_of(record, "task_id"), prompt = text_of(record, "prompt"), entry = text_of(record, "entry_point"), solution = text_of(record, "canonical_solution");
  if (!id || !prompt || !entry || !solution || !record.contains("base_input") || !record.contains("plus_input")) return fail(ErrorCode::usage, "lacks task_id, prompt, entry_point, canonical_solution, base_input or plus_input");
  Problem problem{.submission = {.id = *id, .prelude = *prompt, .entry_points = {*entry}}, .prompt = *prompt, .canonical = *prompt + *solution};
  // EvalPlus' rule: equal, or floats within atol (1e-6 where none is named) and a relative 1e-7; find_zero is right where its polynomial is zero.
  problem.submission.limits.value_bytes = std::uint64_t{128} << 20;
  problem.submission.limits.int_bits = 1 << 22;  // factorials of thousands are among the answers
  static constexpr std::string_view kCompare = R"(
import copy, json
_record = json.loads({})
_scope = {{}}
exec(_record["prompt"] + _record["canonical_solution"], _scope)
_author = _scope[_record["entry_point"]]
def _is_float(v): return type(v) is float or (type(v) in (list, tuple) and len(v) > 0 and all(type(x) is float for x in v))
def _same(got, want, inputs):
    if _record["entry_point"] == "find_zero": return abs(_scope["poly"](*inputs, got)) <= _record["atol"]
    if got == want: return True
    atol = _record["atol"] or (1e-6 if _is_float(want) else 0)
    if not atol or type(got) is not type(want): return False
    pairs = list(zip(got, want)) if type(want) in (list, tuple) else [(got, want)]
    if type(want) in (list, tuple) and len(got) != len(want): return False
    return all(type(g) in (int, float) and abs(g - w) <= atol + 1e-7 * abs(w) for g, w in pairs)
for _inputs in _record["{}"]:
    _want = _author(*copy.deepcopy(_inputs))
    assert _same({}(*copy.deepcopy(_inputs)), _want, _inputs)
)";
  for (const char* const inputs : {"base_input", "plus_input"}) problem.submission.tests.push_back(CodeTest{fmt::format(kCompare, literal(raw), inputs, *entry)});
  return problem;
}

/// APPS' and TACO's function calls: each input is a list of arguments, each output the value or a list of it alone.
CodeTest call_test(const std::string& name, bool method, const std::string& input, const std::string& output) {
  static constexpr std::string_view kCall = R"(
import json
def _plain(v): return [_plain(x) for x in v] if type(v) in (list, tuple) else {{k: _plain(x) for k, x in v.items()}} if type(v) is dict else v
_want = json.loads({})
_got = _plain({}(*json.loads({})))
assert _got == _want or (type(_want) is list and len(_want) == 1 and _got == _want[0])
)";
  return {fmt::format(kCall, literal(output), method ? "Solution()." + name : name, literal(input))};
}

Result<Problem> io(const json& record, std::size_t number) {
  json pairs = record;
  if (record.contains("input_output") && record["input_output"].is_string()) pairs = json::parse(record["input_output"].get<std::string>(), nullptr, false);
  if (!pairs.is_object() || !pairs.contains("inputs") || !pairs.contains("outputs") || !pairs["inputs"].is_array() || !pairs["outputs"].is_array() || pairs["inputs"].size() != pairs["outputs"].size())
    return fail(ErrorCode::usage, "lacks inputs and outputs of equal length");
  std::string id = text_of(record, "id").value_or(text_of(record, "problem_id").value_or(std::to_string(number)));
  Problem problem{.submission = {.id = std::move(id), .language = text_of(record, "language").value_or("python")}, .canonical = text_of(record, "code").value_or("")};
  if (const auto name = text_of(pairs, "fn_name")) {
    if (name->find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789") != std::string::npos) return fail(ErrorCode::usage, "has a fn_name that is no name");
    const bool method = text_of(record, "starter_code").value_or("").find("class Solution") != std::string::npos;
    problem.submission.entry_points = {method ? "Solution" : *name};
    for (std::size_t i = 0; i < pairs["inputs"].size(); ++i) problem.submission.tests.push_back(call_test(*name, method, pairs["inputs"][i].dump(), pairs["outputs"][i].dump()));
    return problem;
  }
  const auto lines = [](const json& value) {  // a text, or its lines
    if (value.is_string()) return value.get<std::string>();
    std::string text;
    if (value.is_array())
      for (const json& line : value) text += (line.is_string() ? line.get<std::string>() : line.dump()) + "\n";
    return text;
  };
  for (std::size_t i = 0; i < pairs["inputs"].size(); ++i) problem.submission.tests.push_back(IoTest{.input = lines(pairs["inputs"][i]), .output = lines(pairs["outputs"][i])});
  return problem;
}

}  // namespace

Result<std::string> read_text(const std::string& path) {
  const std::unique_ptr<gzFile_s, int (*)(gzFile)> file(path == "-" ? gzdopen(0, "rb") : gzopen(path.c_str(), "rbe"), gzclose);
  if (!file) return fail_errno(errno, fmt::format("open '{}'", path));
  std::string text;
  std::vector<char> part(1 << 20);
  for (;;) {
    const int got = gzread(file.get(), part.data(), static_cast<unsigned>(part.size()));
    if (got < 0) return fail(ErrorCode::usage, fmt::format("'{}' cannot be read: damaged, or a directory", path));
    if (got == 0) return text;
    text.append(part.data(), static_cast<std::size_t>(got));
    if (text.size() >> 32 != 0) return fail(ErrorCode::usage, fmt::format("'{}' holds more than 4 GiB", path));
  }
}

Result<std::vector<Submission>> read_dataset(const std::string& path, const DatasetOptions& options) {
  std::vector<std::string> raw;
  DROVER_TRY(const std::vector<json> all, records(path, &raw));
  std::vector<Submission> submissions;
  std::vector<Problem> problems;
  std::map<std::string, std::size_t, std::less<>> by_id;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (options.kind == "jsonl") {
      auto one = read_submission(all[i]);
      if (!one) return std::unexpected(at(path, i + 1, one.error().what()));
      if (one->id.empty()) one->id = std::to_string(i + 1);
      submissions.push_back(std::move(*one));
      continue;
    }
    auto problem = options.kind == "humaneval" ? humaneval(all[i]) : options.kind == "mbpp" ? mbpp(all[i]) : options.kind == "evalplus" ? evalplus(all[i], i < raw.size() ? raw[i] : all[i].dump()) : io(all[i], i + 1);
    if (!problem) return std::unexpected(at(path, i + 1, problem.error().what()));
    by_id.emplace(problem->submission.id, problems.size());
    problems.push_back(std::move(*problem));
  }
  if (options.kind != "jsonl" && options.candidates == "canonical") {
    for (Problem& problem : problems) {
      problem.submission.code = problem.canonical;
      submissions.push_back(std::move(problem.submission));
    }
  } else if (options.kind != "jsonl") {
    DROVER_TRY(const std::vector<json> candidates, records(options.candidates));
    std::map<std::string, std::uint64_t> seen;
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      const auto id = text_of(candidates[i], "task_id"), completion = text_of(candidates[i], "completion"), solution = text_of(candidates[i], "solution");
      if (!id || !(completion || solution)) return std::unexpected(at(options.candidates, i + 1, "lacks task_id, or completion and solution"));
      const auto found = by_id.find(*id);
      if (found == by_id.end()) return std::unexpected(at(options.candidates, i + 1, fmt::format("task_id '{}' is not in the data set", *id)));
      Submission one = problems[found->second].submission;
      one.id = fmt::format("{}#{}", *id, seen[*id]++);
      one.code = solution ? *solution : problems[found->second].prompt + *completion;
      submissions.push_back(std::move(one));
    }
  }
  for (Submission& one : submissions) {
    if (options.mode) one.mode = options.mode;
    if (options.cpu != Nanos(0)) one.limits.cpu = options.cpu;
    const bool stdio = one.mode_chosen() == Mode::stdio;
    for (const Test& test : one.tests)
      if (std::holds_alternative<IoTest>(test) != stdio) return fail(ErrorCode::usage, fmt::format("submission '{}': its tests are not for --mode {}", one.id, name_of(one.mode_chosen())));
  }
  return submissions;
}

}  // namespace drover::judge
