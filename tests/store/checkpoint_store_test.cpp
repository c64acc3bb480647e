// Goal: a checkpoint that was acknowledged is there, whole, in its place, and nothing else is ever handed out. Method: the real store
// on a real file system and SQLite, with each call failing or the process ending at it, against a small oracle for what retention
// may delete, and with every kind of damage done by hand.

#include "store/checkpoint_store.hpp"

#include <fmt/format.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <fstream>
#include <functional>
#include <map>
#include <set>

#include "sim/fault_file_system.hpp"
#include "sim/fault_vfs.hpp"
#include "sim/memory_file_system.hpp"
#include "store/manifest.hpp"
#include "store/object_store.hpp"
#include "store/support.hpp"

namespace drover::store::test {
namespace {

CheckpointStore open_store(const std::string& directory, FileSystem& fs = posix_file_system(), const std::string& vfs = "") {
  auto store = CheckpointStoreAccess::open(fs, directory, vfs);
  if (!store) ADD_FAILURE() << store.error().what();
  return std::move(*store);
}

NewCheckpoint at_step(std::uint64_t step, const std::string& text, std::optional<double> metric = {}) {
  static std::deque<std::string> kept;  // the view must live until commit() has returned
  kept.push_back(text);
  NewCheckpoint checkpoint{.step = step, .run = "test", .metric = metric};
  checkpoint.files.push_back({.name = "model.bin", .source = std::as_bytes(std::span(kept.back()))});
  return checkpoint;
}

Fingerprint features() { return {.config = "cfg-1", .features = {{"close", "float32", {64}, 100.0}, {"macd", "float32", {}, 1.0}}}; }

std::string head_of(CheckpointStore& store, const std::string& lineage = "run") {
  const auto head = store.newest_good(lineage, {});
  return head ? head->id : "";
}

TEST(CheckpointStore, WhatIsCommittedComesBackAfterReopeningWithAllThatWasSaidOfIt) {
  TempDir dir;
  const std::string big(3'000'000, 'b');
  std::ofstream(dir / "weights", std::ios::binary) << big;
  std::string id;
  {
    CheckpointStore store = open_store(dir / "store");
    const WriterLease lease = *store.acquire("run", 1000);
    NewCheckpoint checkpoint = at_step(7, "hello", 0.5);
    checkpoint.files.push_back({.name = "sub/weights", .source = dir / "weights"});
    checkpoint.argv = {"train", "--lr", "0.1"};
    checkpoint.fingerprint = features();
    checkpoint.state = R"({"rng":[1,2]})";
    const auto entry = store.commit(lease, checkpoint);
    ASSERT_OK(entry);
    id = entry->id;
  }
  CheckpointStore store = open_store(dir / "store");
  const auto head = store.newest_good("run", features());
  ASSERT_OK(head);
  EXPECT_EQ(head->id, id);
  EXPECT_EQ(head->manifest.step, 7u);
  EXPECT_EQ(head->manifest.argv, (std::vector<std::string>{"train", "--lr", "0.1"}));
  EXPECT_EQ(head->manifest.metric, 0.5);
  ASSERT_OK(store.restore(*head, dir / "out"));
  EXPECT_EQ(*posix_file_system().read_file(dir / "out/model.bin"), "hello");
  EXPECT_EQ(*posix_file_system().read_file(dir / "out/sub/weights"), big);
  EXPECT_EQ(store.restore(*head, dir / "out").error().code(), ErrorCode::refused) << "into a directory that is not empty";
  // The next one has it as its parent.
  const auto next = store.commit(*store.acquire("run"), at_step(8, "more"));
  ASSERT_OK(next);
  EXPECT_EQ(next->manifest.parent, id);
}

TEST(CheckpointStore, TheSameCommittedAgainIsTheSameCheckpoint) {
  // A caller that did not hear of its commit commits again: within the same second it is the same manifest, so the same id.
  TempDir dir;
  CheckpointStore store = open_store(dir.path());
  const WriterLease lease = *store.acquire("run");
  ASSERT_OK(store.commit(lease, at_step(1, "one")));
  std::set<std::string> ids;
  NewCheckpoint again = at_step(2, "two");
  again.parent = head_of(store);
  for (int n = 0; n < 3; ++n) {
    const auto entry = store.commit(lease, again);
    ASSERT_OK(entry);
    ids.insert(entry->id);
  }
  EXPECT_EQ(store.list()->size(), 1 + ids.size()) << "one entry an id";
  // Deleted and committed once more, it is there again.
  const std::string last = *ids.rbegin();
  ASSERT_OK(store.commit(lease, at_step(3, "three")));
  ASSERT_OK(store.commit(lease, at_step(4, "four")));
  ASSERT_OK(store.retain("run", {.last = 1, .best = 0}));
  EXPECT_FALSE(store.find(last));
  again.parent = "";
  ASSERT_OK(store.commit(lease, again));
  EXPECT_TRUE(store.verify()->empty());
}

TEST(CheckpointStore, AStaleWriterIsFencedAndMovesNothing) {
  TempDir dir;
  CheckpointStore stale = open_store(dir.path()), fresh = open_store(dir.path());
  const WriterLease old = *stale.acquire("run");
  const auto first = stale.commit(old, at_step(1, "one"));
  ASSERT_OK(first);
  const WriterLease now = *fresh.acquire("run");
  const auto refused = stale.commit(old, at_step(2, "from the zombie"));
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().what().find("fenced"), std::string::npos) << refused.error().what();
  EXPECT_EQ(head_of(fresh), first->id);
  ASSERT_OK(fresh.commit(now, at_step(2, "from the heir")));
  EXPECT_EQ(fresh.list()->size(), 2u);
  EXPECT_GT(*fresh.collect_garbage(), 0u) << "what the zombie wrote is garbage";
  EXPECT_TRUE(fresh.verify()->empty());
}

TEST(CheckpointStore, TheStepBudgetBelongsToTheLineageNotToTheRun) {
  TempDir dir;
  CheckpointStore store = open_store(dir.path());
  ASSERT_OK(store.commit(*store.acquire("run", 100), at_step(100, "last")));
  for (int restart = 0; restart < 5; ++restart) {
    const auto beyond = store.commit(*store.acquire("run"), at_step(101, "beyond"));
    ASSERT_FALSE(beyond);
    EXPECT_NE(beyond.error().what().find("limit(steps)"), std::string::npos);
  }
  EXPECT_EQ(store.list()->size(), 1u);
  ASSERT_OK(store.commit(*store.acquire("other"), at_step(101, "another lineage")));
}

TEST(CheckpointStore, OnlyGoodOnesAreHandedOutAndAQuarantineFallsBack) {
  TempDir dir;
  CheckpointStore store = open_store(dir.path());
  EXPECT_EQ(store.newest_good("run", {}).error().code(), ErrorCode::not_found);
  const WriterLease lease = *store.acquire("run");
  const std::string one = store.commit(lease, at_step(1, "one"))->id;
  NewCheckpoint waiting = at_step(2, "two");
  waiting.probed = true;
  const std::string two = store.commit(lease, waiting)->id;
  EXPECT_EQ(head_of(store), one) << "its probe has not spoken";
  ASSERT_OK(store.mark_good(two));
  EXPECT_EQ(head_of(store), two);
  ASSERT_OK(store.quarantine(two, "action share of HOLD 0.99"));
  EXPECT_EQ(head_of(store), one);
  EXPECT_EQ(store.find(two)->reason, "action share of HOLD 0.99");
  EXPECT_FALSE(store.mark_good(two)) << "a quarantined one does not come back by itself";
  EXPECT_FALSE(store.rollback(two));
  const std::string three = store.commit(lease, at_step(3, "three"))->id;
  ASSERT_OK(store.rollback(one));
  EXPECT_EQ(head_of(store), one);
  EXPECT_EQ(store.find(three)->status, CheckpointStatus::good) << "a branch";
}

TEST(CheckpointStore, AnyDifferenceOfTheFingerprintIsRefusedAndNamed) {
  TempDir dir;
  CheckpointStore store = open_store(dir.path());
  NewCheckpoint checkpoint = at_step(1, "one");
  checkpoint.fingerprint = features();
  ASSERT_OK(store.commit(*store.acquire("run"), checkpoint));
  ASSERT_OK(store.newest_good("run", features()));
  const std::vector<std::pair<const char*, std::function<void(Fingerprint&)>>> changes = {
      {"configuration", [](Fingerprint& f) { f.config = "cfg-2"; }},
      {"name", [](Fingerprint& f) { f.features[1].name = "rsi"; }},
      {"name", [](Fingerprint& f) { std::swap(f.features[0], f.features[1]); }},
      {"dtype", [](Fingerprint& f) { f.features[0].dtype = "float64"; }},
      {"shape", [](Fingerprint& f) { f.features[0].shape = {32}; }},
      {"scale", [](Fingerprint& f) { f.features[0].scale = 99.0; }},
      {"features", [](Fingerprint& f) { f.features.push_back(f.features[0]); }},
      {"features", [](Fingerprint& f) { f.features.pop_back(); }},
  };
  for (const auto& [what, change] : changes) {
    Fingerprint other = features();
    change(other);
    const auto refused = store.newest_good("run", other);
    ASSERT_FALSE(refused) << what;
    EXPECT_EQ(refused.error().code(), ErrorCode::mismatch);
    EXPECT_NE(refused.error().what().find(what), std::string::npos) << refused.error().what();
  }
}

// Written from the promise, not from the code: what may never be deleted, and that all the rest is.
std::set<std::string> oracle_keeps(const std::vector<CheckpointEntry>& all, const Retention& r) {
  std::set<std::string> kept;
  std::vector<std::pair<std::uint64_t, std::string>> newest;
  std::vector<std::tuple<double, std::uint64_t, std::string>> best;
  for (const auto& c : all) {
    const bool good = c.status == CheckpointStatus::good;
    if (good) newest.emplace_back(c.number, c.id);
    if (good && c.manifest.metric) best.emplace_back(*c.manifest.metric, c.number, c.id);
    if (c.pinned || c.head || c.status == CheckpointStatus::verified || (good && r.every_steps && c.manifest.step % r.every_steps == 0)) kept.insert(c.id);
    if (c.head || c.status == CheckpointStatus::verified) kept.insert(c.manifest.parent);
  }
  std::uint32_t evidence = 0;
  for (auto c = all.rbegin(); c != all.rend(); ++c)
    if (c->status == CheckpointStatus::quarantined && evidence++ < r.quarantined) kept.insert(c->id);
  std::sort(newest.rbegin(), newest.rend());
  std::sort(best.rbegin(), best.rend());
  for (std::size_t i = 0; i < newest.size() && i < r.last; ++i) kept.insert(newest[i].second);
  for (std::size_t i = 0; i < best.size() && i < r.best; ++i) kept.insert(std::get<2>(best[i]));
  return kept;
}

TEST(CheckpointStore, RetentionDeletesWhatTheOracleAllowsAndNothingElse) {
  const std::uint64_t seed = seed_of("Retention");
  Random random(seed);
  TempDir dir(scaled(false, true) ? "/dev/shm" : "");  // a million steps, and no power failure among them
  CheckpointStore store = open_store(dir.path());
  WriterLease lease = *store.acquire("run");
  std::uint64_t step = 0, deleted = 0;
  for (std::uint64_t n = 0, steps = scaled<std::uint64_t>(600, 1'000'000); n < steps; ++n) {
    const std::string context = fmt::format("seed {}, step {}", seed, n);
    std::vector<CheckpointEntry> all = *store.list("run");
    if (all.size() > 25) {  // or the long run would spend itself on hundreds that nothing may delete
      for (const auto& one : all) {
        if (one.status == CheckpointStatus::verified) ASSERT_OK(store.mark_good(one.id));
        if (one.pinned) ASSERT_OK(store.pin(one.id, false));
      }
      all = *store.list("run");
    }
    const auto any = [&]() -> const CheckpointEntry* { return all.empty() ? nullptr : &all[random.below(all.size())]; };
    switch (random.below(10)) {
      case 0: case 1: case 2: case 3: {
        NewCheckpoint checkpoint = at_step(step += random.below(5), fmt::format("{}", random.next()));
        if (random.below(2) == 0) checkpoint.metric = static_cast<double>(random.below(8));
        checkpoint.probed = random.below(4) == 0;
        const auto entry = store.commit(lease, checkpoint);
        ASSERT_TRUE(entry.has_value()) << context << entry.error().what();
        break;
      }
      case 4: if (const auto* one = any()) (void)store.mark_good(one->id); break;
      case 5: if (const auto* one = any(); one && random.below(3) == 0) ASSERT_OK(store.quarantine(one->id, "probe")); break;
      case 6: if (const auto* one = any()) ASSERT_OK(store.pin(one->id, random.below(3) == 0)); break;
      case 7: if (const auto* one = any(); one && random.below(4) == 0) (void)store.rollback(one->id); break;
      case 8: lease = *store.acquire("run"); break;
      default: {
        const Retention retention{.last = static_cast<std::uint32_t>(random.below(4)), .best = static_cast<std::uint32_t>(random.below(3)), 
                                  .every_steps = random.below(3) * 10, .quarantined = static_cast<std::uint32_t>(random.below(3)),
                                  .count_max = random.below(4) == 0 ? static_cast<std::uint32_t>(1 + random.below(6)) : 0};
        const std::set<std::string> keeps = oracle_keeps(all, retention);
        const bool head = std::ranges::any_of(all, &CheckpointEntry::head);
        const auto gone = store.retain("run", retention);
        std::set<std::string> left;
        const std::vector<CheckpointEntry> after = *store.list("run");
        for (const auto& one : after) left.insert(one.id);
        for (const auto& one : all) {
          const bool stays = !gone || keeps.contains(one.id) || !head;  // refused: nothing may be deleted
          ASSERT_EQ(left.contains(one.id), stays) << context << ": checkpoint " << one.number;
        }
        deleted += gone ? gone->size() : 0;
      }
    }
    if (n % scaled<std::uint64_t>(50, 500) == 0) {
      ASSERT_TRUE(store.verify()->empty()) << context;
    }
  }
  EXPECT_GT(deleted, 20u);
}

TEST(CheckpointStore, WhenOnlyProtectedOnesRemainItRefusesInsteadOfEvicting) {
  TempDir dir;
  CheckpointStore store = open_store(dir.path());
  const WriterLease lease = *store.acquire("run");
  for (std::uint64_t step = 1; step <= 4; ++step) ASSERT_OK(store.pin(store.commit(lease, at_step(step, fmt::format("{}", step)))->id, true));
  const auto refused = store.retain("run", {.last = 1, .best = 0, .count_max = 3});
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().what().find("limit(checkpoints)"), std::string::npos);
  EXPECT_EQ(store.list()->size(), 4u);
}

TEST(CheckpointStore, EveryNameIsOnDiskBeforeTheRowThatNeedsIt) {
  // What a power failure could take: a file that was named and whose directory was not synced after, or that was not synced itself.
  TempDir dir;
  sim::FaultFileSystem watched(posix_file_system());
  CheckpointStore store = open_store(dir.path(), watched);
  const WriterLease lease = *store.acquire("run");
  watched.arm({});
  ASSERT_OK(store.commit(lease, at_step(1, "one")));
  for (const std::string folder : {"objects", "manifests"}) {
    int unsynced_bytes = 0, unsynced_names = 0, named = 0;
    for (const std::string& call : watched.names()) {
      if (call.find("/" + folder) == std::string::npos) continue;
      if (call.starts_with("write '")) ++unsynced_bytes;
      if (call.starts_with("sync '")) unsynced_bytes = 0;
      if (call.starts_with("name '") || call.starts_with("rename '")) {
        EXPECT_EQ(unsynced_bytes, 0) << call;
        ++unsynced_names, ++named;
      }
      if (call.starts_with("sync directory")) unsynced_names = 0;
    }
    EXPECT_EQ(named, 1) << folder;
    EXPECT_EQ(unsynced_names, 0) << folder << ": its directory was not synced after the name was given";
  }
}

TEST(CheckpointStore, AFailingCallIsNeverAFalseAcknowledgement) {
  sim::FaultVfs vfs;
  std::size_t cases = 0, acknowledged = 0;
  for (const int error : {EIO, ENOSPC, EMFILE, EINTR}) {
    for (std::uint64_t call = 1;; call += scaled<std::uint64_t>(2, 1)) {
      TempDir dir;
      const std::string first = [&] {
        CheckpointStore store = open_store(dir.path());
        return store.commit(*store.acquire("run"), at_step(1, "first"))->id;
      }();
      sim::FaultFileSystem faulty(posix_file_system());
      std::optional<std::string> told;
      {
        CheckpointStore store = open_store(dir.path(), faulty);
        const WriterLease lease = *store.acquire("run");
        faulty.arm({.at_call = call, .errno_value = error, .half_write = call % 2 == 0});
        if (auto entry = store.commit(lease, at_step(2, "second"))) told = entry->id;
      }
      CheckpointStore store = open_store(dir.path());
      EXPECT_EQ(head_of(store), told.value_or(first)) << "call " << call << ", errno " << error;
      EXPECT_TRUE(store.verify()->empty());
      if (!faulty.hit()) break;
      ++cases;
      acknowledged += told ? 1 : 0;
    }
  }
  std::printf("%zu failing calls, %zu acknowledged all the same\n", cases, acknowledged);
  EXPECT_GT(cases, 20u);
}

TEST(CheckpointStore, AFailingDatabaseIsNeverAFalseAcknowledgement) {
  sim::FaultVfs vfs;
  std::size_t cases = 0;
  for (const bool for_good : {false, true}) {
    for (std::uint64_t call = 1;; call += scaled<std::uint64_t>(2, 1)) {
      TempDir dir;
      vfs.disarm();
      std::string first;
      std::optional<std::string> told;
      {
        CheckpointStore store = open_store(dir.path(), posix_file_system(), sim::FaultVfs::name());
        const WriterLease lease = *store.acquire("run");
        first = store.commit(lease, at_step(1, "first"))->id;
        vfs.arm({.at_call = call, .sqlite_code = SQLITE_FULL, .for_good = for_good, .half_write = true});
        if (auto entry = store.commit(lease, at_step(2, "second"))) told = entry->id;
      }
      const bool hit = vfs.hit();
      vfs.disarm();
      CheckpointStore store = open_store(dir.path());
      const std::string head = head_of(store);
      if (told) {
        EXPECT_EQ(head, *told) << "call " << call;
      } else {
        EXPECT_TRUE(head == first || store.list()->size() == 2) << "call " << call;  // committed, and the word of it lost: allowed
      }
      EXPECT_TRUE(store.verify()->empty());
      if (!hit) break;
      ++cases;
    }
  }
  EXPECT_GT(cases, 3u);
}

TEST(CheckpointStore, AProcessThatEndsAtAnyCallLeavesAWholeStore) {
  std::size_t points = 0;
  for (std::uint64_t call = 1;; call += scaled<std::uint64_t>(3, 1)) {
    TempDir dir;
    std::string first;
    {
      CheckpointStore store = open_store(dir.path());
      const WriterLease lease = *store.acquire("run");
      first = store.commit(lease, at_step(1, "first"))->id;
      for (std::uint64_t step = 2; step < 6; ++step) ASSERT_OK(store.commit(lease, at_step(step, fmt::format("{}", step))));
    }
    int acknowledged[2];
    ASSERT_EQ(::pipe(acknowledged), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      sim::FaultFileSystem faulty(posix_file_system());
      CheckpointStore store = open_store(dir.path(), faulty);
      const WriterLease lease = *store.acquire("run");
      faulty.arm({.at_call = call, .instead = [] { ::_exit(7); }});
      const auto entry = store.commit(lease, at_step(9, "last"));
      if (entry) (void)!::write(acknowledged[1], entry->id.data(), entry->id.size());
      if (!store.retain("run", {.last = 2, .best = 0})) ::_exit(9);
      if (!store.quarantine(first, "x") && store.list()->size() > 3) ::_exit(9);
      ::_exit(0);
    }
    ::close(acknowledged[1]);
    char id[64];
    const bool told = ::read(acknowledged[0], id, sizeof id) == 64;
    ::close(acknowledged[0]);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status) && (WEXITSTATUS(status) == 7 || WEXITSTATUS(status) == 0)) << "call " << call << ": " << status;
    CheckpointStore store = open_store(dir.path());
    EXPECT_TRUE(store.verify()->empty()) << "call " << call;
    const std::string head = head_of(store);
    EXPECT_FALSE(head.empty()) << "call " << call;
    if (told) {
      EXPECT_EQ(head, std::string(id, 64)) << "call " << call << ": an acknowledged checkpoint is gone";
    }
    ASSERT_OK(store.collect_garbage());
    EXPECT_TRUE(store.verify()->empty());
    if (WEXITSTATUS(status) == 0) break;
    ++points;
  }
  EXPECT_GT(points, 5u);
}

/// Forks `deed` and kills it at its `at`-th system call, SQLite's own among them. Nothing: ptrace is refused here; else whether it
/// was killed (false: it had ended by then).
std::optional<bool> killed_at_call(std::uint64_t at, const std::function<void()>& deed) {
  const pid_t child = ::fork();
  if (child == 0) {
    if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) ::_exit(99);
    ::raise(SIGSTOP);
    deed();
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  if (WIFEXITED(status)) return std::nullopt;
  ::ptrace(PTRACE_SETOPTIONS, child, nullptr, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
  for (std::uint64_t stops = 0;;) {
    ::ptrace(PTRACE_SYSCALL, child, nullptr, nullptr);
    ::waitpid(child, &status, 0);
    if (!WIFSTOPPED(status)) return false;
    if (WSTOPSIG(status) != (SIGTRAP | 0x80) || ++stops < at) continue;  // twice a call: before it and after it
    ::kill(child, SIGKILL);
    ::waitpid(child, &status, 0);
    return true;
  }
}

TEST(CheckpointStore, AProcessKilledAtAnySystemCallLeavesAWholeStore) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer's own system calls would be counted";
#endif
  const char* const names[] = {"save", "retention", "pin and quarantine", "rollback", "gc", "fsck"};
  std::uint64_t points = 0;
  for (std::size_t which = 0; which < std::size(names); ++which) {
    for (std::uint64_t at = 1;; at += scaled<std::uint64_t>(17, 1)) {
      const std::string context = fmt::format("{}, stop {}", names[which], at);
      TempDir dir("/dev/shm");
      std::vector<std::string> ids;
      Bytes table(2 * kChunkBytes);
      {
        CheckpointStore store = open_store(dir.path());
        const WriterLease lease = *store.acquire("run");
        for (std::uint64_t step = 1; step <= 5; ++step) {
          table[step] = std::byte{1};
          NewCheckpoint checkpoint = at_step(step, fmt::format("model {}", step));
          checkpoint.files.push_back({.name = "table", .source = BytesView(table), .changes_only = true});
          ids.push_back(store.commit(lease, checkpoint)->id);
        }
        if (which == 3) ASSERT_OK(store.rollback(ids[1]));
        if (which == 4) std::ofstream(dir / "objects/litter") << "x";
      }
      int told[2];
      ASSERT_EQ(::pipe(told), 0);
      const auto killed = killed_at_call(at, [&] {
        if (which == 5) {
          if (rebuild_checkpoint_store(dir.path())) (void)!::write(told[1], "y", 1);
          return;
        }
        auto store = CheckpointStore::open(dir.path());
        if (!store) ::_exit(1);
        Result<void> done;
        if (which == 0) {
          const auto entry = store->commit(*store->acquire("run"), at_step(9, "last"));
          if (!entry) ::_exit(1);
        } else if (which == 1) {
          if (!store->retain("run", {.last = 2, .best = 0})) ::_exit(1);
        } else if (which == 2) {
          if (!store->pin(ids[0], true) || !store->quarantine(ids[4], "bad")) ::_exit(1);
        } else if (which == 3) {
          if (!store->rollback(ids[3])) ::_exit(1);
        } else if (!store->collect_garbage()) {
          ::_exit(1);
        }
        (void)!::write(told[1], "y", 1);
      });
      ::close(told[1]);
      char byte = 0;
      const bool acknowledged = ::read(told[0], &byte, 1) == 1;
      ::close(told[0]);
      if (!killed) GTEST_SKIP() << "ptrace is refused here";
      auto opened = CheckpointStore::open(dir.path());
      if (!opened && which == 5) {  // killed between the old database and the new one: said so, and fsck again mends it
        ASSERT_EQ(opened.error().code(), ErrorCode::corrupt) << context << opened.error().what();
        ASSERT_OK(rebuild_checkpoint_store(dir.path()));
        opened = CheckpointStore::open(dir.path());
      }
      ASSERT_TRUE(opened.has_value()) << context << ": " << opened.error().what();
      ASSERT_TRUE(opened->verify()->empty()) << context;
      const auto head = opened->newest_good("run", {});
      ASSERT_TRUE(head.has_value()) << context;
      const std::vector<CheckpointEntry> all = *opened->list("run");
      if (which == 0) {
        EXPECT_TRUE(head->manifest.step == 5 || head->manifest.step == 9) << context;
        if (acknowledged) {
          EXPECT_EQ(head->manifest.step, 9u) << context;
        }
      }
      if (which == 1) {
        EXPECT_EQ(head->id, ids[4]) << context;
        EXPECT_TRUE(all.size() == 5 || all.size() == 2) << context << ": all at once or not at all, not " << all.size();
      }
      if (which == 2 && acknowledged) {
        EXPECT_TRUE(all[0].pinned && all[4].status == CheckpointStatus::quarantined && head->id == ids[3]) << context;
      }
      if (which == 3) {
        EXPECT_TRUE(head->id == ids[3] || (!acknowledged && head->id == ids[1])) << context;
      }
      if (which >= 4) {
        EXPECT_EQ(all.size(), 5u) << context;
      }
      ASSERT_OK(opened->collect_garbage());
      ASSERT_TRUE(opened->verify()->empty()) << context;
      ++points;
      if (!*killed) break;
    }
  }
  fmt::print("{} kills\n", points);
  EXPECT_GT(points, 40u);
}

// The database is durable here, row by row; the files are not before they are synced. So a row whose files can be lost is found.
TEST(CheckpointStore, APowerLossAtAnyCallAndAnySubsetOfWhatWasPendingLosesNothingAcknowledged) {
  const std::uint64_t seed = seed_of("PowerLoss");
  std::uint64_t losses = 0, acknowledged = 0;
  for (std::uint64_t call = 1;; call += scaled<std::uint64_t>(7, 1)) {
    bool hit = false;
    for (std::uint64_t subset = 0; subset < scaled<std::uint64_t>(3, 40); ++subset) {
      TempDir dir("/dev/shm");
      sim::MemoryFileSystem memory;
      const std::string database = dir / "store.db";
      std::ofstream(database).flush();
      ASSERT_OK(memory.make_directories(dir.path()));
      ASSERT_OK(memory.open(database, OpenMode::create_new, 0644));
      for (const char* folder : {"objects", "manifests", "pins", "quarantine"}) ASSERT_OK(memory.make_directories(dir / folder));
      for (std::string path = dir.path(); path.size() > 1; path = std::filesystem::path(path).parent_path()) ASSERT_OK(memory.sync_directory(path));
      ASSERT_OK(memory.sync_directory("/"));
      sim::FaultFileSystem fs(memory);
      std::map<std::string, bool> pinned;  // id: acknowledged as pinned
      std::string last;
      {
        CheckpointStore store = open_store(dir.path(), fs);
        const WriterLease lease = *store.acquire("run");
        fs.arm({.at_call = call, .instead = [&] { memory.stop(); }});
        std::string table(3 * kChunkBytes / 2, 't');
        for (std::uint64_t step = 1; step <= 5; ++step) {
          table[step * 1000] = 'x';
          NewCheckpoint checkpoint = at_step(step, fmt::format("model {}", step));
          checkpoint.files.push_back({.name = "table", .source = std::as_bytes(std::span(table)), .changes_only = true});
          const auto entry = store.commit(lease, checkpoint);
          if (!entry) break;
          last = entry->id;
          ++acknowledged;
          if (step == 2 && store.pin(last, true)) pinned[last] = true;
          if (step == 4 && !store.quarantine(last, "bad")) break;
          if (!store.retain("run", {.last = 1, .best = 0})) break;
        }
        hit = fs.hit();
      }
      Random random(seed * 1000 + call * 100 + subset);
      memory.power_loss([&](std::size_t) { return subset == 0 ? false : subset == 1 ? true : random.below(2) == 0; });
      ++losses;
      const std::string context = fmt::format("seed {}, call {} of {}, subset {}", seed, call, fs.names().empty() ? "" : fs.names().back(), subset);
      CheckpointStore store = open_store(dir.path(), memory);
      const auto damaged = store.verify();
      ASSERT_TRUE(damaged.has_value()) << context;
      ASSERT_TRUE(damaged->empty()) << context << ": " << (*damaged)[0].reason;
      if (!last.empty()) {
        ASSERT_TRUE(store.newest_good("run", {}).has_value()) << context;
      }
      for (const auto& [id, was] : pinned) ASSERT_TRUE(store.find(id).has_value()) << context << ": the pinned one is gone";
      ASSERT_TRUE(store.collect_garbage().has_value()) << context;
    }
    if (!hit) break;
  }
  fmt::print("{} power losses, {} acknowledgements before them\n", losses, acknowledged);
  EXPECT_GT(losses, 50u);
}

TEST(CheckpointStore, DamageIsFoundNamedAndNeverHandedOut) {
  const std::uint64_t seed = seed_of("Damage");
  Random random(seed);
  for (int round = 0; round < scaled(12, 2000); ++round) {
    TempDir dir;
    CheckpointStore store = open_store(dir.path());
    const WriterLease lease = *store.acquire("run");
    const std::string one = store.commit(lease, at_step(1, "the one before"))->id;
    const auto two = store.commit(lease, at_step(2, std::string(5000, 'x')));
    ASSERT_OK(two);
    const bool manifest = random.below(2) == 0;
    const std::string path = manifest ? dir / ("manifests/" + two->id) : dir / ("objects/" + two->manifest.files[0].sha256);
    std::string bytes = *posix_file_system().read_file(path);
    const std::uint64_t bit = random.below(bytes.size() * 8);
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << (bit % 8)));
    std::ofstream(path, std::ios::binary) << bytes;
    if (!manifest) {
      EXPECT_EQ(store.newest_good("run", {}).error().code(), ErrorCode::corrupt);
      EXPECT_EQ(store.restore(*two, dir / "out").error().code(), ErrorCode::corrupt);
      EXPECT_FALSE(posix_file_system().exists(dir / "out/model.bin").value_or(true)) << "all or nothing";
    }
    const auto damaged = store.verify();
    ASSERT_OK(damaged);
    ASSERT_EQ(damaged->size(), 1u) << "seed " << seed << ", bit " << bit << (manifest ? " of the manifest" : " of the object");
    EXPECT_EQ((*damaged)[0].id, two->id);
    EXPECT_EQ(head_of(store), one);
    const auto again = store.commit(lease, at_step(3, std::string(5000, 'x')));  // the same bytes: good ones take the damaged one's place
    ASSERT_OK(again);
    EXPECT_EQ(head_of(store), again->id);
  }
}

TEST(CheckpointStore, CommitsByChangesSurviveRetentionRebuildingAndAFreshStart) {
  TempDir dir;
  Bytes state(std::size_t{2} << 20);
  std::string last;
  {
    CheckpointStore store = open_store(dir.path());
    const WriterLease lease = *store.acquire("run");
    for (std::uint64_t step = 1; step <= 40; ++step) {
      state[static_cast<std::size_t>(step * 50'000)] = static_cast<std::byte>(step);
      NewCheckpoint checkpoint{.step = step};
      checkpoint.files.push_back({.name = "table", .source = BytesView(state), .changes_only = true});
      const auto entry = store.commit(lease, checkpoint);
      ASSERT_OK(entry);
      last = entry->id;
      ASSERT_OK(store.retain("run", {.last = 2}));
    }
    ASSERT_OK(store.collect_garbage());
    EXPECT_EQ(head_of(store), last);
  }
  ASSERT_TRUE(posix_file_system().unlink(dir / "store.db"));
  ASSERT_OK(rebuild_checkpoint_store(dir.path()));
  CheckpointStore store = open_store(dir.path());
  const auto entry = store.find(last);
  ASSERT_OK(entry);
  ASSERT_OK(store.restore(*entry, dir / "out"));
  EXPECT_EQ(*posix_file_system().read_file(dir / "out/table"), std::string(reinterpret_cast<const char*>(state.data()), state.size()));
  // A fresh start has no parent, and says so.
  const WriterLease lease = *store.acquire("run");
  NewCheckpoint fresh = at_step(1, "anew");
  fresh.root = true;
  EXPECT_EQ(store.commit(lease, fresh)->manifest.parent, "");
}

TEST(CheckpointStore, ALostDatabaseIsRebuiltFromTheManifestsAndNeverStartsAfresh) {
  TempDir dir;
  std::string pinned, bad, head;
  {
    CheckpointStore store = open_store(dir.path());
    const WriterLease lease = *store.acquire("run");
    pinned = store.commit(lease, at_step(1, "one"))->id;
    ASSERT_OK(store.pin(pinned, true));
    bad = store.commit(lease, at_step(2, "two"))->id;
    ASSERT_OK(store.quarantine(bad, "NaN"));
    head = store.commit(lease, at_step(3, "three"))->id;
    ASSERT_OK(store.commit(lease, at_step(4, "four")));
  }
  for (const char* suffix : {"", "-wal", "-shm"}) (void)posix_file_system().unlink(dir / (std::string("store.db") + suffix));
  const auto refused = CheckpointStoreAccess::open(posix_file_system(), dir.path(), "");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::corrupt);
  EXPECT_EQ(*rebuild_checkpoint_store(dir.path()), 4u);
  CheckpointStore store = open_store(dir.path());
  EXPECT_TRUE(store.find(pinned)->pinned);
  EXPECT_EQ(store.find(bad)->status, CheckpointStatus::quarantined);
  EXPECT_EQ(store.find(bad)->reason, "NaN");
  EXPECT_EQ(head_of(store), head) << "what its lineage went on from; the last one waits for a word";
  EXPECT_EQ(store.acquire("run")->epoch, 2u) << "epochs go on from the highest seen";
}

TEST(CheckpointStore, GarbageCollectionInTheMiddleOfACommitNeverMakesAFalseAcknowledgement) {
  std::size_t busy = 0, fine = 0;
  for (std::uint64_t call = 1;; call += scaled<std::uint64_t>(3, 1)) {
    TempDir dir;
    CheckpointStore other = open_store(dir.path());
    sim::FaultFileSystem faulty(posix_file_system());
    CheckpointStore store = open_store(dir.path(), faulty);
    const WriterLease lease = *store.acquire("run");
    faulty.arm({.at_call = call, .instead = [&] { (void)other.collect_garbage(); }});
    const auto entry = store.commit(lease, at_step(1, "one"));
    if (!faulty.hit()) break;
    entry ? ++fine : ++busy;
    if (entry) {
      EXPECT_TRUE(other.verify()->empty()) << "call " << call;
      EXPECT_EQ(head_of(other), entry->id);
    }
  }
  EXPECT_GT(fine, 0u);
  EXPECT_GT(busy, 0u) << "the race was never met";
}

TEST(Manifest, IsCanonicalAndRefusesWhatItDidNotWrite) {
  Manifest manifest{.lineage = "run", .parent = "", .epoch = 3, .step = 12, .run = "j", .argv = {"a", "b c"}, .created = "2026-01-01T00:00:00Z", .fingerprint = features(), .state = "{}", .metric = 0.25, .files = {{"f", 3, std::string(64, 'a')}}};
  const std::string text = text_of(manifest);
  const auto back = parse_manifest(text);
  ASSERT_OK(back);
  EXPECT_EQ(*back, manifest);
  for (std::size_t byte = 0; byte < text.size(); ++byte)
    for (const int bit : {0, 3, 6}) {
      std::string bad = text;
      bad[byte] = static_cast<char>(bad[byte] ^ (1 << bit));
      const auto read = parse_manifest(bad);
      if (read) {
        EXPECT_NE(id_of(*read), id_of(manifest)) << byte;
      }
    }
  for (const char* name : {"", "/x", "../x", "a/../b", "a//b", ".", "a/."}) EXPECT_FALSE(is_safe_name(name)) << name;
  EXPECT_TRUE(is_safe_name("a/b.c"));
}

}  // namespace
}  // namespace drover::store::test
