#include "echo/echo.hpp"

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ranges>
#include <thread>

namespace drover::echo {
namespace {

// ---- What travels to a worker and back. Trivially copyable structs, strings and vectors of them need nothing more. -----------
enum class Fault : std::uint8_t { none, fail, crash, hang, spin, exit };
struct Call {
  std::uint64_t bytes = 0;
  Nanos work{}, sleep{};
  Fault fault = Fault::none;
  std::array<char, 7> padding{};  // the bytes are hashed on resume: none may be left to chance
};

// ---- The task: a plain function, run in a worker process. --------------------------------------------------------------------
Result<Bytes> echo(const Call& call, Context& context) {
  switch (call.fault) {
    case Fault::none: break;
    case Fault::fail: return fail(ErrorCode::refused, "asked to fail");
    case Fault::crash: std::abort();
    case Fault::hang: std::this_thread::sleep_for(std::chrono::hours(24)); break;
    case Fault::spin: while (true) asm volatile("");
    case Fault::exit: std::_Exit(0);
  }
  const auto end = std::chrono::steady_clock::now() + call.work;
  for (std::uint64_t turns = 0; std::chrono::steady_clock::now() < end; ++turns) context.progress(turns);
  if (call.sleep > Nanos::zero()) std::this_thread::sleep_for(call.sleep);
  Bytes answer(call.bytes);
  for (std::byte& byte : answer) byte = static_cast<std::byte>(context.rng()());
  return answer;
}
constexpr auto echo_task = task<"echo", &echo>;

constexpr std::uint64_t kConfirmEvery = 4096;  // grain ranges: an fsync each time; at most so many are run again after a kill

// ---- The job: options are fields, `run` gives tasks and takes results in id order. --------------------------------------------
class EchoPlan final : public JobPlan {
 public:
  void describe(Schema& schema) override {
    schema.integer("tasks", tasks_, {0, std::uint64_t{1} << 40}, "how many");
    schema.bytes("bytes", bytes_, {0, kPayloadBytesMax}, "length of each answer");
    schema.duration("work", work_, {Nanos(0), std::chrono::hours(24)}, "busy time of each");
    schema.duration("sleep", sleep_, {Nanos(0), std::chrono::hours(24)}, "idle time of each");
    for (Every& e : faults_) schema.integer(e.name, e.n, {0, std::uint64_t{1} << 40}, e.help);
    schema.choice("grain", grain_, {"rows", "ranges"}, "what the ledger keeps");
  }
  Result<JobTraits> traits() override {
    std::string identity = "echo 1 tasks=" + std::to_string(tasks_) + " bytes=" + std::to_string(bytes_);
    for (const Every& e : faults_) identity += " " + std::string(e.name) + "=" + std::to_string(e.n);
    return JobTraits{.grain = grain_ == "rows" ? Grain::rows : Grain::ranges, .identity = identity};
  }
  Result<void> run(Job& job) override {
    std::uint64_t digest = 0, done = job.confirmed().value, bytes = 0, failed = 0;
    TaskId upto = job.confirmed();
    const auto calls = std::views::iota(done, tasks_) | std::views::take_while([&](std::uint64_t) { return !job.should_stop(); }) |
                       std::views::transform([&](std::uint64_t id) { return call_of(id); });
    auto results = job.pool().map(echo_task, calls);
    for (auto&& [id, result] : results) {
      if (result) for (const std::byte byte : *result) digest = splitmix64(digest ^ static_cast<std::uint64_t>(byte));
      digest = splitmix64(digest ^ (result ? result->size() : ~std::uint64_t{0}));
      bytes += result ? result->size() : 0;
      failed += result ? 0 : 1;
      job.progress({.done = static_cast<double>(++done), .total = static_cast<double>(tasks_), .rate = 0, .unit = "tasks", .note = {}});
      upto = id.next();
      if (grain_ == "ranges" && upto.value % kConfirmEvery == 0) DROVER_CHECK(job.confirm(upto));
    }
    if (grain_ == "ranges" && upto != job.confirmed()) DROVER_CHECK(job.confirm(upto));
    if (results.error()) return std::unexpected(*results.error());
    job.figure({.key = "bytes", .value = static_cast<std::int64_t>(bytes), .shown = std::to_string(bytes) + " bytes echoed"});
    char hex[17];
    std::snprintf(hex, sizeof hex, "%016llx", static_cast<unsigned long long>(digest));
    if (failed != 0) job.no_digest(std::to_string(failed) + " tasks did not complete");
    else if (grain_ == "ranges" && job.resumed()) job.no_digest("grain ranges keeps no results of the runs before");
    else job.digest(hex, std::to_string(done) + " answers in task order");
    return {};
  }

 private:
  struct Every { Fault fault; const char* name; const char* help; std::uint64_t n = 0; };
  Call call_of(std::uint64_t id) const {
    Call call{.bytes = bytes_, .work = work_, .sleep = sleep_};
    for (const Every& e : faults_) if (e.n != 0 && id % e.n == e.n - 1) call.fault = e.fault;
    return call;
  }
  std::uint64_t tasks_ = 1000, bytes_ = 16;
  Nanos work_{}, sleep_{};
  std::string grain_ = "rows";
  std::array<Every, 5> faults_{{{Fault::fail, "fail-every", "every so many tasks one returns an error; 0: never"},
                                {Fault::crash, "crash-every", "... aborts its worker"},
                                {Fault::hang, "hang-every", "... sleeps for a day"},
                                {Fault::spin, "spin-every", "... loops for ever"},
                                {Fault::exit, "exit-every", "... exits its worker with status 0"}}};
};

class Echo final : public Workload {
 public:
  std::string_view name() const override { return "echo"; }
  std::string_view summary() const override { return "tasks that echo bytes and misbehave on demand; the template of a workload"; }
  std::vector<const TaskFunction*> tasks() const override { return {echo_task.function}; }
  std::unique_ptr<JobPlan> plan() const override { return std::make_unique<EchoPlan>(); }
};

}  // namespace

std::unique_ptr<Workload> make_workload() { return std::make_unique<Echo>(); }

}  // namespace drover::echo
