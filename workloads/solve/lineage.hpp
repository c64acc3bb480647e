#pragma once
/// A line of trainings in a checkpoint store (drover/checkpoint.hpp), beside the job's own checkpoints: a new job under the same
/// lineage goes on from its newest good one, and nobody else can move it meanwhile.
///
/// The job's own checkpoint is written first, so a job that is resumed never stands behind its lineage. `iterations` is the step;
/// a job's --iterations is the lineage's budget, over all jobs.

#include <optional>
#include <string>

#include "drover/checkpoint.hpp"
#include "solve/best_response.hpp"
#include "solve/checkpoint_payload.hpp"

namespace drover::solve {

struct LineageOptions {
  std::string store{};        ///< directory, absolute; "" = none
  std::string name{};
  bool fresh = false;         ///< begins anew beside what the lineage holds
  std::uint64_t keep_last = 3, keep_best = 1, keep_every = 0;  ///< drover::Retention
};

class Lineage {
 public:
  /// Takes the lineage over. `budget`: most iterations, 0 = none. Errors: those of the store; mismatch: it holds another training.
  static Result<Lineage> open(const LineageOptions& options, const std::string& run, const TrainingSpec& spec, const Game& game, std::uint64_t budget);

  /// Where it stands; nothing if it begins here. Errors: none is good although there are some, damaged, mismatch.
  Result<std::optional<CheckpointState>> newest();
  /// Durable on return. `certificate`: of this very state. Nothing is done at the position that was committed last.
  /// Errors: fenced (a newer job has taken it over), limit_steps, no_space, system.
  Result<void> commit(const Training& training, const std::optional<Certificate>& certificate = {});

 private:
  Lineage(const LineageOptions& options, CheckpointStore store, std::string run) : options_(options), store_(std::move(store)), run_(std::move(run)) {}
  LineageOptions options_;
  CheckpointStore store_;
  std::string run_;
  WriterLease lease_{};
  Fingerprint fingerprint_{};
  bool root_ = false;  ///< the next one has no parent
  std::optional<std::uint64_t> committed_{};
};

}  // namespace drover::solve
