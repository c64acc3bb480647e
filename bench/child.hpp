#pragma once
// A program run to its end or to a bound, in a process group of its own that does not outlive the call.

#include <chrono>
#include <string>
#include <vector>

namespace drover::bench {

struct ChildRun {
  bool started = false;
  bool hung = false;   ///< the bound passed; the group was killed
  int status = -1;     ///< exit status, 128 + signal
  double seconds = 0;
  std::string out;     ///< what it wrote to stdout
  std::string last_line() const;
};

/// stdin and stderr are /dev/null. Whatever of its process group is left when its first process ends is killed.
ChildRun run_bounded(const std::vector<std::string>& words, std::chrono::seconds bound);

/// Starts a program with its stdout in a pipe, waits at most `bound` for one line of it, and leaves it running.
struct Running {
  int pid = -1;
  int out = -1;
  std::string line;
};
Running start_until_line(const std::vector<std::string>& words, std::chrono::seconds bound);

}  // namespace drover::bench
