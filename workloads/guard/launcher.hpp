#pragma once
/// Starts the command, and has its successor ready: while one runs the next one's init waits, or with a spare the next one itself,
/// started up to the gate where its trainer client waits; when one dies and the policy says so, the next is started at once and found
/// running by the next attempt. The plan decides by the same pure function over the same attempts, so nothing runs that it would not
/// have started (a job that is stopped in that instant kills it, and has no attempt of it); a worker that has not seen all attempts
/// leaves it to the plan.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "drover/command.hpp"
#include "drover/types/bytes.hpp"
#include "drover/types/error.hpp"
#include "guard/attempt.hpp"
#include "guard/checkpoints.hpp"
#include "guard/orders.hpp"

namespace drover::guard {

struct Launched {
  std::shared_ptr<const Orders> orders;
  std::unique_ptr<Checkpoints> checkpoints;
  Command command;
  TimePoint begin{};
};

/// One a worker process, used by its one thread.
class Launcher {
 public:
  /// The attempt's command: started now, or found running. Error: why it cannot be started.
  Result<Launched> take(std::shared_ptr<const Orders> orders, std::uint64_t number);
  /// While a command runs: makes the init of its successor, or the spare, if there may be one. Some milliseconds, once an attempt.
  void prepare(const std::shared_ptr<const Orders>& orders);
  /// After an attempt whose processes are all gone: starts the next one if the policy says so, at once.
  void ended(const std::shared_ptr<const Orders>& orders, std::uint64_t number, const AttemptReport& report);

 private:
  Result<Launched> launch(std::shared_ptr<const Orders> orders, std::uint64_t number);
  Result<Command> start(const Orders& orders, std::vector<std::string> more_env, bool gated);

  std::optional<CommandInit> init_;
  std::optional<Command> spare_;
  bool made_ = false;                       ///< tried for this attempt
  std::optional<Launched> next_;
  std::uint64_t next_number_ = 0;
  std::vector<AttemptReport> history_;      ///< from the first attempt on, as far as this process has seen all of it
};

}  // namespace drover::guard
