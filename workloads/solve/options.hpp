#pragma once
/// The options of `drover solve GAME ...` and what follows from them.

#include <string>

#include "drover/types/time.hpp"
#include "solve/lineage.hpp"
#include "solve/training.hpp"

namespace drover {
class Schema;
}

namespace drover::solve {

struct SolveOptions {
  std::string game;
  std::string algorithm = "es";
  std::string mode = "exact";
  std::uint64_t iterations = 0;     ///< 0: what suits the game, or no bound with --target or --time
  double target_chips = 0;          ///< 0: none
  std::uint64_t batch = 0;          ///< 0: what suits the game
  std::uint64_t generation = 8;
  std::uint64_t growth = 16;
  std::uint64_t discounted = 32;
  std::uint64_t flush = 512;
  std::uint64_t table_bytes_max = std::uint64_t{2} << 30;
  Nanos checkpoint_every = Seconds(10);
  LineageOptions lineage{};         ///< name "" = GAME-ALGORITHM
  std::uint32_t ranks = 0, suits = 0, raises = 0, ante = 0, bet = 0, second_bet = 0, dice = 0, sides = 0;  ///< 0: the game's own

  void describe(Schema& schema);
};

/// The rules the options give. Errors: usage; an option that the game does not have is one.
Result<GameSpec> game_of(const SolveOptions& options);

/// The training the options ask for. Errors: usage, refused (the table's size).
Result<TrainingSpec> training_of(const SolveOptions& options, const Game& game, std::uint64_t seed);

/// Iterations of a job that says neither --iterations nor --target nor --time: a few seconds on two cores.
std::uint64_t default_iterations(const Game& game, Algorithm algorithm);

}  // namespace drover::solve
