#pragma once
/// The scheduler: pure, single-threaded, without clock, threads or system calls. The supervisor's loop hands it what happened
/// and what time it is; it answers with what to do. It owns the queue, the leases, every deadline, retry, blame, quarantine,
/// restarts and the stop ladder; it never sees a payload, a pid or a file descriptor. Millions of fault schedules run through
/// it in sim/.
///
///   supervisor loop:  wait until next_deadline() or an event; gather events; step(now, events, commands); carry commands out.
///
/// Life of a task:   queued -> leased(slot, incarnation, epoch) -> started -> published -> recorded -> delivered
///                      ^________________________________________| death, stall, protocol: retry by outcome class
///
/// Invariants (checked by sim/ on every schedule, and by DROVER_ASSERT where one step can see them):
///  1. every submitted task gets exactly one terminal record, and exactly one Deliver after that record is committed;
///  2. a publication counts only if (slot, incarnation, epoch) is the task's current lease; anything else is late_discarded;
///  3. an attempt is charged only to the task that was started; leased but unstarted tasks go back free, to the queue's front;
///  4. an effectful task that may have started is never leased again;
///  5. while a task is open, next_deadline() is finite unless some event the supervisor must produce is outstanding (ready, died,
///     published, committed), and each of those has a deadline here: start grace, attempt limits if any, ladder, ledger deadline;
///  6. the reason of a kill is fixed before the Kill command is emitted, so our own SIGKILL is never `lost`.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "drover/types/ids.hpp"
#include "drover/types/limits.hpp"
#include "drover/types/outcome.hpp"
#include "drover/types/task.hpp"
#include "drover/types/time.hpp"

namespace drover::engine {

struct SchedulerOptions {
  std::uint32_t slots = 1;
  std::uint32_t window = 64;      ///< leases one worker may hold at once, 1..128
  std::uint64_t seed = 1;         ///< of the back-off jitter; the schedule is a function of (options, events, times)
  RetryPolicy retry{};
  RestartIntensity intensity{};
  BackOff back_off{};
  StopLadder ladder{};
  Recycling recycling{};
  Nanos start_grace = Seconds(10);      ///< from Spawn to Ready; longer is start_failed(ready)
  Nanos sample_period = Millis(50);     ///< how often a worker with leases is sampled when any limit needs samples
  Nanos ledger_deadline = Seconds(30);  ///< an uncommitted record older than this ends the job as a host fault; time in which
                                        ///< step() was not called though it was due (a stopped supervisor) does not count
  std::uint64_t worker_memory_bytes = 0;  ///< polled limit: a Sampled RSS above it is out_of_memory(ours); 0 = not polled
  bool spawn_at_once = true;            ///< fill all slots before the first task (a pool) or on demand
  Nanos steal_after = Millis(1);        ///< an idle worker takes leases back from one whose head has run for this long; shorter
                                        ///< tasks are left where they are, revoking them would cost more than they take
};

/// How a process ended, as the keeper told it, plus what the limit layers counted.
struct ExitEvidence {
  enum class How : std::uint8_t { exited, signalled, keeper_lost };
  How how = How::exited;
  int code_or_signal = 0;
  bool oom_by_our_limit = false;      ///< the incarnation's own memory limit fired
  bool oom_by_host = false;           ///< the host's OOM killer took it and we did not limit it
  std::uint64_t limit_bytes = 0, peak_bytes = 0;
};

// ---- Events: what happened. Order within a step matters: answers to the last step's commands (Revoked, Sampled, SpawnFailed) come
// ---- first, publications read from a ring come before that worker's death or the keeper's loss. --------------------------------
namespace event {
struct Submit { TaskId task; EffectClass effect = EffectClass::pure; std::uint16_t limits = 0; };  ///< limits: from add_limits()
struct CancelTask { TaskId task; };
struct Ready { SlotId slot; Incarnation incarnation; };
struct SpawnFailed { SlotId slot; Incarnation incarnation; std::string step; int errno_value = 0; };
/// The worker published the ending of `task`. app_error: the reason's bytes stay with the supervisor, keyed by task.
struct Published { SlotId slot; Incarnation incarnation; TaskId task; Epoch epoch; bool app_error = false; };
/// Answer to Revoke, in the order of the commands. taken_back false: the worker had claimed it already; the lease stays. Unasked
/// with taken_back true: the lease could not be handed over (no room in the ring).
struct Revoked { SlotId slot; Incarnation incarnation; TaskId task; Epoch epoch; bool taken_back = false; };
/// A robust-futex hint: stop leasing, kill to make it certain; the death itself follows as Died.
struct DeathHint { SlotId slot; Incarnation incarnation; };
/// The process is gone and its ring is drained. `started`: the lease the worker had claimed and not answered, if any.
struct Died { SlotId slot; Incarnation incarnation; ExitEvidence evidence; std::optional<TaskId> started; };
/// The reader caught the worker writing what no honest worker writes: it is killed, its started task is protocol_broken.
struct ProtocolBroken { SlotId slot; Incarnation incarnation; std::string what; std::optional<TaskId> started; };
/// Answer to Sample. `progress` is the worker's own counter, `cpu` and the rest is kernel truth.
struct Sampled { SlotId slot; Incarnation incarnation; std::uint64_t progress = 0; Nanos cpu{}; std::uint64_t rss_bytes = 0; bool stopped = false; std::optional<TaskId> started; };
struct KeeperLost {};                       ///< every incarnation is gone with it; no Died will follow for them
struct KeeperReady {};                      ///< spawning works again
struct Committed { RecordNumber upto; };
struct CommitFailed { std::string what; };
struct WorkerCount { std::uint32_t slots = 0; };  ///< operator shrinks or grows the pool, 1..options.slots at construction is the maximum
// Endings asked from outside. Each is idempotent; a later, harder one overrides a softer one.
struct Drain { TimePoint deadline = kNever; };    ///< finish leases and queue, take no new task; at the deadline like Cancel
struct Cancel {};                           ///< queued tasks end cancelled(queued); running ones through the ladder, cancelled(running)
struct KillAll {};                          ///< no ladder: SIGKILL now
struct RunDeadline {};                      ///< the run's budget is used up: open tasks end timed_out(run), SIGKILL now
}  // namespace event
using Event = std::variant<event::Published, event::Submit, event::CancelTask, event::Ready, event::SpawnFailed, event::Revoked, event::DeathHint,
                           event::Died, event::ProtocolBroken, event::Sampled, event::KeeperLost, event::KeeperReady, event::Committed,
                           event::CommitFailed, event::WorkerCount, event::Drain, event::Cancel, event::KillAll, event::RunDeadline>;

// ---- Commands: what to do, in this order. A command may name an incarnation or a lease that a later event of the same step has
// ---- ended (Cancel, then Died): there is nothing left to do for it then, and no answer is owed. ----------------------------------
/// Why an incarnation was killed, fixed before the kill; it becomes the outcome of its started task when the death arrives.
enum class KillReason : std::uint8_t { death_hint, attempt_wall, attempt_cpu, task_time, run, stalled, memory, protocol, cancelled, recycled, drained, start_grace, shutdown };
std::string_view name_of(KillReason reason);

namespace command {
struct Lease { SlotId slot; Incarnation incarnation; TaskId task; Epoch epoch; };
/// A task completed. Record it; its bytes are with the supervisor. `attempt` 1 = the first; such records may merge into ranges.
struct RecordCompleted { RecordNumber record; TaskId task; Epoch epoch; std::uint32_t attempt = 1; SlotId slot; Incarnation incarnation; };
/// A task ended in any other way. Record it with its evidence.
struct RecordOutcome { RecordNumber record; TaskId task; Epoch epoch; std::uint32_t attempt = 1; SlotId slot; Incarnation incarnation; Outcome outcome; };
/// One attempt ended in another way than completed; for the ledger's attempts and the event log. May be followed by a retry.
struct AttemptEnded { TaskId task; Epoch epoch; std::uint32_t attempt = 1; SlotId slot; Incarnation incarnation; Outcome outcome; TimePoint leased_at, started_at, ended_at; bool will_retry = false; };
struct Deliver { TaskId task; };            ///< its record is committed: hand it to the caller; the scheduler forgets the task
struct Revoke { SlotId slot; Incarnation incarnation; TaskId task; Epoch epoch; };
struct Spawn { SlotId slot; Incarnation incarnation; };
struct AskStop { SlotId slot; Incarnation incarnation; };   ///< set the stop flag
struct Terminate { SlotId slot; Incarnation incarnation; }; ///< SIGTERM
struct Kill { SlotId slot; Incarnation incarnation; KillReason reason{}; };  ///< SIGKILL; evidence is taken first
struct Sample { SlotId slot; Incarnation incarnation; };
struct SaveQuarantined { TaskId task; };    ///< keep its input for `drover replay`; precedes its RecordOutcome
struct RetireSlot { SlotId slot; Incarnation incarnation; };  ///< unkillable: nobody waits for it any more
struct GaveUp { std::string evidence; };    ///< restart intensity exceeded, or no slot left; every open task has been recorded
struct HostFault { std::string step; };     ///< the ledger failed or is too late; leasing has stopped
struct Drained {};                          ///< nothing open, no worker alive: the loop may end. Emitted once.
}  // namespace command
using Command = std::variant<command::Lease, command::RecordCompleted, command::Deliver, command::RecordOutcome, command::AttemptEnded, command::Revoke,
                             command::Spawn, command::AskStop, command::Terminate, command::Kill, command::Sample, command::SaveQuarantined,
                             command::RetireSlot, command::GaveUp, command::HostFault, command::Drained>;

struct Counts {
  std::uint64_t submitted = 0, completed = 0, failed = 0, delivered = 0;
  std::uint64_t attempts = 0, retries_blamed = 0, retries_free = 0, late_discarded = 0, revoked = 0, quarantined = 0;
  std::uint64_t spawns = 0, deaths = 0, kills = 0, recycled = 0, retired_slots = 0;
  std::uint64_t queued = 0, leased = 0;     ///< now
};

/// For `status`: one worker as the scheduler sees it.
struct SlotView {
  enum class State : std::uint8_t { empty, backing_off, starting, idle, busy, stopping, retired };
  State state = State::empty;
  Incarnation incarnation{};
  std::optional<TaskId> head;    ///< the task at the head of its window
  std::uint32_t attempt = 0;     ///< which try of that task this is, from 1; 0 without one
  std::uint32_t leases = 0;
  std::uint64_t completed = 0;   ///< by this incarnation
  TimePoint since{};             ///< of the state
};
std::string_view name_of(SlotView::State state);

class Scheduler {
 public:
  explicit Scheduler(const SchedulerOptions& options);
  ~Scheduler();
  Scheduler(Scheduler&&) noexcept;
  Scheduler& operator=(Scheduler&&) noexcept;

  /// Interns task limits; equal ones share an index. Index 0 is "no limits". At most 65,535 distinct ones.
  std::uint16_t add_limits(const TaskLimits& limits);
  /// The epoch a resumed task continues from (ledger's highest); before its Submit.
  void set_epoch(TaskId task, Epoch highest_used);

  /// Takes events in order, lets time pass to `now` (never backwards: an earlier `now` counts as the latest seen), appends
  /// commands. Never throws; amortised O(1) a task; a step is bounded by its events plus the deadlines that passed.
  void step(TimePoint now, std::span<const Event> events, std::vector<Command>& commands);

  /// When step must be called again even without an event. kNever: parked, nobody need wake.
  TimePoint next_deadline() const;

  const Counts& counts() const;
  SlotView slot(SlotId slot) const;
  std::uint32_t open_tasks() const;    ///< submitted and not delivered
  bool accepting() const;              ///< false once draining, cancelled, given up or failed: Submit is then answered by
                                       ///< RecordOutcome(rejected(closing)), whose commit Drained waits for like any other

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace drover::engine
