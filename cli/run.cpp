// drover WORKLOAD [VERB] ...: starts a job, or runs one of the workload's own verbs.

#include <fmt/format.h>

#include <algorithm>

#include "base/text.hpp"
#include "cli/find_job.hpp"
#include "cli/job_schema.hpp"
#include "cli/messages.hpp"
#include "cli/program.hpp"
#include "cli/run_job.hpp"
#include "os/file_system.hpp"
#include "report/status.hpp"

namespace drover::cli {
namespace {

/// The last value of --config among the words: it must be read before the others are taken over it.
std::string config_file_of(const Words& words) {
  std::string file;
  for (std::size_t i = 0; i < words.size() && words[i] != "--"; ++i) {
    if (words[i] == "--config" && i + 1 < words.size()) file = words[i + 1];
    else if (words[i].starts_with("--config=")) file = words[i].substr(9);
  }
  return file;
}

int help_on(const Workload& workload, const Schema& schema) {
  std::string usage;
  for (const Option& option : schema.options()) {
    if (!option.positional) continue;
    std::string word = option.name;
    std::ranges::transform(word, word.begin(), [](char c) { return static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c); });
    usage += option.required ? " " + word : " [" + word + "]";
  }
  std::string text = fmt::format("drover {}{} [options]\n{}.\n\n{}", workload.name(), usage, workload.summary(), help_of(schema));
  for (const WorkloadVerb& verb : workload.verbs()) text += fmt::format("\ndrover {} {}\n  {}\n", workload.name(), verb.name, verb.summary);
  return print(text) ? kDone : kFault;
}

}  // namespace

int run_workload(const Program&, const Workload& workload, const Words& words) {
  const std::string name(workload.name());
  const std::vector<WorkloadVerb> verbs = workload.verbs();
  if (!words.empty()) {
    for (const WorkloadVerb& verb : verbs) {
      if (verb.name != words.front()) continue;
      const Words rest(words.begin() + 1, words.end());
      if (verb.is_job && verb.is_job(rest)) break;
      const Result<int> status = verb.run(rest);
      if (!status) return complain(fmt::format("{} {}", name, verb.name), status.error());
      return *status;
    }
  }

  const auto plan = workload.plan();
  JobOptions options;
  InvocationOptions invocation;
  JobSchema schema(*plan, options, invocation);
  if (asks_for_help(words)) return help_on(workload, schema.all());
  if (const std::string file = config_file_of(words); !file.empty()) {
    const auto text = posix_file_system().read_file(file, std::uint64_t{1} << 20);
    if (!text) return complain(name, Error(text.error()).with("--config").advise("name a TOML file with a table [" + name + "]"));
    if (const auto errors = schema.apply_file(*text, file, name); !errors.empty()) {
      complain(name, errors);
      return kRefused;
    }
  }
  std::vector<Error> errors = apply_words(words, schema.all());
  // A verb mistyped is a positional refused: say which verbs there are.
  if (!errors.empty() && !words.empty() && !words.front().starts_with("-")) {
    std::vector<std::string_view> names;
    for (const WorkloadVerb& verb : verbs) names.push_back(verb.name);
    if (const auto near = nearest_name(words.front(), names); near && errors.front().advice().empty()) errors.front() = std::move(errors.front()).advise(fmt::format("did you mean `drover {} {}`?", name, *near));
  }
  if (errors.empty()) errors = options.check();
  if (errors.empty() && invocation.resume && invocation.job.empty()) errors.emplace_back(ErrorCode::usage, "--resume: needs --job DIRECTORY", "`drover resume` goes on with the job started last here");
  if (!errors.empty()) return complain(name, errors);
  const report::Host host = report::this_host();
  const bool there = invocation.resume && is_job(host.fs, invocation.job);
  if (there) {
    const auto status = report::read_status(host, invocation.job);
    if (!status) return complain(name, status.error());
    if (status->workload != name) return complain(name, Error(ErrorCode::mismatch, fmt::format("--job '{}': is a job of the workload '{}'", invocation.job, status->workload), "name another directory"));
    if (const auto refused = refuse_to_go_on(name, host, invocation.job, *status, false, invocation.json)) return *refused;
  }
  return run_job_to_its_end({.verb = name,
                             .workload = workload,
                             .plan = *plan,
                             .options = options,
                             .invocation = invocation,
                             .directory = invocation.job,
                             .resume = there,
                             .job_toml = schema.to_toml(name),
                             .words = words});
}

}  // namespace drover::cli
