#pragma once
/// Drives the scheduler through one random life after another and watches it with a model of its own. A schedule is a function of
/// its seed: options, workload, processes that die between any two of their steps, hints without deaths, deaths without hints,
/// late, doubled and stale publications, a lost keeper, slow and failing commits, spawns that fail or hang, processes that ignore
/// requests, SIGTERM or SIGKILL, clocks that jump, cancels, drains, shrinking pools, recycling.
///
/// The model knows what really happened (what a process had claimed and published) and holds every command against it:
///  1. each submitted task is recorded once and delivered once, after the commit of its record;
///  2. only publications of the current lease are recorded as completed;
///  3. only a task that was begun is charged;
///  4. an effectful task that was begun is never leased again;
///  5. nothing waits for ever: wall and task limits end attempts, an ending leads to Drained within the sum of its deadlines;
///  6. a SIGKILL of ours is never `lost(killed)`;
/// and: no lease beyond a window, none to a process not known to be ready, no lease or spawn after the end was asked for, epochs
/// grow, no process is alive at Drained, `cancelled(queued)` is said only of tasks that had not begun.

#include <cstdint>
#include <string>

namespace drover::sim {

struct ScheduleReport {
  std::string violation;        ///< empty: all invariants held
  std::uint64_t trace_hash = 0; ///< of every command and its time: equal seeds give equal hashes
  std::uint64_t steps = 0, commands = 0;
  std::uint64_t tasks = 0, completed = 0, retries = 0, deaths = 0, late = 0, revoked = 0, recycled = 0, retired = 0;
  bool gave_up = false, host_fault = false;
};

/// Runs one schedule. `verbose`: every event and command goes to stderr.
ScheduleReport run_schedule(std::uint64_t seed, bool verbose = false);

struct SimulationSummary {
  std::uint64_t schedules = 0, violations = 0, first_bad_seed = 0;
  std::string first_violation;
  std::uint64_t steps = 0, commands = 0, tasks = 0, completed = 0, retries = 0, deaths = 0, late = 0, revoked = 0, recycled = 0, retired = 0,
                gave_up = 0, host_faults = 0;
  std::uint64_t trace_hash = 0;  ///< of all schedules, in seed order
};

/// Schedules seed, seed + 1, ... Stops at the first violation unless told otherwise.
SimulationSummary run_schedules(std::uint64_t seed, std::uint64_t schedules, bool stop_at_first = true);

std::string text_of(const SimulationSummary& summary);

}  // namespace drover::sim
