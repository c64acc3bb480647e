#include "cli/progress.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "report/table.hpp"

namespace drover::cli {
namespace {

std::optional<double> eta_seconds(const Progress& p) {
  if (p.total <= 0 || p.rate <= 0 || p.done >= p.total) return std::nullopt;
  return (p.total - p.done) / p.rate;
}

std::string amount(const Progress& p) {
  std::string text = short_number(p.done);
  if (p.total > 0) text += fmt::format(" of {} {} ({:.0f} %)", short_number(p.total), p.unit, std::min(100.0, 100.0 * p.done / p.total));
  else text += " " + p.unit;
  text += fmt::format("  {}/s", short_number(p.rate));
  if (const auto eta = eta_seconds(p)) text += "  ETA " + report::short_duration(*eta);
  return text;
}

std::string workers_of(const report::LiveStatus& live) {
  std::vector<std::pair<std::string, std::size_t>> states;
  for (const report::WorkerStatus& w : live.workers) {
    const auto found = std::ranges::find(states, w.state, &std::pair<std::string, std::size_t>::first);
    if (found == states.end()) states.emplace_back(w.state, 1);
    else ++found->second;
  }
  std::string text;
  for (const auto& [state, count] : states) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count, state);
  return text.empty() ? "no workers" : "workers: " + text;
}

std::string faults_of(const report::LiveStatus& live) {
  if (live.deaths == 0 && live.failed == 0 && live.retries == 0) return {};
  std::string text = fmt::format("{} worker deaths, {} retries, {} tasks failed", live.deaths, live.retries, live.failed);
  if (!live.last_fault.empty()) text += "; last fault " + live.last_fault;
  return text;
}

std::string bar(double part, std::size_t width) {
  const auto full = static_cast<std::size_t>(std::clamp(part, 0.0, 1.0) * static_cast<double>(width));
  return "[" + std::string(full, '#') + std::string(width - full, '.') + "]";
}

}  // namespace

ProgressReporter::ProgressReporter(std::string_view mode, std::string verb) : verb_(std::move(verb)), screen_(STDERR_FILENO, Screen::Use::below) {
  mode_ = mode == "none" ? Mode::none : mode == "json" ? Mode::json : mode == "plain" || !screen_.is_terminal() ? Mode::plain : Mode::screen;
}

ProgressReporter::~ProgressReporter() { finish(); }

std::string ProgressReporter::line_of(const ProgressView& v) {
  std::string line = fmt::format("{}  {}  {}  {}  {}", v.job, v.live.state, report::short_duration(v.elapsed_seconds), amount(v.progress), workers_of(v.live));
  if (!v.progress.note.empty()) line += "  " + v.progress.note;
  if (const std::string faults = faults_of(v.live); !faults.empty()) line += "  " + faults;
  return report::printable(line);
}

std::vector<std::string> ProgressReporter::block_of(const ProgressView& v, std::size_t width) {
  std::vector<std::string> lines;
  lines.push_back(fmt::format("{}  {}  {}{}", v.job, v.live.state, report::short_duration(v.elapsed_seconds),
                              v.live.seconds_left ? fmt::format("  ({} of its budget left)", report::short_duration(*v.live.seconds_left)) : ""));
  const std::size_t room = std::min<std::size_t>(40, width > 60 ? width - 50 : 10);
  lines.push_back(fmt::format("  {}{}", v.progress.total > 0 ? bar(v.progress.done / v.progress.total, room) + "  " : "", amount(v.progress)));
  if (!v.progress.note.empty()) lines.push_back("  " + v.progress.note);
  constexpr std::size_t kShown = 8;
  for (std::size_t i = 0; i < v.live.workers.size() && i < kShown; ++i) {
    const report::WorkerStatus& w = v.live.workers[i];
    lines.push_back(fmt::format("  worker {:<3} {:<11} {:>8}  {}{}", w.slot, w.state, w.host_pid == 0 ? std::string("-") : fmt::format("pid {}", w.host_pid),
                                w.task ? fmt::format("task {}", *w.task) : std::string(), w.deaths == 0 ? "" : fmt::format("  {} deaths, last {}", w.deaths, w.last_fault)));
  }
  if (v.live.workers.size() > kShown) lines.push_back(fmt::format("  and {} more; {}", v.live.workers.size() - kShown, workers_of(v.live)));
  if (const std::string faults = faults_of(v.live); !faults.empty()) lines.push_back("  " + faults);
  return lines;
}

std::string ProgressReporter::json_of(const ProgressView& v) {
  const auto eta = eta_seconds(v.progress);
  nlohmann::ordered_json workers = nlohmann::ordered_json::array();
  for (const report::WorkerStatus& w : v.live.workers) {
    workers.push_back({{"slot", w.slot}, {"state", w.state}, {"task", w.task ? nlohmann::ordered_json(*w.task) : nlohmann::ordered_json(nullptr)}});
  }
  return nlohmann::ordered_json{{"job", v.job},
                                {"state", v.live.state},
                                {"elapsed_seconds", v.elapsed_seconds},
                                {"done", v.progress.done},
                                {"total", v.progress.total > 0 ? nlohmann::ordered_json(v.progress.total) : nlohmann::ordered_json(nullptr)},
                                {"unit", v.progress.unit},
                                {"rate", v.progress.rate},
                                {"eta_seconds", eta ? nlohmann::ordered_json(*eta) : nlohmann::ordered_json(nullptr)},
                                {"note", v.progress.note.empty() ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(v.progress.note)},
                                {"workers", workers},
                                {"deaths", v.live.deaths},
                                {"failed", v.live.failed},
                                {"last_fault", v.live.last_fault.empty() ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(v.live.last_fault)}}
      .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

void ProgressReporter::update(const ProgressView& view, TimePoint now) {
  if (mode_ == Mode::none) return;
  last_ = view;
  if (now < next_) return;
  switch (mode_) {
    case Mode::none: return;
    case Mode::screen:
      screen_.draw(block_of(view, screen_.width()));
      interval_ = Millis(200);
      break;
    case Mode::plain:
      // Soon at first, then rarer: a log of a day has some hundred lines.
      if (interval_ != Nanos::zero()) std::fputs((line_of(view) + "\n").c_str(), stderr);
      interval_ = interval_ == Nanos::zero() ? Nanos(Seconds(2)) : std::min<Nanos>(interval_ * 2, Seconds(30));
      break;
    case Mode::json:
      std::fputs((json_of(view) + "\n").c_str(), stderr);
      interval_ = Seconds(1);
      break;
  }
  next_ = after(now, interval_);
}

void ProgressReporter::finish() {
  if (mode_ == Mode::screen) screen_.clear();
  if (last_ && mode_ == Mode::json) std::fputs((json_of(*last_) + "\n").c_str(), stderr);
  last_.reset();
}

}  // namespace drover::cli
