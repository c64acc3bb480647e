#include "cli/find_job.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "base/text.hpp"

namespace drover::cli {
namespace {

std::string absolute(const std::string& path) {
  std::error_code error;
  auto whole = std::filesystem::weakly_canonical(path, error);
  if (error) return path;
  if (whole.filename().empty() && whole.has_parent_path()) whole = whole.parent_path();
  return whole.string();
}

std::string name_of_job(const std::string& directory) { return std::filesystem::path(directory).filename().string(); }

std::string_view environment(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? std::string_view() : std::string_view(value);
}

}  // namespace

std::string registry() { return store::registry_directory(environment("XDG_STATE_HOME"), environment("HOME")); }

bool is_job(FileSystem& fs, const std::string& directory) {
  return fs.exists(directory + "/ledger.db").value_or(false) || (fs.exists(directory + "/job.toml").value_or(false) && fs.exists(directory + "/lock").value_or(false));
}

std::vector<std::string> jobs_here(FileSystem& fs) {
  std::vector<std::pair<std::int64_t, std::string>> found;
  const std::string base(kJobsDirectory);
  for (const std::string& name : fs.list(base).value_or(std::vector<std::string>{})) {
    const std::string directory = base + "/" + name;
    if (!is_job(fs, directory)) continue;
    // Every start of a supervisor writes `lock` anew.
    auto stat = fs.stat(directory + "/lock");
    if (!stat) stat = fs.stat(directory + "/ledger.db");
    found.emplace_back(stat ? stat->modified_unix_ns : 0, absolute(directory));
  }
  std::ranges::stable_sort(found, [](const auto& a, const auto& b) { return a.first != b.first ? a.first > b.first : a.second > b.second; });
  std::vector<std::string> out;
  for (auto& [when, directory] : found) out.push_back(std::move(directory));
  return out;
}

std::vector<store::RegistryEntry> running_jobs(FileSystem& fs) {
  const std::string directory = registry();
  if (directory.empty() || !fs.exists(directory).value_or(false)) return {};
  auto entries = store::list_jobs(fs, directory);
  if (!entries) return {};
  std::erase_if(*entries, [](const store::RegistryEntry& entry) { return !entry.alive; });
  return std::move(*entries);
}

Result<std::string> find_job(FileSystem& fs, std::string_view word) {
  const std::vector<std::string> here = jobs_here(fs);
  if (word.empty()) {
    if (is_job(fs, ".")) return absolute(".");
    if (!here.empty()) return here.front();
    const auto running = running_jobs(fs);
    if (running.size() == 1) return running.front().job_path;
    return fail(ErrorCode::not_found, fmt::format("no job here: '{}' has no '{}' with a job in it", absolute("."), kJobsDirectory),
                running.empty() ? "name a job's directory, or start one, for example with `drover solve leduc`" : fmt::format("`drover ps` lists the {} running elsewhere; name one", running.size()));
  }
  const std::string path(word);
  if (is_job(fs, path)) return absolute(path);
  std::vector<std::string> names;
  for (const std::string& directory : here) {
    if (name_of_job(directory) == word) return directory;
    names.push_back(name_of_job(directory));
  }
  for (const store::RegistryEntry& entry : running_jobs(fs)) {
    if (name_of_job(entry.job_path) == word) return entry.job_path;
    names.push_back(name_of_job(entry.job_path));
  }
  if (fs.exists(path).value_or(false)) return fail(ErrorCode::not_found, fmt::format("'{}' is not a job directory: it has no ledger.db", word), "name the directory that `drover` printed when the job began");
  const std::vector<std::string_view> views(names.begin(), names.end());
  const auto near = nearest_name(word, views);
  return fail(ErrorCode::not_found, fmt::format("no job '{}'", word),
              near ? fmt::format("did you mean '{}'?", *near) : std::string("name a job's directory, or a name that `drover ps --all` lists"));
}

}  // namespace drover::cli
