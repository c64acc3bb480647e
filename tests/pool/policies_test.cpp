// Goal: the policies a caller sets are what happens, with real processes. Each test is one sentence; executions are counted in the
// shared segment, which outlives every worker.

#include <thread>

#include "pool/support.hpp"

namespace drover::test {
namespace {

PoolOptions counting(PoolOptions options = {.workers = 2}) {
  options.shared_segment_bytes = std::uint64_t{64} << 10;
  return options;
}

// ---- retry and quarantine ----------------------------------------------------------------------------------------------------------

TEST(Retry, APoisonTaskIsTriedThreeTimesAndQuarantined) {
  TestPool pool({.workers = 2});
  const auto others = map_acts(*pool, among_ordinary({.deed = Deed::abort}));
  ASSERT_EQ(others.size(), 1u);
  EXPECT_EQ(others[0].error().outcome, Outcome(outcome::Quarantined{3})) << others[0].error().text();
  EXPECT_EQ(others[0].error().attempts, 3u);
  expect_usable(*pool);
  const PoolStatus s = pool->status();
  EXPECT_EQ(s.quarantined, 1u);
  EXPECT_EQ(pool.faults(), (Faults{{"crashed", 3}}));
}

TEST(Retry, ATransientFaultIsRetriedAndTheAnswerIsRight) {
  PoolOptions options = counting();
  options.limits.attempt_wall = kUnlimited;
  options.limits.stall = 500ms;
  TestPool pool(options);
  const auto others = map_acts(*pool, among_ordinary({.number = 9, .deed = Deed::spin_if_first}));
  ASSERT_EQ(others.size(), 1u);
  ASSERT_TRUE(others[0]) << others[0].error().text();
  EXPECT_EQ(*others[0], answer_of(9));
  EXPECT_EQ(pool.faults(), (Faults{{"stalled", 1}}));
}

TEST(Retry, AManyPoisonMapStillCompletesEverythingElse) {
  PoolOptions options{.workers = 2, .retry = {.blamed_max = 1}};
  TestPool pool(options);
  std::vector<Act> acts = ordinary(1000);
  for (std::size_t i = 50; i < acts.size(); i += 100) acts[i].deed = i % 200 == 50 ? Deed::segv : Deed::exit_0;
  const auto others = map_acts(*pool, acts);
  ASSERT_EQ(others.size(), 10u);
  for (const auto& r : others) EXPECT_EQ(r.error().outcome, Outcome(outcome::Quarantined{2})) << r.error().text();
  EXPECT_EQ(pool.faults(), (Faults{{"crashed", 10}, {"exited", 10}}));
}

TEST(Retry, AnEffectfulTaskIsNeverStartedTwiceHoweverItsWorkersDie) {
  constexpr std::uint64_t kTasks = 1000;
  TestPool pool(counting());
  ASSERT_TRUE(eventually([&] { return pool->status().keeper_pid != 0; }));
  const pid_t keeper = pool->status().keeper_pid;
  std::vector<Act> acts(kTasks);
  for (std::uint64_t i = 0; i < kTasks; ++i) acts[i] = {.number = i, .deed = Deed::count_slowly};
  std::uint64_t completed = 0, unknown = 0, other = 0, done = 0;
  auto results = pool->map(act_task, acts, {.effect = EffectClass::effectful});
  for (auto&& [id, result] : results) {
    const std::uint64_t times = cell(pool->shared_segment(), id.value).load();
    if (result) {
      ++completed;
      EXPECT_EQ(times, 1u);
    } else if (std::holds_alternative<outcome::UnknownEffect>(result.error().outcome)) {
      ++unknown;
      EXPECT_LE(times, 1u);
    } else {
      ++other;
    }
    if (++done % 20 == 0)
      for (const pid_t pid : children_of(keeper))
        if (signal_child(keeper, pid, SIGKILL)) break;
  }
  EXPECT_EQ(completed + unknown, kTasks);
  EXPECT_EQ(other, 0u);
  EXPECT_GE(unknown, 1u) << "no kill hit a running task: the test saw nothing";
  EXPECT_GE(completed, kTasks / 2);
  for (std::uint64_t i = 0; i < kTasks; ++i) EXPECT_LE(cell(pool->shared_segment(), i).load(), 1u) << i;
}

TEST(Retry, AnEffectfulTaskThatWasOnlyQueuedRunsElsewhereOnce) {
  TestPool pool(counting({.workers = 1}));
  std::vector<Act> acts;
  acts.push_back({.deed = Deed::abort});
  for (std::uint64_t i = 1; i < 50; ++i) acts.push_back({.number = i, .deed = Deed::count});
  std::uint64_t at = 0;
  for (auto&& [id, result] : pool->map(act_task, acts, {.effect = EffectClass::effectful})) {
    if (at++ == 0) {
      ASSERT_FALSE(result);
      EXPECT_TRUE(std::holds_alternative<outcome::UnknownEffect>(result.error().outcome)) << result.error().text();
    } else {
      EXPECT_TRUE(result) << result.error().text();
      EXPECT_EQ(cell(pool->shared_segment(), id.value).load(), 1u);
    }
  }
  EXPECT_EQ(at, 50u);
}

TEST(Retry, RestartIntensityGivesUpAndAnswersEveryTask) {
  PoolOptions options{.workers = 2, .retry = {.blamed_max = 1000, .free_max = 1000}};
  options.intensity = {.restarts = 5, .period = 60s};
  options.back_off.max = 10ms;
  TestPool pool(options);
  std::vector<Act> acts(40, Act{.deed = Deed::abort});
  std::size_t answered = 0;
  auto results = pool->map(act_task, acts);
  for (auto&& [id, result] : results) {
    ++answered;
    EXPECT_FALSE(result);
  }
  EXPECT_EQ(answered, 40u);
  const auto late = pool->submit(act_task, Act{});
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code(), ErrorCode::closed);
  EXPECT_NE(late.error().what().find("gave up"), std::string::npos) << late.error().what();
}

// ---- cancel, limits, endings ---------------------------------------------------------------------------------------------------------

TEST(Cancel, AQueuedTaskNeverRuns) {
  TestPool pool(counting({.workers = 1, .window = 1}));
  auto running = pool->submit(act_task, {.deed = Deed::sleep_polite}, pure());
  ASSERT_TRUE(eventually([&] { return cell(pool->shared_segment(), 0).load() == 1; }));
  auto queued = pool->submit(act_task, {.number = 1, .deed = Deed::count}, pure());
  ASSERT_TRUE(queued);
  pool->cancel(queued->task());
  EXPECT_EQ(text_of_result(await(queued)), "cancelled(queued)");
  EXPECT_EQ(cell(pool->shared_segment(), 1).load(), 0u);
  pool->cancel(running->task());
  const auto r = await(running);
  EXPECT_TRUE(r && *r && **r == answer_of(0)) << "it was asked to stop and answered: " << text_of_result(r);
  expect_usable(*pool);
}

TEST(Cancel, ATaskLeasedBehindARunningOneNeverRuns) {
  TestPool pool(counting({.workers = 1, .window = 64}));
  auto running = pool->submit(act_task, {.deed = Deed::sleep_polite}, pure());
  ASSERT_TRUE(eventually([&] { return cell(pool->shared_segment(), 0).load() == 1; }));
  auto behind = pool->submit(act_task, {.number = 1, .deed = Deed::count}, pure());
  ASSERT_TRUE(eventually([&] { return pool->status().leased == 2; }));
  pool->cancel(behind->task());
  EXPECT_EQ(text_of_result(await(behind)), "cancelled(queued)");
  EXPECT_EQ(cell(pool->shared_segment(), 1).load(), 0u);
  pool->cancel(running->task());
  EXPECT_EQ(text_of_result(await(running)), "completed");
}

TEST(Cancel, AMapLeftEarlyEndsItsTasksAndThePoolGoesOn) {
  TestPool pool({.workers = 2});
  std::size_t taken = 0;
  {
    auto results = pool->map(act_task, std::vector<Act>(2000, Act{.number = 1, .deed = Deed::spin_a_while, .argument = 200}));
    for (auto&& item : results) {
      (void)item;
      if (++taken == 10) break;
    }
  }
  expect_usable(*pool);
  EXPECT_TRUE(eventually([&] {
    const PoolStatus s = pool->status();
    return s.delivered == s.submitted && s.queued == 0 && s.leased == 0;
  }));
}

TEST(Cancel, AFutureNobodyKeepsCancelsItsTask) {
  TestPool pool(counting({.workers = 1, .window = 1}));
  auto running = pool->submit(act_task, {.deed = Deed::sleep_polite}, pure());
  ASSERT_TRUE(eventually([&] { return cell(pool->shared_segment(), 0).load() == 1; }));
  { auto dropped = pool->submit(act_task, {.number = 1, .deed = Deed::count}, pure()); }
  ASSERT_TRUE(eventually([&] { return pool->status().delivered == 1; }));
  pool->cancel(running->task());
  EXPECT_EQ(text_of_result(await(running)), "completed");
  EXPECT_EQ(cell(pool->shared_segment(), 1).load(), 0u);
}

TEST(Limits, TheQueueTimeEndsWhatWaitsAndNotWhatRuns) {
  TestPool pool(counting({.workers = 1, .window = 1}));
  auto running = pool->submit(act_task, {.deed = Deed::sleep_polite}, pure(TaskLimits{.queue = 200ms}));
  ASSERT_TRUE(eventually([&] { return cell(pool->shared_segment(), 0).load() == 1; }));
  auto waiting = pool->submit(act_task, Act{.number = 1}, pure(TaskLimits{.queue = 200ms}));
  EXPECT_EQ(text_of_result(await(waiting)), "timed_out(queue 200 ms)");
  pool->cancel(running->task());
  EXPECT_EQ(text_of_result(await(running)), "completed");
}

TEST(Limits, TheTaskTimeCountsOverRetries) {
  PoolOptions options{.workers = 1, .retry = {.blamed_max = 1'000'000}};
  options.intensity.restarts = 1'000'000;
  options.back_off = {.first = 20ms, .max = 20ms};
  TestPool pool(options);
  auto future = pool->submit(act_task, {.deed = Deed::abort}, pure(TaskLimits{.task = 1s}));
  EXPECT_EQ(text_of_result(await(future)), "timed_out(task 1 s)");
  expect_usable(*pool);
}

TEST(Limits, TheRunsBudgetEndsOpenTasks) {
  PoolOptions options{.workers = 2};
  options.run = 1s;
  TestPool pool(options);
  std::vector<Act> acts(300, Act{.deed = Deed::sleep_deaf});
  std::size_t timed_out = 0, answered = 0;
  auto results = pool->map(act_task, acts);
  for (auto&& [id, result] : results) {
    ++answered;
    const auto* end = result ? nullptr : std::get_if<outcome::TimedOut>(&result.error().outcome);
    if (end != nullptr && end->what == TimeoutKind::run) ++timed_out;
    else ADD_FAILURE() << (result ? "completed" : result.error().text());
  }
  EXPECT_GE(answered, 1u);
  EXPECT_EQ(timed_out, answered);
  EXPECT_TRUE(answered == 300 || results.error());
  const auto late = pool->submit(act_task, Act{});
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code(), ErrorCode::closed);
}

TEST(Shutdown, DrainFinishesEverythingThatWasGiven) {
  TestPool pool({.workers = 2});
  detail::Stream stream = pool->stream();
  for (std::uint64_t i = 0; i < 3000; ++i) {
    auto in_place = stream.stage(*act_task.function, sizeof(Act), in(kPatience));
    ASSERT_TRUE(in_place);
    Codec<Act>::encode({.number = i}, *in_place);
  }
  stream.flush();
  ASSERT_TRUE(pool->shutdown(Shutdown::drain, in(kPatience)));
  std::vector<detail::Delivery> all, some;
  while (stream.open() != 0) {
    some.clear();
    ASSERT_NE(stream.take(some, in(kPatience)), 0u);
    for (auto& d : some) {
      EXPECT_TRUE(d.completed);
      all.push_back(std::move(d));
    }
  }
  EXPECT_EQ(all.size(), 3000u);
}

TEST(Shutdown, DrainPastItsDeadlineCancelsTheRest) {
  TestPool pool(counting({.workers = 2, .window = 1, .ladder = {.ask = 50ms, .term = 50ms}}));
  std::vector<Result<Future<std::uint64_t>>> futures;
  for (int i = 0; i < 2; ++i) futures.push_back(pool->submit(act_task, {.deed = Deed::sleep_deaf}, pure()));
  ASSERT_TRUE(eventually([&] { return cell(pool->shared_segment(), 0).load() == 2; }));
  for (int i = 0; i < 10; ++i) futures.push_back(pool->submit(act_task, Act{.number = 1}, pure()));
  ASSERT_TRUE(pool->shutdown(Shutdown::drain, in(300ms)));
  for (std::size_t i = 0; i < futures.size(); ++i) EXPECT_EQ(text_of_result(await(futures[i])), i < 2 ? "cancelled(running)" : "cancelled(queued)");
}

TEST(Shutdown, KillAnswersEverybodyAtOnce) {
  PoolOptions options = counting({.workers = 2, .window = 1});
  options.ladder = {.ask = 3600s, .term = 3600s};  // nobody waits for these
  TestPool pool(options);
  std::vector<Result<Future<std::uint64_t>>> futures;
  for (int i = 0; i < 2; ++i) futures.push_back(pool->submit(act_task, {.deed = Deed::sleep_deaf}, pure()));
  ASSERT_TRUE(eventually([&] { return cell(pool->shared_segment(), 0).load() == 2; }));
  for (int i = 0; i < 10; ++i) futures.push_back(pool->submit(act_task, Act{.number = 1}, pure()));
  ASSERT_TRUE(pool->shutdown(Shutdown::kill));
  for (auto& f : futures) {
    const std::string text = text_of_result(await(f));
    EXPECT_TRUE(text.starts_with("cancelled(")) << text;
  }
}

TEST(Shutdown, AHarderRequestOverridesASofterOneThatWaits) {
  TestPool pool(counting({.workers = 1, .ladder = {.ask = 50ms, .term = 50ms}}));
  auto running = pool->submit(act_task, {.deed = Deed::sleep_deaf}, pure());
  ASSERT_TRUE(eventually([&] { return cell(pool->shared_segment(), 0).load() == 1; }));
  std::thread drainer([&] { EXPECT_TRUE(pool->shutdown(Shutdown::drain)); });  // would wait for ever
  EXPECT_TRUE(eventually([&] { return !pool->submit(act_task, Act{}); }));
  EXPECT_TRUE(pool->shutdown(Shutdown::cancel));
  drainer.join();
  EXPECT_EQ(text_of_result(await(running)), "cancelled(running)");
}

TEST(Shutdown, TasksStagedButNotHandedOverBeforeTheEndAreAnswered) {
  TestPool pool({.workers = 2});
  detail::Stream stream = pool->stream();
  for (std::uint64_t i = 0; i < 10; ++i) {
    auto in_place = stream.stage(*act_task.function, sizeof(Act), in(kPatience));
    ASSERT_TRUE(in_place);
    Codec<Act>::encode({.number = i}, *in_place);
  }
  EXPECT_TRUE(pool->shutdown(Shutdown::cancel));
  std::vector<detail::Delivery> arrived;
  ASSERT_EQ(stream.take(arrived, in(5s)), 10u) << "a caller would wait for ever";
  for (const auto& d : arrived) {
    ASSERT_FALSE(d.completed);
    EXPECT_EQ(text_of(*d.outcome), "rejected(closing)");
  }
}

TEST(Shutdown, CallersRacingWithTheEndAreAllAnswered) {
  for (int round = 0; round < scaled(10, 200); ++round) {
    TestPool pool({.workers = 2});
    std::atomic<std::uint64_t> given{0}, answered{0};
    std::vector<std::thread> callers;
    for (int t = 0; t < 4; ++t)
      callers.emplace_back([&] {
        for (;;) {
          auto future = pool->submit(act_task, Act{.number = 5}, pure());
          if (!future) return;
          ++given;
          if (future->get(in(30s))) ++answered;
        }
      });
    pass(Nanos(Millis(round % 7)));
    EXPECT_TRUE(pool->shutdown(round % 2 == 0 ? Shutdown::cancel : Shutdown::kill));
    for (auto& t : callers) t.join();
    EXPECT_EQ(answered.load(), given.load());
  }
}

TEST(Shutdown, TheDestructorIsBoundedWithAStoppedAndASpinningWorker) {
  const TimePoint begin = system_clock().now();
  {
    TestPool pool(counting({.workers = 3, .window = 1}));
    auto stopped = pool->submit(act_task, {.deed = Deed::stop_self}, pure());
    auto spinning = pool->submit(act_task, {.deed = Deed::spin}, pure());
    auto deaf = pool->submit(act_task, {.deed = Deed::sleep_deaf}, pure());
    ASSERT_TRUE(eventually([&] { return pool->status().leased == 3 && cell(pool->shared_segment(), 0).load() == 1; }));
  }
  EXPECT_LT(system_clock().now() - begin, Nanos(20s));
}

// ---- workers -----------------------------------------------------------------------------------------------------------------------

std::uint32_t serving(const PoolStatus& s) {
  return static_cast<std::uint32_t>(std::ranges::count_if(s.workers, [](const WorkerView& w) { return w.host_pid != 0; }));
}

TEST(Workers, TheirNumberShrinksAndGrowsWithoutLosingATask) {
  TestPool pool({.workers = 3});
  std::vector<Act> acts = ordinary(20000);
  std::size_t at = 0, right = 0;
  for (auto&& [id, result] : pool->map(act_task, acts)) {
    right += result && *result == answer_of(acts[at].number);
    if (++at % 500 == 0) pool->set_workers(1 + static_cast<std::uint32_t>(at / 500 % 3));
  }
  EXPECT_EQ(right, acts.size());
  pool->set_workers(1);
  EXPECT_TRUE(eventually([&] { return serving(pool->status()) == 1; }));
  EXPECT_TRUE(map_acts(*pool, ordinary(500)).empty());
  pool->set_workers(99);  // as many as there were
  expect_usable(*pool);
}

TEST(Workers, RecyclingByTasksReplacesThemAndLosesNothing) {
  PoolOptions options{.workers = 2};
  options.recycling.tasks = 100;  // at least: the old one works on until the new one is ready
  TestPool pool(options);
  for (const auto& r : map_acts(*pool, std::vector<Act>(3000, Act{.number = 4, .deed = Deed::spin_a_while, .argument = 300}))) EXPECT_TRUE(r && *r == answer_of(4));
  EXPECT_TRUE(eventually([&] { return pool->status().spawns >= 2 + 4; })) << describe(pool->status());
  EXPECT_TRUE(pool.faults().empty());
}

TEST(Workers, RecyclingByAgeReplacesThemAndLosesNothing) {
  PoolOptions options{.workers = 2};
  options.recycling.age = 150ms;
  TestPool pool(options);
  std::vector<Act> acts(400, Act{.number = 4, .deed = Deed::spin_a_while, .argument = 4000});
  for (const auto& r : map_acts(*pool, acts)) EXPECT_TRUE(r && *r == answer_of(4));
  EXPECT_TRUE(eventually([&] { return pool->status().spawns >= 4; }));
  EXPECT_TRUE(pool.faults().empty());
}

TEST(Workers, RecyclingByMemoryGrowthReplacesThemAndLosesNothing) {
  PoolOptions options{.workers = 2};
  options.recycling.rss_growth_bytes = std::uint64_t{64} << 20;
  TestPool pool(options);
  std::vector<Act> acts(40, Act{.number = 4, .deed = Deed::grow, .argument = 24 << 10});
  for (const auto& r : map_acts(*pool, acts)) EXPECT_TRUE(r && *r == answer_of(4));
  EXPECT_TRUE(eventually([&] { return pool->status().spawns >= 4; }));
  EXPECT_TRUE(pool.faults().empty());
}

TEST(Workers, StateStartsOncePerWorkerAndLivesAsLongAsIt) {
  TestPool pool({.workers = 1});
  std::uint64_t expected = 0;
  for (auto&& [id, result] : pool->map(counter_task, std::vector<Act>(100, Act{.deed = Deed::count}))) {
    ASSERT_TRUE(result) << result.error().text();
    EXPECT_EQ(*result, ++expected);
  }
  (void)map_acts(*pool, {Act{.deed = Deed::kill_self}});
  for (auto&& [id, result] : pool->map(counter_task, std::vector<Act>(1, Act{.deed = Deed::count}))) {
    ASSERT_TRUE(result) << result.error().text();
    EXPECT_EQ(*result, 1u) << "a new worker begins anew";
  }
}

// ---- room ----------------------------------------------------------------------------------------------------------------------------

TEST(Room, AFullPoolRefusesByTasksAtTheDeadlineAndTakesAgainLater) {
  TestPool pool(counting({.workers = 1, .window = 1, .tasks_max = 4}));
  std::vector<Result<Future<std::uint64_t>>> futures;
  futures.push_back(pool->submit(act_task, {.deed = Deed::sleep_polite}, pure()));
  ASSERT_TRUE(eventually([&] { return cell(pool->shared_segment(), 0).load() == 1; }));
  for (int i = 0; i < 3; ++i) futures.push_back(pool->submit(act_task, Act{.number = 1}, pure()));
  for (const auto& f : futures) ASSERT_TRUE(f);
  for (const TimePoint deadline : {kPast, in(100ms)}) {
    const auto refused = pool->submit(act_task, Act{.number = 2}, {.effect = EffectClass::pure, .deadline = deadline});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), ErrorCode::timed_out);
  }
  pool->cancel(futures[0]->task());
  auto taken = pool->submit(act_task, Act{.number = 2}, {.effect = EffectClass::pure, .deadline = in(kPatience)});
  const auto r = await(taken);
  EXPECT_TRUE(r && *r && **r == answer_of(2));
}

TEST(Room, AFullPoolRefusesByBytesAtTheDeadlineAndTakesAgainLater) {
  PoolOptions options = counting({.workers = 1, .window = 1});
  options.bytes_max = 1 << 20;
  TestPool pool(options);
  auto running = pool->submit(act_task, {.deed = Deed::sleep_polite}, pure());
  ASSERT_TRUE(eventually([&] { return cell(pool->shared_segment(), 0).load() == 1; }));
  auto first = pool->submit(invert_task, Bytes(600 << 10), pure());
  ASSERT_TRUE(first);
  const auto refused = pool->submit(invert_task, Bytes(600 << 10), {.effect = EffectClass::pure, .deadline = in(100ms)});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::timed_out);
  pool->cancel(running->task());
  auto second = pool->submit(invert_task, Bytes(600 << 10), {.effect = EffectClass::pure, .deadline = in(kPatience)});
  EXPECT_EQ(text_of_result(await(second)), "completed");
  // One larger than bytes_max passes when nothing else is open: bounded, and never stuck.
  EXPECT_EQ(text_of_result(await(first)), "completed");
  auto alone = pool->submit(invert_task, Bytes(3 << 20), {.effect = EffectClass::pure, .deadline = in(kPatience)});
  EXPECT_EQ(text_of_result(await(alone)), "completed");
}

TEST(Room, EightThreadsSubmitAndEachGetsItsOwnAnswers) {
  PoolOptions options{.workers = 2};
  options.tasks_max = 64;
  TestPool pool(options);
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (std::uint64_t t = 0; t < 8; ++t)
    callers.emplace_back([&, t] {
      for (std::uint64_t i = 0; i < 300; ++i) {
        auto future = pool->submit(act_task, Act{.number = t * 1000 + i}, {.effect = EffectClass::pure, .deadline = in(kPatience)});
        if (!future) {
          ++wrong;
          continue;
        }
        const auto r = future->get(in(kPatience));
        if (!r || !*r || **r != answer_of(t * 1000 + i)) ++wrong;
      }
    });
  for (auto& t : callers) t.join();
  EXPECT_EQ(wrong.load(), 0);
  EXPECT_TRUE(eventually([&] { return pool->status().delivered == 2400; }));
}

TEST(Room, LargeAndSmallResultsOfManyTasksKeepTheirBytes) {
  TestPool pool({.workers = 2});
  std::vector<Bytes> inputs;
  Rng rng(5);
  for (int i = 0; i < 600; ++i) {
    Bytes b(i % 50 == 0 ? std::size_t{2} << 20 : rng.below(3000));
    for (std::byte& x : b) x = static_cast<std::byte>(rng());
    inputs.push_back(std::move(b));
  }
  std::size_t at = 0, wrong = 0;
  for (auto&& [id, result] : pool->map(invert_task, inputs)) {
    const Bytes& input = inputs[at++];
    if (!result || result->size() != input.size()) {
      ++wrong;
      continue;
    }
    for (std::size_t i = 0; i < input.size(); ++i)
      if ((*result)[i] != ~input[i]) {
        ++wrong;
        break;
      }
  }
  EXPECT_EQ(at, inputs.size());
  EXPECT_EQ(wrong, 0u);
}

// ---- broadcast and shared segment ----------------------------------------------------------------------------------------------------

TEST(Broadcast, EachTaskSeesTheVersionItWasSubmittedWith) {
  TestPool pool({.workers = 2});
  std::vector<Result<Future<std::uint64_t>>> futures;
  futures.push_back(pool->submit(act_task, {.deed = Deed::broadcast}, pure()));
  std::vector<std::uint64_t> expected{0};
  for (std::uint64_t v = 1; v <= 30; ++v) {
    const Bytes bytes(1000 * v, static_cast<std::byte>(v));
    const auto version = pool->broadcast(bytes);
    ASSERT_TRUE(version) << version.error().what();
    EXPECT_EQ(*version, v);
    for (int i = 0; i < 5; ++i) {
      futures.push_back(pool->submit(act_task, {.deed = Deed::broadcast}, pure()));
      expected.push_back((v << 16) | (v << 8) | v);
    }
  }
  for (std::size_t i = 0; i < futures.size(); ++i) {
    const auto r = await(futures[i]);
    ASSERT_TRUE(r && *r) << text_of_result(r);
    EXPECT_EQ(**r, expected[i]);
  }
}

TEST(Broadcast, EditingInPlaceIsBusyWhileATaskHoldsItAndANewVersionAfterwards) {
  TestPool pool(counting({.workers = 1, .window = 1}));
  ASSERT_TRUE(pool->broadcast(Bytes(100, std::byte{1})));
  const auto edit = [](std::span<std::byte> bytes) { std::ranges::fill(bytes, std::byte{2}); };
  auto holder = pool->submit(act_task, {.deed = Deed::sleep_polite}, pure());
  ASSERT_TRUE(eventually([&] { return cell(pool->shared_segment(), 0).load() == 1; }));
  const auto busy = pool->edit_broadcast(edit);
  ASSERT_FALSE(busy);
  EXPECT_EQ(busy.error().code(), ErrorCode::busy);
  pool->cancel(holder->task());
  EXPECT_EQ(text_of_result(await(holder)), "completed");
  const auto edited = pool->edit_broadcast(edit);
  ASSERT_TRUE(edited) << edited.error().what();
  EXPECT_EQ(*edited, 2u);
  auto reader = pool->submit(act_task, {.deed = Deed::broadcast}, pure());
  const auto r = await(reader);
  ASSERT_TRUE(r && *r);
  EXPECT_EQ(**r, (2u << 16) | (2u << 8) | 2u);
}

TEST(Broadcast, ARetriedTaskSeesTheVersionOfItsSubmission) {
  TestPool pool(counting({.workers = 1, .limits = {.stall = 500ms}}));
  ASSERT_TRUE(pool->broadcast(Bytes(10, std::byte{1})));
  auto hung = pool->submit(act_task, {.number = 3, .deed = Deed::spin_if_first}, pure());
  auto first = pool->submit(act_task, {.deed = Deed::broadcast}, pure());
  ASSERT_TRUE(pool->broadcast(Bytes(10, std::byte{2})));
  auto second = pool->submit(act_task, {.deed = Deed::broadcast}, pure());
  EXPECT_EQ(text_of_result(await(hung)), "completed");
  const auto a = await(first), b = await(second);
  ASSERT_TRUE(a && *a && b && *b);
  EXPECT_EQ(**a, (1u << 16) | (1u << 8) | 1u);
  EXPECT_EQ(**b, (2u << 16) | (2u << 8) | 2u);
}

TEST(SharedSegment, AllWorkersAndTheOwnerSeeTheSameCells) {
  TestPool pool(counting({.workers = 2}));
  cell(pool->shared_segment(), 5).store(1000);
  std::vector<Act> acts(500, Act{.number = 5, .deed = Deed::count});
  for (const auto& r : map_acts(*pool, acts)) EXPECT_TRUE(r);
  EXPECT_EQ(cell(pool->shared_segment(), 5).load(), 1500u);
}

}  // namespace
}  // namespace drover::test
