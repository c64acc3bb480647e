#include "guard/attempt.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <regex>

#include "drover/checkpoint.hpp"
#include "drover/command.hpp"
#include "drover/types/outcome.hpp"

namespace drover::guard {
namespace {

constexpr int kTerm = 15, kKill = 9, kContinue = 18;
constexpr Nanos kTick = Millis(20);        ///< how often limits and liveness are looked at
constexpr std::size_t kLineMax = 64 * 1024;

TimePoint now() { return TimePoint(std::chrono::duration_cast<Nanos>(std::chrono::steady_clock::now().time_since_epoch())); }

void put_text(std::array<char, 1024>& into, std::string_view text) {
  const std::size_t size = std::min(text.size(), into.size() - 1);
  std::copy_n(text.begin(), size, into.begin());
  into[size] = '\0';
}

/// What the command tells of its own progress, from whichever source it was given.
class ProgressReader {
 public:
  explicit ProgressReader(const Orders& orders) : file_(orders.progress_file) {
    if (!orders.progress_regex.empty()) pattern_.emplace(orders.progress_regex, std::regex::ECMAScript | std::regex::optimize);
    if (!file_.empty()) modified_ = modification_time();
  }
  /// Whether liveness is told by the command at all; if not, CPU time used counts as progress.
  bool tells(const Orders& orders) const { return pattern_ || !file_.empty() || !orders.notify_directory.empty(); }

  bool output(std::string_view bytes, std::uint64_t& step) {
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
  bool file_changed() {
    if (file_.empty()) return false;
    const auto then = modification_time();
    return std::exchange(modified_, then) != then;
  }

 private:
  bool matched(const std::smatch& match, std::uint64_t& step) {
    if (match.size() < 2 || !match[1].matched) return true;
    const std::string text = match[1];
    std::uint64_t value = 0;
    if (std::from_chars(text.data(), text.data() + text.size(), value).ec != std::errc()) return false;
    const bool further = value > step;
    step = std::max(step, value);
    return further;  // the same step again is a beat, not progress
  }
  std::filesystem::file_time_type modification_time() const {
    std::error_code ignored;
    return std::filesystem::last_write_time(file_, ignored);
  }

  std::string file_;
  std::optional<std::regex> pattern_;
  std::filesystem::file_time_type modified_{};
  std::string line_;
};

/// Appends to the log until its bound is reached; counts what is dropped.
class Log {
 public:
  Log(const std::string& path, std::uint64_t bytes_max) : out_(path, std::ios::binary | std::ios::app), bytes_max_(bytes_max) {
    std::error_code ignored;
    const auto size = std::filesystem::file_size(path, ignored);
    written_ = ignored ? 0 : size;
  }
  void write(std::string_view bytes) {
    const std::size_t room = written_ < bytes_max_ ? static_cast<std::size_t>(std::min<std::uint64_t>(bytes.size(), bytes_max_ - written_)) : 0;
    out_.write(bytes.data(), static_cast<std::streamsize>(room)).flush();
    written_ += room;
    dropped_ += bytes.size() - room;
  }
  std::uint64_t dropped() const { return dropped_; }

 private:
  std::ofstream out_;
  std::uint64_t bytes_max_, written_ = 0, dropped_ = 0;
};

/// The command's way into the checkpoint store. It puts a file into the staging directory and says CHECKPOINT=NAME; when the file is
/// gone the checkpoint is durable, when NAME.refused appears it is not, and that file says why.
class Checkpoints {
 public:
  /// Takes the lineage over, and lays the newest good checkpoint out for the command to go on from.
  Result<void> begin(const Orders& orders, std::uint64_t attempt) {
    DROVER_TRY(CheckpointStore opened, CheckpointStore::open(orders.store));
    store_.emplace(std::move(opened));
    DROVER_TRY(lease_, store_->acquire(orders.lineage, orders.steps_max == 0 ? std::nullopt : std::optional(orders.steps_max)));
    std::error_code error;
    std::filesystem::create_directories(orders.staging, error);
    if (error) return fail(ErrorCode::system, "make '" + orders.staging + "': " + error.message());
    auto newest = store_->newest_good(orders.lineage, {});
    if (!newest) {
      if (newest.error().code() == ErrorCode::not_found) return {};  // the lineage begins here
      return std::unexpected(std::move(newest).error());
    }
    resume_ = orders.staging + "/resume-" + std::to_string(attempt);
    std::filesystem::remove_all(resume_, error);
    step_ = newest->manifest.step;
    return store_->restore(*newest, resume_);
  }
  bool on() const { return store_.has_value(); }
  std::vector<std::string> environment(const Orders& orders) const {
    std::vector<std::string> env{"DROVER_STAGING=" + orders.staging};
    if (!resume_.empty()) env.insert(env.end(), {"DROVER_RESUME=" + resume_, "DROVER_RESUME_STEP=" + std::to_string(step_)});
    return env;
  }
  void metric(double value) { metric_ = value; }

  Result<void> commit(const Orders& orders, const std::string& name, std::uint64_t step) {
    const std::string path = orders.staging + "/" + name;
    std::error_code ignored;
    auto done = [&]() -> Result<void> {
      if (name.find('/') != std::string::npos || name.empty()) return fail(ErrorCode::usage, "CHECKPOINT='" + name + "': must be a file in the staging directory");
      NewCheckpoint checkpoint{.step = step, .run = "guard", .argv = orders.command, .metric = std::exchange(metric_, std::nullopt)};
      checkpoint.files.push_back({.name = name, .source = path});
      DROVER_TRY(const CheckpointEntry entry, store_->commit(lease_, checkpoint));
      (void)entry;
      std::filesystem::remove(path, ignored);  // the acknowledgement
      const Retention retention{.last = static_cast<std::uint32_t>(orders.keep_last), .best = static_cast<std::uint32_t>(orders.keep_best), .every_steps = orders.keep_every, .count_max = static_cast<std::uint32_t>(orders.checkpoints_max)};
      DROVER_TRY(const std::vector<std::string> gone, store_->retain(orders.lineage, retention));
      (void)gone;
      return {};
    }();
    if (!done && std::filesystem::exists(path, ignored)) std::ofstream(path + ".refused") << done.error().what() << "\n";
    return done;
  }

 private:
  std::optional<CheckpointStore> store_;
  WriterLease lease_{};
  std::string resume_;
  std::uint64_t step_ = 0;
  std::optional<double> metric_;
};

/// One attempt: a small loop around Command::next, woken by events and by the tick.
class Attempt {
 public:
  Attempt(const Orders& orders, const AttemptInput& input, Context& context)
      : orders_(orders), input_(input), context_(context), log_(orders.log, orders.log_bytes_max), progress_(orders) {
    report_.step = input.step_before;
  }

  AttemptReport run() {
    begin_ = now();
    std::vector<std::string> env = inherited_environment();
    if (!orders_.store.empty()) {
      if (auto begun = checkpoints_.begin(orders_, input_.number); !begun) {
        report_.end = AttemptEnd::not_started;
        put_text(report_.text, begun.error().what());
        return report_;
      }
      for (std::string& variable : checkpoints_.environment(orders_)) env.push_back(std::move(variable));
    }
    auto started = Command::start({.argv = orders_.command, .env = std::move(env), .directory = orders_.directory, .notify_directory = orders_.notify_directory}, begin_ + Seconds(10));
    if (!started) {
      report_.end = AttemptEnd::not_started;
      put_text(report_.text, started.error().what());
      return report_;
    }
    command_.emplace(std::move(*started));
    progressed_at_ = now();
    while (!ended_) {
      if (auto event = command_->next(std::min(now() + kTick, kill_at_))) std::visit([this](const auto& what) { on(what); }, *event);
      if (!ended_) look();
    }
    report_.wall = now() - begin_;
    if (auto gone = command_->end(now() + Seconds(5)); !gone) {
      report_.end = AttemptEnd::unkillable;
      put_text(report_.text, gone.error().what());
    }
    report_.log_bytes_dropped = log_.dropped();
    return report_;
  }

 private:
  void on(const command::Output& output) {
    log_.write(output.bytes);
    if (progress_.output(output.bytes, report_.step)) progressed();
    check_steps();
  }
  void on(const command::Notice& notice) {
    if (notice.name == "READY") report_.ready = true;
    if (notice.name == "STEP") {
      std::uint64_t step = 0;
      if (std::from_chars(notice.value.data(), notice.value.data() + notice.value.size(), step).ec == std::errc() && step > report_.step) {
        report_.step = step;
        progressed();
        steps_told_ = true;
      }
    } else if (!steps_told_ && (notice.name == "WATCHDOG" || notice.name == "READY" || notice.name == "STATUS")) {
      progressed();  // once steps are told, a beat without one is no progress
    }
    if (notice.name == "METRIC") checkpoints_.metric(std::strtod(notice.value.c_str(), nullptr));
    if (notice.name == "CHECKPOINT" && checkpoints_.on()) commit(notice.value);
    check_steps();  // EXTEND_TIMEOUT_USEC is not read: a limit is not for the command to move
  }
  void on(const command::Ended& ended) {
    report_.cpu = std::max(report_.cpu, ended.user_time + ended.system_time);
    report_.rss_peak_bytes = std::max(report_.rss_peak_bytes, ended.rss_max_bytes);
    ended_ = true;
    if (reason_) {
      report_.end = *reason_;
      return;
    }
    report_.end = ended.signalled ? AttemptEnd::signalled : AttemptEnd::exited;
    report_.code = ended.code_or_signal;
    // The kernel's own memory limit stands a little above ours: who jumps over both at once is killed by it, without our word.
    if (ended.signalled && ended.code_or_signal == kKill && orders_.memory_bytes_max != 0 && report_.rss_peak_bytes >= orders_.memory_bytes_max / 4 * 3) {
      report_.end = AttemptEnd::memory;
      put_text(report_.text, "the kernel killed it");
    }
  }

  void commit(const std::string& name) {
    auto done = checkpoints_.commit(orders_, name, report_.step);
    if (done) {
      ++report_.checkpoints;
      return progressed();
    }
    ++report_.checkpoints_refused;
    const std::string& why = done.error().what();
    log_.write("drover: " + why + "\n");
    if (why.find("fenced:") != std::string::npos) kill(AttemptEnd::fenced, why);
    else if (why.find("limit(steps)") != std::string::npos) ask(AttemptEnd::steps, why);
    else if (why.find("limit(checkpoints)") != std::string::npos) ask(AttemptEnd::checkpoints, why);
  }

  void progressed() {
    progressed_at_ = now();
    context_.progress(++beats_);
  }
  void check_steps() {
    if (orders_.steps_max != 0 && report_.step >= orders_.steps_max) ask(AttemptEnd::steps, fmt::format("step {} of {}", report_.step, orders_.steps_max));
  }

  void look() {
    const TimePoint at = now();
    if (at >= kill_at_) {
      (void)command_->signal(kKill);
      kill_at_ = kNever;
      return;
    }
    if (context_.stopping()) ask(AttemptEnd::stopped, "asked to stop");
    const TreeUsage usage = command_->usage();
    report_.rss_peak_bytes = std::max(report_.rss_peak_bytes, usage.rss_bytes);
    const bool worked = usage.cpu > report_.cpu;
    report_.cpu = std::max(report_.cpu, usage.cpu);
    if (reason_) return;
    if (orders_.memory_bytes_max != 0 && usage.rss_bytes > orders_.memory_bytes_max)
      return kill(AttemptEnd::memory, fmt::format("{} processes held {} bytes, the limit is {}", usage.processes, usage.rss_bytes, orders_.memory_bytes_max));
    if (input_.cpu_left != kUnlimited && usage.cpu >= input_.cpu_left)
      return ask(AttemptEnd::cpu, fmt::format("{} of CPU time in this attempt, {} were left", drover::text_of(usage.cpu), drover::text_of(input_.cpu_left)));
    if (progress_.file_changed() || (!progress_.tells(orders_) && worked)) progressed();
    if (orders_.stall != kUnlimited && at - progressed_at_ >= orders_.stall) stalled(at);
  }
  void stalled(TimePoint at) {
    // Kernel truth over the last part of the silence: did the tree use the processor?
    const std::string evidence = command_->evidence();
    const bool stopped = evidence.starts_with("state T");
    const bool spinning = !stopped && evidence.starts_with("state R");
    const char* const how = stopped ? "stopped" : spinning ? "spinning" : "blocked";
    std::ofstream(orders_.evidence, std::ios::app) << fmt::format("attempt {}, step {}: no progress for {}\n{}\n", input_.number, report_.step, drover::text_of(at - progressed_at_), evidence);
    kill(AttemptEnd::stalled, fmt::format("no progress for {} ({}): {}", drover::text_of(at - progressed_at_), how, evidence.substr(0, evidence.find('\n'))));
  }
  /// The polite way: TERM now, KILL after the grace.
  void ask(AttemptEnd why, std::string_view text) {
    if (reason_) return;
    reason_ = why;
    put_text(report_.text, text);
    (void)command_->signal(kTerm);
    (void)command_->signal(kContinue);  // a stopped process takes a TERM only when it goes on
    kill_at_ = now() + orders_.stop_grace;
  }
  void kill(AttemptEnd why, std::string_view text) {
    reason_ = why;
    put_text(report_.text, text);
    (void)command_->signal(kKill);
  }

  const Orders& orders_;
  const AttemptInput& input_;
  Context& context_;
  AttemptReport report_;
  Log log_;
  ProgressReader progress_;
  Checkpoints checkpoints_;
  std::optional<Command> command_;
  std::optional<AttemptEnd> reason_;
  TimePoint begin_{}, progressed_at_{}, kill_at_ = kNever;
  std::uint64_t beats_ = 0;
  bool steps_told_ = false, ended_ = false;
};

std::string signal_text(int number) { return drover::text_of(Outcome(outcome::Crashed{number})); }

}  // namespace

std::string_view name_of(AttemptEnd end) {
  switch (end) {
    using enum AttemptEnd;
    case exited: return "exited";
    case signalled: return "signalled";
    case steps: return "steps";
    case checkpoints: return "checkpoints";
    case fenced: return "fenced";
    case cpu: return "cpu";
    case memory: return "memory";
    case stalled: return "stalled";
    case stopped: return "stopped";
    case not_started: return "not_started";
    case lost: return "lost";
    case unkillable: return "unkillable";
  }
  std::unreachable();
}

std::string text_of(const AttemptReport& report) {
  const std::string text(report.text.data(), std::find(report.text.begin(), report.text.end(), '\0'));
  switch (report.end) {
    using enum AttemptEnd;
    case exited: return fmt::format("exited({})", report.code);
    case signalled: return signal_text(report.code);
    case steps:
    case checkpoints:
    case fenced:
    case cpu:
    case memory:
    case stalled:
    case stopped:
    case not_started:
    case lost:
    case unkillable: return text.empty() ? std::string(name_of(report.end)) : text;
  }
  std::unreachable();
}

Bytes encode(const Orders& o) {
  // One text, fields ended by NUL: no field may hold one (the options refuse it).
  std::string text;
  const auto put = [&text](const std::string& field) { text.append(field).push_back('\0'); };
  for (const std::string* field : {&o.directory, &o.log, &o.evidence, &o.notify_directory, &o.progress_regex, &o.progress_file, &o.store, &o.lineage, &o.staging}) put(*field);
  for (const std::uint64_t number : {o.log_bytes_max, o.memory_bytes_max, o.steps_max, static_cast<std::uint64_t>(o.stall.count()), static_cast<std::uint64_t>(o.stop_grace.count()), o.keep_last, o.keep_best, o.keep_every, o.checkpoints_max}) put(std::to_string(number));
  for (const std::string& word : o.command) put(word);
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

Result<Orders> decode_orders(BytesView bytes) {
  std::vector<std::string> fields;
  for (std::size_t begin = 0; begin < bytes.size();) {
    const auto end = std::find(bytes.begin() + static_cast<std::ptrdiff_t>(begin), bytes.end(), std::byte{0});
    if (end == bytes.end()) return fail(ErrorCode::corrupt, "guard orders: a field does not end");
    fields.emplace_back(reinterpret_cast<const char*>(bytes.data()) + begin);
    begin = static_cast<std::size_t>(end - bytes.begin()) + 1;
  }
  constexpr std::size_t kTexts = 9, kNumbers = 9;
  if (fields.size() <= kTexts + kNumbers) return fail(ErrorCode::corrupt, "guard orders: fields are missing");
  std::array<std::uint64_t, kNumbers> numbers{};
  for (std::size_t i = 0; i < kNumbers; ++i) {
    const std::string& field = fields[kTexts + i];
    if (std::from_chars(field.data(), field.data() + field.size(), numbers[i]).ec != std::errc()) return fail(ErrorCode::corrupt, "guard orders: not a number");
  }
  return Orders{.command = {fields.begin() + kTexts + kNumbers, fields.end()},
                .directory = fields[0],
                .log = fields[1],
                .evidence = fields[2],
                .notify_directory = fields[3],
                .progress_regex = fields[4],
                .progress_file = fields[5],
                .store = fields[6],
                .lineage = fields[7],
                .staging = fields[8],
                .log_bytes_max = numbers[0],
                .memory_bytes_max = numbers[1],
                .steps_max = numbers[2],
                .stall = Nanos(static_cast<std::int64_t>(numbers[3])),
                .stop_grace = Nanos(static_cast<std::int64_t>(numbers[4])),
                .keep_last = numbers[5],
                .keep_best = numbers[6],
                .keep_every = numbers[7],
                .checkpoints_max = numbers[8]};
}

Result<AttemptReport> attempt(const AttemptInput& input, Context& context) {
  DROVER_TRY(const Orders orders, decode_orders(context.broadcast()));
  return Attempt(orders, input, context).run();
}

}  // namespace drover::guard
