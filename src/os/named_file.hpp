#pragma once
/// An open descriptor and the name it has in the file system, which goes with it: sockets, fifos and pages a child finds by path.

#include <unistd.h>

#include <cerrno>
#include <string>
#include <utility>

#include "drover/types/error.hpp"
#include "os/unique_fd.hpp"

namespace drover {

class NamedFile {
 public:
  /// Takes `path` over; whoever made `fd` made it there.
  NamedFile(UniqueFd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}
  NamedFile(NamedFile&&) noexcept = default;
  NamedFile& operator=(NamedFile&& other) noexcept {
    std::swap(fd_, other.fd_);
    std::swap(path_, other.path_);
    return *this;
  }
  ~NamedFile() {
    if (fd_.valid()) ::unlink(path_.c_str());
  }
  int get() const { return fd_.get(); }
  const std::string& path() const { return path_; }

  /// Removes what a dead process of ours left at `path`, so that it can be made anew.
  static Result<void> clear(const std::string& path) {
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) return fail_errno(errno, "replace '" + path + "'");
    return {};
  }

 private:
  UniqueFd fd_;
  std::string path_;
};

}  // namespace drover
