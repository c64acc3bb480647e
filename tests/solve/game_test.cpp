// Goal: the flat trees are the games the literature means. Method: published counts, chance weights added up, names read back.

#include "solve/game.hpp"

#include <map>
#include <set>

#include "games.hpp"

namespace drover::solve {
namespace {

std::size_t decisions(const Game& game) {
  std::size_t count = 0;
  for (const Node& node : game.nodes()) count += node.kind == NodeKind::decision ? 1 : 0;
  return count;
}

TEST(Game, KuhnLeducAndLiarsDiceHaveThePublishedNumbersOfInfosets) {
  EXPECT_EQ(built(kuhn()).infoset_count(), 12U);
  EXPECT_EQ(built(leduc()).infoset_count(), 288U);
  EXPECT_EQ(decisions(built(leduc())), 36U);
  EXPECT_EQ(built(liars_dice()).infoset_count(), 24'576U);
}

TEST(Game, LeducGrowsToTablesBeyondTwentyMegabytes) {
  PokerRules rules;
  rules.ranks = 140;
  EXPECT_GE(built({rules}).table_bytes(), 20'000'000U);
}

TEST(Game, EveryRowIsItsOwnAndAShortRowNeverCrossesACacheLine) {
  for (const GameSpec& spec : {kuhn(), leduc(), liars_dice()}) {
    const Game game = built(spec);
    std::vector<bool> used(game.cell_count(), false);
    for (const Node& node : game.nodes()) {
      if (node.kind != NodeKind::decision) continue;
      for (std::uint32_t info = 0; info < game.infos(node); ++info) {
        const std::uint64_t row = Game::row(node, info);
        ASSERT_LE(row + 2U * node.actions, game.cell_count());
        for (std::uint64_t cell = row; cell < row + 2U * node.actions; ++cell) {
          ASSERT_FALSE(used[cell]);
          used[cell] = true;
        }
        if (2U * node.actions <= 8) { ASSERT_EQ(row / 8, (row + 2U * node.actions - 1) / 8); }
      }
    }
  }
}

TEST(Game, ProbabilitiesOfAllDealsAddUpToOne) {
  for (const GameSpec& spec : {kuhn(), leduc(), liars_dice(), GameSpec{DiceRules{2, 3}}}) {
    double sum = 0;
    for (const auto& [deal, probability] : built(spec).all_deals()) sum += probability;
    EXPECT_NEAR(sum, 1.0, 1e-12);
  }
}

// The vector form (terminal_values) and the sampled form (deal, utility) must be the same game.
TEST(Game, SampledDealsComeAsOftenAsTheirProbability) {
  for (const GameSpec& spec : {kuhn(), leduc(), GameSpec{DiceRules{2, 3}}}) {
    const Game game = built(spec);
    using Key = std::tuple<std::uint32_t, std::uint32_t, std::uint32_t>;
    std::map<Key, double> expected, seen;
    const auto key = [](const Deal& d) { return Key{d.info[0][0], d.info[1][0], d.info[0][1]}; };
    for (const auto& [deal, probability] : game.all_deals()) expected[key(deal)] += probability;
    Rng random(7);
    constexpr int kDeals = 200'000;
    for (int i = 0; i < kDeals; ++i) seen[key(game.deal(random))] += 1.0 / kDeals;
    EXPECT_EQ(seen.size(), expected.size());
    for (const auto& [deal, probability] : expected) EXPECT_NEAR(seen[deal], probability, 0.005);
  }
}

TEST(Game, TerminalValuesOfAllHandsEqualTheSumOverEveryDeal) {
  for (const GameSpec& spec : {kuhn(), leduc(), GameSpec{PokerRules{.ranks = 5, .suits = 3}}, GameSpec{DiceRules{2, 2}}}) {
    const Game game = built(spec);
    std::vector<double> reach(game.hands());
    for (std::uint32_t h = 0; h < game.hands(); ++h) reach[h] = 0.1 + 0.37 * h;
    for (const Node& node : game.nodes()) {
      if (node.kind == NodeKind::decision) continue;
      for (int player = 0; player < 2; ++player) {
        for (std::uint32_t open = 0; open < game.publics(node.street); ++open) {
          std::vector<double> expected(game.hands(), 0.0), got(game.hands(), 0.0);
          for (const auto& [deal, probability] : game.all_deals()) {
            if (node.street == 1 && deal.info[0][1] / game.hands() != open) continue;
            const double utility = game.utility(node, deal) * (player == 0 ? 1 : -1);
            expected[deal.info[player][0]] += probability * reach[deal.info[1 - player][0]] * utility;
          }
          game.terminal_values(node, open, player, reach, got);
          for (std::uint32_t h = 0; h < game.hands(); ++h) ASSERT_NEAR(got[h], expected[h], 1e-12);
        }
      }
    }
  }
}

TEST(Game, EveryInfosetNameIsFoundAgain) {
  for (const GameSpec& spec : {kuhn(), leduc(), GameSpec{DiceRules{1, 3}}, GameSpec{PokerRules{.ranks = 20}}}) {
    const Game game = built(spec);
    std::set<std::string> names;
    for (std::uint32_t id = 0; id < game.nodes().size(); ++id) {
      const Node& node = game.nodes()[id];
      if (node.kind != NodeKind::decision) continue;
      for (std::uint32_t info = 0; info < game.infos(node); ++info) {
        const std::string name = game.infoset_name(id, info);
        EXPECT_TRUE(names.insert(name).second) << name;
        const auto found = game.find_infoset(name);
        ASSERT_TRUE(found) << found.error().what();
        EXPECT_EQ(found->node, id);
        EXPECT_EQ(found->info, info);
      }
    }
    EXPECT_EQ(names.size(), game.infoset_count());
  }
}

TEST(Game, AWrongInfosetNameSaysWhatWouldBeLegal) {
  const Game game = built(leduc());
  for (const char* name : {"", "K", "X:", "K:z", "K:rf", "K:cc/", "K/X:cc/", "K/Q:r", "K/Q:cc/cc", "K:crrr"}) {
    const auto found = game.find_infoset(name);
    ASSERT_FALSE(found) << name;
    EXPECT_EQ(found.error().code(), ErrorCode::not_found);
    EXPECT_NE(found.error().what().find(name), std::string::npos);
    EXPECT_FALSE(found.error().advice().empty()) << name;
  }
}

TEST(Game, SpecsReadBackFromTheirTextAndDifferentRulesHashDifferently) {
  std::set<std::string> hashes;
  for (const GameSpec& spec : {kuhn(), leduc(), liars_dice(), large_leduc(), GameSpec{PokerRules{.bets = {2, 5}}}, GameSpec{DiceRules{2, 3}}}) {
    EXPECT_EQ(must(parse_game(canonical_text(spec))), spec);
    hashes.insert(hex(game_hash(spec)));
  }
  EXPECT_EQ(hashes.size(), 6U);
  for (const char* text : {"", "poker", "poker ranks=3", "poker ranks=3 suits=2 streets=2 raises=2 bets=2,4 ante=1 ", "liars_dice dice=1 sides=06"})
    EXPECT_FALSE(parse_game(text)) << text;
}

TEST(Game, AnUnknownGameSuggestsTheNearestName) {
  const auto game = game_named("ledduc");
  ASSERT_FALSE(game);
  EXPECT_EQ(game.error().code(), ErrorCode::usage);
  EXPECT_NE(game.error().advice().find("did you mean 'leduc'"), std::string::npos);
}

TEST(Game, RulesThatMakeNoGameOrATooLargeOneAreRefusedWithTheReason) {
  EXPECT_EQ(Game::build({PokerRules{.ranks = 1}}).error().code(), ErrorCode::usage);
  EXPECT_EQ(Game::build({PokerRules{.ranks = 2, .suits = 1, .streets = 2}}).error().code(), ErrorCode::usage);
  EXPECT_EQ(Game::build({PokerRules{.ranks = 4000, .raises = 50}}).error().code(), ErrorCode::refused);
  EXPECT_EQ(Game::build({DiceRules{3, 6}}).error().code(), ErrorCode::refused);
}

}  // namespace
}  // namespace drover::solve
