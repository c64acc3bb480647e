#include "guard/checkpoints.hpp"

#include <fmt/format.h>
#include <fnmatch.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <utility>

#include "drover/clock.hpp"
#include "guard/orders.hpp"

namespace drover::guard {
namespace {

namespace fs = std::filesystem;

constexpr Nanos kStill = Millis(200);         ///< a watched file is taken once it has not changed for so long
constexpr Nanos kSettle = Seconds(5);         ///< what the command closed at its end may take so long to stand still
constexpr std::size_t kProbeLineMax = 512;

std::int64_t modified(const fs::path& path) {
  std::error_code ignored;
  return fs::last_write_time(path, ignored).time_since_epoch().count();
}
std::uint64_t size_of(const fs::path& path) {
  std::error_code error;
  const auto size = fs::file_size(path, error);
  return error ? 0 : size;
}

std::uint64_t bytes_below(const fs::path& directory) {
  std::uint64_t sum = 0;
  std::error_code error;
  for (fs::recursive_directory_iterator at(directory, fs::directory_options::skip_permission_denied, error), end; !error && at != end; at.increment(error)) {
    std::error_code gone;
    if (at->is_regular_file(gone) && !at->is_symlink(gone)) sum += size_of(at->path());
  }
  return sum;
}

/// The staged file, or the regular files below the staged directory. Links are not followed: they are the command's.
Result<std::vector<NewCheckpoint::File>> staged_files(const fs::path& staging, const std::string& name) {
  if (name.empty() || name.find('/') != std::string::npos || name == "." || name == "..") return fail(ErrorCode::usage, fmt::format("CHECKPOINT='{}': must be a name in the staging directory", name));
  std::vector<NewCheckpoint::File> files;
  const fs::path path = staging / name;
  std::error_code error;
  if (fs::is_symlink(path, error)) return fail(ErrorCode::usage, fmt::format("CHECKPOINT='{}': is a symbolic link", name));
  if (!fs::is_directory(path, error)) {
    files.push_back({.name = name, .source = path.string()});
    return files;
  }
  for (fs::recursive_directory_iterator at(path, error), end; !error && at != end; at.increment(error))
    if (at->is_regular_file(error) && !at->is_symlink(error)) files.push_back({.name = fs::relative(at->path(), staging, error).string(), .source = at->path().string()});
  if (error) return fail(ErrorCode::system, fmt::format("list '{}': {}", path.string(), error.message()));
  std::ranges::sort(files, {}, &NewCheckpoint::File::name);
  return files;
}

}  // namespace

Result<void> Checkpoints::begin(std::uint64_t attempt) {
  DROVER_TRY(CheckpointStore opened, CheckpointStore::open(orders_.store));
  store_.emplace(std::move(opened));
  if (!orders_.fingerprint.empty()) {
    DROVER_TRY(fingerprint_, parse_fingerprint(orders_.fingerprint));
  }
  DROVER_TRY(rules_, parse_probe_rules(orders_.probe_rules));
  DROVER_TRY(lease_, store_->acquire(orders_.lineage, orders_.steps_max == 0 ? std::nullopt : std::optional(orders_.steps_max)));
  // What the attempt before left here was never said to be whole; what was, is in the store.
  std::error_code error;
  fs::remove_all(orders_.staging, error);
  fs::create_directories(orders_.staging, error);
  if (error) return fail(ErrorCode::system, "make '" + orders_.staging + "': " + error.message());
  DROVER_TRY(const std::vector<CheckpointEntry> there, store_->list(orders_.lineage));
  for (const CheckpointEntry& one : there)
    if (one.status == CheckpointStatus::verified) DROVER_CHECK(judge(one));
  while (running_ || !waiting_.empty()) DROVER_CHECK(watch_probe(now(), now() + Millis(50)));
  failed_in_row_ = 0;
  gave_up_.clear();
  DROVER_TRY(const std::optional<CheckpointEntry> newest, store_->resume_point(orders_.lineage, fingerprint_, orders_.run, orders_.fresh));
  if (!newest) {
    root_ = orders_.fresh;  // until the head is one of its own
    return {};
  }
  resume_ = orders_.staging + "/resume-" + std::to_string(attempt);
  resume_step_ = newest->manifest.step;
  return store_->restore(*newest, resume_);
}

std::vector<std::string> Checkpoints::environment() const {
  std::vector<std::string> env{"DROVER_STAGING=" + orders_.staging};
  if (!resume_.empty()) env.insert(env.end(), {"DROVER_RESUME=" + resume_, "DROVER_RESUME_STEP=" + std::to_string(resume_step_)});
  return env;
}

Result<std::string> Checkpoints::store_files(std::vector<NewCheckpoint::File> files, std::uint64_t step) {
  NewCheckpoint checkpoint{.files = std::move(files),
                           .step = step,
                           .root = root_,
                           .run = orders_.run,
                           .argv = orders_.command,
                           .fingerprint = fingerprint_,
                           .state = std::exchange(state_, {}),
                           .metric = std::exchange(metric_, std::nullopt),
                           .metrics = std::exchange(metrics_, {}),
                           .probed = !rules_.empty() || !orders_.probe_command.empty()};
  if (checkpoint.metric && !std::isfinite(*checkpoint.metric)) checkpoint.metrics["metric"] = *std::exchange(checkpoint.metric, std::nullopt);
  else if (checkpoint.metric) checkpoint.metrics["metric"] = *checkpoint.metric;
  DROVER_TRY(const CheckpointEntry entry, store_->commit(lease_, checkpoint));
  ++committed_;
  root_ = false;
  DROVER_CHECK(judge(entry));
  return entry.id;
}

Result<void> Checkpoints::commit(const std::string& name, std::uint64_t step) {
  const fs::path path = fs::path(orders_.staging) / name;
  std::error_code ignored;
  const std::uint64_t before = committed_;
  const auto done = [&]() -> Result<void> {
    DROVER_TRY(std::vector<NewCheckpoint::File> files, staged_files(orders_.staging, name));
    DROVER_CHECK(store_files(std::move(files), step));
    return {};
  }();
  if (committed_ != before) fs::remove_all(path, ignored);  // the acknowledgement
  else if (name.find('/') == std::string::npos) {
    std::ofstream(path.string() + ".refusing") << (done ? "" : done.error().what()) << "\n";
    fs::rename(path.string() + ".refusing", path.string() + ".refused", ignored);  // whole when it appears
  }
  return done;
}

void Checkpoints::written(const std::string& name, TimePoint at) {
  if (::fnmatch(fs::path(orders_.ingest).filename().c_str(), name.c_str(), FNM_PERIOD) != 0) return;
  const fs::path path = fs::path(orders_.ingest).parent_path() / name;
  candidates_[name] = {.size = size_of(path), .modified = modified(path), .seen = at};
}

Result<void> Checkpoints::ingest(const std::string& name, std::uint64_t step) {
  const fs::path path = fs::path(orders_.ingest).parent_path() / name;
  const std::uint64_t size = size_of(path);
  const std::int64_t time = modified(path);
  DROVER_TRY(const std::string id, store_files({{.name = name, .source = path.string()}}, step));
  if (size == size_of(path) && time == modified(path)) return {};
  // Written again while it was read: what is in the store may be of both. It is told again when it is closed.
  return store_->quarantine(id, fmt::format("'{}' was written while it was read", name));
}

Result<void> Checkpoints::tick(TimePoint at, std::uint64_t step) {
  Result<void> result;
  for (auto one = candidates_.begin(); one != candidates_.end();) {
    const fs::path path = fs::path(orders_.ingest).parent_path() / one->first;
    Candidate& candidate = one->second;
    if (size_of(path) != candidate.size || modified(path) != candidate.modified) candidate = {.size = size_of(path), .modified = modified(path), .seen = at};
    if (at - candidate.seen < kStill) {
      ++one;
      continue;
    }
    const std::string name = one->first;
    one = candidates_.erase(one);
    std::error_code error;
    if (!fs::is_regular_file(path, error)) continue;  // renamed or removed since
    if (auto done = ingest(name, step); !done && result) result = std::move(done);
  }
  DROVER_CHECK(watch_probe(at, kPast));
  return result;
}

Result<void> Checkpoints::settle(std::uint64_t step) {
  Result<void> result;
  const TimePoint patience = now() + kSettle;
  while (!candidates_.empty() || running_ || !waiting_.empty()) {
    if (now() >= patience) candidates_.clear();  // somebody writes them without end
    if (auto done = tick(now() + kStill, step); !done && result) result = std::move(done);
    if (running_) DROVER_CHECK(watch_probe(now(), now() + Millis(50)));
  }
  return result;
}

// ---- probes ----------------------------------------------------------------------------------------------------------------------

Result<void> Checkpoints::judge(const CheckpointEntry& entry) {
  if (entry.status == CheckpointStatus::verified && !rules_.empty()) {
    const auto lines = probe(*store_, entry, rules_);
    if (!lines) return failed(entry, lines.error().what());
    if (!lines->empty()) return failed(entry, lines->front());
  }
  if (entry.status == CheckpointStatus::verified && !orders_.probe_command.empty()) {
    waiting_.push_back(entry);
    return {};
  }
  return passed(entry);
}

Result<void> Checkpoints::passed(const CheckpointEntry& entry) {
  failed_in_row_ = 0;
  if (entry.status == CheckpointStatus::verified) DROVER_CHECK(store_->mark_good(entry.id));
  return retain();
}

Result<void> Checkpoints::failed(const CheckpointEntry& entry, const std::string& why) {
  ++quarantined_;
  ++failed_in_row_;
  if (failed_in_row_ >= orders_.probe_failures) gave_up_ = fmt::format("{} checkpoints in a row failed their probe; step {}: {}", failed_in_row_, entry.manifest.step, why);
  return store_->quarantine(entry.id, why);
}

Result<void> Checkpoints::start_probe(TimePoint at) {
  CheckpointEntry entry = std::move(waiting_.front());
  waiting_.pop_front();
  const std::string directory = fmt::format("{}/probe-{}", orders_.staging, entry.number);
  std::error_code ignored;
  fs::remove_all(directory, ignored);
  if (auto laid_out = store_->restore(entry, directory); !laid_out) return failed(entry, laid_out.error().what());
  for (fs::recursive_directory_iterator one(directory, ignored), end; !ignored && one != end; one.increment(ignored))
    if (one->is_regular_file(ignored)) fs::permissions(one->path(), fs::perms::owner_read | fs::perms::group_read | fs::perms::others_read, ignored);
  std::vector<std::string> env = inherited_environment();
  env.insert(env.end(), {"DROVER_PROBE=" + directory, "DROVER_PROBE_STEP=" + std::to_string(entry.manifest.step), "DROVER_PROBE_ID=" + entry.id});
  auto command = Command::start({.argv = orders_.probe_command, .env = std::move(env), .directory = orders_.directory}, at + Seconds(10));
  if (!command) return failed(entry, command.error().what());
  running_.emplace(Running{.entry = std::move(entry), .command = std::move(*command), .deadline = at + orders_.probe_time, .directory = directory, .line = {}});
  return {};
}

Result<void> Checkpoints::watch_probe(TimePoint at, TimePoint until) {
  if (!running_ && !waiting_.empty()) DROVER_CHECK(start_probe(at));
  while (running_) {
    Running& r = *running_;
    std::optional<std::string> verdict;  // "" = it passes
    if (const auto event = r.command.next(until)) {
      if (const auto* const output = std::get_if<command::Output>(&*event)) r.line = (r.line + output->bytes).substr(0, kProbeLineMax);
      if (const auto* const end = std::get_if<command::Ended>(&*event))
        verdict = !end->signalled && end->code_or_signal == 0 ? std::string() : fmt::format("the probe ended with {} {}{}{}", end->signalled ? "signal" : "status", end->code_or_signal, r.line.empty() ? "" : ": ", r.line.substr(0, r.line.find('\n')));
    } else if (now() >= r.deadline) {
      verdict = fmt::format("the probe took longer than {} s", std::chrono::duration_cast<Seconds>(orders_.probe_time).count());
    } else {
      return {};
    }
    if (!verdict) continue;
    (void)r.command.end(now() + Seconds(5));
    std::error_code ignored;
    fs::remove_all(r.directory, ignored);
    const CheckpointEntry entry = std::move(r.entry);
    running_.reset();
    return verdict->empty() ? passed(entry) : failed(entry, *verdict);
  }
  return {};
}

Result<void> Checkpoints::retain() {
  const Retention retention{.last = static_cast<std::uint32_t>(orders_.keep_last),
                            .best = static_cast<std::uint32_t>(orders_.keep_best),
                            .every_steps = orders_.keep_every,
                            .count_max = static_cast<std::uint32_t>(orders_.checkpoints_max)};
  DROVER_CHECK(store_->retain(orders_.lineage, retention));
  return {};
}

std::uint64_t Checkpoints::bytes_on_disk() const { return bytes_below(orders_.staging) + bytes_below(orders_.store); }

}  // namespace drover::guard
