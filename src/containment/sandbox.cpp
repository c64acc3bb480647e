#include "drover/sandbox.hpp"

#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <thread>

#include "containment/zygote_source.hpp"
#include "keeper/helper_images.hpp"
#include "os/clock.hpp"
#include "os/file_facts.hpp"
#include "os/helper_image.hpp"
#include "os/helper_process.hpp"
#include "os/limits.hpp"
#include "os/memfd.hpp"
#include "os/message_socket.hpp"
#include "os/pipe.hpp"
#include "os/poller.hpp"
#include "os/process_stats.hpp"
#include "os/seccomp_filter.hpp"
#include "wire/warden_message.hpp"

namespace drover {
namespace {

namespace layer = wire::warden_layer;

constexpr std::uint64_t kFromWarden = 0, kFromOutput = 1, kFromErrors = 2;
constexpr std::uint32_t kUidFirst = 1'800'000'000, kUidCount = 1'000'000, kUidsOfContainer = 500;  // far from people's and from other sandboxes'
constexpr std::uint64_t kKernelMemory = std::uint64_t{64} << 20;  ///< page tables, pipes, sockets of a run: allowed beside its own
constexpr std::uint32_t kOwnProcesses = 4;  ///< warden, zygote, a run's PID 1, the one that kills
constexpr Nanos kUncounted = Millis(100);   ///< more CPU time than this beside the processes' own count is of children nobody waited for
constexpr Nanos kAskStop = Millis(50), kEndPatience = Seconds(7), kFollowerPatience = Seconds(1);

constexpr std::pair<std::uint32_t, std::string_view> kLayers[] = {
    {layer::kIpcNamespace, "ipc_namespace"}, {layer::kCpuCgroup, "cpu_cgroup"}, {layer::kLandlock, "landlock"},         {layer::kLandlockScope, "landlock_scope"},   {layer::kMountNamespace, "mount_namespace"}, {layer::kNetNamespace, "net_namespace"},
    {layer::kNoCapabilities, "no_capabilities"}, {layer::kNoNewPrivileges, "no_new_privileges"}, {layer::kOwnUid, "own_uid"}, {layer::kPidNamespace, "pid_namespace"}, {layer::kPrivateTmpfs, "private_tmpfs"},
    {layer::kProc, "proc"},                  {layer::kMemoryCgroup, "memory_cgroup"}, {layer::kProcessCgroup, "process_cgroup"}, {layer::kReadOnlyRoot, "read_only_root"}, {layer::kSeccomp, "seccomp"},              {layer::kUtsNamespace, "uts_namespace"},  {layer::kZygote, "zygote"}};

constexpr const char* step_name(wire::WardenStep step) {
  constexpr const char* kNames[] = {"none", "its orders", "the tmpfs", "its files", "fork", "descriptors", "limits", "the uid", "capabilities", "landlock", "seccomp", "exec", "the kill", "the root", "the binds", "/proc", "the zygote"};
  return static_cast<std::size_t>(step) < std::size(kNames) ? kNames[static_cast<std::size_t>(step)] : "an unknown step";
}

Result<std::uint32_t> layers_named(std::string_view list, std::string_view option) {
  std::uint32_t bits = 0;
  while (!list.empty()) {
    const std::string_view name = list.substr(0, list.find(','));
    list.remove_prefix(std::min(list.size(), name.size() + 1));
    const auto found = std::ranges::find(kLayers, name, &std::pair<std::uint32_t, std::string_view>::second);
    if (found == std::end(kLayers)) {
      std::string known;
      for (const auto& one : kLayers) known += (known.empty() ? "" : ", ") + std::string(one.second);
      return fail(ErrorCode::usage, std::string(option) + " '" + std::string(name) + "': no such layer", "layers: " + known);
    }
    bits |= found->first;
  }
  return bits;
}

/// Bytes of a string in memory nobody can change: stdin, files.
Result<Memfd> published(std::string_view name, std::string_view bytes) {
  DROVER_TRY(Memfd memory, Memfd::create(name, std::max<std::size_t>(bytes.size(), 1), MemfdUse::published));
  {
    DROVER_TRY(const Mapping mapping, memory.map_writable());
    std::memcpy(mapping.data(), bytes.data(), bytes.size());
  }
  DROVER_CHECK(memory.seal_writes());
  return memory;
}

/// A file of exactly these bytes (a memfd of ours is at least one byte long): read-only for whoever gets it.
Result<UniqueFd> as_file(std::string_view bytes) {
  if (bytes.empty()) return open_null();
  DROVER_TRY(Memfd memory, published("drover-sandbox", bytes));
  return reopen_read_only(memory.fd());
}

struct Home {
  std::string path{};
  UniqueFd lock{};  ///< as long as its owner lives, however it dies
};

/// A directory that nobody else has, to be passed on to the uid of each run. First those are removed whose owner and warden were killed
/// together: nobody holds their lock.
Result<Home> make_home() {
  namespace fs = std::filesystem;
  static std::atomic<std::uint32_t> made{0};
  const std::string prefix = "/tmp/drover-sandbox-";
  std::error_code error;
  for (const auto& entry : fs::directory_iterator("/tmp", error))
    if (const std::string path = entry.path(); path.starts_with(prefix))
      if (const auto stale = lock_directory(path)) fs::remove_all(path, error);
  for (int tries = 0; tries < 100; ++tries) {
    Home home{.path = prefix + std::to_string(system_clock().now().time_since_epoch().count()) + "-" + std::to_string(++made)};
    if (!fs::create_directory(home.path, error)) continue;
    fs::permissions(home.path, fs::perms::owner_all, error);
    auto lock = lock_directory(home.path);
    if (!lock || !path_exists(home.path)) continue;  // another took it for stale between the two
    home.lock = std::move(*lock);
    return home;
  }
  return fail(ErrorCode::system, "no directory for a sandbox can be made in /tmp");
}

}  // namespace

std::string_view name_of(SandboxProfile profile) { return profile == SandboxProfile::root ? "root" : profile == SandboxProfile::userns ? "userns" : "container"; }

std::string_view name_of(SandboxEndKind kind) {
  switch (kind) {
    using enum SandboxEndKind;
    case exited: return "exited";
    case signalled: return "signalled";
    case denied_syscall: return "denied_syscall";
    case cpu_limit: return "cpu_limit";
    case wall_limit: return "wall_limit";
    case memory_limit: return "memory_limit";
    case output_limit: return "output_limit";
    case cancelled: return "cancelled";
    case not_started: return "not_started";
  }
  std::unreachable();
}

std::vector<SandboxBind> system_binds() {
  std::vector<SandboxBind> binds{{"/usr", "/usr"}};
  for (const char* const name : {"bin", "sbin", "lib", "lib32", "lib64", "libx32"}) {
    const std::string path = std::string("/") + name;
    if (const auto target = link_target(path)) binds.push_back({"@" + *target, path});
    else if (path_exists(path)) binds.push_back({path, path});
  }
  for (const char* const path : {"/etc/ld.so.cache", "/etc/alternatives", "/etc/passwd", "/etc/group", "/etc/localtime", "/etc/java-17-openjdk", "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"})
    if (path_exists(path)) binds.push_back({path, path});
  return binds;
}

struct Sandbox::Impl {
  UniqueFd socket;
  HelperProcess warden;
  Poller poller;
  SandboxProfile profile{};
  std::vector<std::string> layers;
  std::uint32_t runs = 0;
  std::string home;  ///< profile container: the directory of its runs
  UniqueFd home_lock;
  std::vector<std::uint64_t> tokens;
  std::optional<CgroupTree> tree;  ///< the warden, the zygote and all runs are in its one leaf: to join costs no run anything
  CgroupLeaf leaf;
  std::uint64_t memory_before = 0; ///< charged before the first run
  WorkerLimits held;               ///< limits of the leaf, as set last

  explicit Impl(Poller made) : poller(std::move(made)) {}
  ~Impl() {
    socket.reset();  // it ends by that, and where no namespace ends with it, after its run
    if (!home.empty()) (void)warden.reap(after(system_clock().now(), Seconds(6)));
    warden.kill();
    (void)warden.reap(after(system_clock().now(), Millis(250)));
    std::error_code ignored;
    if (!home.empty()) std::filesystem::remove_all(home, ignored);
    (void)leaf.remove();  // what is left of it by a worker that was killed goes with the worker's own
  }

  /// A leaf for all of the sandbox, as far as this host has one. Never an error: the layers say what there is.
  void make_leaf(std::uint32_t left_out, std::uint32_t& held_layers) {
    auto made = CgroupTree::create("sandbox");
    if (!made) return;
    auto one = made->make_leaf("runs", {});
    if (!one || !one->join(warden.pid())) return;
    tree.emplace(std::move(*made));
    leaf = std::move(*one);
    const auto holds = [](LimitLayer by) { return by == LimitLayer::cgroup_v1 || by == LimitLayer::cgroup_v2; };
    if (holds(tree->layers().memory)) held_layers |= layer::kMemoryCgroup;
    if (holds(tree->layers().processes)) held_layers |= layer::kProcessCgroup;
    if (leaf.cpu()) held_layers |= layer::kCpuCgroup;
    held_layers &= ~left_out;
  }

  /// The limits of a run, where they differ from the last one's.
  void hold(const SandboxLimits& limits) {
    WorkerLimits wanted;
    if (has("memory_cgroup")) wanted.memory_bytes = memory_before + limits.memory_bytes + limits.disk_bytes + kKernelMemory;
    if (has("process_cgroup")) wanted.processes = limits.processes + kOwnProcesses;
    if (wanted == held) return;
    // What cannot be lowered now is lowered before the next run; the looks hold meanwhile.
    if (leaf.set_limits(wanted)) held = wanted;
  }
  std::optional<Nanos> cpu_of_runs() const {
    if (!has("cpu_cgroup")) return std::nullopt;
    const auto all = leaf.cpu();
    const auto own = cpu_time(warden.pid());
    return all && own ? std::optional(*all - *own) : std::nullopt;
  }
  bool has(std::string_view name) const { return std::ranges::find(layers, name) != layers.end(); }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  struct Word {
    wire::WardenReply reply;
    UniqueFd fd;
  };
  /// The warden's next word, or nothing yet.
  Result<std::optional<Word>> receive() {
    Word word;
    auto message = receive_message(socket.get(), std::as_writable_bytes(std::span(&word.reply, 1)));
    if (!message) {
      if (message.error().code() == ErrorCode::busy) return std::nullopt;
      return fail(ErrorCode::closed, "the sandbox's warden died");
    }
    if (message->size != sizeof word.reply || word.reply.magic != wire::kWardenMagic) return fail(ErrorCode::corrupt, "the sandbox's warden does not speak as it should");
    if (!message->fds.empty()) word.fd = std::move(message->fds.front());
    return word;
  }
};

Sandbox::Sandbox(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Sandbox::Sandbox(Sandbox&&) noexcept = default;
Sandbox& Sandbox::operator=(Sandbox&&) noexcept = default;
Sandbox::~Sandbox() = default;
SandboxProfile Sandbox::profile() const { return impl_->profile; }
bool Sandbox::has_zygote() const { return impl_->has("zygote"); }
const std::vector<std::string>& Sandbox::layers() const { return impl_->layers; }

Result<Sandbox> Sandbox::start(const SandboxOptions& options, TimePoint deadline) {
  DROVER_TRY(const std::uint32_t required, layers_named(options.require, "required layer"));
  DROVER_TRY(const std::uint32_t left_out, layers_named(options.leave_out, "left out layer"));
  const std::vector<SandboxBind> binds = options.binds.empty() ? system_binds() : options.binds;
  std::string strings;
  for (const SandboxBind& bind : binds) strings.append(bind.source).push_back('\0'), strings.append(bind.path).push_back('\0');
  std::vector<std::string> zygote;
  if (!options.zygote.python.empty()) {
    std::string preload;
    for (const std::string& module : options.zygote.preload) preload += (preload.empty() ? "" : ",") + module;
    // No -I and no -E: they would ignore PYTHONHASHSEED.
    zygote = {options.zygote.python, "-s", "-S", "-B", "-c", std::string(zygote_source()), preload};
    if (options.zygote.site) zygote.erase(zygote.begin() + 2);
    for (const auto& [name, source] : options.zygote.programs) zygote.insert(zygote.end(), {name, source});
  }
  for (const std::string& word : zygote) strings.append(word).push_back('\0');
  DROVER_TRY(const std::vector<std::byte> filter, candidate_filter());
  DROVER_TRY(const Memfd program, published("drover-seccomp", {reinterpret_cast<const char*>(filter.data()), filter.size()}));
  DROVER_TRY(const UniqueFd image, make_executable_image("drover-warden", warden_image()));
  DROVER_TRY(const PidFd self, PidFd::self());

  std::string why_not;
  for (const SandboxProfile profile : kSandboxProfiles) {
    if (options.profile && *options.profile != profile) continue;
    const bool container = profile == SandboxProfile::container;
    DROVER_TRY(Poller poller, Poller::create());
    auto impl = std::make_unique<Impl>(std::move(poller));
    impl->profile = profile;
    std::string words = strings;
    if (container) {
      DROVER_TRY(Home home, make_home());
      impl->home = std::move(home.path);
      impl->home_lock = std::move(home.lock);
      words.append(impl->home).push_back('\0');
    }
    DROVER_TRY(const Memfd blob, published("drover-sandbox-binds", words));
    DROVER_TRY(auto sockets, make_message_sockets());
    const std::vector<std::string> argv{"drover-warden"};
    const int fds[] = {sockets.second.get(), self.fd()};
    const auto not_this = [&](const std::string& why) { why_not += (why_not.empty() ? "" : "; ") + std::string(name_of(profile)) + ": " + why; };
    auto helper = start_helper({.image = image.get(), .argv = argv, .fds = fds, .namespaces = container ? HelperNamespaces::none : profile == SandboxProfile::root ? HelperNamespaces::pid : HelperNamespaces::root_in_user_and_pid}, deadline);
    if (!helper) {
      not_this(helper.error().what());
      continue;
    }
    impl->warden = std::move(*helper);
    impl->socket = std::move(sockets.first);
    sockets.second.reset();
    DROVER_CHECK(impl->poller.add(impl->socket.get(), kFromWarden));
    std::uint32_t held = 0;
    impl->make_leaf(left_out, held);
    const auto pid = static_cast<std::uint32_t>(impl->warden.pid());
    // Without a PID namespace a uid is all that tells a run: no two wardens of one host may share any.
    const std::uint32_t uid_first = profile == SandboxProfile::userns ? 0 : container ? kUidFirst + (pid & 0x3fffff) * kUidsOfContainer : kUidFirst + pid % 200 * kUidCount;
    const wire::WardenSetup setup{.binds = static_cast<std::uint32_t>(binds.size()), .blob_bytes = static_cast<std::uint32_t>(words.size()), .filter_bytes = static_cast<std::uint32_t>(filter.size()), .leave_out = left_out,
                                  .uid_first = uid_first, .uid_count = container ? kUidsOfContainer : uid_first != 0 ? kUidCount : 0, .zygote_argc = static_cast<std::uint32_t>(zygote.size()), .home = container ? 1U : 0U, .first_to_go = (held & layer::kMemoryCgroup) != 0 ? 1U : 0U};
    const int parts[] = {blob.fd(), program.fd()};
    DROVER_CHECK(send_message(impl->socket.get(), std::as_bytes(std::span(&setup, 1)), parts));
    Result<std::optional<Impl::Word>> word = std::nullopt;
    while (word && !*word && wait_readable(impl->socket.get(), deadline)) word = impl->receive();
    if (!word) {
      not_this(word.error().what());
      continue;
    }
    if (!*word) return fail(ErrorCode::timed_out, "starting a sandbox: no word from its warden");
    const wire::WardenReply& reply = (*word)->reply;
    held |= reply.layers;
    if (reply.kind != wire::WardenKind::ready) {
      not_this(Error::from_errno(reply.error, std::string("making ") + step_name(reply.step)).what());
      continue;
    }
    for (const auto& [bit, name] : kLayers)
      if ((held & bit) != 0) impl->layers.emplace_back(name);
    std::ranges::sort(impl->layers);
    impl->memory_before = impl->leaf.usage().memory_bytes;
    if (const std::uint32_t missing = required & ~held; missing != 0) {
      std::string names;
      for (const auto& [bit, name] : kLayers)
        if ((missing & bit) != 0) names += (names.empty() ? "" : ", ") + std::string(name);
      return fail(ErrorCode::refused, "the sandbox would lack " + names + ", which is required", "run as root, on a newer kernel, or require less");
    }
    return Sandbox(std::move(impl));
  }
  return fail(ErrorCode::unavailable, "no sandbox can be made here: " + why_not, "allow user namespaces, or run as root");
}

Result<SandboxEnd> Sandbox::run(const SandboxRun& run, const std::function<bool()>& stop, const std::function<void()>& begun) {
  Impl& i = *impl_;
  static const std::vector<std::string> kEnvironment{"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/w", "LANG=C.UTF-8", "TZ=UTC", "PYTHONHASHSEED=0", "PYTHONSAFEPATH=1"};
  const std::vector<std::string>& env = run.env.empty() ? kEnvironment : run.env;
  if (run.from_zygote && !has_zygote()) return fail(ErrorCode::usage, "sandbox: it has no zygote");
  if (run.argv.empty() || run.argv.size() > wire::kWardenStringsMax / 2 || env.size() > wire::kWardenStringsMax / 2) return fail(ErrorCode::usage, "sandbox: no program, or too many words");
  if (run.files.size() > wire::kWardenFilesMax) return fail(ErrorCode::usage, "sandbox: more than 16 files");
  std::string strings;
  const auto append = [&](const std::string& text) { strings.append(text).push_back('\0'); };
  for (const std::string& word : run.argv) append(word);
  for (const std::string& word : env) append(!i.home.empty() && word.ends_with("=/w") ? word.substr(0, word.size() - 2) + i.home : word);
  for (const SandboxFile& file : run.files) append(file.name);
  if (!run.take.empty()) append(run.take);
  const std::size_t count = run.argv.size() + env.size() + run.files.size() + (run.take.empty() ? 0 : 1);
  if (strings.size() > wire::kWardenBlobBytesMax || static_cast<std::size_t>(std::ranges::count(strings, '\0')) != count)
    return fail(ErrorCode::usage, "sandbox: words with a zero byte, or more than a MiB of them");

  DROVER_TRY(const Memfd blob, published("drover-sandbox-run", strings));
  DROVER_TRY(const UniqueFd input, as_file(run.input));
  DROVER_TRY(Pipe output, Pipe::create());
  DROVER_TRY(Pipe errors, Pipe::create());
  std::vector<UniqueFd> files;
  std::vector<int> fds{blob.fd(), input.get(), output.write_end.get(), errors.write_end.get()};
  for (const SandboxFile& file : run.files) {
    DROVER_TRY(UniqueFd one, as_file(file.bytes));
    fds.push_back(one.get());
    files.push_back(std::move(one));
  }
  if (run.channel >= 0) fds.push_back(run.channel);
  const SandboxLimits& l = run.limits;
  i.hold(l);
  const std::uint64_t oom_before = i.leaf.oom_kills();
  // Of the leaf without the warden, whose looks are not the run's.
  const std::optional<Nanos> cpu_before = i.cpu_of_runs();
  const auto cpu_in_leaf = [&] { return cpu_before ? i.cpu_of_runs().value_or(*cpu_before) - *cpu_before : Nanos(0); };
  const std::uint32_t number = ++i.runs;
  const wire::WardenRun message{.argc = static_cast<std::uint32_t>(run.argv.size()), .envc = static_cast<std::uint32_t>(env.size()), .files = static_cast<std::uint32_t>(run.files.size()),
                                .blob_bytes = static_cast<std::uint32_t>(strings.size()), .number = number, .take = run.take.empty() ? 0U : 1U, .channel = run.channel >= 0 ? 1U : 0U, .zygote = run.from_zygote ? 1U : 0U, .cpu_ns = l.cpu.count(), .wall_ns = l.wall.count(),
                                .memory_bytes = l.memory_bytes, .address_bytes = l.address_bytes, .tmpfs_bytes = l.disk_bytes, .tmpfs_inodes = l.inodes, .file_bytes = l.disk_bytes,
                                .stack_bytes = l.stack_bytes, .processes = l.processes, .open_files = l.open_files};
  DROVER_CHECK(send_message(i.socket.get(), std::as_bytes(std::span(&message, 1)), fds));
  output.write_end.reset();
  errors.write_end.reset();
  if (begun) begun();
  DROVER_CHECK(i.poller.add(output.read_end.get(), kFromOutput));
  DROVER_CHECK(i.poller.add(errors.read_end.get(), kFromErrors));

  SandboxEnd end;
  bool cancelled = false, flooded = false, over_cpu = false;
  const auto cancel = [&] {
    wire::WardenRun word{.kind = wire::WardenKind::cancel, .number = number};
    return send_message(i.socket.get(), std::as_bytes(std::span(&word, 1)));
  };
  const auto drain = [&](UniqueFd& pipe, std::string& into, std::uint64_t bytes_max, bool& over) {
    std::array<std::byte, 65536> buffer;
    while (pipe.valid()) {
      const auto got = read_some(pipe.get(), buffer);
      if (got && !*got) return;
      if (!got || **got == 0) {
        (void)i.poller.remove(pipe.get());
        pipe.reset();
        return;
      }
      const std::size_t room = std::min<std::size_t>(**got, bytes_max - std::min<std::uint64_t>(bytes_max, into.size()));
      into.append(reinterpret_cast<const char*>(buffer.data()), room);
      over = over || room < **got;
      if (over) return;  // a flood is taken in turns
    }
  };
  const TimePoint give_up = after(system_clock().now(), 2 * l.wall + kEndPatience);
  std::optional<Impl::Word> word;
  while (!word) {
    const TimePoint now = system_clock().now();
    if (now >= give_up) return fail(ErrorCode::timed_out, "the sandbox does not end its run");
    (void)i.poller.wait(std::min(give_up, after(now, kAskStop)), i.tokens);
    drain(output.read_end, end.output, l.output_bytes, flooded);
    drain(errors.read_end, end.errors, l.error_bytes, end.errors_cut);
    over_cpu = over_cpu || cpu_in_leaf() >= l.cpu + kUncounted;
    if (!cancelled && (over_cpu || flooded || (stop && stop()))) {
      cancelled = true;
      DROVER_CHECK(cancel());
    }
    DROVER_TRY(word, i.receive());
  }
  drain(output.read_end, end.output, l.output_bytes, flooded);
  drain(errors.read_end, end.errors, l.error_bytes, end.errors_cut);
  if (output.read_end.valid()) (void)i.poller.remove(output.read_end.get());
  if (errors.read_end.valid()) (void)i.poller.remove(errors.read_end.get());

  const wire::WardenReply& reply = word->reply;
  if (reply.number != number) return fail(ErrorCode::corrupt, "the sandbox answers another run than the one it was given");
  if (reply.kind == wire::WardenKind::failed) {
    // A tmpfs of its own that is too small for its files is the run's; a disk of the host that is full is not.
    const bool too_small = reply.step == wire::WardenStep::files && i.profile != SandboxProfile::container;
    if (reply.step == wire::WardenStep::exec || too_small) {
      end.kind = SandboxEndKind::not_started;
      end.code = reply.error;
      return end;
    }
    return fail(reply.step == wire::WardenStep::kill ? ErrorCode::timed_out : ErrorCode::system,
                Error::from_errno(reply.error, std::string("sandbox: ") + step_name(reply.step)).what());
  }
  end.cpu = Nanos(reply.user_ns + reply.system_ns);
  if (const Nanos all = cpu_in_leaf(); all > end.cpu + kUncounted) end.cpu = all;
  if (reply.starved_ns >= 0) end.starved = Nanos(reply.starved_ns);
  end.wall = Nanos(reply.wall_ns);
  end.rss_peak_bytes = reply.rss_peak_bytes;
  end.processes_peak = reply.processes_peak;
  end.left_behind = reply.left_behind;
  end.code = reply.status;
  end.kind = reply.cld_code == CLD_EXITED ? SandboxEndKind::exited : reply.status == SIGSYS ? SandboxEndKind::denied_syscall : SandboxEndKind::signalled;
  switch (reply.limit) {
    using enum wire::WardenLimit;
    case none: break;
    case cpu: end.kind = SandboxEndKind::cpu_limit; break;
    case wall: end.kind = SandboxEndKind::wall_limit; break;
    case memory: end.kind = SandboxEndKind::memory_limit; break;
    case cancelled: end.kind = SandboxEndKind::cancelled; break;
  }
  // The kernel's own word on a limit, where our look came too late.
  if (end.kind == SandboxEndKind::signalled && (end.code == SIGXCPU || end.cpu >= l.cpu)) end.kind = SandboxEndKind::cpu_limit;
  if (over_cpu && end.kind == SandboxEndKind::cancelled) end.kind = SandboxEndKind::cpu_limit;
  if (i.leaf.oom_kills() != oom_before) end.kind = SandboxEndKind::memory_limit;
  if (flooded) end.kind = SandboxEndKind::output_limit;
  if (word->fd.valid() && reply.taken_bytes <= run.take_max) {
    DROVER_TRY(end.taken, read_whole(word->fd.get(), run.take_max));
  }
  return end;
}

Result<std::pair<SandboxEnd, SandboxEnd>> run_pair(Sandbox& first, SandboxRun first_run, Sandbox& second, SandboxRun second_run, const std::function<bool()>& stop) {
  DROVER_TRY(auto ends, make_stream_sockets());
  first_run.channel = ends.first.get();
  second_run.channel = ends.second.get();
  // The stream's end is the second one's sign to end; how it did is part of the verdict, so it has time to be told before it is cancelled.
  std::atomic<std::int64_t> cancel_at = INT64_MAX;
  Result<SandboxEnd> follower = fail(ErrorCode::closed, "the second program was not started");
  Result<SandboxEnd> leader = follower;
  {
    const std::jthread beside([&] { follower = second.run(second_run, [&] { return system_clock().now().time_since_epoch().count() >= cancel_at.load(); }, [&] { ends.second.reset(); }); ends.second.reset(); });
    leader = first.run(first_run, stop, [&] { ends.first.reset(); });
    ends.first.reset();
    cancel_at = after(system_clock().now(), kFollowerPatience).time_since_epoch().count();
  }
  if (!leader) return std::unexpected(std::move(leader).error());
  if (!follower) return std::unexpected(std::move(follower).error().with("the second program"));
  return std::pair(std::move(*leader), std::move(*follower));
}

}  // namespace drover
