/// The driver of shared mode (driver.hpp): batches flow without barriers over one table that all workers add to.

#include <fmt/core.h>

#include <atomic>
#include <chrono>

#include "solve/announce.hpp"
#include "solve/checkpoint_payload.hpp"
#include "solve/driver.hpp"
#include "solve/worker_tasks.hpp"

namespace drover::solve {
namespace {

using SteadyClock = std::chrono::steady_clock;

std::int64_t load(std::int64_t& cell) { return std::atomic_ref(cell).load(std::memory_order_relaxed); }

/// The cells as they are now. Workers go on meanwhile: an iteration or two may be in it by half.
std::vector<std::int64_t> snapshot(const TableView& table) {
  std::vector<std::int64_t> cells(table.cells().size());
  for (std::size_t i = 0; i < cells.size(); ++i) cells[i] = load(table.cells()[i]);
  return cells;
}

/// Linear weighting without a barrier: takes 1 - numerator/denominator of every cell away by fetch_add, so that what workers add
/// meanwhile stays. A sweep cut off by a kill leaves some infosets weighted differently in time; each stays consistent in itself.
void discount_shared(const TableView& table, std::uint64_t numerator, std::uint64_t denominator) {
  for (std::int64_t& cell : table.cells()) {
    const std::int64_t before = load(cell);
    if (before == 0) continue;
    std::int64_t after = before;
    discount({&after, 1}, numerator, denominator);
    std::atomic_ref(cell).fetch_add(after - before, std::memory_order_relaxed);
  }
}

struct Totals {
  std::int64_t started = 0, finished = 0, flushes_cut = 0;
};
Totals totals_of(const TableView& table) {
  Totals t;
  for (WorkerCounters& w : table.header().workers) {
    t.started += load(w.iterations_started);
    t.finished += load(w.iterations_finished);
    t.flushes_cut += load(w.flushes_started) - load(w.flushes_finished);
  }
  return t;
}

Result<void> check_range(std::span<const std::int64_t> cells) {
  for (const std::int64_t cell : cells)
    if (cell > kCellLimit || cell < -kCellLimit)
      return fail(ErrorCode::refused, "a cell of the shared table is beyond 2^62: the table is full", "fewer iterations, or --mode exact");
  return {};
}

}  // namespace

Result<void> drive_shared(Job& job, const Game& game, const DriveOptions& options) {
  DROVER_TRY(const Training before, resumed_training(job, game, options));
  DROVER_TRY(const TableView table, TableView::create(job.pool().shared_segment(), game, options.spec.algorithm));
  std::copy(before.cells().begin(), before.cells().end(), table.cells().begin());

  const std::uint64_t start_iterations = before.position().iterations;
  const TaskId first_task = job.confirmed();
  Position handed_out = before.position();        // what the next batch is cut from
  std::uint64_t index = 0;                        // in the generation at handed_out
  std::uint64_t played = 0, answered = 0, failed = 0;
  Generation sweep = generation_at(options.spec.schedule, before.position(), options.iterations_max);
  Announcer announcer(job, game, options.iterations_max, options.target_chips, start_iterations);
  detail::OrderedStream stream(job.pool().stream(), std::max(4U, 4 * job.pool().workers()));
  SteadyClock::time_point last_checkpoint = SteadyClock::now();

  const auto state_now = [&]() -> Result<Training> {
    std::vector<std::int64_t> cells = snapshot(table);
    DROVER_CHECK(check_range(cells));
    // Batches handed out and not yet answered are played again after a resume, on random numbers of their own.
    const Position at{.generation = sweep.start.generation, .iterations = start_iterations + played, .next_batch = handed_out.next_batch + index};
    return Training(game, options.spec, at, std::move(cells));
  };
  const auto save = [&](bool last) -> Result<void> {
    DROVER_TRY(const Training now, state_now());
    const std::string meta = fmt::format(R"({{"iterations": {}, "shared": true, "iterations_max": {}}})", now.position().iterations,
                                         options.iterations_max);
    auto info = job.commit_checkpoint(encode_checkpoint(now), meta, TaskId(first_task.value + answered));
    if (!info) return std::unexpected(std::move(info).error().with("saving a checkpoint"));
    if (options.lineage != nullptr) DROVER_CHECK(options.lineage->commit(now, last ? std::optional(certify(game, now.average())) : std::nullopt));
    last_checkpoint = SteadyClock::now();
    return {};
  };

  bool reached = false;
  for (;;) {
    while (!reached && stream.room() && !job.should_stop()) {
      const Generation generation = generation_at(options.spec.schedule, handed_out, options.iterations_max);
      if (generation.batches == 0) break;
      const SharedInput input{.batch = generation.task(index), .flush_iterations = options.flush_iterations, .workers = job.pool().workers()};
      if (auto put = stream.put(*shared_task.function, input); !put) {
        if (job.should_stop()) break;
        return std::unexpected(std::move(put).error().with(fmt::format("handing out batch {}", input.batch.batch)));
      }
      if (++index == generation.batches) {
        handed_out = generation.end();
        index = 0;
      }
    }
    if (stream.empty()) break;
    const TaskResult<std::uint64_t> result = detail::result_of<std::uint64_t>(stream.next());
    ++answered;
    if (!result) {
      ++failed;
      continue;
    }
    played += *result;
    while (sweep.batches > 0 && start_iterations + played >= sweep.end().iterations) {
      if (sweep.start.generation < options.spec.schedule.discounted && sweep.start.iterations > 0)
        discount_shared(table, sweep.start.iterations, sweep.end().iterations);
      sweep = generation_at(options.spec.schedule, sweep.end(), options.iterations_max);
    }
    announcer.progress(start_iterations + played);
    if (announcer.certificate_due()) {
      const std::vector<std::int64_t> cells = snapshot(table);
      DROVER_CHECK(check_range(cells));
      std::chrono::nanoseconds cost{};
      const Certificate now = certify_timed(game, average_strategy(game, cells, options.spec.algorithm), cost);
      announcer.certified(now, cost);
      reached = reached || (options.target_chips > 0 && now.exploitability <= options.target_chips);
    }
    if (SteadyClock::now() - last_checkpoint >= options.checkpoint_every) DROVER_CHECK(save(false));
  }

  DROVER_CHECK(save(true));
  DROVER_TRY(const Training end, state_now());
  announcer.finish(certify(game, end.average()), start_iterations + played);
  const Totals totals = totals_of(table);
  const auto figure = [&job](std::string key, std::int64_t value, std::string shown = {}) {
    job.figure({.key = std::move(key), .value = value, .shown = std::move(shown)});
  };
  const std::int64_t repeated = totals.finished - static_cast<std::int64_t>(played), cut = totals.started - totals.finished;
  figure("iterations_repeated", repeated,
         repeated == 0 ? "" : fmt::format("{} iterations were played twice: their worker died before it could answer", repeated));
  figure("iterations_interrupted_max", cut, cut == 0 ? "" : fmt::format("at most {} more iterations were begun by workers that died, and are not counted", cut));
  figure("flushes_interrupted", totals.flushes_cut);
  figure("batches_failed", static_cast<std::int64_t>(failed));
  job.no_digest("mode shared: workers add to one table in no fixed order");
  return {};
}

}  // namespace drover::solve
