#include "store/job_directory.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>

#include <fmt/format.h>

#include "base/bytes.hpp"
#include "os/host.hpp"
#include "os/process_stats.hpp"
#include "store/hash.hpp"

namespace drover::store {
namespace {

using nlohmann::json;

constexpr std::size_t kSocketPathBytes = 107;   // sun_path is 108 with its NUL: unix(7)
constexpr std::array<std::string_view, 3> kSubdirectories = {"checkpoints", "results", "workers"};
/// What create() itself makes: a directory with these and no ledger is one whose creation was interrupted.
constexpr std::array<std::string_view, 10> kOwnNames = {"lock", "job.toml", "job.toml.new", "ledger.reserve", "events.jsonl",
                                                        "checkpoints", "results", "workers", "live", "metrics.prom"};

constexpr const char* kElsewhere = "name another job directory with --job";

std::string absolute(const std::string& path) {
  std::error_code ignored;
  std::string whole = std::filesystem::absolute(path, ignored).lexically_normal().string();
  if (whole.empty()) whole = path;
  while (whole.size() > 1 && whole.back() == '/') whole.pop_back();
  return whole;
}
std::string parent_of(const std::string& path) {
  const auto slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

std::string wall_now() {  // RFC 3339, for people
  const auto now = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
  const auto day = std::chrono::floor<std::chrono::days>(now);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss time(now - day);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", int(date.year()), unsigned(date.month()), unsigned(date.day()), time.hours().count(),
                     time.minutes().count(), time.seconds().count());
}

std::string text_of_holder(const Holder& holder) {
  const json object = {{"pid", holder.pid}, {"start_ticks", holder.start_ticks}, {"boot_id", holder.boot_id}, {"host", holder.host}, {"started", holder.started}};
  return object.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
}
std::optional<Holder> holder_from(const json& object) {
  if (!object.is_object()) return std::nullopt;
  const auto is = [&](const char* key, bool number) { return object.contains(key) && (number ? object[key].is_number_integer() : object[key].is_string()); };
  if (!is("pid", true) || !is("start_ticks", true) || !is("boot_id", false) || !is("host", false) || !is("started", false)) return std::nullopt;
  return Holder{.pid = object["pid"].get<std::int32_t>(), .start_ticks = object["start_ticks"].get<std::uint64_t>(), .boot_id = object["boot_id"].get<std::string>(),
                .host = object["host"].get<std::string>(), .started = object["started"].get<std::string>()};
}
std::optional<Holder> read_holder(FileSystem& fs, const std::string& lock) {
  const auto text = fs.read_file(lock, 4096);
  if (!text) return std::nullopt;
  return holder_from(json::parse(*text, nullptr, false));
}

Error busy_error(const std::string& path, const std::optional<Holder>& holder) {
  std::string who = "another process";
  if (holder) who = fmt::format("process {} on {}, since {}", holder->pid, holder->host, holder->started);
  return Error(ErrorCode::busy, "job '" + path + "' is running: " + who + " holds it", "`drover status " + path + "` shows it, `drover stop " + path + "` ends it");
}

/// Locks, and writes who we are. `fresh`: the file may be made.
Result<std::unique_ptr<File>> take_lock(FileSystem& fs, const std::string& path, const Holder& self) {
  const std::string name = path + "/lock";
  auto opened = fs.open(name, OpenMode::create_or_open);
  if (!opened) return std::unexpected(std::move(opened).error().with("job directory '" + path + "'").advise(kElsewhere));
  std::unique_ptr<File> lock = std::move(*opened);
  if (auto locked = lock->try_lock_exclusive(); !locked) {
    if (locked.error().code() == ErrorCode::busy) return std::unexpected(busy_error(path, read_holder(fs, name)));
    return std::unexpected(std::move(locked).error().with("job directory '" + path + "'"));
  }
  const std::string text = text_of_holder(self);
  if (auto cut = lock->truncate(0); !cut) return std::unexpected(std::move(cut).error().with("job directory '" + path + "'"));
  if (auto written = lock->write_at(0, bytes_of(text)); !written) return std::unexpected(std::move(written).error().with("job directory '" + path + "'").advise(kElsewhere));
  return lock;
}

Result<std::unique_ptr<File>> open_directory(FileSystem& fs, const std::string& path) { return fs.open(path, OpenMode::read); }

std::string socket_address(const std::string& path, const File& directory) {
  std::string plain = path + "/control.sock";
  if (plain.size() <= kSocketPathBytes || directory.descriptor() < 0) return plain;
  return fmt::format("/proc/self/fd/{}/control.sock", directory.descriptor());
}

}  // namespace

struct JobDirectory::Impl {
  FileSystem* fs = nullptr;
  std::string path;
  std::unique_ptr<File> directory;
  std::unique_ptr<File> lock;
};

JobDirectory::JobDirectory(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
JobDirectory::JobDirectory(JobDirectory&&) noexcept = default;
JobDirectory& JobDirectory::operator=(JobDirectory&&) noexcept = default;
JobDirectory::~JobDirectory() = default;

const std::string& JobDirectory::path() const { return impl_->path; }
std::string JobDirectory::file(std::string_view name) const { return impl_->path + "/" + std::string(name); }
std::string JobDirectory::worker_log(std::uint32_t slot) const { return fmt::format("{}/workers/{}.log", impl_->path, slot); }
std::string JobDirectory::control_socket_address() const { return socket_address(impl_->path, *impl_->directory); }

Result<> refuse_network_file_system(FileSystem& fs, const std::string& path) {
  DROVER_TRY(const bool network, fs.is_network(path));
  if (network)
    return fail(ErrorCode::refused, "'" + path + "' is on a network file system, where locks and mapped pages do not hold", "name a directory on a local disk with --job");
  return {};
}

Result<JobDirectory> JobDirectory::create(FileSystem& fs, const JobDirectoryOptions& options, const Holder& self) {
  std::string path;
  if (!options.path.empty()) {
    path = absolute(options.path);
    auto stat = fs.stat(path);
    if (stat && stat->kind != FileKind::directory) return fail(ErrorCode::refused, "job directory '" + path + "': this is a file", kElsewhere);
    if (!stat && stat.error().code() != ErrorCode::not_found) return std::unexpected(std::move(stat).error().with("job directory '" + path + "'").advise(kElsewhere));
    if (!stat) {
      if (auto made = fs.make_directories(path); !made) return std::unexpected(std::move(made).error().with("job directory '" + path + "'").advise(kElsewhere));
    }
    DROVER_TRY(const std::vector<std::string> names, fs.list(path));
    if (std::ranges::find(names, "ledger.db") != names.end())
      return fail(ErrorCode::exists, "job directory '" + path + "' holds a job already", "`drover resume " + path + "` goes on with it");
    for (const std::string& name : names)
      if (std::ranges::find(kOwnNames, name) == kOwnNames.end())
        return fail(ErrorCode::refused, "job directory '" + path + "' is not empty: it holds '" + name + "'", kElsewhere);
  } else {
    const std::string base = absolute(options.base) + "/drover-jobs";
    if (auto made = fs.make_directories(base); !made) return std::unexpected(std::move(made).error().with("job directory").advise(kElsewhere));
    std::string date = options.date;
    if (date.empty()) {
      date = wall_now().substr(0, 10);
      std::erase(date, '-');
    }
    for (std::uint32_t n = 1;; ++n) {
      path = fmt::format("{}/{}-{}-{}", base, options.workload, date, n);
      auto made = fs.make_directory(path);
      if (made) break;
      if (made.error().code() != ErrorCode::exists || n == 1'000'000) return std::unexpected(std::move(made).error().with("job directory").advise(kElsewhere));
    }
  }
  DROVER_CHECK(refuse_network_file_system(fs, path));

  auto impl = std::make_unique<Impl>();
  impl->fs = &fs;
  impl->path = path;
  DROVER_TRY(impl->lock, take_lock(fs, path, self));
  const auto fill = [&]() -> Result<> {
    for (const std::string_view name : kSubdirectories) {
      auto made = fs.make_directory(path + "/" + std::string(name));
      if (!made && made.error().code() != ErrorCode::exists) return made;
    }
    DROVER_CHECK(fs.replace_file(path + "/job.toml", options.job_toml));
    DROVER_TRY(impl->directory, open_directory(fs, path));
    DROVER_CHECK(fs.sync_directory(path));
    return fs.sync_directory(parent_of(path));
  };
  if (auto filled = fill(); !filled) return std::unexpected(std::move(filled).error().with("job directory '" + path + "'").advise(kElsewhere));
  return JobDirectory(std::move(impl));
}

Result<JobDirectory> JobDirectory::open(FileSystem& fs, const std::string& path_in, const Holder& self) {
  const std::string path = absolute(path_in);
  auto stat = fs.stat(path);
  if (!stat) {
    if (stat.error().code() == ErrorCode::not_found) return fail(ErrorCode::not_found, "there is no job directory '" + path + "'", "`drover ps` lists the jobs of this host");
    return std::unexpected(std::move(stat).error().with("job directory '" + path + "'"));
  }
  if (stat->kind != FileKind::directory) return fail(ErrorCode::refused, "'" + path + "' is a file, not a job directory", "`drover ps` lists the jobs of this host");
  DROVER_TRY(const bool there, fs.exists(path + "/ledger.db"));
  if (!there) return fail(ErrorCode::not_found, "'" + path + "' is not a job directory: it has no ledger.db", "`drover ps` lists the jobs of this host");
  DROVER_CHECK(refuse_network_file_system(fs, path));
  auto impl = std::make_unique<Impl>();
  impl->fs = &fs;
  impl->path = path;
  DROVER_TRY(impl->lock, take_lock(fs, path, self));
  DROVER_TRY(impl->directory, open_directory(fs, path));
  for (const std::string_view name : kSubdirectories) {
    auto made = fs.make_directory(path + "/" + std::string(name));
    if (!made && made.error().code() != ErrorCode::exists) return std::unexpected(std::move(made).error().with("job directory '" + path + "'"));
  }
  return JobDirectory(std::move(impl));
}

Result<SocketAddress> control_socket_of(FileSystem& fs, const std::string& job_path) {
  const std::string path = absolute(job_path);
  SocketAddress address;
  DROVER_TRY(address.directory, open_directory(fs, path));
  address.path = socket_address(path, *address.directory);
  return address;
}

Result<std::optional<Holder>> holder_of(FileSystem& fs, const std::string& job_path) {
  auto holder = read_holder(fs, absolute(job_path) + "/lock");
  if (!holder || !is_alive(*holder)) return std::nullopt;
  return holder;
}

Result<Holder> self_as_holder() {
  Holder self;
  self.pid = ::getpid();
  DROVER_TRY(self.start_ticks, start_time_ticks(self.pid));
  self.boot_id = boot_id();
  self.host = host_name();
  self.started = wall_now();
  return self;
}

bool is_alive(const Holder& holder) {
  if (holder.boot_id != boot_id()) return false;
  const auto ticks = start_time_ticks(holder.pid);
  if (!ticks || *ticks != holder.start_ticks) return false;
  const auto state = state_of(holder.pid);
  return state && *state != 'Z' && *state != 'X';  // a zombie holds nothing any more
}

// ---- Registry ---------------------------------------------------------------------------------------------------------------

std::string registry_directory(std::string_view xdg_state_home, std::string_view home) {
  if (!xdg_state_home.empty()) return std::string(xdg_state_home) + "/drover/jobs";
  if (!home.empty()) return std::string(home) + "/.local/state/drover/jobs";
  return {};
}

namespace {
std::string entry_path(const std::string& registry, const std::string& job_path) {
  std::array<std::byte, 8> key{};
  put_le(key.data(), xxh3_64(bytes_of(job_path)));
  return registry + "/" + drover::hex_of(key) + ".json";
}
std::unexpected<Error> no_registry() { return fail(ErrorCode::unavailable, "there is no place for the list of jobs: neither XDG_STATE_HOME nor HOME is set"); }
}  // namespace

Result<> register_job(FileSystem& fs, const std::string& registry, const RegistryEntry& entry) {
  if (registry.empty()) return no_registry();
  DROVER_CHECK(fs.make_directories(registry, 0700));
  const std::string job = absolute(entry.job_path);
  const json object = {{"job", job}, {"workload", entry.workload}, {"holder", json::parse(text_of_holder(entry.holder))}};
  return fs.replace_file(entry_path(registry, job), object.dump(-1, ' ', false, json::error_handler_t::replace) + "\n", 0600);
}

Result<> unregister_job(FileSystem& fs, const std::string& registry, const std::string& job_path) {
  if (registry.empty()) return no_registry();
  auto gone = fs.unlink(entry_path(registry, absolute(job_path)));
  if (!gone && gone.error().code() == ErrorCode::not_found) return {};
  return gone;
}

Result<std::vector<RegistryEntry>> list_jobs(FileSystem& fs, const std::string& registry) {
  if (registry.empty()) return no_registry();
  auto names = fs.list(registry);
  if (!names) {
    if (names.error().code() == ErrorCode::not_found) return std::vector<RegistryEntry>{};
    return std::unexpected(std::move(names).error());
  }
  std::vector<RegistryEntry> entries;
  for (const std::string& name : *names) {
    if (!name.ends_with(".json")) continue;
    const std::string path = registry + "/" + name;
    const auto text = fs.read_file(path, 64 * 1024);
    if (!text) continue;  // went away meanwhile, or not ours to read
    const json object = json::parse(*text, nullptr, false);
    std::optional<Holder> holder;
    if (object.is_object() && object.contains("holder")) holder = holder_from(object["holder"]);
    bool keep = false;
    if (holder && object.contains("job") && object["job"].is_string() && object.contains("workload") && object["workload"].is_string()) {
      RegistryEntry entry{.job_path = object["job"].get<std::string>(), .workload = object["workload"].get<std::string>(), .holder = *holder, .alive = is_alive(*holder)};
      const auto stat = fs.stat(entry.job_path);
      keep = stat.has_value() && entry.alive;
      if (stat) entries.push_back(std::move(entry));
    }
    if (keep) continue;
    // Unless a resume has replaced it since we read it.
    if (const auto again = fs.read_file(path, 64 * 1024); again && *again == *text) (void)fs.unlink(path);
  }
  return entries;
}

}  // namespace drover::store
