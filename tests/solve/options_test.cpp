// Goal: the words of the command line become the game and the schedule a person would expect, and nonsense is refused.

#include "solve/options.hpp"

#include "games.hpp"

namespace drover::solve {
namespace {

TrainingSpec spec_of(const SolveOptions& options) {
  const Game game = built(must(game_of(options)));
  return must(training_of(options, game, 7));
}

TEST(Options, AGameNameIsTheStandardGameAndRulesChangeIt) {
  EXPECT_EQ(must(game_of({.game = "leduc"})), leduc());
  EXPECT_EQ(must(game_of({.game = "kuhn"})), kuhn());
  EXPECT_EQ(must(game_of({.game = "liars_dice", .dice = 2, .sides = 3})), (GameSpec{DiceRules{2, 3}}));
  EXPECT_EQ(must(game_of({.game = "leduc", .ranks = 10, .bet = 3, .second_bet = 6})), (GameSpec{PokerRules{.ranks = 10, .bets = {3, 6}}}));
  EXPECT_EQ(std::get<PokerRules>(must(game_of({.game = "kuhn", .bet = 2})).rules).bets, (std::array<std::uint32_t, 2>{2, 2}));
}

TEST(Options, ARuleTheGameDoesNotHaveIsRefusedByName) {
  for (const SolveOptions& options : {SolveOptions{.game = "leduc", .dice = 2}, SolveOptions{.game = "leduc", .sides = 2},
                                      SolveOptions{.game = "liars_dice", .ranks = 2}, SolveOptions{.game = "kuhn", .second_bet = 2}}) {
    const auto game = game_of(options);
    ASSERT_FALSE(game);
    EXPECT_EQ(game.error().code(), ErrorCode::usage);
    EXPECT_NE(game.error().what().find("does not apply to"), std::string::npos);
  }
}

TEST(Options, TheScheduleFollowsFromTheOptionsAndNeverFromTheWorkers) {
  const TrainingSpec spec = spec_of({.game = "leduc", .batch = 5'000, .generation = 4});
  EXPECT_EQ(spec.schedule.batches, 4U);
  EXPECT_EQ(spec.schedule.batch_max, 5'000U);
  EXPECT_EQ(spec.seed, 7U);
  EXPECT_EQ(spec.mode, Mode::exact);
  EXPECT_GT(spec_of({.game = "leduc", .ranks = 100}).schedule.first_batch, spec.schedule.first_batch);
  EXPECT_EQ(spec_of({.game = "leduc", .algorithm = "cfr+"}).schedule.batches, 1U);
}

TEST(Options, CfrPlusHasNoSharedModeAndAnOversizedTableIsRefusedWithItsSize) {
  const Game game = built(leduc());
  const auto shared = training_of({.game = "leduc", .algorithm = "dcfr", .mode = "shared"}, game, 1);
  ASSERT_FALSE(shared);
  EXPECT_EQ(shared.error().code(), ErrorCode::usage);
  const auto large = training_of({.game = "leduc", .table_bytes_max = 1'000}, game, 1);
  ASSERT_FALSE(large);
  EXPECT_EQ(large.error().code(), ErrorCode::refused);
  EXPECT_NE(large.error().what().find("table-max"), std::string::npos);
}

}  // namespace
}  // namespace drover::solve
