#include "solve/worker_tasks.hpp"

#include <fmt/core.h>

#include <bit>
#include <cstring>

namespace drover::solve {
namespace {

struct Setup {
  Game game;
  Algorithm algorithm;
};

Result<Setup> read_setup(BytesView bytes) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const std::size_t line = text.find('\n');
  if (line == std::string_view::npos) return fail(ErrorCode::corrupt, fmt::format("a worker's setup of {} bytes is not one of solve", bytes.size()));
  DROVER_TRY(const GameSpec spec, parse_game(text.substr(0, line)));
  DROVER_TRY(const Algorithm algorithm, algorithm_named(text.substr(line + 1)));
  DROVER_TRY(Game game, Game::build(spec));
  return Setup{std::move(game), algorithm};
}

}  // namespace

std::string worker_setup(const GameSpec& game, Algorithm algorithm) {
  return fmt::format("{}\n{}", canonical_text(game), name_of(algorithm));
}

struct ExactWorker::Parts {
  Setup setup;
  Player player;
  Parts(Setup s, std::uint64_t seed) : setup(std::move(s)), player(setup.game, setup.algorithm, seed) {}
};

Result<ExactWorker> ExactWorker::start(Context& context) {
  DROVER_TRY(Setup setup, read_setup(context.setup()));
  return ExactWorker(std::make_shared<Parts>(std::move(setup), context.job_seed()));
}

Result<Bytes> ExactWorker::run(const ExactInput& input, Context& context) {
  const BytesView table = context.broadcast();
  if (table.size() != parts_->setup.game.table_bytes() || std::bit_cast<std::uintptr_t>(table.data()) % alignof(std::int64_t) != 0)
    return fail(ErrorCode::mismatch, fmt::format("the broadcast has {} bytes, the table {}", table.size(), parts_->setup.game.table_bytes()));
  const std::span start(reinterpret_cast<const std::int64_t*>(table.data()), table.size() / sizeof(std::int64_t));
  return parts_->player.play(start, input.iterations_before, input.batch, [&context](std::uint64_t done) {
    context.progress(done + 1);
    return true;
  });
}

struct SharedWorker::Parts {
  Setup setup;
  BatchRunner runner;
  Parts(Setup s, std::uint64_t seed) : setup(std::move(s)), runner(setup.game, setup.algorithm, seed) {}
};

Result<SharedWorker> SharedWorker::start(Context& context) {
  DROVER_TRY(Setup setup, read_setup(context.setup()));
  return SharedWorker(std::make_shared<Parts>(std::move(setup), context.job_seed()));
}

Result<std::uint64_t> SharedWorker::run(const SharedInput& input, Context& context) {
  DROVER_TRY(const TableView table, TableView::open(context.shared_segment(), parts_->setup.game));
  WorkerCounters& counters = table.header().workers[context.slot().value % kWorkerCountersMax];
  return parts_->runner.run_shared(table, counters, input.batch, {.flush_iterations = input.flush_iterations, .workers = input.workers},
                                   [&context](std::uint64_t done) {
                                     context.progress(done + 1);
                                     return !context.stopping();
                                   });
}

}  // namespace drover::solve
