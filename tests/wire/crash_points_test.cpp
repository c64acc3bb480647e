// Goal: a worker or a supervisor may die between any two instructions, and whatever one side has published the other finds
// whole, once, and attributed to the right task; and no wake-up is lost whatever the other side does between two instructions.
// Method: the real worker main loop (and the real WorkerLink) in a child under ptrace, taken to every instruction of a region
// (stepper.hpp) and there killed, or held while the other side acts. Negative controls, each a worker or supervisor with one
// store in the wrong place, must be caught.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <new>

#include "os/poller.hpp"
#include "support/long.hpp"
#include "wire/stepper.hpp"
#include "wire/support.hpp"
#include "worker/worker_main.hpp"

namespace drover::test {
namespace {

using wire::Claim;

constexpr std::uint64_t kBegin = 5;   ///< the task whose function begins the region
constexpr std::uint64_t kEnd = 30;    ///< the task whose function ends everything

/// What the child did, told through memory that has nothing to do with the protocol. Stored before (entered) or after (the
/// rest) the fact, so what it says has happened.
struct Witness {
  std::array<std::atomic<std::uint32_t>, 32> entered{}, revoked{}, read{};
  std::atomic<std::uint32_t> wrong{0};
};
Witness* witness() {
  static Witness* const page = [] {
    void* memory = ::mmap(nullptr, sizeof(Witness), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return new (memory) Witness();
  }();
  return page;
}

struct Order {
  std::uint64_t task;
  Kind kind;
};

// ---- the real worker -------------------------------------------------------------------------------------------------------------

/// The task function of these tests, called by the real worker.
Result<void> run_order(BytesView input, ResultWriter& result, Context& context, void*) {
  const std::uint64_t task = context.task().value;
  witness()->entered[task].fetch_add(1, std::memory_order_relaxed);
  if (task == kBegin || task == kEnd) marker();
  std::array<std::uint64_t, 2> words{};
  if (input.size() != 16) return fail(ErrorCode::corrupt, "an input of another size");
  std::memcpy(words.data(), input.data(), 16);
  if (words[1] != mixed(task, 7)) return fail(ErrorCode::corrupt, "the input of another task");
  const auto kind = static_cast<Kind>(words[0]);
  if (kind == Kind::refusal) {
    std::string reason(40, ' ');
    write_answer(kind, task, reinterpret_cast<std::byte*>(reason.data()));
    return fail(ErrorCode::refused, std::move(reason));
  }
  DROVER_TRY(std::span<std::byte> out, result.reserve(answer_size(kind, task)));
  write_answer(kind, task, out.data());
  return {};
}
const TaskFunction kOrderFunction{.name = "order", .run = &run_order, .start = nullptr};
const worker::Registry& orders() {
  static const worker::Registry registry{.functions = {&kOrderFunction}, .hash = 77, .initialised = true};
  return registry;
}

const Memfd& pool_memory() {
  static const Memfd memory = [] {
    auto made = Memfd::create("pool", 8192, MemfdUse::published);
    auto mapping = made->map_writable();
    new (mapping->data()) wire::PoolPage();
    return std::move(*made);
  }();
  return memory;
}

[[noreturn]] void become_worker(const WorkerLink& link) {
  std::array<int, 4> from = {link.memory()->memory.fd(), link.memory()->worker_bell.fd(), link.supervisor_bell().fd(), pool_memory().fd()};
  for (int& fd : from) fd = ::fcntl(fd, F_DUPFD, 100);
  const std::array<int, 4> to = {wire::kIncarnationFd, wire::kWorkerBellFd, wire::kSupervisorBellFd, wire::kPoolFd};
  for (std::size_t i = 0; i < 4; ++i) ::dup2(from[i], to[i]);
  worker::worker_main(orders());
}

/// The dynamic linker binds a function at its first call: thousands of instructions that are not ours. Calls them once here;
/// the children inherit the bindings.
void bind_functions() {
  static const bool done = [] {
    auto poller = Poller::create();
    auto bell = EventFd::create();
    (void)poller->add(bell->fd(), 0);
    bell->ring();
    std::vector<std::uint64_t> ready;
    (void)poller->wait(kNever, ready);
    (void)bell->drain();
    return true;
  }();
  (void)done;
}

// ---- scenes ----------------------------------------------------------------------------------------------------------------------

std::uint64_t hash_words(std::uint64_t h, const void* from, std::size_t bytes) {
  const auto* words = static_cast<const std::uint64_t*>(from);
  for (std::size_t i = 0; i < bytes / 8; ++i) h = (h ^ words[i]) * 0x9e3779b97f4a7c15u + (h >> 29);
  return h;
}

/// The supervisor's side of every scene with a worker in the child: leases given, endings read, and what must hold when the
/// worker is dead.
class WorkerScene : public Scene {
 public:
  WorkerScene(std::vector<Order> given, std::uint64_t arena_bytes) : orders_(std::move(given)), arena_bytes_(arena_bytes) {
    bind_functions();
    new (witness()) Witness();
    link_ = make_link(arena_bytes, orders().hash, pool_memory().size());
    fill_with_garbage(view(), arena_bytes);
    for (const Order& o : orders_) lease(o);
    link_->publish();
  }
  std::uint64_t signature() const override {
    std::uint64_t h = hash_words(1, view().base, offsetof(wire::ControlPage, death_word));
    return hash_words(h, view().base + wire::kSubmissionOffset, wire::kArenaOffset - wire::kSubmissionOffset + arena_bytes_);
  }
  void child() override { become_worker(*link_); }

  /// After the worker's death: drain, attribute, take back, and let a fresh worker do the rest.
  std::vector<std::string> judge() override {
    drain();
    const std::optional<TaskId> started = link_->started();
    for (const Order& o : orders_) {
      const std::uint32_t entered = witness()->entered[o.task].load();
      if (entered > 1) wrong("task " + std::to_string(o.task) + " was run twice");
      if (delivered_[o.task] > 1) wrong("task " + std::to_string(o.task) + " was answered twice");
      if (taken_back_[o.task]) {
        if (entered != 0) wrong("task " + std::to_string(o.task) + " ran though it had been taken back");
        continue;
      }
      if (delivered_[o.task] != 0) {
        if (entered == 0) wrong("task " + std::to_string(o.task) + " was answered and never run");
        continue;
      }
      const bool is_started = started && started->value == o.task;
      if (entered != 0 && !is_started) wrong("task " + std::to_string(o.task) + " had been started and nobody is charged for it");
      const bool back = link_->revoke(TaskId(o.task), Epoch(1));
      if (back && is_started) wrong("task " + std::to_string(o.task) + " was taken back though it had been claimed");
      if (!back && !is_started) wrong("task " + std::to_string(o.task) + " could not be taken back though nobody had claimed it");
    }
    if (link_->leases() != (started ? 1u : 0u)) wrong("more than one task is claimed and unanswered");
    finish_elsewhere();
    return std::move(wrong_);
  }

 protected:
  wire::IncarnationView view() const { return link_->memory()->view(); }
  void wrong(std::string what) { wrong_.push_back(std::move(what)); }
  void lease(const Order& o) {
    if (!link_->lease(TaskId(o.task), Epoch(1), 0, 0, payload_of(o.kind, o.task))) wrong("a lease was refused");
  }
  bool take_back(std::uint64_t task) { return taken_back_[task] = link_->revoke(TaskId(task), Epoch(1)); }
  void drain() {
    std::array<wire::Completion, 4> batch;
    for (;;) {
      const auto read = link_->read(batch);
      for (std::size_t i = 0; i < read.count; ++i) {
        const auto of = std::ranges::find(orders_, batch[i].task, &Order::task);
        if (of == orders_.end() || !is_right(*link_, batch[i], of->kind, of->task, 1)) wrong("the ending of task " + std::to_string(batch[i].task) + " is not whole and right");
        else ++delivered_[of->task];
        if (batch[i].extent != wire::kNoExtent) (void)link_->hold(batch[i].extent);  // read, and let go of
      }
      if (read.complaint != nullptr) {
        wrong(read.complaint);
        return;
      }
      if (read.count == 0) return;
    }
  }
  void finish_elsewhere() {
    const auto fresh = make_link(arena_bytes_);
    std::vector<Order> rest;
    for (const Order& o : orders_)
      if (delivered_[o.task] == 0) rest.push_back(o);
    for (const Order& o : rest) (void)fresh->lease(TaskId(o.task), Epoch(2), 0, 0, payload_of(o.kind, o.task));
    fresh->publish();
    SmallWorker worker(fresh->memory()->view(), arena_bytes_);
    std::size_t at = 0;
    std::array<wire::Completion, 4> batch;
    while (const wire::Slot* slot = worker.claim()) {
      if (!is_whole(*slot, rest[at].kind, rest[at].task, 2)) wrong("a fresh worker was given a torn task");
      const auto answer = worker.answer(*slot);
      if (!answer) {
        wrong("a fresh worker has no room");
        return;
      }
      (void)worker.publish(*answer);
      const auto read = fresh->read(batch);
      if (read.count != 1 || read.complaint != nullptr || !is_right(*fresh, batch[0], rest[at].kind, rest[at].task, 2)) wrong("a fresh worker's answer is not right");
      if (read.count == 1 && batch[0].extent != wire::kNoExtent) (void)fresh->hold(batch[0].extent);
      ++at;
    }
    if (at != rest.size()) wrong("a fresh worker did not finish the rest exactly once");
  }

  std::vector<Order> orders_;
  std::uint64_t arena_bytes_;
  std::unique_ptr<WorkerLink> link_;
  std::array<std::uint32_t, 32> delivered_{};
  std::array<bool, 32> taken_back_{};
  std::vector<std::string> wrong_;
};

/// One task of each kind to warm the code up, the beginning, then one of each kind for the region and one that is taken back.
std::vector<Order> one_of_each() {
  return {{1, Kind::small},  {2, Kind::large}, {3, Kind::refusal}, {4, Kind::nothing}, {kBegin, Kind::small}, {6, Kind::small},
          {7, Kind::large},  {8, Kind::small}, {9, Kind::refusal}, {10, Kind::nothing}, {11, Kind::small}};
}

class RealWorker final : public WorkerScene {
 public:
  RealWorker() : WorkerScene(one_of_each(), 65536) {
    if (!take_back(8)) wrong("a task nobody has seen could not be taken back");
  }
};

/// The same worker, held at every point while the supervisor reads, takes a lease back, gives a new one and goes to sleep.
class HeldWorker final : public WorkerScene {
 public:
  HeldWorker() : WorkerScene(one_of_each(), 65536) {
    (void)take_back(8);
    link_->set_supervisor_sleeping(false);
  }
  void intervene() override {
    drain();
    (void)take_back(11);
    orders_.push_back({kEnd, Kind::small});
    lease(orders_.back());
    link_->publish();
    (void)link_->supervisor_bell().drain();
    link_->set_supervisor_sleeping(true);
    asleep_ = !link_->has_completions();
  }
  std::vector<std::string> judge() override {
    if (asleep_ && link_->has_completions() && link_->supervisor_bell().drain() == 0) wrong("the supervisor sleeps, an ending is there, and its bell was not rung");
    drain();
    for (const Order& o : orders_)
      if (o.task != kEnd && delivered_[o.task] != (taken_back_[o.task] ? 0u : 1u)) wrong("task " + std::to_string(o.task) + " was answered " + std::to_string(delivered_[o.task]) + " times");
    if (link_->started() != TaskId(kEnd)) wrong("the last task is not known as started");
    return WorkerScene::judge();
  }

 private:
  bool asleep_ = false;
};

/// A worker with no room for its result, held at every point while the supervisor lets go of the one that fills the arena.
class WorkerWithoutRoom final : public WorkerScene {
 public:
  WorkerWithoutRoom() : WorkerScene({{1, Kind::large}, {2, Kind::many}, {kBegin, Kind::small}, {6, Kind::many}, {kEnd, Kind::small}}, 4096) {}
  void intervene() override {
    drain();
    held_ = true;
  }
  std::vector<std::string> judge() override {
    drain();
    if (held_ && delivered_[6] != 1) wrong("the result that waited for room never came");
    return WorkerScene::judge();
  }

 private:
  bool held_ = false;
};

// ---- workers with one store in the wrong place -------------------------------------------------------------------------------------

enum class Fault { none, tail_before_slot, claim_after_run, publish_before_result, answer_twice };

/// claim, run, publish as the real loop does them, out of the same parts, with one fault.
class FaultyWorker final : public WorkerScene {
 public:
  explicit FaultyWorker(Fault fault) : WorkerScene({{kBegin, Kind::small}, {6, Kind::large}, {7, Kind::small}}, 4096), fault_(fault) {}
  void child() override {
    marker();
    wire::SubmissionReader reader(view());
    wire::CompletionWriter writer(view());
    SmallWorker parts(view(), arena_bytes_);
    for (std::uint64_t at = 0;;) {
      const wire::Slot* slot = nullptr;
      if (fault_ == Fault::claim_after_run) {
        slot = at < view().control().submission_tail.load() ? &view().submissions()[at++] : nullptr;
      } else {
        slot = reader.claim_next();
      }
      if (slot == nullptr) break;
      witness()->entered[slot->task].fetch_add(1, std::memory_order_relaxed);
      wire::Completion c = *parts.answer(*slot);
      if (fault_ == Fault::claim_after_run) {
        const_cast<wire::Slot*>(slot)->claim.store(static_cast<std::uint32_t>(Claim::claimed));
      }
      bool ring = false;
      if (fault_ == Fault::tail_before_slot) {
        view().control().completion_tail.store(published_ + 1);
        wire::CompletionWriter late = writer;
        ring = late.publish(c);
        writer = late;
      } else if (fault_ == Fault::publish_before_result && c.extent != wire::kNoExtent) {
        std::byte* out = view().arena() + std::uint64_t{c.granule} * wire::kGranule;
        std::memset(out, 0, c.length);
        ring = writer.publish(c);
        write_answer(kind_in(*slot), slot->task, out);
      } else {
        ring = writer.publish(c);
      }
      ++published_;
      if (fault_ == Fault::answer_twice) (void)writer.publish(c);
      if (ring) link_->supervisor_bell().ring();
    }
    marker();
  }

 private:
  Fault fault_;
  std::uint64_t published_ = 0;
};

// ---- the supervisor in the child ---------------------------------------------------------------------------------------------------

enum class SupervisorFault { none, tail_before_slot, revoke_without_swap, flag_before_tail };

/// The child is the supervisor: leases, publishes, takes back, reads, lets go. The parent is the worker and must find every
/// visible lease whole and none that was taken back. The first four positions were given before, two of them answered.
class SupervisorScene final : public Scene {
 public:
  explicit SupervisorScene(SupervisorFault fault = SupervisorFault::none) : fault_(fault) {
    new (witness()) Witness();
    link_ = make_link(kArenaBytes);
    fill_with_garbage(view(), kArenaBytes);
    for (const Order& o : before_) (void)link_->lease(TaskId(o.task), Epoch(1), 0, 0, payload_of(o.kind, o.task));
    link_->publish();
    worker_.emplace(view(), kArenaBytes);
    work(2);
  }
  std::uint64_t signature() const override { return hash_words(1, view().base, wire::kArenaOffset + kArenaBytes); }

  void child() override {
    marker();
    lease({6, Kind::large});
    lease({7, Kind::small});
    publish();
    for (const std::uint64_t task : {4u, 7u}) {
      bool back = false;
      if (fault_ == SupervisorFault::revoke_without_swap) {
        wire::Slot& slot = view().submissions()[task == 4 ? 3 : 5];
        back = slot.claim.load() == static_cast<std::uint32_t>(Claim::leased);
        if (back) slot.claim.store(static_cast<std::uint32_t>(Claim::revoked));
      } else {
        back = link_->revoke(TaskId(task), Epoch(1));
      }
      if (back) witness()->revoked[task].store(1);
    }
    std::array<wire::Completion, 8> batch;
    const auto read = link_->read(batch);
    if (read.complaint != nullptr) witness()->wrong.store(1);
    for (std::size_t i = 0; i < read.count; ++i) {
      if (!is_right(*link_, batch[i], kind_of(batch[i].task), batch[i].task, 1)) witness()->wrong.store(2);
      witness()->read[batch[i].task].fetch_add(1);
      if (batch[i].extent != wire::kNoExtent) (void)link_->hold(batch[i].extent);
    }
    lease({9, Kind::nothing});
    publish();
    link_->set_supervisor_sleeping(true);
    (void)link_->has_completions();
    marker();
  }

  /// The worker's turn: everything it sees, then to sleep.
  void intervene() override {
    work(100);
    view().control().worker_sleeping.store(1, std::memory_order_seq_cst);
    asleep_ = !worker_->has_work();
    held_ = true;
    (void)link_->memory()->worker_bell.drain();
  }

  std::vector<std::string> judge() override {
    if (held_) {
      if (asleep_ && worker_->has_work() && link_->memory()->worker_bell.drain() == 0) wrong_.push_back("the worker sleeps, a lease is there, and its bell was not rung");
      if (witness()->wrong.load() != 0) wrong_.push_back("the supervisor read an ending that is not right");
    }
    work(100);
    // A reader that begins anew over the same memory finds every ending whole.
    wire::CompletionReader reader(view(), kArenaBytes);
    std::array<wire::Completion, 64> all;
    const auto read = reader.read(all);
    if (read.complaint != nullptr || read.count != claimed_.size()) wrong_.push_back("endings were lost: " + std::to_string(read.count) + " of " + std::to_string(claimed_.size()));
    for (std::size_t i = 0; i < read.count; ++i) {
      const std::uint64_t task = all[i].task;
      const bool let_go = all[i].extent != wire::kNoExtent && witness()->read[task].load() != 0;  // its place may be another's by now
      if (!let_go && !is_right(*link_, all[i], kind_of(task), task, 1)) wrong_.push_back("an ending is not right");
    }
    for (const std::uint64_t task : {4u, 7u})
      if (witness()->revoked[task].load() != 0 && std::ranges::find(claimed_, task) != claimed_.end()) wrong_.push_back("task " + std::to_string(task) + " ran though it had been taken back");
    if (held_)  // the supervisor came to its end: each lease was claimed or taken back
      for (const std::uint64_t task : {1u, 2u, 3u, 4u, 6u, 7u, 9u})
        if (std::ranges::count(claimed_, task) + witness()->revoked[task].load() != 1) wrong_.push_back("task " + std::to_string(task) + " was lost or ran twice");
    return std::move(wrong_);
  }

 private:
  static constexpr std::uint64_t kArenaBytes = 8192;
  static Kind kind_of(std::uint64_t task) { return task == 2 || task == 6 ? Kind::large : task == 9 ? Kind::nothing : Kind::small; }
  wire::IncarnationView view() const { return link_->memory()->view(); }
  void lease(const Order& o) {
    if (fault_ == SupervisorFault::tail_before_slot) view().control().submission_tail.store(view().control().submission_tail.load() + 1);
    (void)link_->lease(TaskId(o.task), Epoch(1), 0, 0, payload_of(o.kind, o.task));
  }
  void publish() {
    if (fault_ != SupervisorFault::flag_before_tail) return link_->publish();
    const bool asleep = view().control().worker_sleeping.load() != 0;
    link_->publish();
    if (!asleep) (void)link_->memory()->worker_bell.drain();  // as if it had not rung
  }
  void work(std::size_t most) {
    for (std::size_t i = 0; i < most; ++i) {
      const wire::Slot* slot = worker_->claim();
      if (slot == nullptr) return;
      if (!is_whole(*slot, kind_of(slot->task), slot->task, 1) || slot->task > 9) {
        wrong_.push_back("a lease became visible before it was whole");
        return;
      }
      claimed_.push_back(slot->task);
      const auto answer = worker_->answer(*slot);
      if (!answer) {
        wrong_.push_back("the arena has no room");
        return;
      }
      (void)worker_->publish(*answer);
    }
  }

  const std::vector<Order> before_ = {{1, Kind::small}, {2, Kind::large}, {3, Kind::small}, {4, Kind::small}};
  SupervisorFault fault_;
  std::unique_ptr<WorkerLink> link_;
  std::optional<SmallWorker> worker_;
  std::vector<std::uint64_t> claimed_;
  std::vector<std::string> wrong_;
  bool asleep_ = false, held_ = false;
};

// ---- the tests ---------------------------------------------------------------------------------------------------------------------

class CrashPoints : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = why_no_stepping(); !why.empty()) GTEST_SKIP() << why;
  }
  template <class S, class... A>
  static Walked walk(Then then, A... a) {
    return walk_some<S>(1, then, a...);
  }
  template <class S, class... A>
  static Walked walk_some(std::size_t stride, Then then, A... a) {
    const Walked w = walk_every_point([=] { return std::make_unique<S>(a...); }, then, stride);
    std::printf("%zu points, %zu with violations, %zu strayed, %.1f s\n", w.points, w.violations, w.strayed, w.seconds);
    return w;
  }
  static std::string text(const Walked& w) {
    std::string all;
    for (const std::string& one : w.said) all += one + "\n";
    return all;
  }
  static void expect_clean(const Walked& w, std::size_t at_least) {
    EXPECT_EQ(w.violations, 0u) << text(w);
    EXPECT_EQ(w.strayed, 0u) << "the child does not do the same thing twice";
    EXPECT_GE(w.points, at_least) << "the region is smaller than what it must hold";
  }
};

TEST_F(CrashPoints, AWorkerKilledAtAnyInstructionLeavesWholeEndingsAndOneTaskToCharge) { expect_clean(walk<RealWorker>(Then::kill), 1000); }

TEST_F(CrashPoints, WhateverTheSupervisorDoesBetweenTwoInstructionsOfAWorkerNothingIsLostAndNobodySleepsOn) {
  expect_clean(walk<HeldWorker>(Then::intervene), 1000);
}

TEST_F(CrashPoints, RoomGivenBackBetweenAnyTwoInstructionsWakesTheWorkerThatWaitsForIt) {
  expect_clean(walk<WorkerWithoutRoom>(Then::intervene), 200);
}

TEST_F(CrashPoints, AWorkerKilledWhileItWaitsForRoomHasClaimedItsTask) { expect_clean(walk<WorkerWithoutRoom>(Then::kill), 200); }

TEST_F(CrashPoints, ASupervisorKilledAtAnyInstructionLeavesWholeLeases) { expect_clean(walk<SupervisorScene>(Then::kill), 500); }

TEST_F(CrashPoints, WhateverAWorkerDoesBetweenTwoInstructionsOfTheSupervisorEachLeaseIsClaimedOrTakenBack) {
  expect_clean(walk<SupervisorScene>(Then::intervene), 500);
}

TEST_F(CrashPoints, FaultsMadeOnPurposeAreCaught) {
  expect_clean(walk<FaultyWorker>(Then::kill, Fault::none), 100);
  const std::size_t stride = scaled<std::size_t>(6, 1);
  const auto caught = [&](Fault fault) { return walk_some<FaultyWorker>(stride, Then::kill, fault).violations; };
  EXPECT_GT(caught(Fault::tail_before_slot), 0u) << "an ending visible before it is written";
  EXPECT_GT(caught(Fault::publish_before_result), 0u) << "an ending visible before its bytes";
  EXPECT_GT(caught(Fault::claim_after_run), 0u) << "a task run before it is claimed";
  EXPECT_GT(caught(Fault::answer_twice), 0u) << "a task answered twice";
  const auto caught_there = [&](std::size_t every, SupervisorFault fault) { return walk_some<SupervisorScene>(every, Then::intervene, fault).violations; };
  EXPECT_GT(caught_there(stride, SupervisorFault::tail_before_slot), 0u) << "a lease visible before it is written";
  EXPECT_GT(caught_there(stride, SupervisorFault::revoke_without_swap), 0u) << "a lease taken back by load and store";
  // A handful of instructions wide.
  EXPECT_GT(caught_there(1, SupervisorFault::flag_before_tail), 0u) << "a sleeping flag read before the tail is written";
}

}  // namespace
}  // namespace drover::test
