#pragma once
/// Who else is at the files of a directory: by /proc/*/fd and maps (who holds them now), and by fanotify(7) (who changes them while
/// we watch, however shortly). What /proc does not let us read is counted, not passed over in silence.

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "drover/types/error.hpp"
#include "os/unique_fd.hpp"

namespace drover {

struct FileHolder {
  pid_t pid = 0;
  std::string command;             ///< its name, as /proc/PID/comm has it
  std::string path;                ///< of the file, as the kernel names it
  bool writes = false;             ///< may write it, or did
  bool ours = false;               ///< runs this very program
};

struct Holders {
  std::vector<FileHolder> holders;      ///< by pid and path, each once
  std::uint32_t unreadable = 0;         ///< processes we may not look into
};
Holders holders_of(const std::string& directory);  ///< an absolute path; not of this process

/// Reports every write to a file below `directory`, whoever makes it. Needs CAP_SYS_ADMIN: unavailable without.
class WriteWatch {
 public:
  static Result<WriteWatch> create(const std::string& directory);
  int fd() const { return fd_.get(); }          ///< readable when there is something
  std::vector<FileHolder> take();               ///< never waits; not of this process
 private:
  WriteWatch(UniqueFd fd, std::string directory) : fd_(std::move(fd)), directory_(std::move(directory)) {}
  UniqueFd fd_;
  std::string directory_;
};

}  // namespace drover
