#include "cli/run_job.hpp"

#include <fmt/format.h>

#include <csignal>
#include <condition_variable>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "cli/job_result.hpp"
#include "cli/messages.hpp"
#include "cli/program.hpp"
#include "cli/progress.hpp"
#include "cli/signals.hpp"
#include "os/limits.hpp"
#include "report/status.hpp"
#include "store/job_directory.hpp"
#include "supervisor/job_runner.hpp"

namespace drover::cli {
namespace {

/// Shows progress from a thread of its own: a workload that hangs still has its workers and their states shown. What the workload
/// says comes from the client thread, everything else from the live page.
class Watcher {
 public:
  Watcher(std::string_view mode, const std::string& verb) : reporter_(mode, verb) {}
  ~Watcher() { end(); }

  bool speaks() const { return reporter_.for_people(); }
  void started(const std::filesystem::path& directory) {
    if (!reporter_.wanted()) return;
    directory_ = directory.string();
    thread_ = std::jthread([this](const std::stop_token& stop) { watch(stop); });
  }
  void said(const Progress& progress) {
    const std::lock_guard lock(mutex_);
    said_ = progress;
  }
  void end() {
    if (thread_.joinable()) {
      thread_.request_stop();
      thread_.join();
    }
    reporter_.finish();
  }

 private:
  void watch(const std::stop_token& stop) {
    const report::Host host = report::this_host();
    ProgressView view;
    view.job = directory_.substr(directory_.find_last_of('/') + 1);
    while (!stop.stop_requested()) {
      if (auto live = report::read_live(host, directory_)) {
        view.live = std::move(*live);
        view.elapsed_seconds = view.live.run_seconds;
        {
          const std::lock_guard lock(mutex_);
          if (said_) view.progress = *said_;
        }
        if (!said_once()) {
          view.progress.done = static_cast<double>(view.live.completed);
          view.progress.total = static_cast<double>(view.live.tasks_total.value_or(0));
        }
        if (view.progress.rate <= 0) view.progress.rate = rate_of(view);
        reporter_.update(view, host.clock.now());
      }
      std::unique_lock lock(mutex_);
      wake_.wait_for(lock, stop, std::chrono::milliseconds(200), [] { return false; });
    }
  }
  /// For a workload that says how far it is but not how fast: tasks by the runtime's own count, anything else since the first look.
  double rate_of(const ProgressView& view) {
    if (view.progress.unit == "tasks") return view.live.tasks_per_second;
    if (!first_) first_ = std::pair(view.progress.done, view.elapsed_seconds);
    const double seconds = view.elapsed_seconds - first_->second;
    return seconds > 0 ? (view.progress.done - first_->first) / seconds : 0;
  }
  bool said_once() {
    const std::lock_guard lock(mutex_);
    return said_.has_value();
  }

  ProgressReporter reporter_;
  std::string directory_;
  std::mutex mutex_;
  std::condition_variable_any wake_;
  std::optional<Progress> said_;
  std::optional<std::pair<double, double>> first_;  ///< done, seconds
  std::jthread thread_;
};

}  // namespace

int run_job_to_its_end(const JobInvocation& invocation) {
  PlanWithOptions plan(invocation.plan, invocation.options);
  // The cross-checks of the workload, before anything is made.
  const auto traits = plan.traits();
  if (!traits) return complain(invocation.verb, traits.error());
  const LimitLayers layers = probe_limits().layers;
  if (auto missing = check_required(traits->require, layers, "it needs", "--advisory"); !missing.empty()) return complain(invocation.verb, missing);

  StopSignal stop;
  Watcher watcher(invocation.invocation.progress, invocation.verb);
  // Before any thread exists, so that all inherit the blocked signals.
  const auto signals = Signals::watch([&](int signal, int nth) {
    const CancelledBy who = signal == SIGINT ? CancelledBy::interrupt : CancelledBy::operator_;
    if (nth == 1) say(invocation.verb, signal == SIGINT ? "stopping: what runs may finish, then it can be resumed; Ctrl-C again stops at once" : "asked to stop");
    stop.request(nth == 1 ? StopSignal::How::soft : StopSignal::How::now, who);
  });
  if (!signals) return complain(invocation.verb, signals.error());

  if (layers.containment == LimitLayer::absent) say(invocation.verb, "containment: best-effort: this host has no PID namespace for us (`drover doctor`)");

  nlohmann::json argv = nlohmann::json::array({"drover", invocation.verb});
  for (const std::string& word : invocation.words) argv.push_back(word);
  const JobOptions& o = invocation.options;
  const JobRunOptions options{
      .workload = std::string(invocation.workload.name()),
      .directory = invocation.directory,
      .resume = invocation.resume,
      .checkpoint = invocation.checkpoint,
      .job_toml = invocation.job_toml,
      .argv_json = argv.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace),
      .seed = o.seed,
      .wall = o.time,
      .until = o.until_left(),
      .durability = o.durability == "power" ? Durability::power : Durability::process,
      .stop = &stop,
      .on_progress = [&](const Progress& progress) { watcher.said(progress); },
      .on_started =
          [&](const std::filesystem::path& directory) {
            if (watcher.speaks()) say(invocation.verb, fmt::format("job {}", directory.string()));
            watcher.started(directory);
          },
  };
  auto report = run_job(plan, options);
  watcher.end();
  if (!report) return complain(invocation.verb, report.error());

  const int status = exit_status_of(*report);
  if (!std::holds_alternative<ending::Completed>(report->ending)) {
    std::string advice = report->advice;
    if (advice.empty() && report::is_resumable(name_of(report->ending))) advice = fmt::format("resumable: `drover resume {}` continues it", report->directory.filename().string());
    if (advice.empty()) advice = fmt::format("`drover why {}` says what went wrong", report->directory.filename().string());
    say(invocation.verb, fmt::format("{}\n  {}", report::sentence_of(name_of(report->ending), report->exit_reason), advice));
  }
  if (!print(invocation.invocation.json ? json_of(*report) + "\n" : text_of_report(*report))) return kFault;
  return status;
}

std::optional<int> refuse_to_go_on(std::string_view verb, const report::Host& host, const std::string& directory, const report::JobStatus& status, bool back, bool json) {
  if (status.live || status.outcome.empty()) {
    const auto holder = store::holder_of(host.fs, directory);
    if (holder && *holder) {
      return complain(verb, Error(ErrorCode::busy, fmt::format("job '{}' runs already: supervisor {} since {}", status.name, (*holder)->pid, (*holder)->started),
                                  fmt::format("`drover status {}` shows it, `drover stop {}` ends it", status.name, status.name)));
    }
  }
  if (status.outcome.empty() || status.resumable || back) return std::nullopt;
  say(verb, fmt::format("job '{}' has ended for good: {}; nothing is left to do", status.name, status.exit_reason));
  if (json && !print(report::json_of(status) + "\n")) return kFault;
  return status.outcome == "completed" ? kDone : kIncomplete;
}

}  // namespace drover::cli
