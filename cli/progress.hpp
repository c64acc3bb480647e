#pragma once
/// What a person or a program sees on stderr while a job runs: a block redrawn on a terminal, a line now and then elsewhere, JSON
/// lines for programs, or nothing.

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "cli/terminal.hpp"
#include "drover/job.hpp"
#include "report/status.hpp"

namespace drover::cli {

struct ProgressView {
  std::string job;                 ///< its name
  double elapsed_seconds = 0;
  Progress progress;               ///< the workload's own; total 0 = unknown
  report::LiveStatus live;
};

class ProgressReporter {
 public:
  /// `mode`: auto, plain, json, none.
  ProgressReporter(std::string_view mode, std::string verb);
  ~ProgressReporter();
  ProgressReporter(const ProgressReporter&) = delete;
  ProgressReporter& operator=(const ProgressReporter&) = delete;

  bool wanted() const { return mode_ != Mode::none; }
  bool for_people() const { return mode_ == Mode::plain || mode_ == Mode::screen; }
  /// As often as one likes; shows as often as the mode wants.
  void update(const ProgressView& view, TimePoint now);
  /// Takes the block away and shows the last state as one line, so that messages follow in order.
  void finish();

  /// The three forms, for the tests: one line; some lines; one JSON object (docs/json.md).
  static std::string line_of(const ProgressView& view);
  static std::vector<std::string> block_of(const ProgressView& view, std::size_t width);
  static std::string json_of(const ProgressView& view);

 private:
  enum class Mode : unsigned char { none, plain, screen, json };
  Mode mode_;
  std::string verb_;
  Screen screen_;
  TimePoint next_{};
  Nanos interval_{};
  std::optional<ProgressView> last_;
};

}  // namespace drover::cli
