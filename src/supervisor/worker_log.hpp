#pragma once
/// What a worker writes to stdout and stderr, kept up to a bound in workers/<slot>.log of a job directory; the rest is read,
/// counted and dropped, so a worker that floods its output harms only itself. Without a job directory workers inherit the
/// host program's stdout and stderr, and this is not used.

#include <cstdint>
#include <memory>
#include <string>

#include "drover/types/error.hpp"
#include "drover/types/ids.hpp"
#include "os/file_system.hpp"
#include "os/pipe.hpp"

namespace drover {

class WorkerLog {
 public:
  static Result<std::unique_ptr<WorkerLog>> open(FileSystem& fs, const std::string& path, SlotId slot, Incarnation incarnation, std::uint64_t bytes_max);
  int read_fd() const { return pipe_.read_end.get(); }
  int write_fd() const { return pipe_.write_end.get(); }
  void close_write_end() { pipe_.write_end.reset(); }
  /// Reads what is there, at most 64 KiB a call. False at end of file.
  bool drain();
  SlotId slot() const { return slot_; }
  Incarnation incarnation() const { return incarnation_; }
  std::uint64_t dropped() const { return dropped_; }

 private:
  SlotId slot_{};
  Incarnation incarnation_{};
  Pipe pipe_;
  std::unique_ptr<File> file_;
  std::uint64_t kept_ = 0, dropped_ = 0, bytes_max_ = 0;
};

}  // namespace drover
