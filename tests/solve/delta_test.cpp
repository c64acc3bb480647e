// Goal: a delta carries additions exactly, and no bytes of a worker can do more than be refused.
// Method: round trips over sparse, dense and extreme values; every truncation, every bit flip, and random bytes.

#include "solve/delta.hpp"

#include "games.hpp"
#include "solve/table.hpp"

namespace drover::solve {
namespace {

const DeltaHeader kHeader{.generation = 3, .batch = 17, .iterations = 1'000, .cells = 200};

Bytes encoded(const std::vector<std::int64_t>& additions, const DeltaHeader& header = kHeader) {
  DeltaEncoder encoder(header);
  for (std::size_t cell = 0; cell < additions.size(); ++cell) encoder.add(cell, additions[cell]);
  return encoder.finish();
}

void expect_round_trip(const std::vector<std::int64_t>& additions) {
  const Bytes bytes = encoded(additions);
  EXPECT_LE(bytes.size(), delta_bytes_max(additions.size()));
  std::vector<std::int64_t> sums(additions.size(), 5);
  const auto applied = apply_delta(bytes, kHeader, sums);
  ASSERT_TRUE(applied) << applied.error().what();
  for (std::size_t cell = 0; cell < sums.size(); ++cell) EXPECT_EQ(sums[cell], additions[cell] + 5);
}

TEST(Delta, SparseDenseEmptyAndExtremeAdditionsArriveExactly) {
  std::vector<std::int64_t> additions(200, 0);
  expect_round_trip(additions);
  additions[0] = 1;
  additions[7] = -1;
  additions[199] = kCellLimit - 5;
  expect_round_trip(additions);
  for (std::size_t cell = 0; cell < 200; ++cell) additions[cell] = static_cast<std::int64_t>(cell) - 100;
  expect_round_trip(additions);
  for (std::size_t cell = 0; cell < 200; ++cell) additions[cell] = (cell % 2 == 0 ? 1 : -1) * (kCellLimit - 100);
  expect_round_trip(additions);
}

TEST(Delta, SmallAdditionsAreSmallAndLargeOnesAreNeverLongerThanTheTable) {
  std::vector<std::int64_t> additions(200, 0);
  additions[150] = 3;
  EXPECT_LE(encoded(additions).size(), kDeltaHeaderBytes + 4);
  for (auto& value : additions) value = kCellLimit - 100;
  EXPECT_EQ(encoded(additions).size(), delta_bytes_max(200));
}

TEST(Delta, OfAnotherBatchGenerationOrSizeIsAMismatch) {
  const Bytes bytes = encoded(std::vector<std::int64_t>(200, 1));
  std::vector<std::int64_t> sums(200, 0);
  for (DeltaHeader expected : {DeltaHeader{4, 17, 1'000, 200}, DeltaHeader{3, 18, 1'000, 200}, DeltaHeader{3, 17, 999, 200}}) {
    const auto applied = apply_delta(bytes, expected, sums);
    ASSERT_FALSE(applied);
    EXPECT_EQ(applied.error().code(), ErrorCode::mismatch);
  }
  EXPECT_EQ(sums, std::vector<std::int64_t>(200, 0));
}

TEST(Delta, EveryTruncationIsRefusedOrEndsAtARunAndNothingElseIsWritten) {
  std::vector<std::int64_t> additions(200, 0);
  for (std::size_t cell = 10; cell < 40; ++cell) additions[cell] = 1'000'000;
  const Bytes bytes = encoded(additions);
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    std::vector<std::int64_t> sums(200, 0);
    const auto applied = apply_delta(BytesView(bytes).first(length), kHeader, sums);
    if (length == kDeltaHeaderBytes) continue;  // an empty payload says "no additions"
    ASSERT_FALSE(applied) << length;
    EXPECT_EQ(sums, std::vector<std::int64_t>(200, 0));
  }
}

// Run under the sanitizers this is the test that no bytes reach outside the table.
TEST(Delta, FlippedBitsAndRandomBytesNeverWriteOutsideTheTableOrBeyondItsLimits) {
  std::vector<std::int64_t> additions(200, 0);
  for (std::size_t cell = 0; cell < 200; cell += 3) additions[cell] = static_cast<std::int64_t>(cell) * 77'777 - 5'000'000;
  const Bytes good = encoded(additions);
  const auto check = [](const Bytes& bytes) {
    std::vector<std::int64_t> sums(200, 0);
    if (const auto applied = apply_delta(bytes, kHeader, sums); !applied) return;
    for (const std::int64_t sum : sums) EXPECT_TRUE(sum >= -kCellLimit && sum <= kCellLimit);
  };
  for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
    Bytes bytes = good;
    bytes[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
    check(bytes);
  }
  Rng random(11);
  for (int round = 0; round < 20'000; ++round) {
    Bytes bytes(good.begin(), good.begin() + kDeltaHeaderBytes);
    const std::uint64_t length = random.below(60);
    for (std::uint64_t i = 0; i < length; ++i) bytes.push_back(static_cast<std::byte>(random.below(256)));
    check(bytes);
  }
}

TEST(Delta, NamedLiesAreRefused) {
  const auto payload = [](std::initializer_list<int> tail) {
    Bytes bytes = encoded(std::vector<std::int64_t>(200, 0));
    for (const int byte : tail) bytes.push_back(static_cast<std::byte>(byte));
    return bytes;
  };
  std::vector<std::int64_t> sums(200, 0);
  for (const Bytes& bytes : {
           payload({0xC8, 0x01, 0x01, 0x02}),              // a gap over the end
           payload({0x00, 0x00}),                          // a run of nothing
           payload({0x00, 0xC9, 0x01, 0x02}),              // a run longer than the table
           payload({0x00, 0x01}),                          // a value that is missing
           payload({0x00, 0x01, 0x80}),                    // a varint cut off
           payload({0x00, 0x01, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01}),  // a value beyond the limit
           payload({0x00, 0x01, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F}),  // a varint of 70 bits
           payload({0x00, 0x01, 0x82, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02}),  // the same, that would wrap to 2
       }) {
    const auto applied = apply_delta(bytes, kHeader, sums);
    ASSERT_FALSE(applied);
    EXPECT_EQ(applied.error().code(), ErrorCode::corrupt);
  }
  EXPECT_EQ(sums, std::vector<std::int64_t>(200, 0));
}

TEST(Delta, AnAdditionThatDrivesACellOverItsLimitIsAnErrorAndNotASaturation) {
  std::vector<std::int64_t> additions(200, 0);
  additions[4] = kCellLimit;
  std::vector<std::int64_t> sums(200, 0);
  ASSERT_TRUE(apply_delta(encoded(additions), kHeader, sums));
  const auto again = apply_delta(encoded(additions), kHeader, sums);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code(), ErrorCode::refused);
  sums.assign(200, 0);
  sums[4] = 1;  // far from wrapping, one over the limit
  const auto one_over = apply_delta(encoded(additions), kHeader, sums);
  ASSERT_FALSE(one_over);
  EXPECT_EQ(one_over.error().code(), ErrorCode::refused);
}

}  // namespace
}  // namespace drover::solve
