// Goal: the certificate is right, and the solvers reach the values the literature knows.
// Method: best response against every pure strategy by brute force on Kuhn; CFR+ and DCFR against published values.

#include <cmath>

#include "games.hpp"
#include "solve/best_response.hpp"
#include "solve/vector_cfr.hpp"

namespace drover::solve {
namespace {

/// Expected win of player 0 by walking every deal and history: no vectors, no shared code with certify().
double brute_value(const Game& game, const Strategy& strategy) {
  const auto walk = [&](auto&& self, std::uint32_t id, const Deal& deal) -> double {
    const Node& node = game.nodes()[id];
    if (node.kind != NodeKind::decision) return game.utility(node, deal);
    double value = 0;
    const std::uint64_t row = Game::row(node, deal.info[node.player][node.street]) / 2;
    for (std::uint32_t a = 0; a < node.actions; ++a)
      if (strategy[row + a] > 0) value += strategy[row + a] * self(self, node.first_child + a, deal);
    return value;
  };
  double value = 0;
  for (const auto& [deal, probability] : game.all_deals()) value += probability * walk(walk, 0, deal);
  return value;
}

/// A strategy that is nowhere uniform, different for every seed.
Strategy some_strategy(const Game& game, std::uint64_t seed) {
  Strategy strategy = uniform_strategy(game);
  Rng random(seed);
  for (const Node& node : game.nodes()) {
    if (node.kind != NodeKind::decision) continue;
    for (std::uint32_t info = 0; info < game.infos(node); ++info) {
      double total = 0;
      double* row = &strategy[Game::row(node, info) / 2];
      for (std::uint32_t a = 0; a < node.actions; ++a) total += row[a] = random.unit();
      for (std::uint32_t a = 0; a < node.actions; ++a) row[a] /= total;
    }
  }
  return strategy;
}

TEST(BestResponse, ProfileValueEqualsTheSumOverEveryDealAndHistory) {
  for (const GameSpec& spec : {kuhn(), leduc(), GameSpec{PokerRules{.ranks = 4, .suits = 3, .raises = 1}}, GameSpec{DiceRules{1, 4}}}) {
    const Game game = built(spec);
    for (std::uint64_t seed = 1; seed <= 3; ++seed) {
      const Strategy strategy = some_strategy(game, seed);
      EXPECT_NEAR(profile_value(game, strategy), brute_value(game, strategy), 1e-12) << canonical_text(spec);
    }
  }
}

TEST(BestResponse, OnKuhnItIsTheBestOfAllPureStrategies) {
  const Game game = built(kuhn());
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    const Strategy base = some_strategy(game, seed);
    for (int player = 0; player < 2; ++player) {
      std::vector<std::uint64_t> rows;  // all have two actions
      for (const Node& node : game.nodes())
        if (node.kind == NodeKind::decision && node.player == player)
          for (std::uint32_t info = 0; info < 3; ++info) rows.push_back(Game::row(node, info) / 2);
      ASSERT_EQ(rows.size(), 6U);
      double best = -1e9;
      for (unsigned choice = 0; choice < 64; ++choice) {
        Strategy pure = base;
        for (std::size_t i = 0; i < rows.size(); ++i) {
          pure[rows[i]] = (choice >> i & 1U) == 0 ? 1 : 0;
          pure[rows[i] + 1] = 1 - pure[rows[i]];
        }
        best = std::max(best, brute_value(game, pure) * (player == 0 ? 1 : -1));
      }
      EXPECT_NEAR(best_response_value(game, base, player), best, 1e-12);
    }
  }
}

TEST(BestResponse, UnitsFollowFromOneAnother) {
  const Game game = built({PokerRules{.bets = {4, 8}, .ante = 2}});
  const Certificate c = certify(game, uniform_strategy(game));
  EXPECT_DOUBLE_EQ(c.nash_conv, c.best_response[0] + c.best_response[1]);
  EXPECT_DOUBLE_EQ(c.exploitability, c.nash_conv / 2);
  EXPECT_DOUBLE_EQ(c.exploitability_mbb, 1000 * c.exploitability / 2);
  // The same game in half the chips.
  const Game half = built(leduc());
  EXPECT_NEAR(c.exploitability, 2 * certify(half, uniform_strategy(half)).exploitability, 1e-12);
}

TEST(KnownTruth, KuhnIsWorthMinusOneEighteenthAndLiesInTheEquilibriumFamily) {
  const Game game = built(kuhn());
  for (const Algorithm algorithm : {Algorithm::cfr_plus, Algorithm::dcfr}) {
    VectorCfr solver(game, algorithm);
    solver.run(20'000);
    const Strategy s = solver.average();
    const Certificate c = certify(game, s);
    EXPECT_NEAR(c.value, -1.0 / 18, 1e-5);
    EXPECT_LT(c.exploitability, 1e-4);
    const auto probability = [&](const char* infoset, std::uint32_t action) {
      const Game::InfosetId id = must(game.find_infoset(infoset));
      return s[Game::row(game.nodes()[id.node], id.info) / 2 + action];
    };
    // Actions are check|fold 0 or call|bet last: [check, bet] and [fold, call].
    const double a = probability("J:", 1);
    EXPECT_LE(a, 1.0 / 3 + 0.01);
    EXPECT_NEAR(probability("K:", 1), 3 * a, 0.02);
    EXPECT_NEAR(probability("Q:", 1), 0, 0.01);
    EXPECT_NEAR(probability("Q:cr", 1), a + 1.0 / 3, 0.02);
    EXPECT_NEAR(probability("J:c", 1), 1.0 / 3, 0.01);
    EXPECT_NEAR(probability("Q:r", 1), 1.0 / 3, 0.01);
    EXPECT_NEAR(probability("K:r", 1), 1, 0.01);
    EXPECT_NEAR(probability("J:r", 1), 0, 0.01);
  }
}

TEST(KnownTruth, LeducIsWorthItsPublishedValueByCfrPlus) {
  const Game game = built(leduc());
  VectorCfr solver(game, Algorithm::cfr_plus);
  solver.run(600);
  EXPECT_LT(certify(game, solver.average()).exploitability, 1e-3);
  solver.run(5'400);
  const Certificate c = certify(game, solver.average());
  EXPECT_NEAR(c.value, -0.085606424, 1e-5);
  EXPECT_LT(c.exploitability, 3e-5);
  // The value of the game lies between both players' guarantees: this needs no published number.
  EXPECT_LE(-c.best_response[1] - 1e-12, -0.085606424);
  EXPECT_GE(c.best_response[0] + 1e-12, -0.085606424);
}

// No published number is needed: what both players guarantee brackets the value. 20,000 iterations leave -0.0271338..-0.0271306.
TEST(KnownTruth, LiarsDiceLiesWithinItsOwnCertificate) {
  const Game game = built(liars_dice());
  VectorCfr solver(game, Algorithm::dcfr);
  solver.run(150);
  const Certificate c = certify(game, solver.average());
  EXPECT_LT(c.exploitability, 0.01);
  EXPECT_LE(-c.best_response[1], -0.0271318);
  EXPECT_GE(c.best_response[0], -0.0271318);
}

TEST(VectorCfr, ExploitabilityFallsWithIterations) {
  const Game game = built(leduc());
  for (const Algorithm algorithm : {Algorithm::cfr_plus, Algorithm::dcfr}) {
    VectorCfr solver(game, algorithm);
    double last = certify(game, uniform_strategy(game)).exploitability;
    for (const std::uint64_t more : {20, 100, 500}) {
      solver.run(more);
      const double now = certify(game, solver.average()).exploitability;
      EXPECT_LT(now, last / 2);
      last = now;
    }
  }
}

// The average of strategies is an average of plans: at a later decision each iteration counts by the reach of its owner there.
TEST(VectorCfr, TheAverageIsWeightedByIterationAndOwnReach) {
  const Game game = built(kuhn());
  VectorCfr solver(game, Algorithm::cfr_plus);
  const Game::InfosetId later = must(game.find_infoset("Q:cr")), first = must(game.find_infoset("Q:"));
  const std::uint64_t later_row = Game::row(game.nodes()[later.node], later.info) / 2, first_row = Game::row(game.nodes()[first.node], first.info) / 2;
  std::vector<std::int64_t> cells(game.cell_count());
  double weighted = 0, weights = 0, plain = 0;
  for (int t = 1; t <= 12; ++t) {
    solver.store(cells);
    const Strategy now = current_strategy(game, cells, Algorithm::cfr_plus);
    const double weight = t * now[first_row];  // check first, then face a bet
    weighted += weight * now[later_row];
    weights += weight;
    plain += now[later_row] / 12;
    solver.run(1);
  }
  EXPECT_NEAR(solver.average()[later_row], weighted / weights, 1e-12);
  EXPECT_GT(std::abs(plain - weighted / weights), 0.001);
}

TEST(VectorCfr, AStoredStateContinuesBitForBit) {
  const Game game = built(leduc());
  for (const Algorithm algorithm : {Algorithm::cfr_plus, Algorithm::dcfr}) {
    VectorCfr whole(game, algorithm), first(game, algorithm), second(game, algorithm);
    whole.run(30);
    first.run(11);
    std::vector<std::int64_t> cells(game.cell_count());
    first.store(cells);
    second.load(cells, first.iterations());
    second.run(19);
    EXPECT_EQ(whole.average(), second.average());
  }
}

}  // namespace
}  // namespace drover::solve
