// Goal: what people see of a running attempt is what its worker wrote. Method: both ends on one piece of memory.

#include "guard/live.hpp"

#include <gtest/gtest.h>

#include <array>

namespace drover::guard {
namespace {

TEST(LiveAttempt, SaysWhatWasWrittenAndNothingBefore) {
  alignas(64) std::array<std::byte, LiveAttempt::kBytes> segment{};
  const LiveAttempt live = LiveAttempt::in(segment);
  EXPECT_EQ(live.read(TimePoint(Seconds(5))).text, "");
  live.write(1200, Phase::save, 3, std::uint64_t{70} << 20);
  EXPECT_EQ(live.read(TimePoint(Seconds(5))).text, ", step 1200, phase save, 3 processes, 70 MiB");
  live.committed(1000, TimePoint(Seconds(3)));
  EXPECT_EQ(live.read(TimePoint(Seconds(15))).text, ", step 1200, phase save, 3 processes, 70 MiB, checkpoint at step 1000 12 s ago");
  EXPECT_EQ(live.read(TimePoint(Seconds(15))).step, 1200U);
}

}  // namespace
}  // namespace drover::guard
