#include "solve/options.hpp"

#include <fmt/core.h>

#include <algorithm>

namespace drover::solve {

void SolveOptions::describe(Schema& schema) {
  constexpr std::uint64_t kMany = std::uint64_t{1} << 50;
  schema.text("game", game, "kuhn, leduc or liars_dice").positional(true);
  schema.choice("algorithm", algorithm, {"es", "os", "cfr+", "dcfr"}, "external or outcome sampling MCCFR; vector CFR+ or DCFR");
  schema.choice("mode", mode, {"exact", "shared"}, "exact: the same table for any workers and faults; shared: fastest");
  schema.integer("iterations", iterations, {0, kMany}, "stop after so many; 0: a few seconds' worth, or no bound with --target or --time");
  schema.real("target", target_chips, {0, 1e9}, "stop at this exploitability, chips per game; 0: none");
  schema.integer("batch", batch, {0, kMany}, "most iterations in one task; 0: what suits the game");
  schema.integer("generation", generation, {1, 1024}, "tasks that start from the same table (independent of --workers)");
  schema.integer("growth", growth, {1, 1'000'000}, "a generation is 1/N of the iterations before it");
  schema.integer("discounted", discounted, {0, kMany}, "generations with linear weighting at the start");
  schema.integer("flush", flush, {0, 1'000'000}, "shared: iterations a worker learns privately on a small table; 0: none");
  schema.duration("checkpoint-every", checkpoint_every, {Millis(1), kUnlimited}, "time between checkpoints");
  schema.integer("ranks", ranks, {0, 4000}, "poker: ranks of the deck");
  schema.integer("suits", suits, {0, 1000}, "poker: suits of the deck");
  schema.integer("raises", raises, {0, 100}, "poker: bets and raises in a street");
  schema.integer("ante", ante, {0, 1'000'000}, "poker: chips each puts in first");
  schema.integer("bet", bet, {0, 1'000'000}, "poker: size of a bet or raise, first street");
  schema.integer("second-bet", second_bet, {0, 1'000'000}, "poker: the same, second street");
  schema.integer("dice", dice, {0, 4}, "liars_dice: dice a player");
  schema.integer("sides", sides, {0, 20}, "liars_dice: sides of a die");
}

Result<GameSpec> game_of(const SolveOptions& o) {
  DROVER_TRY(GameSpec spec, game_named(o.game));
  const auto not_of_this_game = [&](std::string_view option) {
    return fail(ErrorCode::usage, fmt::format("--{} does not apply to {}", option, o.game), "leave it out");
  };
  if (auto* poker = std::get_if<PokerRules>(&spec.rules)) {
    if (o.dice != 0) return not_of_this_game("dice");
    if (o.sides != 0) return not_of_this_game("sides");
    if (o.second_bet != 0 && poker->streets == 1) return not_of_this_game("second-bet");
    const auto put = [](std::uint32_t value, std::uint32_t& into) { into = value != 0 ? value : into; };
    put(o.ranks, poker->ranks);
    put(o.suits, poker->suits);
    put(o.raises, poker->raises);
    put(o.ante, poker->ante);
    put(o.bet, poker->bets[0]);
    put(poker->streets == 1 ? o.bet : o.second_bet, poker->bets[1]);
  } else {
    const std::pair<std::string_view, std::uint32_t> given[] = {{"ranks", o.ranks}, {"suits", o.suits}, {"raises", o.raises},
                                                                {"ante", o.ante},   {"bet", o.bet},     {"second-bet", o.second_bet}};
    for (const auto& [name, value] : given)
      if (value != 0) return not_of_this_game(name);
    auto& dice = std::get<DiceRules>(spec.rules);
    if (o.dice != 0) dice.dice = o.dice;
    if (o.sides != 0) dice.sides = o.sides;
  }
  return spec;
}

Result<TrainingSpec> training_of(const SolveOptions& o, const Game& game, std::uint64_t seed) {
  TrainingSpec spec{.game = game.spec(), .seed = seed};
  DROVER_TRY(spec.algorithm, algorithm_named(o.algorithm));
  spec.mode = o.mode == "shared" ? Mode::shared : Mode::exact;
  Schedule& s = spec.schedule;
  if (is_sampling(spec.algorithm)) {
    s.batches = o.generation;
    s.growth = o.growth;
    s.discounted = o.discounted;
    // A batch must be worth the commit of its generation, which passes over the whole table.
    s.first_batch = std::max<std::uint64_t>(spec.mode == Mode::shared ? 1'000 : 16, game.infoset_count() / 64);
    s.batch_max = o.batch != 0 ? o.batch : std::max<std::uint64_t>(100'000, s.first_batch);
  } else {
    if (spec.mode == Mode::shared)
      return fail(ErrorCode::usage, fmt::format("--mode shared needs es or os: {} is one chain of iterations", o.algorithm),
                  "leave --mode out, or choose --algorithm es");
    // Tasks of a tenth of a second or so: 100 ns an infoset and iteration.
    s = {.batches = 1, .first_batch = 16, .batch_max = o.batch, .growth = 4, .discounted = 0};
    if (s.batch_max == 0) s.batch_max = std::clamp<std::uint64_t>(1'000'000 / std::max(1U, game.infoset_count()), 1, 2'000);
  }
  return spec;
}

std::uint64_t default_iterations(const Game& game, Algorithm algorithm) {
  const std::uint64_t infosets = std::max(1U, game.infoset_count());
  if (!is_sampling(algorithm)) return std::clamp<std::uint64_t>(20'000'000 / infosets, 1'000, 100'000);
  if (game.spec() == kuhn()) return 10'000'000;
  if (game.spec() == liars_dice()) return 2'000'000;
  return 20'000'000;
}

}  // namespace drover::solve
