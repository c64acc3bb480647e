#pragma once
/// One job, one directory. It reads with `ls` and `less`; docs/job_directory.md has a page on every name.
///
///   job.toml  ledger.db  ledger.reserve  events.jsonl  metrics.prom  lock  control.sock  live  checkpoints/  results/  workers/
///
/// The lock is an flock on `lock`, held for the JobDirectory's life and released by the kernel when its process dies, however
/// it dies. The descriptor is close-on-exec: no child of the supervisor can keep a job locked.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "drover/types/error.hpp"
#include "drover/types/time.hpp"
#include "os/file_system.hpp"

namespace drover::store {

/// Who holds a job: written into `lock` by the holder, checked against /proc before it is believed.
struct Holder {
  std::int32_t pid = 0;
  std::uint64_t start_ticks = 0;   ///< /proc/<pid>/stat field 22
  std::string boot_id{};
  std::string host{};
  std::string started{};             ///< RFC 3339
};

struct JobDirectoryOptions {
  std::string workload{};
  std::string path{};              ///< empty: drover-jobs/<workload>-<date>-<n> under `base`
  std::string base = ".";
  std::string date{};              ///< YYYYMMDD for the default name; empty: today
  std::string job_toml{};          ///< written to job.toml
};

class JobDirectory {
 public:
  /// Makes the directory and everything in it but ledger.db, takes the lock. A directory that exists is fine if it is empty;
  /// with a ledger in it: exists (advice: `drover resume`); not empty otherwise: refused. Not a directory, unwritable, full,
  /// network file system: an error that says which. On return the names are durable.
  static Result<JobDirectory> create(FileSystem& fs, const JobDirectoryOptions& options, const Holder& self);
  /// For a resume: takes the lock. busy names the holder's pid, host and start time.
  static Result<JobDirectory> open(FileSystem& fs, const std::string& path, const Holder& self);

  JobDirectory(JobDirectory&&) noexcept;
  JobDirectory& operator=(JobDirectory&&) noexcept;
  ~JobDirectory();

  const std::string& path() const;           ///< absolute
  std::string file(std::string_view name) const;   ///< path() + "/" + name
  std::string ledger() const { return file("ledger.db"); }
  std::string reserve() const { return file("ledger.reserve"); }
  std::string events() const { return file("events.jsonl"); }
  std::string metrics() const { return file("metrics.prom"); }
  std::string live() const { return file("live"); }
  std::string checkpoints() const { return file("checkpoints"); }
  std::string results() const { return file("results"); }
  std::string worker_log(std::uint32_t slot) const;
  /// At most 107 bytes whatever path() is: through /proc/self/fd when it would be longer. Valid in this process, while this lives.
  std::string control_socket_address() const;

 private:
  struct Impl;
  explicit JobDirectory(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// For a client of a running job: the same trick without the lock. `directory` keeps the address valid.
struct SocketAddress {
  std::unique_ptr<File> directory{};
  std::string path{};
};
Result<SocketAddress> control_socket_of(FileSystem& fs, const std::string& job_path);

/// Whom the lock file names, if that process still runs; nothing otherwise. Takes no lock, so it may be a moment late; a holder in
/// another PID namespace looks gone. JobDirectory::open asks the kernel and is never wrong.
Result<std::optional<Holder>> holder_of(FileSystem& fs, const std::string& job_path);

/// What is being written refuses a network file system: SQLite's locks and mapped pages do not hold there.
Result<> refuse_network_file_system(FileSystem& fs, const std::string& path);

// ---- Registry of jobs on this host, for `drover ps` -------------------------------------------------------------------------
/// One file a job under $XDG_STATE_HOME/drover/jobs (else ~/.local/state). A courtesy: a job runs without it.
struct RegistryEntry {
  std::string job_path{};
  std::string workload{};
  Holder holder;
  bool alive = false;   ///< set by list: the holder's process still is that process
};
std::string registry_directory(std::string_view xdg_state_home, std::string_view home);
Result<> register_job(FileSystem& fs, const std::string& registry, const RegistryEntry& entry);
Result<> unregister_job(FileSystem& fs, const std::string& registry, const std::string& job_path);
/// Entries whose directory is gone, or that cannot be read, are removed. Dead holders are listed once with alive = false, then
/// removed: their job is resumable and its own directory says so.
Result<std::vector<RegistryEntry>> list_jobs(FileSystem& fs, const std::string& registry);

/// This process, as a Holder.
Result<Holder> self_as_holder();
/// Whether the process that wrote `holder` still runs: same boot, same pid, same start time.
bool is_alive(const Holder& holder);

}  // namespace drover::store
