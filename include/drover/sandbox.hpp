#pragma once
/// Runs hostile programs, one at a time, each in a world of its own: no network, a read-only root of what was bound, a fresh tmpfs of
/// bounded size and inodes as its working directory /w (also /tmp and /dev/shm), a uid nobody had before, no capabilities, landlock and
/// a default-deny seccomp filter. A sandbox is made once (some milliseconds) and reused: between two runs nothing is left, which is
/// proved, not assumed: PID 1 of its namespace kills every other process and reaps until there is none.
///
///   auto sandbox = drover::Sandbox::start({}, in(5s));
///   auto end = sandbox->run({.argv = {"/usr/bin/python3", "main.py"}, .files = {{"main.py", source}}, .input = "3 4\n"});
///   if (end && end->kind == drover::SandboxEndKind::exited && end->code == 0) ...                     // end->output is what it printed
///
/// Whatever the program does is a value (SandboxEnd) with its evidence. An Error is the host's or ours, never the program's: the
/// sandbox is then of no more use, make another.
///
/// Made and used by one thread of a worker; the worker's end, by any signal, ends everything in it.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "drover/types/bytes.hpp"
#include "drover/types/error.hpp"
#include "drover/types/time.hpp"

namespace drover {

/// How much of a wall this host allows. Each has a containment table in docs/judge_threat_model.md.
enum class SandboxProfile : std::uint8_t {
  root,    ///< all namespaces and a uid of its own for each run; needs CAP_SYS_ADMIN
  userns,  ///< the same in a user namespace, for an ordinary user: every run is that user, without a capability
  /// No namespace at all, for inside a container that forbids them: a uid of its own (needs CAP_SETUID, CAP_SETGID, CAP_CHOWN, CAP_KILL),
  /// landlock, seccomp, rlimits. A run works in a directory of the host (its HOME) instead of /w, and has no /tmp, /dev/shm and /proc.
  container,
};
/// Strongest first.
inline constexpr SandboxProfile kSandboxProfiles[] = {SandboxProfile::root, SandboxProfile::userns, SandboxProfile::container};
std::string_view name_of(SandboxProfile profile);

struct SandboxBind {
  std::string source{};  ///< on the host; "@TARGET" makes a symbolic link instead
  std::string path{};    ///< inside, absolute
};

/// An interpreter that is started once, loads what all runs need, and forks a locked-down child for each: a run costs the fork, not the start.
/// It holds nothing of any run, and no run can reach it: by a uid of their own (root), or by a PID namespace for each run (userns). Where it
/// cannot be had has_zygote() is false.
struct SandboxZygote {
  std::string python{};                                        ///< "" = none; a CPython 3.9 or newer with ctypes
  bool site = false;                                           ///< with its site-packages
  std::vector<std::string> preload{};                          ///< modules; what cannot be imported is left out
  std::vector<std::pair<std::string, std::string>> programs{}; ///< name and source of what runs may name: executed once, in the zygote; a run calls its main()
};

struct SandboxOptions {
  std::optional<SandboxProfile> profile{};  ///< nothing: the strongest this host allows
  std::vector<SandboxBind> binds{};         ///< empty: system_binds()
  std::string require{};                    ///< layers without which start() is refused: "seccomp,landlock,net_namespace"
  SandboxZygote zygote{};
  std::string leave_out{};                  ///< layers not to use: for tests that show what each is good for
};

/// /usr and what belongs to it, the loader's cache, users' and groups' names, time zone, null, zero, full, random, urandom.
std::vector<SandboxBind> system_binds();

struct SandboxLimits {
  Nanos cpu = Seconds(10);                        ///< of all its processes together
  Nanos wall = Seconds(30);                       ///< a guard against sleepers, no measure: what it waited for a core is given back, up to as much again
  std::uint64_t memory_bytes = std::uint64_t{512} << 20;   ///< resident, of all together; looked at every 10 ms, and where there is a memory cgroup (with its files in /w and the kernel's for it) the kernel's to hold
  std::uint64_t address_bytes = std::uint64_t{4} << 30;    ///< address space of each process; 0 = none (node, JVM)
  std::uint64_t output_bytes = std::uint64_t{16} << 20;    ///< of stdout; stderr is cut silently at `error_bytes`
  std::uint64_t error_bytes = std::uint64_t{64} << 10;
  std::uint64_t disk_bytes = std::uint64_t{64} << 20;      ///< of /w
  std::uint64_t inodes = 4096;
  std::uint64_t stack_bytes = std::uint64_t{64} << 20;
  std::uint32_t processes = 64;                   ///< and threads
  std::uint32_t open_files = 256;
};

struct SandboxFile {
  std::string name{};      ///< in /w, no slash
  std::string_view bytes{};///< borrowed until run() returns
};

struct SandboxRun {
  std::vector<std::string> argv{};  ///< argv[0]: a path inside, or relative to /w
  bool from_zygote = false;         ///< argv[0] is the name of one of the zygote's programs; `env` is the zygote's
  std::vector<std::string> env{};   ///< complete; empty = PATH, HOME=/w, LANG=C.UTF-8, TZ=UTC, PYTHONHASHSEED=0, PYTHONSAFEPATH=1
  std::vector<SandboxFile> files{}; ///< at most 16; readable, writable and executable by the run
  std::string_view input{};         ///< its stdin, read-only
  SandboxLimits limits{};
  int channel = -1;                 ///< becomes descriptor 3; borrowed until the run has begun (see `begun`)
  std::string take{};               ///< file of /w to be handed out in SandboxEnd::taken if it is a regular one of at most take_max bytes
  std::uint64_t take_max = std::uint64_t{64} << 20;
};

enum class SandboxEndKind : std::uint8_t {
  exited,          ///< code
  signalled,       ///< code = signal
  denied_syscall,  ///< killed by the seccomp filter (SIGSYS)
  cpu_limit,
  wall_limit,
  memory_limit,
  output_limit,
  cancelled,       ///< by `stop`
  not_started,     ///< it could not be executed, or its files do not fit into /w: code = errno
};
std::string_view name_of(SandboxEndKind kind);

struct SandboxEnd {
  SandboxEndKind kind{};
  int code = 0;
  std::string output{}, errors{};   ///< stdout and stderr, each up to its limit
  bool errors_cut = false;
  Nanos cpu{}, wall{};              ///< cpu: of all processes, by the kernel's count at their end
  std::optional<Nanos> starved{};   ///< of a wall_limit: how long it waited for a core meanwhile. Nothing: not known, or it had more than one thread
  std::uint64_t rss_peak_bytes = 0;
  std::uint32_t processes_peak = 0, left_behind = 0;  ///< left_behind: lived when the first ended, and were killed
  std::optional<std::string> taken{};
};

class Sandbox {
 public:
  /// Errors: unavailable (this host allows no profile, or not the one asked for; the message has each step), refused (a required
  /// layer is missing: fails closed), timed_out, system.
  static Result<Sandbox> start(const SandboxOptions& options, TimePoint deadline);
  Sandbox(Sandbox&&) noexcept;
  Sandbox& operator=(Sandbox&&) noexcept;
  ~Sandbox();

  /// Returns within twice limits.wall and some 5 s. `stop` is asked every 50 ms; true ends the run as cancelled. `begun` is called once the
  /// run has been handed over with copies of its descriptors: the caller's copy of `channel` may be closed. Errors: usage (argv, names
  /// or sizes out of bounds; the sandbox stays usable), timed_out (a process cannot be killed), closed (the warden died), system.
  Result<SandboxEnd> run(const SandboxRun& run, const std::function<bool()>& stop = {}, const std::function<void()>& begun = {});

  SandboxProfile profile() const;
  bool has_zygote() const;
  /// What is in force, sorted: "ipc_namespace", "landlock", "net_namespace", "own_uid", "seccomp", ...
  const std::vector<std::string>& layers() const;

 private:
  struct Impl;
  explicit Sandbox(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// Runs two programs at once, each with one end of a stream as its descriptor 3 (`channel` of both is set here). The first leads: when it
/// ends the stream ends, and a second one that does not end by that within a second is cancelled. Errors: as Sandbox::run, of either.
Result<std::pair<SandboxEnd, SandboxEnd>> run_pair(Sandbox& first, SandboxRun first_run, Sandbox& second, SandboxRun second_run, const std::function<bool()>& stop = {});

}  // namespace drover
