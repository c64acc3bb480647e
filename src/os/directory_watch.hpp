#pragma once
/// Tells which files of one directory were closed after writing, or moved into it (inotify(7)).

#include <string>
#include <vector>

#include "drover/types/error.hpp"
#include "os/unique_fd.hpp"

namespace drover {

class DirectoryWatch {
 public:
  static Result<DirectoryWatch> create(const std::string& directory);
  int fd() const { return fd_.get(); }   ///< readable when there is something to take
  /// Names without the directory, in order, never waiting. Error: unavailable when events were lost (the directory must be listed).
  Result<std::vector<std::string>> take();

 private:
  explicit DirectoryWatch(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

}  // namespace drover
