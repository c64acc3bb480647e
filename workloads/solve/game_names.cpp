/// Names of games, hands, histories and infosets: everything of game.hpp that a person reads or types.

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <numeric>

#include "solve/game.hpp"

namespace drover::solve {
namespace {

constexpr std::string_view kGames[] = {"kuhn", "leduc", "liars_dice"};

template <class Range>
std::string joined(const Range& names) {
  std::string text;
  for (const auto& name : names) text += text.empty() ? std::string(name) : ", " + std::string(name);
  return text;
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i + 1;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i] == b[j] ? 0U : 1U);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, diagonal + 1});
    }
  }
  return row[b.size()];
}

/// Takes `key=<number>` from the front of `text`, with the separator after it.
bool take_number(std::string_view& text, std::string_view key, std::uint32_t& value) {
  if (!text.starts_with(key)) return false;
  text.remove_prefix(key.size());
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc()) return false;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  if (text.starts_with(' ')) text.remove_prefix(1);
  return true;
}

}  // namespace

GameSpec kuhn() {
  return {PokerRules{.ranks = 3, .suits = 1, .streets = 1, .raises = 1, .bets = {1, 1}, .ante = 1}};
}
GameSpec leduc() { return {PokerRules{}}; }
GameSpec liars_dice() { return {DiceRules{}}; }

Result<GameSpec> game_named(std::string_view name) {
  if (name == "kuhn") return kuhn();
  if (name == "leduc") return leduc();
  if (name == "liars_dice" || name == "liars-dice") return liars_dice();
  std::string_view nearest;
  std::size_t best = 4;
  for (const std::string_view game : kGames)
    if (const std::size_t distance = edit_distance(name, game); distance < best) best = distance, nearest = game;
  return fail(ErrorCode::usage, fmt::format("unknown game '{}'", name),
              nearest.empty() ? fmt::format("the games are {}", joined(kGames))
                              : fmt::format("did you mean '{}'? The games are {}", nearest, joined(kGames)));
}

std::string canonical_text(const GameSpec& spec) {
  if (const auto* p = std::get_if<PokerRules>(&spec.rules))
    return fmt::format("poker ranks={} suits={} streets={} raises={} bets={},{} ante={}", p->ranks, p->suits, p->streets,
                       p->raises, p->bets[0], p->bets[1], p->ante);
  const auto& d = std::get<DiceRules>(spec.rules);
  return fmt::format("liars_dice dice={} sides={}", d.dice, d.sides);
}

Result<GameSpec> parse_game(std::string_view text) {
  std::string_view rest = text;
  if (rest.starts_with("poker ")) {
    rest.remove_prefix(6);
    PokerRules p;
    std::uint32_t second = 0;
    bool good = take_number(rest, "ranks=", p.ranks) && take_number(rest, "suits=", p.suits) &&
                take_number(rest, "streets=", p.streets) && take_number(rest, "raises=", p.raises) &&
                take_number(rest, "bets=", p.bets[0]) && take_number(rest, ",", second) &&
                take_number(rest, "ante=", p.ante) && rest.empty();
    p.bets[1] = second;
    if (good && canonical_text({p}) == text) return GameSpec{p};
  } else if (rest.starts_with("liars_dice ")) {
    rest.remove_prefix(11);
    DiceRules d;
    if (take_number(rest, "dice=", d.dice) && take_number(rest, "sides=", d.sides) && rest.empty() &&
        canonical_text({d}) == text)
      return GameSpec{d};
  }
  return fail(ErrorCode::usage, fmt::format("'{}' is not the text of a game", text),
              fmt::format("it looks like '{}'", canonical_text(leduc())));
}

Hash256 game_hash(const GameSpec& spec) { return sha256(canonical_text(spec)); }

std::string display_name(const GameSpec& spec) {
  if (spec == kuhn()) return "kuhn";
  if (spec == leduc()) return "leduc";
  if (spec == liars_dice()) return "liars_dice";
  return canonical_text(spec);
}

std::optional<KnownValue> known_value(const GameSpec& spec) {
  if (spec == kuhn()) return KnownValue{-1.0 / 18.0, 1e-12, "Kuhn 1950: -1/18"};
  if (spec == leduc()) return KnownValue{-0.085606424078, 1e-10, "published, by sequence-form LP"};
  if (spec == liars_dice()) return KnownValue{-0.0271318, 2e-6, "own DCFR, certified between -0.0271338 and -0.0271306"};
  return std::nullopt;
}

std::string Game::hand_name(std::uint32_t hand) const { return hand_names_[hand]; }

std::string Game::history_name(std::uint32_t id) const {
  std::vector<std::uint32_t> path;
  for (std::uint32_t at = id; at != 0; at = nodes_[at].parent) path.push_back(at);
  const bool dice = std::holds_alternative<DiceRules>(spec_.rules);
  std::string name;
  for (auto at = path.rbegin(); at != path.rend(); ++at) {
    if (dice && !name.empty()) name += ',';
    name += edges_[*at];
    if (nodes_[*at].kind == NodeKind::decision && nodes_[*at].street > nodes_[nodes_[*at].parent].street) name += '/';
  }
  return name;
}

std::string Game::action_name(std::uint32_t id, std::uint32_t action) const {
  const std::string& edge = edges_[nodes_[id].first_child + action];
  if (std::holds_alternative<DiceRules>(spec_.rules)) return edge;
  const bool facing_bet = edges_[nodes_[id].first_child] == "f";
  if (edge == "f") return "fold";
  if (edge == "c") return facing_bet ? "call" : "check";
  return facing_bet ? "raise" : "bet";
}

std::string Game::infoset_name(std::uint32_t id, std::uint32_t info) const {
  const std::string hand = hand_names_[info % hands_];
  if (nodes_[id].street == 0) return hand + ":" + history_name(id);
  return hand + "/" + hand_names_[info / hands_] + ":" + history_name(id);
}

Result<Game::InfosetId> Game::find_infoset(std::string_view name) const {
  const auto unknown = [&](std::string what, std::string advice) {
    return fail(ErrorCode::not_found, fmt::format("no infoset '{}': {}", name, what), std::move(advice));
  };
  const std::string example = infoset_name(0, 0) + "' or '" + infoset_name(nodes_[0].first_child, hands_ - 1);
  const std::size_t colon = name.find(':');
  if (colon == std::string_view::npos)
    return unknown("a name is hand[/public]:history", fmt::format("for example '{}'", example));

  std::string_view cards = name.substr(0, colon), history = name.substr(colon + 1), open;
  if (const std::size_t slash = cards.find('/'); slash != std::string_view::npos) {
    open = cards.substr(slash + 1);
    cards = cards.substr(0, slash);
  }
  const auto find_hand = [&](std::string_view wanted) {
    return static_cast<std::size_t>(std::find(hand_names_.begin(), hand_names_.end(), wanted) - hand_names_.begin());
  };
  const std::size_t hand = find_hand(cards);
  const std::string hands =
      fmt::format("hands are {}{}", joined(std::span(hand_names_).first(std::min<std::size_t>(13, hand_names_.size()))),
                  hands_ > 13 ? ", ..." : "");
  if (hand == hand_names_.size()) return unknown(fmt::format("no hand '{}'", cards), hands);

  std::uint32_t at = 0;
  std::string_view rest = history;
  while (!rest.empty()) {
    const Node& node = nodes_[at];
    std::uint32_t taken = node.actions;
    for (std::uint32_t action = 0; action < node.actions; ++action) {
      const std::string& edge = edges_[node.first_child + action];
      if (rest.starts_with(edge) && (edge.size() == 1 || rest.size() == edge.size() || rest[edge.size()] == ',')) {
        taken = action;
        rest.remove_prefix(edge.size());
        break;
      }
    }
    if (taken == node.actions) {
      std::vector<std::string> legal;
      for (std::uint32_t action = 0; action < node.actions; ++action) legal.push_back(edges_[node.first_child + action]);
      return unknown(fmt::format("'{}' is not an action after '{}'", rest, history_name(at)),
                     fmt::format("legal there: {}", joined(legal)));
    }
    at = node.first_child + taken;
    if (nodes_[at].kind != NodeKind::decision) {
      return unknown(fmt::format("'{}' ends the game", history_name(at)), "a name stops where somebody has to act");
    }
    if (!rest.empty() && (rest.front() == '/' || rest.front() == ',')) rest.remove_prefix(1);
  }
  if (nodes_[at].street == 0) {
    if (!open.empty()) return unknown("there is no public card yet", fmt::format("write '{}:{}'", cards, history));
    return InfosetId{at, static_cast<std::uint32_t>(hand)};
  }
  const std::size_t public_card = find_hand(open);
  if (public_card == hand_names_.size())
    return unknown(open.empty() ? "the public card is missing" : fmt::format("no public card '{}'", open),
                   fmt::format("write '{}/PUBLIC:{}'; {}", cards, history_name(at), hands));
  return InfosetId{at, static_cast<std::uint32_t>(public_card * hands_ + hand)};
}

std::string Game::layout_text() const {
  return fmt::format(
      "cells=int64 fraction_bits=20 row=regrets,strategy_sums pad=pow2_to_8 order=node,public,hand nodes={} infosets={} cells={} "
      "abstraction=none suits=merged",
      nodes_.size(), infosets_, cells_);
}

Hash256 Game::layout_hash() const { return sha256(layout_text()); }

}  // namespace drover::solve
