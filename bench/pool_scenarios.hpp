#pragma once
// What is measured of drover, each as one JSON object. Runs inside the child program that the driver started and bounds.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>

#include "drover/task.hpp"

namespace drover::bench {

/// What the bench's workers run, for drover::init.
std::span<const TaskFunction* const> tasks();

/// `pool`, `own`, `floor`, a failure (`kill1` ... `superkill`), or `superkill-inner`. An object with `error` when the pool itself
/// refused.
nlohmann::json run_scenario(const std::string& name, std::uint64_t seed);

/// This program's own path, to be started again.
std::string own_path();

}  // namespace drover::bench
