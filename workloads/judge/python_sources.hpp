#pragma once
/// The Python halves of judge (python/*.py), embedded in this binary.

#include <string>
#include <string_view>

extern "C" {
extern const char drover_judge_inproc_begin[], drover_judge_inproc_end[];
extern const char drover_judge_attacks_begin[], drover_judge_attacks_end[];
extern const char drover_judge_split_common_begin[], drover_judge_split_common_end[];
extern const char drover_judge_split_tests_begin[], drover_judge_split_tests_end[];
extern const char drover_judge_split_candidate_begin[], drover_judge_split_candidate_end[];
}

namespace drover::judge {

inline std::string_view inproc_source() { return {drover_judge_inproc_begin, drover_judge_inproc_end}; }
inline std::string_view attacks_source() { return {drover_judge_attacks_begin, drover_judge_attacks_end}; }
/// Each of the two is one program: the common part, then its own.
inline const std::string& split_tests_source() {
  static const std::string source = std::string(drover_judge_split_common_begin, drover_judge_split_common_end) + std::string(drover_judge_split_tests_begin, drover_judge_split_tests_end);
  return source;
}
inline const std::string& split_candidate_source() {
  static const std::string source = std::string(drover_judge_split_common_begin, drover_judge_split_common_end) + std::string(drover_judge_split_candidate_begin, drover_judge_split_candidate_end);
  return source;
}

}  // namespace drover::judge
