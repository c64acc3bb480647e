#include "guard/progress.hpp"

#include <fmt/format.h>

#include <charconv>

#include "drover/config.hpp"
#include "drover/types/outcome.hpp"
#include "guard/orders.hpp"

namespace drover::guard {
namespace {
constexpr std::size_t kLineMax = 64 * 1024;
constexpr std::array<std::string_view, kPhases> kPhaseNames = {"none", "load", "train", "save", "eval"};
}  // namespace

std::string_view name_of(Phase phase) { return kPhaseNames[static_cast<std::size_t>(phase)]; }

std::optional<Phase> phase_named(std::string_view name) {
  for (std::size_t i = 0; i < kPhases; ++i)
    if (kPhaseNames[i] == name) return static_cast<Phase>(i);
  return std::nullopt;
}

Result<PhaseTimes> parse_phase_times(std::string_view text) {
  PhaseTimes times;
  times.fill(kUnlimited);
  while (!text.empty()) {
    const auto end = std::min(text.find(','), text.size());
    const std::string_view part = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const auto equals = part.find('=');
    const auto phase = phase_named(part.substr(0, equals));
    const auto time = parse_duration(equals == part.npos ? std::string_view() : part.substr(equals + 1));
    if (!phase || phase == Phase::none || !time || *time <= Nanos(0)) return fail(ErrorCode::usage, fmt::format("phase time '{}': must be load, train, save or eval, '=' and a time", part), "load=60s,save=30s,eval=5m");
    times[static_cast<std::size_t>(*phase)] = *time;
  }
  return times;
}

void StallClock::progressed(TimePoint now, bool new_step) {
  progress_ = now;
  if (new_step) step_ = now;
}

void StallClock::entered(Phase phase, TimePoint now) {
  if (phase == phase_) return;
  phase_ = phase;
  entered_ = progress_ = now;
}

std::optional<std::string> StallClock::stalled(TimePoint now) const {
  const Nanos own = phases_[static_cast<std::size_t>(phase_)];
  if (own != kUnlimited) {
    if (now - entered_ >= own) return fmt::format("phase {} lasts for {}, {} are allowed", name_of(phase_), drover::text_of(now - entered_), drover::text_of(own));
  } else if (stall_ != kUnlimited && now - progress_ >= stall_) {
    return fmt::format("no progress for {}", drover::text_of(now - progress_));
  }
  if (stall_ == kUnlimited || phase_ == Phase::none) return std::nullopt;
  Nanos most = stall_;
  for (const Nanos time : phases_) most += time == kUnlimited ? Nanos(0) : time;
  if (now - step_ >= most && now - step_ >= stall_ * 2) return fmt::format("{} of phases without a new step", drover::text_of(now - step_));
  return std::nullopt;
}

ProgressReader::ProgressReader(const Orders& orders) : file_(orders.progress_file), notify_(!orders.notify_directory.empty()) {
  if (!orders.progress_regex.empty()) pattern_.emplace(orders.progress_regex, std::regex::ECMAScript | std::regex::optimize);
  if (!file_.empty()) modified_ = modification_time();
}

bool ProgressReader::output(std::string_view bytes, std::uint64_t& step) {
  if (!pattern_) return false;
  bool progress = false;
  for (const char c : bytes) {
    if (c != '\n' && c != '\r' && line_.size() < kLineMax) {
      line_ += c;
      continue;
    }
    std::smatch match;
    if (!line_.empty() && std::regex_search(line_, match, *pattern_)) progress = matched(match, step) || progress;
    line_.clear();
  }
  return progress;
}

bool ProgressReader::file_changed() {
  if (file_.empty()) return false;
  const auto then = modification_time();
  return std::exchange(modified_, then) != then;
}

bool ProgressReader::matched(const std::smatch& match, std::uint64_t& step) const {
  if (match.size() < 2 || !match[1].matched) return true;
  const std::string text = match[1];
  std::uint64_t value = 0;
  if (std::from_chars(text.data(), text.data() + text.size(), value).ec != std::errc()) return false;
  const bool further = value > step;
  step = std::max(step, value);
  return further;  // the same step again is a beat, not progress
}

std::filesystem::file_time_type ProgressReader::modification_time() const {
  std::error_code ignored;
  return std::filesystem::last_write_time(file_, ignored);
}

Log::Log(const std::string& path, std::uint64_t bytes_max) : out_(path, std::ios::binary | std::ios::app), bytes_max_(bytes_max) {
  std::error_code ignored;
  const auto size = std::filesystem::file_size(path, ignored);
  written_ = ignored ? 0 : size;
}

void Log::write(std::string_view bytes) {
  const std::size_t room = written_ < bytes_max_ ? static_cast<std::size_t>(std::min<std::uint64_t>(bytes.size(), bytes_max_ - written_)) : 0;
  out_.write(bytes.data(), static_cast<std::streamsize>(room)).flush();
  written_ += room;
  dropped_ += bytes.size() - room;
}

}  // namespace drover::guard
