#include "solve/strategy_file.hpp"

#include <fmt/core.h>

#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "solve/hash.hpp"

namespace drover::solve {
namespace {

constexpr std::size_t kPieceBytes = 1 << 16;

/// Calls visit(node id, info) for every infoset, in table order.
template <class Visit>
Result<void> for_each_infoset(const Game& game, Visit&& visit) {
  for (std::uint32_t id = 0; id < game.nodes().size(); ++id) {
    const Node& node = game.nodes()[id];
    if (node.kind != NodeKind::decision) continue;
    for (std::uint32_t info = 0; info < game.infos(node); ++info) DROVER_CHECK(visit(id, info));
  }
  return {};
}

std::string_view public_name(const Game& game, const Node& node, std::uint32_t info, std::string& storage) {
  if (node.street == 0) return {};
  storage = game.hand_name(info / game.hands());
  return storage;
}

/// Gathers rows by name and proves that every infoset came once with a distribution.
class Collector {
 public:
  explicit Collector(const Game& game) : game_(game), strategy_(game.cell_count() / 2 + 8, -1.0) {}

  Result<void> add(std::string_view infoset, std::string_view action, double probability) {
    DROVER_TRY(const Game::InfosetId id, game_.find_infoset(infoset));
    const Node& node = game_.nodes()[id.node];
    for (std::uint32_t a = 0; a < node.actions; ++a) {
      if (game_.action_name(id.node, a) != action) continue;
      double& slot = strategy_[Game::row(node, id.info) / 2 + a];
      if (slot >= 0) return fail(ErrorCode::corrupt, fmt::format("action '{}' of '{}' is there twice", action, infoset));
      if (!(probability >= 0 && probability <= 1 + 1e-6))
        return fail(ErrorCode::corrupt, fmt::format("the probability of '{}' in '{}' is {}", action, infoset, probability));
      slot = probability;
      return {};
    }
    return fail(ErrorCode::corrupt, fmt::format("'{}' has no action '{}'", infoset, action));
  }

  Result<Strategy> finish() {
    DROVER_CHECK(for_each_infoset(game_, [this](std::uint32_t id, std::uint32_t info) -> Result<void> {
      const Node& node = game_.nodes()[id];
      double sum = 0;
      for (std::uint32_t a = 0; a < node.actions; ++a) {
        const double p = strategy_[Game::row(node, info) / 2 + a];
        if (p < 0)
          return fail(ErrorCode::corrupt, fmt::format("action '{}' of '{}' is missing", game_.action_name(id, a), game_.infoset_name(id, info)));
        sum += p;
      }
      if (std::abs(sum - 1) > 1e-6)
        return fail(ErrorCode::corrupt, fmt::format("the probabilities of '{}' add up to {}", game_.infoset_name(id, info), sum));
      return {};
    }));
    for (double& p : strategy_) p = std::max(p, 0.0);
    return std::move(strategy_);
  }

 private:
  const Game& game_;
  Strategy strategy_;
};

std::string csv_field(const std::string& text) {
  return text.find(',') == std::string::npos ? text : "\"" + text + "\"";
}

/// The fields of one CSV line; quotes as csv_field writes them.
std::vector<std::string> csv_fields(std::string_view line) {
  std::vector<std::string> fields(1);
  bool quoted = false;
  for (const char c : line) {
    if (c == '"') {
      quoted = !quoted;
    } else if (c == ',' && !quoted) {
      fields.emplace_back();
    } else if (c != '\r') {
      fields.back() += c;
    }
  }
  return fields;
}

Result<LoadedStrategy> read_json(std::string_view text, const GameSpec* expected) {
  try {
    const auto document = nlohmann::json::parse(text);
    if (document.at("format") != "drover-solve-strategy")
      return fail(ErrorCode::corrupt, fmt::format("the file's format is {}, not a strategy", document.at("format").dump()));
    if (document.at("version") != 1)
      return fail(ErrorCode::mismatch, fmt::format("strategy file version {}, this program reads 1", document.at("version").dump()));
    DROVER_TRY(const GameSpec spec, parse_game(document.at("game").get<std::string>()));
    const auto hash = document.at("game_sha256").get<std::string>();
    if (hash != hex(game_hash(spec)))
      return fail(ErrorCode::mismatch, fmt::format("the file says game {}, its game '{}' is {}", hash, canonical_text(spec), hex(game_hash(spec))));
    if (expected != nullptr && *expected != spec)
      return fail(ErrorCode::mismatch, fmt::format("the strategy is for '{}' ({}), expected '{}' ({})", canonical_text(spec), hash,
                                                   canonical_text(*expected), hex(game_hash(*expected))));
    DROVER_TRY(const Game game, Game::build(spec));
    Collector collector(game);
    for (const auto& infoset : document.at("infosets")) {
      const auto& actions = infoset.at("actions");
      const auto& probabilities = infoset.at("probabilities");
      const auto name = infoset.at("name").get<std::string>();
      if (actions.size() != probabilities.size())
        return fail(ErrorCode::corrupt, fmt::format("'{}' has {} actions and {} probabilities", name, actions.size(), probabilities.size()));
      for (std::size_t a = 0; a < actions.size(); ++a)
        DROVER_CHECK(collector.add(name, actions[a].get<std::string>(), probabilities[a].get<double>()));
    }
    DROVER_TRY(Strategy strategy, collector.finish());
    return LoadedStrategy{spec, std::move(strategy),
                          {document.at("algorithm").get<std::string>(), document.at("iterations").get<std::uint64_t>()}};
  } catch (const nlohmann::json::exception& e) {
    return fail(ErrorCode::corrupt, fmt::format("this is no strategy in JSON: {}", e.what()));
  }
}

Result<LoadedStrategy> read_csv(std::string_view text, const GameSpec& spec) {
  DROVER_TRY(const Game game, Game::build(spec));
  Collector collector(game);
  std::size_t line_number = 0;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::vector<std::string> fields = csv_fields(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    ++line_number;
    if (line_number == 1 && fields[0] == "infoset") continue;
    if (fields.size() != 7)
      return fail(ErrorCode::corrupt, fmt::format("line {} has {} fields, expected 7", line_number, fields.size()));
    double probability = 0;
    const std::string& number = fields[6];
    const auto [rest, error] = std::from_chars(number.data(), number.data() + number.size(), probability);
    if (error != std::errc() || rest != number.data() + number.size())
      return fail(ErrorCode::corrupt, fmt::format("line {}: '{}' is no probability", line_number, number));
    if (auto added = collector.add(fields[0], fields[5], probability); !added)
      return std::unexpected(std::move(added).error().with(fmt::format("line {}", line_number)));
  }
  DROVER_TRY(Strategy strategy, collector.finish());
  return LoadedStrategy{.game = spec, .strategy = std::move(strategy)};
}

}  // namespace

Result<void> write_json(const Game& game, const Strategy& strategy, const StrategySource& source, const Certificate& certificate,
                        const TextSink& sink) {
  std::string text = fmt::format(
      "{{\"format\": \"drover-solve-strategy\", \"version\": 1, \"game\": \"{}\", \"game_sha256\": \"{}\", \"algorithm\": \"{}\",\n"
      " \"iterations\": {}, \"value_chips\": {}, \"exploitability_chips\": {}, \"infosets\": [",
      canonical_text(game.spec()), hex(game_hash(game.spec())), source.algorithm, source.iterations, certificate.value,
      certificate.exploitability);
  bool first = true;
  const auto write = [&](std::uint32_t id, std::uint32_t info) -> Result<void> {
    const Node& node = game.nodes()[id];
    std::string storage, actions, probabilities;
    const std::string_view open = public_name(game, node, info, storage);
    for (std::uint32_t a = 0; a < node.actions; ++a) {
      actions += fmt::format("{}\"{}\"", a == 0 ? "" : ", ", game.action_name(id, a));
      probabilities += fmt::format("{}{}", a == 0 ? "" : ", ", strategy[Game::row(node, info) / 2 + a]);
    }
    text += fmt::format("{}\n  {{\"name\": \"{}\", \"player\": {}, \"hand\": \"{}\", \"public\": {}, \"history\": \"{}\", "
                        "\"actions\": [{}], \"probabilities\": [{}]}}",
                        first ? "" : ",", game.infoset_name(id, info), node.player, game.hand_name(info % game.hands()),
                        open.empty() ? "null" : fmt::format("\"{}\"", open), game.history_name(id), actions, probabilities);
    first = false;
    if (text.size() < kPieceBytes) return {};
    DROVER_CHECK(sink(text));
    text.clear();
    return {};
  };
  DROVER_CHECK(for_each_infoset(game, write));
  text += "\n]}\n";
  return sink(text);
}

Result<void> write_csv(const Game& game, const Strategy& strategy, const TextSink& sink) {
  std::string text = "infoset,player,hand,public,history,action,probability\n";
  const auto write = [&](std::uint32_t id, std::uint32_t info) -> Result<void> {
    const Node& node = game.nodes()[id];
    std::string storage;
    const std::string_view open = public_name(game, node, info, storage);
    for (std::uint32_t a = 0; a < node.actions; ++a) {
      text += fmt::format("{},{},{},{},{},{},{}\n", csv_field(game.infoset_name(id, info)), node.player,
                          game.hand_name(info % game.hands()), open, csv_field(game.history_name(id)), game.action_name(id, a),
                          strategy[Game::row(node, info) / 2 + a]);
    }
    if (text.size() < kPieceBytes) return {};
    DROVER_CHECK(sink(text));
    text.clear();
    return {};
  };
  DROVER_CHECK(for_each_infoset(game, write));
  return sink(text);
}

Result<LoadedStrategy> read_strategy(std::string_view text, const GameSpec* game) {
  if (text.find_first_not_of(" \t\r\n") != std::string_view::npos && text[text.find_first_not_of(" \t\r\n")] == '{')
    return read_json(text, game);
  if (game == nullptr) return fail(ErrorCode::usage, "a CSV strategy does not say its game", "name the game as well");
  return read_csv(text, *game);
}

std::string show_infoset(const Game& game, const Strategy& strategy, Game::InfosetId id) {
  const Node& node = game.nodes()[id.node];
  std::string text = fmt::format("{}  player {} to act, holding {}", game.infoset_name(id.node, id.info), node.player,
                                 game.hand_name(id.info % game.hands()));
  if (node.street > 0) text += fmt::format(", public {}", game.hand_name(id.info / game.hands()));
  const std::string history = game.history_name(id.node);
  text += history.empty() ? ", nothing played yet\n" : fmt::format(", after {}\n", history);
  for (std::uint32_t a = 0; a < node.actions; ++a) {
    const double p = strategy[Game::row(node, id.info) / 2 + a];
    text += fmt::format("  {:<6} {:6.2f} %  {}\n", game.action_name(id.node, a), 100 * p,
                        std::string(static_cast<std::size_t>(std::lround(40 * p)), '#'));
  }
  return text;
}

}  // namespace drover::solve
