#include "judge/slot.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "drover/clock.hpp"
#include "drover/types/outcome.hpp"
#include "judge/compare.hpp"
#include "judge/inproc.hpp"
#include "judge/python_sources.hpp"
#include "judge/split.hpp"
#include "judge/test_sets.hpp"

namespace drover::judge {
namespace {

constexpr std::size_t kErrorsShown = 2000;
/// What the tests' own process may use: honest data costs it less than the candidate.
Nanos tests_cpu(const Limits& limits) { return limits.cpu * 2 + Seconds(2); }
constexpr int kTries = 2;  ///< sandboxes a submission may wear out by faults of the host

/// A warden that died, a process that could not be killed: with a candidate inside it is the candidate's doing until the host's is proved.
bool broken_by_candidate(const Error& error) { return error.code() == ErrorCode::closed || error.code() == ErrorCode::timed_out || error.code() == ErrorCode::corrupt; }

std::string signal_text(int number) { return text_of(Outcome(outcome::Crashed{number})); }

/// How the run ended, as a value of the closed set.
RunOutcome outcome_of(const SandboxEnd& end, bool over_cpu, std::string& detail) {
  if (over_cpu) return RunOutcome::cpu_limit;
  switch (end.kind) {
    using enum SandboxEndKind;
    case exited:
      if (end.code == 0) return RunOutcome::ok;
      detail = std::to_string(end.code);
      return RunOutcome::nonzero_exit;
    case signalled: detail = signal_text(end.code); return RunOutcome::signaled;
    case denied_syscall: return RunOutcome::denied_syscall;
    case cpu_limit: return RunOutcome::cpu_limit;
    case wall_limit: return RunOutcome::wall_limit;
    case memory_limit: return RunOutcome::memory_limit;
    case output_limit: return RunOutcome::output_limit;
    case cancelled: return RunOutcome::cancelled;
    // The interpreter is known to be there: it is the program that is none, or does not fit.
    case not_started: detail = fmt::format("errno {}", end.code); return RunOutcome::load_error;
  }
  std::unreachable();
}

/// From the zygote, which has it loaded; else as a file that a new interpreter runs.
void use_program(SandboxRun& run, const Sandbox& sandbox, const char* name, const Language& language, std::string_view source) {
  run.from_zygote = sandbox.has_zygote();
  if (run.from_zygote) run.argv = {name, language.source};
  else run.files.push_back({language.source, source});
}

void note(Measured& measured, const SandboxEnd& end) {
  ++measured.runs;
  measured.cpu += end.cpu;
  measured.wall += end.wall;
  measured.rss_peak_bytes = std::max(measured.rss_peak_bytes, end.rss_peak_bytes);
  measured.left_behind += end.left_behind;
  if (!end.errors.empty()) measured.errors = end.errors.substr(end.errors.size() - std::min(end.errors.size(), kErrorsShown));
}

/// The tests share one CPU limit: if it is used up although all were told, the last one has used it up.
void over_the_limit(std::vector<TestVerdict>& tests) {
  if (!tests.empty() && std::ranges::all_of(tests, [](const TestVerdict& one) { return one.outcome != TestOutcome::not_reached && one.run != RunOutcome::cpu_limit; })) tests.back() = {TestOutcome::error, RunOutcome::cpu_limit, {}};
}

/// The compiler is as contained as what it makes.
SandboxRun compile_run(const Language& language, std::string_view code) {
  return {.argv = language.compile,
          .env = {"PATH=/usr/bin:/bin", "HOME=/w", "LANG=C.UTF-8", "TMPDIR=/w"},
          .files = {{language.source, code}},
          .limits = {.cpu = Seconds(30), .wall = Seconds(120), .memory_bytes = std::uint64_t{2} << 30, .address_bytes = std::uint64_t{8} << 30, .output_bytes = 1 << 20, .error_bytes = 1 << 20,
                     .disk_bytes = std::uint64_t{256} << 20, .processes = 64},
          .take = language.artifact};
}

SandboxLimits sandbox_limits(const Limits& limits, const Language& language) {
  return {.cpu = limits.cpu * 6 / 5,
          .wall = limits.wall != Nanos(0) ? limits.wall : limits.cpu * 4 + Seconds(5),
          .memory_bytes = limits.memory_bytes,
          .address_bytes = language.bounded_address_space ? limits.memory_bytes * 4 + (std::uint64_t{1} << 30) : 0,
          .output_bytes = limits.output_bytes,
          .disk_bytes = limits.disk_bytes,
          .processes = limits.processes};
}

/// Ended by the wall while it waited for a core as long as the wall is: no fault of its own.
bool was_starved(const SandboxEnd& end, Nanos wall) { return end.kind == SandboxEndKind::wall_limit && end.starved && *end.starved >= wall; }
constexpr const char* kStarved = "starved: it had no core for half of twice its wall time";

}  // namespace

Result<Slot> Slot::start(Context& context) {
  const BytesView setup = context.setup();
  DROVER_TRY(SlotOptions options, parse_slot_options({reinterpret_cast<const char*>(setup.data()), setup.size()}));
  DROVER_TRY(Sandbox sandbox, make_sandbox(options, SandboxFor::candidates));
  return Slot(std::move(options), std::move(sandbox));
}

Result<std::string> Slot::judge(const std::string& given, Context& context) {
  const bool decides = given.starts_with(kDecide);
  const std::string_view text = std::string_view(given).substr(decides ? kDecide.size() : 0);
  repeat_ = decides ? Repeat::never : options_.repeat_later ? Repeat::later : Repeat::at_once;
  std::uint64_t beats = 0;
  // A batch's submission that is asked to stop has no verdict, and an error would be one: it goes on to its bounded end, or is ended with its
  // worker, and then it is judged by the next run. A server's has a client who does not want it any more.
  const auto stop = [&] {
    context.progress(++beats);
    return options_.stop_cancels && context.stopping();
  };
  if (is_execution(text)) {
    DROVER_TRY(const Execution execution, parse_execution(text));
    return json_of(execute(execution, stop));
  }
  DROVER_TRY(Submission submission, parse_submission(text));
  if (!submission.test_set.empty()) {
    const auto set = find_test_set(context.broadcast(), submission.test_set);
    if (!set) return fail(ErrorCode::not_found, "judge: its test set is not there: " + submission.test_set);
    DROVER_CHECK(attach(submission, *set));
  }
  return json_of(judge(submission, stop));
}

Verdict Slot::judge(const Submission& submission, const std::function<bool()>& stop) {
  if (submission.extract) {
    Submission program = submission;
    program.extract = false;
    std::optional<std::string> block = fenced_code(submission.code);
    if (block) program.code = *block;
    Verdict verdict = judge(program, stop);
    verdict.extracted = block.has_value();
    return verdict;
  }
  Verdict verdict;
  for (int tried = 1;; ++tried) {
    verdict = Verdict{};
    verdict.id = submission.id;
    verdict.mode = submission.mode_chosen();
    if (submission.tests.empty()) break;
    const Language* const language = find_language(options_, submission.language);
    if (language == nullptr) {
      verdict.reason = fmt::format("unsupported: language '{}'", submission.language.substr(0, 40));
      break;
    }
    if (!std::filesystem::exists(language->needs)) {
      verdict.reason = fmt::format("unsupported: {} is not there", language->needs);
      break;
    }
    Result<void> done;
    if (!sandbox_) {
      if (auto made = make_sandbox(options_, SandboxFor::candidates)) sandbox_.emplace(std::move(*made));
      else done = std::unexpected(std::move(made).error());
    }
    if (sandbox_) {
      verdict.profile = name_of(sandbox_->profile());
      if (verdict.mode == Mode::stdio || verdict.mode == Mode::exit) done = judge_tests(submission, *language, verdict, stop);
      else if (submission.language == "python" && verdict.mode == Mode::split) done = judge_split(submission, *language, verdict, stop);
      else if (submission.language == "python") done = judge_inproc(submission, *language, verdict, stop);
      else verdict.reason = fmt::format("unsupported: mode {} is for python, not for {}", name_of(verdict.mode), submission.language);
    }
    if (done) break;
    const bool inside = sandbox_.has_value();  // else it could not even be made
    tests_.reset();
    sandbox_.reset();  // it is of no more use; the next one is new
    verdict.reason = "judge_error: " + done.error().what();
    if (tried < kTries) continue;
    if (inside && broken_by_candidate(done.error())) {
      // To break the judge must not pay: what it cannot be given a verdict for, it has not passed.
      verdict.suspect = true;
      verdict.tests.assign(submission.tests.size(), TestVerdict{TestOutcome::error, RunOutcome::bad_protocol, "broke two sandboxes"});
      verdict.reason.clear();
    }
    break;
  }
  conclude(verdict, {});
  return verdict;
}

Executed Slot::execute(const Execution& execution, const std::function<bool()>& stop) {
  Executed done;
  const Language* const language = execution.language.empty() ? nullptr : find_language(options_, execution.language);
  if (!execution.language.empty() && (language == nullptr || !std::filesystem::exists(language->needs))) {
    done.error = fmt::format("unsupported: language '{}' is not here", execution.language.substr(0, 40));
    return done;
  }
  if (!sandbox_) {
    auto made = make_sandbox(options_, SandboxFor::candidates);
    if (!made) {
      done.error = "judge_error: " + made.error().what();
      return done;
    }
    sandbox_.emplace(std::move(*made));
  }
  done.profile = name_of(sandbox_->profile());
  SandboxRun spec{.argv = execution.argv, .env = execution.env, .input = execution.input, .limits = execution.limits, .take = execution.take, .take_max = std::uint64_t{16} << 20};
  for (const auto& [name, bytes] : execution.files) spec.files.push_back({name, bytes});
  std::string artifact;
  const auto broken = [&](const Error& error) {
    sandbox_.reset();
    done.error = "judge_error: " + error.what();
    return done;
  };
  if (language != nullptr) {
    spec.argv = language->run;
    if (!language->bounded_address_space) spec.limits.address_bytes = 0;
    if (language->compile.empty()) {
      spec.files.push_back({language->source, execution.code});
    } else {
      SandboxRun compiler = compile_run(*language, execution.code);
      compiler.files.insert(compiler.files.end(), spec.files.begin(), spec.files.end());
      if (execution.compile_wall != Nanos(0)) compiler.limits.wall = compiler.limits.cpu = execution.compile_wall;
      auto compiled = sandbox_->run(compiler, stop);
      if (!compiled) return broken(compiled.error());
      if (compiled->taken) artifact = std::move(*compiled->taken);
      done.compile = std::move(*compiled);
      if (done.compile->kind != SandboxEndKind::exited || done.compile->code != 0 || !done.compile->taken) return done;
      spec.files.push_back({language->artifact, artifact});
    }
  }
  auto ran = sandbox_->run(spec, stop);
  if (!ran && ran.error().code() == ErrorCode::usage) {
    done.error = "refused: " + ran.error().what();
    return done;
  }
  if (!ran) return broken(ran.error());
  done.run = std::move(*ran);
  return done;
}

Result<SandboxEnd> Slot::run_once(const SandboxRun& spec, Measured& measured, const std::function<bool()>& stop) {
  DROVER_TRY(SandboxEnd end, sandbox_->run(spec, stop));
  note(measured, end);
  return end;
}

bool Slot::repeats(const SandboxEnd& end, const Limits& limits, Nanos wall, Measured& measured) {
  if (end.kind == SandboxEndKind::cancelled) return false;
  const bool edge = end.kind != SandboxEndKind::cpu_limit && end.cpu >= limits.cpu * 4 / 5;
  // A sleeper of which it is known that it only slept needs no second look.
  const bool doubtful = end.kind == SandboxEndKind::wall_limit && (!end.starved || was_starved(end, wall));
  measured.near_limit = measured.near_limit || edge;
  measured.repeat = measured.repeat || ((edge || doubtful) && repeat_ == Repeat::later);
  if (!(edge || doubtful) || repeat_ != Repeat::at_once) return false;
  ++measured.reruns;
  return true;
}

Result<Slot::Ran> Slot::run(const SandboxRun& spec, const Limits& limits, Measured& measured, const std::function<bool()>& stop) {
  DROVER_TRY(SandboxEnd end, run_once(spec, measured, stop));
  if (repeats(end, limits, spec.limits.wall, measured)) {
    DROVER_TRY(end, run_once(spec, measured, stop));
  }
  const bool over = end.kind != SandboxEndKind::cancelled && end.cpu >= limits.cpu, starved = was_starved(end, spec.limits.wall);
  return Ran{.end = std::move(end), .over_cpu = over, .starved = starved && !over};
}

Result<bool> Slot::compile(const Submission& submission, const Language& language, const std::string& code, std::string& artifact, Verdict& verdict, const std::function<bool()>& stop) {
  DROVER_TRY(SandboxEnd end, sandbox_->run(compile_run(language, code), stop));
  verdict.measured.compile_cpu += end.cpu;
  TestVerdict& compiled = verdict.compile.emplace();
  const RunOutcome how = outcome_of(end, false, compiled.detail);
  if (how == RunOutcome::cancelled) {
    verdict.reason = "cancelled";
    return false;
  }
  if (how == RunOutcome::ok && end.taken) {
    compiled = {TestOutcome::pass, RunOutcome::ok, {}};
    artifact = std::move(*end.taken);
    return true;
  }
  compiled.outcome = TestOutcome::error;
  compiled.run = how == RunOutcome::nonzero_exit || how == RunOutcome::ok ? RunOutcome::compile_error : how;
  verdict.measured.errors = end.errors.substr(0, kErrorsShown);
  verdict.tests.assign(submission.tests.size(), TestVerdict{TestOutcome::not_reached, RunOutcome::compile_error, {}});
  return false;
}

Result<void> Slot::judge_tests(const Submission& submission, const Language& language, Verdict& verdict, const std::function<bool()>& stop) {
  std::string artifact;
  const bool per_test = verdict.mode == Mode::exit;  // the test is linked into the program
  if (!language.compile.empty() && !per_test) {
    DROVER_TRY(const bool compiled, compile(submission, language, submission.code, artifact, verdict, stop));
    if (!compiled) return {};
  }
  for (const Test& test : submission.tests) {
    std::string program = submission.code;
    const auto* const io = std::get_if<IoTest>(&test);
    if (io == nullptr) {
      program += "\n" + std::get<CodeTest>(test).code + "\n";
      if (!language.compile.empty()) {
        DROVER_TRY(const bool compiled, compile(submission, language, program, artifact, verdict, stop));
        if (!compiled) return {};
      }
    }
    SandboxRun spec{.argv = language.run, .input = io == nullptr ? std::string_view() : std::string_view(io->input), .limits = sandbox_limits(submission.limits, language)};
    if (language.compile.empty()) spec.files = {{language.source, program}};
    else spec.files = {{language.artifact, artifact}};
    DROVER_TRY(const Ran ran, run(spec, submission.limits, verdict.measured, stop));
    if (ran.starved) {
      verdict.reason = kStarved;
      return {};
    }
    TestVerdict one;
    one.run = outcome_of(ran.end, ran.over_cpu, one.detail);
    if (one.run == RunOutcome::cancelled) {
      verdict.reason = "cancelled";
      return {};
    }
    if (one.run != RunOutcome::ok) one.outcome = io == nullptr && one.run == RunOutcome::nonzero_exit ? TestOutcome::fail : TestOutcome::error;
    else if (io != nullptr && submission.checker) {
      DROVER_TRY(one, check(submission, *io, ran.end.output, verdict, stop));
      if (!verdict.reason.empty()) return {};
    }
    else one.outcome = io == nullptr || agrees(ran.end.output, *io) ? TestOutcome::pass : TestOutcome::fail;
    verdict.tests.push_back(std::move(one));
  }
  return {};
}

Result<void> Slot::need_tests_sandbox() {
  if (tests_) return {};
  DROVER_TRY(Sandbox made, make_sandbox(options_, SandboxFor::tests));
  tests_.emplace(std::move(made));
  return {};
}

Result<TestVerdict> Slot::check(const Submission& submission, const IoTest& test, const std::string& printed, Verdict& verdict, const std::function<bool()>& stop) {
  const Checker& checker = *submission.checker;
  const Language* const language = find_language(options_, checker.language);
  if (language == nullptr || !std::filesystem::exists(language->needs)) {
    verdict.reason = fmt::format("unsupported: the checker's language '{}' is not here", checker.language.substr(0, 40));
    return TestVerdict{};
  }
  DROVER_CHECK(need_tests_sandbox());
  if (!language->compile.empty() && !(checker == checker_)) {
    DROVER_TRY(SandboxEnd end, tests_->run(compile_run(*language, checker.code), stop));
    if (end.kind != SandboxEndKind::exited || end.code != 0 || !end.taken) {
      verdict.reason = "unsupported: the checker does not compile";
      return TestVerdict{};
    }
    checker_ = checker;
    checker_artifact_ = std::move(*end.taken);
  }
  SandboxRun spec{.argv = language->run, .files = {{"input", test.input}, {"output", printed}, {"answer", test.output}}, .limits = {.cpu = tests_cpu(submission.limits), .wall = tests_cpu(submission.limits) * 3, .memory_bytes = std::uint64_t{1} << 30}};
  if (!language->bounded_address_space) spec.limits.address_bytes = 0;
  if (language->compile.empty()) spec.files.push_back({language->source, checker.code});
  else spec.files.push_back({language->artifact, checker_artifact_});
  for (const char* const name : {"input", "output", "answer"}) spec.argv.emplace_back(name);
  DROVER_TRY(const SandboxEnd end, tests_->run(spec, stop));
  if (end.kind == SandboxEndKind::cancelled) {
    verdict.reason = "cancelled";
    return TestVerdict{};
  }
  if (end.kind == SandboxEndKind::exited && end.code == 0) return TestVerdict{TestOutcome::pass, RunOutcome::ok, {}};
  if (end.kind == SandboxEndKind::exited && (end.code == 1 || end.code == 2)) return TestVerdict{TestOutcome::fail, RunOutcome::ok, {}};
  // What was printed made it fail, for all that is known: not passed.
  return TestVerdict{TestOutcome::error, RunOutcome::test_limit, end.kind == SandboxEndKind::exited ? fmt::format("checker exited {}", end.code) : fmt::format("checker {}", name_of(end.kind))};
}

Result<void> Slot::judge_inproc(const Submission& submission, const Language& language, Verdict& verdict, const std::function<bool()>& stop) {
  const std::string tests = inproc_tests(submission);
  SandboxRun spec{.argv = language.run,
                  .files = {{"candidate.py", submission.code}, {"tests.json", tests}},
                  .limits = sandbox_limits(submission.limits, language),
                  .take = kInprocResults,
                  .take_max = 1 << 20};
  use_program(spec, *sandbox_, "inproc", language, inproc_source());
  DROVER_TRY(const Ran ran, run(spec, submission.limits, verdict.measured, stop));
  std::string detail;
  const RunOutcome how = outcome_of(ran.end, ran.over_cpu, detail);
  if (how == RunOutcome::cancelled) verdict.reason = "cancelled";
  else if (ran.starved) verdict.reason = kStarved;
  else verdict.tests = read_inproc(ran.end.taken.value_or(""), submission.tests.size(), how, detail);
  if (how == RunOutcome::cpu_limit) over_the_limit(verdict.tests);
  return {};
}

Result<void> Slot::judge_split(const Submission& submission, const Language& language, Verdict& verdict, const std::function<bool()>& stop) {
  DROVER_CHECK(need_tests_sandbox());
  const std::string tests = split_tests(submission);
  SandboxRun candidate{.argv = language.run, .files = {{"candidate.py", submission.code}}, .limits = sandbox_limits(submission.limits, language)};
  SandboxRun tester{.argv = language.run, .files = {{"tests.json", tests}}, .limits = {.cpu = tests_cpu(submission.limits), .wall = candidate.limits.wall + tests_cpu(submission.limits)}, .take = kInprocResults, .take_max = 1 << 20};
  tester.limits.memory_bytes = std::uint64_t{1} << 30;
  use_program(candidate, *sandbox_, "split_candidate", language, split_candidate_source());
  use_program(tester, *tests_, "split_tests", language, split_tests_source());
  std::optional<std::pair<SandboxEnd, SandboxEnd>> ends;
  for (int tried = 1; tried <= 2; ++tried) {
    DROVER_TRY(ends, run_pair(*tests_, tester, *sandbox_, candidate, stop));
    note(verdict.measured, ends->second);
    verdict.measured.cpu += ends->first.cpu;
    if (tried == 2 || ends->first.kind == SandboxEndKind::cancelled || !repeats(ends->second, submission.limits, candidate.limits.wall, verdict.measured)) break;
  }
  const auto& [tested, ran] = *ends;
  if (tested.kind == SandboxEndKind::cancelled) {
    verdict.reason = "cancelled";
    return {};
  }
  if (tested.kind == SandboxEndKind::not_started) {
    verdict.reason = fmt::format("judge_error: the tests cannot be started: errno {}", tested.code);
    return {};
  }
  std::string detail;
  const bool over = ran.cpu >= submission.limits.cpu;
  if (was_starved(ran, candidate.limits.wall) && !over) {
    verdict.reason = kStarved;
    return {};
  }
  RunOutcome how = outcome_of(ran, over, detail);
  if (how == RunOutcome::nonzero_exit && ran.code == 9) how = RunOutcome::bad_protocol;  // its half of the harness gave up
  SplitResult read = read_split(tested.taken.value_or(""), submission.tests.size(), how, detail, tested);
  verdict.tests = std::move(read.tests);
  verdict.candidate_answers = read.candidate_answers;
  if (!read.unsupported.empty()) verdict.reason = "unsupported: a test passes an object that cannot be carried: " + read.unsupported;
  else if (over) over_the_limit(verdict.tests);
  return {};
}

}  // namespace drover::judge
