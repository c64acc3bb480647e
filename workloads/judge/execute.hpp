#pragma once
/// To run a program and see what it prints, without tests: what SandboxFusion's POST /run_code and go-judge's POST /run ask for.

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "drover/sandbox.hpp"

namespace drover::judge {

struct Execution {
  std::string language{}, code{};   ///< of the language table; or argv
  std::vector<std::string> argv{}, env{};
  std::vector<std::pair<std::string, std::string>> files{};
  std::string input{};
  std::string take{};               ///< file to be given back; not with a language that is compiled
  SandboxLimits limits{};
  Nanos compile_wall{};             ///< 0: the table's
};

struct Executed {
  std::string error{};              ///< "unsupported: ...", "refused: ...", "judge_error: ..."; else there is a compile or a run
  std::string profile{};
  std::optional<SandboxEnd> compile{}, run{};
};

bool is_execution(std::string_view json);
/// Error corrupt: not what json_of wrote.
Result<Execution> parse_execution(std::string_view json);
Result<Executed> parse_executed(std::string_view json);
std::string json_of(const Execution& execution);
std::string json_of(const Executed& executed);

}  // namespace drover::judge
