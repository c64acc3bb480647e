#include "cli/run_job.hpp"

#include "cli/messages.hpp"

namespace drover::cli {
int run_job_to_its_end(const JobInvocation& invocation) {
  return complain(invocation.verb, Error(ErrorCode::unavailable, "this build has no job runner yet"));
}
}  // namespace drover::cli
