// Goal: the small helpers do what their headers say, at their edges too.
#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <string_view>

#include "base/assert.hpp"
#include "base/bytes.hpp"
#include "base/hash.hpp"
#include "base/histogram.hpp"
#include "base/text.hpp"
#include "drover/types/error.hpp"
#include "drover/types/ids.hpp"
#include "drover/types/limits.hpp"
#include "drover/types/random.hpp"

namespace {
using namespace drover;

TEST(Duration, WrittenAsPeopleWriteIt) {
  EXPECT_EQ(parse_duration("250ms").value(), Millis(250));
  EXPECT_EQ(parse_duration("1.5h").value(), Seconds(5400));
  EXPECT_EQ(parse_duration("2m30s").value(), Seconds(150));
  EXPECT_EQ(parse_duration(" 90 s ").value(), Seconds(90));
  EXPECT_EQ(parse_duration("1d").value(), Seconds(86400));
  EXPECT_EQ(parse_duration("3us 7ns").value(), Nanos(3007));
  EXPECT_EQ(parse_duration("0s").value(), Nanos(0));
  EXPECT_EQ(parse_duration("none").value(), kUnlimited);
}

TEST(Duration, AnythingElseIsRefusedWithTheWordAndAWayOut) {
  for (const char* bad : {"", "  ", "5", "-5s", "s", "5 parsecs", "5s-", "300y", "400000d", "1e3s", "..s"}) {
    const auto read = parse_duration(bad);
    ASSERT_FALSE(read.has_value()) << bad;
    EXPECT_EQ(read.error().code(), ErrorCode::usage);
    EXPECT_NE(read.error().what().find(bad), std::string::npos);
    EXPECT_FALSE(read.error().advice().empty());
  }
}

TEST(Duration, TextIsShortAndReadsBack) {
  EXPECT_EQ(text_of(Nanos(Millis(250))), "250 ms");
  EXPECT_EQ(text_of(Nanos(Seconds(5))), "5 s");
  EXPECT_EQ(text_of(Nanos(Seconds(5400))), "1.5 h");
  EXPECT_EQ(text_of(kUnlimited), "none");
  EXPECT_EQ(text_of(Nanos(12)), "12 ns");
  for (const Nanos d : {Nanos(Millis(250)), Nanos(Seconds(5400)), kUnlimited, Nanos(12), Nanos(Seconds(90))}) EXPECT_EQ(parse_duration(text_of(d)).value(), d);
}

TEST(Size, WrittenAsPeopleWriteIt) {
  EXPECT_EQ(parse_bytes("4096").value(), 4096u);
  EXPECT_EQ(parse_bytes("2GiB").value(), 2ull << 30);
  EXPECT_EQ(parse_bytes("64K").value(), 65536u);
  EXPECT_EQ(parse_bytes("1.5 MB").value(), 1'500'000u);
  EXPECT_EQ(text_of_bytes(1536), "1.5 KiB");
  EXPECT_EQ(text_of_bytes(0), "0 B");
  for (const char* bad : {"", "x", "-1", "5 apples", "5K5", "99999999999999T"}) EXPECT_FALSE(parse_bytes(bad).has_value()) << bad;
}

TEST(NearestName, FindsWhatWasMeantAndNothingElse) {
  static constexpr std::array<std::string_view, 5> kVerbs = {"solve", "status", "stop", "resume", "why"};
  EXPECT_EQ(nearest_name("slove", kVerbs), "solve");
  EXPECT_EQ(nearest_name("statsu", kVerbs), "status");
  EXPECT_EQ(nearest_name("resum", kVerbs), "resume");
  EXPECT_EQ(nearest_name("wy", kVerbs), "why");
  EXPECT_EQ(nearest_name("banana", kVerbs), std::nullopt);
  EXPECT_EQ(nearest_name("anything", {}), std::nullopt);
}

TEST(Error, ErrnoBecomesACodeTheReaderCanActOn) {
  EXPECT_EQ(Error::from_errno(ENOENT, "open 'a'").what(), "open 'a': No such file or directory");
  EXPECT_EQ(Error::from_errno(ENOENT, "x").code(), ErrorCode::not_found);
  EXPECT_EQ(Error::from_errno(EDQUOT, "x").code(), ErrorCode::no_space);
  EXPECT_EQ(Error::from_errno(EAGAIN, "x").code(), ErrorCode::busy);
  EXPECT_EQ(Error::from_errno(EPERM, "x").code(), ErrorCode::system);
  EXPECT_EQ(Error::from_errno(EPERM, "x").errno_value(), EPERM);
  EXPECT_EQ(Error(ErrorCode::busy, "b").with("a").what(), "a: b");
}

TEST(AssertDeathTest, TellsPlaceConditionAndValuesAndAborts) {
  const TaskId task(7);
  const int open = 3;
  EXPECT_DEATH(DROVER_ASSERT(open == 4, open, task), "base_test.cpp:[0-9]+: assertion failed: open == 4 \\(open, task = 3, 7\\)");
}

TEST(Bytes, IntegersAreLittleEndianAtAnyAddress) {
  Bytes to(1);
  append_le(to, std::uint32_t{0x01020304});
  append_le(to, std::uint64_t{0x1122334455667788});
  EXPECT_EQ(hex_of(to), "00040302018877665544332211");
  ByteSpan from = ByteSpan(to).subspan(1);
  EXPECT_EQ(take_le<std::uint32_t>(from), 0x01020304u);
  EXPECT_EQ(take_le<std::uint64_t>(from), 0x1122334455667788u);
  EXPECT_EQ(take_le<std::uint8_t>(from), std::nullopt);
}

TEST(Bytes, HexReadsBackAndRefusesWhatIsNoHex) {
  EXPECT_EQ(to_string(bytes_of_hex("48656C6c6f").value()), "Hello");
  EXPECT_FALSE(bytes_of_hex("4").has_value());
  EXPECT_FALSE(bytes_of_hex("4g").has_value());
}

TEST(Histogram, PercentilesAreAtMostASixteenthAboveTheTruth) {
  Histogram h;
  for (std::uint64_t i = 1; i <= 100'000; ++i) h.add(i * 1000);
  for (const double p : {1.0, 50.0, 90.0, 99.0, 99.9, 100.0}) {
    const double truth = p / 100.0 * 100'000 * 1000;
    EXPECT_GE(static_cast<double>(h.percentile(p)), truth * 0.999) << p;
    EXPECT_LE(static_cast<double>(h.percentile(p)), truth * (1 + 1.0 / 16) + 1) << p;
  }
  EXPECT_EQ(h.max(), 100'000'000u);
  EXPECT_EQ(h.min(), 1000u);
  EXPECT_EQ(h.percentile(100), h.max());
}

TEST(Histogram, BucketsCoverEveryValueOnceAndInOrder) {
  for (std::size_t b = 0; b + 1 < Histogram::kBuckets; ++b) {
    ASSERT_EQ(Histogram::bucket_of(Histogram::upper_bound(b)), b);
    ASSERT_EQ(Histogram::bucket_of(Histogram::upper_bound(b) + 1), b + 1);
  }
  EXPECT_EQ(Histogram::bucket_of(~std::uint64_t{0}), Histogram::kBuckets - 1);
}

TEST(Histogram, MergingIsTheSameAsAddingAll) {
  Histogram a;
  Histogram b;
  Histogram all;
  Rng rng(1);
  for (int i = 0; i < 10'000; ++i) {
    const std::uint64_t value = rng() >> rng.below(60);
    (i % 2 == 0 ? a : b).add(value);
    all.add(value);
  }
  a.merge(b);
  EXPECT_EQ(a.count(), all.count());
  EXPECT_EQ(a.sum(), all.sum());
  for (const double p : {1.0, 50.0, 99.0}) EXPECT_EQ(a.percentile(p), all.percentile(p));
  EXPECT_EQ(Histogram().percentile(50), 0u);
}

TEST(Random, NumbersAreTheSameOnEveryMachine) {
  Rng rng(42);
  EXPECT_EQ(rng(), 0xbdd732262feb6e95u);
  EXPECT_EQ(rng(), 0x28efe333b266f103u);
  EXPECT_EQ(stream_seed(1, TaskId(2)), stream_seed(1, 2));
  EXPECT_NE(stream_seed(1, 2), stream_seed(2, 1));
  Rng skipped(42);
  skipped.skip(2);
  EXPECT_EQ(rng(), skipped());
  Rng continued(rng.state());
  EXPECT_EQ(continued(), rng());
}

TEST(Random, BelowIsUniformAndUnitStaysBelowOne) {
  Rng rng(7);
  std::array<int, 6> seen{};
  for (int i = 0; i < 60'000; ++i) ++seen[rng.below(6)];
  for (const int n : seen) EXPECT_NEAR(n, 10'000, 500);
  for (int i = 0; i < 10'000; ++i) {
    const double u = rng.unit();
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
  }
  EXPECT_EQ(rng.below(1), 0u);
}

TEST(Time, AfterSaturatesAtNever) {
  EXPECT_EQ(after(TimePoint(Seconds(1)), Seconds(2)), TimePoint(Seconds(3)));
  EXPECT_EQ(after(TimePoint(Seconds(1)), kUnlimited), kNever);
  EXPECT_EQ(after(TimePoint(Nanos::max() - Nanos(1)), Seconds(2)), kNever);
}

TEST(Names, EveryLimitLayerHasOne) {
  for (int i = 0; i <= static_cast<int>(LimitLayer::user_pid_namespace); ++i) EXPECT_FALSE(name_of(static_cast<LimitLayer>(i)).empty());
}

}  // namespace
