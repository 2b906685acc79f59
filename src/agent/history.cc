// The statements of the history. See history.h for what is promised.
#include "agent/history.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/sha.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <optional>
#include <utility>

#include "agent/history_database.h"

namespace gatehouse {
namespace {

constexpr char kFile[] = "history.db";
constexpr char kDamaged[] = "history.db.damaged-";
constexpr int64_t kSchemaVersion = 1;
constexpr int64_t kPageSize = 4096;
constexpr int kCorrupt = 11;  // SQLITE_CORRUPT

// auto_vacuum has to be set before the first table, or the file would never shrink.
constexpr char kPrepare[] =
    "PRAGMA page_size=4096; PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL;"
    "PRAGMA synchronous=FULL; PRAGMA journal_size_limit=16777216; PRAGMA foreign_keys=ON";

constexpr char kSchema[] =
    "CREATE TABLE config (hash TEXT PRIMARY KEY, size INTEGER NOT NULL, stored INTEGER NOT NULL,"
    "  bytes BLOB NOT NULL);"
    "CREATE TABLE version (number INTEGER PRIMARY KEY AUTOINCREMENT, run TEXT NOT NULL,"
    "  generation INTEGER NOT NULL, hash TEXT NOT NULL REFERENCES config(hash),"
    "  time_us INTEGER NOT NULL, by_whom TEXT NOT NULL, outcome TEXT NOT NULL,"
    "  error TEXT NOT NULL);"
    "CREATE INDEX version_hash ON version (hash);"
    "CREATE TABLE running (one INTEGER PRIMARY KEY CHECK (one = 1), number INTEGER NOT NULL);"
    "PRAGMA user_version=1";

constexpr char kVersionColumns[] =
    "SELECT version.number, generation, time_us, by_whom, outcome, error, version.hash, size,"
    "  version.number = (SELECT number FROM running) FROM version"
    "  JOIN config ON config.hash = version.hash ";

HistoryVersion version_of(const SqlStatement& row) {
  HistoryVersion version;
  version.number = static_cast<uint64_t>(row.number(0));
  version.generation = static_cast<uint64_t>(row.number(1));
  version.time_us = row.number(2);
  version.by = row.text(3);
  version.outcome = row.text(4);
  version.error = row.text(5);
  version.hash = row.text(6);
  version.size = static_cast<uint64_t>(row.number(7));
  version.running = row.number(8) != 0;
  return version;
}

std::string pack(std::string_view bytes) {
  uLongf size = compressBound(bytes.size());
  std::string packed(size, '\0');
  const int code =
      compress2(reinterpret_cast<Bytef*>(packed.data()), &size,
                reinterpret_cast<const Bytef*>(bytes.data()), bytes.size(), Z_DEFAULT_COMPRESSION);
  if (code != Z_OK) throw std::bad_alloc();
  packed.resize(size);
  return packed;
}

Result<std::string> unpack(const std::string& packed, uint64_t size, const std::string& hash) {
  const Error damaged{"the stored configuration is damaged"};
  if (size > kHistoryBytesMax) return damaged;
  std::string bytes(size, '\0');
  uLongf got = size;
  const int code = uncompress(reinterpret_cast<Bytef*>(bytes.data()), &got,
                              reinterpret_cast<const Bytef*>(packed.data()), packed.size());
  if (code != Z_OK || got != size || sha256_hex(bytes) != hash) return damaged;
  return bytes;
}

std::string stamp_now() {
  const time_t now = time(nullptr);
  struct tm parts {};
  gmtime_r(&now, &parts);
  char text[32];
  const size_t size = strftime(text, sizeof text, "%Y%m%d-%H%M%S", &parts);
  return std::string(text, size);
}

// Made with mode 0700. One that is there already has to be a folder of ours, or anybody could read
// what configurations hold.
Result<void> make_folder(const std::string& path) {
  if (mkdir(path.c_str(), 0700) == 0) return {};
  if (errno != EEXIST) return errno_error("cannot make the folder " + path, errno);
  struct stat info {};
  if (lstat(path.c_str(), &info) != 0) return errno_error("cannot use the folder " + path, errno);
  if (!S_ISDIR(info.st_mode)) return Error{"cannot use the folder " + path + ": it is no folder"};
  if (info.st_uid != geteuid() && geteuid() != 0) {
    return Error{fmt::format("cannot use the folder {}: it belongs to user {}", path, info.st_uid)};
  }
  return {};
}

}  // namespace

std::string sha256_hex(std::string_view bytes) {
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), digest);
  std::string text;
  for (const unsigned char byte : digest) text += fmt::format("{:02x}", byte);
  return text;
}

struct History::State {
  Options options;
  std::optional<SqlDatabase> database;
  std::string notice;
  bool unusable = false;

  std::string path() const { return options.folder + "/" + kFile; }

  void open() {
    if (database) return;
    database.emplace(path(), options.lock_wait_ms);
    try {
      prepare();
    } catch (...) {
      database.reset();
      throw;
    }
  }

  void prepare() {
    database->run(kPrepare);
    set_file_limit();
    const int64_t version = number_of("PRAGMA user_version");
    if (version > kSchemaVersion) {
      throw SqlFailure{0, 0, path() + ": a newer version of gatehouse wrote it"};
    }
    SqlStatement check(*database, "PRAGMA quick_check(1)");
    if (check.step() && check.text(0) != "ok") {
      throw SqlFailure{kCorrupt, 0, path() + ": " + check.text(0)};
    }
    if (version == 0) {
      SqlTransaction transaction(*database);
      // Another process may have been faster.
      if (number_of("PRAGMA user_version") == 0) database->run(kSchema);
      transaction.commit();
    }
  }

  void set_file_limit() {
    const uint64_t bytes = options.file_max.count != 0 ? options.file_max.count
                                                       : options.size.count + 2 * kHistoryBytesMax;
    database->run(fmt::format("PRAGMA max_page_count={}", bytes / kPageSize).c_str());
  }

  int64_t number_of(const char* sql) {
    SqlStatement statement(*database, sql);
    return statement.step() ? statement.number(0) : 0;
  }

  // Runs `work` on the open database; a damaged one is replaced, and `work` run on the new one.
  template <typename T, typename Work>
  Result<T> with_database(Work work) {
    unusable = false;
    for (int attempt = 0;; ++attempt) {
      try {
        if (!database) {
          Result<void> folder = make_folder(options.folder);
          if (!folder) {
            unusable = true;
            return folder.error();
          }
        }
        open();
        return work(*database);
      } catch (const SqlFailure& failure) {
        unusable = failure.is_refusal();
        if (!failure.is_corruption() || attempt > 0) return Error{failure.message};
        database.reset();
        Result<void> moved = move_aside(failure.message);
        if (!moved) return moved.error();
      } catch (const std::bad_alloc&) {
        return Error{"out of memory"};
      }
    }
  }

  Result<void> move_aside(const std::string& why) {
    forget_old_damaged();
    const std::string stamp = stamp_now();
    std::string aside = options.folder + "/" + kDamaged + stamp;
    for (int n = 1; access(aside.c_str(), F_OK) == 0; ++n) {
      aside = fmt::format("{}/{}{}.{}", options.folder, kDamaged, stamp, n);
    }
    // The journal belongs to it; without it the new database would be damaged by the old one's.
    for (const char* suffix : {"-wal", "-shm", ""}) {
      if (rename((path() + suffix).c_str(), (aside + suffix).c_str()) != 0 && errno != ENOENT) {
        return errno_error("cannot move the damaged " + path() + " aside", errno);
      }
    }
    notice = fmt::format("the history was damaged ({}); it is kept as {}, and a new one begun", why,
                         aside);
    return {};
  }

  // Someone whose disk fails every day must not fill it with what it damaged.
  void forget_old_damaged() const {
    std::vector<std::string> names;
    DIR* folder = opendir(options.folder.c_str());
    if (folder == nullptr) return;
    while (const dirent* entry = readdir(folder)) {
      const std::string_view name = entry->d_name;
      if (name.starts_with(kDamaged) && !name.ends_with("-wal") && !name.ends_with("-shm")) {
        names.emplace_back(name);
      }
    }
    closedir(folder);
    std::sort(names.begin(), names.end());
    for (size_t i = 0; i + kHistoryDamagedKept <= names.size(); ++i) {
      for (const char* suffix : {"-wal", "-shm", ""}) {
        unlink((options.folder + "/" + names[i] + suffix).c_str());
      }
    }
  }

  void keep_bytes(const std::string& hash, std::string_view bytes) {
    SqlStatement known(*database, "SELECT 1 FROM config WHERE hash = ?1");
    if (known.bind(1, hash).step()) return;
    const std::string packed = pack(bytes);
    SqlStatement insert(*database, "INSERT INTO config VALUES (?1, ?2, ?3, ?4)");
    insert.bind(1, hash)
        .bind(2, static_cast<int64_t>(bytes.size()))
        .bind(3, static_cast<int64_t>(packed.size()))
        .bind_blob(4, packed)
        .run();
  }

  uint64_t insert_version(const HistoryEntry& entry, const std::string& hash) {
    const std::string_view error = std::string_view(entry.error).substr(0, kHistoryErrorMax);
    SqlStatement insert(*database,
                        "INSERT INTO version (run, generation, hash, time_us, by_whom, outcome,"
                        " error) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)");
    insert.bind(1, options.run)
        .bind(2, static_cast<int64_t>(entry.generation))
        .bind(3, hash)
        .bind(4, entry.time_us)
        .bind(5, entry.by)
        .bind(6, entry.outcome)
        .bind(7, error)
        .run();
    return static_cast<uint64_t>(database->last_row_id());
  }

  // The version of this run that an outcome of these bytes belongs to; 0: none yet.
  uint64_t find_version(const HistoryEntry& entry, const std::string& hash) {
    SqlStatement find(*database,
                      "SELECT number FROM version WHERE hash = ?1 AND run = ?2"
                      " AND ((outcome = 'checked' AND (generation = 0 OR generation = ?3))"
                      "   OR (generation = ?3 AND generation != 0"
                      "       AND outcome IN (?4, 'applied', 'abandoned')))"
                      " ORDER BY number DESC LIMIT 1");
    find.bind(1, hash).bind(2, options.run);
    find.bind(3, static_cast<int64_t>(entry.generation)).bind(4, entry.outcome);
    return find.step() ? static_cast<uint64_t>(find.number(0)) : 0;
  }

  uint64_t put_version(const HistoryEntry& entry, const std::string& hash) {
    const uint64_t number = find_version(entry, hash);
    if (number == 0) return insert_version(entry, hash);
    const std::string_view error = std::string_view(entry.error).substr(0, kHistoryErrorMax);
    SqlStatement update(*database,
                        "UPDATE version SET generation = ?2, time_us = ?3, by_whom = ?4,"
                        " outcome = ?5, error = ?6 WHERE number = ?1");
    update.bind(1, static_cast<int64_t>(number))
        .bind(2, static_cast<int64_t>(entry.generation))
        .bind(3, entry.time_us)
        .bind(4, entry.by)
        .bind(5, entry.outcome)
        .bind(6, error)
        .run();
    return number;
  }

  // Removes versions until the limits hold: first of the old ones, those that never served before
  // those that did; then, if it has to be, of the newest, all but the last and the running one.
  void prune() {
    int64_t versions = number_of("SELECT count(*) FROM version");
    int64_t stored = number_of("SELECT coalesce(sum(stored), 0) FROM config");
    const auto fits = [&] {
      return versions <= int64_t{options.keep} &&
             stored <= static_cast<int64_t>(options.size.count);
    };
    if (fits()) return;
    std::vector<int64_t> victims;
    SqlStatement order(*database,
                       "SELECT number FROM version"
                       " WHERE number NOT IN (SELECT number FROM running)"
                       "   AND number != (SELECT max(number) FROM version)"
                       " ORDER BY number > (SELECT max(number) FROM version) - ?1,"
                       "   outcome = 'applied', number");
    order.bind(1, int64_t{std::min(kHistoryNewest, options.keep / 2)});
    while (order.step()) victims.push_back(order.number(0));
    for (size_t i = 0; i < victims.size() && !fits(); ++i) {
      SqlStatement remove(*database, "DELETE FROM version WHERE number = ?1");
      remove.bind(1, victims[i]).run();
      --versions;
      if (stored > static_cast<int64_t>(options.size.count)) {
        forget_unused();
        stored = number_of("SELECT coalesce(sum(stored), 0) FROM config");
      }
    }
    forget_unused();
  }

  void forget_unused() {
    database->run("DELETE FROM config WHERE hash NOT IN (SELECT hash FROM version)");
  }

  // Gives freed pages back. Not worth failing for: what was stored is stored.
  void shrink() {
    try {
      SqlStatement vacuum(*database, "PRAGMA incremental_vacuum(1000)");
      vacuum.run();
    } catch (const SqlFailure&) {
    }
  }
};

History::History(Options options) : state_(std::make_unique<State>()) {
  state_->options = std::move(options);
}

History::~History() = default;

const std::string& History::folder() const {
  return state_->options.folder;
}

bool History::unusable() const {
  return state_->unusable;
}

std::string History::take_notice() {
  return std::exchange(state_->notice, {});
}

void History::set_limits(uint32_t keep, Bytes size) {
  if (keep == state_->options.keep && size == state_->options.size) return;
  state_->options.keep = keep;
  state_->options.size = size;
  state_->database.reset();  // opens anew with another limit of the file
}

Result<void> History::open() {
  const Result<bool> opened =
      state_->with_database<bool>([](SqlDatabase&) -> Result<bool> { return true; });
  if (!opened) return opened.error();
  return {};
}

Result<uint64_t> History::keep_checked(const HistoryEntry& entry, std::string_view bytes) {
  if (bytes.size() > kHistoryBytesMax) return Error{"the configuration is too large to be kept"};
  const std::string hash = sha256_hex(bytes);
  return state_->with_database<uint64_t>([&](SqlDatabase& database) -> Result<uint64_t> {
    uint64_t number;
    {
      SqlTransaction transaction(database);
      // One attempt at a time: what is still unsettled now will never be settled.
      SqlStatement abandon(database,
                           "UPDATE version SET outcome = 'abandoned' WHERE outcome = 'checked'"
                           " AND (run != ?1 OR hash != ?2)");
      abandon.bind(1, state_->options.run).bind(2, hash).run();
      HistoryEntry checked = entry;
      checked.outcome = "checked";
      state_->keep_bytes(hash, bytes);
      number = state_->put_version(checked, hash);
      state_->prune();
      transaction.commit();
    }
    state_->shrink();
    return number;
  });
}

Result<uint64_t> History::store(const HistoryEntry& entry, std::string_view bytes) {
  if (bytes.size() > kHistoryBytesMax) return Error{"the configuration is too large to be kept"};
  const std::string hash = sha256_hex(bytes);
  return state_->with_database<uint64_t>([&](SqlDatabase& database) -> Result<uint64_t> {
    uint64_t number;
    {
      SqlTransaction transaction(database);
      state_->keep_bytes(hash, bytes);
      number = state_->put_version(entry, hash);
      state_->prune();
      transaction.commit();
    }
    state_->shrink();
    return number;
  });
}

Result<uint64_t> History::set_running(const HistoryEntry& entry, std::string_view bytes) {
  if (bytes.size() > kHistoryBytesMax) return Error{"the configuration is too large to be kept"};
  const std::string hash = sha256_hex(bytes);
  return state_->with_database<uint64_t>([&](SqlDatabase& database) -> Result<uint64_t> {
    SqlTransaction transaction(database);
    // The attempt of this generation, whatever is known of its fate by now: it serves.
    SqlStatement find(database,
                      "SELECT number FROM version WHERE hash = ?1 AND run = ?2"
                      " AND (generation = ?3 OR outcome = 'checked')"
                      " ORDER BY generation = ?3 DESC, number DESC LIMIT 1");
    find.bind(1, hash).bind(2, state_->options.run);
    find.bind(3, static_cast<int64_t>(entry.generation));
    uint64_t number = find.step() ? static_cast<uint64_t>(find.number(0)) : 0;
    if (number == 0) {
      HistoryEntry applied = entry;
      applied.outcome = "applied";
      state_->keep_bytes(hash, bytes);
      number = state_->insert_version(applied, hash);
    }
    SqlStatement set(database, "INSERT OR REPLACE INTO running VALUES (1, ?1)");
    set.bind(1, static_cast<int64_t>(number)).run();
    state_->prune();
    transaction.commit();
    return number;
  });
}

Result<std::vector<HistoryVersion>> History::list(uint32_t limit, uint64_t before) {
  return state_->with_database<std::vector<HistoryVersion>>(
      [&](SqlDatabase& database) -> Result<std::vector<HistoryVersion>> {
        const std::string sql =
            std::string(kVersionColumns) +
            "WHERE ?1 = 0 OR version.number < ?1 ORDER BY version.number DESC LIMIT ?2";
        SqlStatement select(database, sql.c_str());
        select.bind(1, static_cast<int64_t>(before)).bind(2, int64_t{limit});
        std::vector<HistoryVersion> versions;
        while (select.step()) versions.push_back(version_of(select));
        return versions;
      });
}

Result<HistoryConfig> History::get(uint64_t number) {
  return state_->with_database<HistoryConfig>([&](SqlDatabase& database) -> Result<HistoryConfig> {
    const std::string sql = std::string(kVersionColumns) +
                            "WHERE version.number = CASE ?1 WHEN 0 THEN"
                            " (SELECT number FROM running) ELSE ?1 END";
    SqlStatement select(database, sql.c_str());
    select.bind(1, static_cast<int64_t>(number));
    if (!select.step()) {
      return number == 0 ? Error{"it is not known which version is running"}
                         : Error{fmt::format("there is no version {}", number)};
    }
    HistoryConfig config;
    config.version = version_of(select);
    if (config.version.size == 0) {
      return Error{fmt::format("version {} has no bytes: they could not be read", number)};
    }
    SqlStatement bytes(database, "SELECT bytes FROM config WHERE hash = ?1");
    bytes.bind(1, config.version.hash);
    if (!bytes.step()) return Error{fmt::format("the bytes of version {} are gone", number)};
    Result<std::string> unpacked = unpack(bytes.blob(0), config.version.size, config.version.hash);
    if (!unpacked) return unpacked.error();
    config.bytes = std::move(*unpacked);
    return config;
  });
}

}  // namespace gatehouse
