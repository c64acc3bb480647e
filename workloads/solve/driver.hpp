#pragma once
/// Drives one job: hands out batches, takes their answers in id order, commits generations, writes checkpoints, certifies.
/// One function a mode; both are called once per life of a job, on its client thread.

#include <optional>

#include "drover/job.hpp"
#include "solve/lineage.hpp"
#include "solve/training.hpp"

namespace drover::solve {

struct DriveOptions {
  TrainingSpec spec;
  std::uint64_t iterations_max = 0;
  double target_chips = 0;  ///< 0: none
  Nanos checkpoint_every = Seconds(10);
  std::uint64_t flush_iterations = 0;  ///< shared
  Lineage* lineage = nullptr;          ///< taken over for this job, or none
};

/// exact: every generation starts from a broadcast table; the digest is that of the last commit. The target is looked at after
/// generations chosen by iteration numbers alone, so the number of iterations is a function of the spec too.
Result<void> drive_exact(Job& job, const Game& game, const DriveOptions& options);

/// shared: batches flow without barriers over one table in the pool's shared segment.
Result<void> drive_shared(Job& job, const Game& game, const DriveOptions& options);

/// The bound a job without --iterations chose when it began, as its newest checkpoint says: a resume with other --time must not
/// choose again. Nothing if there is no checkpoint yet.
Result<std::optional<std::uint64_t>> chosen_iterations_max(Job& job);

/// The newest checkpoint of the job as a training; where the job has none, the newest of its lineage; else a fresh one. Errors:
/// mismatch (another game, layout or job: both sides are in the message), corrupt.
Result<Training> resumed_training(Job& job, const Game& game, const DriveOptions& options);

}  // namespace drover::solve
