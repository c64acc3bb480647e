#include "solve/options.hpp"

#include <fmt/core.h>

#include <algorithm>

namespace drover::solve {

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
  if (game.table_bytes() > o.table_bytes_max)
    return fail(ErrorCode::refused,
                fmt::format("the table of '{}' needs {:.1f} MB; --table-max allows {:.1f} MB, and supervisor and workers hold a few copies of it",
                            canonical_text(game.spec()), static_cast<double>(game.table_bytes()) / 1e6, static_cast<double>(o.table_bytes_max) / 1e6),
                "choose a smaller game, or a larger --table-max if the memory is there");
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
  if (game.spec() == kuhn()) return 8'000'000;
  if (game.spec() == liars_dice()) return 2'000'000;
  return 12'000'000;
}

}  // namespace drover::solve
