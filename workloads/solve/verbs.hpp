#pragma once
/// `drover solve show|eval|export`: what can be asked of a finished, running or interrupted job, of a checkpoint file, or of an
/// exported strategy. They read; nothing is changed.

#include <string>
#include <vector>

#include "drover/workload.hpp"
#include "solve/strategy_file.hpp"

namespace drover::solve {

std::vector<WorkloadVerb> solve_verbs();

/// A strategy with where it came from, as read from one of the things above.
struct OpenedStrategy {
  GameSpec game;
  Strategy strategy;
  StrategySource source;
  std::string path;  ///< the file that was read
};
/// `from`: a job directory (its newest checkpoint), a checkpoint, or a strategy in JSON or CSV; empty: the newest solve job under
/// ./drover-jobs. `game` is needed for CSV only, and checked otherwise. Errors: not_found, corrupt, mismatch; a damaged newest
/// checkpoint is an error that names the older ones, never a silent step back.
Result<OpenedStrategy> open_strategy(const std::string& from, const GameSpec* game);

}  // namespace drover::solve
