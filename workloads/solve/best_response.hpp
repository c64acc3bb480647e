#pragma once
/// Exact judgement of a strategy: what it wins against itself and what a perfect opponent wins against it. One pass over the
/// public tree with a vector of all hands, no sampling; the certificate behind every result `solve` prints.
///
/// NashConv = sum over players of (best response value - own value); exploitability = NashConv / 2, in chips per game.
/// In a zero-sum game this is (BR_0 + BR_1) / 2. mbb/g = 1000 * chips / unit, the unit being the ante (dice: the stake).

#include "solve/game.hpp"
#include "solve/table.hpp"

namespace drover::solve {

struct Certificate {
  double value = 0;                   ///< of the profile, for player 0, chips per game
  double best_response[2] = {0, 0};   ///< of each player against the other's strategy, chips per game
  double nash_conv = 0;               ///< chips per game
  double exploitability = 0;          ///< chips per game
  double exploitability_mbb = 0;      ///< thousandths of the unit per game
};

Certificate certify(const Game& game, const Strategy& strategy);

/// What player 0 wins when both follow `strategy`.
double profile_value(const Game& game, const Strategy& strategy);
/// What `player` wins with a best response against the other's part of `strategy`.
double best_response_value(const Game& game, const Strategy& strategy, int player);

}  // namespace drover::solve
