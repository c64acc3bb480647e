#pragma once
/// `drover judge serve`: the service over HTTP, on a Unix socket and a loopback port (docs/judge_api.md, docs/judge_openapi.json).

#include <string>
#include <vector>

#include "drover/config.hpp"
#include "drover/http.hpp"
#include "drover/job.hpp"
#include "drover/types/error.hpp"
#include "judge/service.hpp"

namespace drover::judge {

struct ServeOptions {
  ServiceOptions service{};
  HttpOptions http{};
  std::int32_t port = -1;    ///< -1: none
  std::string token_file{};
};
/// Of the doors, the queue and what is remembered; not of the slots (slot_options.hpp) nor the reward.
void describe(Schema& schema, ServeOptions& options);

/// `drover judge serve` without --durable: until it is told to end.
Result<int> serve(const std::vector<std::string>& words);
/// With it, over a job, its options complete: until the job is to stop.
Result<void> serve(Job& job, const ServeOptions& options);
/// Cross-checks; makes paths absolute and finds the token. A token that is made is no use to a job's next run: with `durable` a port needs a file.
Result<void> complete(ServeOptions& options, bool durable);

}  // namespace drover::judge
