// Goal: sampled updates are unbiased, weighted by the right probabilities, and a batch is a function of its task.
// Method: the mean of many single traversals from a fixed table against exact counterfactual regrets from the vector form.
// Streams are fixed, so a passing test passes always; margins are five standard errors and more.

#include "solve/sampling.hpp"

#include <cmath>

#include "games.hpp"
#include "solve/best_response.hpp"
#include "solve/training.hpp"
#include "solve/vector_cfr.hpp"

namespace drover::solve {
namespace {

/// A table whose current strategies are far from uniform, so that a dropped weight shows.
std::vector<std::int64_t> uneven_table(const Game& game) {
  std::vector<std::int64_t> cells(game.cell_count(), 0);
  Rng random(99);
  for (const Node& node : game.nodes()) {
    if (node.kind != NodeKind::decision) continue;
    for (std::uint32_t info = 0; info < game.infos(node); ++info)
      for (std::uint32_t a = 0; a < node.actions; ++a)
        cells[Game::row(node, info) + a] = static_cast<std::int64_t>(kOne * (0.1 + random.unit() * random.unit() * 4));
  }
  return cells;
}

struct Moments {
  std::vector<double> mean, error;  ///< of the mean
};

Moments sampled_updates(const Game& game, Algorithm algorithm, int player, std::uint64_t traversals) {
  const std::vector<std::int64_t> start = uneven_table(game);
  BatchRunner runner(game, algorithm, 5);
  Moments m{std::vector<double>(start.size()), std::vector<double>(start.size())};
  std::vector<std::int64_t> cells = start;
  for (std::uint64_t i = 0; i < traversals; ++i) {
    runner.traverse(cells, player, i);
    for (std::size_t c = 0; c < cells.size(); ++c) {
      const double update = static_cast<double>(cells[c] - start[c]) / kOne;
      m.mean[c] += update;
      m.error[c] += update * update;
    }
    cells = start;
  }
  const auto n = static_cast<double>(traversals);
  for (std::size_t c = 0; c < cells.size(); ++c) {
    m.mean[c] /= n;
    m.error[c] = std::sqrt(std::max(0.0, m.error[c] / n - m.mean[c] * m.mean[c]) / n);
  }
  return m;
}

void expect_regrets_unbiased(const GameSpec& spec, Algorithm algorithm, std::uint64_t traversals) {
  const Game game = built(spec);
  for (int player = 0; player < 2; ++player) {
    const std::vector<double> exact = VectorCfr::counterfactual_regrets(game, uneven_table(game), player);
    const Moments sampled = sampled_updates(game, algorithm, player, traversals);
    double largest = 0;
    for (const Node& node : game.nodes()) {
      if (node.kind != NodeKind::decision) continue;
      for (std::uint32_t info = 0; info < game.infos(node); ++info) {
        for (std::uint32_t a = 0; a < node.actions; ++a) {
          const std::uint64_t cell = Game::row(node, info) + a;
          const double wanted = node.player == player ? exact[cell] : 0.0;
          EXPECT_NEAR(sampled.mean[cell], wanted, 6 * sampled.error[cell] + 2e-6)
              << name_of(algorithm) << " player " << player << " cell " << cell;
          largest = std::max(largest, std::abs(wanted));
        }
      }
    }
    EXPECT_GT(largest, 0.02);  // the comparison is about something
  }
}

TEST(Sampling, ExternalSamplingRegretsAverageToTheCounterfactualRegrets) {
  expect_regrets_unbiased(kuhn(), Algorithm::external_sampling, 100'000);
  expect_regrets_unbiased(GameSpec{DiceRules{1, 2}}, Algorithm::external_sampling, 100'000);
}

TEST(Sampling, OutcomeSamplingRegretsAverageToTheCounterfactualRegrets) {
  expect_regrets_unbiased(kuhn(), Algorithm::outcome_sampling, 300'000);
  expect_regrets_unbiased(GameSpec{DiceRules{1, 2}}, Algorithm::outcome_sampling, 300'000);
}

TEST(Sampling, LeducRegretsOfBothSamplersAverageToTheCounterfactualRegrets) {
  expect_regrets_unbiased(leduc(), Algorithm::external_sampling, 60'000);
  expect_regrets_unbiased(leduc(), Algorithm::outcome_sampling, 150'000);
}

// The average strategy must be weighted by the player's own reach: on Kuhn the second decision of player 0 ("after check,
// bet") is reached with the probability of its check, and the sums must show exactly that.
TEST(Sampling, StrategySumsAreWeightedByTheOwnersReach) {
  const Game game = built(kuhn());
  const std::vector<std::int64_t> start = uneven_table(game);
  const Strategy current = current_strategy(game, start, Algorithm::external_sampling);
  const std::uint32_t root = 0, check = game.nodes()[0].first_child, check_bet = game.nodes()[check].first_child + 1;
  ASSERT_EQ(game.history_name(check_bet), "cr");
  for (const Algorithm algorithm : {Algorithm::external_sampling, Algorithm::outcome_sampling}) {
    // External sampling averages at the opponent's nodes, outcome sampling at the traverser's own.
    const int traverser = algorithm == Algorithm::external_sampling ? 1 : 0;
    const Moments sampled = sampled_updates(game, algorithm, traverser, 300'000);
    for (std::uint32_t card = 0; card < 3; ++card) {
      const std::uint64_t first = Game::row(game.nodes()[root], card), second = Game::row(game.nodes()[check_bet], card);
      for (std::uint32_t a = 0; a < 2; ++a) {
        const double at_root = current[first / 2 + a] / 3, later = current[first / 2] * current[second / 2 + a] / 3;
        EXPECT_NEAR(sampled.mean[first + 2 + a], at_root, 6 * sampled.error[first + 2 + a] + 2e-6);
        EXPECT_NEAR(sampled.mean[second + 2 + a], later, 6 * sampled.error[second + 2 + a] + 2e-6);
      }
    }
  }
}

TEST(Sampling, ABatchIsAFunctionOfItsTask) {
  const Game game = built(leduc());
  const std::vector<std::int64_t> start = uneven_table(game);
  for (const Algorithm algorithm : {Algorithm::external_sampling, Algorithm::outcome_sampling}) {
    BatchRunner used(game, algorithm, 3), fresh(game, algorithm, 3), other_seed(game, algorithm, 4);
    must(used.run(start, {.batch = 1, .iterations = 777}));
    const Bytes second = must(used.run(start, {.batch = 2, .iterations = 500}));
    EXPECT_EQ(second, must(fresh.run(start, {.batch = 2, .iterations = 500})));
    EXPECT_NE(second, must(fresh.run(start, {.batch = 3, .iterations = 500})));
    EXPECT_NE(second, must(other_seed.run(start, {.batch = 2, .iterations = 500})));
  }
}

// Large tables copy rows when first touched; the answer must be that of a whole copy.
TEST(Sampling, TouchedRowsGiveTheSameAnswerAsAPrivateCopy) {
  const Game game = built(large_leduc());
  ASSERT_GT(game.table_bytes(), BatchRunner::kPrivateCopyBytesMax);
  const std::vector<std::int64_t> start = uneven_table(game);
  BatchRunner runner(game, Algorithm::external_sampling, 3), single(game, Algorithm::external_sampling, 3);
  for (std::uint64_t batch = 0; batch < 3; ++batch) {
    const BatchTask task{.batch = batch, .iterations = 400};
    const Bytes delta = must(runner.run(start, task));
    std::vector<std::int64_t> applied = start;
    must(apply_delta(delta, {.generation = 0, .batch = batch, .iterations = 400, .cells = start.size()}, applied));
    // The shared kernel with nobody else on the table plays the same traversals on the cells themselves.
    std::vector<std::byte> storage(TableView::bytes_needed(game) + 64);
    void* at = storage.data();
    std::size_t space = storage.size();
    auto* aligned = static_cast<std::byte*>(std::align(64, TableView::bytes_needed(game), at, space));
    const TableView table = must(TableView::create({aligned, TableView::bytes_needed(game)}, game, Algorithm::external_sampling));
    std::copy(start.begin(), start.end(), table.cells().begin());
    must(single.run_shared(table, table.header().workers[0], task, {}));
    EXPECT_TRUE(std::equal(applied.begin(), applied.end(), table.cells().begin()));
  }
}

TEST(Sampling, SharedModeAloneEqualsThePrivateCopyAndCountsEveryIteration) {
  const Game game = built(leduc());
  alignas(64) static std::byte memory[1 << 15];
  const TableView table = must(TableView::create(memory, game, Algorithm::external_sampling));
  BatchRunner shared(game, Algorithm::external_sampling, 3), exact(game, Algorithm::external_sampling, 3);
  const BatchTask task{.batch = 9, .iterations = 1'000};
  EXPECT_EQ(must(shared.run_shared(table, table.header().workers[1], task, {.flush_iterations = 130})), 1'000U);
  std::vector<std::int64_t> cells(game.cell_count(), 0);
  const std::vector<std::int64_t> zero = cells;
  must(apply_delta(must(exact.run(zero, task)), {.generation = 0, .batch = 9, .iterations = 1'000, .cells = cells.size()}, cells));
  EXPECT_TRUE(std::equal(cells.begin(), cells.end(), table.cells().begin()));
  const WorkerCounters& counters = table.header().workers[1];
  EXPECT_EQ(counters.iterations_started, 1'000);
  EXPECT_EQ(counters.iterations_finished, 1'000);
  EXPECT_EQ(counters.flushes_started, 8);
  EXPECT_EQ(counters.flushes_finished, 8);
}

// Two workers that flush far apart must still end near a sequential run: their regret deltas are averaged, not added.
TEST(Sampling, WorkersThatFlushRarelyStillConvergeTogether) {
  const Game game = built(leduc());
  alignas(64) static std::byte memory[1 << 15], private_memory[1 << 15];
  const TableView table = must(TableView::create(memory, game, Algorithm::external_sampling));
  const TableView snapshot = must(TableView::create(private_memory, game, Algorithm::external_sampling));
  BatchRunner runner(game, Algorithm::external_sampling, 3);
  const BatchRunner::Sharing sharing{.flush_iterations = 4'000, .workers = 2};
  for (std::uint64_t batch = 0; batch < 100; batch += 2) {
    // Both learn from the same start: the second one's difference is made on a snapshot and then added.
    std::copy(table.cells().begin(), table.cells().end(), snapshot.cells().begin());
    const std::vector<std::int64_t> start(table.cells().begin(), table.cells().end());
    must(runner.run_shared(table, table.header().workers[0], {.batch = batch, .iterations = 4'000}, sharing));
    must(runner.run_shared(snapshot, table.header().workers[1], {.batch = batch + 1, .iterations = 4'000}, sharing));
    for (std::size_t i = 0; i < start.size(); ++i) table.cells()[i] += snapshot.cells()[i] - start[i];
  }
  EXPECT_LT(certify(game, average_strategy(game, table.cells(), Algorithm::external_sampling)).exploitability, 0.04);
}

TEST(Sampling, ABatchToldToStopIsNoResultInExactModeAndAPartialOneInSharedMode) {
  const Game game = built(kuhn());
  BatchRunner runner(game, Algorithm::external_sampling, 3);
  const std::vector<std::int64_t> start(game.cell_count(), 0);
  const auto stopped = runner.run(start, {.batch = 0, .iterations = 100'000}, [](std::uint64_t done) { return done < 5'000; });
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().code(), ErrorCode::timed_out);
  alignas(64) static std::byte memory[1 << 13];
  const TableView table = must(TableView::create(memory, game, Algorithm::external_sampling));
  const std::uint64_t played = must(runner.run_shared(table, table.header().workers[0], {.batch = 0, .iterations = 100'000},
                                                      {.flush_iterations = 512},
                                                      [](std::uint64_t done) { return done < 5'000; }));
  EXPECT_LT(played, 10'000U);
  EXPECT_EQ(table.header().workers[0].iterations_finished, static_cast<std::int64_t>(played));
}

TEST(Sampling, ABatchWhoseUpdatesCannotFitACellIsRefused) {
  const Game game = built({PokerRules{.bets = {1'000'000, 1'000'000}, .ante = 1'000'000}});
  BatchRunner runner(game, Algorithm::external_sampling, 3);
  const std::vector<std::int64_t> start(game.cell_count(), 0);
  const auto result = runner.run(start, {.batch = 0, .iterations = std::uint64_t{1} << 40});
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), ErrorCode::refused);
}

TEST(Table, OfAnotherGameIsRefusedWithBothHashes) {
  const Game game = built(kuhn()), other = built(leduc());
  alignas(64) static std::byte memory[1 << 15];
  must(TableView::create(memory, game, Algorithm::external_sampling));
  const auto opened = TableView::open(memory, other);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code(), ErrorCode::mismatch);
  EXPECT_NE(opened.error().what().find(hex(game_hash(kuhn()))), std::string::npos);
  EXPECT_NE(opened.error().what().find(hex(game_hash(leduc()))), std::string::npos);
  EXPECT_TRUE(TableView::open(memory, game));
  memory[0] = std::byte{0};
  EXPECT_EQ(TableView::open(memory, game).error().code(), ErrorCode::corrupt);
}

}  // namespace
}  // namespace drover::solve
