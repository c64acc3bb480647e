#include "cli/job_options.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <ctime>

#include "base/text.hpp"
#include "os/host.hpp"
#include "os/limits.hpp"

namespace drover::cli {
namespace {

constexpr std::uint32_t kWorkersMax = 1024;
constexpr std::uint64_t kWorkerMemoryFloor = std::uint64_t{16} << 20;  ///< as the pool counts

/// `2026-08-01T18:30:00Z`, `2026-08-01 18:30[:00]` and `18:30` (the next one), the last two in local time. Unix seconds.
std::optional<std::time_t> parse_time(std::string_view text, std::time_t now) {
  std::tm parts{};
  const auto number = [&](std::size_t at, std::size_t length, int& into) {
    if (at + length > text.size()) return false;
    const auto [end, error] = std::from_chars(text.data() + at, text.data() + at + length, into);
    return error == std::errc() && end == text.data() + at + length;
  };
  const auto fits = [](const std::tm& wanted, std::time_t time, bool utc) {  // 31 February and 25:00 do not survive the round trip
    std::tm back{};
    if (utc) ::gmtime_r(&time, &back);
    else ::localtime_r(&time, &back);
    return back.tm_min == wanted.tm_min && back.tm_hour == wanted.tm_hour && back.tm_mday == wanted.tm_mday && back.tm_mon == wanted.tm_mon;
  };
  if (text.size() == 5 && text[2] == ':') {
    ::localtime_r(&now, &parts);
    parts.tm_sec = 0;
    parts.tm_isdst = -1;
    if (!number(0, 2, parts.tm_hour) || !number(3, 2, parts.tm_min) || parts.tm_hour > 23 || parts.tm_min > 59) return std::nullopt;
    std::tm wanted = parts;
    std::time_t time = ::mktime(&wanted);
    if (time <= now) {
      wanted = parts;
      ++wanted.tm_mday;
      time = ::mktime(&wanted);
    }
    return time;
  }
  const bool utc = text.ends_with('Z');
  if (utc) text.remove_suffix(1);
  if ((text.size() != 16 && text.size() != 19) || text[4] != '-' || text[7] != '-' || (text[10] != 'T' && text[10] != ' ') || text[13] != ':') return std::nullopt;
  if (!number(0, 4, parts.tm_year) || !number(5, 2, parts.tm_mon) || !number(8, 2, parts.tm_mday) || !number(11, 2, parts.tm_hour) || !number(14, 2, parts.tm_min)) return std::nullopt;
  if (text.size() == 19 && (text[16] != ':' || !number(17, 2, parts.tm_sec) || parts.tm_sec > 59)) return std::nullopt;
  parts.tm_year -= 1900;
  parts.tm_mon -= 1;
  parts.tm_isdst = -1;
  std::tm wanted = parts;
  const std::time_t time = utc ? ::timegm(&wanted) : ::mktime(&wanted);
  if (!fits(parts, time, utc)) return std::nullopt;
  return time;
}

std::string text_of_time(std::time_t time) {
  std::tm parts{};
  ::gmtime_r(&time, &parts);
  std::array<char, 32> text{};
  return {text.data(), std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &parts)};
}

constexpr std::array<std::string_view, 4> kRequirable = {"memory", "processes", "containment", "tree_kill"};

template <class Visit>
void each_word(std::string_view list, const Visit& visit) {
  while (!list.empty()) {
    const auto comma = list.find(',');
    std::string_view word = list.substr(0, comma);
    list.remove_prefix(comma == list.npos ? list.size() : comma + 1);
    while (word.starts_with(' ')) word.remove_prefix(1);
    while (word.ends_with(' ')) word.remove_suffix(1);
    if (!word.empty()) visit(word);
  }
}

LimitLayer layer_named(const LimitLayers& layers, std::string_view what) {
  if (what == "memory") return layers.memory;
  if (what == "processes") return layers.processes;
  if (what == "containment") return layers.containment;
  return layers.tree_kill;
}

}  // namespace

JobOptions::JobOptions() : workers(usable_cores()) {}

void JobOptions::describe(Schema& schema) {
  schema.integer("workers", workers, {1, kWorkersMax}, "worker processes");
  schema.flag("oversubscribe", oversubscribe, "allow more than four workers per usable core");
  schema.integer("seed", seed, {}, "of every task's random stream");
  schema.duration("time", time, {Millis(1), kUnlimited}, "budget of the job, all its runs together; then it stops, resumable");
  schema.text("until", until, "absolute end: 18:30, 2026-08-01 18:30 or 2026-08-01T16:30:00Z");
  schema.choice("durability", durability, {"power", "process"}, "what a recorded result survives: power loss, or kill -9");
  schema.text("require", require, "refuse to start unless this host enforces these: memory,processes,containment,tree_kill");
  schema.integer("window", window, {0, 128}, "tasks leased to one worker at a time; 0: the workload's own");
  schema.integer("retries", retries, {0, 100}, "further attempts of a task that kills its worker, then quarantine");
  schema.duration("queue-time", queue_time, {Millis(1), kUnlimited}, "a task may wait for a worker");
  schema.duration("attempt-wall", attempt_wall, {Millis(1), kUnlimited}, "one attempt may take");
  schema.duration("attempt-cpu", attempt_cpu, {Millis(1), kUnlimited}, "CPU time one attempt may use");
  schema.duration("task-time", task_time, {Millis(1), kUnlimited}, "a task may take, all attempts together");
  schema.duration("stall", stall, {Millis(10), kUnlimited}, "an attempt may go without progress");
  schema.bytes("worker-memory", worker_memory, {}, "of one worker and what it starts; 0: no limit");
  schema.integer("worker-processes", worker_processes, {0, 1'000'000}, "a worker may start; 0: no limit");
  schema.integer("recycle-tasks", recycle_tasks, {}, "replace a worker after so many tasks; 0: never");
  schema.duration("recycle-age", recycle_age, {Millis(10), kUnlimited}, "replace a worker after so long");
  schema.flag("realtime", realtime, "the supervisor's loop runs before ordinary processes where permitted");
}

void InvocationOptions::describe_display(Schema& schema) {
  schema.flag("json", json, "one JSON object as the last line of stdout (docs/json.md)");
  schema.choice("progress", progress, {"auto", "plain", "json", "none"}, "on stderr; auto: redrawn on a terminal, plain lines elsewhere");
}

std::vector<Error> JobOptions::check() {
  std::vector<Error> errors;
  const std::uint32_t cores = usable_cores();
  const std::uint64_t memory = host_memory().available_bytes;
  const auto by_memory = static_cast<std::uint32_t>(std::clamp<std::uint64_t>(memory / std::max(kWorkerMemoryFloor, worker_memory), 1, kWorkersMax));
  const std::uint32_t by_cores = std::min(kWorkersMax, 4 * cores);
  if (!oversubscribe && workers > by_cores) {
    errors.emplace_back(ErrorCode::usage, fmt::format("--workers '{}': must be 1 to {} on this host: {} usable cores, four workers each", workers, std::min(by_cores, by_memory), cores),
                        fmt::format("leave --workers out for {}, or add --oversubscribe", cores));
  } else if (workers > by_memory) {
    errors.emplace_back(ErrorCode::usage, fmt::format("--workers '{}': must be 1 to {} on this host: {} of memory are available, a worker needs {}", workers, by_memory, text_of_bytes(memory),
                                                      text_of_bytes(std::max(kWorkerMemoryFloor, worker_memory))),
                        "start fewer workers, or give each less with --worker-memory");
  }
  if (!until.empty()) {
    if (const auto at = parse_time(until, ::time(nullptr))) until = text_of_time(*at);
    else errors.emplace_back(ErrorCode::usage, fmt::format("--until '{}': must be a time such as 18:30, 2026-08-01 18:30 or 2026-08-01T16:30:00Z", until));
  }
  if (!require.empty()) {
    bool known = true;
    each_word(require, [&](std::string_view word) {
      if (std::ranges::find(kRequirable, word) != kRequirable.end()) return;
      known = false;
      const auto near = nearest_name(word, kRequirable);
      errors.emplace_back(ErrorCode::usage, fmt::format("--require '{}': must be memory, processes, containment or tree_kill", word), near ? fmt::format("did you mean '{}'?", *near) : std::string());
    });
    if (known) {
      for (Error& error : check_required(require, probe_limits().layers)) errors.push_back(std::move(error));
    }
  }
  return errors;
}

std::vector<Error> check_required(const std::string& required, const LimitLayers& layers, std::string_view asked_by, std::string_view way_out) {
  std::vector<Error> errors;
  each_word(required, [&](std::string_view word) {
    const LimitLayer layer = layer_named(layers, word);
    if (layer != LimitLayer::absent && layer != LimitLayer::polling) return;
    errors.emplace_back(ErrorCode::refused, fmt::format("{} '{}': this host {}", asked_by, word, layer == LimitLayer::polling ? "can only poll it, which a fast worker outruns" : "cannot enforce it"),
                        fmt::format("`drover doctor` says what is missing; {} to run on best effort", way_out));
  });
  return errors;
}

Nanos JobOptions::until_left() const {
  const auto at = until.empty() ? std::nullopt : parse_time(until, ::time(nullptr));
  if (!at) return kUnlimited;
  return std::max(Nanos::zero(), Nanos(Seconds(*at - ::time(nullptr))));
}

Result<JobTraits> PlanWithOptions::traits() {
  DROVER_TRY(JobTraits traits, plan_.traits());
  const JobOptions& o = options_;
  PoolOptions& pool = traits.pool;
  pool.workers = traits.workers_max == 0 ? o.workers : std::min(o.workers, traits.workers_max);
  pool.oversubscribe = o.oversubscribe;
  pool.seed = o.seed;
  if (o.window != 0) pool.window = o.window;
  pool.retry.blamed_max = o.retries;
  const auto put = [](Nanos value, Nanos& into) {
    if (value != kUnlimited) into = value;
  };
  put(o.queue_time, pool.limits.queue);
  put(o.attempt_wall, pool.limits.attempt_wall);
  put(o.attempt_cpu, pool.limits.attempt_cpu);
  put(o.task_time, pool.limits.task);
  put(o.stall, pool.limits.stall);
  put(o.recycle_age, pool.recycling.age);
  if (o.worker_memory != 0) pool.worker.memory_bytes = o.worker_memory;
  if (o.worker_processes != 0) pool.worker.processes = o.worker_processes;
  if (o.recycle_tasks != 0) pool.recycling.tasks = o.recycle_tasks;
  pool.realtime_loop = o.realtime;
  each_word(o.require, [&](std::string_view word) { pool.require_containment = pool.require_containment || word == "containment"; });
  return traits;
}

}  // namespace drover::cli
