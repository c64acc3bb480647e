#pragma once
/// How a pool's loop is started, with or without a job behind it. For Pool::start and the job runner.

#include <memory>

#include "drover/pool.hpp"
#include "supervisor/job_store.hpp"

namespace drover {

struct RunSummary;

struct StartedPool {
  std::shared_ptr<detail::PoolImpl> pool;
  std::shared_ptr<RunSummary> summary;  ///< filled when pool->wait_ended() has returned true
};

/// Checks the options, makes the arena, starts the loop thread and waits for keeper and watchdog (bounded by their start
/// deadlines). `run_deadline_boottime`: when the budget is used up, CLOCK_BOOTTIME, or kUnlimited.
Result<StartedPool> start_pool(PoolOptions options, std::unique_ptr<JobStore> job, Nanos run_deadline_boottime);

}  // namespace drover
