#pragma once
/// How iterations are cut into generations and batches. A pure function of the job's parameters and the iterations done:
/// worker count, time and faults never enter, so a job has one schedule.
///
/// Every batch of a generation starts from the same table; the generation's deltas are added at its end. A batch therefore
/// does not see what its siblings learn meanwhile, and their sum oversteps if a generation is long compared with what went
/// before. So generations grow with the work done: generation = iterations done / growth, cut into `batches` batches, each
/// between `first_batch` and `batch_max` iterations.
///
/// Linear weighting: at the end of a generation of n iterations that began at t, the old table is multiplied by t / (t + n)
/// (exact integer arithmetic, rounded toward zero) before the deltas are added, for the first `discounted` generations; then
/// it is plain addition, which measured better once the first guesses are forgotten. The table never holds more than the
/// iterations' worth, so nothing overflows where growing weights would after 1e7 iterations.

#include <cstdint>
#include <span>
#include <string>

#include "drover/types/error.hpp"
#include "solve/sampling.hpp"

namespace drover::solve {

struct Schedule {
  std::uint64_t batches = 8;          ///< per generation (`--generation`)
  std::uint64_t first_batch = 16;     ///< iterations in the first batches
  std::uint64_t batch_max = 100'000;  ///< iterations in the largest batches (`--batch`)
  std::uint64_t growth = 16;          ///< a generation is 1/growth of the iterations done before it
  std::uint64_t discounted = 32;      ///< generations with linear weighting
  friend bool operator==(const Schedule&, const Schedule&) = default;
};

/// `batches=8 first_batch=16 batch_max=100000 growth=16 discounted=32`
std::string canonical_text(const Schedule& schedule);
Result<Schedule> parse_schedule(std::string_view text);

/// Where a job is: everything the next generation follows from.
struct Position {
  std::uint64_t generation = 0;
  std::uint64_t iterations = 0;  ///< of all finished generations
  std::uint64_t next_batch = 0;  ///< id of the first batch of this generation
  friend bool operator==(const Position&, const Position&) = default;
};

/// One generation: batches next_batch .. next_batch + batches - 1.
struct Generation {
  Position start;
  std::uint64_t batches = 0;
  std::uint64_t batch_iterations = 0;
  std::uint64_t last_batch_iterations = 0;  ///< the last one takes what is left of the job

  std::uint64_t iterations() const { return batches == 0 ? 0 : (batches - 1) * batch_iterations + last_batch_iterations; }
  BatchTask task(std::uint64_t index) const {
    return {.generation = start.generation,
            .batch = start.next_batch + index,
            .iterations = index + 1 == batches ? last_batch_iterations : batch_iterations};
  }
  Position end() const {
    return {.generation = start.generation + 1, .iterations = start.iterations + iterations(), .next_batch = start.next_batch + batches};
  }
};

/// The generation at `at` of a job of `iterations_max` iterations; 0 batches when the job is done.
Generation generation_at(const Schedule& schedule, const Position& at, std::uint64_t iterations_max);

/// cells = cells * numerator / denominator, toward zero.
void discount(std::span<std::int64_t> cells, std::uint64_t numerator, std::uint64_t denominator);

}  // namespace drover::solve
