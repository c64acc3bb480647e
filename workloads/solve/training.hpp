#pragma once
/// One training job as a value: what is asked (`TrainingSpec`), where it stands (`Position`) and the table. The driver of the
/// job owns a `Training`; workers see only the table at the start of a generation and a task.
///
/// The commit of a generation is the one place where the table changes (docs/solve.md, "A generation"):
///   regrets       += (sum of the batches' regret deltas) / batches        rounded toward zero
///   strategy sums += (sum of the batches' strategy deltas)
/// Regret deltas are averaged, not added. Each batch learns on from the same start, so each delta is one opinion of the same
/// step; adding them takes that step `batches` times and overshoots (measured on Leduc: adding ends at 0.4 chips where
/// averaging ends at 0.013). The average of independent opinions has less sampling noise, which is what limits MCCFR.
///
/// For cfr+ and dcfr a generation is one batch and its result is the next table itself.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "drover/types/bytes.hpp"
#include "drover/types/error.hpp"
#include "solve/game.hpp"
#include "solve/hash.hpp"
#include "solve/schedule.hpp"
#include "solve/table.hpp"

namespace drover::solve {

enum class Mode : std::uint8_t {
  exact,   ///< the table is a function of the spec and the iterations, whatever the workers do
  shared,  ///< workers add to one table without waiting for each other: fastest, not reproducible
};
std::string_view name_of(Mode mode);

struct TrainingSpec {
  GameSpec game = leduc();
  Algorithm algorithm = Algorithm::external_sampling;
  Mode mode = Mode::exact;
  Schedule schedule{};
  std::uint64_t seed = 1;
  friend bool operator==(const TrainingSpec&, const TrainingSpec&) = default;
};

/// Everything the result depends on, a line each: the head of every checkpoint and of every digest.
std::string canonical_text(const TrainingSpec& spec, const Game& game);

class Training {
 public:
  /// `game` must outlive it and be built from spec.game.
  Training(const Game& game, const TrainingSpec& spec);
  /// Continues a decoded state.
  Training(const Game& game, const TrainingSpec& spec, const Position& at, std::vector<std::int64_t> cells);

  const Game& game() const { return *game_; }
  const TrainingSpec& spec() const { return spec_; }
  const Position& position() const { return at_; }
  std::span<const std::int64_t> cells() const { return cells_; }

  /// The generation to run next; no batches when `iterations_max` are done.
  Generation next(std::uint64_t iterations_max) const;
  /// Takes the result of batch `index` of `generation`, which must be next()'s and come in order 0, 1, 2, ...
  /// Errors: corrupt, mismatch, refused, as apply_delta.
  Result<void> add(const Generation& generation, std::uint64_t index, BytesView result);
  /// Ends the generation: every batch of it has been added. Error refused: a cell left its range; the job is over.
  Result<void> commit(const Generation& generation);

  /// SHA-256 over canonical_text, the position, and the cells as little-endian int64.
  Hash256 digest() const;
  Strategy average() const { return average_strategy(*game_, cells_, spec_.algorithm); }

 private:
  const Game* game_;
  TrainingSpec spec_;
  Position at_;
  std::uint64_t added_ = 0;
  std::vector<std::int64_t> cells_;
  std::vector<std::int64_t> sums_;  ///< of the running generation
};

/// What a worker does with a task: es and os play the batch, cfr+ and dcfr run the iterations and return the table.
/// `batches` are kept per worker for their scratch.
class Player {
 public:
  Player(const Game& game, Algorithm algorithm, std::uint64_t seed) : game_(&game), algorithm_(algorithm), runner_(game, algorithm, seed) {}
  /// `iterations_before`: of the table in `start`. Errors as BatchRunner::run.
  Result<Bytes> play(std::span<const std::int64_t> start, std::uint64_t iterations_before, const BatchTask& task,
                     const KeepGoing& keep_going = {});

 private:
  const Game* game_;
  Algorithm algorithm_;
  BatchRunner runner_;
};

/// Runs generations in this process, no workers: for tests, benches and small jobs. Stops at `iterations_max`.
Result<void> train(Training& training, std::uint64_t iterations_max);

}  // namespace drover::solve
