#pragma once
/// `drover solve`: trains strategies of small poker and dice games on worker processes and certifies them by exact best
/// responses. docs/solve.md is the manual.

#include <memory>

#include "drover/workload.hpp"

namespace drover::solve {

std::unique_ptr<Workload> make_workload();

}  // namespace drover::solve
