#include "solve/table.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>
#include <memory>

namespace drover::solve {
namespace {

double cell_value(std::int64_t cell, Algorithm algorithm) {
  return is_sampling(algorithm) ? static_cast<double>(cell) / kOne : std::bit_cast<double>(cell);
}

/// Normalised positive parts of the cells at `offset` of every row.
Strategy normalised(const Game& game, std::span<const std::int64_t> cells, Algorithm algorithm, bool sums) {
  Strategy strategy(game.cell_count() / 2 + 8, 0.0);
  for (const Node& node : game.nodes()) {
    if (node.kind != NodeKind::decision) continue;
    for (std::uint32_t info = 0; info < game.infos(node); ++info) {
      const std::uint64_t row = Game::row(node, info);
      const std::uint64_t from = row + (sums ? node.actions : 0U);
      double total = 0;
      for (std::uint32_t a = 0; a < node.actions; ++a) {
        const double x = std::max(0.0, cell_value(cells[from + a], algorithm));
        strategy[row / 2 + a] = x;
        total += x;
      }
      for (std::uint32_t a = 0; a < node.actions; ++a)
        strategy[row / 2 + a] = total > 0 ? strategy[row / 2 + a] / total : 1.0 / node.actions;
    }
  }
  return strategy;
}

}  // namespace

std::string_view name_of(Algorithm algorithm) {
  switch (algorithm) {
    case Algorithm::external_sampling: return "es";
    case Algorithm::outcome_sampling: return "os";
    case Algorithm::cfr_plus: return "cfr+";
    case Algorithm::dcfr: return "dcfr";
  }
  return "unknown";
}

Result<Algorithm> algorithm_named(std::string_view name) {
  for (const Algorithm a :
       {Algorithm::external_sampling, Algorithm::outcome_sampling, Algorithm::cfr_plus, Algorithm::dcfr})
    if (name == name_of(a)) return a;
  return fail(ErrorCode::usage, fmt::format("unknown algorithm '{}'", name), "the algorithms are es, os, cfr+ and dcfr");
}

bool is_sampling(Algorithm algorithm) {
  return algorithm == Algorithm::external_sampling || algorithm == Algorithm::outcome_sampling;
}

Result<TableView> TableView::create(std::span<std::byte> memory, const Game& game, Algorithm algorithm) {
  if (memory.size() < bytes_needed(game) || std::bit_cast<std::uintptr_t>(memory.data()) % 64 != 0)
    return fail(ErrorCode::usage, fmt::format("a table of '{}' needs {} bytes aligned to 64, given {}",
                                              canonical_text(game.spec()), bytes_needed(game), memory.size()));
  auto* header = std::construct_at(reinterpret_cast<TableHeader*>(memory.data()));
  header->algorithm = algorithm;
  header->game = game_hash(game.spec());
  header->layout = game.layout_hash();
  header->cells = game.cell_count();
  auto* cells = reinterpret_cast<std::int64_t*>(memory.data() + kTableHeaderBytes);
  std::fill_n(cells, game.cell_count(), std::int64_t{0});
  return TableView(header, {cells, game.cell_count()});
}

Result<TableView> TableView::open(std::span<std::byte> memory, const Game& game) {
  if (memory.size() < kTableHeaderBytes || std::bit_cast<std::uintptr_t>(memory.data()) % 64 != 0)
    return fail(ErrorCode::corrupt, fmt::format("{} bytes are no table", memory.size()));
  auto* header = reinterpret_cast<TableHeader*>(memory.data());
  if (header->magic != TableHeader::kMagic) return fail(ErrorCode::corrupt, "these bytes are not a table: the magic is missing");
  if (header->version != TableHeader::kVersion)
    return fail(ErrorCode::mismatch, fmt::format("table version {}, this program reads {}", header->version, TableHeader::kVersion));
  if (header->game != game_hash(game.spec()))
    return fail(ErrorCode::mismatch, fmt::format("the table is of game {}, expected {}", hex(header->game), hex(game_hash(game.spec()))));
  if (header->layout != game.layout_hash())
    return fail(ErrorCode::mismatch, fmt::format("the table has layout {}, expected {}", hex(header->layout), hex(game.layout_hash())));
  if (header->cells != game.cell_count() || memory.size() < bytes_needed(game))
    return fail(ErrorCode::corrupt, fmt::format("the table has {} bytes, its game needs {}", memory.size(), bytes_needed(game)));
  return TableView(header, {reinterpret_cast<std::int64_t*>(memory.data() + kTableHeaderBytes), game.cell_count()});
}

Strategy average_strategy(const Game& game, std::span<const std::int64_t> cells, Algorithm algorithm) {
  return normalised(game, cells, algorithm, true);
}

Strategy current_strategy(const Game& game, std::span<const std::int64_t> cells, Algorithm algorithm) {
  return normalised(game, cells, algorithm, false);
}

Strategy uniform_strategy(const Game& game) {
  const std::vector<std::int64_t> zero(game.cell_count(), 0);
  return normalised(game, zero, Algorithm::external_sampling, false);
}

}  // namespace drover::solve
