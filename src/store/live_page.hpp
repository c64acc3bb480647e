#pragma once
/// `live`: the status of a running job as a mapped page of fixed layout, so that `drover status` and `top` cost the supervisor
/// nothing and work on a frozen one. One writer (the loop thread), any number of readers in other processes, no locks: a seqlock
/// made of acquire/release operations only. No secrets: ids, counts, times, outcome words.
/// A reader copies, checks the sequence, then checks the supervisor's pid and start time: a page left by a dead one is `stale`.

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "drover/types/error.hpp"
#include "drover/types/time.hpp"
#include "os/file_system.hpp"

namespace drover::store {

inline constexpr std::uint32_t kLiveSlotsMax = 1024;

enum class LiveJobState : std::uint32_t { starting, running, draining, stopping, ended };
std::string_view name_of(LiveJobState state);
/// The word of engine::SlotView::State, kept apart because store does not see the engine.
enum class LiveSlotState : std::uint32_t { empty, backing_off, starting, idle, busy, stopping, retired };
std::string_view name_of(LiveSlotState state);

/// A process as its own host sees it: pid plus start time, so a reused pid is not mistaken for it.
struct LiveProcess {
  std::int64_t host_pid = 0;         ///< 0: none
  std::uint64_t start_ticks = 0;     ///< /proc/<pid>/stat field 22
};

inline constexpr std::uint64_t kNoTask = ~std::uint64_t{0};

/// Multiples of 8 bytes, trivially copyable, no padding: the page is copied word by word.
struct LiveSlot {
  std::uint32_t slot = 0;
  std::uint32_t incarnation = 0;
  std::int64_t host_pid = 0;
  LiveSlotState state = LiveSlotState::empty;
  std::uint32_t leases = 0;
  std::uint64_t task = kNoTask;      ///< the one being worked on
  std::uint32_t attempt = 0;         ///< which try of it, from 1; 0 without one
  std::uint32_t deaths = 0;          ///< of incarnations of this slot, this run
  std::uint64_t progress = 0;        ///< the worker's own counter
  std::uint64_t completed = 0;       ///< by this incarnation
  std::uint64_t rss_bytes = 0;       ///< as last sampled
  std::int64_t cpu_ns = 0;           ///< as last sampled
  double rate = 0;                   ///< tasks/s, smoothed
  std::int64_t since_ns = 0;         ///< CLOCK_MONOTONIC of the state
  std::array<char, 48> last_fault{}; ///< text of the last outcome that was not `completed`, NUL-terminated
};
static_assert(sizeof(LiveSlot) % 8 == 0);

struct LiveJob {
  LiveProcess supervisor{}, keeper{}, watchdog{};
  LiveJobState state = LiveJobState::starting;
  std::uint32_t run = 0;
  std::uint32_t slots = 0;           ///< rows that follow, <= kLiveSlotsMax
  std::uint32_t workers_alive = 0;
  std::int64_t started_ns = 0;       ///< CLOCK_MONOTONIC
  std::int64_t updated_ns = 0;       ///< CLOCK_MONOTONIC of this snapshot
  std::int64_t deadline_ns = 0;      ///< CLOCK_BOOTTIME of the run's end, 0 = none
  std::int64_t consumed_ns = 0;      ///< of the budget
  std::uint64_t tasks_total = kNoTask;  ///< kNoTask: not known
  std::uint64_t submitted = 0, completed = 0, failed = 0, delivered = 0, recorded_before = 0;
  std::uint64_t attempts = 0, retries_blamed = 0, retries_free = 0, late_discarded = 0, revoked = 0, quarantined = 0;
  std::uint64_t spawns = 0, deaths = 0, kills = 0, recycled = 0, retired_slots = 0;
  std::uint64_t queued = 0, leased = 0;
  double rate = 0;                   ///< tasks/s, smoothed
  std::array<char, 32> workload{};
  std::array<char, 96> last_fault{};
  std::array<char, 96> workload_line{};   ///< the workload's own progress words
};
static_assert(sizeof(LiveJob) % 8 == 0);

template <std::size_t N>
void set_text(std::array<char, N>& field, std::string_view text) {   // cuts, always NUL-terminated
  const std::size_t n = text.size() < N - 1 ? text.size() : N - 1;
  for (std::size_t i = 0; i < N; ++i) field[i] = i < n ? text[i] : '\0';
}
template <std::size_t N>
std::string_view text_in(const std::array<char, N>& field) {
  std::size_t n = 0;
  while (n < N && field[n] != '\0') ++n;
  return {field.data(), n};
}

class LivePageWriter {
 public:
  /// Creates or takes over the file with room for `slots` rows and maps it.
  static Result<LivePageWriter> create(FileSystem& fs, const std::string& path, std::uint32_t slots);
  LivePageWriter(LivePageWriter&&) noexcept;
  LivePageWriter& operator=(LivePageWriter&&) noexcept;
  ~LivePageWriter();
  /// Stores only; a few hundred ns plus ~20 ns a slot. `slots` at most as created.
  void publish(const LiveJob& job, std::span<const LiveSlot> slots);

 private:
  struct Impl;
  explicit LivePageWriter(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

struct LiveSnapshot {
  LiveJob job{};
  std::vector<LiveSlot> slots{};
  bool stale = false;        ///< the supervisor that wrote it is gone
};
/// Tries a bounded number of times for an untorn copy. not_found: no page; corrupt: not a page of this version, or out of bounds
/// (the message says which); busy: the writer was caught half-way every time (a frozen or killed supervisor) - then `read_torn`.
Result<LiveSnapshot> read_live_page(FileSystem& fs, const std::string& path);
/// The same, but takes a copy that may be torn: only pids, start times and counts of it are for use.
Result<LiveSnapshot> read_live_page_torn(FileSystem& fs, const std::string& path);

}  // namespace drover::store
