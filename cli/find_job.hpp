#pragma once
/// Which job a word means: a directory, a name (a job under ./drover-jobs or one this host's registry knows), or nothing at all:
/// the one started last here.

#include <string>
#include <string_view>
#include <vector>

#include "drover/types/error.hpp"
#include "os/file_system.hpp"
#include "store/job_directory.hpp"

namespace drover::cli {

inline constexpr std::string_view kJobsDirectory = "drover-jobs";

std::string registry();                                          ///< directory of the registry, for this user
bool is_job(FileSystem& fs, const std::string& directory);
/// Absolute directory of the job. Errors: not_found, with near names.
Result<std::string> find_job(FileSystem& fs, std::string_view word);
/// Absolute directories of the jobs under ./drover-jobs, the one started last first.
std::vector<std::string> jobs_here(FileSystem& fs);
/// The registry's jobs that run now. Never fails: without a registry there are none.
std::vector<store::RegistryEntry> running_jobs(FileSystem& fs);

}  // namespace drover::cli
