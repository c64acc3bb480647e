#include "solve/sampling.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

namespace drover::solve {
namespace {

constexpr std::uint32_t kActionsMax = 64;
/// The absolute updates of one batch may add up to this and no further, so that no cell of a private copy can wrap.
constexpr double kBatchUpdatesMax = 0x1p61;

inline std::int64_t load_shared(std::int64_t& cell) { return std::atomic_ref(cell).load(std::memory_order_relaxed); }
inline void add_shared(std::int64_t& cell, std::int64_t value) {
  if (value != 0) std::atomic_ref(cell).fetch_add(value, std::memory_order_relaxed);
}

/// The table is this process's own.
struct PrivateCells {
  std::int64_t* cells;
  std::int64_t* row(std::uint64_t at, std::uint32_t) { return cells + at; }
  static double read(const std::int64_t* cell) { return static_cast<double>(*cell); }
  static void add(std::int64_t* cell, std::int64_t value) { *cell += value; }
};

/// Rows are copied from `start` when the batch first touches them. A stamp per 4 cells (the smallest stride) holds, at a row's
/// first cell, the batch that copied the row last and the row's stride / 4 in its low bits: reading the stamps in order gives
/// the touched rows in order, without sorting.
struct TouchedRows {
  static constexpr std::uint32_t kStrideBits = 6;
  static constexpr std::uint32_t kStrideMask = (1U << kStrideBits) - 1;
  std::int64_t* cells;
  const std::int64_t* start;
  std::uint32_t* stamps;
  std::uint32_t stamp;  ///< of this batch, low bits 0
  std::int64_t* row(std::uint64_t at, std::uint32_t stride) {
    std::uint32_t& mine = stamps[at / 4];
    if ((mine & ~kStrideMask) != stamp) [[unlikely]] {
      mine = stamp | stride / 4;
      std::memcpy(cells + at, start + at, stride * sizeof(std::int64_t));
    }
    return cells + at;
  }
  static double read(const std::int64_t* cell) { return static_cast<double>(*cell); }
  static void add(std::int64_t* cell, std::int64_t value) { *cell += value; }
};

/// Other processes add to the same cells. A read may be a few updates old; that is all that can go wrong.
struct SharedCells {
  std::int64_t* cells;
  std::int64_t* row(std::uint64_t at, std::uint32_t) { return cells + at; }
  static double read(std::int64_t* cell) { return static_cast<double>(load_shared(*cell)); }
  static void add(std::int64_t* cell, std::int64_t value) { add_shared(*cell, value); }
};

/// Plays traversals on cells held in one of the three ways.
template <class Cells>
class Traversal {
 public:
  Traversal(const Game& game, Cells cells) : game_(game), nodes_(game.nodes().data()), cells_(cells) {}

  void external(int player, const Deal& deal, Rng& random) {
    player_ = player;
    deal_ = &deal;
    random_ = &random;
    sign_ = player == 0 ? kOne : -kOne;
    external_value(0);
  }

  void outcome(int player, const Deal& deal, Rng& random) {
    player_ = player;
    deal_ = &deal;
    random_ = &random;
    sign_ = player == 0 ? kOne : -kOne;
    outcome_value(0, 1.0, 1.0, 1.0);
  }

  std::uint64_t visited = 0;
  bool overflow = false;

 private:
  /// Regret matching: positive regrets, normalised; uniform if there is none.
  template <class Row>
  static void match(Row* row, std::uint32_t actions, double* probability) {
    double total = 0;
    for (std::uint32_t a = 0; a < actions; ++a) {
      const double regret = std::max(0.0, Cells::read(row + a));
      probability[a] = regret;
      total += regret;
    }
    if (total > 0) {
      const double scale = 1.0 / total;
      for (std::uint32_t a = 0; a < actions; ++a) probability[a] *= scale;
    } else {
      const double even = 1.0 / actions;
      for (std::uint32_t a = 0; a < actions; ++a) probability[a] = even;
    }
  }

  std::uint32_t pick(const double* probability, std::uint32_t actions) {
    double point = random_->unit();
    std::uint32_t a = 0;
    while (a + 1 < actions && point >= probability[a]) point -= probability[a++];
    return a;
  }

  /// Value for the traverser, in cell units (chips * 2^20).
  double external_value(std::uint32_t id) {
    for (;;) {
      const Node& node = nodes_[id];
      ++visited;
      if (node.kind != NodeKind::decision) return sign_ * game_.utility(node, *deal_);
      auto* row = cells_.row(Game::row(node, deal_->info[node.player][node.street]), node.stride);
      switch (node.actions) {
        case 2:
          if (node.player == player_) return explore<2>(node, row, 2);
          id = follow<2>(node, row, 2);
          break;
        case 3:
          if (node.player == player_) return explore<3>(node, row, 3);
          id = follow<3>(node, row, 3);
          break;
        default:
          if (node.player == player_) return explore<kActionsMax>(node, row, node.actions);
          id = follow<kActionsMax>(node, row, node.actions);
      }
    }
  }

  template <std::uint32_t N, class Row>
  double explore(const Node& node, Row* row, std::uint32_t count) {
    const std::uint32_t actions = N == kActionsMax ? count : N;
    double probability[N], value[N];
    match(row, actions, probability);
    double mean = 0;
    for (std::uint32_t a = 0; a < actions; ++a) {
      value[a] = external_value(node.first_child + a);
      mean += probability[a] * value[a];
    }
    for (std::uint32_t a = 0; a < actions; ++a) Cells::add(row + a, std::llrint(value[a] - mean));
    return mean;
  }

  template <std::uint32_t N, class Row>
  std::uint32_t follow(const Node& node, Row* row, std::uint32_t count) {
    const std::uint32_t actions = N == kActionsMax ? count : N;
    double probability[N];
    match(row, actions, probability);
    for (std::uint32_t a = 0; a < actions; ++a) Cells::add(row + actions + a, std::llrint(probability[a] * kOne));
    return node.first_child + pick(probability, actions);
  }

  /// What is left of the sampled history after this node: u(z) / q(z) and the probability that both play on to z.
  struct Tail {
    double weighted_utility;  ///< what the traverser wins at z, divided by the probability of having sampled z; cell units
    double reach;             ///< probability of the rest of the history under the current strategies
  };

  /// mine, theirs: reach of the traverser and the opponent; sampled: probability of having come here, chance left out
  /// everywhere because it is sampled as it is.
  Tail outcome_value(std::uint32_t id, double mine, double theirs, double sampled) {
    const Node& node = nodes_[id];
    ++visited;
    if (node.kind != NodeKind::decision) return {sign_ * game_.utility(node, *deal_) / sampled, 1.0};
    auto* row = cells_.row(Game::row(node, deal_->info[node.player][node.street]), node.stride);
    const std::uint32_t actions = node.actions;
    double probability[kActionsMax];
    match(row, actions, probability);
    const bool my_turn = node.player == player_;
    const double explore = my_turn ? kExploration : 0.0;
    std::uint32_t action = 0;
    if (explore > 0 && random_->unit() < explore) {
      action = static_cast<std::uint32_t>(random_->below(actions));
    } else {
      action = pick(probability, actions);
    }
    const double p = probability[action];
    const double q = explore / actions + (1.0 - explore) * p;
    if (!my_turn) {
      const Tail tail = outcome_value(node.first_child + action, mine, theirs * p, sampled * q);
      return {tail.weighted_utility, tail.reach * p};
    }
    const Tail tail = outcome_value(node.first_child + action, mine * p, theirs, sampled * q);
    // Lanctot et al. 2009, equation 10: W (pi(z[I]a, z) - pi(z[I], z)) for the sampled action, -W pi(z[I], z) for the rest,
    // W = u(z) pi_opponent(z[I]) / q(z).
    const double weight = tail.weighted_utility * theirs;
    const double through = weight * tail.reach;
    for (std::uint32_t a = 0; a < actions; ++a) add_checked(row + a, (a == action ? through : 0.0) - through * p);
    // The average strategy is weighted by the traverser's own reach, divided by the probability of being here.
    for (std::uint32_t a = 0; a < actions; ++a) add_checked(row + actions + a, mine / sampled * probability[a] * kOne);
    return {tail.weighted_utility, tail.reach * p};
  }

  template <class Row>
  void add_checked(Row* cell, double value) {
    updates_ += std::abs(value);
    if (!(updates_ < kBatchUpdatesMax)) {
      overflow = true;
      return;
    }
    Cells::add(cell, std::llrint(value));
  }

  const Game& game_;
  const Node* nodes_;
  Cells cells_;
  const Deal* deal_ = nullptr;
  Rng* random_ = nullptr;
  double sign_ = 0;
  double updates_ = 0;  ///< outcome sampling: sum of the absolute updates so far
  int player_ = 0;
};

constexpr std::uint64_t kTickIterations = 1024;

}  // namespace

struct BatchRunner::Impl {
  const Game& game;
  Algorithm algorithm;
  std::uint64_t seed;
  std::vector<std::int64_t> cells{};
  std::vector<std::int64_t> before{};
  std::vector<std::uint32_t> stamps{};
  std::uint32_t stamp = 0;
  std::uint64_t visited = 0;

  /// Plays up to `iterations`; the number played, fewer if keep_going said no.
  template <class Cells>
  Result<std::uint64_t> play(Cells cells_view, Rng& random, std::uint64_t iterations, std::uint64_t done_before,
                             const KeepGoing& keep_going) {
    Traversal<Cells> traversal(game, cells_view);
    const bool external = algorithm == Algorithm::external_sampling;
    // External sampling: an update is at most the difference of two wins.
    if (external && static_cast<double>(iterations) * 4 * game.max_win() * kOne >= kBatchUpdatesMax) traversal.overflow = true;
    std::uint64_t done = 0;
    while (done < iterations && !traversal.overflow) {
      if (keep_going && !keep_going(done_before + done)) break;
      const std::uint64_t stop = std::min(iterations, done + kTickIterations);
      for (; done < stop; ++done) {
        for (int player = 0; player < 2; ++player) {
          const Deal deal = game.deal(random);
          if (external) {
            traversal.external(player, deal, random);
          } else {
            traversal.outcome(player, deal, random);
          }
        }
      }
    }
    visited += traversal.visited;
    if (traversal.overflow)
      return fail(ErrorCode::refused, fmt::format("the updates of one batch of '{}' leave the range of a cell", canonical_text(game.spec())));
    return done;
  }

  /// Adds what the private copy learned since `before` to the shared cells, regrets divided by `workers`.
  void add_difference(std::span<std::int64_t> shared, std::int64_t workers) {
    for (const Node& node : game.nodes()) {
      if (node.kind != NodeKind::decision) continue;
      for (std::uint32_t info = 0; info < game.infos(node); ++info) {
        const std::uint64_t row = Game::row(node, info);
        for (std::uint64_t i = row; i < row + 2U * node.actions; ++i) {
          const std::int64_t difference = cells[i] - before[i];
          add_shared(shared[i], i < row + node.actions ? difference / workers : difference);
        }
      }
    }
  }

  Result<std::uint64_t> play_touched(std::span<const std::int64_t> start, Rng& random, std::uint64_t iterations,
                                     const KeepGoing& keep_going) {
    if (cells.empty()) {
      cells.resize(game.cell_count());
      stamps.resize(game.cell_count() / 4 + 1, 0);
    }
    stamp += 1U << TouchedRows::kStrideBits;
    if (stamp == 0) {
      std::fill(stamps.begin(), stamps.end(), 0U);
      stamp = 1U << TouchedRows::kStrideBits;
    }
    return play(TouchedRows{cells.data(), start.data(), stamps.data(), stamp}, random, iterations, 0, keep_going);
  }

  /// Calls visit(first cell, stride) for the rows of the last play_touched, in ascending order.
  template <class Visit>
  void for_each_touched(Visit&& visit) const {
    for (std::size_t i = 0; i < stamps.size(); ++i)
      if ((stamps[i] & ~TouchedRows::kStrideMask) == stamp) visit(i * 4, (stamps[i] & TouchedRows::kStrideMask) * 4);
  }
};

BatchRunner::BatchRunner(const Game& game, Algorithm algorithm, std::uint64_t job_seed)
    : impl_(new Impl{.game = game, .algorithm = algorithm, .seed = job_seed}) {}
BatchRunner::~BatchRunner() = default;
BatchRunner::BatchRunner(BatchRunner&&) noexcept = default;

std::uint64_t BatchRunner::nodes_visited() const { return impl_->visited; }

Result<Bytes> BatchRunner::run(std::span<const std::int64_t> start, const BatchTask& task,
                                                const KeepGoing& keep_going) {
  Impl& s = *impl_;
  Rng random(s.seed, TaskId(task.batch));
  DeltaEncoder encoder({.generation = task.generation, .batch = task.batch, .iterations = task.iterations, .cells = start.size()});
  Result<std::uint64_t> done = 0;
  if (s.game.table_bytes() <= kPrivateCopyBytesMax) {
    s.cells.assign(start.begin(), start.end());
    done = s.play(PrivateCells{s.cells.data()}, random, task.iterations, 0, keep_going);
    for (std::uint64_t cell = 0; cell < start.size(); ++cell) encoder.add(cell, s.cells[cell] - start[cell]);
  } else {
    done = s.play_touched(start, random, task.iterations, keep_going);
    s.for_each_touched([&](std::uint64_t row, std::uint64_t stride) {
      for (std::uint64_t cell = row; cell < row + stride; ++cell) encoder.add(cell, s.cells[cell] - start[cell]);
    });
  }
  if (!done) return std::unexpected(std::move(done).error());
  if (*done != task.iterations)
    return fail(ErrorCode::timed_out, fmt::format("batch {} was ended after {} of {} iterations", task.batch, *done, task.iterations));
  return encoder.finish();
}

Result<std::uint64_t> BatchRunner::run_shared(const TableView& table, WorkerCounters& counters, const BatchTask& task,
                                              const Sharing& sharing, const KeepGoing& keep_going) {
  Impl& s = *impl_;
  Rng random(s.seed, TaskId(task.batch));
  const auto cells = table.cells();
  const bool private_copy = sharing.flush_iterations > 0 && s.game.table_bytes() <= kPrivateCopyBytesMax;
  const std::uint64_t piece = private_copy ? sharing.flush_iterations : kTickIterations;
  std::uint64_t done = 0;
  while (done < task.iterations) {
    const std::uint64_t wanted = std::min(piece, task.iterations - done);
    add_shared(counters.iterations_started, static_cast<std::int64_t>(wanted));
    std::uint64_t played = 0;
    if (private_copy) {
      s.before.resize(cells.size());
      for (std::size_t i = 0; i < cells.size(); ++i) s.before[i] = load_shared(cells[i]);
      s.cells = s.before;
      DROVER_TRY(played, s.play(PrivateCells{s.cells.data()}, random, wanted, done, keep_going));
      add_shared(counters.flushes_started, 1);
      s.add_difference(cells, std::max<std::int64_t>(1, sharing.workers));
      add_shared(counters.flushes_finished, 1);
    } else {
      DROVER_TRY(played, s.play(SharedCells{cells.data()}, random, wanted, done, keep_going));
    }
    add_shared(counters.iterations_started, static_cast<std::int64_t>(played) - static_cast<std::int64_t>(wanted));
    add_shared(counters.iterations_finished, static_cast<std::int64_t>(played));
    done += played;
    if (played < wanted) break;
  }
  return done;
}

void BatchRunner::traverse(std::span<std::int64_t> cells, int player, std::uint64_t stream) {
  Rng random(impl_->seed, TaskId(stream));
  const Deal deal = impl_->game.deal(random);
  Traversal<PrivateCells> traversal(impl_->game, PrivateCells{cells.data()});
  if (impl_->algorithm == Algorithm::external_sampling) {
    traversal.external(player, deal, random);
  } else {
    traversal.outcome(player, deal, random);
  }
  impl_->visited += traversal.visited;
}

}  // namespace drover::solve
