// drover selftest [--json]: trips every enforcer of `drover guard` in scratch jobs, on this host, now. A limit that holds only in
// theory is worth less than none.

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "cli/messages.hpp"
#include "cli/program.hpp"
#include "drover/command.hpp"
#include "os/clock.hpp"
#include "os/host.hpp"
#include "os/limits.hpp"
#include "os/unique_fd.hpp"

namespace drover::cli {
namespace {

namespace fs = std::filesystem;
using json = nlohmann::ordered_json;

constexpr Nanos kPatience = Seconds(20);

struct Case {
  const char* name;
  std::vector<std::string> options;
  const char* script;                      ///< for sh; it holds the fifo `held` open as descriptor 3 for as long as anybody lives
  const char* outcome;                     ///< of the job; "" = it cannot tell any more
  enum class Deed : std::uint8_t { none, freeze_supervisor, kill_supervisor, freeze_both } deed = Deed::none;
};

const Case kCases[] = {
    {"wall: TERM ignored", {"--wall", "700ms"}, "trap '' TERM; while :; do sleep 0.05; done", "limit", Case::Deed::none},
    {"wall: a daemon of it", {"--wall", "700ms"}, "setsid sh -c 'trap \"\" TERM HUP; sleep 1000' & trap '' TERM; sleep 1000", "limit", Case::Deed::none},
    {"wall: supervisor frozen", {"--wall", "1500ms"}, "trap '' TERM; sleep 1000", "", Case::Deed::freeze_supervisor},
    {"wall: supervisor and watchdog frozen", {"--wall", "1500ms"}, "trap '' TERM; sleep 1000", "", Case::Deed::freeze_both},
    {"supervisor killed", {}, "setsid sleep 1000 & trap '' TERM; sleep 1000", "", Case::Deed::kill_supervisor},
    {"cpu", {"--cpu", "300ms"}, "while :; do :; done", "limit", Case::Deed::none},
    {"memory", {"--memory", "48M"}, "head -c 1000000000 /dev/zero | tail; sleep 1000", "limit", Case::Deed::none},
    {"steps", {"--steps", "3", "--progress-regex", "step (\\d+)"}, "i=0; while :; do i=$((i+1)); echo step $i; sleep 0.05; done", "limit", Case::Deed::none},
    {"stall", {"--stall", "300ms"}, "sleep 1000", "stalled", Case::Deed::none},
    {"stall: a beat without a step", {"--stall", "300ms", "--progress-regex", "step (\\d+)"}, "while :; do echo step 1; sleep 0.05; done", "stalled", Case::Deed::none},
    {"pids", {"--pids", "8", "--wall", "5s"}, "i=0; while [ $i -lt 40 ]; do sleep 1000 & i=$((i+1)); done; wait", "incomplete", Case::Deed::none},
    {"log", {"--log", "1K", "--wall", "20s"}, "head -c 100000 /dev/zero", "completed", Case::Deed::none},
    {"disk", {"--disk", "20K", "--store", "store", "--ingest", "*.pt"}, "i=0; while :; do i=$((i+1)); head -c 9000 /dev/urandom > $i.pt; sleep 0.3; done", "limit", Case::Deed::none},
    {"checkpoints", {"--checkpoints", "1", "--keep-last", "9", "--store", "store", "--ingest", "*.pt"}, "i=0; while :; do i=$((i+1)); head -c 9000 /dev/urandom > $i.pt; sleep 0.3; done", "limit", Case::Deed::none},
};

struct Verdict {
  bool held = false;
  std::string why;
  double milliseconds = 0;
};

std::string last_line(std::string text) {
  while (text.ends_with('\n')) text.pop_back();
  return text.substr(text.rfind('\n') + 1);
}

/// A drover of ours, to its end or `deadline`.
std::string output_of(Command& command, TimePoint deadline, bool& ended) {
  std::string out;
  while (auto event = command.next(deadline)) {
    if (const auto* const output = std::get_if<command::Output>(&*event)) out += output->bytes;
    if (std::holds_alternative<command::Ended>(*event)) return ended = true, out;
  }
  return out;
}

/// True once nobody holds the fifo any more.
bool all_gone(int fifo, TimePoint deadline, const Clock& clock) {
  char bytes[256];
  for (;;) {
    const ssize_t size = ::read(fifo, bytes, sizeof bytes);
    if (size == 0) return true;
    if (clock.now() >= deadline) return false;
    pollfd wait{.fd = fifo, .events = POLLIN, .revents = 0};
    ::poll(&wait, 1, 10);
  }
}

Verdict tried(const Case& one, const fs::path& root, const LimitLayers& layers, const Clock& clock) {
  const fs::path place = root / fmt::format("{}", &one - kCases);
  std::error_code error;
  fs::create_directories(place, error);
  const std::string fifo = (place / "held").string(), self = executable_path();
  if (::mkfifo(fifo.c_str(), 0600) != 0) return {.why = "no fifo can be made"};
  const UniqueFd reader(::open(fifo.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  const TimePoint begin = clock.now();
  std::vector<std::string> argv{self, "guard", "--json", "--job", (place / "job").string(), "--progress", "none", "--grace", "100ms", "--directory", place.string()};
  argv.insert(argv.end(), one.options.begin(), one.options.end());
  argv.insert(argv.end(), {"--", "sh", "-c", std::string("exec 3> held; echo x >&3; ") + one.script});
  auto job = Command::start({.argv = argv, .env = inherited_environment(), .directory = place.string()}, begin + kPatience);
  if (!job) return {.why = job.error().what()};
  // It runs once the fifo has been written to.
  pollfd wait{.fd = reader.get(), .events = POLLIN, .revents = 0};
  ::poll(&wait, 1, 10'000);
  Verdict verdict;
  bool ended = false;
  if (one.deed != Case::Deed::none) {
    json status;
    if (auto asked = Command::start({.argv = {self, "status", (place / "job").string(), "--json"}, .env = inherited_environment(), .directory = place.string()}, clock.now() + kPatience)) {
      bool told = false;
      status = json::parse(last_line(output_of(*asked, clock.now() + kPatience, told)), nullptr, false);
    }
    const int supervisor = job->host_pid();
    const int watchdog = status.is_object() && status.contains("watchdog") ? status["watchdog"].value("host_pid", 0) : 0;
    if (one.deed == Case::Deed::freeze_both && watchdog <= 0) return {.why = "its watchdog was not to be found"};
    ::kill(supervisor, one.deed == Case::Deed::kill_supervisor ? SIGKILL : SIGSTOP);
    if (one.deed == Case::Deed::freeze_both) ::kill(watchdog, SIGSTOP);
    verdict.held = all_gone(reader.get(), begin + kPatience, clock);
    verdict.why = verdict.held ? "nobody is left" : "somebody is still there";
    if (one.deed == Case::Deed::freeze_both) ::kill(watchdog, SIGCONT);
  } else {
    const std::string out = output_of(*job, begin + kPatience, ended);
    const json result = json::parse(last_line(out), nullptr, false);
    const std::string outcome = result.is_object() ? result.value("outcome", "") : "";
    verdict.held = ended && outcome == one.outcome && all_gone(reader.get(), clock.now() + Seconds(2), clock);
    if (std::string_view(one.name) == "log") verdict.held = verdict.held && fs::file_size(place / "job" / "command.log", error) <= 1024;
    // A limit this host cannot hold is refused, which is as good as holding it.
    if (std::string_view(one.name) == "pids" && ended && (layers.processes == LimitLayer::absent || layers.processes == LimitLayer::polling)) verdict.held = outcome.empty();
    verdict.why = !ended ? "it went on" : result.is_object() ? result.value("exit_reason", "") : last_line(out);
  }
  verdict.milliseconds = static_cast<double>((clock.now() - begin).count()) * 1e-6;
  (void)job->end(clock.now() + Seconds(5));
  return verdict;
}

}  // namespace

int selftest(const Program&, const Words& words) {
  bool as_json = false;
  Schema schema;
  schema.flag("json", as_json, "one JSON object (docs/json.md)");
  if (const auto done = read_words("selftest", "[--json]", "Trips every enforcer of `drover guard` in scratch jobs on this host", words, schema)) return *done;
  const LimitLayers layers = probe_limits().layers;
  if (layers.containment == LimitLayer::absent)
    return complain("selftest", Error(ErrorCode::refused, "this host has no PID namespace for us: nothing can be contained", "`drover doctor` says what is missing"));
  std::string pattern = (fs::temp_directory_path() / "drover-selftest-XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) return complain("selftest", Error(ErrorCode::system, "cannot make a scratch directory", "TMPDIR says where"));
  const fs::path root = fs::canonical(pattern);
  json cases = json::array();
  std::uint32_t failed = 0;
  bool printed = true;
  for (const Case& one : kCases) {
    const Verdict verdict = tried(one, root, layers, system_clock());
    failed += verdict.held ? 0 : 1;
    cases.push_back({{"name", one.name}, {"held", verdict.held}, {"why", verdict.why}, {"milliseconds", verdict.milliseconds}});
    if (!as_json) printed = print(fmt::format("  {:<38} {}  {}\n", one.name, verdict.held ? "held  " : "FAILED", verdict.why)) && printed;
  }
  std::error_code ignored;
  fs::remove_all(root, ignored);
  printed = print(as_json       ? json{{"cases", std::move(cases)}, {"failed", failed}}.dump() + "\n"
                  : failed == 0 ? fmt::format("all {} held\n", std::size(kCases))
                                : fmt::format("{} of {} failed\n", failed, std::size(kCases))) &&
            printed;
  return failed == 0 && printed ? kDone : kFault;
}

}  // namespace drover::cli
