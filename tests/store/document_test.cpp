// Goal: docs/job_directory.md is true. Method: its event line has the fields a real one has, its tables and columns exist, its worked
// example is what the ledger does.

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "store/events_log.hpp"
#include "store/support.hpp"

namespace drover::store::test {
namespace {

std::string document() {
  std::ifstream file(std::string(DROVER_SOURCE_DIR) + "/docs/job_directory.md");
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

std::set<std::string> keys_of(const nlohmann::json& object) {
  std::set<std::string> keys;
  for (const auto& [key, value] : object.items()) keys.insert(key);
  return keys;
}

TEST(Document, ItsEventLineHasTheFieldsOfARealOne) {
  const std::string text = document();
  const auto at = text.find("{\"mono_ns\"");
  ASSERT_NE(at, std::string::npos);
  const auto example = nlohmann::json::parse(text.substr(at, text.find('\n', at) - at));
  TempDir dir;
  {
    auto log = EventsLog::open(posix_file_system(), dir / "events.jsonl", {});
    ASSERT_OK(log);
    log->add({.kind = "worker_died", .cause = "x", .slot = SlotId(0), .incarnation = Incarnation(1), .task = TaskId(1), .epoch = Epoch(1)});
  }
  const auto real = nlohmann::json::parse(*posix_file_system().read_file(dir / "events.jsonl"));
  EXPECT_EQ(keys_of(example), keys_of(real));
}

std::vector<std::vector<std::string>> query(const std::string& path, const std::string& sql) {
  sqlite3* handle = nullptr;
  std::vector<std::vector<std::string>> rows;
  EXPECT_EQ(sqlite3_open(path.c_str(), &handle), SQLITE_OK);
  char* error = nullptr;
  sqlite3_exec(handle, sql.c_str(), [](void* to, int n, char** values, char**) {
    auto& row = static_cast<std::vector<std::vector<std::string>>*>(to)->emplace_back();
    for (int i = 0; i < n; ++i) row.emplace_back(values[i] != nullptr ? values[i] : "NULL");
    return 0;
  }, &rows, &error);
  EXPECT_EQ(error, nullptr) << error;
  sqlite3_close(handle);
  return rows;
}

TEST(Document, ItsTablesAndColumnsAndItsWorkedExampleAreTrue) {
  TempDir dir;
  {
    Job job(dir.path());
    ASSERT_OK(job.start({.grain = Grain::ranges}));
    for (const std::uint64_t task : {0u, 1u, 2u, 4u, 5u, 6u, 8u, 9u}) job.complete(task);
    job.batch.add(AttemptEnded{.task = TaskId(3), .attempt = 1, .epoch = Epoch(1), .outcome = outcome::Crashed{11}, .will_retry = true});
    job.complete(3, {}, false, 2);
    job.batch.add(AttemptEnded{.task = TaskId(7), .attempt = 1, .epoch = Epoch(1), .outcome = outcome::AppError{"no"}});
    job.batch.add(job.number(), TaskFailed{.task = TaskId(7), .epoch = Epoch(1), .outcome = outcome::AppError{"no"}});
    ASSERT_TRUE(job.settle());
    ASSERT_OK(job.finish());
  }
  const std::string db = dir / "ledger.db", text = document();
  for (const auto& table : query(db, "SELECT name FROM sqlite_schema WHERE type = 'table'")) {
    EXPECT_NE(text.find("| `" + table[0] + "` |"), std::string::npos) << "table " << table[0] << " is not in the document";
  }
  for (const char* column : {"durability FROM job", "grain FROM job", "fence FROM job", "boot_id FROM runs", "start_ticks FROM runs", "consumed_ns FROM runs", "reconstructed FROM runs", "final FROM tasks",
                             "result_file FROM tasks", "fold FROM ranges", "epoch FROM attempts", "retry FROM attempts", "evidence FROM attempts", "tasks_upto FROM checkpoints",
                             "input_file FROM quarantine", "cause FROM incarnations", "upto FROM sinks", "check_hash FROM ranges"})
    query(db, std::string("SELECT ") + column);
  EXPECT_EQ(query(db, "SELECT first, last FROM ranges ORDER BY first"), (std::vector<std::vector<std::string>>{{"0", "2"}, {"4", "6"}, {"8", "9"}}));
  for (const auto& row : query(db, "SELECT outcome FROM tasks UNION SELECT outcome FROM attempts")) EXPECT_NE(text.find(row[0]), std::string::npos) << row[0] << " is not in the example";
  EXPECT_EQ(query(db, "SELECT id, attempts FROM tasks ORDER BY id"), (std::vector<std::vector<std::string>>{{"3", "2"}, {"7", "1"}}));
  EXPECT_EQ(query(db, "SELECT task, epoch, will_retry FROM attempts ORDER BY task"), (std::vector<std::vector<std::string>>{{"3", "1", "1"}, {"7", "1", "0"}}));
  EXPECT_EQ(query(db, "PRAGMA application_id"), (std::vector<std::vector<std::string>>{{std::to_string(0x44524f56)}}));
}

}  // namespace
}  // namespace drover::store::test
