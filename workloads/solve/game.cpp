#include "solve/game.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>

namespace drover::solve {
namespace {

constexpr std::uint64_t kNodesMax = 4'000'000;
constexpr std::uint64_t kTableBytesMax = 64ULL << 30;

/// What both players know about the bets of one poker hand.
struct Bets {
  std::uint32_t paid[2]{};
  std::uint32_t street = 0;
  std::uint32_t raises = 0;
  std::uint32_t acted = 0;  ///< actions on this street
  std::uint8_t to_act = 0;
};

}  // namespace

Result<Game> Game::build(const GameSpec& spec) {
  Game game;
  game.spec_ = spec;
  if (const auto* poker = std::get_if<PokerRules>(&spec.rules)) {
    DROVER_CHECK(game.build_poker(*poker));
  } else {
    DROVER_CHECK(game.build_dice(std::get<DiceRules>(spec.rules)));
  }
  game.assign_rows();
  if (game.table_bytes() > kTableBytesMax) {
    return fail(ErrorCode::refused,
                fmt::format("the table of '{}' would need {:.1f} GiB; the largest handled is {} GiB", canonical_text(spec),
                            static_cast<double>(game.table_bytes()) / 0x1p30, kTableBytesMax >> 30),
                "use fewer ranks, raises, dice or sides");
  }
  return game;
}

double Game::unit_chips() const {
  const auto* poker = std::get_if<PokerRules>(&spec_.rules);
  return poker != nullptr ? poker->ante : 1.0;
}

Result<void> Game::build_poker(const PokerRules& r) {
  const auto bad = [](std::string what) { return fail(ErrorCode::usage, std::move(what)); };
  if (r.ranks < 2 || r.ranks > 4000) return bad(fmt::format("ranks is {}: allowed are 2 to 4000", r.ranks));
  if (r.suits < 1 || r.suits > 1000) return bad(fmt::format("suits is {}: allowed are 1 to 1000", r.suits));
  if (r.streets < 1 || r.streets > 2) return bad(fmt::format("streets is {}: allowed are 1 and 2", r.streets));
  if (r.raises < 1 || r.raises > 100) return bad(fmt::format("raises is {}: allowed are 1 to 100", r.raises));
  if (r.ante < 1 || r.ante > 1'000'000) return bad(fmt::format("ante is {}: allowed are 1 to 1000000", r.ante));
  for (const std::uint32_t bet : r.bets)
    if (bet < 1 || bet > 1'000'000) return bad(fmt::format("a bet of {}: allowed are 1 to 1000000", bet));
  if (r.ranks * r.suits < 1 + r.streets)
    return bad(fmt::format("{} cards are too few: two hands{} need {}", r.ranks * r.suits,
                           r.streets == 2 ? " and a public card" : "", 1 + r.streets));

  hands_ = r.ranks;
  publics_ = r.streets == 2 ? r.ranks : 1;
  std::vector<Bets> bets{{.paid = {r.ante, r.ante}}};
  nodes_.push_back({});
  edges_.push_back("");

  const auto add = [&](std::uint32_t parent, const Bets& after, NodeKind kind, double amount, const char* edge) {
    nodes_.push_back({.kind = kind,
                      .player = after.to_act,
                      .street = static_cast<std::uint8_t>(after.street),
                      .parent = parent,
                      .amount = amount});
    bets.push_back(after);
    edges_.push_back(edge);
    max_win_ = std::max(max_win_, std::abs(amount));
  };
  for (std::uint32_t id = 0; id < nodes_.size(); ++id) {
    if (nodes_[id].kind != NodeKind::decision) continue;
    if (nodes_.size() > kNodesMax)
      return fail(ErrorCode::refused, fmt::format("'{}' has more than {} betting nodes", canonical_text(spec_), kNodesMax),
                  "use fewer raises");
    const Bets now = bets[id];
    const std::uint8_t me = now.to_act, other = me ^ 1;
    const bool facing_bet = now.paid[other] > now.paid[me];
    nodes_[id].first_child = static_cast<std::uint32_t>(nodes_.size());
    std::uint8_t actions = 0;
    if (facing_bet) {
      Bets folded = now;
      folded.to_act = other;
      add(id, folded, NodeKind::fold, me == 0 ? -static_cast<double>(now.paid[0]) : static_cast<double>(now.paid[1]), "f");
      ++actions;
    }
    {
      Bets matched = now;
      matched.paid[me] = now.paid[other];
      matched.acted = now.acted + 1;
      matched.to_act = other;
      const bool closes = facing_bet || now.acted > 0;
      if (closes && now.street + 1 == r.streets) {
        add(id, matched, NodeKind::showdown, matched.paid[0], "c");
      } else {
        if (closes) matched = {.paid = {matched.paid[0], matched.paid[1]}, .street = now.street + 1};
        add(id, matched, NodeKind::decision, 0, "c");
      }
      ++actions;
    }
    if (now.raises < r.raises) {
      Bets raised = now;
      raised.paid[me] = now.paid[other] + r.bets[now.street];
      raised.raises = now.raises + 1;
      raised.acted = now.acted + 1;
      raised.to_act = other;
      add(id, raised, NodeKind::decision, 0, "r");
      ++actions;
    }
    nodes_[id].actions = actions;
  }

  static constexpr std::string_view kLetters = "A23456789TJQK";
  for (std::uint32_t rank = 0; rank < r.ranks; ++rank) {
    hand_names_.push_back(r.ranks <= kLetters.size() ? std::string(1, kLetters[kLetters.size() - r.ranks + rank])
                                                     : fmt::format("r{}", rank + 1));
  }
  return {};
}

Result<void> Game::build_dice(const DiceRules& r) {
  if (r.dice < 1 || r.dice > 4) return fail(ErrorCode::usage, fmt::format("dice is {}: allowed are 1 to 4", r.dice));
  if (r.sides < 2 || r.sides > 20) return fail(ErrorCode::usage, fmt::format("sides is {}: allowed are 2 to 20", r.sides));
  const std::uint32_t bids = 2 * r.dice * r.sides;
  if (bids > 20)
    return fail(ErrorCode::refused,
                fmt::format("liar's dice with {} dice of {} sides has {} bids and 2^{} histories; the largest handled is 2^20",
                            r.dice, r.sides, bids, bids),
                "keep 2 * dice * sides at 20 or below");

  // Hands: multisets of faces. A hand's probability is the number of rolls that make it.
  std::uint32_t rolls = 1;
  for (std::uint32_t i = 0; i < r.dice; ++i) rolls *= r.sides;
  std::map<std::vector<std::uint32_t>, std::uint32_t> hand_of;
  std::vector<std::vector<std::uint32_t>> hands;
  for (std::uint32_t roll = 0; roll < rolls; ++roll) {
    std::vector<std::uint32_t> faces(r.sides, 0);
    for (std::uint32_t i = 0, rest = roll; i < r.dice; ++i, rest /= r.sides) ++faces[rest % r.sides];
    const auto [at, fresh] = hand_of.try_emplace(faces, static_cast<std::uint32_t>(hands.size()));
    if (fresh) {
      hands.push_back(faces);
      hand_probability_.push_back(0);
      std::string name;
      for (std::uint32_t face = 0; face < r.sides; ++face)
        for (std::uint32_t n = 0; n < faces[face]; ++n) name += fmt::format("{}{}", name.empty() ? "" : "+", face + 1);
      hand_names_.push_back(name);
    }
    roll_hand_.push_back(at->second);
    hand_probability_[at->second] += 1.0 / rolls;
  }
  hands_ = static_cast<std::uint32_t>(hands.size());
  pairs_ = static_cast<std::size_t>(hands_) * hands_;
  holds_.resize(bids * pairs_);
  for (std::uint32_t bid = 0; bid < bids; ++bid) {
    const std::uint32_t quantity = bid / r.sides + 1, face = bid % r.sides, wild = r.sides - 1;
    for (std::uint32_t a = 0; a < hands_; ++a) {
      for (std::uint32_t b = 0; b < hands_; ++b) {
        std::uint32_t count = hands[a][face] + hands[b][face];
        if (face != wild) count += hands[a][wild] + hands[b][wild];
        holds_[bid * pairs_ + a * hands_ + b] = count >= quantity ? 1 : -1;
      }
    }
  }
  max_win_ = 1;

  // A node is the last bid (none at the root) and the player to act; BFS order keeps children together.
  constexpr std::uint32_t kNone = ~0U;
  std::vector<std::uint32_t> last_bid{kNone};
  nodes_.push_back({});
  edges_.push_back("");
  for (std::uint32_t id = 0; id < nodes_.size(); ++id) {
    if (nodes_[id].kind != NodeKind::decision) continue;
    const std::uint32_t last = last_bid[id];
    const std::uint8_t me = nodes_[id].player;
    nodes_[id].first_child = static_cast<std::uint32_t>(nodes_.size());
    const std::uint32_t next = last == kNone ? 0 : last + 1;
    for (std::uint32_t bid = next; bid < bids; ++bid) {
      nodes_.push_back({.player = static_cast<std::uint8_t>(me ^ 1), .parent = id});
      last_bid.push_back(bid);
      edges_.push_back(fmt::format("{}x{}", bid / r.sides + 1, bid % r.sides + 1));
    }
    std::uint32_t actions = bids - next;
    if (last != kNone) {
      nodes_.push_back({.kind = NodeKind::challenge, .player = me, .parent = id, .bid = last, .amount = me == 1 ? 1.0 : -1.0});
      last_bid.push_back(last);
      edges_.push_back("liar");
      ++actions;
    }
    nodes_[id].actions = static_cast<std::uint8_t>(actions);
  }
  return {};
}

void Game::assign_rows() {
  std::vector<std::uint32_t> depth(nodes_.size(), 0);
  for (std::size_t id = 0; id < nodes_.size(); ++id) {
    Node& node = nodes_[id];
    if (id > 0) depth[id] = depth[node.parent] + 1;
    depth_ = std::max(depth_, depth[id]);
    if (node.kind != NodeKind::decision) continue;
    const std::uint32_t cells = 2U * node.actions;
    node.stride = cells <= 8 ? std::bit_ceil(cells) : (cells + 7) / 8 * 8;
    cells_ = (cells_ + 7) / 8 * 8;
    node.first_cell = cells_;
    cells_ += static_cast<std::uint64_t>(node.stride) * infos(node);
    infosets_ += infos(node);
  }
}

Deal Game::poker_deal(std::uint32_t first, std::uint32_t second, std::uint32_t open) const {
  Deal deal;
  deal.info[0][0] = first;
  deal.info[1][0] = second;
  deal.info[0][1] = open * hands_ + first;
  deal.info[1][1] = open * hands_ + second;
  const int above = static_cast<int>(first > second) - static_cast<int>(first < second);
  const int paired = publics_ > 1 ? static_cast<int>(first == open) - static_cast<int>(second == open) : 0;
  deal.showdown = paired != 0 ? paired : above;
  return deal;
}

Deal Game::deal(Rng& random) const {
  if (const auto* poker = std::get_if<PokerRules>(&spec_.rules)) {
    // Cards are drawn without replacement by counting past the ones already drawn; a card's rank is card / suits.
    const std::uint32_t cards = poker->ranks * poker->suits;
    const auto below = [&random](std::uint32_t n) { return static_cast<std::uint32_t>(random.below(n)); };
    const std::uint32_t first = below(cards);
    std::uint32_t second = below(cards - 1);
    second += second >= first ? 1U : 0U;
    std::uint32_t open = 0;
    if (publics_ > 1) {
      open = below(cards - 2);
      open += open >= std::min(first, second) ? 1U : 0U;
      open += open >= std::max(first, second) ? 1U : 0U;
    }
    return poker_deal(first / poker->suits, second / poker->suits, open / poker->suits);
  }
  Deal deal;
  for (auto& info : deal.info) info[0] = roll_hand_[random.below(roll_hand_.size())];
  deal.pair = deal.info[0][0] * hands_ + deal.info[1][0];
  return deal;
}

std::vector<Game::WeightedDeal> Game::all_deals() const {
  std::vector<WeightedDeal> deals;
  if (const auto* poker = std::get_if<PokerRules>(&spec_.rules)) {
    const double s = poker->suits, cards = poker->ranks * poker->suits;
    for (std::uint32_t a = 0; a < hands_; ++a) {
      for (std::uint32_t b = 0; b < hands_; ++b) {
        const double two = s * (s - (a == b)) / (cards * (cards - 1));
        for (std::uint32_t open = 0; open < publics_; ++open) {
          const double three = publics_ > 1 ? (s - (open == a) - (open == b)) / (cards - 2) : 1.0;
          if (two * three > 0) deals.push_back({poker_deal(a, b, open), two * three});
        }
      }
    }
    return deals;
  }
  for (std::uint32_t a = 0; a < hands_; ++a) {
    for (std::uint32_t b = 0; b < hands_; ++b) {
      Deal deal;
      deal.info[0][0] = a;
      deal.info[1][0] = b;
      deal.pair = a * hands_ + b;
      deals.push_back({deal, hand_probability_[a] * hand_probability_[b]});
    }
  }
  return deals;
}

void Game::terminal_values(const Node& node, std::uint32_t open, int player, std::span<const double> reach,
                           std::span<double> values) const {
  if (node.kind == NodeKind::challenge) {
    const double sign = player == 0 ? node.amount : -node.amount;
    const double* holds = &holds_[static_cast<std::size_t>(node.bid) * pairs_];
    for (std::uint32_t mine = 0; mine < hands_; ++mine) {
      double sum = 0;
      for (std::uint32_t theirs = 0; theirs < hands_; ++theirs) {
        const std::size_t pair = player == 0 ? mine * hands_ + theirs : theirs * hands_ + mine;
        sum += hand_probability_[theirs] * reach[theirs] * holds[pair];
      }
      values[mine] = sign * hand_probability_[mine] * sum;
    }
    return;
  }
  // Weights of a pair of ranks: number of ways to deal them from `suits` cards each, over all ordered deals.
  const auto& rules = std::get<PokerRules>(spec_.rules);
  const double s = rules.suits, cards = rules.ranks * rules.suits;
  const bool showdown = node.kind == NodeKind::showdown;
  const double amount = showdown || player == 0 ? node.amount : -node.amount;
  double total = 0;
  for (const double x : reach) total += x;
  double below = 0;
  if (node.street == 0) {
    const double scale = amount / (cards * (cards - 1));
    for (std::uint32_t h = 0; h < hands_; ++h) {
      const double same = reach[h], above = total - below - same;
      const double sum = showdown ? s * s * (below - above) : s * s * (below + above) + s * (s - 1) * same;
      values[h] = scale * sum;
      below += same;
    }
    return;
  }
  const double scale = amount / (cards * (cards - 1) * (cards - 2));
  const double pair_reach = reach[open];
  for (std::uint32_t h = 0; h < hands_; ++h) {
    const double same = reach[h];
    double sum = 0;
    if (h == open) {
      const double others = s * s * (s - 1) * (total - same);
      sum = showdown ? others : others + s * (s - 1) * (s - 2) * same;
    } else {
      // The opponent holding the public rank leaves one public card fewer, and wins the showdown.
      const double lower = below - (open < h ? pair_reach : 0.0);
      const double higher = total - below - same - (open > h ? pair_reach : 0.0);
      const double paired = s * s * (s - 1) * pair_reach;
      sum = showdown ? s * s * s * (lower - higher) - paired : s * s * s * (lower + higher) + paired + s * (s - 1) * s * same;
    }
    values[h] = scale * sum;
    below += same;
  }
}

}  // namespace drover::solve
