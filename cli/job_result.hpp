#pragma once
/// A finished job for people and for programs (docs/json.md, *result*).

#include <string>

#include "supervisor/job_runner.hpp"

namespace drover::cli {
std::string json_of(const JobReport& report);
std::string text_of_report(const JobReport& report);
}  // namespace drover::cli
