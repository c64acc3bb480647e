#include "os/limits.hpp"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <optional>

#include "os/cgroup_paths.hpp"
#include "os/file_facts.hpp"
#include "os/helper_process.hpp"
#include "os/pidfd.hpp"
#include "os/proc_file.hpp"

namespace drover {
namespace {

constexpr std::string_view kPrefix = "drover.";

bool has_file(const std::string& directory, const char* name) { return ::access((directory + "/" + name).c_str(), F_OK) == 0; }
bool can_write(const std::string& directory, const char* name) { return ::access((directory + "/" + name).c_str(), W_OK) == 0; }

std::optional<std::uint64_t> number_in(std::string_view text) {
  std::uint64_t value = 0;
  if (std::from_chars(text.data(), text.data() + text.size(), value).ec != std::errc{}) return std::nullopt;
  return value;
}

/// The number behind `key` in a file of "key number" lines.
std::uint64_t counter(const std::string& path, std::string_view key) {
  const std::string text = read_proc_file(path).value_or("");
  std::size_t at = 0;
  while (at < text.size()) {
    const auto line = std::string_view(text).substr(at, text.find('\n', at) - at);
    if (line.starts_with(key) && line.size() > key.size() && line[key.size()] == ' ')
      return number_in(line.substr(key.size() + 1)).value_or(0);
    at += line.size() + 1;
  }
  return 0;
}

std::vector<std::string> subdirectories(const std::string& directory) {
  std::vector<std::string> names;
  DIR* stream = ::opendir(directory.c_str());
  if (stream == nullptr) return names;
  while (const dirent* entry = ::readdir(stream))
    if (entry->d_type == DT_DIR && entry->d_name[0] != '.') names.emplace_back(entry->d_name);
  ::closedir(stream);
  return names;
}

/// rmdir of it and everything below: a worker may have made cgroups of its own. 0 or errno.
int remove_tree(const std::string& directory, int depth = 0) {
  if (depth < 16)
    for (const std::string& name : subdirectories(directory)) (void)remove_tree(directory + "/" + name, depth + 1);
  if (::rmdir(directory.c_str()) == 0 || errno == ENOENT) return 0;
  return errno;
}

std::vector<pid_t> processes_in(const std::string& directory) {
  std::vector<pid_t> pids;
  const std::string text = read_proc_file(directory + "/cgroup.procs").value_or("");
  std::size_t at = 0;
  while (at < text.size()) {
    const auto end = std::min(text.find('\n', at), text.size());
    if (const auto pid = number_in(std::string_view(text).substr(at, end - at)); pid && *pid > 0) pids.push_back(static_cast<pid_t>(*pid));
    at = end + 1;
  }
  return pids;
}

/// Where cgroup.kill is missing. The pidfd is opened first and membership checked after: the process that gets the signal is
/// the one that was inside.
void kill_one_by_one(const std::string& directory) {
  for (const std::string& name : subdirectories(directory)) kill_one_by_one(directory + "/" + name);
  for (int round = 0; round < 16; ++round) {
    const std::vector<pid_t> pids = processes_in(directory);
    if (pids.empty()) return;
    std::vector<std::pair<pid_t, PidFd>> held;
    for (const pid_t pid : pids)
      if (auto process = PidFd::open(pid)) held.emplace_back(pid, std::move(*process));
    const std::vector<pid_t> still = processes_in(directory);
    for (const auto& [pid, process] : held)
      if (std::ranges::find(still, pid) != still.end()) (void)process.send(SIGKILL);
  }
}

void kill_all_in(const std::string& directory) {
  if (can_write(directory, "cgroup.kill") && write_proc_file(directory + "/cgroup.kill", "1")) return;
  kill_one_by_one(directory);
}

/// drover.<label>.<a number nobody else has>.
std::string own_name(std::string_view label) {
  static std::atomic<unsigned> count{0};
  std::string plain(label.substr(0, 40));
  for (char& letter : plain)
    if ((letter < 'a' || letter > 'z') && (letter < '0' || letter > '9')) letter = '-';
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return fmt::format("{}{}.{}{:09}.{}.{}", kPrefix, plain, now.tv_sec, now.tv_nsec, ::getpid(), count.fetch_add(1));
}

/// Whoever made a cgroup holds its lock as long as it lives, in whatever PID namespace that is.
void sweep_leftovers(const std::string& parent) {
  for (const std::string& name : subdirectories(parent)) {
    if (!name.starts_with(kPrefix)) continue;
    const std::string directory = parent + "/" + name;
    const auto dead = lock_directory(directory);
    if (!dead) continue;
    for (const std::string& leaf : subdirectories(directory)) kill_all_in(directory + "/" + leaf);
    kill_all_in(directory);
    (void)remove_tree(directory);  // busy: the next start gets it
  }
}

/// Somebody put a bound on exactly this level.
bool sets_limits(const std::string& directory) {
  for (const char* name : {"memory.max", "memory.high", "pids.max", "cpu.max"})
    if (const auto text = read_proc_file(directory + "/" + name); text && !text->starts_with("max")) return true;
  return false;
}

}  // namespace

// ------------------------------------------------------------------------------------------------------ CgroupLeaf

CgroupLeaf& CgroupLeaf::operator=(CgroupLeaf&& other) noexcept {
  if (this != &other) {
    (void)remove();
    directories_ = std::move(other.directories_);
    other.directories_.clear();
  }
  return *this;
}

CgroupLeaf::~CgroupLeaf() { (void)remove(); }

std::vector<int> CgroupLeaf::procs_fds() const {
  std::vector<int> fds;
  for (const Directory& directory : directories_) fds.push_back(directory.procs.get());
  return fds;
}

Result<void> CgroupLeaf::join(pid_t pid) const {
  for (const Directory& directory : directories_) DROVER_CHECK(write_proc_file(directory.path + "/cgroup.procs", std::to_string(pid)));
  return {};
}

Result<void> CgroupLeaf::set_limits(const WorkerLimits& limits) {
  for (const Directory& directory : directories_) {
    const auto put = [&directory](const char* name, std::uint64_t value, const char* unlimited) -> Result<void> {
      return write_proc_file(directory.path + name, value == 0 ? std::string(unlimited) : std::to_string(value));
    };
    if (directory.memory && directory.is_v2) {
      DROVER_CHECK(put("/memory.max", limits.memory_bytes, "max"));
      if (has_file(directory.path, "memory.swap.max")) DROVER_CHECK(write_proc_file(directory.path + "/memory.swap.max", limits.memory_bytes == 0 ? "max" : "0"));
    } else if (directory.memory) {
      // Memory and swap together are never less than memory alone: which is set first depends on the direction.
      const bool swap = has_file(directory.path, "memory.memsw.limit_in_bytes");
      const bool widened = swap && put("/memory.memsw.limit_in_bytes", limits.memory_bytes, "-1").has_value();
      DROVER_CHECK(put("/memory.limit_in_bytes", limits.memory_bytes, "-1"));
      if (swap && !widened) DROVER_CHECK(put("/memory.memsw.limit_in_bytes", limits.memory_bytes, "-1"));
    }
    if (directory.pids) DROVER_CHECK(put("/pids.max", limits.processes, "max"));
  }
  return {};
}

Result<bool> CgroupLeaf::kill() const {
  for (const Directory& directory : directories_) {
    if (!directory.is_v2 || !has_file(directory.path, "cgroup.kill")) continue;
    DROVER_CHECK(write_proc_file(directory.path + "/cgroup.kill", "1"));
    return true;
  }
  return false;
}

bool CgroupLeaf::is_empty() const {
  for (const Directory& directory : directories_)
    if (directory.is_v2 ? counter(directory.path + "/cgroup.events", "populated") != 0 : !processes_in(directory.path).empty())
      return false;
  return true;
}

std::uint64_t CgroupLeaf::oom_kills() const {
  for (const Directory& directory : directories_)
    if (directory.memory) return counter(directory.path + (directory.is_v2 ? "/memory.events" : "/memory.oom_control"), "oom_kill");
  return 0;
}

std::optional<Nanos> CgroupLeaf::cpu() const {
  for (const Directory& directory : directories_)
    if (directory.is_v2 && has_file(directory.path, "cpu.stat")) return Nanos(std::chrono::microseconds(counter(directory.path + "/cpu.stat", "usage_usec")));
  return std::nullopt;
}

LeafUsage CgroupLeaf::usage() const {
  LeafUsage usage;
  usage.oom_kills = oom_kills();
  for (const Directory& directory : directories_) {
    if (directory.memory) {
      const char* peak = directory.is_v2 ? "/memory.peak" : "/memory.max_usage_in_bytes";
      usage.memory_peak_bytes = number_in(read_proc_file(directory.path + peak).value_or("")).value_or(0);
      usage.memory_bytes = number_in(read_proc_file(directory.path + (directory.is_v2 ? "/memory.current" : "/memory.usage_in_bytes")).value_or("")).value_or(0);
    }
    if (directory.pids) usage.fork_refusals = counter(directory.path + "/pids.events", "max");
  }
  return usage;
}

Result<void> CgroupLeaf::remove() {
  while (!directories_.empty()) {
    if (const int error = remove_tree(directories_.back().path); error != 0)
      return fail_errno(error, "remove cgroup '" + directories_.back().path + "'");
    directories_.pop_back();
  }
  return {};
}

// ------------------------------------------------------------------------------------------------------ CgroupTree

namespace {

struct Parent {
  std::string path;
  bool memory = false;
  bool pids = false;
};

/// Where below `mount` the job's directory can be made, best first found: with controllers, else just a place (v2 only, for
/// cgroup.kill).
std::optional<Parent> find_parent(const CgroupMount& mount, const std::string& name) {
  std::optional<Parent> plain;
  const auto levels = mount.own_directory_and_parents();
  for (std::size_t i = 0; i < levels.size(); ++i) {
    if (i > 0 && (!mount.is_v2 || sets_limits(levels[i - 1]))) break;  // v1 allows children beside processes: no need to climb
    const std::string& level = levels[i];
    if (::access(level.c_str(), W_OK) != 0) continue;
    if (!mount.is_v2) return Parent{level, mount.has("memory"), mount.has("pids")};
    const auto enabled = [&level](const char* controller) {
      const auto text = read_proc_file(level + "/cgroup.subtree_control").value_or("");
      return text.find(controller) != std::string::npos;
    };
    const auto offered = read_proc_file(level + "/cgroup.controllers").value_or("");
    // Turning a controller on fails with EBUSY while processes are inside, except at the root: then the next level is tried.
    for (const char* controller : {"memory", "pids"})
      if (offered.find(controller) != std::string::npos && !enabled(controller))
        (void)write_proc_file(level + "/cgroup.subtree_control", std::string("+") + controller);
    const std::string trial = level + "/trial-" + name;  // of no name that is swept
    if (::mkdir(trial.c_str(), 0755) != 0) continue;
    Parent parent{level, has_file(trial, "memory.max"), has_file(trial, "pids.max")};
    ::rmdir(trial.c_str());
    if (parent.memory && parent.pids) return parent;
    if (!plain) plain = parent;
  }
  return plain;
}

}  // namespace

Result<CgroupTree> CgroupTree::create(std::string_view label) {
  CgroupTree tree;
  const std::string name = own_name(label);
  bool have_memory = false;
  bool have_pids = false;
  for (const CgroupMount& mount : cgroup_mounts()) {
    if (!mount.is_v2 && !mount.has("memory") && !mount.has("pids")) continue;
    const auto parent = find_parent(mount, name);
    if (!parent) continue;
    sweep_leftovers(parent->path);
    Branch branch{.is_v2 = mount.is_v2,
                  .memory = parent->memory && !have_memory,
                  .pids = parent->pids && !have_pids};
    if (!mount.is_v2 && !branch.memory && !branch.pids) continue;
    for (int tries = 0; tries < 10 && !branch.lock.valid(); ++tries) {
      branch.path = parent->path + "/" + own_name(label);
      if (::mkdir(branch.path.c_str(), 0755) != 0) break;
      // Else another's sweep took it for a leftover, between the two.
      if (auto lock = lock_directory(branch.path); lock && has_file(branch.path, "cgroup.procs")) branch.lock = std::move(*lock);
    }
    if (!branch.lock.valid()) continue;
    branch.kill = mount.is_v2 && can_write(branch.path, "cgroup.kill");
    if (mount.is_v2) {
      if (branch.memory) branch.memory = write_proc_file(branch.path + "/cgroup.subtree_control", "+memory").has_value();
      if (branch.pids) branch.pids = write_proc_file(branch.path + "/cgroup.subtree_control", "+pids").has_value();
    }
    if (!branch.memory && !branch.pids && !branch.kill) {
      ::rmdir(branch.path.c_str());
      continue;
    }
    have_memory |= branch.memory;
    have_pids |= branch.pids;
    const LimitLayer layer = mount.is_v2 ? LimitLayer::cgroup_v2 : LimitLayer::cgroup_v1;
    if (branch.memory) tree.layers_.memory = layer;
    if (branch.pids) tree.layers_.processes = layer;
    if (branch.kill) tree.layers_.tree_kill = LimitLayer::cgroup_v2;
    tree.branches_.push_back(std::move(branch));
  }
  if (!have_memory) tree.layers_.memory = LimitLayer::polling;
  if (!have_pids) tree.layers_.processes = ::geteuid() != 0 ? LimitLayer::rlimit : LimitLayer::absent;
  return tree;
}

void CgroupTree::sweep() {
  for (const CgroupMount& mount : cgroup_mounts())
    for (const std::string& level : mount.own_directory_and_parents()) sweep_leftovers(level);
}

CgroupTree& CgroupTree::operator=(CgroupTree&& other) noexcept {
  if (this != &other) {
    for (const Branch& branch : branches_) (void)remove_tree(branch.path);
    branches_ = std::move(other.branches_);
    other.branches_.clear();
    layers_ = other.layers_;
  }
  return *this;
}

CgroupTree::~CgroupTree() {
  for (const Branch& branch : branches_) (void)remove_tree(branch.path);
}

Result<CgroupLeaf> CgroupTree::make_leaf(std::string_view name, const WorkerLimits& limits) {
  CgroupLeaf leaf;  // its destructor takes back a half-made one
  for (const Branch& branch : branches_) {
    CgroupLeaf::Directory directory{
        .is_v2 = branch.is_v2, .memory = branch.memory, .pids = branch.pids, .path = branch.path + "/" + std::string(name)};
    if (::mkdir(directory.path.c_str(), 0755) != 0) return fail_errno(errno, "create cgroup '" + directory.path + "'");
    leaf.directories_.push_back(std::move(directory));
    CgroupLeaf::Directory& made = leaf.directories_.back();
    const std::string procs = made.path + "/cgroup.procs";
    made.procs.reset(::open(procs.c_str(), O_WRONLY | O_CLOEXEC));
    if (!made.procs) return fail_errno(errno, "open '" + procs + "'");
    if (made.memory && made.is_v2 && limits.memory_bytes > 0 && has_file(made.path, "memory.oom.group")) DROVER_CHECK(write_proc_file(made.path + "/memory.oom.group", "1"));
  }
  if (limits.memory_bytes > 0 || limits.processes > 0) DROVER_CHECK(leaf.set_limits(limits));
  return leaf;
}

// ------------------------------------------------------------------------------------------------------ probe

HostLimits probe_limits() {
  HostLimits host;
  if (auto tree = CgroupTree::create("probe")) {
    host.layers = tree->layers();
    if (auto leaf = tree->make_leaf("leaf", WorkerLimits{.memory_bytes = 64u << 20, .processes = 16}); !leaf) {
      host.lines.push_back("cgroup: " + leaf.error().what());
      host.layers.memory = LimitLayer::polling;
      host.layers.processes = ::geteuid() != 0 ? LimitLayer::rlimit : LimitLayer::absent;
      host.layers.tree_kill = LimitLayer::absent;
    }
  }
  host.layers.containment = probe_containment();

  const auto line = [&host](std::string_view what, LimitLayer layer, std::string_view meaning) {
    host.lines.push_back(std::string(what) + ": " + std::string(name_of(layer)) + " - " + std::string(meaning));
  };
  switch (host.layers.memory) {
    case LimitLayer::cgroup_v2:
    case LimitLayer::cgroup_v1:
      line("memory", host.layers.memory,
           "enforced by the kernel per incarnation, its whole tree; exceeding it is out_of_memory with the limit and the peak");
      break;
    default:
      line("memory", host.layers.memory,
           "the resident set of the worker process is read every 50 ms; a faster leak gets past it. A writable cgroup (systemd: "
           "Delegate=yes) would enforce it");
      break;
  }
  switch (host.layers.processes) {
    case LimitLayer::cgroup_v2:
    case LimitLayer::cgroup_v1: line("processes", host.layers.processes, "enforced by the kernel per incarnation"); break;
    case LimitLayer::rlimit: line("processes", host.layers.processes, "RLIMIT_NPROC, which counts every process of this user"); break;
    default:
      line("processes", host.layers.processes, "not enforced: root is exempt from RLIMIT_NPROC and no pids cgroup is writable");
      break;
  }
  switch (host.layers.containment) {
    case LimitLayer::pid_namespace:
      line("containment", host.layers.containment, "no process of a run outlives it: the kernel ends the namespace");
      break;
    case LimitLayer::user_pid_namespace:
      line("containment", host.layers.containment, "as an ordinary user; no process of a run outlives it");
      break;
    default:
      line("containment", host.layers.containment,
           "best effort: this host gives no PID namespace (container without user namespaces?); guard, judge and scan refuse");
      break;
  }
  if (host.layers.tree_kill == LimitLayer::cgroup_v2)
    line("tree kill", host.layers.tree_kill, "cgroup.kill ends an incarnation's whole tree at once");
  else
    line("tree kill", host.layers.tree_kill, "the keeper sweeps what a dead incarnation leaves behind");
  return host;
}

}  // namespace drover
