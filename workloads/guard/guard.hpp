#pragma once
/// `drover guard -- COMMAND`: any command under limits it cannot bypass. The command runs as the only task of a pool of one
/// worker, contained (drover/command.hpp); each attempt is a row of the ledger, so that restarts, CPU time and steps count over
/// the whole life of the job, resumes included.

#include <memory>

#include "drover/workload.hpp"

namespace drover::guard {

std::unique_ptr<Workload> make_workload();

}  // namespace drover::guard
