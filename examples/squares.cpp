// The smallest pool: squares of a million numbers on two worker processes.
//   build/release/examples/squares [COUNT]
#include <cstdio>
#include <cstdlib>
#include <ranges>

#include "drover/init.hpp"
#include "drover/pool.hpp"

namespace {
std::uint64_t square(const std::uint64_t& x, drover::Context&) { return x * x; }
constexpr auto square_task = drover::task<"square", &square>;
}  // namespace

int main(int argc, char** argv) {
  drover::init(argc, argv, {square_task.function});
  const std::uint64_t count = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1'000'000;
  auto pool = drover::Pool::start({.workers = 2});
  if (!pool) {
    std::fprintf(stderr, "squares: %s\n", pool.error().what().c_str());
    return 4;
  }
  std::uint64_t sum = 0, failed = 0;
  for (auto&& [id, result] : pool->map(square_task, std::views::iota(std::uint64_t{0}, count))) {
    if (result) sum += *result;
    else ++failed;
  }
  std::printf("sum of squares below %llu: %llu (%llu tasks failed)\n", static_cast<unsigned long long>(count), static_cast<unsigned long long>(sum),
              static_cast<unsigned long long>(failed));
  return failed == 0 ? 0 : 1;
}
