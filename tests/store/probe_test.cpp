// Goal: each probe rule fails what it is for, passes the rest, and fails what it cannot look at. Method: checkpoints with tensors
// made by hand: a NaN in every float type, a jump of the norm, a policy that collapses onto one action.

#include "drover/probe.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "store/checkpoint_store.hpp"
#include "store/support.hpp"

namespace drover::store::test {
namespace {

struct Fixture {
  TempDir dir;
  CheckpointStore store = *CheckpointStoreAccess::open(posix_file_system(), dir.path(), "");
  WriterLease lease = *store.acquire("run");
  std::uint64_t step = 0;

  template <class T>
  CheckpointEntry commit(const char* dtype, std::vector<T> values, std::vector<std::uint64_t> shape, std::map<std::string, double> metrics = {}) {
    NewCheckpoint checkpoint{.step = ++step, .metrics = std::move(metrics)};
    checkpoint.files.push_back({.name = "model", .source = std::as_bytes(std::span(values)), .tensors = {{"policy", dtype, std::move(shape), 0, values.size() * sizeof(T)}}});
    auto entry = store.commit(lease, checkpoint);
    EXPECT_TRUE(entry.has_value()) << entry.error().what();
    return *entry;
  }
  /// The first line of what fails; "" = it passes.
  std::string verdict(const CheckpointEntry& entry, const char* rules) {
    const auto parsed = parse_probe_rules(rules);
    EXPECT_TRUE(parsed.has_value()) << parsed.error().what();
    const auto lines = probe(store, entry, *parsed);
    EXPECT_TRUE(lines.has_value()) << lines.error().what();
    return lines->empty() ? "" : lines->front();
  }
};

TEST(Probe, WhatIsNotFiniteIsFoundInEveryFloatType) {
  Fixture f;
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(f.verdict(f.commit<double>("F64", {1, -2, 3}, {3}), "finite"), "");
  EXPECT_EQ(f.verdict(f.commit<double>("F64", {1, nan, 3}, {3}), "finite"), "tensor 'policy' holds nan at element 1");
  EXPECT_EQ(f.verdict(f.commit<float>("F32", {1, 2, -INFINITY}, {3}), "finite"), "tensor 'policy' holds -inf at element 2");
  EXPECT_EQ(f.verdict(f.commit<std::uint16_t>("F16", {0x3c00, 0x7bff, 0x0001}, {3}), "finite"), "");
  EXPECT_EQ(f.verdict(f.commit<std::uint16_t>("F16", {0x3c00, 0x7e00}, {2}), "finite"), "tensor 'policy' holds nan at element 1");
  EXPECT_EQ(f.verdict(f.commit<std::uint16_t>("BF16", {0x3f80, 0x7f80}, {2}), "finite"), "tensor 'policy' holds inf at element 1");
  EXPECT_EQ(f.verdict(f.commit<float>("F32", {1}, {1}, {{"loss", nan}}), "finite"), "metric 'loss' is nan");
  const auto back = f.store.list("run")->back();
  EXPECT_TRUE(std::isnan(back.manifest.metrics.at("loss"))) << "what was said comes back";
}

TEST(Probe, APolicyThatCollapsesIsCaught) {
  Fixture f;
  const auto varied = f.commit<float>("F32", {0.2f, 0.5f, 0.3f, 0.4f, 0.1f, 0.5f}, {2, 3});
  EXPECT_EQ(f.verdict(varied, "share policy 0.9; entropy policy 0.5; kl policy 0.1; norm 2"), "");
  const auto collapsed = f.commit<float>("F32", {0.98f, 0.01f, 0.01f, 0.96f, 0.02f, 0.02f}, {2, 3});
  EXPECT_EQ(f.verdict(collapsed, "share policy 0.9"), "tensor 'policy' takes action 0 in 97.0 % of all cases, at most 90.0 % are allowed");
  EXPECT_NE(f.verdict(collapsed, "entropy policy 0.5"), "");
  EXPECT_NE(f.verdict(collapsed, "kl policy 0.5"), "");
  EXPECT_EQ(f.verdict(collapsed, "kl policy 10"), "");
  // The same as logits.
  const auto logits = f.commit<float>("F32", {9, 0, 0, 9, 1, 0}, {2, 3});
  EXPECT_NE(f.verdict(logits, "share policy 0.9"), "");
  // A child of the collapsed one that has not moved is near it.
  EXPECT_EQ(f.verdict(f.commit<float>("F32", {9, 0, 0, 9, 1, 0}, {2, 3}), "kl policy 1e-6; norm 1.001"), "");
  EXPECT_EQ(f.verdict(f.commit<float>("F32", {90, 0, 0, 90, 10, 0}, {2, 3}), "norm 5").substr(0, 28), "the norm of tensor 'policy' ");
}

TEST(Probe, WhatCannotBeLookedAtFails) {
  Fixture f;
  const auto integers = f.commit<std::int64_t>("I64", {1, 2}, {2}, {{"reward", 1.5}});
  EXPECT_EQ(f.verdict(integers, "share policy 0.9"), "tensor 'policy' (I64) holds no rows of numbers");
  EXPECT_EQ(f.verdict(integers, "entropy value 0.1"), "there is no tensor 'value'");
  EXPECT_EQ(f.verdict(integers, "metric reward >= 1"), "");
  EXPECT_EQ(f.verdict(integers, "metric reward <= 1"), "metric 'reward' is 1.5, must be at most 1");
  EXPECT_EQ(f.verdict(integers, "metric profit >= 1"), "metric 'profit' was not measured");
  EXPECT_EQ(f.verdict(f.commit<float>("F32", {NAN, 0, 0}, {1, 3}), "share policy 0.9"), "tensor 'policy' holds a row that is not finite");
  for (const char* bad : {"finite 1", "norm", "norm 1", "kl policy", "share policy x", "metric reward > 1", "metric reward >= nan", "mood policy 1"}) EXPECT_FALSE(parse_probe_rules(bad).has_value()) << bad;
  EXPECT_TRUE(parse_probe_rules("").has_value());
}

}  // namespace
}  // namespace drover::store::test
