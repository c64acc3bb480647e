// drover top [JOB]: a live table of a job's workers, redrawn in place from its live page; works on a frozen supervisor. Without a
// terminal it prints once.

#include <fmt/format.h>
#include <poll.h>
#include <termios.h>
#include <unistd.h>

#include <csignal>

#include "cli/find_job.hpp"
#include "cli/messages.hpp"
#include "cli/program.hpp"
#include "cli/terminal.hpp"
#include "report/status.hpp"
#include "report/table.hpp"

namespace drover::cli {
namespace {

volatile std::sig_atomic_t ended = 0;

/// Keys arrive one by one and unseen while it lives.
class KeyInput {
 public:
  KeyInput() {
    if (::isatty(STDIN_FILENO) != 1 || ::tcgetattr(STDIN_FILENO, &before_) != 0) return;
    termios now = before_;
    now.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
    changed_ = ::tcsetattr(STDIN_FILENO, TCSANOW, &now) == 0;
  }
  ~KeyInput() {
    if (changed_) ::tcsetattr(STDIN_FILENO, TCSANOW, &before_);
  }
  KeyInput(const KeyInput&) = delete;
  KeyInput& operator=(const KeyInput&) = delete;
  /// A key, or nothing once `duration` has passed or a signal came.
  std::optional<char> next(Nanos duration) const {
    pollfd fd{.fd = changed_ ? STDIN_FILENO : -1, .events = POLLIN, .revents = 0};
    const timespec time{.tv_sec = duration.count() / 1'000'000'000, .tv_nsec = duration.count() % 1'000'000'000};
    if (::ppoll(&fd, 1, &time, nullptr) <= 0) return std::nullopt;
    char key = 'q';
    return ::read(STDIN_FILENO, &key, 1) == 1 ? key : 'q';
  }

 private:
  termios before_{};
  bool changed_ = false;
};

std::vector<std::string> frame(const report::Host& host, const std::string& directory, const report::LiveStatus& live, std::size_t width) {
  const auto word = [](const report::ProcessStatus& p) { return p.host_pid == 0 ? std::string("none") : fmt::format("{}{}", p.host_pid, p.alive ? "" : " gone"); };
  std::vector<std::string> lines;
  lines.push_back(fmt::format("{}  {}  {}{}", directory.substr(directory.find_last_of('/') + 1), live.state, report::short_duration(live.run_seconds),
                              live.seconds_left ? fmt::format(", {} left", report::short_duration(*live.seconds_left)) : ""));
  lines.push_back(fmt::format("{}{} tasks  {}/s  {} queued  {} leased  {} attempts  {} retried  {} late  {} deaths  {} quarantined", live.completed,
                              live.tasks_total ? fmt::format(" of {}", *live.tasks_total) : "", short_number(live.tasks_per_second), live.queued, live.leased, live.attempts, live.retries,
                              live.late_discarded, live.deaths, live.quarantined));
  lines.push_back(fmt::format("supervisor {}  keeper {}  watchdog {}  snapshot {} old{}", word(live.supervisor), word(live.keeper), word(live.watchdog), report::short_duration(live.age_seconds),
                              live.torn ? " (torn: only pids are certain)" : ""));
  if (!live.progress_note.empty()) lines.push_back(live.progress_note);
  if (!live.last_fault.empty()) lines.push_back("last fault: " + live.last_fault);
  lines.emplace_back();
  for (std::string& line : report::worker_lines(live, width)) lines.push_back(std::move(line));
  (void)host;
  return lines;
}

}  // namespace

int top(const Program&, const Words& words) {
  std::string job;
  Nanos every = Millis(500);
  Schema schema;
  schema.text("job", job, "directory or name of a job; the one started last here if left out").positional(false);
  schema.duration("every", every, {Millis(50), std::chrono::minutes(1)}, "between two frames");
  if (const auto done = read_words("top", "[JOB] [--every TIME]", "Shows a running job and its workers live; q ends it", words, schema)) return *done;
  const report::Host host = report::this_host();
  const auto directory = find_job(host.fs, job);
  if (!directory) return complain("top", directory.error());

  struct sigaction action {};
  action.sa_handler = [](int) { ended = 1; };
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) ::sigaction(signal, &action, nullptr);
  {
    Screen screen(STDOUT_FILENO, Screen::Use::whole);
    const KeyInput keys;
    while (ended == 0) {
      const auto live = report::read_live(host, *directory);
      if (!live) break;
      const auto lines = frame(host, *directory, *live, screen.is_terminal() ? screen.width() : 0);
      if (!screen.is_terminal()) {
        std::string text;
        for (const std::string& line : lines) text += line + "\n";
        return print(text) ? kDone : kFault;
      }
      screen.draw(lines);
      if (const auto key = keys.next(every); key == 'q' || key == 'Q') return kDone;
    }
  }
  if (ended != 0) return kDone;
  const auto status = report::read_status(host, *directory);
  if (!status) return complain("top", status.error());
  return print(report::text_of(*status)) ? kDone : kFault;
}

}  // namespace drover::cli
