#pragma once
// Small programs that use a pool, as another process of the tests: see main.cpp and Host in support.hpp.

#include <cstdio>
#include <ranges>
#include <string_view>

#include "drover/pool.hpp"
#include "pool/deeds.hpp"

namespace drover::test {

inline int host_without_init() {
  auto pool = Pool::start({.workers = 1});
  if (pool) return 0;
  std::printf("%s\n%s\n", pool.error().what().c_str(), pool.error().advice().c_str());
  return 3;
}

inline int run_host(std::string_view mode) {
  PoolOptions options{.workers = 2, .retry = {.blamed_max = 0}};
  constexpr std::string_view kStdout = "/dev/stdout";  // what daemonised grandchildren hold
  const auto setup = std::as_bytes(std::span(kStdout));
  options.setup.assign(setup.begin(), setup.end());
  auto pool = Pool::start(options);
  if (!pool) {
    std::fprintf(stderr, "host: %s\n", pool.error().what().c_str());
    return 4;
  }
  if (mode == "busy") {  // until it is killed
    for (std::uint64_t n = 0;; ++n) {
      std::vector<Act> acts(64);
      for (std::size_t i = 0; i < acts.size(); ++i) acts[i] = {.number = n + i, .deed = Deed::spin_a_while, .argument = 200};
      acts[3].deed = Deed::escape;
      acts[7].deed = Deed::sleep_deaf;
      acts[23].deed = Deed::spin;
      for (auto&& item : pool->map(act_task, acts)) (void)item;
    }
  }
  if (mode == "exits-without-destructor") {
    for (auto&& item : pool->map(act_task, std::views::iota(std::uint64_t{0}, std::uint64_t{100}) | std::views::transform([](std::uint64_t n) { return Act{.number = n}; }))) (void)item;
    std::_Exit(0);
  }
  return 5;
}

}  // namespace drover::test
