// The composition root: the one place that knows every workload. Workers are this program executed again; drover::init is their door.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <csignal>

#include "base/text.hpp"
#include "cli/messages.hpp"
#include "cli/program.hpp"
#include "drover/init.hpp"
#include "echo/echo.hpp"
#include "guard/guard.hpp"
#include "judge/judge.hpp"
#include "solve/solve.hpp"

namespace drover::cli {
namespace {

Program make_program() {
  Program program;
  program.workloads.push_back(solve::make_workload());
  program.workloads.push_back(guard::make_workload());
  program.workloads.push_back(judge::make_workload());
  program.workloads.push_back(echo::make_workload());
  return program;
}

constexpr std::array kVerbs = {
    Verb{"ps", "[--all] [--json]", "the jobs of this host", ps},
    Verb{"status", "[JOB] [--json] [--watch]", "how a job stands", status},
    Verb{"top", "[JOB]", "a running job and its workers, live", top},
    Verb{"stop", "[JOB] [--now]", "end a job so that it can be resumed", stop},
    Verb{"resume", "[JOB] [--workers N] [--time TIME]", "go on with a job where its ledger ends", resume},
    Verb{"why", "[JOB] [TASK]", "every attempt, outcome and evidence; one cause", why},
    Verb{"replay", "JOB TASK", "run a quarantined task's saved input once more", replay},
    Verb{"ckpt", "ls|log|diff|verify|pin|rollback|...", "look after a checkpoint store", ckpt},
    Verb{"audit", "[DIRECTORY] [--watch TIME] [--json]", "who but drover holds or writes a store's files", audit},
    Verb{"selftest", "[--json]", "trip every enforcer of guard on this host", selftest},
    Verb{"doctor", "[--require LIST] [--json]", "what this host lets drover enforce", doctor},
    Verb{"bench", "[NAME ...]", "the benchmarks, their peers beside them", bench},
    Verb{"version", "[--json]", "which drover this is", version},
};

std::string help_text(const Program& program) {
  std::string text = "drover runs many worker processes on long jobs that cannot hang, run away, lose, repeat or lie.\n\nStart a job:\n";
  for (const auto& workload : program.workloads) text += fmt::format("  drover {:<44} {}\n", fmt::format("{} ...", workload->name()), workload->summary());
  text += "\nLook after jobs (JOB: a directory, a name, or left out for the one started last here):\n";
  for (const Verb& verb : kVerbs) text += fmt::format("  drover {:<44} {}\n", fmt::format("{} {}", verb.name, verb.usage), verb.summary);
  text +=
      "\n`drover WORD --help` has the options. Results go to stdout, everything else to stderr.\n"
      "Exit status: 0 all done; 1 some tasks did not complete; 2 usage or refused; 3 stopped, resumable; 4 host or internal\n"
      "fault; 130 ended by Ctrl-C.\n";
  return text;
}

int run(const Program& program, const Words& words) {
  if (words.empty()) {
    print(help_text(program));
    return kRefused;
  }
  const std::string& word = words.front();
  const Words rest(words.begin() + 1, words.end());
  if (word == "help" || word == "--help" || word == "-h") {
    if (rest.empty()) return print(help_text(program)) ? kDone : kFault;
    return run(program, {rest.front(), "--help"});
  }
  if (word == "--version") return version(program, rest);
  for (const Verb& verb : kVerbs) {
    if (verb.name == word) return verb.run(program, rest);
  }
  if (const Workload* const workload = program.find(word)) return run_workload(program, *workload, rest);
  std::vector<std::string_view> names{"help"};
  for (const Verb& verb : kVerbs) names.push_back(verb.name);
  for (const auto& workload : program.workloads) names.push_back(workload->name());
  const auto near = nearest_name(word, names);
  return complain("", Error(ErrorCode::usage, fmt::format("unknown word '{}'", word), near ? fmt::format("did you mean '{}'?", *near) : std::string("`drover help` lists what there is")));
}

}  // namespace

std::span<const Verb> verbs() { return kVerbs; }

}  // namespace drover::cli

int main(int argc, char** argv) {
  const drover::cli::Program program = drover::cli::make_program();
  std::vector<const drover::TaskFunction*> tasks;
  for (const auto& workload : program.workloads) {
    for (const drover::TaskFunction* task : workload->tasks()) tasks.push_back(task);
  }
  drover::init(argc, argv, std::span<const drover::TaskFunction* const>(tasks));  // a worker never comes back from here
  std::signal(SIGPIPE, SIG_IGN);  // a reader that goes away is an error of write, told or not where it happens
  return drover::cli::run(program, {argv + 1, argv + argc});
}
