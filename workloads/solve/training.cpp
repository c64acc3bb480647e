#include "solve/training.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "solve/delta.hpp"
#include "solve/vector_cfr.hpp"

namespace drover::solve {

std::string_view name_of(Mode mode) { return mode == Mode::exact ? "exact" : "shared"; }

std::string canonical_text(const TrainingSpec& spec, const Game& game) {
  return fmt::format(
      "game: {}\ngame_sha256: {}\nlayout_sha256: {}\nalgorithm: {}\nmode: {}\nschedule: {}\nseed: {}\n",
      canonical_text(spec.game), hex(game_hash(spec.game)), hex(game.layout_hash()), name_of(spec.algorithm), name_of(spec.mode),
      canonical_text(spec.schedule), spec.seed);
}

Training::Training(const Game& game, const TrainingSpec& spec)
    : Training(game, spec, {}, std::vector<std::int64_t>(game.cell_count(), 0)) {}

Training::Training(const Game& game, const TrainingSpec& spec, const Position& at, std::vector<std::int64_t> cells)
    : game_(&game), spec_(spec), at_(at), cells_(std::move(cells)), sums_(game.cell_count(), 0) {}

Generation Training::next(std::uint64_t iterations_max) const {
  Schedule schedule = spec_.schedule;
  if (!is_sampling(spec_.algorithm)) schedule.batches = 1;
  return generation_at(schedule, at_, iterations_max);
}

Result<void> Training::add(const Generation& generation, std::uint64_t index, BytesView result) {
  const BatchTask task = generation.task(index);
  if (generation.start != at_ || index != added_)
    return fail(ErrorCode::mismatch, fmt::format("batch {} came where batch {} was due", task.batch, at_.next_batch + added_));
  if (is_sampling(spec_.algorithm)) {
    DROVER_CHECK(apply_delta(result,
                             {.generation = task.generation, .batch = task.batch, .iterations = task.iterations, .cells = cells_.size()},
                             sums_));
  } else {
    if (result.size() != cells_.size() * 8)
      return fail(ErrorCode::corrupt, fmt::format("the table of batch {} has {} bytes, expected {}", task.batch, result.size(), cells_.size() * 8));
    std::memcpy(sums_.data(), result.data(), result.size());
    for (const std::int64_t cell : sums_)
      if (!std::isfinite(std::bit_cast<double>(cell)))
        return fail(ErrorCode::corrupt, fmt::format("the table of batch {} holds something that is not a number", task.batch));
  }
  ++added_;
  return {};
}

Result<void> Training::commit(const Generation& generation) {
  if (generation.start != at_ || added_ != generation.batches)
    return fail(ErrorCode::mismatch, fmt::format("generation {} has {} of its {} batches", at_.generation, added_, generation.batches));
  if (!is_sampling(spec_.algorithm)) {
    cells_.swap(sums_);
  } else {
    const bool fade = at_.generation < spec_.schedule.discounted;
    if (fade) discount(cells_, at_.iterations, generation.end().iterations);
    const auto batches = static_cast<std::int64_t>(generation.batches);
    for (const Node& node : game_->nodes()) {
      if (node.kind != NodeKind::decision) continue;
      for (std::uint32_t info = 0; info < game_->infos(node); ++info) {
        std::int64_t* sum = sums_.data() + Game::row(node, info);
        for (std::uint32_t a = 0; a < node.actions; ++a) sum[a] /= batches;
      }
    }
    bool overflow = false;
    for (std::size_t i = 0; i < cells_.size(); ++i) {
      cells_[i] += sums_[i];  // both within 2^62: cannot wrap
      overflow |= cells_[i] > kCellLimit || cells_[i] < -kCellLimit;
    }
    if (overflow)
      return fail(ErrorCode::refused, fmt::format("generation {} drives a cell beyond 2^62: the table is full", at_.generation),
                  "use discounting for longer, or fewer iterations");
  }
  std::fill(sums_.begin(), sums_.end(), 0);
  added_ = 0;
  at_ = generation.end();
  return {};
}

Hash256 Training::digest() const {
  Sha256 hash;
  hash.add(canonical_text(spec_, *game_));
  hash.add(fmt::format("iterations: {}\ngeneration: {}\nnext_batch: {}\n", at_.iterations, at_.generation, at_.next_batch));
  hash.add(std::as_bytes(std::span(cells_)));
  return hash.finish();
}

Result<Bytes> Player::play(std::span<const std::int64_t> start, std::uint64_t iterations_before, const BatchTask& task,
                           const KeepGoing& keep_going) {
  if (start.size() != game_->cell_count())
    return fail(ErrorCode::mismatch, fmt::format("the table has {} cells, the game {}", start.size(), game_->cell_count()));
  if (is_sampling(algorithm_)) return runner_.run(start, task, keep_going);

  VectorCfr solver(*game_, algorithm_);
  solver.load(start, iterations_before);
  for (std::uint64_t done = 0; done < task.iterations; ++done) {
    if (keep_going && !keep_going(done))
      return fail(ErrorCode::timed_out, fmt::format("batch {} was ended after {} of {} iterations", task.batch, done, task.iterations));
    solver.run(1);
  }
  std::vector<std::int64_t> cells(start.size());
  solver.store(cells);
  Bytes bytes(cells.size() * 8);
  std::memcpy(bytes.data(), cells.data(), bytes.size());
  return bytes;
}

Result<void> train(Training& training, std::uint64_t iterations_max) {
  Player player(training.game(), training.spec().algorithm, training.spec().seed);
  for (;;) {
    const Generation generation = training.next(iterations_max);
    if (generation.batches == 0) return {};
    for (std::uint64_t i = 0; i < generation.batches; ++i) {
      DROVER_TRY(const Bytes result, player.play(training.cells(), training.position().iterations, generation.task(i)));
      DROVER_CHECK(training.add(generation, i, result));
    }
    DROVER_CHECK(training.commit(generation));
  }
}

}  // namespace drover::solve
