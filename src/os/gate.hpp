#pragma once
/// A place where a started process waits for one message: a fifo(7) it opens by path, whose other end we hold.

#include <string>
#include <string_view>

#include "drover/types/error.hpp"
#include "os/named_file.hpp"

namespace drover {

class Gate {
 public:
  /// Makes `path` anew; removed when this goes.
  static Result<Gate> create(const std::string& path);
  /// At most PIPE_BUF (4096) bytes, whole or not at all; whoever waits, or comes later, reads them.
  Result<void> open(std::string_view message);
  const std::string& path() const { return fifo_.path(); }

 private:
  explicit Gate(NamedFile fifo) : fifo_(std::move(fifo)) {}
  NamedFile fifo_;
};

}  // namespace drover
