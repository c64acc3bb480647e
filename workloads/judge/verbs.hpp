#pragma once
/// `drover judge run` and `drover judge doctor`.

#include <string>
#include <vector>

#include "drover/workload.hpp"

namespace drover::judge {
std::vector<WorkloadVerb> judge_verbs();
}  // namespace drover::judge
