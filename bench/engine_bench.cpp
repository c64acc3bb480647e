// What the scheduler costs per task on the fast path: Submit, Lease, Published, RecordCompleted, Committed, Deliver, in batches.
// Prints one line a setting. Nothing here waits: it is the scheduler alone, without rings, ledger or processes.
#include <fmt/format.h>

#include <cstdint>
#include <cstdlib>
#include <ctime>
#include <vector>

#include "engine/scheduler.hpp"

namespace {
using namespace drover;
using namespace drover::engine;

/// `open`: tasks kept submitted and undelivered; `batch`: publications a step.
double nanoseconds_a_task(std::uint32_t slots, std::uint32_t window, std::uint32_t open, std::uint64_t tasks, const TaskLimits& limits) {
  Scheduler scheduler({.slots = slots, .window = window});
  const std::uint16_t limit = scheduler.add_limits(limits);
  std::vector<Event> events;
  std::vector<Command> commands;
  std::vector<command::Lease> leases;
  std::int64_t clock = 1;
  const auto step = [&] {
    commands.clear();
    clock += 1000;
    scheduler.step(TimePoint(Nanos(clock)), events, commands);
    events.clear();
  };
  step();
  for (const Command& c : commands) {
    if (const auto* const spawn = std::get_if<command::Spawn>(&c)) events.emplace_back(event::Ready{spawn->slot, spawn->incarnation});
  }
  std::uint64_t submitted = 0, delivered = 0;
  RecordNumber recorded{};
  for (; submitted < open; ++submitted) events.emplace_back(event::Submit{TaskId(submitted), EffectClass::pure, limit});
  const std::clock_t begin = std::clock();  // CPU time: other work on the machine does not count
  while (delivered < tasks) {
    step();
    for (const Command& c : commands) {
      if (const auto* const lease = std::get_if<command::Lease>(&c)) {
        events.emplace_back(event::Published{lease->slot, lease->incarnation, lease->task, lease->epoch, false});
      } else if (const auto* const record = std::get_if<command::RecordCompleted>(&c)) {
        recorded = record->record;
      } else if (std::holds_alternative<command::Deliver>(c)) {
        ++delivered;
        events.emplace_back(event::Submit{TaskId(submitted++), EffectClass::pure, limit});
      }
    }
    events.emplace_back(event::Committed{recorded});
  }
  return static_cast<double>(std::clock() - begin) * (1e9 / CLOCKS_PER_SEC) / static_cast<double>(delivered);
}
}  // namespace

int main(int argc, char** argv) {
  fmt::print("Event {} bytes, Command {} bytes\n", sizeof(Event), sizeof(Command));
  const std::uint64_t tasks = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 5'000'000;
  const TaskLimits none{};
  const TaskLimits walled{.attempt_wall = Seconds(10), .task = Seconds(100)};
  for (int round = 0; round < 3; ++round) {
    fmt::print("2 workers, window  64, 1024 open             {:6.1f} ns a task\n", nanoseconds_a_task(2, 64, 1024, tasks, none));
    fmt::print("2 workers, window  64, 1024 open, wall+task  {:6.1f} ns a task\n", nanoseconds_a_task(2, 64, 1024, tasks, walled));
    fmt::print("2 workers, window  64, 100,000 open          {:6.1f} ns a task\n", nanoseconds_a_task(2, 64, 100'000, tasks, none));
    fmt::print("64 workers, window 64, 100,000 open          {:6.1f} ns a task\n", nanoseconds_a_task(64, 64, 100'000, tasks, none));
    fmt::print("1 worker, window 1, 1 open (a step a task)   {:6.1f} ns a task\n", nanoseconds_a_task(1, 1, 1, tasks / 10, none));
  }
}
