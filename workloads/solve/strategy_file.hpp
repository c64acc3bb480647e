#pragma once
/// Strategies as files that other programs can load.
///
/// JSON: one object
///   {"format": "drover-solve-strategy", "version": 1, "game": TEXT, "game_sha256": HEX, "algorithm": "es",
///    "iterations": N, "value_chips": X, "exploitability_chips": X,
///    "infosets": [{"name": "Q/J:cr/c", "player": 0, "hand": "Q", "public": "J" or null, "history": "cr/c",
///                  "actions": ["check", "bet"], "probabilities": [0.25, 0.75]}, ...]}
///   One infoset a line, in table order; probabilities as the shortest decimals that read back to the same double.
/// CSV: header `infoset,player,hand,public,history,action,probability`, one line per action. The game is not in it.
///   Histories of liar's dice hold commas and are quoted.

#include <functional>
#include <string>
#include <string_view>

#include "drover/types/error.hpp"
#include "solve/best_response.hpp"
#include "solve/game.hpp"
#include "solve/table.hpp"

namespace drover::solve {

/// Takes the text piece by piece, so that a large strategy is never held twice.
using TextSink = std::function<Result<void>(std::string_view)>;

struct StrategySource {
  std::string algorithm;
  std::uint64_t iterations = 0;
};

Result<void> write_json(const Game& game, const Strategy& strategy, const StrategySource& source, const Certificate& certificate,
                        const TextSink& sink);
Result<void> write_csv(const Game& game, const Strategy& strategy, const TextSink& sink);

struct LoadedStrategy {
  GameSpec game;
  Strategy strategy;
  StrategySource source{};  ///< as the file says; empty for CSV
};
/// Reads either form; CSV needs `game`. Errors: corrupt (with the place), mismatch (made for another game; both hashes),
/// and an infoset that is missing, twice, unknown, or whose probabilities are not a distribution (to 1e-6).
Result<LoadedStrategy> read_strategy(std::string_view text, const GameSpec* game);

/// One infoset for people: its actions with probabilities, and where the name leads.
std::string show_infoset(const Game& game, const Strategy& strategy, Game::InfosetId id);

}  // namespace drover::solve
