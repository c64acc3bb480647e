#pragma once
/// The games, as parameters. A `GameSpec` is rules in numbers; `Game` is the same as one flat public tree: what both players
/// see (bets, bids), with private information beside it. An infoset is (betting node, private information), its row in the
/// table is computed from both; there is no map and no string on the way.
///
/// Two families:
///   poker: Kuhn and Leduc with any number of ranks, suits, raises and any bet sizes. One private card each, fixed-limit
///          bets, one or two streets; a public card is dealt between the streets. Suits never matter, so infosets are
///          merged over suits: standard Leduc has 288 (936 if suits were told apart; the equilibria are the same).
///   dice:  liar's dice for two players; the highest face is wild. A bid is (quantity, face), bids must rise, `liar` ends it.
/// Both are two-player and zero-sum. All amounts are in chips.

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "drover/types/error.hpp"
#include "drover/types/random.hpp"
#include "solve/hash.hpp"

namespace drover::solve {

struct PokerRules {
  std::uint32_t ranks = 3;
  std::uint32_t suits = 2;
  std::uint32_t streets = 2;  ///< 1: Kuhn, no public card; 2: Leduc
  std::uint32_t raises = 2;   ///< bets and raises in one street
  std::array<std::uint32_t, 2> bets{2, 4};
  std::uint32_t ante = 1;
  friend bool operator==(const PokerRules&, const PokerRules&) = default;
};

struct DiceRules {
  std::uint32_t dice = 1;  ///< per player
  std::uint32_t sides = 6;
  friend bool operator==(const DiceRules&, const DiceRules&) = default;
};

struct GameSpec {
  std::variant<PokerRules, DiceRules> rules;
  friend bool operator==(const GameSpec&, const GameSpec&) = default;
};

GameSpec kuhn();
GameSpec leduc();
GameSpec liars_dice();

/// `kuhn`, `leduc` or `liars_dice` with the standard rules. Errors: usage, with the nearest name.
Result<GameSpec> game_named(std::string_view name);

/// One line that says every rule, the same for the same game: `poker ranks=3 suits=2 streets=2 raises=2 bets=2,4 ante=1`.
std::string canonical_text(const GameSpec& spec);
/// The inverse. Errors: usage.
Result<GameSpec> parse_game(std::string_view text);
/// SHA-256 of the canonical text.
Hash256 game_hash(const GameSpec& spec);
/// For people: `leduc`, `leduc (ranks 100)`.
std::string display_name(const GameSpec& spec);

/// The value for player 0 in chips per game where it is known, with where it is known from.
struct KnownValue {
  double chips = 0;
  double tolerance = 0;  ///< how many chips the printed digits are good for
  std::string_view source;
};
std::optional<KnownValue> known_value(const GameSpec& spec);

enum class NodeKind : std::uint8_t { decision, fold, showdown, challenge };

/// One node of the public tree; children are neighbours: first_child .. first_child + actions - 1.
struct Node {
  NodeKind kind = NodeKind::decision;
  std::uint8_t player = 0;
  std::uint8_t street = 0;
  std::uint8_t actions = 0;
  std::uint32_t first_child = 0;
  std::uint32_t parent = 0;
  std::uint32_t bid = 0;           ///< challenge: the bid in question
  std::uint64_t first_cell = 0;    ///< decision: the row of private information 0
  std::uint32_t stride = 0;        ///< decision: cells from one private information to the next
  /// Terminal: what player 0 wins. fold: as it is. showdown: times the sign of the showdown. challenge: times +1 if the bid
  /// holds, -1 if not.
  double amount = 0;
};

/// One deal of everything hidden, drawn before a traversal starts.
struct Deal {
  std::uint32_t info[2][2]{};  ///< [player][street]: private information, the public card included on street 1
  double showdown = 0;         ///< poker: sign for player 0
  std::uint32_t pair = 0;      ///< dice: index of both hands
};

class Game {
 public:
  /// Errors: usage if the rules make no game; refused if the tree or table would be larger than this build handles, with
  /// the size it would have.
  static Result<Game> build(const GameSpec& spec);

  const GameSpec& spec() const { return spec_; }
  std::span<const Node> nodes() const { return nodes_; }
  std::uint32_t infoset_count() const { return infosets_; }
  /// Cells of a table: rows of [regret per action][strategy sum per action], padded so that a short row never crosses a
  /// cache line.
  std::uint64_t cell_count() const { return cells_; }
  std::uint64_t table_bytes() const { return cells_ * 8; }
  /// Number of private hands of one player, and of public outcomes on a street.
  std::uint32_t hands() const { return hands_; }
  std::uint32_t publics(std::uint32_t street) const { return street == 0 ? 1U : publics_; }
  std::uint32_t max_depth() const { return depth_; }
  /// The most chips one player can win.
  double max_win() const { return max_win_; }
  /// What one big unit is for mbb/g: the ante in poker, the stake in dice.
  double unit_chips() const;

  /// Row of an infoset: info = public outcome * hands() + hand.
  static std::uint64_t row(const Node& node, std::uint32_t info) {
    return node.first_cell + static_cast<std::uint64_t>(info) * node.stride;
  }
  std::uint32_t infos(const Node& node) const { return hands_ * publics(node.street); }

  Deal deal(Rng& random) const;
  /// What player 0 wins at a terminal node.
  double utility(const Node& node, const Deal& deal) const {
    switch (node.kind) {
      case NodeKind::fold: return node.amount;
      case NodeKind::showdown: return node.amount * deal.showdown;
      case NodeKind::challenge: return node.amount * holds_[static_cast<std::size_t>(node.bid) * pairs_ + deal.pair];
      case NodeKind::decision: break;
    }
    return 0;
  }

  /// values[hand] = sum over opponent hands of P(hand, opponent hand, public outcome) * reach[opponent hand] * what
  /// `player` wins. The probability is that of the deal (chance only). `public_outcome` is ignored on street 0.
  /// Cost: O(hands) in poker (prefix sums), O(hands^2) in dice.
  void terminal_values(const Node& node, std::uint32_t public_outcome, int player, std::span<const double> reach,
                       std::span<double> values) const;

  /// Every (deal, probability) with hands merged over suits: for brute-force checks on small games.
  struct WeightedDeal {
    Deal deal;
    double probability = 0;
  };
  std::vector<WeightedDeal> all_deals() const;

  /// Readable names. An infoset is `hand[/public]:history`, for example `K:`, `Q/J:cr/c` or `3:1x5,2x2`.
  std::string hand_name(std::uint32_t hand) const;
  std::string history_name(std::uint32_t node) const;
  std::string action_name(std::uint32_t node, std::uint32_t action) const;
  std::string infoset_name(std::uint32_t node, std::uint32_t info) const;
  struct InfosetId {
    std::uint32_t node = 0;
    std::uint32_t info = 0;
  };
  /// Errors: not_found, naming what part of the name is unknown and what would be legal there.
  Result<InfosetId> find_infoset(std::string_view name) const;

  /// What a table of this game looks like, in one line; its SHA-256 is the layout (abstraction) hash.
  std::string layout_text() const;
  Hash256 layout_hash() const;

 private:
  Game() = default;
  Result<void> build_poker(const PokerRules& rules);
  Result<void> build_dice(const DiceRules& rules);
  void assign_rows();
  Deal poker_deal(std::uint32_t first, std::uint32_t second, std::uint32_t open) const;

  GameSpec spec_;
  std::vector<Node> nodes_;
  std::vector<std::string> edges_;  ///< name of the action that led to a node
  std::uint32_t hands_ = 0, publics_ = 1, infosets_ = 0, depth_ = 0;
  std::uint64_t cells_ = 0;
  double max_win_ = 0;
  std::size_t pairs_ = 0;
  std::vector<double> holds_;             ///< dice: [bid][pair], +1 or -1
  std::vector<double> hand_probability_;  ///< dice
  std::vector<std::uint32_t> roll_hand_;  ///< dice: hand of a roll, roll in [0, sides^dice)
  std::vector<std::string> hand_names_;
};

}  // namespace drover::solve
