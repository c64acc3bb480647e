#pragma once
/// Submissions out of files: our own shape, and the data sets of the field. Files may be compressed with gzip.
///
///   jsonl      one submission a line (submission.hpp)
///   humaneval  HumanEval.jsonl: {task_id, prompt, entry_point, canonical_solution, test}
///   mbpp       mbpp.jsonl or sanitized-mbpp.json: {task_id, code, test_list, test_setup_code or test_imports}
///   evalplus   HumanEvalPlus.jsonl: {task_id, prompt, entry_point, canonical_solution, base_input, plus_input, atol}: two tests, base and plus
///   io         {id?, inputs, outputs, fn_name?, starter_code?, code?, language?}, or these as text in input_output: APPS and TACO
///
/// The candidates of a data set are its own solutions (`canonical`: a judge that fails them is wrong), or come from a file of lines
/// {task_id, completion} or {task_id, solution}: completion goes behind the prompt, solution stands alone.

#include <string>
#include <vector>

#include "judge/submission.hpp"

namespace drover::judge {

struct DatasetOptions {
  std::string kind = "jsonl";
  std::string candidates = "canonical";  ///< or a file
  std::optional<Mode> mode{};            ///< instead of what a submission says
  Nanos cpu{};                           ///< 0: as the submission says
};

/// Error usage names file, line and key.
Result<std::vector<Submission>> read_dataset(const std::string& path, const DatasetOptions& options);
/// A whole file, decompressed if need be; at most 4 GiB.
Result<std::string> read_text(const std::string& path);

}  // namespace drover::judge
