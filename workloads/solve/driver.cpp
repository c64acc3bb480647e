#include "solve/driver.hpp"

#include <fmt/core.h>

#include <charconv>
#include <chrono>

#include "solve/announce.hpp"
#include "solve/checkpoint_payload.hpp"
#include "solve/worker_tasks.hpp"

namespace drover::solve {
namespace {

using SteadyClock = std::chrono::steady_clock;

/// Commits checkpoints when due; an error is returned, never swallowed: a job that cannot save is a host fault.
class Checkpointer {
 public:
  /// `first_batch`: what the job's first task played.
  Checkpointer(Job& job, const DriveOptions& options, std::uint64_t first_batch)
      : job_(job), every_(options.checkpoint_every), iterations_max_(options.iterations_max), lineage_(options.lineage), first_batch_(first_batch) {}
  bool due() const { return SteadyClock::now() - last_ >= every_; }
  Result<void> commit(const Training& training, const std::optional<Certificate>& certificate = {}) {
    const Position& at = training.position();
    if (saved_ && *saved_ == at) return {};
    const std::string meta =
        fmt::format(R"({{"iterations": {}, "generation": {}, "next_batch": {}, "digest": "{}", "iterations_max": {}}})", at.iterations,
                    at.generation, at.next_batch, hex(training.digest()), iterations_max_);
    if (auto info = job_.commit_checkpoint(encode_checkpoint(training), meta, TaskId(at.next_batch - first_batch_)); !info)
      return std::unexpected(std::move(info).error().with("saving a checkpoint"));
    if (lineage_ != nullptr) DROVER_CHECK(lineage_->commit(training, certificate));
    last_ = SteadyClock::now();
    saved_ = at;
    return {};
  }

 private:
  Job& job_;
  Nanos every_;
  std::uint64_t iterations_max_;
  Lineage* lineage_;
  std::uint64_t first_batch_;
  SteadyClock::time_point last_ = SteadyClock::now();
  std::optional<Position> saved_{};
};

/// Whether the target is looked at after this generation: by iteration numbers alone, and not so often that looking costs more
/// than playing.
class TargetRule {
 public:
  explicit TargetRule(const Game& game) : step_(game.infoset_count() / 10 + 1) {}
  bool looks_at(std::uint64_t iterations_before, std::uint64_t iterations_after) const {
    const std::uint64_t step = std::max(step_, iterations_before / 32);
    return iterations_before / step != iterations_after / step;
  }

 private:
  std::uint64_t step_;
};

/// Hands out one generation and takes it back. False: it could not be completed (stopped, or a batch ended otherwise).
Result<bool> run_generation(Job& job, Training& training, const Generation& generation, detail::OrderedStream& stream,
                            const std::function<void(std::uint64_t taken)>& meanwhile, std::string& why_not) {
  DROVER_TRY(const std::uint32_t version, job.pool().broadcast(std::as_bytes(training.cells())));
  (void)version;
  for (std::uint64_t i = 0; i < generation.batches; ++i) {
    const ExactInput input{.batch = generation.task(i), .iterations_before = generation.start.iterations};
    if (auto put = stream.put(*exact_task.function, input); !put) {
      if (job.should_stop()) return false;
      return std::unexpected(std::move(put).error().with(fmt::format("handing out batch {}", input.batch.batch)));
    }
  }
  stream.stream().flush();
  meanwhile(0);
  bool complete = true;
  for (std::uint64_t i = 0; i < generation.batches; ++i) {
    const detail::Delivery delivery = stream.next();
    if (!delivery.completed) {
      if (complete) why_not = fmt::format("batch {} ended {}", generation.task(i).batch, text_of(*delivery.outcome));
      complete = false;
    } else if (complete) {
      DROVER_CHECK(training.add(generation, i, delivery.bytes()));
      meanwhile(i + 1);
    }
  }
  if (!complete) return false;
  DROVER_CHECK(training.commit(generation));
  return true;
}

}  // namespace

Result<std::optional<std::uint64_t>> chosen_iterations_max(Job& job) {
  DROVER_TRY(const std::optional<Checkpoint> checkpoint, job.newest_checkpoint());
  if (!checkpoint) return std::nullopt;
  constexpr std::string_view kKey = "\"iterations_max\":";
  const std::string& meta = checkpoint->info.meta;
  std::size_t at = meta.find(kKey);
  if (at != std::string::npos) at = meta.find_first_of("0123456789", at + kKey.size());
  std::uint64_t bound = 0;
  if (at == std::string::npos || std::from_chars(meta.data() + at, meta.data() + meta.size(), bound).ec != std::errc())
    return fail(ErrorCode::corrupt, fmt::format("checkpoint '{}' does not say how far its job goes: {}", checkpoint->info.file, meta));
  return bound;
}

Result<Training> resumed_training(Job& job, const Game& game, const DriveOptions& options) {
  const TrainingSpec& spec = options.spec;
  DROVER_TRY(std::optional<Checkpoint> checkpoint, job.newest_checkpoint());
  if (!checkpoint) {
    if (job.confirmed() != TaskId(0))
      return fail(ErrorCode::corrupt, fmt::format("the job has confirmed {} tasks and no checkpoint holds them", job.confirmed().value));
    if (options.lineage != nullptr) {
      DROVER_TRY(std::optional<CheckpointState> state, options.lineage->newest());
      if (state) return Training(game, spec, state->position, std::move(state->cells));
    }
    return Training(game, spec);
  }
  const auto with_name = [&](Error error) { return std::unexpected(std::move(error).with("checkpoint '" + checkpoint->info.file + "'")); };
  auto state = decode_checkpoint(checkpoint->bytes);
  if (!state) return with_name(std::move(state).error());
  if (auto same = check_same_training(state->spec, spec); !same) return with_name(std::move(same).error());
  return Training(game, spec, state->position, std::move(state->cells));
}

Result<void> drive_exact(Job& job, const Game& game, const DriveOptions& options) {
  DROVER_TRY(Training training, resumed_training(job, game, options));
  Announcer announcer(job, game, options.iterations_max, options.target_chips, training.position().iterations);
  Checkpointer checkpoints(job, options, training.position().next_batch - job.confirmed().value);
  const TargetRule rule(game);
  detail::OrderedStream stream(job.pool().stream(), static_cast<std::uint32_t>(options.spec.schedule.batches));
  std::string why_not;
  std::chrono::nanoseconds cost{};

  while (!job.should_stop()) {
    const Generation generation = training.next(options.iterations_max);
    if (generation.batches == 0) break;
    const auto meanwhile = [&](std::uint64_t taken) {
      // While the workers play: a certificate of the state they started from.
      if (taken == 0 && options.target_chips == 0 && announcer.certificate_due() && training.position().iterations > 0) {
        const Certificate now = certify_timed(game, training.average(), cost);
        announcer.certified(now, cost);
      }
      announcer.progress(training.position().iterations + taken * generation.batch_iterations);
    };
    DROVER_TRY(const bool complete, run_generation(job, training, generation, stream, meanwhile, why_not));
    if (!complete) break;
    if (options.target_chips > 0 && rule.looks_at(generation.start.iterations, training.position().iterations)) {
      const Certificate now = certify_timed(game, training.average(), cost);
      announcer.certified(now, cost);
      if (now.exploitability <= options.target_chips) break;
    }
    // The last one waits for its certificate.
    if (checkpoints.due() && training.next(options.iterations_max).batches != 0) DROVER_CHECK(checkpoints.commit(training));
  }

  const Certificate certificate = certify(game, training.average());
  DROVER_CHECK(checkpoints.commit(training, certificate));
  announcer.finish(certificate, training.position().iterations);
  job.figure({.key = "generations", .value = static_cast<std::int64_t>(training.position().generation), .shown = {}});
  if (!why_not.empty() && !job.should_stop()) {
    job.no_digest(why_not);
  } else {
    const Position& at = training.position();
    job.digest(hex(training.digest()), fmt::format("the job's spec and tasks 0..{}: {} iterations in {} generations",
                                                   static_cast<std::int64_t>(at.next_batch) - 1, at.iterations, at.generation));
  }
  return {};
}

}  // namespace drover::solve
