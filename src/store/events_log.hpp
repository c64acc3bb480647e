#pragma once
/// events.jsonl: one JSON object a line for faults and changes of state, written by the loop thread. No fsync: it tells a story,
/// the ledger tells the truth. A line costs one write to the page cache at most; on a full disk lines are dropped and counted.
/// Bounded: at `bytes_max` the file becomes events.1.jsonl (older ones shift, the oldest goes).
///
///   {"mono_ns":812345678901,"wall":"2024-05-01T10:00:00.123Z","seq":17,"run":1,"slot":0,"incarnation":3,"task":991,"epoch":1,
///    "kind":"worker_died","cause":"crashed(SIGSEGV)"}

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "drover/types/error.hpp"
#include "drover/types/ids.hpp"
#include "drover/types/time.hpp"
#include "os/file_system.hpp"

namespace drover::store {

struct JobEvent {
  TimePoint at{};
  std::string_view kind;                    ///< snake_case, from docs/job_directory.md
  std::string_view cause{};
  std::optional<SlotId> slot{};
  std::optional<Incarnation> incarnation{};
  std::optional<TaskId> task{};
  std::optional<Epoch> epoch{};
};

struct EventsLogOptions {
  std::uint64_t bytes_max = std::uint64_t{16} << 20;   ///< per file
  std::uint32_t files_max = 4;                         ///< the current one included
  std::uint32_t run = 1;
};

class EventsLog {
 public:
  static Result<EventsLog> open(FileSystem& fs, const std::string& path, const EventsLogOptions& options);
  EventsLog(EventsLog&&) noexcept;
  EventsLog& operator=(EventsLog&&) noexcept;
  ~EventsLog();                             ///< flushes

  /// Never fails, never allocates once warm. Lines are gathered and written by flush(), or when 32 KiB are waiting.
  void add(const JobEvent& event);
  void flush();                             ///< once a turn of the loop
  std::uint64_t dropped() const;            ///< lines lost to a full disk or an I/O error
  std::uint64_t written() const;

 private:
  struct Impl;
  explicit EventsLog(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace drover::store
