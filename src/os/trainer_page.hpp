#pragma once
/// A page a foreign trainer maps and writes its beats, step and phase into, and we read. It is a file, read with pread and never
/// mapped on our side: whoever truncates it gets no SIGBUS out of us, and whatever it holds is hostile. Layout: docs/guard.md.

#include <cstdint>
#include <string>

#include "drover/types/error.hpp"
#include "os/named_file.hpp"

namespace drover {

class TrainerPage {
 public:
  struct Said {
    std::uint64_t beats = 0, step = 0;
    std::uint32_t phase = 0;
  };
  /// Makes `path` anew; removed when this goes.
  static Result<TrainerPage> create(const std::string& path);

  /// What it holds now; zeros where it was cut.
  Said read() const;
  void ask_to_stop();
  const std::string& path() const { return file_.path(); }

 private:
  explicit TrainerPage(NamedFile file) : file_(std::move(file)) {}
  NamedFile file_;
};

}  // namespace drover
