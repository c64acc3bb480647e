#include "solve/best_response.hpp"

#include <algorithm>

namespace drover::solve {
namespace {

/// Walks the public tree once for one player. The vectors of a depth live in one arena: values per action and the
/// opponent's reach.
class Walk {
 public:
  Walk(const Game& game, const Strategy& strategy, int player, bool maximise)
      : game_(game), strategy_(strategy), player_(player), maximise_(maximise), hands_(game.hands()) {
    arena_.resize(static_cast<std::size_t>(game.max_depth() + 3) * 4 * hands_);
  }

  double run() {
    std::vector<double> reach(hands_, 1.0), values(hands_);
    visit(0, 0, reach, values, 0);
    double sum = 0;
    for (const double v : values) sum += v;
    return sum;
  }

 private:
  using Vector = std::span<double>;

  /// values[hand]: sum over opponent hands of deal probability * opponent reach * what the player gets from here on.
  void visit(std::uint32_t id, std::uint32_t open, std::span<const double> reach, Vector values, std::size_t top) {
    const Node& node = game_.nodes()[id];
    if (node.kind != NodeKind::decision) return game_.terminal_values(node, open, player_, reach, values);
    const Vector child = take(top), next = take(top + 1);
    const bool mine = node.player == player_;
    std::fill(values.begin(), values.end(), mine && maximise_ ? -1e300 : 0.0);
    for (std::uint32_t a = 0; a < node.actions; ++a) {
      if (mine) {
        cross(id, node.first_child + a, open, reach, child, top + 2);
        for (std::uint32_t h = 0; h < hands_; ++h) {
          if (maximise_) {
            values[h] = std::max(values[h], child[h]);
          } else {
            values[h] += probability(node, open, h, a) * child[h];
          }
        }
      } else {
        for (std::uint32_t h = 0; h < hands_; ++h) next[h] = reach[h] * probability(node, open, h, a);
        cross(id, node.first_child + a, open, next, child, top + 2);
        for (std::uint32_t h = 0; h < hands_; ++h) values[h] += child[h];
      }
    }
  }

  /// To a child; over all public outcomes where a street begins.
  void cross(std::uint32_t from, std::uint32_t to, std::uint32_t open, std::span<const double> reach, Vector values,
             std::size_t top) {
    if (game_.nodes()[to].street == game_.nodes()[from].street) return visit(to, open, reach, values, top);
    const Vector one = take(top);
    std::fill(values.begin(), values.end(), 0.0);
    for (std::uint32_t card = 0; card < game_.publics(1); ++card) {
      visit(to, card, reach, one, top + 1);
      for (std::uint32_t h = 0; h < hands_; ++h) values[h] += one[h];
    }
  }

  double probability(const Node& node, std::uint32_t open, std::uint32_t hand, std::uint32_t action) const {
    const std::uint32_t info = node.street == 0 ? hand : open * hands_ + hand;
    return strategy_[Game::row(node, info) / 2 + action];
  }

  Vector take(std::size_t slot) {
    return {arena_.data() + slot * hands_, hands_};
  }

  const Game& game_;
  const Strategy& strategy_;
  int player_;
  bool maximise_;
  std::uint32_t hands_;
  std::vector<double> arena_;
};

}  // namespace

double profile_value(const Game& game, const Strategy& strategy) { return Walk(game, strategy, 0, false).run(); }

double best_response_value(const Game& game, const Strategy& strategy, int player) {
  return Walk(game, strategy, player, true).run();
}

Certificate certify(const Game& game, const Strategy& strategy) {
  Certificate c;
  c.value = profile_value(game, strategy);
  for (int player = 0; player < 2; ++player) c.best_response[player] = best_response_value(game, strategy, player);
  c.nash_conv = c.best_response[0] + c.best_response[1];
  c.exploitability = c.nash_conv / 2;
  c.exploitability_mbb = 1000 * c.exploitability / game.unit_chips();
  return c;
}

}  // namespace drover::solve
