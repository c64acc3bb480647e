// Goal: the same table for any worker count, order and interruption; overflow is an error; checkpoints hold everything.
// Method: generations played by several `workers` (players with their own scratch) in shuffled order, cut and resumed; every
// byte of a small checkpoint damaged once.

#include "solve/training.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "games.hpp"
#include "solve/best_response.hpp"
#include "solve/checkpoint_payload.hpp"

namespace drover::solve {
namespace {

constexpr Schedule kSmall{.batches = 5, .first_batch = 8, .batch_max = 200, .growth = 8, .discounted = 6};

TrainingSpec spec_of(const GameSpec& game, Algorithm algorithm = Algorithm::external_sampling, std::uint64_t seed = 1) {
  return {.game = game, .algorithm = algorithm, .schedule = kSmall, .seed = seed};
}

Hash256 trained_alone(const Game& game, const TrainingSpec& spec, std::uint64_t iterations) {
  Training training(game, spec);
  must(train(training, iterations));
  return training.digest();
}

/// Plays with `workers` players; batches are dealt out and computed in a random order, some twice, and added in id order.
Hash256 trained_in_chaos(const Game& game, const TrainingSpec& spec, std::uint64_t iterations, std::size_t workers, std::uint64_t chaos_seed) {
  Training training(game, spec);
  Rng chaos(chaos_seed);
  std::vector<Player> players;
  for (std::size_t i = 0; i < workers; ++i) players.emplace_back(game, spec.algorithm, spec.seed);
  for (;;) {
    const Generation generation = training.next(iterations);
    if (generation.batches == 0) return training.digest();
    std::vector<std::uint64_t> order(generation.batches);
    std::iota(order.begin(), order.end(), std::uint64_t{0});
    for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[chaos.below(i)]);
    std::vector<Bytes> results(generation.batches);
    for (const std::uint64_t index : order) {
      Player& player = players[chaos.below(workers)];
      if (chaos.chance(0.2)) must(player.play(training.cells(), training.position().iterations, generation.task(index)));  // its worker died
      results[index] = must(player.play(training.cells(), training.position().iterations, generation.task(index)));
    }
    for (std::uint64_t index = 0; index < generation.batches; ++index) must(training.add(generation, index, results[index]));
    must(training.commit(generation));
  }
}

TEST(Training, TheDigestIsTheSameForAnyNumberOfWorkersOrderAndRepetition) {
  for (const GameSpec& game_spec : {kuhn(), leduc(), GameSpec{DiceRules{1, 4}}}) {
    const Game game = built(game_spec);
    for (const Algorithm algorithm : {Algorithm::external_sampling, Algorithm::outcome_sampling, Algorithm::cfr_plus, Algorithm::dcfr}) {
      const TrainingSpec spec = spec_of(game_spec, algorithm);
      const std::uint64_t iterations = is_sampling(algorithm) ? 3'333 : 60;
      const Hash256 alone = trained_alone(game, spec, iterations);
      for (const std::size_t workers : {1, 2, 5}) EXPECT_EQ(trained_in_chaos(game, spec, iterations, workers, workers), alone);
    }
  }
}

TEST(Training, SeedIterationsScheduleAndAlgorithmAllEnterTheDigest) {
  const Game game = built(kuhn());
  const Hash256 base = trained_alone(game, spec_of(kuhn()), 500);
  EXPECT_NE(trained_alone(game, spec_of(kuhn(), Algorithm::external_sampling, 2), 500), base);
  EXPECT_NE(trained_alone(game, spec_of(kuhn()), 501), base);
  EXPECT_NE(trained_alone(game, spec_of(kuhn(), Algorithm::outcome_sampling), 500), base);
  TrainingSpec other = spec_of(kuhn());
  other.schedule.batches = 6;
  EXPECT_NE(trained_alone(game, other, 500), base);
}

// Integer arithmetic and doubles without contraction: the same numbers on every x86-64 compiler. A change here is a change of
// every digest users have written down, and needs a new version of the checkpoint format.
TEST(Training, SignatureOfAFixedRun) {
  const Game game = built(leduc());
  EXPECT_EQ(hex(trained_alone(game, {.game = leduc()}, 20'000)).substr(0, 16), "3030b6ff4ce39970");
  EXPECT_EQ(hex(trained_alone(game, {.game = leduc(), .algorithm = Algorithm::outcome_sampling}, 20'000)).substr(0, 16), "22a27ce7fa9cbd5b");
}

TEST(Training, TheOldTableFadesForTheFirstGenerationsAndThenStays) {
  const Game game = built(kuhn());
  for (const std::uint64_t discounted : {0, 5}) {
    TrainingSpec spec = spec_of(kuhn());
    spec.schedule.discounted = discounted;
    const std::uint64_t cell = Game::row(game.nodes()[0], 0) + 2;
    std::vector<std::int64_t> cells(game.cell_count(), 0);
    cells[cell] = 3'000'000'000'000;  // far more than a generation adds
    Training training(game, spec, {.generation = 1, .iterations = 100, .next_batch = 5}, cells);
    Player player(game, spec.algorithm, spec.seed);
    const Generation generation = training.next(1'000);
    for (std::uint64_t i = 0; i < generation.batches; ++i)
      must(training.add(generation, i, must(player.play(training.cells(), 100, generation.task(i)))));
    const auto after = static_cast<double>(100 + generation.iterations());
    must(training.commit(generation));
    const double kept = discounted > 0 ? 3e12 * 100 / after : 3e12;
    EXPECT_NEAR(static_cast<double>(training.cells()[cell]), kept, 1e9);
  }
}

TEST(Training, IterationsAskedForAreIterationsDone) {
  const Game game = built(kuhn());
  for (const std::uint64_t wanted : {1, 7, 40, 41, 999, 12'345}) {
    Training training(game, spec_of(kuhn()));
    must(train(training, wanted));
    EXPECT_EQ(training.position().iterations, wanted);
  }
}

TEST(Training, ExploitabilityFallsToAFewHundredthsOfAChip) {
  const Game game = built(leduc());
  TrainingSpec spec{.game = leduc()};
  Training training(game, spec);
  double last = certify(game, training.average()).exploitability;
  EXPECT_GT(last, 2.0);
  for (const std::uint64_t iterations : {10'000, 60'000, 300'000}) {
    must(train(training, iterations));
    const double now = certify(game, training.average()).exploitability;
    EXPECT_LT(now, last * 0.75);
    last = now;
  }
  EXPECT_LT(last, 0.03);
  EXPECT_NEAR(profile_value(game, training.average()), -0.0856, 0.02);
}

TEST(Training, OutcomeSamplingConverges) {
  const Game game = built(kuhn());
  Training training(game, {.game = kuhn(), .algorithm = Algorithm::outcome_sampling});
  must(train(training, 300'000));
  EXPECT_LT(certify(game, training.average()).exploitability, 0.02);
}

// Averaging the regret deltas of a generation instead of adding them is what makes long generations harmless: with eight
// batches of up to thousands of iterations from one start, adding ends an order of magnitude away.
TEST(Training, LongGenerationsStayCloseToShortOnes) {
  const Game game = built(leduc());
  TrainingSpec spec{.game = leduc(), .schedule = {.growth = 2}};
  Training training(game, spec);
  must(train(training, 400'000));
  EXPECT_LT(certify(game, training.average()).exploitability, 0.05);
}

TEST(Training, AResultOutOfOrderOrOfAnotherGenerationIsRefused) {
  const Game game = built(kuhn());
  Training training(game, spec_of(kuhn()));
  Player player(game, Algorithm::external_sampling, 1);
  const Generation generation = training.next(1'000);
  const Bytes first = must(player.play(training.cells(), 0, generation.task(0)));
  EXPECT_EQ(training.add(generation, 1, first).error().code(), ErrorCode::mismatch);
  must(training.add(generation, 0, first));
  EXPECT_EQ(training.add(generation, 0, first).error().code(), ErrorCode::mismatch);
  EXPECT_EQ(training.add(generation, 1, first).error().code(), ErrorCode::mismatch);
  EXPECT_EQ(training.commit(generation).error().code(), ErrorCode::mismatch);
}

TEST(Training, AFullCellIsAnErrorAtTheCommit) {
  const Game game = built(kuhn());
  std::vector<std::int64_t> cells(game.cell_count(), kCellLimit);
  TrainingSpec spec = spec_of(kuhn());
  spec.schedule.discounted = 0;
  Training training(game, spec, {.generation = 1, .iterations = 100, .next_batch = 5}, cells);
  const auto result = train(training, 200);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), ErrorCode::refused);
  EXPECT_NE(result.error().what().find("2^62"), std::string::npos);
}

TEST(Training, AVectorResultThatIsNotNumbersIsRefused) {
  const Game game = built(kuhn());
  Training training(game, spec_of(kuhn(), Algorithm::cfr_plus));
  const Generation generation = training.next(100);
  Bytes bytes(game.cell_count() * 8, std::byte{0xff});
  EXPECT_EQ(training.add(generation, 0, bytes).error().code(), ErrorCode::corrupt);
  EXPECT_EQ(training.add(generation, 0, BytesView(bytes).first(16)).error().code(), ErrorCode::corrupt);
}

TEST(Schedule, GenerationsCoverEveryIterationOnceWithGrowingBatches) {
  Position at;
  std::uint64_t last = 0;
  const Schedule schedule{};
  while (true) {
    const Generation generation = generation_at(schedule, at, 10'000'000);
    if (generation.batches == 0) break;
    EXPECT_EQ(generation.task(0).batch, at.next_batch);
    std::uint64_t sum = 0;
    for (std::uint64_t i = 0; i < generation.batches; ++i) sum += generation.task(i).iterations;
    EXPECT_EQ(sum, generation.iterations());
    EXPECT_LE(generation.batch_iterations, schedule.batch_max);
    if (generation.end().iterations < 10'000'000) { EXPECT_GE(generation.batch_iterations, last); }
    last = generation.batch_iterations;
    at = generation.end();
  }
  EXPECT_EQ(at.iterations, 10'000'000U);
  EXPECT_EQ(must(parse_schedule(canonical_text(kSmall))), kSmall);
  EXPECT_FALSE(parse_schedule("batches=0 first_batch=1 batch_max=1 growth=1 discounted=0"));
}

TEST(Discount, IsExactAndRoundsTowardZero) {
  std::vector<std::int64_t> cells{100, -100, 1, -1, kCellLimit, -kCellLimit, 0};
  discount(cells, 2, 3);
  EXPECT_EQ(cells, (std::vector<std::int64_t>{66, -66, 0, 0, 3074457345618258602, -3074457345618258602, 0}));
}

TEST(Checkpoint, AResumedTrainingEndsInTheSameDigest) {
  for (const Algorithm algorithm : {Algorithm::external_sampling, Algorithm::dcfr}) {
    const Game game = built(leduc());
    const TrainingSpec spec = spec_of(leduc(), algorithm);
    const std::uint64_t total = algorithm == Algorithm::dcfr ? 100 : 5'000;
    Training first(game, spec);
    Player player(game, algorithm, spec.seed);
    while (first.position().iterations < total / 3) {
      const Generation generation = first.next(total);
      for (std::uint64_t i = 0; i < generation.batches; ++i)
        must(first.add(generation, i, must(player.play(first.cells(), first.position().iterations, generation.task(i)))));
      must(first.commit(generation));
    }
    CheckpointState state = must(decode_checkpoint(encode_checkpoint(first)));
    EXPECT_EQ(state.spec, spec);
    EXPECT_EQ(state.position, first.position());
    Training second(game, state.spec, state.position, std::move(state.cells));
    must(train(second, total));
    EXPECT_EQ(second.digest(), trained_alone(game, spec, total));
  }
}

TEST(Checkpoint, DamageToAnySingleByteAndEveryTruncationIsDetected) {
  const Game game = built(kuhn());
  Training training(game, spec_of(kuhn()));
  must(train(training, 500));
  const Bytes good = encode_checkpoint(training);
  ASSERT_TRUE(decode_checkpoint(good));
  for (std::size_t at = 0; at < good.size(); ++at) {
    for (const unsigned flip : {1U, 0x80U, 0xffU}) {
      Bytes bad = good;
      bad[at] ^= static_cast<std::byte>(flip);
      EXPECT_FALSE(decode_checkpoint(bad)) << "byte " << at;
    }
    EXPECT_FALSE(decode_checkpoint(BytesView(good).first(at))) << "cut at " << at;
  }
  Bytes longer = good;
  longer.push_back(std::byte{0});
  EXPECT_FALSE(decode_checkpoint(longer));
}

TEST(Checkpoint, OfAnotherFormatVersionIsRefusedAndSaysBoth) {
  const Game game = built(kuhn());
  Bytes bytes = encode_checkpoint(Training(game, spec_of(kuhn())));
  const std::string_view magic = "drover-solve-checkpoint ";
  bytes[magic.size()] = std::byte{'2'};
  const auto decoded = decode_checkpoint(bytes);
  ASSERT_FALSE(decoded);
  EXPECT_EQ(decoded.error().code(), ErrorCode::mismatch);
  EXPECT_NE(decoded.error().what().find("format 2"), std::string::npos);
  EXPECT_NE(decoded.error().what().find("reads 1"), std::string::npos);
}

/// A checkpoint whose text was changed and whose SHA-256 was made right again: what a program with other rules would write.
Bytes forged(const Bytes& bytes, const std::string& from, const std::string& to) {
  std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size() - sizeof(Hash256));
  text.replace(text.find(from), from.size(), to);
  const Hash256 hash = sha256(text);
  Bytes out(text.size() + hash.size());
  std::memcpy(out.data(), text.data(), text.size());
  std::memcpy(out.data() + text.size(), hash.data(), hash.size());
  return out;
}

TEST(Checkpoint, OfAnotherGameOrLayoutIsRefusedAndShowsBothHashes) {
  const Game game = built(kuhn());
  const Bytes bytes = encode_checkpoint(Training(game, spec_of(kuhn())));
  const std::string ours = hex(game_hash(kuhn())), layout = hex(game.layout_hash()), theirs(64, 'a');
  const auto other_game = decode_checkpoint(forged(bytes, ours, theirs));
  ASSERT_FALSE(other_game);
  EXPECT_EQ(other_game.error().code(), ErrorCode::mismatch);
  EXPECT_NE(other_game.error().what().find(ours), std::string::npos);
  EXPECT_NE(other_game.error().what().find(theirs), std::string::npos);
  const auto other_layout = decode_checkpoint(forged(bytes, layout, theirs));
  ASSERT_FALSE(other_layout);
  EXPECT_EQ(other_layout.error().code(), ErrorCode::mismatch);
  EXPECT_NE(other_layout.error().what().find(layout), std::string::npos);
  EXPECT_NE(other_layout.error().what().find(theirs), std::string::npos);
  // A position that is not the one the digest was made at.
  EXPECT_FALSE(decode_checkpoint(forged(bytes, "iterations: 0", "iterations: 5")));

  const auto check = check_same_training(spec_of(leduc()), spec_of(kuhn()));
  ASSERT_FALSE(check);
  EXPECT_EQ(check.error().code(), ErrorCode::mismatch);
  EXPECT_NE(check.error().what().find(ours), std::string::npos);
  EXPECT_NE(check.error().what().find(hex(game_hash(leduc()))), std::string::npos);
}

TEST(Checkpoint, EveryDifferenceInTheJobIsNamed) {
  const TrainingSpec base = spec_of(kuhn());
  EXPECT_TRUE(check_same_training(base, base));
  TrainingSpec other = base;
  other.seed = 2;
  EXPECT_NE(check_same_training(other, base).error().what().find("seed"), std::string::npos);
  other = base;
  other.algorithm = Algorithm::dcfr;
  EXPECT_NE(check_same_training(other, base).error().what().find("algorithm"), std::string::npos);
  other = base;
  other.mode = Mode::shared;
  EXPECT_NE(check_same_training(other, base).error().what().find("mode"), std::string::npos);
  other = base;
  other.schedule.growth = 9;
  EXPECT_NE(check_same_training(other, base).error().what().find("schedule"), std::string::npos);
}

}  // namespace
}  // namespace drover::solve
