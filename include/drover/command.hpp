#pragma once
/// A foreign command and everything it ever starts, contained: it runs under an init of its own in a PID namespace of its own,
/// so that when the Command ends nothing of it is left, whatever it forked, daemonised or ignored. Made and used by one thread
/// of a worker (a task function); the worker's own end, by any signal, ends the tree too (the kernel's hand, not ours).
///
/// The command is never PID 1 (PID 1 ignores its own signals, and abort() would look like SIGSEGV). Orphans it leaves while it
/// runs stay part of it; when it ends they are killed.
///
///   auto command = drover::Command::start({.argv = {"python3", "train.py"}}, in(5s));
///   while (auto event = command->next(deadline)) std::visit(..., *event);    // output, notices, the end
///   DROVER_CHECK(command->end(in(5s)));                                       // nobody is left when it returns
///
/// Where the host allows no PID namespace the tree is killed as far as it can be found; containment() says which it is.

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "drover/types/error.hpp"
#include "drover/types/limits.hpp"
#include "drover/types/time.hpp"

namespace drover {

struct CommandSpec {
  std::vector<std::string> argv{};    ///< argv[0]: a path, or a name that is looked up in PATH; scripts with #! too
  std::vector<std::string> env{};     ///< complete, "NAME=value"; see inherited_environment()
  std::string directory{};            ///< working directory; "": the caller's
  std::string notify_directory{};     ///< not "": NOTIFY_SOCKET (sd_notify(3)) and DROVER_TRAINER_PAGE lie here, under names of their own
  bool gated = false;                 ///< with notify_directory: DROVER_GATE names a fifo where it may wait for open_gate()
  std::string watch_directory{};      ///< not "": files closed after writing here, or moved into it, are told as FileWritten
};

namespace command {
/// What the tree wrote to stdout and stderr, one pipe for both, as it came: at most 64 KiB, not cut at lines.
struct Output { std::string bytes; };
/// One assignment of an sd_notify datagram: READY=1, STATUS=..., WATCHDOG=1, STOPPING=1, EXTEND_TIMEOUT_USEC=...
struct Notice { std::string name, value; };
/// A file of the watched directory was closed after writing, by whomever. It may be written again.
struct FileWritten { std::string name; };
/// The command itself has ended and is reaped; what it left behind may live until end().
struct Ended {
  bool signalled = false;
  int code_or_signal = 0;
  Nanos user_time{}, system_time{};   ///< of it and all descendants it waited for
  std::uint64_t rss_max_bytes = 0;    ///< of the largest of them
};
}  // namespace command
using CommandEvent = std::variant<command::Output, command::Notice, command::FileWritten, command::Ended>;

/// What the command wrote into its trainer page: its word, nothing more.
struct TrainerSaid {
  std::uint64_t beats = 0, step = 0;
  std::uint32_t phase = 0;            ///< docs/guard.md
};

/// The whole tree as the kernel shows it now.
struct TreeUsage {
  Nanos cpu{};                        ///< living processes and those they waited for; never falls
  std::uint64_t rss_bytes = 0;        ///< sum of resident sets: pages shared between processes count for each
  std::uint32_t processes = 0;        ///< without its init
};

/// An init that waits for its command, made in advance: a start in it saves the making of a namespace and its first process (some
/// milliseconds). Empty until then; ends with its owner.
class CommandInit {
 public:
  static Result<CommandInit> make(TimePoint deadline);
  CommandInit(CommandInit&&) noexcept;
  CommandInit& operator=(CommandInit&&) noexcept;
  ~CommandInit();

 private:
  friend class Command;
  struct Impl;
  explicit CommandInit(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

class Command {
 public:
  /// On return the command runs (its exec succeeded). Errors: not_found (no such program), refused (not executable, argv or
  /// environment too large), timed_out, unavailable, system; the message names the step.
  static Result<Command> start(const CommandSpec& spec, TimePoint deadline);
  static Result<Command> start(const CommandSpec& spec, TimePoint deadline, CommandInit init);
  Command(Command&&) noexcept;
  Command& operator=(Command&&) noexcept;
  ~Command();                         ///< kills everything; waits at most 250 ms for the proof

  /// The next event, or nothing when `deadline` came first. Output that was written before the end comes before it.
  std::optional<CommandEvent> next(TimePoint deadline);
  /// Sends a signal to the command itself. Not an error when it has ended.
  Result<void> signal(int number);
  TreeUsage usage() const;
  /// Whether its init is all that is left, which starts nobody by itself: end() has nothing to prove any more. False where it cannot
  /// be known (no PID namespace).
  bool is_empty() const;
  TrainerSaid trainer() const;        ///< zeros without a notify_directory
  Result<void> open_gate(std::string_view message);  ///< at most 4096 bytes
  bool running();                     ///< false once it has ended, as far as is known now
  void ask_to_stop();                 ///< sets the page's flag; a signal is the caller's affair
  /// What the kernel says the command is doing: state, wait channel, kernel stack where it may be read, open files. For the
  /// record, before a kill.
  std::string evidence() const;
  /// Kills every process of the tree; on return none is left. Error timed_out if some process cannot be killed in time
  /// (uninterruptible sleep): then it is said so, and the caller reports `unkillable`.
  Result<void> end(TimePoint deadline);

  LimitLayer containment() const;     ///< pid_namespace, user_pid_namespace, or absent = best effort
  int host_pid() const;               ///< of the command as /proc shows it; 0 if unknown

 private:
  struct Impl;
  explicit Command(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// This process's environment, without drover's own variables and without NOTIFY_SOCKET of whoever started us.
std::vector<std::string> inherited_environment();

}  // namespace drover
