#pragma once
/// A place where a started process waits for one message: a fifo(7) it opens by path, whose other end we hold.

#include <string>
#include <string_view>

#include "drover/types/error.hpp"
#include "os/unique_fd.hpp"

namespace drover {

class Gate {
 public:
  /// Makes `path` anew; removed when this goes.
  static Result<Gate> create(std::string path);
  Gate(Gate&&) noexcept = default;
  Gate& operator=(Gate&& other) noexcept;
  ~Gate();

  /// At most PIPE_BUF (4096) bytes, whole or not at all; whoever waits, or comes later, reads them.
  Result<void> open(std::string_view message);
  const std::string& path() const { return path_; }

 private:
  Gate(UniqueFd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}
  UniqueFd fd_;
  std::string path_;
};

}  // namespace drover
