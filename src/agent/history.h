// The history: every configuration that was in force or was tried, with its bytes and its fate.
//
// One SQLite database, history.db, in the agent's folder (made with mode 0700), in WAL mode with
// every commit synced: an agent that is killed anywhere leaves a database that is whole. A version
// is one attempt to bring a configuration into force; its bytes (a sealed ConfigSource, compressed
// with zlib) are stored once for all versions that have the same SHA-256.
//
// A version begins as "checked" when its bytes have been found good, and learns its fate with
// store(); one whose fate was never told is "abandoned". Versions are numbered from 1 and no number
// is used twice.
//
// Limits: history_keep versions, and about history_size bytes of compressed configurations.
// Attempts that were not applied give way first, then the oldest; the running one stays always, and
// so do the newest few. The file itself never grows beyond a hard limit.
//
// What goes wrong is said in the result and the next call tries anew: the folder may be there by
// then, the disk have room. A damaged database is moved aside (history.db.damaged-STAMP) and a new
// one begun; take_notice() says so. A database that a newer version of gatehouse wrote is left
// alone.
// Not for use by several threads at once. Several processes may have it open (an upgrade).
// Leaves out: the meaning of the bytes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "core/units.h"

namespace gatehouse {

inline constexpr size_t kHistoryErrorMax = size_t{16} << 10;   // bytes of a version's error text
inline constexpr size_t kHistoryBytesMax = size_t{128} << 20;  // of one configuration
inline constexpr uint32_t kHistoryNewest = 10;  // versions that stay whatever their fate is
inline constexpr uint32_t kHistoryDamagedKept = 3;

struct HistoryEntry {
  uint64_t generation = 0;  // 0: it did not get one, or it is not known yet
  int64_t time_us = 0;      // wall clock, since the epoch
  std::string by;           // who asked for it
  std::string outcome;      // checked, applied, refused, rolled_back, abandoned
  std::string error;        // may be lines
};

struct HistoryVersion : HistoryEntry {
  uint64_t number = 0;
  std::string hash;   // SHA-256 of the bytes, in hexadecimal
  uint64_t size = 0;  // of the bytes
  bool running = false;
};

struct HistoryConfig {
  HistoryVersion version;
  std::string bytes;
};

// SHA-256 in hexadecimal.
std::string sha256_hex(std::string_view bytes);

class History {
 public:
  struct Options {
    std::string folder;
    uint32_t keep = 500;   // versions
    Bytes size = 256_MiB;  // of all configurations, compressed
    Bytes file_max;        // of the database; 0: room for `size` and what comes before pruning
    std::string run;       // tells this run of gatehouse from others, whose generations begin at 1
    int lock_wait_ms = 2000;
  };

  explicit History(Options options);
  History(const History&) = delete;
  History& operator=(const History&) = delete;
  ~History();

  // Opens or makes the database, where it is not open yet. All others do so by themselves.
  Result<void> open();
  // Other limits from now on; the folder stays.
  void set_limits(uint32_t keep, Bytes size);
  const std::string& folder() const;

  // Keeps the bytes as a version whose fate store() will tell. Gives its number.
  Result<uint64_t> keep_checked(const HistoryEntry& entry, std::string_view bytes);
  // Tells the fate of a version: the checked one of the same bytes, or of the same generation of
  // this run, so that being told twice makes one version; otherwise a new one. Gives its number.
  Result<uint64_t> store(const HistoryEntry& entry, std::string_view bytes);
  // These bytes serve: a version that has them is marked and stays; it is made where there is none.
  Result<uint64_t> set_running(const HistoryEntry& entry, std::string_view bytes);

  // The newest first; only those with a number less than `before`, unless that is 0.
  Result<std::vector<HistoryVersion>> list(uint32_t limit, uint64_t before = 0);
  // With number 0 the running one. Fails where there is no such version.
  Result<HistoryConfig> get(uint64_t number);

  // True where the last call failed because the folder or the database cannot be used at all: not
  // there, not ours, read-only. A full disk is something else.
  bool unusable() const;

  // What an operator should know and no result said; empty when told.
  std::string take_notice();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace gatehouse
