#pragma once
/// What is to be judged: a program, its tests and its limits; and JSON of it, one object a submission (docs/judge_api.md).

#include <algorithm>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "drover/types/error.hpp"
#include "drover/types/time.hpp"

namespace drover::judge {

/// Where a verdict comes from, weakest last. What a mode's verdicts are worth is its `trust`.
enum class Mode : std::uint8_t {
  split,   ///< the tests run in another process, which calls the candidate's functions and gets plain data
  stdio,   ///< our process compares what the program printed
  exit,    ///< the program's exit status, tests linked into it
  inproc,  ///< tests run in the candidate's own interpreter
};
std::string_view name_of(Mode mode);
std::optional<Mode> mode_named(std::string_view name);
/// "unforgeable", or "forgeable": a hostile program can write the verdict.
std::string_view trust_of(Mode mode);

enum class Comparison : std::uint8_t { exact, tokens, floats };

/// stdio: bytes in, bytes expected.
struct IoTest {
  std::string input{}, output{};
  Comparison comparison = Comparison::tokens;
  double absolute = 1e-9, relative = 1e-9;  ///< floats: one of the two is enough
  friend bool operator==(const IoTest&, const IoTest&) = default;
};
/// split, exit and inproc: code that fails unless the candidate is right.
struct CodeTest {
  std::string code{};
  friend bool operator==(const CodeTest&, const CodeTest&) = default;
};
using Test = std::variant<IoTest, CodeTest>;

/// stdio: a program of the tests' author that decides instead of a comparison, as testlib's checkers do: it is called with the names of three
/// files (input, output, answer) and ends with 0 (right), 1 or 2 (wrong). It runs where no candidate does.
struct Checker {
  std::string language = "cpp", code{};
  friend bool operator==(const Checker&, const Checker&) = default;
};

/// For each run of the program: a test of stdio and exit, all tests of inproc together.
struct Limits {
  Nanos cpu = Seconds(5);
  Nanos wall{};                              ///< 0: four times cpu and five seconds, against sleepers only
  std::uint64_t memory_bytes = std::uint64_t{512} << 20;
  std::uint64_t output_bytes = std::uint64_t{16} << 20;
  std::uint64_t disk_bytes = std::uint64_t{64} << 20;
  std::uint32_t processes = 64;
  std::uint64_t value_bytes = std::uint64_t{16} << 20;  ///< split: of what a call hands over; a sixteenth of it in values
  std::uint32_t int_bits = 65536;                       ///< split: of an integer that is handed over
  friend bool operator==(const Limits&, const Limits&) = default;
};

struct Submission {
  std::string id{};
  std::string language = "python";
  std::string code{};
  bool extract = false;                      ///< `code` is a model's answer: the last fenced block of it is the program
  std::string prelude{};                     ///< split: the author's text before the tests: imports, helpers
  std::vector<std::string> entry_points{};   ///< split: the names by which tests call the candidate
  std::vector<Test> tests{};
  std::optional<Checker> checker{};
  std::string test_set{};                    ///< sha256 of a registered one, instead of tests, prelude and entry_points (test_sets.hpp)
  Limits limits{};
  std::optional<Mode> mode{};                ///< nothing: stdio for inputs and outputs; python split where entry_points are named, else inproc; exit for the rest
  Mode mode_chosen() const { return mode_for(std::ranges::all_of(tests, [](const Test& test) { return std::holds_alternative<IoTest>(test); }), !entry_points.empty()); }
  /// The same, where the tests are elsewhere: whether all are inputs and outputs, and whether entry points are named.
  Mode mode_for(bool io, bool named) const;
  friend bool operator==(const Submission&, const Submission&) = default;
};

/// The last fenced block (``` or ~~~) of a text, a closing fence left out at the end of the text included; nothing if there is none.
std::optional<std::string> fenced_code(std::string_view text);
/// Error usage names the key.
Result<Submission> parse_submission(std::string_view json);
Result<Submission> read_submission(const nlohmann::json& object);
/// Error usage: its mode is not for tests of this kind.
Result<void> check_tests(const Submission& submission);
nlohmann::ordered_json json_of(const Submission& submission);
/// Everything a verdict depends on, without the id: equal keys, equal verdicts.
std::string content_key(const Submission& submission);

}  // namespace drover::judge
