#include "containment/keeper_link.hpp"

#include <cstring>
#include <new>
#include <utility>

#include "base/assert.hpp"
#include "base/bytes.hpp"
#include "keeper/helper_images.hpp"
#include "os/clock.hpp"
#include "os/helper_image.hpp"
#include "os/helper_process.hpp"
#include "os/memfd.hpp"
#include "os/message_socket.hpp"
#include "os/poller.hpp"
#include "wire/keeper_message.hpp"

namespace drover {
namespace {

static_assert(kSpawnFdsMax == wire::kKeeperFdsMax && kSpawnRlimitsMax == wire::kKeeperRlimitsMax &&
              kSpawnCgroupsMax == wire::kKeeperCgroupsMax);

struct Attempt {
  HelperNamespaces namespaces;
  wire::KeeperMode mode;
  LimitLayer layer;
};
constexpr Attempt kAttempts[] = {
    {HelperNamespaces::pid, wire::KeeperMode::pid_namespace, LimitLayer::pid_namespace},
    {HelperNamespaces::user_and_pid, wire::KeeperMode::user_pid_namespace, LimitLayer::user_pid_namespace},
    {HelperNamespaces::none, wire::KeeperMode::subreaper, LimitLayer::absent},
};

/// argv, env and cwd one after the other, each ended by a zero byte, in memory the keeper can map.
Result<Memfd> make_blob(const SpawnRequest& request, std::size_t bytes) {
  DROVER_TRY(Memfd blob, Memfd::create("drover-spawn", bytes));
  DROVER_TRY(const Mapping mapping, blob.map_writable());
  std::byte* to = mapping.data();
  const auto append = [&to](const std::string& text) {
    std::memcpy(to, text.c_str(), text.size() + 1);
    to += text.size() + 1;
  };
  for (const std::string& argument : request.argv) append(argument);
  for (const std::string& variable : request.env) append(variable);
  append(request.cwd);
  return blob;
}

bool holds_zero(const std::string& text) { return text.find('\0') != std::string::npos; }

}  // namespace

Result<KeeperLink> KeeperLink::start(const KeeperOptions& options, TimePoint deadline) {
  DROVER_TRY(const UniqueFd image, make_executable_image("drover-keeper", keeper_image()));
  UniqueFd own_executable;
  if (options.executable < 0) {
    DROVER_TRY(own_executable, open_own_executable());
  }
  DROVER_TRY(const PidFd self, PidFd::self());

  KeeperLink link;
  for (const Attempt& attempt : kAttempts) {
    if (!options.allow_namespaces && attempt.namespaces != HelperNamespaces::none) continue;
    DROVER_TRY(auto sockets, make_message_sockets());
    const std::vector<std::string> argv = {
        "drover-keeper", std::to_string(std::to_underlying(attempt.mode)),
        options.run_deadline_boottime == kUnlimited ? "-1" : std::to_string(options.run_deadline_boottime.count()),
        std::to_string(options.sweep_timeout.count())};
    const int fds[] = {sockets.second.get(), self.fd(), options.executable >= 0 ? options.executable : own_executable.get()};
    auto helper = start_helper({.image = image.get(), .argv = argv, .fds = fds, .namespaces = attempt.namespaces}, deadline);
    if (!helper) {
      if (attempt.namespaces == HelperNamespaces::none) return std::unexpected(std::move(helper).error().with("starting the keeper"));
      link.note_ += (link.note_.empty() ? "" : "; ") + helper.error().what();
      continue;
    }
    link.socket_ = std::move(sockets.first);
    link.process_ = std::move(*helper);
    link.containment_ = attempt.layer;
    break;
  }

  // Its hello, or its death, or the deadline.
  for (;;) {
    wire::KeeperReply reply;
    auto message = receive_message(link.socket_.get(), std::as_writable_bytes(std::span(&reply, 1)));
    if (message) {
      if (message->size != sizeof reply || reply.magic != wire::kKeeperMagic || reply.kind != wire::KeeperReplyKind::hello)
        return fail(ErrorCode::corrupt, "starting the keeper: its first word is not a hello");
      if (reply.value == 0)
        link.note_ += std::string(link.note_.empty() ? "" : "; ") + "no usable /proc: orphans of a dead worker live until the run ends";
      return link;
    }
    if (message.error().code() != ErrorCode::busy) return std::unexpected(std::move(message).error().with("starting the keeper"));
    if (system_clock().now() >= deadline) return fail(ErrorCode::timed_out, "starting the keeper: no word from it");
    wait_readable(link.socket_.get(), deadline);
  }
}

KeeperLink& KeeperLink::operator=(KeeperLink&& other) noexcept {
  if (this != &other) {
    this->~KeeperLink();
    new (this) KeeperLink(std::move(other));
  }
  return *this;
}

KeeperLink::~KeeperLink() {
  if (!process_.valid()) return;
  kill();
  wait_gone(system_clock().now() + Millis(250));
}

Result<void> KeeperLink::request_spawn(const SpawnRequest& request) {
  const auto refuse = [&request](std::string_view why) {
    return fail(ErrorCode::refused, "start incarnation " + std::to_string(request.incarnation.value) + " of slot " +
                                        std::to_string(request.slot.value) + ": " + std::string(why));
  };
  if (request.argv.empty()) return refuse("no argv");
  if (request.fds.size() > kSpawnFdsMax) return refuse("too many descriptors");
  if (request.rlimits.size() > kSpawnRlimitsMax) return refuse("too many rlimits");
  if (request.cgroup_procs.size() > kSpawnCgroupsMax) return refuse("too many cgroups");
  std::size_t bytes = request.cwd.size() + 1;
  for (const auto* list : {&request.argv, &request.env})
    for (const std::string& text : *list) {
      if (holds_zero(text)) return refuse("a zero byte in an argument or a variable");
      bytes += text.size() + 1;
    }
  if (holds_zero(request.cwd)) return refuse("a zero byte in the directory");
  if (bytes > wire::kKeeperBlobBytesMax || request.argv.size() + request.env.size() > wire::kKeeperStringsMax)
    return refuse("arguments and environment are too large");

  DROVER_TRY(const Memfd blob, make_blob(request, bytes));
  wire::KeeperSpawn spawn;
  spawn.slot = request.slot.value;
  spawn.incarnation = request.incarnation.value;
  spawn.argc = static_cast<std::uint32_t>(request.argv.size());
  spawn.envc = static_cast<std::uint32_t>(request.env.size());
  spawn.blob_bytes = static_cast<std::uint32_t>(bytes);
  spawn.cgroups = static_cast<std::uint32_t>(request.cgroup_procs.size());
  spawn.fds = static_cast<std::uint32_t>(request.fds.size());
  spawn.rlimits = static_cast<std::uint32_t>(request.rlimits.size());
  for (std::size_t i = 0; i < request.rlimits.size(); ++i)
    spawn.rlimit[i] = {.resource = static_cast<std::uint32_t>(request.rlimits[i].resource),
                       .soft = request.rlimits[i].soft,
                       .hard = request.rlimits[i].hard};
  if (request.nice) {
    spawn.flags |= wire::keeper_flag::kNice;
    spawn.nice = *request.nice;
  }
  std::vector<int> fds{blob.fd()};
  const auto pass = [&spawn, &fds](int fd, std::uint32_t flag) {
    if (fd < 0) return;
    spawn.flags |= flag;
    fds.push_back(fd);
  };
  pass(request.executable, wire::keeper_flag::kImage);
  pass(request.stdin_fd, wire::keeper_flag::kStdin);
  pass(request.stdout_fd, wire::keeper_flag::kStdout);
  pass(request.stderr_fd, wire::keeper_flag::kStderr);
  fds.insert(fds.end(), request.cgroup_procs.begin(), request.cgroup_procs.end());
  fds.insert(fds.end(), request.fds.begin(), request.fds.end());
  DROVER_ASSERT(wire::is_valid(spawn, sizeof spawn, fds.size()));
  return send_message(socket_.get(), bytes_of_value(spawn), fds);
}

Result<void> KeeperLink::receive(std::vector<KeeperMessage>& messages) {
  for (;;) {
    if (gone_told_) return {};
    wire::KeeperReply reply;
    auto message = receive_message(socket_.get(), std::as_writable_bytes(std::span(&reply, 1)));
    if (!message) {
      if (message.error().code() == ErrorCode::busy) return {};
      if (message.error().code() != ErrorCode::closed) return std::unexpected(std::move(message).error().with("listening to the keeper"));
      gone_told_ = true;
      messages.push_back(keeper::Gone{});
      return {};
    }
    if (message->size != sizeof reply || reply.magic != wire::kKeeperMagic)
      return fail(ErrorCode::corrupt, "listening to the keeper: not a word of its own");
    const SlotId slot(reply.slot);
    const Incarnation incarnation(reply.incarnation);
    switch (reply.kind) {
      case wire::KeeperReplyKind::hello: break;
      case wire::KeeperReplyKind::spawned: {
        if (message->fds.size() != 1) return fail(ErrorCode::corrupt, "listening to the keeper: a start without its pidfd");
        PidFd pidfd(std::move(message->fds.front()));
        const pid_t pid = reply.what > 0 ? reply.what : pidfd.host_pid().value_or(0);  // both sides see the same /proc
        messages.push_back(keeper::Spawned{slot, incarnation, std::move(pidfd), pid});
        break;
      }
      case wire::KeeperReplyKind::spawn_failed:
        messages.push_back(keeper::SpawnFailed{slot, incarnation, wire::keeper_step_name(reply.what), reply.value});
        break;
      case wire::KeeperReplyKind::ended:
        messages.push_back(
            keeper::Ended{slot, incarnation, reply.what, reply.value, Nanos(reply.user_ns), Nanos(reply.system_ns), reply.rss_max_bytes});
        break;
      case wire::KeeperReplyKind::orphans_swept: messages.push_back(keeper::OrphansSwept{static_cast<std::uint32_t>(reply.value)}); break;
      case wire::KeeperReplyKind::gave_up: {
        using Why = keeper::GaveUp::Why;
        Why why = Why::broken_request;
        if (reply.what == static_cast<std::int32_t>(wire::KeeperGaveUp::deadline)) why = Why::deadline;
        if (reply.what == static_cast<std::int32_t>(wire::KeeperGaveUp::sweep_did_not_converge)) why = Why::sweep_did_not_converge;
        messages.push_back(keeper::GaveUp{why});
        break;
      }
    }
  }
}

void KeeperLink::kill() { process_.kill(); }

bool KeeperLink::wait_gone(TimePoint deadline) { return process_.reap(deadline); }

}  // namespace drover
