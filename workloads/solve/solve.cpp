#include "solve/solve.hpp"

#include <fmt/core.h>

#include <cstring>
#include <filesystem>

#include "solve/driver.hpp"
#include "solve/options.hpp"
#include "solve/verbs.hpp"
#include "solve/worker_tasks.hpp"

namespace drover::solve {
namespace {

class SolvePlan final : public JobPlan {
 public:
  void describe(Schema& schema) override { options_.describe(schema); }

  Result<JobTraits> traits() override {
    DROVER_TRY(const GameSpec rules, game_of(options_));
    DROVER_TRY(const Game game, Game::build(rules));
    DROVER_TRY(const TrainingSpec spec, training_of(options_, game, 0));
    LineageOptions& line = options_.lineage;
    if (line.store.empty() && (!line.name.empty() || line.fresh)) return fail(ErrorCode::usage, fmt::format("--{} needs --store", line.fresh ? "fresh" : "lineage"), "name the checkpoint store: --store DIR");
    if (!line.store.empty()) {
      if (line.name.empty()) line.name = options_.game + "-" + options_.algorithm;
      line.store = std::filesystem::absolute(line.store).lexically_normal().string();
    }
    JobTraits traits;
    traits.grain = Grain::ranges;
    traits.exact = spec.mode == Mode::exact;
    traits.identity = fmt::format("{}iterations_max: {}\ntarget_chips: {}\n", canonical_text(spec, game), options_.iterations, options_.target_chips);
    const std::string setup = worker_setup(rules, spec.algorithm);
    traits.pool.setup.resize(setup.size());
    std::memcpy(traits.pool.setup.data(), setup.data(), setup.size());
    traits.pool.warm_up = spec.mode == Mode::exact ? exact_task.function : shared_task.function;
    // Few leases a worker: a generation of a few batches must spread over all of them.
    traits.pool.window = 2;
    // The kernels report progress at least every 1,024 iterations, the vector solvers every iteration.
    traits.pool.limits.stall = is_sampling(spec.algorithm) ? Seconds(5) : Seconds(60);
    if (spec.mode == Mode::shared) traits.pool.shared_segment_bytes = TableView::bytes_needed(game);
    return traits;
  }

  Result<void> run(Job& job) override {
    DROVER_TRY(const GameSpec rules, game_of(options_));
    DROVER_TRY(const Game game, Game::build(rules));
    DROVER_TRY(const TrainingSpec spec, training_of(options_, game, job.seed()));
    DriveOptions drive{.spec = spec,
                       .iterations_max = options_.iterations,
                       .target_chips = options_.target_chips,
                       .checkpoint_every = options_.checkpoint_every,
                       .flush_iterations = options_.flush};
    if (drive.iterations_max == 0) {
      DROVER_TRY(const std::optional<std::uint64_t> chosen, chosen_iterations_max(job));
      drive.iterations_max = chosen.value_or(0);
    }
    if (drive.iterations_max == 0) {
      const bool bounded_otherwise = drive.target_chips > 0 || job.time_left() != kUnlimited;
      drive.iterations_max = bounded_otherwise ? std::uint64_t{1} << 50 : default_iterations(game, spec.algorithm);
    }
    std::optional<Lineage> lineage;
    if (!options_.lineage.store.empty()) {
      DROVER_TRY(lineage, Lineage::open(options_.lineage, job.directory().filename().string(), spec, game, options_.iterations));
      drive.lineage = &*lineage;
    }
    return spec.mode == Mode::exact ? drive_exact(job, game, drive) : drive_shared(job, game, drive);
  }

 private:
  SolveOptions options_;
};

class SolveWorkload final : public Workload {
 public:
  std::string_view name() const override { return "solve"; }
  std::string_view summary() const override { return "train and certify strategies of small poker and dice games"; }
  std::vector<const TaskFunction*> tasks() const override { return {exact_task.function, shared_task.function}; }
  std::unique_ptr<JobPlan> plan() const override { return std::make_unique<SolvePlan>(); }
  std::vector<WorkloadVerb> verbs() const override { return solve_verbs(); }
};

}  // namespace

std::unique_ptr<Workload> make_workload() { return std::make_unique<SolveWorkload>(); }

}  // namespace drover::solve
