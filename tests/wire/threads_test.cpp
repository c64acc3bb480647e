// Goal: two sides that run at the same time, as they do, never see half a lease or ending, never lose or repeat one, and never
// sleep on work. Method: the real classes of both sides in threads of one process over a real incarnation memory, real eventfds
// and poll; a million tasks with leases taken back at random and results let go of by a third thread. Every wait is bounded: a
// bell that does not ring in time is a lost wake-up and fails. The sanitizers run these with half the tasks.

#include <gtest/gtest.h>
#include <poll.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "wire/support.hpp"

namespace drover::test {
namespace {

constexpr int kBoundMillis = 20'000;

struct Plan {
  std::uint64_t tasks = 0;
  std::uint32_t window = 64;          ///< leases open at most
  std::uint32_t take_back_one_in = 0; ///< turns of the loop; 0 = never
  std::uint32_t large_one_in = 0;     ///< tasks; 0 = never
  std::uint64_t arena_bytes = 16384;
};

bool wait_for(const EventFd& bell) {
  pollfd one{bell.fd(), POLLIN, 0};
  const bool rang = ::poll(&one, 1, kBoundMillis) == 1;
  (void)bell.drain();
  return rang;
}

class Pair {
 public:
  Pair(const Plan& plan, std::uint64_t seed) : plan_(plan), link_(make_link(plan.arena_bytes)), runs_(plan.tasks), rng_(seed, TaskId(0)) {
    fill_with_garbage(link_->memory()->view(), plan.arena_bytes);
  }

  void run() {
    std::jthread worker([this] { work(); });
    std::jthread releaser([this] { release(); });
    supervise();
    link_->control().stop.store(1, std::memory_order_seq_cst);
    link_->memory()->worker_bell.ring();
    worker.join();
    {
      const std::lock_guard lock(mutex_);
      no_more_ = true;
    }
    to_release_.notify_one();
    releaser.join();
    EXPECT_EQ(trouble_.load(), nullptr) << trouble_.load();
    if (trouble_.load() != nullptr) return;
    for (std::uint64_t task = 0; task < plan_.tasks; ++task) ASSERT_EQ(runs_[task], 1) << "task " << task;
    std::printf("%llu tasks, %llu taken back, %llu sleeps of the supervisor, %llu of the worker, %llu waits for room\n", static_cast<unsigned long long>(plan_.tasks),
                static_cast<unsigned long long>(taken_back_), static_cast<unsigned long long>(supervisor_slept_), static_cast<unsigned long long>(worker_slept_),
                static_cast<unsigned long long>(waited_for_room_));
  }

 private:
  Kind kind_of(std::uint64_t task) const { return plan_.large_one_in != 0 && task % plan_.large_one_in == 0 ? (task % 3 == 0 ? Kind::many : Kind::large) : Kind::small; }
  void give_up(const char* why) {
    const char* none = nullptr;
    trouble_.compare_exchange_strong(none, why);
    link_->control().stop.store(1);
    link_->memory()->worker_bell.ring();
    link_->supervisor_bell().ring();
  }

  void supervise() {
    struct Lease {
      std::uint64_t task;
      std::uint32_t epoch;
      bool open;
    };
    std::deque<Lease> given;            // in order
    std::deque<Lease> again;            // taken back, to be given once more
    std::uint64_t next = 0, answered = 0;
    std::array<wire::Completion, 16> batch;
    while (answered < plan_.tasks && trouble_.load(std::memory_order_relaxed) == nullptr) {
      const std::size_t window = 1 + rng_() % plan_.window;
      while (link_->leases() < window && (!again.empty() || next < plan_.tasks)) {
        const Lease lease = again.empty() ? Lease{next, 1, true} : again.front();
        if (!link_->lease(TaskId(lease.task), Epoch(lease.epoch), 0, 0, payload_of(kind_of(lease.task), lease.task))) break;
        if (again.empty()) ++next;
        else again.pop_front();
        given.push_back(lease);
      }
      link_->publish();
      if (plan_.take_back_one_in != 0 && !given.empty() && rng_() % plan_.take_back_one_in == 0) {
        Lease& l = given[rng_() % given.size()];
        if (l.open && link_->revoke(TaskId(l.task), Epoch(l.epoch))) {
          l.open = false;
          again.push_back({l.task, l.epoch + 1, true});
          ++taken_back_;
        }
      }
      const auto read = link_->read(batch);
      for (std::size_t i = 0; i < read.count; ++i) {
        while (!given.empty() && !given.front().open) given.pop_front();
        if (given.empty() || !is_right(*link_, batch[i], kind_of(given.front().task), given.front().task, given.front().epoch))
          return give_up("an ending is not the right one of the oldest lease");
        given.pop_front();
        ++answered;
        if (batch[i].extent != wire::kNoExtent) {
          {
            const std::lock_guard lock(mutex_);
            held_.push_back(link_->hold(batch[i].extent));
          }
          to_release_.notify_one();
        }
      }
      if (read.complaint != nullptr) return give_up(read.complaint);
      if (read.count != 0 || link_->leases() == 0) continue;
      link_->set_supervisor_sleeping(true);
      if (!link_->has_completions()) {
        ++supervisor_slept_;
        if (!wait_for(link_->supervisor_bell())) return give_up("the supervisor was not woken");
      }
      link_->set_supervisor_sleeping(false);
    }
  }

  void work() {
    wire::ControlPage& control = link_->control();
    SmallWorker worker(link_->memory()->view(), plan_.arena_bytes);
    const auto stopping = [&] { return control.stop.load(std::memory_order_seq_cst) != 0; };
    const auto sleep_unless = [&](auto awake) {
      control.worker_sleeping.store(1, std::memory_order_seq_cst);
      if (!awake() && !stopping()) {
        ++worker_slept_;
        if (!wait_for(link_->memory()->worker_bell)) give_up("the worker was not woken");
      }
      control.worker_sleeping.store(0, std::memory_order_relaxed);
    };
    while (!stopping()) {
      const wire::Slot* slot = worker.claim();
      if (slot == nullptr) {
        sleep_unless([&] { return worker.has_work(); });
        continue;
      }
      if (slot->task >= plan_.tasks || !is_whole(*slot, kind_of(slot->task), slot->task, slot->epoch)) return give_up("a lease is not whole");
      ++runs_[slot->task];
      std::optional<wire::Completion> answer;
      while (!(answer = worker.answer(*slot)) && !stopping()) {
        ++waited_for_room_;
        sleep_unless([&] { return (answer = worker.answer(*slot)).has_value(); });
        if (answer) break;
      }
      if (answer && worker.publish(*answer)) link_->supervisor_bell().ring();
    }
  }

  void release() {
    std::vector<std::shared_ptr<const void>> mine;
    for (;;) {
      {
        std::unique_lock lock(mutex_);
        to_release_.wait_for(lock, std::chrono::milliseconds(kBoundMillis), [this] { return no_more_ || !held_.empty(); });
        if (held_.empty()) return;
        mine.swap(held_);
      }
      while (!mine.empty()) mine.pop_back();  // the youngest first
    }
  }

  Plan plan_;
  std::unique_ptr<WorkerLink> link_;
  std::vector<std::uint8_t> runs_;   ///< the worker's, until it is joined
  Rng rng_;
  std::atomic<const char*> trouble_{nullptr};
  std::uint64_t taken_back_ = 0, supervisor_slept_ = 0, worker_slept_ = 0, waited_for_room_ = 0;
  std::mutex mutex_;
  std::condition_variable to_release_;
  std::vector<std::shared_ptr<const void>> held_;
  bool no_more_ = false;
};

constexpr std::uint64_t kMany = kSanitized ? 500'000 : 1'000'000;

TEST(Threads, AMillionTasksArriveInOrderAndOnceWhileLeasesAreTakenBack) {
  const std::uint64_t seed = seed_or(11);
  SCOPED_TRACE("DROVER_TEST_SEED=" + std::to_string(seed));
  Pair({.tasks = kMany, .window = 128, .take_back_one_in = 3}, seed).run();
}

TEST(Threads, OneTaskAtATimeNobodySleepsOn) {
  const std::uint64_t seed = seed_or(12);
  SCOPED_TRACE("DROVER_TEST_SEED=" + std::to_string(seed));
  Pair({.tasks = kMany / 20, .window = 2, .take_back_one_in = 5}, seed).run();
}

TEST(Threads, ResultsInAFullArenaWaitForRoomAndGetIt) {
  const std::uint64_t seed = seed_or(13);
  SCOPED_TRACE("DROVER_TEST_SEED=" + std::to_string(seed));
  Pair({.tasks = kMany / 5, .window = 16, .take_back_one_in = 7, .large_one_in = 2, .arena_bytes = 8192}, seed).run();
}

}  // namespace
}  // namespace drover::test
