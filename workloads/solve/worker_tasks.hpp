#pragma once
/// What runs in a worker process. A worker builds its game once, from Context::setup, and keeps it with its scratch; a task is a
/// few numbers. Nothing a worker answers is trusted: the driver checks every delta (delta.hpp).

#include <memory>
#include <string>

#include "drover/task.hpp"
#include "solve/training.hpp"

namespace drover::solve {

/// Text of PoolOptions::setup: what a worker must know of the job.
std::string worker_setup(const GameSpec& game, Algorithm algorithm);

/// exact: the table at the start of the generation is Context::broadcast, the answer is the batch's delta (es, os) or the next
/// table (cfr+, dcfr). A batch is always finished: it is short, and half of one has no meaning.
struct ExactInput {
  BatchTask batch;
  std::uint64_t iterations_before = 0;  ///< of the table in the broadcast
};
class ExactWorker {
 public:
  static Result<ExactWorker> start(Context& context);
  Result<Bytes> run(const ExactInput& input, Context& context);

 private:
  struct Parts;
  explicit ExactWorker(std::shared_ptr<Parts> parts) : parts_(std::move(parts)) {}
  std::shared_ptr<Parts> parts_;
};

/// shared: plays on the table in Context::shared_segment; the answer is the number of iterations played, fewer than asked when
/// the worker was told to stop.
struct SharedInput {
  BatchTask batch;
  std::uint64_t flush_iterations = 0;
  std::uint32_t workers = 1;
  std::uint32_t reserved = 0;
};
class SharedWorker {
 public:
  static Result<SharedWorker> start(Context& context);
  Result<std::uint64_t> run(const SharedInput& input, Context& context);

 private:
  struct Parts;
  explicit SharedWorker(std::shared_ptr<Parts> parts) : parts_(std::move(parts)) {}
  std::shared_ptr<Parts> parts_;
};

inline constexpr auto exact_task = stateful_task<"solve.exact", &ExactWorker::run>;
inline constexpr auto shared_task = stateful_task<"solve.shared", &SharedWorker::run>;

}  // namespace drover::solve
