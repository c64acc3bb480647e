#include "guard/launcher.hpp"

#include <filesystem>
#include <utility>

#include "drover/clock.hpp"
#include "guard/restart.hpp"

namespace drover::guard {
namespace {

constexpr Nanos kStart = Seconds(10);

}  // namespace

Result<Launched> Launcher::take(std::shared_ptr<const Orders> orders, std::uint64_t number) {
  if (number == 1) history_.clear();
  made_ = false;
  if (auto next = std::exchange(next_, std::nullopt); next && next_number_ == number && *next->orders == *orders) return std::move(*next);
  return launch(std::move(orders), number);
}

void Launcher::prepare(const std::shared_ptr<const Orders>& orders) {
  if (std::exchange(made_, true) || orders->policy.restart == Restart::temporary) return;
  // What cannot be made now is made at the next start.
  if (orders->spare && !(spare_ && spare_->running())) {
    if (auto spare = start(*orders, {"DROVER_STAGING=" + orders->staging}, true)) spare_ = std::move(*spare);
  } else if (!orders->spare && !init_) {
    if (auto init = CommandInit::make(now() + kStart)) init_ = std::move(*init);
  }
}

void Launcher::ended(const std::shared_ptr<const Orders>& orders, std::uint64_t number, const AttemptReport& report) {
  if (history_.size() + 1 != number) return;
  history_.push_back(report);
  const Decision decision = decide(orders->policy, history_);
  if (decision.ending || decision.delay > Nanos(0)) return;
  if (auto next = launch(orders, number + 1)) next_.emplace(std::move(*next));  // why not, the next attempt finds out
  next_number_ = number + 1;
}

Result<Launched> Launcher::launch(std::shared_ptr<const Orders> orders, std::uint64_t number) {
  const TimePoint begin = now();
  auto checkpoints = std::make_unique<Checkpoints>(*orders);
  std::vector<std::string> env;
  if (!orders->store.empty()) {
    DROVER_CHECK(checkpoints->begin(number));
    env = checkpoints->environment();
  }
  auto spare = std::exchange(spare_, std::nullopt);
  if (spare && spare->running()) {
    std::string message = "go\n";
    for (const std::string& variable : env) message += variable + "\n";
    if (spare->open_gate(message)) return Launched{.orders = std::move(orders), .checkpoints = std::move(checkpoints), .command = std::move(*spare), .begin = begin};
  }
  DROVER_TRY(Command command, start(*orders, std::move(env), false));
  return Launched{.orders = std::move(orders), .checkpoints = std::move(checkpoints), .command = std::move(command), .begin = begin};
}

Result<Command> Launcher::start(const Orders& orders, std::vector<std::string> more_env, bool gated) {
  std::vector<std::string> env = inherited_environment();
  for (std::string& variable : more_env) env.push_back(std::move(variable));
  const CommandSpec spec{.argv = orders.command,
                         .env = std::move(env),
                         .directory = orders.directory,
                         .notify_directory = orders.notify_directory,
                         .gated = gated,
                         .watch_directory = std::filesystem::path(orders.ingest).parent_path().string()};
  auto init = std::exchange(init_, std::nullopt);
  return init ? Command::start(spec, now() + kStart, std::move(*init)) : Command::start(spec, now() + kStart);
}

}  // namespace drover::guard
