#pragma once
/// `drover judge serve`: the service over HTTP, on a Unix socket and a loopback port (docs/judge_api.md, docs/judge_openapi.json).

#include <string>
#include <vector>

#include "drover/types/error.hpp"

namespace drover::judge {

Result<int> serve(const std::vector<std::string>& words);

}  // namespace drover::judge
