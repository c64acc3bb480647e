#pragma once
/// A page a foreign trainer maps and writes its beats, step and phase into, and we read. It is a file, read with pread and never
/// mapped on our side: whoever truncates it gets no SIGBUS out of us, and whatever it holds is hostile. Layout: docs/guard.md.

#include <cstdint>
#include <string>

#include "drover/types/error.hpp"
#include "os/unique_fd.hpp"

namespace drover {

class TrainerPage {
 public:
  struct Said {
    std::uint64_t beats = 0, step = 0;
    std::uint32_t phase = 0;
  };
  /// Makes `path` anew; removed when this goes.
  static Result<TrainerPage> create(std::string path);
  TrainerPage(TrainerPage&& other) noexcept = default;
  TrainerPage& operator=(TrainerPage&& other) noexcept;
  ~TrainerPage();

  /// What it holds now; zeros where it was cut.
  Said read() const;
  void ask_to_stop();
  const std::string& path() const { return path_; }

 private:
  TrainerPage(UniqueFd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}
  UniqueFd fd_;
  std::string path_;
};

}  // namespace drover
