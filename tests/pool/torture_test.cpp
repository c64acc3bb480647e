// Goal: a worker that misbehaves costs its own task and nothing else. Method: real tasks in real workers, one evil among 200
// ordinary ones; each test asserts the exact ending of the evil one, that every ordinary one completed with the right answer in
// id order, and that the pool is whole and usable afterwards.

#include <cmath>

#include "pool/support.hpp"
#include "wire/layout.hpp"

namespace drover::test {
namespace {

PoolOptions strict() { return {.workers = 2, .retry = {.blamed_max = 0}, .ladder = {.ask = 50ms, .term = 50ms}}; }
PoolOptions with(PoolOptions options, const TaskLimits& limits) {
  options.limits = limits;
  return options;
}

/// One evil among ordinary ones: its ending and what the pool saw. The pool is proven usable.
struct Ending {
  std::string text;
  Faults faults;
  std::string last_fault;
  std::optional<std::uint64_t> answer;
};
Ending torture(const PoolOptions& options, const Act& evil, std::size_t count = 200) {
  TestPool pool(options);
  auto others = map_acts(*pool, among_ordinary(evil, count));
  Ending e;
  if (others.size() == 1) {
    e.text = others[0] ? "completed" : others[0].error().text();
    if (others[0]) e.answer = *others[0];
  }
  expect_usable(*pool);
  e.faults = pool.faults();
  e.last_fault = pool.last_fault();
  return e;
}

// ---- never ends --------------------------------------------------------------------------------------------------------------------

TEST(Torture, ASpinningTaskIsEndedByItsWallTime) {
  const Ending e = torture(with(strict(), {.attempt_wall = 300ms}), {.deed = Deed::spin});
  EXPECT_EQ(e.text, "timed_out(attempt_wall 300 ms)");
  EXPECT_EQ(e.faults, (Faults{{"timed_out", 1}}));
}

TEST(Torture, ASpinningTaskIsEndedByItsCpuTime) {
  const Ending e = torture(with(strict(), {.attempt_cpu = 200ms}), {.deed = Deed::spin});
  EXPECT_EQ(e.text, "timed_out(attempt_cpu 200 ms)");
  EXPECT_EQ(e.faults, (Faults{{"timed_out", 1}}));
}

TEST(Torture, ASleepingTaskUsesNoCpuTimeAndIsEndedByItsTaskTime) {
  TestPool pool(strict());
  auto future = pool->submit(act_task, {.deed = Deed::sleep}, pure(TaskLimits{.attempt_cpu = 100ms, .task = 1s}));
  EXPECT_EQ(text_of_result(await(future)), "timed_out(task 1 s)");
  expect_usable(*pool);
}

TEST(Torture, ASpinningTaskWithoutProgressIsStalledSpinning) {
  // The verdict needs more than half a core for the silence: on a machine that is busy with other things the silence is long.
  const Ending e = torture(with(strict(), {.stall = 2s}), {.deed = Deed::spin});
  EXPECT_EQ(e.text, "quarantined(1 blamed attempts)");
  EXPECT_EQ(e.faults, (Faults{{"stalled", 1}}));
  if (e.last_fault.starts_with("stalled(blocked")) GTEST_SKIP() << "this machine gave a spinning worker less than half a core: " << e.last_fault;
  EXPECT_TRUE(e.last_fault.starts_with("stalled(spinning")) << e.last_fault;
}

TEST(Torture, ASleepingTaskWithoutProgressIsStalledBlocked) {
  const Ending e = torture(with(strict(), {.stall = 400ms}), {.deed = Deed::sleep});
  EXPECT_EQ(e.text, "quarantined(1 blamed attempts)");
  EXPECT_EQ(e.faults, (Faults{{"stalled", 1}}));
  EXPECT_TRUE(e.last_fault.starts_with("stalled(blocked")) << e.last_fault;
}

TEST(Torture, AStoppedWorkerIsStalledStopped) {
  const Ending e = torture(with(strict(), {.stall = 400ms}), {.deed = Deed::stop_self});
  EXPECT_EQ(e.text, "quarantined(1 blamed attempts)");
  EXPECT_EQ(e.faults, (Faults{{"stalled", 1}}));
  EXPECT_TRUE(e.last_fault.starts_with("stalled(stopped")) << e.last_fault;
}

TEST(Torture, AStoppedWorkerIsEndedByItsWallTime) {
  const Ending e = torture(with(strict(), {.attempt_wall = 300ms}), {.deed = Deed::stop_self});
  EXPECT_EQ(e.text, "timed_out(attempt_wall 300 ms)");
}

TEST(Torture, WorkWithProgressIsNotStalledHoweverLongItTakes) {
  const Ending e = torture(with(strict(), {.stall = 1s}), {.number = 7, .deed = Deed::spin_a_while, .argument = 2'500'000});
  EXPECT_EQ(e.text, "completed");
  EXPECT_EQ(e.answer, answer_of(7));
  EXPECT_TRUE(e.faults.empty());
}

TEST(Torture, AWorkerThatIgnoresTermIsKilledAfterItsGraces) {
  PoolOptions options = strict();
  options.shared_segment_bytes = 4096;
  TestPool pool(options);
  auto future = pool->submit(act_task, {.deed = Deed::sleep_deaf}, pure());
  ASSERT_TRUE(future);
  ASSERT_TRUE(eventually([&] { return cell(pool->shared_segment(), 0).load() == 1; }));
  pool->cancel(future->task());
  EXPECT_EQ(text_of_result(await(future)), "cancelled(running)");
  expect_usable(*pool);
  EXPECT_EQ(pool.faults(), (Faults{{"cancelled", 1}}));
}

// ---- dies ------------------------------------------------------------------------------------------------------------------------

struct Death {
  const char* name;
  Deed deed;
  const char* fault;
  const char* last;
};
class Deaths : public ::testing::TestWithParam<Death> {};
TEST_P(Deaths, CostItsOwnTaskAndIsNamed) {
  const Ending e = torture(strict(), {.deed = GetParam().deed});
  EXPECT_EQ(e.text, "quarantined(1 blamed attempts)");
  EXPECT_EQ(e.faults, (Faults{{GetParam().fault, 1}}));
  EXPECT_EQ(e.last_fault, GetParam().last);
}
INSTANTIATE_TEST_SUITE_P(Torture, Deaths,
                         ::testing::Values(Death{"Exit0", Deed::exit_0, "exited", "exited(0)"}, Death{"Abort", Deed::abort, "crashed", "crashed(SIGABRT)"},
                                           Death{"Segv", Deed::segv, "crashed", "crashed(SIGSEGV)"}, Death{"Fpe", Deed::fpe, "crashed", "crashed(SIGFPE)"}),
                         [](const auto& one) { return one.param.name; });

TEST(Torture, ASigkillNobodyExplainsIsFreeTwiceAndTheThirdLonelyOneIsBlamed) {
  const Ending e = torture(strict(), {.deed = Deed::kill_self});
  EXPECT_EQ(e.text, "quarantined(1 blamed attempts)");
  EXPECT_EQ(e.faults, (Faults{{"lost", 2}, {"crashed", 1}}));
  EXPECT_EQ(e.last_fault, "crashed(SIGKILL)");
}

TEST(Torture, AWorkerThatBecomesAnotherProgramIsReplaced) {
  // The exec is seen as a death; whether the other program ends by itself before it is killed is a race with two right answers.
  const Ending e = torture(strict(), {.deed = Deed::exec_other});
  EXPECT_EQ(e.text, "quarantined(1 blamed attempts)");
  for (const auto& [kind, n] : e.faults) EXPECT_TRUE(kind == "lost" || kind == "exited" || kind == "crashed") << kind;
}

TEST(Torture, AWorkerWhoseMainThreadEndsAloneIsReplaced) {
  const Ending e = torture(with(strict(), {.attempt_wall = 20s}), {.deed = Deed::end_main_thread});
  EXPECT_EQ(e.text, "quarantined(1 blamed attempts)") << "without a death watch only the wall time would have ended it";
  EXPECT_EQ(e.faults, (Faults{{"lost", 2}, {"crashed", 1}}));
}

TEST(Torture, AChildForkedByATaskCannotAnswerInItsParentsPlace) {
  TestPool pool(with(strict(), {.attempt_wall = 20s}));
  for (int round = 0; round < 20; ++round) {
    std::vector<Act> acts = ordinary(100);
    for (std::size_t i = 5; i < acts.size(); i += 10) acts[i].deed = Deed::fork_and_return;
    for (const auto& r : map_acts(*pool, acts)) EXPECT_TRUE(r) << r.error().text();
  }
  expect_usable(*pool);
  EXPECT_TRUE(pool.faults().empty());
}

// ---- leaves something behind ---------------------------------------------------------------------------------------------------------

TEST(Torture, GrandchildrenOfADeadWorkerAreGoneWhileThePoolGoesOn) {
  const Scratch scratch;
  const std::string fifo = scratch / "holders";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  const UniqueFd reader(::open(fifo.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  PoolOptions options = strict();
  options.setup = bytes_of(fifo);
  TestPool pool(options);
  if (pool->status().layers.containment == LimitLayer::absent && !eventually([&] { return pool->status().layers.containment != LimitLayer::absent; }, 2s))
    GTEST_SKIP() << "no PID namespace here: best effort";
  const auto others = map_acts(*pool, among_ordinary({.deed = Deed::escape_and_abort}));
  ASSERT_EQ(others.size(), 1u);
  EXPECT_EQ(others[0].error().text(), "quarantined(1 blamed attempts)");
  EXPECT_TRUE(Pipe::wait_bytes(reader.get(), 1, in(kPatience))) << "the grandchild never stood";
  EXPECT_TRUE(Pipe::wait_end(reader.get(), in(kPatience))) << "the grandchild outlived its worker";
  expect_usable(*pool);
}

TEST(Torture, GrandchildrenOfAHealthyWorkerAreGoneWithThePool) {
  const Scratch scratch;
  const std::string fifo = scratch / "holders";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  const UniqueFd reader(::open(fifo.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  PoolOptions options = strict();
  options.setup = bytes_of(fifo);
  {
    TestPool pool(options);
    std::vector<Act> acts = ordinary(100);
    for (std::size_t i = 0; i < acts.size(); i += 10) acts[i].deed = Deed::escape;
    for (const auto& r : map_acts(*pool, acts)) EXPECT_TRUE(r) << r.error().text();
    EXPECT_TRUE(Pipe::wait_bytes(reader.get(), 10, in(kPatience)));
    expect_usable(*pool);
  }
  EXPECT_TRUE(Pipe::wait_end(reader.get(), in(kPatience)));
}

TEST(Torture, AForkBombStopsAtItsProcessLimit) {
  constexpr std::uint32_t kProcesses = 24;
  PoolOptions options = strict();
  options.worker.processes = kProcesses;
  options.limits.attempt_wall = 60s;
  auto tried = Pool::start(options);
  if (!tried) GTEST_SKIP() << tried.error().what();
  tried = fail(ErrorCode::closed, "");
  const Ending e = torture(options, {.deed = Deed::fork_bomb});
  EXPECT_EQ(e.text, "completed");
  ASSERT_TRUE(e.answer);
  EXPECT_GT(*e.answer, 0u);
  EXPECT_LT(*e.answer, kProcesses);
}

// ---- takes too much ------------------------------------------------------------------------------------------------------------------

TEST(Torture, ALeakingWorkerIsOutOfMemoryByOurLimit) {
  PoolOptions options = strict();
  options.worker.memory_bytes = std::uint64_t{192} << 20;
  const Ending e = torture(options, {.deed = Deed::leak});
  EXPECT_TRUE(e.text.starts_with("out_of_memory(")) << e.text;
  EXPECT_NE(e.text.find("192 MiB"), std::string::npos) << e.text;
  EXPECT_EQ(e.faults, (Faults{{"out_of_memory", 1}}));
}

TEST(Torture, AFloodToAStdoutNobodyReadsCostsItsOwnTask) {
  Pipe nobody(O_CLOEXEC);
  std::fflush(stdout);
  const UniqueFd before(::fcntl(1, F_DUPFD_CLOEXEC, 10));
  ::dup2(nobody.write_end.get(), 1);
  const Ending e = torture(with(strict(), {.attempt_wall = 500ms}), {.deed = Deed::flood_stdout, .argument = 8});
  ::dup2(before.get(), 1);
  EXPECT_EQ(e.text, "timed_out(attempt_wall 500 ms)");
  EXPECT_EQ(e.faults, (Faults{{"timed_out", 1}}));
}

TEST(Torture, AFloodThatIsReadHarmsNobody) {
  std::fflush(stdout);
  const UniqueFd null(::open("/dev/null", O_WRONLY | O_CLOEXEC));
  const UniqueFd before(::fcntl(1, F_DUPFD_CLOEXEC, 10));
  ::dup2(null.get(), 1);
  const Ending e = torture(strict(), {.number = 3, .deed = Deed::flood_stdout, .argument = 64});
  ::dup2(before.get(), 1);
  EXPECT_EQ(e.text, "completed");
  EXPECT_EQ(e.answer, answer_of(3));
}

TEST(Torture, AResultAboveTheLimitIsAnErrorOfItsTask) {
  TestPool pool(strict());
  auto future = pool->submit(reserve_task, kPayloadBytesMax + 1, pure());
  const auto r = await(future);
  ASSERT_TRUE(r && !*r);
  const auto* app = std::get_if<outcome::AppError>(&r->error().outcome);
  ASSERT_NE(app, nullptr) << r->error().text();
  EXPECT_NE(app->reason.find("is larger than " + std::to_string(kPayloadBytesMax)), std::string::npos) << app->reason;
  auto most = pool->submit(reserve_task, std::uint64_t{kPayloadBytesMax}, pure());
  EXPECT_EQ(text_of_result(await(most)), "completed");
  expect_usable(*pool);
}

TEST(Torture, AnInputAboveTheLimitIsRefusedBeforeItIsATask) {
  TestPool pool(strict());
  detail::Stream stream = pool->stream();
  const auto staged = stream.stage(invert_function, kPayloadBytesMax + 1, kPast);
  ASSERT_FALSE(staged);
  EXPECT_EQ(staged.error().code(), ErrorCode::no_space);
  EXPECT_EQ(pool->status().submitted, 0u);
  expect_usable(*pool);
}

TEST(Torture, AQuarterOfAGibibyteGoesThereAndBack) {
  TestPool pool(strict());
  constexpr std::size_t kSize = std::size_t{256} << 20;
  detail::Stream stream = pool->stream();
  auto input = stream.stage(invert_function, kSize, in(kPatience));
  ASSERT_TRUE(input) << input.error().what();
  const auto word_at = [](std::size_t i) { return i * 0x9e3779b97f4a7c15u; };
  for (std::size_t i = 0; i < kSize; i += 8) {
    const std::uint64_t word = word_at(i);
    std::memcpy(input->data() + i, &word, 8);
  }
  std::vector<detail::Delivery> arrived;
  ASSERT_EQ(stream.take(arrived, in(kPatience)), 1u);
  ASSERT_TRUE(arrived[0].completed) << text_of(*arrived[0].outcome);
  const BytesView result = arrived[0].bytes();
  ASSERT_EQ(result.size(), kSize);
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < kSize; i += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, result.data() + i, 8);
    wrong += word != ~word_at(i);
  }
  EXPECT_EQ(wrong, 0u);
  expect_usable(*pool);
}

// ---- says no -----------------------------------------------------------------------------------------------------------------------

TEST(Torture, ExceptionsAndErrorsAreTheTasksOwnWordsAndNeverRetried) {
  TestPool pool({.workers = 2});
  std::vector<Act> acts = ordinary(300);
  acts[10].deed = Deed::throw_std;
  acts[20].deed = Deed::throw_int;
  acts[30].deed = Deed::error;
  const auto others = map_acts(*pool, acts);
  ASSERT_EQ(others.size(), 3u);
  const char* reasons[] = {"thrown on purpose", "an exception that is not a std::exception", "refused on purpose"};
  for (std::size_t i = 0; i < 3; ++i) {
    ASSERT_FALSE(others[i]);
    EXPECT_EQ(others[i].error().outcome, Outcome(outcome::AppError{reasons[i]})) << others[i].error().text();
    EXPECT_EQ(others[i].error().attempts, 1u);
  }
  expect_usable(*pool);
  EXPECT_EQ(pool->status().deaths, 0u) << "an exception is no reason to lose a worker";
  EXPECT_EQ(pool.faults(), (Faults{{"app_error", 3}}));
}

// ---- lies on its channel -------------------------------------------------------------------------------------------------------------

/// One lease at a time, so that a lying worker holds nobody else's task.
PoolOptions one_at_a_time() {
  PoolOptions options{.workers = 2, .window = 1};
  options.limits.attempt_wall = 10s;
  options.intensity.restarts = 1000;
  return options;
}

void expect_harmless_or_own_fault(const std::vector<TaskResult<std::uint64_t>>& others, const std::function<std::uint64_t(std::size_t)>& number_of) {
  for (std::size_t i = 0; i < others.size(); ++i) {
    if (others[i]) {
      EXPECT_EQ(*others[i], answer_of(number_of(i)));
      continue;
    }
    const std::string text = others[i].error().text();
    EXPECT_TRUE(text.starts_with("quarantined(") || text.starts_with("timed_out(attempt_wall")) << text;
  }
}

TEST(Torture, AWorkerThatWritesOverAnyLineOfItsMemoryHarmsItselfOnly) {
  constexpr std::uint32_t kLines = wire::kArenaOffset / 64;
  const std::uint32_t stride = scaled(8u, 1u);
  TestPool pool(one_at_a_time());
  std::vector<Act> acts;
  std::vector<std::uint64_t> numbers;
  for (std::uint32_t line = 0; line < kLines; ++line) {
    // The control page's own lines always, of the rings some.
    if (line >= 16 && line % stride != 3 % stride) continue;
    acts.push_back({.number = 1000 + line, .deed = Deed::garble, .argument = line});
    numbers.push_back(1000 + line);
    for (std::uint64_t i = 0; i < 4; ++i) acts.push_back({.number = line * 10 + i});
  }
  const auto others = map_acts(*pool, acts);
  ASSERT_EQ(others.size(), numbers.size());
  expect_harmless_or_own_fault(others, [&](std::size_t i) { return numbers[i]; });
  expect_usable(*pool);
  const PoolStatus s = pool->status();
  EXPECT_EQ(s.delivered, s.submitted);
}

TEST(Torture, AWorkerThatWritesGarbageOverAllItsMemoryHarmsItselfOnly) {
  TestPool pool(one_at_a_time());
  std::vector<Act> acts = ordinary(400);
  std::vector<std::uint64_t> numbers;
  for (std::size_t i = 0; i < acts.size(); i += 40) {
    acts[i].deed = Deed::garble_all;
    numbers.push_back(acts[i].number);
  }
  const auto others = map_acts(*pool, acts);
  ASSERT_EQ(others.size(), numbers.size());
  expect_harmless_or_own_fault(others, [&](std::size_t i) { return numbers[i]; });
  expect_usable(*pool);
}

TEST(Torture, AWorkerThatClosesAllItsDescriptorsKeepsNobodyWaiting) {
  // Its bell is gone, so it can neither wake nor be woken: it ends itself after its answer and is replaced.
  TestPool pool(strict());
  for (int round = 0; round < 10; ++round) {
    auto future = pool->submit(act_task, {.number = 5, .deed = Deed::close_fds}, pure());
    const TimePoint asked = system_clock().now();
    const auto r = await(future);
    ASSERT_TRUE(r && *r) << text_of_result(r);
    EXPECT_EQ(**r, answer_of(5));
    EXPECT_LT(system_clock().now() - asked, Nanos(2s)) << "found by a periodic look only";
    EXPECT_TRUE(map_acts(*pool, ordinary(50)).empty());
  }
  expect_usable(*pool);
}

// ---- cannot start ------------------------------------------------------------------------------------------------------------------

PoolOptions starting(std::string_view how) {
  PoolOptions options{.workers = 2};
  options.intensity.restarts = 3;
  options.back_off.max = 20ms;
  options.start_grace = 10s;
  options.setup = bytes_of(how);
  options.warm_up = counter_task.function;
  return options;
}
/// Every task of a pool whose workers cannot start is answered, with the reason.
std::string gives_up_with(const PoolOptions& options) {
  TestPool pool(options);
  std::string text;
  std::size_t answered = 0;
  auto results = pool->map(counter_task, ordinary(50));
  for (auto&& [id, result] : results) {
    ++answered;
    EXPECT_FALSE(result);
    if (!result) {
      EXPECT_TRUE(text_of(result.error().outcome).starts_with("start_failed(") || text_of(result.error().outcome).starts_with("rejected(closing")) << result.error().text();
      if (text.empty()) text = result.error().text();
    }
  }
  // Tasks offered after it gave up are refused, with the same reason.
  EXPECT_TRUE(answered == 50 || results.error()) << answered;
  const auto late = pool->submit(act_task, Act{}, pure());
  EXPECT_FALSE(late);
  if (late) return text;
  EXPECT_EQ(late.error().code(), ErrorCode::closed);
  if (text.empty()) text = late.error().what();
  return text;
}

TEST(Start, AnErrorWhileStartingIsInTheAnswerOfEveryTask) {
  const std::string text = gives_up_with(starting("fail"));
  EXPECT_NE(text.find("no licence for this computation"), std::string::npos) << text;
}
TEST(Start, ACrashWhileStartingIsInTheAnswerOfEveryTask) {
  const std::string text = gives_up_with(starting("crash"));
  EXPECT_NE(text.find("SIGABRT"), std::string::npos) << text;
}
TEST(Start, AnExceptionWhileStartingIsInTheAnswerOfEveryTask) {
  const std::string text = gives_up_with(starting("throw"));
  EXPECT_NE(text.find("thrown while starting"), std::string::npos) << text;
}
TEST(Start, AWorkerThatHangsWhileStartingIsKilledAfterItsGrace) {
  PoolOptions options = starting("hang");
  options.start_grace = 300ms;
  options.intensity.restarts = 2;
  const std::string text = gives_up_with(options);
  EXPECT_NE(text.find("start_failed"), std::string::npos) << text;
}
TEST(Start, AStartThatWorksTheThirdTimeLosesNothing) {
  PoolOptions options = starting("flaky");
  options.shared_segment_bytes = 4096;
  TestPool pool(options);
  std::size_t right = 0;
  for (auto&& [id, result] : pool->map(counter_task, ordinary(200))) right += result && *result == answer_of(id.value);
  EXPECT_EQ(right, 200u);
  EXPECT_TRUE(eventually([&] { return cell(pool->shared_segment(), 0).load() >= 4; })) << "two failed starts and two good ones";
}
TEST(Start, WithoutWarmUpAFailedStartOfStateIsTheTasksError) {
  PoolOptions options = starting("fail");
  options.warm_up = nullptr;
  TestPool pool(options);
  for (auto&& [id, result] : pool->map(counter_task, ordinary(20))) {
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().outcome, Outcome(outcome::AppError{"no licence for this computation"})) << result.error().text();
  }
  expect_usable(*pool);
}
TEST(Start, WithoutWarmUpACrashingStartOfStateIsBlamedOnItsTask) {
  PoolOptions options = starting("crash");
  options.warm_up = nullptr;
  options.retry.blamed_max = 1;
  TestPool pool(options);
  auto future = pool->submit(counter_task, Act{}, pure());
  EXPECT_EQ(text_of_result(await(future)), "quarantined(2 blamed attempts)");
  expect_usable(*pool);
  EXPECT_EQ(pool.faults(), (Faults{{"crashed", 2}}));
}

}  // namespace
}  // namespace drover::test
