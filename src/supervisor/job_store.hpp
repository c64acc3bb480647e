#pragma once
/// What a job with a directory adds to a pool: the ledger's writer, events, metrics, the live page, worker logs. Made by the job
/// runner, owned by the supervisor's loop. Nothing here waits for a disk but the page-cache writes of events and logs.

#include <memory>
#include <optional>
#include <string>

#include "drover/types/ledger.hpp"
#include "os/event_fd.hpp"
#include "store/events_log.hpp"
#include "store/job_directory.hpp"
#include "store/ledger_writer.hpp"
#include "store/live_page.hpp"
#include "store/metrics.hpp"

namespace drover {

struct JobStore {
  FileSystem& fs;
  store::JobDirectory directory;
  std::string workload;
  Grain grain = Grain::rows;
  std::uint32_t run = 1;
  std::unique_ptr<store::LedgerWriter> writer;
  std::optional<store::EventsLog> events{};
  store::Metrics metrics;
  std::optional<store::LivePageWriter> live{};
  std::shared_ptr<EventFd> ledger_bell;         ///< rung by the writer's thread after each commit
  Nanos consumed_before{};                      ///< of the budget, by earlier runs
  std::uint64_t recorded_before = 0;
};

}  // namespace drover
