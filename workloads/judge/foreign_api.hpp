#pragma once
/// What other judges' clients send and expect, translated: pure functions of text.
///   SandboxFusion  POST /run_code: {code, language, stdin?, compile_timeout?, run_timeout?, memory_limit_MB?, files?}
///   go-judge       POST /run: {cmd: [{args, env?, files?, cpuLimit, clockLimit?, memoryLimit?, procLimit?, copyIn?, copyOut?}]}, one command, times in ns

#include <string>
#include <string_view>
#include <vector>

#include "drover/types/error.hpp"
#include "judge/execute.hpp"

namespace drover::judge {

/// Error usage names the key, also where a feature is asked for that is not there (fetch_files, pipes, cached files).
Result<Execution> read_run_code(std::string_view json);
std::string write_run_code(const Execution& asked, const Executed& done);

struct GoJudgeRun {
  std::string request_id{};
  Execution execution{};
  std::vector<std::string> streams{};  ///< names of its files at descriptors 1 and 2: "stdout", "stderr"
};
Result<GoJudgeRun> read_go_judge(std::string_view json);
std::string write_go_judge(const GoJudgeRun& asked, const Executed& done);

}  // namespace drover::judge
