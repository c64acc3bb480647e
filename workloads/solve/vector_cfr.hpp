#pragma once
/// CFR over the whole game at once, with a vector of all hands at every betting node (Johanson et al. 2011, "Accelerating
/// best response calculation in large extensive games", public tree form). Doubles, one thread, no sampling: the fast way on
/// small games and the reference for the sampled ones.
///
/// cfr+: regrets floored at 0 after every update; player 0 then player 1 within an iteration; iteration t adds t * reach *
///       strategy to the average.
/// dcfr: before iteration t's update positive regrets are multiplied by t'^1.5 / (t'^1.5 + 1), negative ones by
///       t'^0.5 / (t'^0.5 + 1), the average by (t' / (t' + 1))^2 with t' = t - 1.

#include <cstdint>
#include <span>
#include <vector>

#include "solve/game.hpp"
#include "solve/table.hpp"

namespace drover::solve {

class VectorCfr {
 public:
  /// `game` must outlive the solver. `algorithm` is cfr_plus or dcfr.
  VectorCfr(const Game& game, Algorithm algorithm);

  /// Continues from cells written by store(), at `iterations` done.
  void load(std::span<const std::int64_t> cells, std::uint64_t iterations);
  void store(std::span<std::int64_t> cells) const;

  void run(std::uint64_t iterations);
  std::uint64_t iterations() const { return iterations_; }
  Strategy average() const;

  /// Counterfactual regrets of one traversal for `player` against the strategies of `cells` (fixed-point, es/os), in chips:
  /// [row + action]. What sampled updates must average to.
  static std::vector<double> counterfactual_regrets(const Game& game, std::span<const std::int64_t> cells, int player);

 private:
  void visit(std::uint32_t id, std::uint32_t open, std::span<const double> mine, std::span<const double> theirs,
             std::span<double> values, std::size_t top);
  void cross(const Node& from, std::uint32_t to, std::uint32_t open, std::span<const double> mine,
             std::span<const double> theirs, std::span<double> values, std::size_t top);
  std::span<double> take(std::size_t slot) { return {arena_.data() + slot * hands_, hands_}; }
  void discount();

  const Game* game_;
  Algorithm algorithm_;
  std::uint32_t hands_;
  std::uint64_t iterations_ = 0;
  int player_ = 0;
  double average_weight_ = 1;
  bool plain_ = false;  ///< add regrets as they are, for counterfactual_regrets
  std::vector<double> cells_;
  std::vector<double> frozen_;  ///< counterfactual_regrets: strategies come from here
  std::vector<double> arena_;
};

}  // namespace drover::solve
