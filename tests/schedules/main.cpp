// drover_schedules --seed N --schedules N [--verbose]: runs seeded fault schedules through the scheduler. A failing seed replays
// with one command. Exit status 1 if an invariant was violated.
#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string_view>

#include "sim/scheduler_simulation.hpp"

int main(int argc, char** argv) {
  std::uint64_t seed = 1;
  std::uint64_t schedules = 100'000;
  bool verbose = false;
  bool keep_going = false;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--verbose") {
      verbose = true;
    } else if (word == "--keep-going") {
      keep_going = true;
    } else if (word == "--seed" && i + 1 < argc) {
      seed = std::strtoull(argv[++i], nullptr, 10);
    } else if (word == "--schedules" && i + 1 < argc) {
      schedules = std::strtoull(argv[++i], nullptr, 10);
    } else {
      std::fputs("usage: drover_schedules [--seed N] [--schedules N] [--verbose] [--keep-going]\n", stderr);
      return 2;
    }
  }
  if (verbose && schedules <= 10) {
    for (std::uint64_t i = 0; i < schedules; ++i) drover::sim::run_schedule(seed + i, true);
  }
  const std::clock_t begin = std::clock();
  const auto summary = drover::sim::run_schedules(seed, schedules, !keep_going);
  const double seconds = static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
  fmt::print("{}{:.0f} schedules per CPU second\n", drover::sim::text_of(summary), static_cast<double>(summary.schedules) / seconds);
  return summary.violations == 0 ? 0 : 1;
}
