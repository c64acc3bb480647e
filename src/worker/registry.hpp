#pragma once
/// The task functions of this program, as given to drover::init. The index of a function in the list is what travels to a
/// worker; both sides compare `hash` first, so that a different binary can never run the wrong function.

#include <cstdint>
#include <optional>
#include <span>

#include "drover/task.hpp"

namespace drover::worker {

struct Registry {
  std::vector<const TaskFunction*> functions;
  std::uint64_t hash = 0;
  bool initialised = false;

  std::optional<std::uint16_t> index_of(const TaskFunction& function) const;
};

/// Written once, by drover::init, before any thread exists.
const Registry& registry();

}  // namespace drover::worker
