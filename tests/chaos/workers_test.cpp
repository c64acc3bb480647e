// Goal: whatever dies whenever, every task is answered exactly once and rightly. Method: one stream of small tasks, counted by its
// position; at points of the stream drawn from a seed, workers are SIGKILLed or SIGSTOPped, the keeper or the watchdog is
// SIGKILLed. Counted at the end: answers per task, wrong answers, the pool's own counters, descriptors.

#include "chaos/seed.hpp"
#include "pool/support.hpp"

namespace drover::test {
namespace {

enum class Blow : std::uint8_t { kill_worker, stop_worker, kill_keeper, kill_watchdog };
struct Storm {
  std::uint64_t tasks = 0;
  std::uint32_t workers = 2;
  std::uint64_t kills = 0, stops = 0, keepers = 0, watchdogs = 0;
};

void weather(const Storm& storm) {
  Rng rng(chaos_seed());
  std::vector<std::pair<std::uint64_t, Blow>> blows;  // after so many answers
  const auto plan = [&](std::uint64_t count, Blow blow) {
    for (std::uint64_t i = 0; i < count; ++i) blows.emplace_back(rng.below(storm.tasks * 95 / 100), blow);
  };
  plan(storm.kills, Blow::kill_worker);
  plan(storm.stops, Blow::stop_worker);
  plan(storm.keepers, Blow::kill_keeper);
  plan(storm.watchdogs, Blow::kill_watchdog);
  std::ranges::sort(blows);

  PoolOptions options{.workers = storm.workers, .oversubscribe = true};
  options.limits.stall = 1s;       // finds the stopped ones
  options.intensity.restarts = 200;
  options.back_off.max = 50ms;
  options.ladder.reap = 30s;       // a starved keeper reaps late: 2 s would call its dead workers unkillable and retire their slots
  options.tasks_max = 1024;
  TestPool pool(options);
  expect_usable(*pool);
  const std::size_t descriptors = open_descriptors();

  constexpr std::uint64_t kOpen = 512, kLargeEvery = 61;
  detail::Stream stream = pool->stream();
  std::vector<std::uint8_t> answers(storm.tasks);
  std::vector<detail::Delivery> arrived;
  std::uint64_t given = 0, taken = 0, wrong = 0, failed = 0;
  std::uint64_t done[4]{};
  std::size_t next = 0;
  std::vector<TimePoint> watchdog_kills;
  std::vector<pid_t> dying;  // workers killed and not yet reaped
  pid_t last_keeper = 0, last_watchdog = 0;
  std::string first_failure;
  const auto strike = [&](Blow blow) {
    const PoolStatus s = pool->status();
    bool hit = false;
    switch (blow) {
      case Blow::kill_worker:
      case Blow::stop_worker: {
        const std::vector<pid_t> workers = children_of(s.keeper_pid);
        std::erase_if(dying, [&](pid_t pid) { return std::ranges::find(workers, pid) == workers.end(); });
        if (workers.empty()) return false;
        const pid_t victim = workers[rng.below(workers.size())];
        if (std::ranges::find(dying, victim) != dying.end()) return false;  // a second blow would be counted and not felt
        hit = signal_child(s.keeper_pid, victim, blow == Blow::kill_worker ? SIGKILL : SIGSTOP);
        if (hit && blow == Blow::kill_worker) dying.push_back(victim);
        break;
      }
      case Blow::kill_keeper:
        if (s.keeper_pid == last_keeper) return false;  // the status still shows the dead one
        hit = signal_helper(s.keeper_pid, SIGKILL);
        if (hit) last_keeper = s.keeper_pid;
        break;
      case Blow::kill_watchdog: {
        // Three within ten seconds are meant to end the run: somebody does not want it to be watched.
        const TimePoint now = system_clock().now();
        std::erase_if(watchdog_kills, [&](TimePoint t) { return now - t > Nanos(11s); });
        if (s.watchdog_pid == last_watchdog || s.watchdog_pid == 0) return false;
        if (watchdog_kills.size() >= 2) return true;  // not this time
        hit = signal_helper(s.watchdog_pid, SIGKILL);
        if (hit) {
          watchdog_kills.push_back(now);
          last_watchdog = s.watchdog_pid;
        }
        break;
      }
    }
    done[static_cast<std::size_t>(blow)] += hit;
    return hit;
  };
  while (taken < storm.tasks) {
    // The work waits for a blow that found nobody to hit (the status is up to 100 ms old): otherwise it would be over first.
    const bool overdue = next < blows.size() && blows[next].first + 1000 <= taken;
    if (overdue && given == taken) {
      ASSERT_TRUE(eventually([&] { return strike(blows[next].second); })) << "nobody to hit; " << describe(pool->status());
      ++next;
      continue;
    }
    for (; !overdue && given < storm.tasks && given - taken < kOpen; ++given) {
      if (given % kLargeEvery == 0) {
        auto in_place = stream.stage(invert_function, 1000 + given % 500, in(kPatience));
        ASSERT_TRUE(in_place) << in_place.error().what();
        std::ranges::fill(*in_place, static_cast<std::byte>(given));
      } else {
        auto in_place = stream.stage(*act_task.function, sizeof(Act), in(kPatience));
        ASSERT_TRUE(in_place) << in_place.error().what();
        Codec<Act>::encode({.number = given}, *in_place);
      }
    }
    arrived.clear();
    ASSERT_NE(stream.take(arrived, in(kPatience)), 0u) << "nothing came for " << kPatience.count() / 1'000'000'000 << " s; " << taken << " of " << storm.tasks << " answered";
    for (const detail::Delivery& d : arrived) {
      ++taken;
      ASSERT_LT(d.tag, given);
      ++answers[d.tag];
      if (!d.completed) {
        if (++failed == 1) first_failure = text_of(*d.outcome);
      } else if (d.tag % kLargeEvery == 0) {
        const BytesView bytes = d.bytes();
        wrong += bytes.size() != 1000 + d.tag % 500 || std::ranges::any_of(bytes, [&](std::byte b) { return b != ~static_cast<std::byte>(d.tag); });
      } else {
        const auto value = Codec<std::uint64_t>::decode(d.bytes());
        wrong += !value || *value != answer_of(d.tag);
      }
      while (next < blows.size() && blows[next].first <= taken && strike(blows[next].second)) ++next;
    }
  }
  EXPECT_EQ(failed, 0u) << first_failure;
  EXPECT_EQ(wrong, 0u);
  EXPECT_EQ(std::ranges::count(answers, 0), 0) << "lost";
  EXPECT_EQ(std::ranges::count_if(answers, [](std::uint8_t n) { return n > 1; }), 0) << "answered twice";
  expect_usable(*pool);
  EXPECT_TRUE(eventually([&] { return open_descriptors() <= descriptors + 1; })) << descriptors << " descriptors became " << open_descriptors();
  const PoolStatus s = pool->status();
  EXPECT_EQ(s.delivered, s.submitted);
  EXPECT_EQ(s.failed, 0u);
  EXPECT_GE(done[0], storm.kills * 9 / 10);
  EXPECT_GE(s.deaths, storm.kills * 8 / 10) << "blows that fell on the dead";
  std::printf("%llu tasks, each answered once; %llu workers killed, %llu stopped, %llu keepers and %llu watchdogs killed; "
              "%llu deaths, %llu retries, %llu late results discarded\n",
              static_cast<unsigned long long>(taken), static_cast<unsigned long long>(done[0]), static_cast<unsigned long long>(done[1]),
              static_cast<unsigned long long>(done[2]), static_cast<unsigned long long>(done[3]), static_cast<unsigned long long>(s.deaths),
              static_cast<unsigned long long>(s.retries), static_cast<unsigned long long>(s.late_discarded));
  const Faults faults = pool.faults();
  for (const auto& [kind, n] : faults) {
    std::printf("  %s %llu\n", kind.c_str(), static_cast<unsigned long long>(n));
    EXPECT_TRUE(kind == "lost" || kind == "stalled" || kind == "crashed") << kind;
  }
}

TEST(Chaos, RandomSigkillsOfWorkersLoseNothingAndRepeatNothing) {
  weather({.tasks = scaled<std::uint64_t>(250'000, 5'500'000), .workers = 4, .kills = scaled<std::uint64_t>(500, 11'000)});
}

TEST(Chaos, WithStoppedWorkersDeadKeepersAndDeadWatchdogsToo) {
  weather({.tasks = scaled<std::uint64_t>(60'000, 1'000'000), .workers = 4, .kills = scaled<std::uint64_t>(50, 1000), .stops = scaled<std::uint64_t>(8, 100),
           .keepers = scaled<std::uint64_t>(8, 200), .watchdogs = scaled<std::uint64_t>(2, 20)});
}

}  // namespace
}  // namespace drover::test
