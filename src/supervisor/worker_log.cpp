/// Reads a worker's output pipe into its log file, bounded.
#include "supervisor/worker_log.hpp"

#include <algorithm>
#include <array>

namespace drover {

Result<std::unique_ptr<WorkerLog>> WorkerLog::open(FileSystem& fs, const std::string& path, SlotId slot, Incarnation incarnation, std::uint64_t bytes_max) {
  auto log = std::make_unique<WorkerLog>();
  log->slot_ = slot;
  log->incarnation_ = incarnation;
  log->bytes_max_ = bytes_max;
  DROVER_TRY(log->pipe_, Pipe::create());
  DROVER_TRY(log->file_, fs.open(path, OpenMode::append));  // two incarnations of a slot may write for a moment
  DROVER_TRY(const FileStat stat, log->file_->stat());
  if (stat.size_bytes > 8 * bytes_max) DROVER_CHECK(log->file_->truncate(0));  // many incarnations: start anew
  return log;
}

bool WorkerLog::drain() {
  std::array<std::byte, 64 * 1024> buffer;
  auto got = read_some(pipe_.read_end.get(), buffer);
  if (!got || (*got && **got == 0)) return false;
  if (!*got) return true;
  const std::size_t keep = static_cast<std::size_t>(std::min<std::uint64_t>(**got, bytes_max_ - kept_));
  if (keep != 0 && file_->write_at(0, std::span(buffer).first(keep))) kept_ += keep;
  if (keep < **got) {
    if (dropped_ == 0) {
      constexpr std::string_view note = "\n[drover: log_bytes reached; the rest of this worker's output is dropped]\n";
      (void)file_->write_at(0, std::as_bytes(std::span(note)));  // a full disk loses the note, not the run
    }
    dropped_ += **got - keep;
  }
  return true;
}

}  // namespace drover
