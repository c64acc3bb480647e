// drover stop [JOB] [--now] [--deadline D]: asks the supervisor over the job's control socket. --now also works on a frozen
// supervisor: the keeper is killed by its pidfd after its start time was compared with the live page's, and all workers with it.

#include <fmt/format.h>
#include <signal.h>

#include "cli/find_job.hpp"
#include "cli/messages.hpp"
#include "cli/program.hpp"
#include "os/local_socket.hpp"
#include "os/pidfd.hpp"
#include "os/process_stats.hpp"
#include "report/status.hpp"
#include "store/job_directory.hpp"

namespace drover::cli {
namespace {

/// The process with this pid and start time, held so that it cannot become another; nothing if it is gone.
std::optional<PidFd> hold(std::int64_t pid, std::uint64_t start_ticks) {
  if (pid <= 0) return std::nullopt;
  auto held = PidFd::open(static_cast<pid_t>(pid));
  if (!held) return std::nullopt;
  const auto ticks = start_time_ticks(static_cast<pid_t>(pid));  // after the open: from here on the pid is this process's
  if (!ticks || *ticks != start_ticks) return std::nullopt;
  return std::move(*held);
}

struct Killed {
  bool done = false;
  std::string text;
};
Killed kill_process(std::string_view what, std::int64_t pid, std::uint64_t start_ticks, const Clock& clock) {
  const auto process = hold(pid, start_ticks);
  if (!process) return {.done = true, .text = fmt::format("{} {} was gone already", what, pid)};
  if (const auto sent = process->send(SIGKILL); !sent) return {.done = false, .text = fmt::format("{} {} cannot be killed: {}", what, pid, sent.error().what())};
  if (!process->wait_dead(after(clock.now(), Seconds(5)))) return {.done = false, .text = fmt::format("{} {} did not die within 5 s of SIGKILL: it hangs in the kernel", what, pid)};
  return {.done = true, .text = fmt::format("killed {} {}", what, pid)};
}

int report_end(const report::Host& host, const std::string& directory) {
  const auto status = report::read_status(host, directory);
  if (!status) return complain("stop", status.error());
  if (status->outcome.empty()) {
    print(fmt::format("{} is stopped\n", status->name));
    return kDone;
  }
  print(fmt::format("{} ended: {}{}\n", status->name, status->exit_reason, status->resumable ? fmt::format("; `drover resume {}` continues it", status->name) : ""));
  return kDone;
}

int stop_now(const report::Host& host, const std::string& directory, const store::Holder& holder, const std::string& address) {
  const auto supervisor = hold(holder.pid, holder.start_ticks);
  if (!supervisor) return report_end(host, directory);
  const auto answer = ask_local(address, "stop kill", after(host.clock.now(), Millis(500)));
  if (answer && answer->starts_with("ok") && supervisor->wait_dead(after(host.clock.now(), Seconds(8)))) return report_end(host, directory);

  say("stop", fmt::format("the supervisor {} does not answer ({}); ending the run without it", holder.pid, stall_evidence(static_cast<pid_t>(holder.pid)).state == 'T' ? "it is stopped" : "it hangs"));
  auto page = store::read_live_page(host.fs, directory + "/live");
  if (!page) page = store::read_live_page_torn(host.fs, directory + "/live");
  std::vector<Killed> killed;
  if (page) {
    const store::LiveJob& job = page->job;
    if (job.keeper.host_pid != 0) killed.push_back(kill_process("keeper", job.keeper.host_pid, job.keeper.start_ticks, host.clock));
    std::size_t workers = 0;
    for (const auto& slot : page->slots) workers += slot.host_pid > 0 ? 1 : 0;
    if (!killed.empty() && killed.back().done) killed.back().text += fmt::format(" and with it its {} worker{}", workers, workers == 1 ? "" : "s");
  } else {
    killed.push_back({.done = false, .text = "the live page cannot be read: " + page.error().what()});
  }
  // What is left holds the job's lock and would refuse a resume.
  killed.push_back(kill_process("supervisor", holder.pid, holder.start_ticks, host.clock));
  if (page && page->job.watchdog.host_pid != 0) {
    if (const auto watchdog = hold(page->job.watchdog.host_pid, page->job.watchdog.start_ticks); watchdog && !watchdog->wait_dead(after(host.clock.now(), Seconds(2)))) {
      killed.push_back(kill_process("watchdog", page->job.watchdog.host_pid, page->job.watchdog.start_ticks, host.clock));
    }
  }
  bool done = true;
  for (const Killed& one : killed) {
    say("stop", one.text);
    done = done && one.done;
  }
  if (!done) return kFault;
  return report_end(host, directory);
}

}  // namespace

int stop(const Program&, const Words& words) {
  std::string job;
  bool now = false;
  Nanos deadline = Seconds(30);
  Schema schema;
  schema.text("job", job, "directory or name of a job; the one started last here if left out").positional(false);
  schema.flag("now", now, "kill it; what is recorded stays, and it can be resumed");
  schema.duration("deadline", deadline, {Nanos(0), std::chrono::hours(24)}, "for finishing what is leased and for a checkpoint; then it is cancelled");
  if (const auto done = read_words("stop", "[JOB] [--now] [--deadline TIME]", "Ends a job so that it can be resumed", words, schema)) return *done;

  const report::Host host = report::this_host();
  const auto directory = find_job(host.fs, job);
  if (!directory) return complain("stop", directory.error());
  const auto holder = store::holder_of(host.fs, *directory);
  if (!holder) return complain("stop", holder.error());
  if (!*holder) {
    say("stop", "it does not run");
    return report_end(host, *directory);
  }
  const auto address = store::control_socket_of(host.fs, *directory);
  if (now) return stop_now(host, *directory, **holder, address ? address->path : std::string());
  if (!address) return complain("stop", address.error());

  const auto supervisor = hold((*holder)->pid, (*holder)->start_ticks);
  if (!supervisor) return report_end(host, *directory);
  const auto answer = ask_local(address->path, fmt::format("stop drain {}", deadline.count()), after(host.clock.now(), Seconds(3)));
  if (!answer) return complain("stop", Error(answer.error()).with(fmt::format("asking the supervisor {}", (*holder)->pid)).advise("`drover stop --now` ends the run even if its supervisor is frozen"));
  if (!answer->starts_with("ok")) return complain("stop", Error(ErrorCode::refused, "the supervisor refused: " + *answer));
  if (!supervisor->wait_dead(after(host.clock.now(), deadline + Seconds(20)))) {
    return complain("stop", Error(ErrorCode::timed_out, fmt::format("the supervisor {} is still there {} after its deadline", (*holder)->pid, text_of(Nanos(Seconds(20)))), "`drover stop --now` kills it"));
  }
  return report_end(host, *directory);
}

}  // namespace drover::cli
