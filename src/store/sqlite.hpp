#pragma once
/// SQLite behind Result: a connection, a prepared statement, a transaction. Private to store. One thread at a time.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "drover/types/error.hpp"

struct sqlite3;
struct sqlite3_stmt;

namespace drover::store {

enum class DatabaseMode : std::uint8_t { create_new, read_write, read_only };

class Statement {
 public:
  Statement() = default;
  Statement(Statement&& other) noexcept;
  Statement& operator=(Statement&& other) noexcept;
  ~Statement();

  // Parameters from 1. Text and blobs are not copied: they must live until the step() that uses them has returned.
  Statement& bind(int index, std::int64_t value);
  Statement& bind(int index, std::uint64_t value) { return bind(index, static_cast<std::int64_t>(value)); }  // same 64 bits
  Statement& bind(int index, std::int32_t value) { return bind(index, static_cast<std::int64_t>(value)); }
  Statement& bind(int index, std::uint32_t value) { return bind(index, static_cast<std::int64_t>(value)); }
  Statement& bind(int index, std::string_view text);
  Statement& bind(int index, const std::string& text) { return bind(index, std::string_view(text)); }
  Statement& bind(int index, const char* text) { return bind(index, std::string_view(text)); }
  Statement& bind_blob(int index, std::span<const std::byte> bytes);
  Statement& bind_null(int index);

  /// True: a row is there. False: done; the statement is reset and may be bound again.
  Result<bool> step();
  /// For statements without rows.
  Result<> run();
  void reset();

  std::int64_t integer(int column) const;
  std::uint64_t unsigned_integer(int column) const { return static_cast<std::uint64_t>(integer(column)); }
  std::string text(int column) const;
  std::span<const std::byte> blob(int column) const;   ///< until the next step
  bool is_null(int column) const;

 private:
  friend class Database;
  explicit Statement(sqlite3_stmt* statement) : statement_(statement) {}
  sqlite3_stmt* statement_ = nullptr;
  int bind_error_ = 0;
};

class Database {
 public:
  /// `busy_ms`: how long a call may wait for another process's lock.
  static Result<Database> open(const std::string& path, DatabaseMode mode, const std::string& vfs, int busy_ms);
  Database() = default;
  Database(Database&& other) noexcept;
  Database& operator=(Database&& other) noexcept;
  ~Database();

  Result<> execute(const char* sql);                       ///< any number of statements, rows are dropped
  Result<Statement> prepare(std::string_view sql);
  Result<std::int64_t> integer_of(std::string_view sql);   ///< first column of the first row; 0 without rows
  Result<std::string> text_of(std::string_view sql);

  /// Copies frames of the WAL into the database as far as readers allow; never waits for them. Returns the frames left.
  Result<int> checkpoint_wal();
  /// Frames in the WAL after the last commit.
  int wal_frames() const;
  /// Rows the last INSERT, UPDATE or DELETE touched.
  std::int64_t changes() const;
  void close();
  sqlite3* handle() const { return handle_; }

 private:
  sqlite3* handle_ = nullptr;
  int* wal_frames_ = nullptr;   // heap: its address is given to SQLite
};

/// BEGIN IMMEDIATE ... COMMIT; rolls back when it goes without commit().
class Transaction {
 public:
  static Result<Transaction> begin(Database& database);
  Transaction(Transaction&& other) noexcept : database_(other.database_) { other.database_ = nullptr; }
  Transaction& operator=(Transaction&&) = delete;
  ~Transaction();
  Result<> commit();

 private:
  explicit Transaction(Database* database) : database_(database) {}
  Database* database_ = nullptr;
};

}  // namespace drover::store
