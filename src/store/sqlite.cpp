#include "store/sqlite.hpp"

#include <sqlite3.h>

#include <cerrno>
#include <utility>

namespace drover::store {
namespace {

/// The code tells the reader's next move; the message is SQLite's own plus errno's where a system call failed.
Error error_of(sqlite3* handle, int code, std::string_view what) {
  std::string message(what);
  message += ": ";
  message += handle != nullptr ? sqlite3_errmsg(handle) : sqlite3_errstr(code);
  const int extended = handle != nullptr ? sqlite3_extended_errcode(handle) : code;
  const int os_error = handle != nullptr ? sqlite3_system_errno(handle) : 0;
  const int primary = code & 0xff;
  ErrorCode kind = ErrorCode::system;
  switch (primary) {
    case SQLITE_FULL: kind = ErrorCode::no_space; break;
    case SQLITE_NOMEM: kind = ErrorCode::no_space; break;
    case SQLITE_BUSY:
    case SQLITE_LOCKED: kind = ErrorCode::busy; break;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: kind = ErrorCode::corrupt; break;
    case SQLITE_CONSTRAINT: kind = ErrorCode::exists; break;
    case SQLITE_CANTOPEN:
      kind = os_error == ENOENT ? ErrorCode::not_found
             : os_error == EMFILE || os_error == ENFILE || os_error == ENOSPC ? ErrorCode::no_space : ErrorCode::system;
      break;
    case SQLITE_IOERR:
      if (os_error == ENOSPC || os_error == EDQUOT) kind = ErrorCode::no_space;
      break;
    default: break;
  }
  if (primary == SQLITE_IOERR || primary == SQLITE_CANTOPEN) {
    message += " (SQLite code " + std::to_string(extended);
    if (os_error != 0) message += ", " + Error::from_errno(os_error, "errno").what();
    message += ")";
  }
  return Error(kind, std::move(message));
}

}  // namespace

// ---- Statement ----

Statement::Statement(Statement&& other) noexcept
    : statement_(std::exchange(other.statement_, nullptr)), bind_error_(std::exchange(other.bind_error_, 0)) {}
Statement& Statement::operator=(Statement&& other) noexcept {
  if (this != &other) {
    sqlite3_finalize(statement_);
    statement_ = std::exchange(other.statement_, nullptr);
    bind_error_ = std::exchange(other.bind_error_, 0);
  }
  return *this;
}
Statement::~Statement() { sqlite3_finalize(statement_); }

Statement& Statement::bind(int index, std::int64_t value) {
  if (const int code = sqlite3_bind_int64(statement_, index, value); code != SQLITE_OK) bind_error_ = code;
  return *this;
}
Statement& Statement::bind(int index, std::string_view text) {
  // A null data pointer would bind NULL; an empty view is empty text.
  const char* data = text.data() != nullptr ? text.data() : "";
  if (const int code = sqlite3_bind_text64(statement_, index, data, text.size(), SQLITE_STATIC, SQLITE_UTF8); code != SQLITE_OK) bind_error_ = code;
  return *this;
}
Statement& Statement::bind_blob(int index, std::span<const std::byte> bytes) {
  const void* data = bytes.data() != nullptr ? static_cast<const void*>(bytes.data()) : "";
  if (const int code = sqlite3_bind_blob64(statement_, index, data, bytes.size(), SQLITE_STATIC); code != SQLITE_OK) bind_error_ = code;
  return *this;
}
Statement& Statement::bind_null(int index) {
  if (const int code = sqlite3_bind_null(statement_, index); code != SQLITE_OK) bind_error_ = code;
  return *this;
}

Result<bool> Statement::step() {
  if (bind_error_ != 0) {
    const int code = std::exchange(bind_error_, 0);
    return std::unexpected(error_of(sqlite3_db_handle(statement_), code, "binding a value"));
  }
  const int code = sqlite3_step(statement_);
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) {
    sqlite3_reset(statement_);
    return false;
  }
  Error error = error_of(sqlite3_db_handle(statement_), code, "the ledger's database");
  sqlite3_reset(statement_);
  return std::unexpected(std::move(error));
}

Result<> Statement::run() {
  auto row = step();
  if (!row) return std::unexpected(std::move(row).error());
  if (*row) sqlite3_reset(statement_);
  return {};
}

void Statement::reset() { sqlite3_reset(statement_); }
std::int64_t Statement::integer(int column) const { return sqlite3_column_int64(statement_, column); }
std::string Statement::text(int column) const {
  const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement_, column));
  return text == nullptr ? std::string() : std::string(text, static_cast<std::size_t>(sqlite3_column_bytes(statement_, column)));
}
std::span<const std::byte> Statement::blob(int column) const {
  const auto* data = static_cast<const std::byte*>(sqlite3_column_blob(statement_, column));
  return {data, static_cast<std::size_t>(sqlite3_column_bytes(statement_, column))};
}
bool Statement::is_null(int column) const { return sqlite3_column_type(statement_, column) == SQLITE_NULL; }

// ---- Database ----

Result<Database> Database::open(const std::string& path, DatabaseMode mode, const std::string& vfs, int busy_ms) {
  // No mutexes inside SQLite: a connection is used by one thread at a time (the loop's before, the writer's after the hand-over).
  int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
  switch (mode) {
    case DatabaseMode::create_new: flags |= SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE; break;
    case DatabaseMode::read_write: flags |= SQLITE_OPEN_READWRITE; break;
    case DatabaseMode::read_only: flags |= SQLITE_OPEN_READONLY; break;
  }
  Database database;
  const int code = sqlite3_open_v2(path.c_str(), &database.handle_, flags, vfs.empty() ? nullptr : vfs.c_str());
  if (code != SQLITE_OK) return std::unexpected(error_of(database.handle_, code, "open '" + path + "'"));
  sqlite3_busy_timeout(database.handle_, busy_ms);
  database.wal_frames_ = new int(0);
  // Our own hook replaces SQLite's automatic checkpoint, which would run inside the commit and delay its acknowledgement.
  sqlite3_wal_hook(
      database.handle_,
      [](void* frames, sqlite3*, const char*, int count) {
        *static_cast<int*>(frames) = count;
        return SQLITE_OK;
      },
      database.wal_frames_);
  return database;
}

Database::Database(Database&& other) noexcept
    : handle_(std::exchange(other.handle_, nullptr)), wal_frames_(std::exchange(other.wal_frames_, nullptr)) {}
Database& Database::operator=(Database&& other) noexcept {
  if (this != &other) {
    close();
    handle_ = std::exchange(other.handle_, nullptr);
    wal_frames_ = std::exchange(other.wal_frames_, nullptr);
  }
  return *this;
}
Database::~Database() { close(); }
void Database::close() {
  sqlite3_close_v2(std::exchange(handle_, nullptr));
  delete std::exchange(wal_frames_, nullptr);
}

Result<> Database::execute(const char* sql) {
  const int code = sqlite3_exec(handle_, sql, nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) return std::unexpected(error_of(handle_, code, "the ledger's database"));
  return {};
}

Result<Statement> Database::prepare(std::string_view sql) {
  sqlite3_stmt* statement = nullptr;
  const int code = sqlite3_prepare_v3(handle_, sql.data(), static_cast<int>(sql.size()), SQLITE_PREPARE_PERSISTENT, &statement, nullptr);
  if (code != SQLITE_OK) return std::unexpected(error_of(handle_, code, "the ledger's database"));
  return Statement(statement);
}

Result<std::int64_t> Database::integer_of(std::string_view sql) {
  DROVER_TRY(Statement statement, prepare(sql));
  DROVER_TRY(const bool row, statement.step());
  return row ? statement.integer(0) : 0;
}
Result<std::string> Database::text_of(std::string_view sql) {
  DROVER_TRY(Statement statement, prepare(sql));
  DROVER_TRY(const bool row, statement.step());
  return row ? statement.text(0) : std::string();
}

std::int64_t Database::changes() const { return sqlite3_changes64(handle_); }
int Database::wal_frames() const { return wal_frames_ != nullptr ? *wal_frames_ : 0; }

Result<int> Database::checkpoint_wal() {
  int in_wal = 0, copied = 0;
  const int code = sqlite3_wal_checkpoint_v2(handle_, nullptr, SQLITE_CHECKPOINT_PASSIVE, &in_wal, &copied);
  if (code != SQLITE_OK && (code & 0xff) != SQLITE_BUSY) return std::unexpected(error_of(handle_, code, "copying the WAL into the database"));
  if (wal_frames_ != nullptr) *wal_frames_ = in_wal - copied;
  return in_wal - copied;
}

// ---- Transaction ----

Result<Transaction> Transaction::begin(Database& database) {
  DROVER_CHECK(database.execute("BEGIN IMMEDIATE"));
  return Transaction(&database);
}
Transaction::~Transaction() {
  if (database_ != nullptr) (void)database_->execute("ROLLBACK");
}
Result<> Transaction::commit() {
  DROVER_CHECK(database_->execute("COMMIT"));
  database_ = nullptr;
  return {};
}

}  // namespace drover::store
