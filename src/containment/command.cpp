#include "drover/command.hpp"

#include <csignal>
#include <cstdlib>
#include <deque>

#include "containment/keeper_link.hpp"
#include "os/clock.hpp"
#include "os/directory_watch.hpp"
#include "os/executable.hpp"
#include "os/gate.hpp"
#include "os/notify_socket.hpp"
#include "os/pipe.hpp"
#include "os/poller.hpp"
#include "os/process_stats.hpp"
#include "os/process_tree.hpp"
#include "os/trainer_page.hpp"

extern char** environ;

namespace drover {
namespace {

constexpr std::uint64_t kFromKeeper = 0, kFromOutput = 1, kFromNotify = 2, kFromWatch = 3;
constexpr std::size_t kOutputMax = 64 * 1024, kFilesTold = 64;

std::string_view variable_of(const std::vector<std::string>& env, std::string_view name) {
  for (const std::string& one : env)
    if (one.size() > name.size() && one.starts_with(name) && one[name.size()] == '=') return std::string_view(one).substr(name.size() + 1);
  return {};
}

}  // namespace

struct Command::Impl {
  explicit Impl(KeeperLink link, Poller made) : keeper(std::move(link)), poller(std::move(made)) {}

  KeeperLink keeper;
  Poller poller;
  UniqueFd output;
  std::optional<NotifySocket> notify;
  std::optional<TrainerPage> page;
  std::optional<Gate> gate;
  std::optional<DirectoryWatch> watch;
  PidFd process;
  pid_t host_pid = 0;
  pid_t keeper_host_pid = 0;
  Nanos cpu_seen{};                           ///< the dead that nobody waited for fall out of /proc: what was seen stands
  std::deque<CommandEvent> ready;
  std::optional<command::Ended> ended;        ///< not told yet: output comes first
  bool keeper_gone = false;
  std::vector<std::uint64_t> tokens;
  std::vector<KeeperMessage> messages;

  void read_output() {
    while (output.valid()) {
      std::string bytes(kOutputMax, '\0');
      const auto size = read_some(output.get(), std::as_writable_bytes(std::span(bytes)));
      if (size && !*size) return;             // nothing now
      if (!size || **size == 0) {             // everybody closed it, or it is broken
        (void)poller.remove(output.get());
        output.reset();
        return;
      }
      bytes.resize(**size);
      ready.emplace_back(command::Output{std::move(bytes)});
      if (ready.size() >= 16) return;         // a flood is taken in turns
    }
  }

  void read_notices() {
    while (notify) {
      auto message = notify->receive();
      if (!message || !*message) return;
      std::string_view text = **message;
      while (!text.empty()) {
        const auto end = text.find('\n');
        const std::string_view line = text.substr(0, end);
        text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
        if (const auto equals = line.find('='); equals != std::string_view::npos)
          ready.emplace_back(command::Notice{std::string(line.substr(0, equals)), std::string(line.substr(equals + 1))});
      }
      if (ready.size() >= 256) return;
    }
  }

  void read_watch() {
    auto names = watch->take();
    if (!names) return;  // more than the kernel could tell: what is written next is told again
    for (std::string& name : *names) ready.emplace_back(command::FileWritten{std::move(name)});
  }

  void read_keeper() {
    messages.clear();
    const bool usable = keeper.receive(messages).has_value();
    for (KeeperMessage& message : messages) {
      if (auto* const spawned = std::get_if<keeper::Spawned>(&message)) {
        process = std::move(spawned->pidfd);
        host_pid = spawned->host_pid;
      } else if (const auto* const end = std::get_if<keeper::Ended>(&message)) {
        const bool exited = end->cld_code == CLD_EXITED;
        ended = command::Ended{.signalled = !exited, .code_or_signal = end->status, .user_time = end->user_time, .system_time = end->system_time, .rss_max_bytes = end->rss_max_bytes};
      } else if (std::holds_alternative<keeper::Gone>(message)) {
        keeper_gone = true;
      }
    }
    if (usable && !keeper_gone) return;
    // Its init is dead, so the kernel has killed the command. There is no status of it to be had.
    keeper_gone = true;
    (void)poller.remove(keeper.fd());
    if (!ended) ended = command::Ended{.signalled = true, .code_or_signal = SIGKILL};
  }
};

struct CommandInit::Impl {
  KeeperLink link;
};

Result<CommandInit> CommandInit::make(TimePoint deadline) {
  DROVER_TRY(KeeperLink link, KeeperLink::start({}, deadline));
  return CommandInit(std::make_unique<Impl>(Impl{std::move(link)}));
}
CommandInit::CommandInit(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
CommandInit::CommandInit(CommandInit&&) noexcept = default;
CommandInit& CommandInit::operator=(CommandInit&&) noexcept = default;
CommandInit::~CommandInit() = default;

Result<Command> Command::start(const CommandSpec& spec, TimePoint deadline) {
  // Before the init is made: most failures are a name that does not exist.
  DROVER_CHECK(find_executable(spec.argv, variable_of(spec.env, "PATH"), spec.directory));
  DROVER_TRY(CommandInit init, CommandInit::make(deadline));
  return start(spec, deadline, std::move(init));
}

Result<Command> Command::start(const CommandSpec& spec, TimePoint deadline, CommandInit init) {
  std::vector<std::string> env = spec.env;
  DROVER_TRY(Executable executable, find_executable(spec.argv, variable_of(env, "PATH"), spec.directory));
  DROVER_TRY(Poller poller, Poller::create());
  auto impl = std::make_unique<Impl>(std::move(init.impl_->link), std::move(poller));
  DROVER_TRY(Pipe pipe, Pipe::create());
  if (!spec.notify_directory.empty()) {
    DROVER_TRY(impl->notify, NotifySocket::create(spec.notify_directory));
    env.push_back("NOTIFY_SOCKET=" + impl->notify->path());
    DROVER_CHECK(impl->poller.add(impl->notify->fd(), kFromNotify));
    DROVER_TRY(impl->page, TrainerPage::create(impl->notify->path() + ".page"));
    env.push_back("DROVER_TRAINER_PAGE=" + impl->page->path());
    if (spec.gated) {
      DROVER_TRY(impl->gate, Gate::create(impl->notify->path() + ".gate"));
      env.push_back("DROVER_GATE=" + impl->gate->path());
    }
  }
  if (!spec.watch_directory.empty()) {
    DROVER_TRY(impl->watch, DirectoryWatch::create(spec.watch_directory));
    DROVER_CHECK(impl->poller.add(impl->watch->fd(), kFromWatch));
  }
  DROVER_CHECK(impl->keeper.request_spawn({.incarnation = Incarnation(1),
                                           .executable = executable.fd.get(),
                                           .argv = executable.argv,
                                           .env = env,
                                           .stdout_fd = pipe.write_end.get(),
                                           .stderr_fd = pipe.write_end.get(),
                                           .cwd = spec.directory}));
  impl->output = std::move(pipe.read_end);
  pipe.write_end.reset();
  DROVER_CHECK(impl->poller.add(impl->output.get(), kFromOutput));
  DROVER_CHECK(impl->poller.add(impl->keeper.fd(), kFromKeeper));
  impl->keeper_host_pid = impl->keeper.pidfd().host_pid().value_or(0);
  while (!impl->process.valid()) {
    if (!wait_readable(impl->keeper.fd(), deadline)) return fail(ErrorCode::timed_out, "starting '" + spec.argv[0] + "': no word from its init");
    impl->messages.clear();
    DROVER_CHECK(impl->keeper.receive(impl->messages));
    for (KeeperMessage& message : impl->messages) {
      if (auto* const spawned = std::get_if<keeper::Spawned>(&message)) {
        impl->process = std::move(spawned->pidfd);
        impl->host_pid = spawned->host_pid;
      } else if (const auto* const failed = std::get_if<keeper::SpawnFailed>(&message)) {
        return fail(ErrorCode::refused, Error::from_errno(failed->errno_value, "starting '" + spec.argv[0] + "': " + failed->step).what());
      } else if (const auto* const end = std::get_if<keeper::Ended>(&message)) {
        impl->ended = command::Ended{.signalled = end->cld_code != CLD_EXITED, .code_or_signal = end->status, .user_time = end->user_time, .system_time = end->system_time, .rss_max_bytes = end->rss_max_bytes};
      } else if (std::holds_alternative<keeper::Gone>(message)) {
        return fail(ErrorCode::unavailable, "starting '" + spec.argv[0] + "': its init ended");
      }
    }
  }
  return Command(std::move(impl));
}

Command::Command(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Command::Command(Command&&) noexcept = default;
Command& Command::operator=(Command&&) noexcept = default;
Command::~Command() = default;  // the link's destructor kills the init, and the kernel the rest

std::optional<CommandEvent> Command::next(TimePoint deadline) {
  Impl& i = *impl_;
  for (;;) {
    if (!i.ready.empty()) {
      CommandEvent event = std::move(i.ready.front());
      i.ready.pop_front();
      return event;
    }
    if (i.ended) {
      i.read_output();
      i.read_notices();
      if (i.watch) i.read_watch();
      if (!i.ready.empty()) continue;
      CommandEvent event = *i.ended;
      i.ended.reset();
      return event;
    }
    if (!i.poller.wait(deadline, i.tokens) || i.tokens.empty()) return std::nullopt;
    for (const std::uint64_t token : i.tokens) {
      if (token == kFromOutput) i.read_output();
      if (token == kFromNotify) i.read_notices();
      if (token == kFromWatch) i.read_watch();
      if (token == kFromKeeper) i.read_keeper();
    }
  }
}

Result<void> Command::signal(int number) {
  DROVER_TRY(const bool sent, impl_->process.send(number));
  (void)sent;  // false: it has ended, which is no error here
  return {};
}

TreeUsage Command::usage() const {
  if (impl_->keeper_host_pid == 0) return {};
  const ProcessTreeUsage now = usage_below(impl_->keeper_host_pid);
  impl_->cpu_seen = std::max(impl_->cpu_seen, now.cpu);
  return {.cpu = impl_->cpu_seen, .rss_bytes = now.rss_bytes, .processes = now.processes};
}

bool Command::is_empty() const { return impl_->keeper.containment() != LimitLayer::absent && impl_->keeper_host_pid != 0 && !has_children(impl_->keeper_host_pid); }

TrainerSaid Command::trainer() const {
  if (!impl_->page) return {};
  const TrainerPage::Said said = impl_->page->read();
  return {.beats = said.beats, .step = said.step, .phase = said.phase};
}

Result<void> Command::open_gate(std::string_view message) {
  if (!impl_->gate) return fail(ErrorCode::usage, "the command was not started with a gate");
  return impl_->gate->open(message);
}

bool Command::running() {
  impl_->read_keeper();
  return !impl_->ended && !impl_->keeper_gone;
}

void Command::ask_to_stop() {
  if (impl_->page) impl_->page->ask_to_stop();
}

std::string Command::evidence() const {
  if (impl_->host_pid == 0) return {};
  const StallEvidence seen = stall_evidence(impl_->host_pid);
  std::string text = std::string("state ") + seen.state;
  if (!seen.wait_channel.empty()) text += ", sleeps in " + seen.wait_channel;
  if (!seen.kernel_stack.empty()) text += "\n" + seen.kernel_stack;
  for (const std::string& file : open_files(impl_->host_pid, kFilesTold)) text += "\nopen: " + file;
  return text;
}

Result<void> Command::end(TimePoint deadline) {
  impl_->keeper.kill();
  if (impl_->keeper.wait_gone(deadline)) return {};
  return fail(ErrorCode::timed_out, "process " + std::to_string(impl_->host_pid) + " or one it started cannot be killed (uninterruptible sleep)");
}

LimitLayer Command::containment() const { return impl_->keeper.containment(); }
int Command::host_pid() const { return impl_->host_pid; }

std::vector<std::string> inherited_environment() {
  std::vector<std::string> env;
  for (char** one = environ; one != nullptr && *one != nullptr; ++one) {
    const std::string_view variable = *one;
    if (variable.starts_with("NOTIFY_SOCKET=") || variable.starts_with("WATCHDOG_USEC=") || variable.starts_with("WATCHDOG_PID=") || variable.starts_with("DROVER_TRAINER_PAGE=") || variable.starts_with("DROVER_GATE=") || variable.starts_with("DROVER_WORKER")) continue;
    env.emplace_back(variable);
  }
  return env;
}

}  // namespace drover
