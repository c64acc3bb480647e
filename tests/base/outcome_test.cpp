// Goal: every outcome and ending has one name, one text, one JSON form that is read back unchanged, and a class and blame that
// docs/outcomes.md tells the same way. Method: one example of each alternative, and the page's table parsed.
#include "drover/types/outcome.hpp"

#include <gtest/gtest.h>

#include <csignal>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "drover/types/ending.hpp"

namespace {
using namespace drover;

std::vector<Outcome> all_outcomes() {
  std::vector<Outcome> all{outcome::Completed{},
                           outcome::AppError{"no such node \"x\"\n"},
                           outcome::Exited{3},
                           outcome::Crashed{SIGSEGV},
                           outcome::OutOfMemory{1 << 20, (1 << 20) + 4096, true},
                           outcome::OutOfMemory{0, 123456789, false},
                           outcome::ProtocolBroken{"slot 9 of 8"},
                           outcome::PolicyViolation{"connect"},
                           outcome::StartFailed{"exec", 2},
                           outcome::Quarantined{3}};
  for (int i = 0; i <= 3; ++i) all.emplace_back(outcome::OverLimit{static_cast<LimitKind>(i), 10, ~std::uint64_t{0}});
  for (int i = 0; i <= 4; ++i) all.emplace_back(outcome::TimedOut{static_cast<TimeoutKind>(i), Millis(250)});
  for (int i = 0; i <= 2; ++i) all.emplace_back(outcome::Stalled{static_cast<StallKind>(i), Seconds(2)});
  for (int i = 0; i <= 4; ++i) all.emplace_back(outcome::Lost{static_cast<LossCause>(i)});
  for (int i = 0; i <= 1; ++i) all.emplace_back(outcome::Cancelled{static_cast<CancelKind>(i)});
  for (int i = 0; i <= 1; ++i) all.emplace_back(outcome::Rejected{static_cast<RejectKind>(i)});
  for (int i = 0; i <= 4; ++i) all.emplace_back(outcome::UnknownEffect{static_cast<LossCause>(i)});
  return all;
}

TEST(Outcome, EveryOneIsReadBackFromItsJsonUnchanged) {
  for (const Outcome& outcome : all_outcomes()) {
    const auto back = parse_outcome(json_of(outcome));
    ASSERT_TRUE(back.has_value()) << json_of(outcome) << ": " << back.error().what();
    EXPECT_EQ(*back, outcome) << json_of(outcome);
  }
}

TEST(Outcome, WhatJsonOfDidNotWriteIsRefusedAndNamed) {
  for (const char* bad : {"", "[]", "{", "{}", R"({"name":"finished"})", R"({"name":"crashed"})", R"({"name":"crashed","signal":"11"})",
                          R"({"name":"crashed","signal":99999999999})", R"({"name":"timed_out","what":"lunch","limit_ns":1})",
                          R"({"name":"quarantined","blamed_attempts":-1})", R"({"name":"out_of_memory","limit_bytes":1,"peak_bytes":2})"}) {
    const auto read = parse_outcome(bad);
    ASSERT_FALSE(read.has_value()) << bad;
    EXPECT_EQ(read.error().code(), ErrorCode::corrupt) << bad;
  }
}

TEST(Outcome, BytesThatAreNotUtf8DoNotBreakTheLedger) {
  EXPECT_TRUE(parse_outcome(json_of(outcome::AppError{"\xff\xfe broken"})).has_value());
}

TEST(Outcome, TextSaysTheEvidence) {
  EXPECT_EQ(text_of(Outcome(outcome::Crashed{SIGSEGV})), "crashed(SIGSEGV)");
  EXPECT_EQ(text_of(Outcome(outcome::TimedOut{TimeoutKind::attempt_wall, Seconds(5)})), "timed_out(attempt_wall 5 s)");
  EXPECT_EQ(text_of(Outcome(outcome::TimedOut{TimeoutKind::run, kUnlimited})), "timed_out(run)");
  EXPECT_EQ(text_of(Outcome(outcome::Lost{LossCause::killed})), "lost(killed)");
  EXPECT_EQ(text_of(Outcome(outcome::Lost{LossCause::operator_})), "lost(operator)");
  EXPECT_EQ(text_of(Outcome(outcome::Completed{})), "completed");
  EXPECT_EQ(text_of(Outcome(outcome::OutOfMemory{64 << 20, 65 << 20, true})), "out_of_memory(our limit 64 MiB, peak 65 MiB)");
  EXPECT_EQ(text_of(Outcome(outcome::StartFailed{"exec", 2})), "start_failed(exec: errno: No such file or directory)");
  EXPECT_EQ(signal_name(64), "signal 64");
}

/// The outcome a table row means: `out_of_memory` ours and not, `timed_out(run)` and so on are rows of their own.
std::string row_of(const Outcome& outcome) {
  const std::string name(name_of(outcome));
  return std::visit(Overloaded{[&](const outcome::OutOfMemory& o) { return name + (o.ours ? "(ours)" : "(host)"); },
                               [&](const outcome::TimedOut& o) { return name + "(" + std::string(name_of(o.what)) + ")"; },
                               [&](const outcome::Stalled& o) { return name + "(" + std::string(name_of(o.how)) + ")"; },
                               [&](const outcome::Lost& o) { return name + "(" + std::string(name_of(o.cause)) + ")"; },
                               [&](const outcome::UnknownEffect& o) { return name + "(" + std::string(name_of(o.cause)) + ")"; },
                               [&](const auto&) { return name; }},
                    outcome);
}

TEST(Outcome, DocsOutcomesTellsTheClassAndTheBlameOfEach) {
  std::ifstream page(DROVER_SOURCE_DIR "/docs/outcomes.md");
  ASSERT_TRUE(page) << "docs/outcomes.md";
  std::map<std::string, std::pair<std::string, std::string>> rows;
  for (std::string line; std::getline(page, line);) {
    if (!line.starts_with("| `")) continue;
    std::vector<std::string> cells;
    std::istringstream in(line);
    for (std::string cell; std::getline(in, cell, '|');) {
      const auto first = cell.find_first_not_of(" `");
      const auto last = cell.find_last_not_of(" `");
      cells.push_back(first == std::string::npos ? "" : cell.substr(first, last - first + 1));
    }
    ASSERT_GE(cells.size(), 6u) << line;
    if (name_of(RetryClass::none) == cells[2] || name_of(RetryClass::never) == cells[2] || name_of(RetryClass::blamed) == cells[2] ||
        name_of(RetryClass::free) == cells[2]) {
      rows[cells[1]] = {cells[2], cells[3]};
    }
  }
  std::map<std::string, bool> used;
  for (const Outcome& outcome : all_outcomes()) {
    const std::string row = row_of(outcome);
    ASSERT_TRUE(rows.contains(row)) << row << " is missing in docs/outcomes.md";
    EXPECT_EQ(rows[row].first, name_of(retry_of(outcome))) << row;
    EXPECT_EQ(rows[row].second, name_of(blame_of(outcome))) << row;
    used[row] = true;
  }
  EXPECT_EQ(used.size(), rows.size()) << "docs/outcomes.md has a row for no outcome";
}

TEST(Ending, EveryOneIsReadBackAndHasItsExitStatus) {
  const std::vector<std::pair<Ending, int>> all{{ending::Completed{}, 0},
                                                {ending::Incomplete{}, 1},
                                                {ending::Limit{JobLimit::wall}, 3},
                                                {ending::Limit{JobLimit::until}, 3},
                                                {ending::Limit{JobLimit::tasks}, 3},
                                                {ending::Stalled{}, 4},
                                                {ending::GaveUp{GiveUpReason::intensity, "11 restarts"}, 4},
                                                {ending::Fenced{}, 4},
                                                {ending::Cancelled{CancelledBy::operator_}, 3},
                                                {ending::Cancelled{CancelledBy::interrupt}, 130},
                                                {ending::HostFault{"ledger"}, 4},
                                                {ending::SupervisorLost{}, 4},
                                                {ending::HostReboot{}, 4}};
  for (const auto& [ending, status] : all) {
    EXPECT_EQ(exit_status_of(ending), status) << text_of(ending);
    const auto back = parse_ending(json_of(ending));
    ASSERT_TRUE(back.has_value()) << json_of(ending);
    EXPECT_EQ(*back, ending);
  }
  EXPECT_EQ(text_of(Ending(ending::Cancelled{CancelledBy::operator_})), "cancelled(operator)");
  EXPECT_FALSE(parse_ending(R"({"name":"limit","what":"beer"})").has_value());
  EXPECT_FALSE(parse_ending("nonsense").has_value());
}

}  // namespace
