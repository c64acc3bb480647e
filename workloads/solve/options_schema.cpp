/// The options as the command line, job.toml and --help know them. Apart from options.cpp, which needs no parser.

#include "drover/config.hpp"
#include "solve/options.hpp"

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
  schema.text("store", lineage.store, "checkpoint store for it besides the job's own checkpoints: drover ckpt looks after it");
  schema.text("lineage", lineage.name, "name of its line of checkpoints there, GAME-ALGORITHM if left out; a new job under the same name goes on from the newest good one");
  schema.flag("fresh", lineage.fresh, "start anew beside what the lineage holds");
  schema.integer("keep-last", lineage.keep_last, {1, 1'000'000}, "newest checkpoints of the lineage to keep");
  schema.integer("keep-best", lineage.keep_best, {0, 1'000'000}, "those of least certified exploitability to keep");
  schema.integer("keep-every", lineage.keep_every, {}, "keep those whose iterations are a multiple; 0: none");
  schema.bytes("table-max", table_bytes_max, {1, std::uint64_t{64} << 30}, "refuse a game whose table is larger");
  schema.integer("ranks", ranks, {0, 4000}, "poker: ranks of the deck");
  schema.integer("suits", suits, {0, 1000}, "poker: suits of the deck");
  schema.integer("raises", raises, {0, 100}, "poker: bets and raises in a street");
  schema.integer("ante", ante, {0, 1'000'000}, "poker: chips each puts in first");
  schema.integer("bet", bet, {0, 1'000'000}, "poker: size of a bet or raise, first street");
  schema.integer("second-bet", second_bet, {0, 1'000'000}, "poker: the same, second street");
  schema.integer("dice", dice, {0, 4}, "liars_dice: dice a player");
  schema.integer("sides", sides, {0, 20}, "liars_dice: sides of a die");
}

}  // namespace drover::solve
