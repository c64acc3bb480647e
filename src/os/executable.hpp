#pragma once
/// Which file a command name means, and how the kernel would start it: found in PATH, `#!` lines followed.

#include <string>
#include <string_view>
#include <vector>

#include "drover/types/error.hpp"
#include "os/unique_fd.hpp"

namespace drover {

struct Executable {
  UniqueFd fd;                    ///< of the ELF file to exec: the program, or a script's interpreter
  std::vector<std::string> argv;  ///< as the kernel would hand it to that file (man 2 execve, "Interpreter scripts")
};

/// `argv[0]` with a slash is a path, seen from `directory` ("" = here); without one it is searched in `path`, colon-separated.
/// Errors: not_found, refused (not executable, a directory, a script without a usable #! line); the message names the file.
Result<Executable> find_executable(const std::vector<std::string>& argv, std::string_view path, const std::string& directory);

}  // namespace drover
