// drover replay JOB TASK: runs the saved input of a quarantined task once more, alone: same function, same bytes, same random
// stream. In a child process with a time limit, or with --here in this one, for a debugger. Records nothing.

#include <fmt/format.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <exception>

#include "cli/find_job.hpp"
#include "cli/job_schema.hpp"
#include "cli/messages.hpp"
#include "cli/program.hpp"
#include "os/host.hpp"
#include "os/pidfd.hpp"
#include "report/status.hpp"
#include "report/why.hpp"
#include "store/ledger.hpp"
#include "supervisor/spec_hash.hpp"

namespace drover::cli {
namespace {

class ReplayContext final : public Context {
 public:
  ReplayContext(TaskId task, std::uint64_t seed, BytesView setup, std::span<std::byte> shared) {
    task_ = task;
    epoch_ = Epoch(1);
    incarnation_ = Incarnation(1);
    job_seed_ = seed;
    rng_ = Rng(seed, task);
    progress_ = &progress_cell_;
    stop_ = &stop_cell_;
    setup_ = setup;
    shared_ = shared;
  }

 private:
  std::atomic<std::uint64_t> progress_cell_{0};
  std::atomic<std::uint32_t> stop_cell_{0};
};

class ReplayResult final : public ResultWriter {
 public:
  Result<std::span<std::byte>> reserve(std::size_t size) override {
    if (size > kPayloadBytesMax) return fail(ErrorCode::no_space, fmt::format("a result of {} bytes is larger than {}", size, kPayloadBytesMax));
    bytes_.assign(size, std::byte{0});
    return std::span(bytes_);
  }
  void truncate(std::size_t size) override {
    if (size < bytes_.size()) bytes_.resize(size);
  }
  std::size_t size() const { return bytes_.size(); }

 private:
  Bytes bytes_;
};

struct Saved {
  std::string name;
  std::uint64_t seed = 0;
  std::string input;
  const TaskFunction* function = nullptr;
  JobTraits traits;
};

Result<Saved> load(const Program& program, const report::Host& host, const std::string& directory, TaskId task) {
  DROVER_TRY(const report::TaskWhy why, report::why_task(host, directory, task));
  if (why.input_file.empty()) {
    return fail(ErrorCode::not_found, fmt::format("task '{}' of '{}': its input was not saved, it ended {}", task.value, why.name, why.outcome.empty() ? "not yet" : why.outcome_text),
                fmt::format("only quarantined tasks keep their input; `drover why {}` lists them", why.name));
  }
  const Workload* const workload = program.find(why.workload);
  if (workload == nullptr) return fail(ErrorCode::mismatch, fmt::format("job '{}' is of the workload '{}', which this drover does not have", why.name, why.workload));
  Saved saved;
  saved.name = why.name;
  DROVER_TRY(saved.input, host.fs.read_file(directory + "/" + why.input_file, kPayloadBytesMax));
  DROVER_TRY(store::Ledger ledger, store::Ledger::open_to_read(host.fs, directory + "/ledger.db"));
  saved.seed = ledger.header().seed;
  DROVER_TRY(const auto row, ledger.task(task));

  // The ledger keeps a hash of (function, input, effect): it tells which function this input belongs to, and that it is unharmed.
  const BytesView input = std::as_bytes(std::span(saved.input));
  const auto functions = workload->tasks();
  for (const TaskFunction* function : functions) {
    for (const EffectClass effect : {EffectClass::pure, EffectClass::effectful}) {
      if (row && row->spec_hash == spec_hash_of(function->name, input, effect)) saved.function = function;
    }
  }
  if (saved.function == nullptr && row && row->spec_hash == 0 && functions.size() == 1) saved.function = functions.front();
  if (saved.function == nullptr) return fail(ErrorCode::corrupt, fmt::format("'{}/{}' is not the input that task '{}' had", directory, why.input_file, task.value), "the file was changed or damaged; it cannot be replayed");

  const auto plan = workload->plan();
  JobOptions options;
  InvocationOptions ignored;
  JobSchema schema(*plan, options, ignored);
  DROVER_TRY(const std::string toml, host.fs.read_file(directory + "/job.toml", std::uint64_t{1} << 20));
  if (const auto errors = schema.apply_file(toml, directory + "/job.toml", why.workload); !errors.empty()) return std::unexpected(errors.front());
  DROVER_TRY(saved.traits, plan->traits());
  return saved;
}

/// In this process: whatever the task does to it, happens.
int run_here(const Saved& saved, TaskId task) {
  Bytes shared(saved.traits.pool.shared_segment_bytes);
  ReplayContext context(task, saved.seed, saved.traits.pool.setup, shared);
  ReplayResult result;
  Result<void> ended;
  try {
    std::shared_ptr<void> state;
    if (saved.function->start != nullptr) {
      auto started = saved.function->start(context);
      if (!started) return complain("replay", Error(started.error()).with("starting the worker's state").advise("the task was not reached"));
      state = std::move(*started);
    }
    ended = saved.function->run(std::as_bytes(std::span(saved.input)), result, context, state.get());
  } catch (const std::exception& error) {
    ended = fail(ErrorCode::system, error.what());
  } catch (...) {
    ended = fail(ErrorCode::system, "an exception that is not a std::exception");
  }
  if (!ended) {
    print(fmt::format("task {} of {}: app_error({})\n", task.value, saved.name, ended.error().what()));
    return kIncomplete;
  }
  print(fmt::format("task {} of {}: completed, {} bytes\n", task.value, saved.name, result.size()));
  return kDone;
}

int run_in_child(const std::string& directory, TaskId task, Nanos limit, const Clock& clock) {
  std::string self = "/proc/self/exe";
  std::vector<std::string> words{"drover", "replay", directory, std::to_string(task.value), "--here"};
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  pid_t pid = 0;
  if (const int error = ::posix_spawn(&pid, self.c_str(), nullptr, nullptr, argv.data(), environ); error != 0) return complain("replay", Error::from_errno(error, "cannot start a process for it"));
  const auto child = PidFd::open(pid);
  const bool in_time = child && child->wait_dead(after(clock.now(), limit));
  if (!in_time && child) (void)child->send(SIGKILL);
  int raw = 0;
  while (::waitpid(pid, &raw, 0) < 0 && errno == EINTR) {
  }
  if (!in_time) {
    print(fmt::format("task {}: timed_out(attempt_wall {})\n", task.value, text_of(limit)));
    return kIncomplete;
  }
  if (WIFSIGNALED(raw)) {
    print(fmt::format("task {}: crashed({})\n", task.value, signal_name(WTERMSIG(raw))));
    say("replay", fmt::format("to look closer: gdb --args drover replay {} {} --here", directory, task.value));
    return kIncomplete;
  }
  return WEXITSTATUS(raw);
}

}  // namespace

int replay(const Program& program, const Words& words) {
  std::string job;
  std::uint64_t task = 0;
  bool here = false;
  Nanos limit = std::chrono::minutes(1);
  Schema schema;
  schema.text("job", job, "directory or name of a job").positional(true);
  schema.integer("task", task, {}, "id of a quarantined task").positional(true);
  schema.flag("here", here, "in this very process, for a debugger");
  schema.duration("limit", limit, {Millis(1), std::chrono::hours(24)}, "kill it after so long");
  if (const auto done = read_words("replay", "JOB TASK [--here] [--limit TIME]", "Runs the saved input of a quarantined task once more", words, schema)) return *done;
  const report::Host host = report::this_host();
  const auto directory = find_job(host.fs, job);
  if (!directory) return complain("replay", directory.error());
  const auto saved = load(program, host, *directory, TaskId(task));
  if (!saved) return complain("replay", saved.error());
  return here ? run_here(*saved, TaskId(task)) : run_in_child(*directory, TaskId(task), limit, host.clock);
}

}  // namespace drover::cli
