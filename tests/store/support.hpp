#pragma once
// What the store's tests share: a directory that goes away, a job with a writer, waiting with a bound, seeds that are printed.

#include <gtest/gtest.h>
#include <sqlite3.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>

#include "base/bytes.hpp"
#include "os/clock.hpp"
#include "os/file_system.hpp"
#include "store/ledger.hpp"
#include "store/ledger_writer.hpp"
#include "support/long.hpp"

namespace drover::store::test {

using drover::test::long_run;
using drover::test::scaled;
using namespace std::chrono_literals;

/// Everything a test waits for has this bound; a healthy machine needs a thousandth of it.
inline constexpr Nanos kBound = std::chrono::seconds(60);

inline TimePoint now() { return system_clock().now(); }

class TempDir {
 public:
  /// In `place`, if it is a directory; else where temporary files go.
  explicit TempDir(const std::string& place = {}) {
    std::string pattern = ((std::filesystem::is_directory(place) ? std::filesystem::path(place) : std::filesystem::temp_directory_path()) / "drover-store-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) std::abort();
    path_ = pattern;
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  const std::string& path() const { return path_; }
  std::string operator/(std::string_view name) const { return path_ + "/" + std::string(name); }

 private:
  std::string path_;
};

/// splitmix64: the same numbers on every machine.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  std::uint64_t below(std::uint64_t n) { return next() % n; }

 private:
  std::uint64_t state_;
};

/// DROVER_TEST_SEED replays; otherwise a new one each time. Printed always.
inline std::uint64_t seed_of(const char* test) {
  const char* asked = std::getenv("DROVER_TEST_SEED");
  const std::uint64_t seed = asked != nullptr ? std::strtoull(asked, nullptr, 0)
                                              : static_cast<std::uint64_t>(std::chrono::system_clock::now().time_since_epoch().count()) & 0xffffffff;
  std::printf("%s: DROVER_TEST_SEED=%llu\n", test, static_cast<unsigned long long>(seed));
  return seed;
}

class Bell {
 public:
  void ring() {
    const std::lock_guard lock(mutex_);
    ++rung_;
    changed_.notify_all();
  }
  /// Until `done()` is true, looking again after each ring; false at the bound.
  template <class Done>
  bool wait(Done done, Nanos bound = kBound) {
    const auto deadline = std::chrono::steady_clock::now() + bound;
    std::unique_lock lock(mutex_);
    for (;;) {
      const auto seen = rung_;
      lock.unlock();
      if (done()) return true;
      lock.lock();
      if (seen != rung_) continue;
      if (!changed_.wait_until(lock, deadline, [&] { return rung_ != seen; })) {
        lock.unlock();
        return done();
      }
    }
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::uint64_t rung_ = 0;
};

#define ASSERT_OK(expression)                                                                 \
  do {                                                                                        \
    const auto& ok_result_ = (expression);                                                    \
    ASSERT_TRUE(ok_result_.has_value()) << ok_result_.error().what() << " | " << ok_result_.error().advice(); \
  } while (false)
#define EXPECT_OK(expression)                                                                 \
  do {                                                                                        \
    const auto& ok_result_ = (expression);                                                    \
    EXPECT_TRUE(ok_result_.has_value()) << ok_result_.error().what() << " | " << ok_result_.error().advice(); \
  } while (false)

inline JobHeader header() {
  return {.id = "j1", .workload = "echo", .spec_hash = "00", .code_id = "c1", .created = "2024-01-01T00:00:00Z", .seed = 7, .digest_header = "n", .spec_json = "{}"};
}
inline RunStart run_start(std::string boot = "boot-1", Nanos boottime = Nanos(1000)) {
  return {.boot_id = std::move(boot), .supervisor_pid = 42, .supervisor_start_ticks = 4711, .boottime = boottime, .wall_time = "2024-01-01T00:00:00Z", .version = "0", .argv_json = "[]"};
}

/// Holds the database's write lock through a connection of its own until sqlite3_unlock.
inline sqlite3* sqlite3_lock(const std::string& path) {
  sqlite3* handle = nullptr;
  if (sqlite3_open(path.c_str(), &handle) == SQLITE_OK) {
    sqlite3_busy_timeout(handle, 5000);
    if (sqlite3_exec(handle, "BEGIN IMMEDIATE", nullptr, nullptr, nullptr) == SQLITE_OK) return handle;
  }
  sqlite3_close(handle);
  return nullptr;
}
inline void sqlite3_unlock(sqlite3* handle) {
  sqlite3_exec(handle, "ROLLBACK", nullptr, nullptr, nullptr);
  sqlite3_close(handle);
}

/// A job directory's durable half without the rest: ledger, results/, reserve.
struct Job {
  std::shared_ptr<Bell> bell = std::make_shared<Bell>();
  std::string root;
  FileSystem& fs;
  std::uint32_t run = 0;
  Recovery recovery;
  std::unique_ptr<LedgerWriter> writer;
  std::uint64_t next_record = 1;
  RecordBatch batch;

  explicit Job(std::string root_in, FileSystem& fs_in = posix_file_system()) : root(std::move(root_in)), fs(fs_in) {}
  std::string ledger_path() const { return root + "/ledger.db"; }

  Result<> start(const LedgerOptions& options, LedgerWriterOptions writer_options = {}, bool reserve = false) {
    auto made = fs.make_directory(root + "/results");
    if (!made && made.error().code() != ErrorCode::exists) return made;
    DROVER_TRY(const bool there, fs.exists(ledger_path()));
    auto opened = there ? Ledger::open(fs, ledger_path(), options) : Ledger::create(fs, ledger_path(), header(), options);
    if (!opened) return std::unexpected(std::move(opened).error());
    DROVER_TRY(recovery, opened->recover("boot-1", Nanos(5000)));
    DROVER_TRY(run, opened->begin_run(run_start(), recovery));
    writer_options.wake = [b = bell] { b->ring(); };
    DROVER_TRY(writer, make_ledger_writer(fs, std::move(*opened), run, root + "/results", reserve ? root + "/ledger.reserve" : "", writer_options));
    return {};
  }
  RecordNumber number() { return RecordNumber(next_record++); }
  void complete(std::uint64_t task, std::string_view result = {}, bool keep = false, std::uint32_t attempt = 1) {
    batch.add(number(), TaskCompleted{.task = TaskId(task), .spec_hash = task * 3, .epoch = Epoch(attempt), .attempt = attempt, .keep_result = keep, .result = bytes_of(result)});
  }
  /// True when everything appended so far is committed.
  bool settle() {
    if (!batch.empty() && !writer->append(batch, now())) return false;
    const RecordNumber upto(next_record - 1);
    return bell->wait([&] { return writer->committed() >= upto || writer->failure(); }) && !writer->failure();
  }
  Result<> finish(Ending ending = ending::Completed{}) {
    return writer->finish(RunEnded{.ending = std::move(ending), .consumed = Nanos(10), .boottime = Nanos(2000)}, after(now(), kBound));
  }
  Result<Ledger> read() { return Ledger::open_to_read(fs, ledger_path()); }
};

}  // namespace drover::store::test
