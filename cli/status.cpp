// drover status [JOB] [--json] [--watch]: how a job stands, from its ledger and, while it runs, its live page.

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>

#include "cli/find_job.hpp"
#include "cli/messages.hpp"
#include "cli/program.hpp"
#include "cli/terminal.hpp"
#include "report/status.hpp"

namespace drover::cli {

int status(const Program&, const Words& words) {
  std::string job;
  bool json = false, watch = false;
  Nanos every = Seconds(1);
  Schema schema;
  schema.text("job", job, "directory or name of a job; the one started last here if left out").positional(false);
  schema.flag("json", json, "print one JSON object (docs/json.md)");
  schema.flag("watch", watch, "print again and again until the job ends");
  schema.duration("every", every, {Millis(50), std::chrono::hours(1)}, "with --watch");
  if (const auto done = read_words("status", "[JOB] [--json] [--watch]", "Shows how a job stands", words, schema)) return *done;

  const report::Host host = report::this_host();
  const auto directory = find_job(host.fs, job);
  if (!directory) return complain("status", directory.error());
  Screen screen(STDOUT_FILENO, Screen::Use::below);
  while (true) {
    const auto status = report::read_status(host, *directory);
    if (!status) return complain("status", status.error());
    const bool last = !watch || !status->outcome.empty();
    if (json) {
      if (!print(report::json_of(*status) + "\n")) return kFault;
    } else if (watch && screen.is_terminal()) {
      screen.draw_text(report::text_of(*status));
    } else if (!print(report::text_of(*status))) {
      return kFault;
    }
    if (last) break;
    // A frozen job would be watched for ever on purpose; Ctrl-C ends it.
    pause_for(every);
  }
  return kDone;
}

}  // namespace drover::cli
