#pragma once
/// The compute kernel of MCCFR: plays batches of sampled traversals. One `BatchRunner` belongs to one worker and keeps its
/// scratch between batches; a batch's result depends on (game, algorithm, job seed, batch, start table) only.
///
/// One iteration is one deal and one traversal per player, player 0 first, each on its own random numbers.
/// External sampling: all actions of the traverser, one sampled action of the opponent.
/// Outcome sampling: one action for both; the traverser explores with probability 0.6, every update is divided by the
/// probability of having been sampled.
///
/// Three ways to hold the table (all give the same updates for a single worker):
///   private copy   the start table is copied, traversals learn on the copy, the difference is the result (small tables)
///   touched rows   the same, rows are copied when first touched (large tables: cost follows the work, not the table)
///   shared         relaxed fetch_add on cells that other processes add to as well (large tables in shared mode; small ones
///                  learn on a private copy and add the difference now and then)

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "drover/types/bytes.hpp"
#include "drover/types/error.hpp"
#include "solve/delta.hpp"
#include "solve/game.hpp"
#include "solve/table.hpp"

namespace drover::solve {

inline constexpr double kExploration = 0.6;

/// Unit of work: plays `iterations` from the state at the start of `generation`. `batch` is unique in the job and names the
/// random stream.
struct BatchTask {
  std::uint64_t generation = 0;
  std::uint64_t batch = 0;
  std::uint64_t iterations = 0;
  friend bool operator==(const BatchTask&, const BatchTask&) = default;
};

/// Asked every 1,024 iterations with the number done; false ends the batch early.
using KeepGoing = std::function<bool(std::uint64_t iterations_done)>;

class BatchRunner {
 public:
  /// `game` must outlive the runner. Tables up to this size are copied whole per batch.
  static constexpr std::size_t kPrivateCopyBytesMax = 512 * 1024;

  BatchRunner(const Game& game, Algorithm algorithm, std::uint64_t job_seed);
  ~BatchRunner();
  BatchRunner(BatchRunner&&) noexcept;

  /// exact: reads `start`, returns the difference, encoded (delta.hpp).
  /// Errors: refused if an update leaves the range of a cell; timed_out if `keep_going` said no (no part of a batch counts).
  Result<Bytes> run(std::span<const std::int64_t> start, const BatchTask& task,
                                     const KeepGoing& keep_going = {});

  /// How a worker adds to a table that `workers` workers share. Small tables: traversals learn on a private copy, and once per
  /// `flush_iterations` the difference is added to the shared cells, regrets divided by `workers` (siblings learn the same
  /// step from the same start; see training.hpp). Large tables, or flush_iterations 0: every update is a fetch_add at once.
  struct Sharing {
    std::uint64_t flush_iterations = 1'024;
    std::uint32_t workers = 1;
  };

  /// shared: returns the iterations played, fewer than asked if `keep_going` said no.
  Result<std::uint64_t> run_shared(const TableView& table, WorkerCounters& counters, const BatchTask& task,
                                   const Sharing& sharing, const KeepGoing& keep_going = {});

  /// One traversal by one player on `cells`, no other player's: what the tests of unbiasedness average.
  void traverse(std::span<std::int64_t> cells, int player, std::uint64_t stream);

  /// Nodes visited so far.
  std::uint64_t nodes_visited() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace drover::solve
