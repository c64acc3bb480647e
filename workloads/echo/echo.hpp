#pragma once
/// `drover echo`: tasks that answer with bytes of their own random stream, and misbehave on demand. The template of a new
/// workload: copy this folder, name it in cli/main.cpp, and replace what a task does.

#include <memory>

#include "drover/workload.hpp"

namespace drover::echo {
std::unique_ptr<Workload> make_workload();
}  // namespace drover::echo
