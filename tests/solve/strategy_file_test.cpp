// Goal: an exported strategy is loaded by another program and by us, and is the strategy that was trained.
// Method: round trips through both forms, a reader that knows nothing but JSON, and files damaged in named ways.

#include "solve/strategy_file.hpp"

#include <nlohmann/json.hpp>

#include "games.hpp"
#include "solve/training.hpp"

namespace drover::solve {
namespace {

struct Trained {
  Game game;
  Strategy strategy;
  Certificate certificate;
};

Trained trained(const GameSpec& spec) {
  Game game = built(spec);
  Training training(game, {.game = spec});
  must(train(training, 20'000));
  Strategy strategy = training.average();
  const Certificate certificate = certify(game, strategy);
  return {std::move(game), std::move(strategy), certificate};
}

template <class Write>
std::string text_of(Write&& write) {
  std::string text;
  must(write([&text](std::string_view piece) -> Result<void> {
    text += piece;
    return {};
  }));
  return text;
}

std::string json_of(const Trained& t) {
  return text_of([&](const TextSink& sink) { return write_json(t.game, t.strategy, {"es", 20'000}, t.certificate, sink); });
}
std::string csv_of(const Trained& t) {
  return text_of([&](const TextSink& sink) { return write_csv(t.game, t.strategy, sink); });
}

TEST(StrategyFile, BothFormsReadBackToTheSameExploitability) {
  for (const GameSpec& spec : {kuhn(), leduc(), GameSpec{DiceRules{1, 4}}}) {
    const Trained t = trained(spec);
    const LoadedStrategy from_json = must(read_strategy(json_of(t), nullptr));
    EXPECT_EQ(from_json.game, spec);
    EXPECT_DOUBLE_EQ(certify(t.game, from_json.strategy).exploitability, t.certificate.exploitability);
    const LoadedStrategy from_csv = must(read_strategy(csv_of(t), &spec));
    EXPECT_EQ(from_csv.strategy, from_json.strategy);
  }
}

TEST(StrategyFile, AProgramThatKnowsOnlyJsonFindsTheDocumentedFields) {
  const Trained t = trained(leduc());
  const auto document = nlohmann::json::parse(json_of(t));
  EXPECT_EQ(document.at("format"), "drover-solve-strategy");
  EXPECT_EQ(document.at("version"), 1);
  EXPECT_EQ(document.at("game_sha256"), hex(game_hash(leduc())));
  EXPECT_EQ(document.at("iterations"), 20'000);
  EXPECT_DOUBLE_EQ(document.at("exploitability_chips").get<double>(), t.certificate.exploitability);
  ASSERT_EQ(document.at("infosets").size(), 288U);
  for (const auto& infoset : document.at("infosets")) {
    double sum = 0;
    for (const auto& p : infoset.at("probabilities")) sum += p.get<double>();
    EXPECT_NEAR(sum, 1.0, 1e-9);
    EXPECT_EQ(infoset.at("actions").size(), infoset.at("probabilities").size());
    EXPECT_TRUE(infoset.at("public").is_null() == (infoset.at("name").get<std::string>().find('/') == std::string::npos));
    EXPECT_TRUE(infoset.contains("player") && infoset.contains("hand") && infoset.contains("history"));
  }
}

TEST(StrategyFile, DamagedFilesAreRefusedWithThePlace) {
  const Trained t = trained(kuhn());
  const std::string json = json_of(t), csv = csv_of(t);
  const GameSpec spec = kuhn(), other = leduc();
  EXPECT_EQ(read_strategy("{", nullptr).error().code(), ErrorCode::corrupt);
  EXPECT_EQ(read_strategy("{}", nullptr).error().code(), ErrorCode::corrupt);
  EXPECT_EQ(read_strategy(csv, nullptr).error().code(), ErrorCode::usage);

  const auto foreign = read_strategy(json, &other);
  ASSERT_FALSE(foreign);
  EXPECT_EQ(foreign.error().code(), ErrorCode::mismatch);
  EXPECT_NE(foreign.error().what().find(hex(game_hash(spec))), std::string::npos);
  EXPECT_NE(foreign.error().what().find(hex(game_hash(other))), std::string::npos);

  const std::string first_line = csv.substr(0, csv.find('\n') + 1);
  EXPECT_NE(read_strategy(first_line, &spec).error().what().find("missing"), std::string::npos);
  EXPECT_NE(read_strategy(csv + csv.substr(first_line.size()), &spec).error().what().find("twice"), std::string::npos);
  EXPECT_NE(read_strategy(first_line + "J:,0,J,,,check,x\n", &spec).error().what().find("line 2"), std::string::npos);
  EXPECT_NE(read_strategy(first_line + "J:,0,J,,,check\n", &spec).error().what().find("6 fields"), std::string::npos);
  EXPECT_NE(read_strategy(first_line + "J:,0,J,,,raise,1\n", &spec).error().what().find("no action"), std::string::npos);
  EXPECT_NE(read_strategy(first_line + "J:,0,J,,,check,nan\n", &spec).error().what().find("probability"), std::string::npos);
}

TEST(StrategyFile, ShowNamesTheSpotAndEveryAction) {
  const Trained t = trained(leduc());
  const std::string text = show_infoset(t.game, t.strategy, must(t.game.find_infoset("K/Q:crc/c")));
  EXPECT_FALSE(t.game.find_infoset("K/Q:crc/c").value().node == 0);
  for (const char* word : {"K/Q:crc", "player", "holding K", "public Q", "%"}) EXPECT_NE(text.find(word), std::string::npos) << word;
}

}  // namespace
}  // namespace drover::solve
