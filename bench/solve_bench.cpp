/// Measures the compute half of `solve` without the runtime: kernels, convergence beside batch size, and two forked processes
/// on one shared table. CPU seconds throughout; a figure of two processes is iterations per CPU-second of each, so it means
/// the same on a busy machine. Usage: solve_bench [repetitions]. Prints a table a section; the best of the repetitions,
/// alternating between the things compared.

#include <fmt/core.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <ctime>
#include <stdexcept>

#include "solve/best_response.hpp"
#include "solve/sampling.hpp"
#include "solve/training.hpp"
#include "solve/vector_cfr.hpp"

namespace {

using namespace drover;
using namespace drover::solve;

double cpu_seconds() {
  timespec t{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}
double wall_seconds() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

template <class T>
T must(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().what());
  return std::move(*result);
}
void must(const Result<void>& result) {
  if (!result) throw std::runtime_error(result.error().what());
}

Game leduc_of(std::uint32_t ranks) { return must(Game::build({PokerRules{.ranks = ranks}})); }

/// Memory that forked processes share.
class SharedMemory {
 public:
  explicit SharedMemory(std::size_t bytes) : bytes_(bytes) {
    void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) throw std::runtime_error("no shared memory");
    memory_ = static_cast<std::byte*>(at);
  }
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;
  ~SharedMemory() { munmap(memory_, bytes_); }
  std::span<std::byte> bytes() const { return {memory_, bytes_}; }

 private:
  std::byte* memory_;
  std::size_t bytes_;
};

struct Rate {
  double per_cpu_second = 0;   ///< iterations per CPU-second of one process, mean of the processes
  double per_wall_second = 0;  ///< iterations per second of all together
  double exploitability = 0;
};

/// `processes` forked workers play `iterations` each on one table.
Rate shared_rate(const Game& game, unsigned processes, std::uint64_t iterations, std::uint64_t flush, bool certified) {
  const SharedMemory memory(TableView::bytes_needed(game));
  const TableView table = must(TableView::create(memory.bytes(), game, Algorithm::external_sampling));
  const SharedMemory results(4096);
  auto* cpu = reinterpret_cast<double*>(results.bytes().data());
  auto* gate = reinterpret_cast<std::atomic<unsigned>*>(results.bytes().data() + 2048);
  for (unsigned p = 0; p < processes; ++p) {
    if (fork() == 0) {
      BatchRunner runner(game, Algorithm::external_sampling, 1);
      gate->fetch_add(1);
      while (gate->load() < processes) usleep(100);  // all start together
      const double before = cpu_seconds();
      constexpr std::uint64_t kBatch = 10'000;
      for (std::uint64_t done = 0, batch = p; done < iterations; done += kBatch, batch += processes)
        must(runner.run_shared(table, table.header().workers[p], {.batch = batch, .iterations = kBatch},
                               {.flush_iterations = flush, .workers = processes}));
      cpu[p] = cpu_seconds() - before;
      _exit(0);
    }
  }
  while (gate->load() < processes) usleep(100);
  const double start = wall_seconds();
  for (unsigned p = 0; p < processes; ++p) {
    int status = 0;
    wait(&status);
    if (status != 0) throw std::runtime_error("a process of the bench failed");
  }
  const double wall = wall_seconds() - start;
  double total_cpu = 0;
  for (unsigned p = 0; p < processes; ++p) total_cpu += cpu[p];
  Rate rate{.per_cpu_second = static_cast<double>(iterations) * processes / total_cpu,
            .per_wall_second = static_cast<double>(iterations) * processes / wall};
  if (certified) rate.exploitability = certify(game, average_strategy(game, table.cells(), Algorithm::external_sampling)).exploitability;
  return rate;
}

void shared_section(const char* title, const Game& game, std::uint64_t iterations, const std::vector<std::uint64_t>& flushes,
                    int repetitions, bool certified) {
  fmt::print("\n{} ({} infosets, {:.3f} MB), shared mode, {} iterations a process\n", title, game.infoset_count(),
             static_cast<double>(game.table_bytes()) / 1e6, iterations);
  fmt::print("  {:<26} {:>14} {:>14} {:>16} {:>14} {:>14}\n", "scheme", "1 proc M/cpu-s", "2 proc M/cpu-s", "2 procs / 1 proc",
             "wall 2 / 1", certified ? "expl. of 2" : "");
  for (const std::uint64_t flush : flushes) {
    Rate one, two;
    double wall_ratio = 0;
    for (int r = 0; r < repetitions; ++r) {
      const Rate a = shared_rate(game, 1, iterations, flush, false), b = shared_rate(game, 2, iterations, flush, certified);
      if (a.per_cpu_second > one.per_cpu_second) one = a;
      if (b.per_cpu_second > two.per_cpu_second) two = b;
      wall_ratio = std::max(wall_ratio, b.per_wall_second / a.per_wall_second);
    }
    fmt::print("  {:<26} {:>14.3f} {:>14.3f} {:>16.2f} {:>14.2f} {:>14}\n",
               flush == 0 ? "fetch_add every update" : fmt::format("private, flush at {}", flush), one.per_cpu_second / 1e6,
               two.per_cpu_second / 1e6, 2 * two.per_cpu_second / one.per_cpu_second, wall_ratio,
               certified ? fmt::format("{:.5f}", two.exploitability) : "");
  }
}

void exact_section(int repetitions) {
  fmt::print("\nLeduc, external sampling, exact mode (commits, encoded deltas and all), one process\n");
  fmt::print("  {:<34} {:>10} {:>30}\n", "schedule", "M/cpu-s", "exploitability at 0.2/0.8/4 M");
  const Game game = leduc_of(3);
  for (const Schedule schedule : {Schedule{}, Schedule{.batches = 4}, Schedule{.batches = 16}, Schedule{.growth = 4},
                                  Schedule{.batches = 2, .batch_max = 1'000}, Schedule{.batches = 8, .batch_max = 100}}) {
    double best = 0, exploitability[3] = {};
    for (int r = 0; r < repetitions; ++r) {
      Training training(game, {.game = game.spec(), .schedule = schedule, .seed = static_cast<std::uint64_t>(r) + 1});
      double cpu = 0;
      const std::uint64_t stops[3] = {200'000, 800'000, 4'000'000};
      for (int i = 0; i < 3; ++i) {
        const double before = cpu_seconds();
        must(train(training, stops[i]));
        cpu += cpu_seconds() - before;
        exploitability[i] += certify(game, training.average()).exploitability / repetitions;
      }
      best = std::max(best, 4.0 / cpu);
    }
    fmt::print("  {:<34} {:>10.3f} {:>10.5f}{:>10.5f}{:>10.5f}\n",
               fmt::format("{} batches, max {}, growth {}", schedule.batches, schedule.batch_max, schedule.growth), best,
               exploitability[0], exploitability[1], exploitability[2]);
  }
  double worst = 0;
  std::uint64_t iterations = 0;
  for (int r = 0; r < repetitions; ++r) {
    Training training(game, {.game = game.spec(), .seed = static_cast<std::uint64_t>(r) + 1});
    double cpu = 0;
    do {
      const double before = cpu_seconds();
      must(train(training, training.position().iterations + 20'000));
      cpu += cpu_seconds() - before;
    } while (certify(game, training.average()).exploitability > 0.03);
    worst = std::max(worst, cpu);
    iterations = std::max(iterations, training.position().iterations);
  }
  fmt::print("  exploitability 0.03 after at most {:.3f} CPU-s ({} iterations), worst of {} seeds\n", worst, iterations, repetitions);
}

void vector_section() {
  fmt::print("\nVector form\n");
  const Game game = leduc_of(3);
  for (const double target : {1e-3, 1e-5}) {
    VectorCfr solver(game, Algorithm::cfr_plus);
    double cpu = 0;
    do {
      const double before = cpu_seconds();
      solver.run(std::max<std::uint64_t>(10, solver.iterations() / 20));
      cpu += cpu_seconds() - before;
    } while (certify(game, solver.average()).exploitability > target);
    fmt::print("  Leduc CFR+ to {:g} chips: {:.4f} CPU-s, {} iterations, value {:.9f}\n", target, cpu, solver.iterations(),
               certify(game, solver.average()).value);
  }
}

void kernel_section(int repetitions) {
  fmt::print("\nKernels, exact mode, one process, M iterations per CPU-second\n");
  for (const GameSpec& spec : {kuhn(), leduc(), liars_dice(), leduc_of(140).spec()}) {
    const Game game = must(Game::build(spec));
    for (const Algorithm algorithm : {Algorithm::external_sampling, Algorithm::outcome_sampling}) {
      const std::vector<std::int64_t> start(game.cell_count(), 0);
      BatchRunner runner(game, algorithm, 1);
      double best = 0;
      for (int r = 0; r < repetitions; ++r) {
        const std::uint64_t iterations = spec == liars_dice() ? 20'000 : 200'000;
        const double before = cpu_seconds();
        must(runner.run(start, {.batch = static_cast<std::uint64_t>(r), .iterations = iterations}));
        best = std::max(best, static_cast<double>(iterations) / (cpu_seconds() - before));
      }
      fmt::print("  {:<60} {}  {:.3f}\n", canonical_text(spec), name_of(algorithm), best / 1e6);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const int repetitions = argc > 1 ? std::max(1, std::atoi(argv[1])) : 3;
  try {
    kernel_section(repetitions);
    vector_section();
    exact_section(repetitions);
    const Game small = leduc_of(3), large = leduc_of(140);
    shared_section("Leduc", small, 1'000'000, {0, 64, 256, 512, 1024, 4096}, repetitions, true);
    shared_section("Leduc, 140 ranks", large, 300'000, {0}, repetitions, false);
  } catch (const std::exception& e) {
    fmt::print(stderr, "solve_bench: {}\n", e.what());
    return 4;
  }
}
