// Goal: what is saved in the background is what was there when save() was called, in order, and no error is swallowed. Method: a state
// that is overwritten at once after each save; a lease that is taken over in between.

#include "drover/snapshot.hpp"

#include <gtest/gtest.h>

#include "store/support.hpp"

namespace drover::store::test {
namespace {

TEST(Snapshot, WhatWasThereIsSavedWhateverHappensToItAfterwards) {
  for (const bool changes_only : {false, true}) {
    TempDir dir;
    CheckpointStore store = *CheckpointStore::open(dir.path());
    const WriterLease lease = *store.acquire("run");
    Bytes state(700'000);
    {
      auto writer = SnapshotWriter::start(dir.path(), lease, {.bytes_max = state.size(), .changes_only = changes_only});
      ASSERT_OK(writer);
      EXPECT_FALSE(writer->durable().has_value());
      for (std::uint64_t step = 1; step <= 20; ++step) {
        std::ranges::fill(state, static_cast<std::byte>(step));
        ASSERT_OK(writer->save(state, {.step = step}));
        std::ranges::fill(state, std::byte{0xee});  // the trainer goes on
      }
      ASSERT_OK(writer->wait());
      EXPECT_EQ(writer->durable()->manifest.step, 20u);
      EXPECT_FALSE(writer->save(Bytes(state.size() + 1), {.step = 21})) << "larger than its buffers";
      std::ranges::fill(state, std::byte{21});
      ASSERT_OK(writer->save(state, {.step = 21}));
    }  // the destructor finishes what waits
    const auto all = *store.list("run");
    ASSERT_EQ(all.size(), 21u);
    for (std::uint64_t step = 1; step <= 21; ++step) {
      EXPECT_EQ(all[step - 1].manifest.step, step);
      EXPECT_EQ(*store.read(all[step - 1].manifest.files[0], 0, state.size()), Bytes(state.size(), static_cast<std::byte>(step))) << step;
    }
    EXPECT_TRUE(store.verify()->empty());
  }
}

TEST(Snapshot, AnErrorOfACommitIsToldOnceByTheNextCall) {
  TempDir dir;
  CheckpointStore store = *CheckpointStore::open(dir.path());
  auto writer = SnapshotWriter::start(dir.path(), *store.acquire("run"), {.bytes_max = 100});
  ASSERT_OK(writer);
  ASSERT_OK(writer->save(Bytes(100), {.step = 1}));
  ASSERT_OK(writer->wait());
  ASSERT_OK(store.acquire("run"));  // somebody else begins
  ASSERT_OK(writer->save(Bytes(100), {.step = 2}));
  const auto fenced = writer->wait();
  ASSERT_FALSE(fenced);
  EXPECT_NE(fenced.error().what().find("fenced"), std::string::npos);
  EXPECT_TRUE(writer->wait()) << "told once";
  EXPECT_EQ(store.newest_good("run", {})->manifest.step, 1u);
}

}  // namespace
}  // namespace drover::store::test
