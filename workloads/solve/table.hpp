#pragma once
/// The training state of a game as plain numbers: int64 fixed-point cells, one row per infoset
/// (`[regret per action][strategy sum per action]`, rows by Game::row). 20 fractional bits: one cell step is about 1e-6
/// chips, and a cell reaches its limit of 2^62 only after 4.4e12 chip-iterations; beyond it every commit is an error.
/// Integer addition commutes exactly, so a table is a pure function of the set of updates, in whatever order they came.
///
/// A table may live in memory that several processes map. Each cell is an aligned 8-byte word, valid by itself, and in
/// shared mode touched only through std::atomic_ref: a process that dies between two words has broken nothing.
///
/// The double-precision solvers (CFR+, DCFR) keep IEEE doubles in the same cells, bit for bit.

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "drover/types/error.hpp"
#include "solve/game.hpp"

namespace drover::solve {

inline constexpr int kFractionBits = 20;
inline constexpr double kOne = 1 << kFractionBits;
/// No cell may leave [-kCellLimit, kCellLimit]; a delta may not either, so that their sum cannot wrap.
inline constexpr std::int64_t kCellLimit = std::int64_t{1} << 62;

enum class Algorithm : std::uint32_t {
  external_sampling = 1,  ///< es: Lanctot et al. 2009, "Monte Carlo sampling for regret minimization in extensive games"
  outcome_sampling = 2,   ///< os: the same, one terminal history per traversal
  cfr_plus = 3,           ///< cfr+: Tammelin 2014; vector form, alternating updates, linear averaging
  dcfr = 4,               ///< dcfr: Brown and Sandholm 2019, alpha 1.5, beta 0.5, gamma 2
};
/// `es`, `os`, `cfr+`, `dcfr`.
std::string_view name_of(Algorithm algorithm);
Result<Algorithm> algorithm_named(std::string_view name);
/// True for es and os: many independent tasks, fixed-point cells. False: a chain of tasks on doubles.
bool is_sampling(Algorithm algorithm);

/// One worker's own counters in a shared table, alone on its cache line, written by that worker only.
struct alignas(64) WorkerCounters {
  std::int64_t iterations_started = 0;
  std::int64_t iterations_finished = 0;
  std::int64_t flushes_started = 0;   ///< private deltas being added to the shared cells
  std::int64_t flushes_finished = 0;
  std::int64_t reserved[4]{};
};
inline constexpr std::size_t kWorkerCountersMax = 62;

/// In front of the cells of a shared table: 4 KiB.
struct TableHeader {
  static constexpr std::array<char, 8> kMagic{'d', 'r', 'v', 's', 'o', 'l', 'v', 'e'};
  static constexpr std::uint32_t kVersion = 1;

  std::array<char, 8> magic = kMagic;
  std::uint32_t version = kVersion;
  Algorithm algorithm = Algorithm::external_sampling;
  Hash256 game{};
  Hash256 layout{};
  std::uint64_t cells = 0;
  std::int64_t iterations = 0;   ///< of finished generations
  std::int64_t generation = 0;
  std::int64_t next_batch = 0;
  std::uint64_t reserved = 0;
  WorkerCounters workers[kWorkerCountersMax];
};
static_assert(sizeof(TableHeader) <= 4096 && alignof(TableHeader) == 64);
inline constexpr std::size_t kTableHeaderBytes = 4096;

/// A table in memory given from outside: header, then cells at byte 4096. Owns nothing.
class TableView {
 public:
  static std::size_t bytes_needed(const Game& game) { return kTableHeaderBytes + game.table_bytes(); }
  /// Writes a header and zero cells. `memory` must be 64-byte aligned and at least bytes_needed.
  static Result<TableView> create(std::span<std::byte> memory, const Game& game, Algorithm algorithm);
  /// Errors: mismatch (both hashes in the message) if it is of another game, layout or version.
  static Result<TableView> open(std::span<std::byte> memory, const Game& game);

  TableHeader& header() const { return *header_; }
  std::span<std::int64_t> cells() const { return cells_; }

 private:
  TableView(TableHeader* header, std::span<std::int64_t> cells) : header_(header), cells_(cells) {}
  TableHeader* header_;
  std::span<std::int64_t> cells_;
};

/// The average strategy a table stands for: probability of action a of the infoset at row r is [r / 2 + a]. Rows that were
/// never reached are uniform.
using Strategy = std::vector<double>;
Strategy average_strategy(const Game& game, std::span<const std::int64_t> cells, Algorithm algorithm);
/// The strategy of the next iteration, by regret matching.
Strategy current_strategy(const Game& game, std::span<const std::int64_t> cells, Algorithm algorithm);
Strategy uniform_strategy(const Game& game);

}  // namespace drover::solve
