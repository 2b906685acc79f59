// The database behind the history: SQLite, wrapped as far as history.cc needs it.
//
// Failures are SqlFailure, an exception that never leaves history.cc: a dozen statements in a row
// each of which may fail read better so. A statement is finalized, and a transaction rolled back,
// when its object goes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

struct sqlite3;
struct sqlite3_stmt;

namespace gatehouse {

struct SqlFailure {
  int code;             // SQLite's extended result code
  int system;           // errno of the system call behind it; 0: none known
  std::string message;  // says what failed and why

  // The file is no database, or its structure is damaged.
  bool is_corruption() const;
  // The file or its folder is missing, or may not be written by this process.
  bool is_refusal() const;
};

class SqlDatabase {
 public:
  // Makes the file (mode by umask) where it is not there. `wait_ms`: how long to wait for another
  // process that holds the database.
  SqlDatabase(const std::string& path, int wait_ms);
  SqlDatabase(const SqlDatabase&) = delete;
  SqlDatabase& operator=(const SqlDatabase&) = delete;
  ~SqlDatabase();

  // Statements without parameters and results, separated by ";".
  void run(const char* sql);
  int64_t last_row_id() const;
  const std::string& path() const { return path_; }
  // Throws what the database says about its last failure.
  [[noreturn]] void fail(int code) const;

 private:
  friend class SqlStatement;
  std::string path_;
  sqlite3* handle_ = nullptr;
};

class SqlStatement {
 public:
  SqlStatement(SqlDatabase& database, const char* sql);
  SqlStatement(const SqlStatement&) = delete;
  SqlStatement& operator=(const SqlStatement&) = delete;
  ~SqlStatement();

  // Parameters are numbered from 1; texts and blobs have to outlive the statement.
  SqlStatement& bind(int index, int64_t value);
  SqlStatement& bind(int index, std::string_view text);
  SqlStatement& bind_blob(int index, std::string_view bytes);

  // The next row; false after the last one.
  bool step();
  // Runs a statement that gives no rows.
  void run() {
    while (step()) {
    }
  }

  // Columns are numbered from 0.
  int64_t number(int column) const;
  std::string text(int column) const;
  std::string blob(int column) const;

 private:
  SqlDatabase& database_;
  sqlite3_stmt* statement_ = nullptr;
};

// Writes; without commit() everything since its beginning is undone.
class SqlTransaction {
 public:
  explicit SqlTransaction(SqlDatabase& database);
  SqlTransaction(const SqlTransaction&) = delete;
  SqlTransaction& operator=(const SqlTransaction&) = delete;
  ~SqlTransaction();
  void commit();

 private:
  SqlDatabase& database_;
  bool open_ = true;
};

}  // namespace gatehouse
