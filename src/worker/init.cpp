/// drover::init: remembers the task functions, and turns this process into a worker if it was started as one.
#include "drover/init.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/hash.hpp"
#include "wire/layout.hpp"
#include "worker/registry.hpp"
#include "worker/worker_main.hpp"

namespace drover {
namespace {
worker::Registry& mutable_registry() {
  static worker::Registry instance;
  return instance;
}
}  // namespace

namespace worker {
const Registry& registry() { return mutable_registry(); }

std::optional<std::uint16_t> Registry::index_of(const TaskFunction& function) const {
  for (std::size_t i = 0; i < functions.size(); ++i)
    if (functions[i] == &function || functions[i]->name == function.name) return static_cast<std::uint16_t>(i);
  return std::nullopt;
}
}  // namespace worker

void init(int argc, char** argv, std::span<const TaskFunction* const> tasks) {
  worker::Registry& r = mutable_registry();
  r.functions.assign(tasks.begin(), tasks.end());
  r.hash = hash_of("drover tasks");
  for (std::size_t i = 0; i < r.functions.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      if (r.functions[j]->name == r.functions[i]->name) {
        std::fprintf(stderr, "drover: init: two task functions are named '%.*s'\n", static_cast<int>(r.functions[i]->name.size()), r.functions[i]->name.data());
        std::exit(4);
      }
    }
    r.hash = hash_combine(r.hash, hash_of(r.functions[i]->name));
  }
  r.initialised = true;
  if (argc >= 2 && std::strcmp(argv[1], wire::kWorkerArgument) == 0) worker::worker_main(r);
}

void init(int argc, char** argv, std::initializer_list<const TaskFunction*> tasks) {
  init(argc, argv, std::span<const TaskFunction* const>(tasks.begin(), tasks.size()));
}

}  // namespace drover
