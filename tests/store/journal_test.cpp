// Goal: a journal gives back what was appended, whatever crashed. Method: the file cut off at every byte and damaged at every byte; a writer
// that is killed.

#include "drover/journal.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>

namespace drover::test {
namespace {

namespace fs = std::filesystem;

class JournalTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "drover-journal-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    directory = name;
    path = directory / "journal";
  }
  void TearDown() override { fs::remove_all(directory); }
  Result<Journal> open(std::vector<std::string>& found) {
    found.clear();
    return Journal::open(path.string(), [&](BytesView record) -> Result<void> {
      found.emplace_back(reinterpret_cast<const char*>(record.data()), record.size());
      return {};
    });
  }
  static BytesView bytes(const std::string& text) { return std::as_bytes(std::span(text)); }
  std::string content() const {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  void put(const std::string& text) const { std::ofstream(path, std::ios::binary | std::ios::trunc) << text; }
  fs::path directory, path;
};

TEST_F(JournalTest, GivesBackWhatWasAppendedInOrder) {
  std::vector<std::string> found;
  const std::vector<std::string> records{"one", std::string(100'000, '\0'), "three", "x"};
  for (std::size_t i = 0; i < records.size(); ++i) {
    auto journal = open(found);
    ASSERT_TRUE(journal) << journal.error().what();
    EXPECT_EQ(found, std::vector<std::string>(records.begin(), records.begin() + static_cast<std::ptrdiff_t>(i)));
    EXPECT_TRUE(journal->append(bytes(records[i])));
    EXPECT_TRUE(journal->sync());
    EXPECT_EQ(journal->records(), i + 1);
  }
  auto journal = open(found);
  ASSERT_TRUE(journal);
  std::vector<std::string> other;
  EXPECT_EQ(open(other).error().code(), ErrorCode::busy);
  EXPECT_EQ(journal->append({}).error().code(), ErrorCode::usage);
}

TEST_F(JournalTest, WhatACrashCutOffIsTheLastRecordAlone) {
  std::vector<std::string> found;
  {
    auto journal = open(found);
    for (const std::string& one : {std::string("first"), std::string("second"), std::string("the last one")}) ASSERT_TRUE(journal->append(bytes(one)));
  }
  const std::string whole = content();
  const std::size_t second_end = whole.size() - 16 - std::string("the last one").size();
  for (std::size_t cut = 0; cut < whole.size(); ++cut) {
    put(whole.substr(0, cut));
    auto journal = open(found);
    ASSERT_TRUE(journal) << cut << ": " << journal.error().what();
    if (cut >= second_end) {
      EXPECT_EQ(found, (std::vector<std::string>{"first", "second"})) << cut;
    }
    const std::size_t kept = found.size();
    ASSERT_TRUE(journal->append(bytes("next")));
    journal = fail(ErrorCode::closed, "");
    ASSERT_TRUE(open(found)) << cut;
    EXPECT_EQ(found.size(), kept + 1) << cut;
    EXPECT_EQ(found.back(), "next");
  }
  // Pages of the last record that were never written.
  put(whole.substr(0, second_end) + std::string(60, '\0'));
  ASSERT_TRUE(open(found));
  EXPECT_EQ(found.size(), 2U);
}

TEST_F(JournalTest, DamageIsNeverPassedOver) {
  std::vector<std::string> found;
  {
    auto journal = open(found);
    for (const std::string& one : {std::string("first"), std::string("second"), std::string("third")}) ASSERT_TRUE(journal->append(bytes(one)));
  }
  const std::string whole = content();
  const std::size_t third = whole.size() - 16 - 5;
  for (std::size_t at = 0; at < third; ++at) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x41);
    put(damaged);
    const auto journal = open(found);
    ASSERT_FALSE(journal) << "byte " << at << " was changed, and " << found.size() << " records came back";
    EXPECT_EQ(journal.error().code(), ErrorCode::corrupt);
    EXPECT_EQ(content(), damaged) << "it is left as it is";
  }
}

TEST_F(JournalTest, AWriterThatIsKilledLosesNothingItHasAppended) {
  int told[2];
  ASSERT_EQ(::pipe(told), 0);
  const pid_t writer = ::fork();
  if (writer == 0) {
    std::vector<std::string> none;
    auto journal = open(none);
    if (!journal) ::_exit(9);
    for (std::uint32_t i = 0;; ++i) {
      const std::string record = std::to_string(i) + std::string(i % 5000, 'x');
      if (!journal->append(bytes(record))) ::_exit(8);
      if (::write(told[1], &i, sizeof i) != sizeof i) ::_exit(7);
    }
  }
  ::close(told[1]);
  std::uint32_t last = 0;
  while (last < 2000)
    if (::read(told[0], &last, sizeof last) != sizeof last) break;
  ::kill(writer, SIGKILL);
  ::waitpid(writer, nullptr, 0);
  while (::read(told[0], &last, sizeof last) == sizeof last) {
  }
  ::close(told[0]);
  std::vector<std::string> found;
  ASSERT_TRUE(open(found));
  ASSERT_GT(found.size(), 2000U);
  EXPECT_GE(found.size(), std::size_t{last} + 1) << "a record was appended and is gone";
  for (std::size_t i = 0; i < found.size(); ++i) EXPECT_EQ(found[i], std::to_string(i) + std::string(i % 5000, 'x'));
}

}  // namespace
}  // namespace drover::test
