#pragma once
/// How a foreign command shows that it gets on: lines of its output, a file's modification time, the words of sd_notify(3), a page it
/// maps. All of it is the command's word: it can only hasten its own end by lying downwards, and a beat without a step is no progress.

#include <array>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <optional>
#include <regex>
#include <string>
#include <string_view>

#include "drover/command.hpp"
#include "drover/types/error.hpp"
#include "drover/types/time.hpp"

namespace drover::guard {

struct Orders;

enum class Phase : std::uint8_t { none, load, train, save, eval };
inline constexpr std::size_t kPhases = 5;
std::string_view name_of(Phase phase);
std::optional<Phase> phase_named(std::string_view name);
/// How long each phase may last; kUnlimited = the stall limit holds in it as anywhere.
using PhaseTimes = std::array<Nanos, kPhases>;
/// From `load=60s,save=30s,eval=5m`. Error usage names the part.
Result<PhaseTimes> parse_phase_times(std::string_view text);

/// Decides when a silence has become a stall. Entering a phase with a time of its own gives that time, once; whoever goes from
/// phase to phase without a new step gets no more than the stall limit and all those times together.
class StallClock {
 public:
  StallClock(Nanos stall, const PhaseTimes& phases, TimePoint now) : stall_(stall), phases_(phases), progress_(now), step_(now), entered_(now) {}
  void progressed(TimePoint now, bool new_step);
  void entered(Phase phase, TimePoint now);
  /// What it exceeded, or nothing.
  std::optional<std::string> stalled(TimePoint now) const;
  Phase phase() const { return phase_; }

 private:
  Nanos stall_;
  PhaseTimes phases_;
  Phase phase_ = Phase::none;
  TimePoint progress_, step_, entered_;
};

/// Output lines and the watched file.
class ProgressReader {
 public:
  explicit ProgressReader(const Orders& orders);
  /// Whether liveness is told by the command at all; if not, CPU time used counts as progress.
  bool tells() const { return pattern_ || !file_.empty() || notify_; }
  /// Whether a line of it was progress; raises `step`.
  bool output(std::string_view bytes, std::uint64_t& step);
  bool file_changed();

 private:
  bool matched(const std::smatch& match, std::uint64_t& step) const;
  std::filesystem::file_time_type modification_time() const;

  std::string file_;
  std::optional<std::regex> pattern_;
  bool notify_;
  std::filesystem::file_time_type modified_{};
  std::string line_;
};

/// Appends to the log until its bound is reached; counts what is dropped.
class Log {
 public:
  Log(const std::string& path, std::uint64_t bytes_max);
  void write(std::string_view bytes);
  std::uint64_t dropped() const { return dropped_; }

 private:
  std::ofstream out_;
  std::uint64_t bytes_max_, written_ = 0, dropped_ = 0;
};

}  // namespace drover::guard
