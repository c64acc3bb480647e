#include "solve/vector_cfr.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

namespace drover::solve {
namespace {

std::uint32_t most_actions(const Game& game) {
  std::uint32_t most = 0;
  for (const Node& node : game.nodes()) most = std::max<std::uint32_t>(most, node.actions);
  return most;
}

}  // namespace

VectorCfr::VectorCfr(const Game& game, Algorithm algorithm)
    : game_(&game), algorithm_(algorithm), hands_(game.hands()), cells_(game.cell_count(), 0.0) {
  // A decision takes two vectors an action (strategy, child values) and one for reach; a street one more.
  arena_.resize(static_cast<std::size_t>(game.max_depth() + 2) * (2 * most_actions(game) + 2) * hands_);
}

void VectorCfr::load(std::span<const std::int64_t> cells, std::uint64_t iterations) {
  for (std::size_t i = 0; i < cells_.size(); ++i) cells_[i] = std::bit_cast<double>(cells[i]);
  iterations_ = iterations;
}

void VectorCfr::store(std::span<std::int64_t> cells) const {
  for (std::size_t i = 0; i < cells_.size(); ++i) cells[i] = std::bit_cast<std::int64_t>(cells_[i]);
}

Strategy VectorCfr::average() const {
  std::vector<std::int64_t> cells(cells_.size());
  store(cells);
  return average_strategy(*game_, cells, algorithm_);
}

void VectorCfr::discount() {
  const auto t = static_cast<double>(iterations_);
  const double positive = std::pow(t, 1.5) / (std::pow(t, 1.5) + 1), negative = std::sqrt(t) / (std::sqrt(t) + 1);
  const double average = (t / (t + 1)) * (t / (t + 1));
  for (const Node& node : game_->nodes()) {
    if (node.kind != NodeKind::decision) continue;
    for (std::uint32_t info = 0; info < game_->infos(node); ++info) {
      double* row = cells_.data() + Game::row(node, info);
      for (std::uint32_t a = 0; a < node.actions; ++a) {
        row[a] *= row[a] > 0 ? positive : negative;
        row[node.actions + a] *= average;
      }
    }
  }
}

void VectorCfr::run(std::uint64_t iterations) {
  const std::vector<double> ones(hands_, 1.0);
  std::vector<double> values(hands_);
  for (std::uint64_t i = 0; i < iterations; ++i) {
    if (algorithm_ == Algorithm::dcfr && iterations_ > 0) discount();
    average_weight_ = algorithm_ == Algorithm::cfr_plus ? static_cast<double>(iterations_ + 1) : 1.0;
    for (player_ = 0; player_ < 2; ++player_) visit(0, 0, ones, ones, values, 0);
    ++iterations_;
  }
}

std::vector<double> VectorCfr::counterfactual_regrets(const Game& game, std::span<const std::int64_t> cells, int player) {
  VectorCfr solver(game, Algorithm::dcfr);
  solver.plain_ = true;
  solver.player_ = player;
  for (const std::int64_t cell : cells) solver.frozen_.push_back(static_cast<double>(cell));
  const std::vector<double> ones(solver.hands_, 1.0);
  std::vector<double> values(solver.hands_);
  solver.visit(0, 0, ones, ones, values, 0);
  return std::move(solver.cells_);
}

/// values[hand]: counterfactual value for player_. mine, theirs: reach of player_ and of the opponent by hand.
void VectorCfr::visit(std::uint32_t id, std::uint32_t open, std::span<const double> mine, std::span<const double> theirs,
                      std::span<double> values, std::size_t top) {
  const Node& node = game_->nodes()[id];
  if (node.kind != NodeKind::decision) return game_->terminal_values(node, open, player_, theirs, values);

  const std::uint32_t actions = node.actions;
  const std::uint32_t first_info = node.street == 0 ? 0 : open * hands_;
  double* rows = cells_.data() + Game::row(node, first_info);
  const double* policy = plain_ ? frozen_.data() + Game::row(node, first_info) : rows;
  // Slots top .. top+actions-1 hold the strategy by action, then child values by action, then the reach handed down.
  double* strategy = take(top).data();
  for (std::uint32_t h = 0; h < hands_; ++h) {
    const double* row = policy + static_cast<std::size_t>(h) * node.stride;
    double total = 0;
    for (std::uint32_t a = 0; a < actions; ++a) total += std::max(0.0, row[a]);
    const double scale = total > 0 ? 1.0 / total : 0.0, even = total > 0 ? 0.0 : 1.0 / actions;
    for (std::uint32_t a = 0; a < actions; ++a) strategy[a * hands_ + h] = std::max(0.0, row[a]) * scale + even;
  }
  const std::span<double> reach = take(top + 2 * actions);
  const std::size_t below = top + 2 * actions + 1;
  std::fill(values.begin(), values.end(), 0.0);
  const bool my_turn = node.player == player_;
  for (std::uint32_t a = 0; a < actions; ++a) {
    const double* s = strategy + a * hands_;
    const std::span<double> child = take(top + actions + a);
    const std::span<const double> before = my_turn ? mine : theirs;
    for (std::uint32_t h = 0; h < hands_; ++h) reach[h] = before[h] * s[h];
    if (my_turn) {
      cross(node, node.first_child + a, open, reach, theirs, child, below);
      for (std::uint32_t h = 0; h < hands_; ++h) values[h] += s[h] * child[h];
    } else {
      cross(node, node.first_child + a, open, mine, reach, child, below);
      for (std::uint32_t h = 0; h < hands_; ++h) values[h] += child[h];
    }
  }
  if (!my_turn) return;

  const double* child = take(top + actions).data();
  for (std::uint32_t h = 0; h < hands_; ++h) {
    double* row = rows + static_cast<std::size_t>(h) * node.stride;
    for (std::uint32_t a = 0; a < actions; ++a) {
      const double regret = row[a] + child[a * hands_ + h] - values[h];
      row[a] = algorithm_ == Algorithm::cfr_plus ? std::max(0.0, regret) : regret;
      row[actions + a] += average_weight_ * mine[h] * strategy[a * hands_ + h];
    }
  }
}

void VectorCfr::cross(const Node& from, std::uint32_t to, std::uint32_t open, std::span<const double> mine,
                      std::span<const double> theirs, std::span<double> values, std::size_t top) {
  if (game_->nodes()[to].street == from.street) return visit(to, open, mine, theirs, values, top);
  const std::span<double> one = take(top);
  std::fill(values.begin(), values.end(), 0.0);
  for (std::uint32_t card = 0; card < game_->publics(1); ++card) {
    visit(to, card, mine, theirs, one, top + 1);
    for (std::uint32_t h = 0; h < hands_; ++h) values[h] += one[h];
  }
}

}  // namespace drover::solve
