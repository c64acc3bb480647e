#include "judge/judge.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <ranges>

#include "judge/dataset.hpp"
#include "judge/hash.hpp"
#include "judge/server.hpp"
#include "judge/slot.hpp"
#include "judge/test_sets.hpp"
#include "judge/verbs.hpp"

namespace drover::judge {
namespace {

namespace fs = std::filesystem;

/// More of tests than this go with each submission instead.
constexpr std::uint64_t kSharedTestsMax = std::uint64_t{1} << 30;
std::uint64_t bytes_of_tests(const Submission& submission) {
  std::uint64_t bytes = submission.prelude.size();
  for (const Test& test : submission.tests) {
    if (const auto* const code = std::get_if<CodeTest>(&test)) bytes += code->code.size();
    else bytes += std::get<IoTest>(test).input.size() + std::get<IoTest>(test).output.size();
  }
  return bytes;
}

/// `drover judge batch IN OUT`: the ledger is the truth, OUT a sink that appears whole, in input order. Equal submissions are judged once.
/// `drover judge serve --durable`: the same ledger behind the server.
class JudgePlan final : public JobPlan {
 public:
  void describe(Schema& schema) override {
    schema.choice("what", what_, {"batch", "serve"}, "judge all submissions of a file; with --durable: what clients send").positional(true);
    schema.text("in", in_, "submissions: a file of one of the shapes of --dataset, gzip or not").positional(false);
    schema.text("out", out_, "verdicts, one JSON object a line, in input order").positional(false);
    schema.choice("dataset", dataset_.kind, {"jsonl", "humaneval", "mbpp", "evalplus", "io"}, "shape of IN");
    schema.text("candidates", dataset_.candidates, "of a data set: `canonical` for its own solutions, or a file of {task_id, completion or solution}");
    schema.choice("mode", mode_, {"", "split", "stdio", "exit", "inproc"}, "instead of what each submission says");
    schema.duration("cpu", dataset_.cpu, {Nanos(0), Seconds(3600)}, "CPU time of a run instead of what each submission says; 0: as it says");
    schema.text("reward", reward_, "all: 1 when all tests passed and else 0; fraction: passed / tests; or by outcome: all_passed=1,some_failed=0.1");
    schema.integer("rerun-budget", rerun_budget_, Range<std::uint64_t>{0, 1'000'000'000}, "submissions judged once more at the end, one at a time, because a run was at a limit's edge or had no core; more keep their first verdict");
    schema.flag("durable", durable_, "of serve: what is taken is in the job's journal, verdicts are in its ledger, and `drover resume` goes on");
    judge::describe(schema, serve_);
    judge::describe(schema, slot_);
  }

  Result<JobTraits> traits() override { return what_ == "serve" ? serve_traits() : batch_traits(); }
  Result<void> run(Job& job) override { return what_ == "serve" ? serve(job, serve_) : run_batch(job); }

 private:
  Result<JobTraits> serve_traits() {
    if (!durable_) return fail(ErrorCode::usage, "serve: as a job it needs --durable");
    if (!in_.empty() || !out_.empty()) return fail(ErrorCode::usage, fmt::format("serve '{}': takes no file", in_));
    DROVER_CHECK(complete(serve_, true));
    DROVER_CHECK(complete(slot_));
    DROVER_TRY(serve_.service.reward, parse_reward(reward_));
    if (profile_.empty()) {
      DROVER_TRY(const Sandbox tried, make_sandbox(slot_));
      profile_ = name_of(tried.profile());
    }
    slot_.profile = profile_;  // the strongest there is may be another when it is resumed
    serve_.service.slot = slot_;
    return JobTraits{.pool = Service::pool_options(serve_.service), .grain = Grain::rows, .identity = fmt::format("judge 3 serve\nslot: {}\n", json_of(slot_)), .exact = false};
  }

  Result<JobTraits> batch_traits() {
    if (in_.empty() || out_.empty()) return fail(ErrorCode::usage, "batch: needs IN and OUT", "as in: drover judge batch submissions.jsonl verdicts.jsonl");
    if (durable_ || !serve_.http.unix_path.empty() || serve_.port >= 0) return fail(ErrorCode::usage, "batch: --durable, --socket and --port are of serve");
    in_ = fs::absolute(in_).lexically_normal().string();
    out_ = fs::absolute(out_).lexically_normal().string();
    if (dataset_.candidates != "canonical") dataset_.candidates = fs::absolute(dataset_.candidates).lexically_normal().string();
    DROVER_CHECK(complete(slot_));
    slot_.repeat_later = true;
    DROVER_TRY(rule_, parse_reward(reward_));
    dataset_.mode = mode_named(mode_);  // "": as each submission says
    DROVER_CHECK(prepare());
    if (!fs::is_directory(fs::path(out_).parent_path())) return fail(ErrorCode::usage, fmt::format("OUT '{}': '{}' is no directory", out_, fs::path(out_).parent_path().string()));
    JobTraits traits{.grain = Grain::rows, .identity = fmt::format("judge 3\nsubmissions: {}\nprofile: {}\nslot: {}\nreward: {}\nrerun budget: {}\n", hash_, profile_, json_of(slot_), reward_, rerun_budget_)};
    const std::string setup = json_of(slot_);
    traits.pool.setup.resize(setup.size());
    std::memcpy(traits.pool.setup.data(), setup.data(), setup.size());
    traits.pool.warm_up = judge_task.function;
    traits.pool.window = 2;  // a submission takes milliseconds at least
    traits.pool.limits.stall = Seconds(60);
    return traits;
  }

  Result<void> run_batch(Job& job) {
    std::vector<Submission> submissions = std::move(submissions_);
    // Equal ones are one task.
    std::map<std::string, std::size_t, std::less<>> keys;
    std::vector<std::size_t> task_of;
    std::vector<Mode> modes;
    std::vector<std::string> inputs, ids;
    // Tests that several candidates share travel once, in memory all workers map; those of one go with it.
    TestSets sets;
    std::uint64_t bytes = 0;
    std::map<std::string, std::size_t, std::less<>> uses;
    for (const Submission& one : submissions) {
      bytes += bytes_of_tests(one);
      ++uses[test_set_sha256(one)];
    }
    const auto shared = [&](const Submission& one) { return bytes < kSharedTestsMax && !one.tests.empty() && uses[test_set_sha256(one)] > 1; };
    for (Submission& one : submissions) {
      const auto [found, fresh] = keys.try_emplace(content_key(one), inputs.size());
      task_of.push_back(found->second);
      ids.push_back(std::exchange(one.id, {}));
      if (!fresh) continue;
      modes.push_back(one.mode_chosen());
      if (shared(one)) sets.take_from(one);
      inputs.push_back(json_of(one).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
    }
    submissions.clear();
    if (sets.size() != 0) DROVER_CHECK(job.pool().broadcast(sets.image()));

    const std::string partial = out_ + ".partial";
    std::ofstream out(partial, std::ios::binary | std::ios::trunc);
    if (!out) return fail_errno(errno, fmt::format("write '{}'", partial));
    std::vector<Verdict> verdicts;
    std::map<SubmissionOutcome, std::uint64_t> counts;
    HashChain digest;
    Nanos cpu{};
    double rewards = 0;
    // False: the job is to stop, and what is missing is judged by the next run.
    const auto judge_all = [&](const std::vector<std::string>& given, const std::function<Mode(std::size_t)>& mode_of, const std::function<void(std::size_t, Verdict)>& use) -> Result<bool> {
      auto results = job.pool().map(judge_task, given | std::views::take_while([&](const std::string&) { return !job.should_stop(); }));
      std::size_t at = 0;
      bool cut = false;
      for (auto&& [id, result] : results) {
        if (cut) continue;
        Verdict verdict;
        if (result) {
          DROVER_TRY(verdict, parse_verdict(*result));
        } else if (job.should_stop()) {
          cut = true;
          continue;
        } else {
          verdict.mode = mode_of(at);
          verdict.reason = "judge_error: " + result.error().text();
        }
        use(at++, std::move(verdict));
      }
      if (results.error()) return std::unexpected(*results.error());
      return at == given.size();
    };
    std::uint64_t passed = 0;
    const auto tell = [&](std::size_t done, std::size_t total) { job.progress({.done = static_cast<double>(done), .total = static_cast<double>(total), .rate = 0, .unit = "submissions", .note = fmt::format("{} all passed", passed)}); };
    DROVER_TRY(bool whole, judge_all(inputs, [&](std::size_t i) { return modes[i]; }, [&](std::size_t, Verdict verdict) {
      conclude(verdict, rule_);
      cpu += verdict.measured.cpu + verdict.measured.compile_cpu;
      passed += verdict.outcome == SubmissionOutcome::all_passed;
      verdicts.push_back(std::move(verdict));
      tell(verdicts.size(), inputs.size());
    }));
    // What a loaded host may have had a part in is judged once more when there is nothing else to judge, one at a time; that decides.
    std::vector<std::size_t> again;
    std::vector<std::string> decisive;
    std::uint64_t doubtful = 0;
    for (std::size_t i = 0; i < verdicts.size(); ++i) {
      if (!verdicts[i].measured.repeat || ++doubtful > rerun_budget_) continue;
      again.push_back(i);
      decisive.push_back(std::string(Slot::kDecide) + inputs[i]);
    }
    if (whole && !again.empty()) {
      job.pool().set_workers(1);
      DROVER_TRY(whole, judge_all(decisive, [&](std::size_t i) { return modes[again[i]]; }, [&](std::size_t i, Verdict verdict) {
        conclude(verdict, rule_);
        cpu += verdict.measured.cpu + verdict.measured.compile_cpu;
        verdict.measured.near_limit = verdicts[again[i]].measured.near_limit;
        verdict.measured.reruns = 1;
        verdicts[again[i]] = std::move(verdict);
        tell(inputs.size() - again.size() + i, inputs.size());
      }));
    }
    if (!whole) return {};  // stopped: OUT appears when all is done
    std::vector<bool> told(verdicts.size(), false);
    for (std::size_t i = 0; i < task_of.size(); ++i) {
      Verdict one = verdicts[task_of[i]];
      one.id = ids[i];
      one.measured.cached = told[task_of[i]];
      told[task_of[i]] = true;
      out << json_of(one) << '\n';
      one.measured = {};
      digest.add(json_of(one));
      ++counts[one.outcome];
      rewards += one.reward.value_or(0);
    }
    out.close();
    if (!out) return fail_errno(errno, fmt::format("write '{}'", partial));
    std::error_code error;
    fs::rename(partial, out_, error);
    if (error) return fail(ErrorCode::system, fmt::format("rename '{}' to '{}': {}", partial, out_, error.message()));

    const auto figure = [&](std::string key, std::uint64_t value, std::string shown = {}) { job.figure({.key = std::move(key), .value = static_cast<std::int64_t>(value), .shown = std::move(shown)}); };
    figure("submissions", task_of.size(), fmt::format("{} submissions, {} of them different", task_of.size(), inputs.size()));
    figure("submissions_judged_once", inputs.size());
    figure("rerun", again.size(), again.empty() ? "" : fmt::format("{} judged once more, alone: at a limit's edge, or without a core", again.size()));
    figure("rerun_over_budget", doubtful - again.size(), doubtful == again.size() ? "" : fmt::format("{} more would have been: --rerun-budget", doubtful - again.size()));
    for (const SubmissionOutcome outcome : {SubmissionOutcome::all_passed, SubmissionOutcome::some_failed, SubmissionOutcome::none_passed, SubmissionOutcome::no_tests, SubmissionOutcome::not_judged})
      figure(std::string(name_of(outcome)), counts[outcome], counts[outcome] == 0 ? "" : fmt::format("{} {}", counts[outcome], name_of(outcome)));
    job.figure({.key = "reward_mean", .value = task_of.empty() ? 0.0 : rewards / static_cast<double>(task_of.size()), .shown = {}});
    job.figure({.key = "candidate_cpu_seconds", .value = static_cast<double>(cpu.count()) * 1e-9, .shown = {}});
    job.figure({.key = "out", .value = out_, .shown = "verdicts in " + out_});
    job.digest(digest.hex(), "all verdicts in input order, without what was measured");
    if (counts[SubmissionOutcome::not_judged] != 0) job.conclude(ending::Incomplete{fmt::format("{} submissions were not judged", counts[SubmissionOutcome::not_judged])});
    return {};
  }

  /// Reads IN and tries the sandbox, once: what is wrong is refused before anything is started.
  Result<void> prepare() {
    if (!profile_.empty()) return {};
    DROVER_TRY(submissions_, read_dataset(in_, dataset_));
    DROVER_TRY(const Sandbox tried, make_sandbox(slot_));
    profile_ = name_of(tried.profile());
    HashChain hash;
    for (const Submission& one : submissions_) hash.add(json_of(one).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
    hash_ = hash.hex();
    return {};
  }

  std::string what_, in_, out_, mode_, reward_ = "all";
  RewardRule rule_{};
  std::uint64_t rerun_budget_ = 1000;
  DatasetOptions dataset_;
  SlotOptions slot_;
  ServeOptions serve_;
  bool durable_ = false;
  std::vector<Submission> submissions_;
  std::string hash_, profile_;  ///< of the submissions; of the sandbox
};

class JudgeWorkload final : public Workload {
 public:
  std::string_view name() const override { return "judge"; }
  std::string_view summary() const override { return "score untrusted programs against tests, in sandboxes"; }
  std::vector<const TaskFunction*> tasks() const override { return {judge_task.function}; }
  std::unique_ptr<JobPlan> plan() const override { return std::make_unique<JudgePlan>(); }
  std::vector<WorkloadVerb> verbs() const override { return judge_verbs(); }
};

}  // namespace

std::unique_ptr<Workload> make_workload() { return std::make_unique<JudgeWorkload>(); }

}  // namespace drover::judge
