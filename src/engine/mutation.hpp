#pragma once
/// Rules of the scheduler that a test breaks one at a time, to prove that the simulation would notice
/// (tests/engine/mutation_test.cpp compiles the scheduler with DROVER_MUTATIONS). In every other build `DROVER_MUTANT` is false.

#include <cstdint>

namespace drover::engine {

enum class Mutation : std::uint8_t {
  none,
  accept_late_results,     ///< a publication of an old lease counts
  charge_unstarted,        ///< a death charges the head though nothing was started
  retry_effectful,         ///< an effectful task is tried again
  deliver_uncommitted,     ///< deliver before the commit
  forget_lease_on_death,   ///< an unstarted lease of a dead worker is not put back
  deliver_twice,
  record_twice,            ///< a publication of a recorded task is recorded again
  skip_run_deadline,       ///< the run's deadline is ignored
  never_kill,              ///< the ladder stops at SIGTERM
  own_kill_is_lost,        ///< the reason of our kill is forgotten
  lease_beyond_window,
  ignore_wall_limit,
  respawn_after_give_up,
  wait_for_ledger_for_ever,
  lease_after_cancel,
};

}  // namespace drover::engine

#ifdef DROVER_MUTATIONS
namespace drover::engine {
inline Mutation active_mutation = Mutation::none;
}
#define DROVER_MUTANT(name) (::drover::engine::active_mutation == ::drover::engine::Mutation::name)
#else
#define DROVER_MUTANT(name) false
#endif
