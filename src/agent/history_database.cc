// SQLite's calls, with their failures as exceptions. See history_database.h.
#include "agent/history_database.h"

#include <fmt/format.h>
#include <sqlite3.h>

#include <cerrno>
#include <cstring>

namespace gatehouse {
namespace {

// What SQLite says is short; what the system said last tells a full disk from a missing right.
std::string describe(const std::string& path, sqlite3* handle, int code) {
  const int primary = code & 0xff;
  std::string text = fmt::format("{}: ", path);
  switch (primary) {
    case SQLITE_FULL:
      text += "no room left on the device, or the history is as large as it may be";
      break;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      text += "another process holds it locked";
      break;
    case SQLITE_READONLY:
      text += "it may not be written";
      break;
    default:
      text += handle != nullptr ? sqlite3_errmsg(handle) : sqlite3_errstr(code);
      break;
  }
  const int system = handle != nullptr ? sqlite3_system_errno(handle) : 0;
  if (system != 0 && (primary == SQLITE_CANTOPEN || primary == SQLITE_IOERR)) {
    text += fmt::format(" ({})", std::strerror(system));
  }
  return text;
}

}  // namespace

bool SqlFailure::is_corruption() const {
  const int primary = code & 0xff;
  return primary == SQLITE_CORRUPT || primary == SQLITE_NOTADB;
}

bool SqlFailure::is_refusal() const {
  const int primary = code & 0xff;
  if (primary == SQLITE_READONLY || primary == SQLITE_PERM) return true;
  return primary == SQLITE_CANTOPEN &&
         (system == EACCES || system == EPERM || system == EROFS || system == ENOENT);
}

SqlDatabase::SqlDatabase(const std::string& path, int wait_ms) : path_(path) {
  const int code =
      sqlite3_open_v2(path.c_str(), &handle_,
                      SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nullptr);
  if (code != SQLITE_OK) {
    SqlFailure failure{code, sqlite3_system_errno(handle_), describe(path_, handle_, code)};
    sqlite3_close(handle_);
    throw failure;
  }
  sqlite3_extended_result_codes(handle_, 1);
  sqlite3_busy_timeout(handle_, wait_ms);
}

SqlDatabase::~SqlDatabase() {
  sqlite3_close(handle_);
}

void SqlDatabase::fail(int code) const {
  throw SqlFailure{code, sqlite3_system_errno(handle_), describe(path_, handle_, code)};
}

void SqlDatabase::run(const char* sql) {
  const int code = sqlite3_exec(handle_, sql, nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) fail(code);
}

int64_t SqlDatabase::last_row_id() const {
  return sqlite3_last_insert_rowid(handle_);
}

SqlStatement::SqlStatement(SqlDatabase& database, const char* sql) : database_(database) {
  const int code = sqlite3_prepare_v2(database.handle_, sql, -1, &statement_, nullptr);
  if (code != SQLITE_OK) database.fail(code);
}

SqlStatement::~SqlStatement() {
  sqlite3_finalize(statement_);
}

SqlStatement& SqlStatement::bind(int index, int64_t value) {
  const int code = sqlite3_bind_int64(statement_, index, value);
  if (code != SQLITE_OK) database_.fail(code);
  return *this;
}

// A null pointer would bind NULL, so an empty text needs one that is not.
SqlStatement& SqlStatement::bind(int index, std::string_view text) {
  const int code = sqlite3_bind_text64(statement_, index, text.empty() ? "" : text.data(),
                                       text.size(), SQLITE_STATIC, SQLITE_UTF8);
  if (code != SQLITE_OK) database_.fail(code);
  return *this;
}

SqlStatement& SqlStatement::bind_blob(int index, std::string_view bytes) {
  const int code = sqlite3_bind_blob64(statement_, index, bytes.empty() ? "" : bytes.data(),
                                       bytes.size(), SQLITE_STATIC);
  if (code != SQLITE_OK) database_.fail(code);
  return *this;
}

bool SqlStatement::step() {
  const int code = sqlite3_step(statement_);
  if (code == SQLITE_ROW) return true;
  if (code != SQLITE_DONE) database_.fail(code);
  return false;
}

int64_t SqlStatement::number(int column) const {
  return sqlite3_column_int64(statement_, column);
}

std::string SqlStatement::text(int column) const {
  return blob(column);
}

std::string SqlStatement::blob(int column) const {
  const void* bytes = sqlite3_column_blob(statement_, column);
  const int size = sqlite3_column_bytes(statement_, column);
  return bytes == nullptr ? std::string()
                          : std::string(static_cast<const char*>(bytes), static_cast<size_t>(size));
}

SqlTransaction::SqlTransaction(SqlDatabase& database) : database_(database) {
  // IMMEDIATE: a reader that wants to write later would fail at once where somebody else writes.
  database_.run("BEGIN IMMEDIATE");
}

SqlTransaction::~SqlTransaction() {
  if (!open_) return;
  try {
    database_.run("ROLLBACK");
  } catch (const SqlFailure&) {
    // A full disk makes SQLite roll back by itself; there is nothing to undo then.
  }
}

void SqlTransaction::commit() {
  database_.run("COMMIT");
  open_ = false;
}

}  // namespace gatehouse
