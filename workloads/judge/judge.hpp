#pragma once
/// `drover judge`: scores untrusted programs against tests. docs/judge_api.md has the shapes, docs/judge_threat_model.md what is held.

#include <memory>

#include "drover/workload.hpp"

namespace drover::judge {
std::unique_ptr<Workload> make_workload();
}  // namespace drover::judge
