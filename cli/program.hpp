#pragma once
/// What main composes: the workloads, and the verbs that run on them. One file a verb; a verb takes its words and returns the exit
/// status. Results go to stdout, everything else to stderr.

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "drover/workload.hpp"

namespace drover::cli {

using Words = std::vector<std::string>;

/// Exit statuses of every verb. man/drover.1 has them too.
inline constexpr int kDone = 0;
inline constexpr int kIncomplete = 1;     ///< some tasks did not complete
inline constexpr int kRefused = 2;        ///< usage, or refused on purpose
inline constexpr int kStopped = 3;        ///< at a limit or by `stop`; resumable
inline constexpr int kFault = 4;          ///< this host or drover itself
inline constexpr int kInterrupted = 130;  ///< Ctrl-C; says so when resumable

struct Program {
  std::vector<std::unique_ptr<Workload>> workloads;
  const Workload* find(std::string_view name) const {
    for (const auto& workload : workloads) {
      if (workload->name() == name) return workload.get();
    }
    return nullptr;
  }
};

struct Verb {
  std::string_view name;
  std::string_view usage;     ///< after `drover NAME `
  std::string_view summary;
  int (*run)(const Program& program, const Words& words);
};
std::span<const Verb> verbs();

int run_workload(const Program& program, const Workload& workload, const Words& words);
int ps(const Program& program, const Words& words);
int top(const Program& program, const Words& words);
int status(const Program& program, const Words& words);
int stop(const Program& program, const Words& words);
int resume(const Program& program, const Words& words);
int why(const Program& program, const Words& words);
int replay(const Program& program, const Words& words);
int ckpt(const Program& program, const Words& words);
int doctor(const Program& program, const Words& words);
int audit(const Program& program, const Words& words);
int selftest(const Program& program, const Words& words);
int bench(const Program& program, const Words& words);
int version(const Program& program, const Words& words);

}  // namespace drover::cli
