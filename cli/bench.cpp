// drover bench [NAME ...]: becomes the bench runner that was built beside this program.

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "cli/messages.hpp"
#include "cli/program.hpp"
#include "os/host.hpp"

namespace drover::cli {

int bench(const Program&, const Words& words) {
  const std::filesystem::path here = std::filesystem::path(executable_path()).parent_path();
  for (const auto& candidate : {here / "drover-bench", here.parent_path() / "bench" / "drover-bench", here.parent_path() / "libexec" / "drover-bench"}) {
    std::error_code ignored;
    if (!std::filesystem::is_regular_file(candidate, ignored)) continue;
    std::vector<std::string> kept{candidate.string()};
    kept.insert(kept.end(), words.begin(), words.end());
    std::vector<char*> argv;
    for (std::string& word : kept) argv.push_back(word.data());
    argv.push_back(nullptr);
    ::execv(candidate.c_str(), argv.data());
    return complain("bench", Error::from_errno(errno, fmt::format("cannot start '{}'", candidate.string())));
  }
  return complain("bench", Error(ErrorCode::not_found, fmt::format("the bench runner 'drover-bench' is not beside this program in '{}'", here.string()), "build it: `cmake --build BUILD --target drover-bench`"));
}

}  // namespace drover::cli
