#pragma once
/// The one loop. It waits until the earliest deadline or an event, gathers what happened, asks the scheduler what to do, does
/// it, and waits again: every wait of the runtime for anything outside is in run(), and has a deadline. No user code runs here.
///
/// Owns the scheduler, the keeper, the watchdog, the death watch and every incarnation's link. Lives on one thread; the only
/// door for other threads is PoolImpl's inbox.

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "engine/scheduler.hpp"
#include "os/clock.hpp"
#include "os/death_watch.hpp"
#include "os/limits.hpp"
#include "os/poller.hpp"
#include "supervisor/job_store.hpp"
#include "containment/keeper_link.hpp"
#include "supervisor/pool_impl.hpp"
#include "supervisor/task_entries.hpp"
#include "supervisor/watchdog_link.hpp"
#include "supervisor/worker_link.hpp"
#include "supervisor/worker_log.hpp"

namespace drover {

class ControlServer;

/// What a run came to, for the job runner; complete when PoolImpl::wait_ended returned true.
struct RunSummary {
  engine::Counts counts{};
  std::vector<std::pair<std::string, std::uint64_t>> faults_by_kind;  ///< attempts that did not complete, by outcome name
  std::string last_fault;              ///< the last of them, with its evidence
  std::string ended_by;                ///< empty: asked to; else gave_up, host_fault, watchdog with its evidence
  std::optional<Error> host_fault{};
  std::string gave_up{};
  bool run_deadline_passed = false;
  Nanos worker_cpu{};
  std::vector<int> unkillable{};       ///< host pids still there when the loop ended
  LimitLayers layers{};
  std::string containment_note{};
  Nanos consumed{};                    ///< of the budget, by this run
  std::shared_ptr<JobStore> job{};     ///< back from the loop
};

class Supervisor {
 public:
  Supervisor(detail::PoolImpl& pool, const Clock& clock, std::unique_ptr<JobStore> job, Nanos run_deadline_boottime);
  ~Supervisor();

  /// Keeper, watchdog, death watch, poller. On the loop thread: the keeper's life hangs on the thread that started it.
  Result<void> start();
  /// Until everything has ended. Bounded by the tasks' limits, the run's deadline, and after a shutdown request by the ladder.
  void run();

  const RunSummary& summary() const { return summary_; }
  /// After run(): gives the job's store away, for the ending to be recorded.
  void hand_over(RunSummary& summary) { summary.job = std::move(job_); }
  Nanos worker_cpu() const;

  // ---- on the loop thread, through PoolImpl::call ----
  void abandon(StreamState& stream);
  JobStore* job() { return job_.get(); }
  const engine::Counts& counts() const { return scheduler_->counts(); }
  /// Adds the job runner's own records (confirmations, checkpoints) to the ledger's next batch, which is committed whole: `fill`
  /// takes a number for at least one of them. `done` is called on the loop thread once they are committed, or with the failure.
  void append(const std::function<void(store::RecordBatch&, const std::function<RecordNumber()>&)>& fill, std::function<void(Result<void>)> done);
  /// A resumed task's epochs go on from here.
  void set_epoch(TaskId task, Epoch highest) { scheduler_->set_epoch(task, highest); }
  /// The workload was asked to end; at `deadline` its tasks are cancelled.
  void stop_at(TimePoint deadline) { stop_deadline_ = std::min(stop_deadline_, deadline); }
  void set_ending_state(store::LiveJobState state) { live_state_ = state; }
  void set_workload_line(std::string line, std::uint64_t total);

 private:
  enum class Source : std::uint8_t { inbox, keeper, watchdog, death_watch, ledger, control, worker_bell, worker_log };
  static std::uint64_t token(Source source, SlotId slot = {}, Incarnation incarnation = {}) {
    return (static_cast<std::uint64_t>(source) << 56) | (std::uint64_t{slot.value & 0xffffff} << 32) | incarnation.value;
  }
  static engine::SchedulerOptions scheduler_options(const PoolOptions& options, bool polled_memory);

  // gathering: what happened becomes events_
  void read_inbox();
  bool read_rings();                        ///< true if anything was there
  bool read_ring(WorkerLink& link);
  void look(TimePoint deadline, TimePoint now);  ///< the one wait
  void on_ready(std::uint64_t token, TimePoint now);
  void on_keeper(TimePoint now);
  void on_keeper_message(KeeperMessage& message, TimePoint now);
  void on_spawned(keeper::Spawned& spawned, TimePoint now);
  void on_ended(const keeper::Ended& ended, TimePoint now);
  void keeper_lost(TimePoint now, std::string_view why);
  void on_watchdog(TimePoint now);
  void check_ready(WorkerLink& link, TimePoint now);
  void check_ledger(TimePoint now);
  void check_own_deadlines(TimePoint now);

  // doing: commands_ carried out
  void step(TimePoint now);
  void carry_out(engine::Command& command, TimePoint now);
  void lease(const engine::command::Lease& c, TimePoint now);
  void give(WorkerLink& link, const TaskEntry& entry);
  bool take_back_refused(TaskId task, Epoch epoch);
  bool take_back_held(WorkerLink& link, TaskId task, Epoch epoch);
  void give_held(RecordNumber on_disk);
  void close_opening(const WorkerLink& link, const WorkerLink::Held& held, TimePoint now);
  void record_completed(const engine::command::RecordCompleted& c, TimePoint now);
  void record_outcome(engine::command::RecordOutcome& c, TimePoint now);
  static BytesView result_bytes(const TaskEntry& entry);
  void fill_reason(Outcome& outcome, TaskId task);
  void deliver(TaskId task);
  void deliver_entry(TaskEntry& entry);
  void spawn(const engine::command::Spawn& c, TimePoint now);
  void kill(const engine::command::Kill& c, TimePoint now);
  void sample(const engine::command::Sample& c);
  void flush_deliveries();
  void flush_records(TimePoint now);
  void publish_views(TimePoint now, bool force);
  TimePoint own_deadline(TimePoint now) const;
  bool rings_have_something() const;
  Result<void> start_keeper();
  Result<void> start_watchdog();
  void end_all(TimePoint now);

  WorkerLink* find(SlotId slot, Incarnation incarnation);
  void drop_link(SlotId slot, Incarnation incarnation);
  void event_line(TimePoint now, std::string_view kind, std::string_view cause, std::optional<SlotId> slot = {}, std::optional<Incarnation> incarnation = {},
                  std::optional<TaskId> task = {}, std::optional<Epoch> epoch = {});
  void count_fault(const Outcome& outcome);

  detail::PoolImpl& pool_;
  const Clock& clock_;
  std::shared_ptr<JobStore> job_;
  Nanos run_deadline_boottime_;
  std::optional<engine::Scheduler> scheduler_;
  std::optional<Poller> poller_;
  std::optional<KeeperLink> keeper_;
  std::optional<WatchdogLink> watchdog_;
  std::unique_ptr<DeathWatch> death_watch_;
  std::optional<CgroupTree> cgroups_;
  std::unique_ptr<ControlServer> control_;
  std::vector<std::vector<std::unique_ptr<WorkerLink>>> links_;  ///< by slot: current, outgoing, unkillable
  std::vector<std::unique_ptr<WorkerLog>> logs_;
  TaskEntries entries_;

  std::vector<engine::Event> events_;
  std::vector<engine::Command> commands_;
  std::vector<std::uint64_t> ready_;
  std::vector<KeeperMessage> keeper_messages_;
  std::vector<WatchdogMessage> watchdog_messages_;
  std::vector<std::uint64_t> hints_;
  std::vector<StreamState*> dirty_streams_;
  Inbox inbox_;
  store::RecordBatch batch_;
  struct Waiting {
    RecordNumber after;                     ///< in the ledger's numbering
    std::function<void(Result<void>)> done;
  };
  std::vector<Waiting> waiting_;
  /// The ledger numbers what is really written; the scheduler numbers every ending. One mark a flushed batch translates.
  struct Mark {
    RecordNumber ledger, scheduler;
  };
  std::deque<Mark> marks_;
  RecordNumber ledger_number_{};            ///< last given to a record of batch_
  RecordNumber last_record_{};              ///< last the scheduler gave
  RecordNumber committed_upto_{};           ///< in the scheduler's numbering, as the ledger has told
  RecordNumber committed_told_{};           ///< last the scheduler was told
  bool host_fault_ = false;
  TimePoint stop_deadline_ = kNever;        ///< of a soft stop
  std::vector<engine::event::Revoked> refused_;  ///< leases that had no place in their worker's ring, given back at refused_until_
  TimePoint refused_until_ = kNever;
  TimePoint started_{};
  Nanos started_boottime_{};
  std::uint64_t released_tasks_ = 0, released_bytes_ = 0;
  bool drained_ = false, run_deadline_told_ = false, ledger_failed_ = false, prune_ = false;
  std::optional<ShutdownRequest> shutdown_;
  std::vector<TimePoint> watchdog_restarts_;
  Nanos ended_worker_cpu_{};
  TimePoint next_beat_ = kNever, next_view_ = kNever, last_poll_{};
  bool view_dirty_ = true;
  std::uint64_t wakeups_ = 0;
  std::vector<std::uint32_t> slot_deaths_;
  std::vector<std::string> slot_faults_;
  std::string last_fault_;
  std::vector<TimePoint> slot_died_at_;
  store::LiveJobState live_state_ = store::LiveJobState::running;
  std::string workload_line_;
  std::uint64_t tasks_total_ = store::kNoTask;
  engine::Counts counts_at_view_{};
  TimePoint next_metrics_{};
  TimePoint last_view_{};
  double rate_ = 0;
  RunSummary summary_;
};

}  // namespace drover
