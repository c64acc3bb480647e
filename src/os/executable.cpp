/// open(2), execve(2), binfmt_script of the kernel.
#include "os/executable.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>

namespace drover {
namespace {

constexpr int kInterpretersMax = 4;  ///< as the kernel: a script's interpreter may be a script, so far

std::string seen_from(const std::string& directory, const std::string& path) {
  return directory.empty() || path.starts_with('/') ? path : directory + "/" + path;
}

bool is_executable_file(const std::string& path, int& why) {
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0) {
    why = errno;
    return false;
  }
  why = S_ISREG(status.st_mode) ? 0 : EACCES;
  if (why == 0 && ::faccessat(AT_FDCWD, path.c_str(), X_OK, AT_EACCESS) != 0) why = errno;
  return why == 0;
}

Result<std::string> find(const std::string& name, std::string_view path, const std::string& directory) {
  int why = ENOENT;
  if (name.find('/') != std::string::npos) {
    const std::string file = seen_from(directory, name);
    if (is_executable_file(file, why)) return file;
    return fail(why == ENOENT ? ErrorCode::not_found : ErrorCode::refused, Error::from_errno(why, "cannot execute '" + name + "'").what());
  }
  int first_refusal = ENOENT;
  while (!name.empty()) {
    const auto colon = path.find(':');
    const std::string folder(path.substr(0, colon));
    const std::string file = seen_from(directory, (folder.empty() ? "." : folder) + "/" + name);
    if (is_executable_file(file, why)) return file;
    if (why == EACCES && first_refusal == ENOENT) first_refusal = why;
    if (colon == std::string_view::npos) break;
    path.remove_prefix(colon + 1);
  }
  if (first_refusal == EACCES) return fail(ErrorCode::refused, "cannot execute '" + name + "': a file of that name in PATH is not executable");
  return fail(ErrorCode::not_found, "cannot execute '" + name + "': no such program in PATH", "give its path, or install it");
}

}  // namespace

Result<Executable> find_executable(const std::vector<std::string>& argv, std::string_view path, const std::string& directory) {
  if (argv.empty() || argv[0].empty()) return fail(ErrorCode::refused, "no command given");
  Executable found;
  found.argv = argv;
  DROVER_TRY(std::string file, find(argv[0], path, directory));
  for (int depth = 0; depth <= kInterpretersMax; ++depth) {
    found.fd.reset(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
    if (!found.fd) {
      // Executable and not readable: no script then, and an O_PATH descriptor is enough to exec it.
      found.fd.reset(::open(file.c_str(), O_PATH | O_CLOEXEC));
      if (!found.fd) return fail_errno(errno, "open '" + file + "'");
      return found;
    }
    std::array<char, 256> head{};
    const ssize_t size = ::pread(found.fd.get(), head.data(), head.size() - 1, 0);
    if (size < 2 || head[0] != '#' || head[1] != '!') return found;
    std::string_view line(head.data() + 2, static_cast<std::size_t>(size) - 2);
    line = line.substr(0, line.find('\n'));
    const auto trim = [&line] {
      while (!line.empty() && (line.front() == ' ' || line.front() == '\t')) line.remove_prefix(1);
      while (!line.empty() && (line.back() == ' ' || line.back() == '\t' || line.back() == '\r')) line.remove_suffix(1);
    };
    trim();
    const auto space = line.find_first_of(" \t");
    const std::string interpreter(line.substr(0, space));
    line.remove_prefix(space == std::string_view::npos ? line.size() : space);
    trim();
    if (interpreter.empty()) return fail(ErrorCode::refused, "cannot execute '" + file + "': its first line names no interpreter");
    std::vector<std::string> words{interpreter};
    if (!line.empty()) words.emplace_back(line);  // one argument, spaces and all, as the kernel does
    words.push_back(file);
    words.insert(words.end(), found.argv.begin() + 1, found.argv.end());
    found.argv = std::move(words);
    int why = 0;
    const std::string next = seen_from(directory, interpreter);
    if (!is_executable_file(next, why)) return fail(ErrorCode::refused, Error::from_errno(why, "cannot execute '" + file + "': its interpreter '" + interpreter + "'").what());
    file = next;
  }
  return fail(ErrorCode::refused, "cannot execute '" + argv[0] + "': interpreters lead to interpreters");
}

}  // namespace drover
