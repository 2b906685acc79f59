// LogRotator: watches the logs, moves those that are due, and sees each old one to its end.
//
//   due ── moved away ── the master has all processes reopen ── packed ── kept, or removed
//            │                      │ refused
//            └─ moved back ─────────┘ (or asked again later, where a new file is there already)
//
// A line that a worker writes meanwhile goes into the old file or into the new one, for a worker
// keeps its descriptor until it reopens; so nothing is packed before the master has said that all
// of them have. What a killed agent leaves is found by the names on disk (agent/rotated_files.h):
// an old file that is not packed is asked a reopen for, then packed, like a new one.
//
// Logs are looked at by stat() once a second. A log's age counts from the making of the file, as
// the file system tells it, which a restart of the agent does not change; where it does not tell,
// from the last rotation, and where there is none, from when the agent first saw it. Packing is
// done on a thread of its own. Of two agents (an upgrade) one rotates: the first to lock a log.
//
// A failure is said once, and what failed is tried again after a pause that grows to a minute.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/job_thread.h"
#include "agent/rotated_files.h"
#include "core/log_conf.h"
#include "core/result.h"
#include "core/unique_fd.h"

namespace gatehouse {

struct RotationRule {
  std::string path;
  LogRotation rotation;
  friend bool operator==(const RotationRule&, const RotationRule&) = default;
};

// How it goes with one log, for /status and the metrics.
struct RotationStatus {
  std::string path;
  uint64_t rotations = 0;  // since the agent's start; those that the master has confirmed
  uint64_t failures = 0;
  uint64_t size = 0;      // of the log, when it was last looked at
  int64_t last_us = 0;    // the last rotation, 0: none yet
  uint32_t unpacked = 0;  // old files that are yet to be packed
  std::string error;      // of the last attempt; empty where it went well
};

class LogRotator {
 public:
  using Reopened = std::function<void(Result<void>)>;

  // `reopen` asks the master, and calls back exactly once, later. `packing` outlives the rotator,
  // or is told nothing more when it goes.
  LogRotator(JobThread& packing, std::function<void(Reopened)> reopen);
  LogRotator(const LogRotator&) = delete;
  LogRotator& operator=(const LogRotator&) = delete;
  ~LogRotator();

  // From now on these logs, each path once. What is under way with the others is finished by
  // whoever rotates them next.
  void set_rules(const std::vector<RotationRule>& rules);

  // Looks at all of them. Call it once a second. `now_us`: wall clock.
  void tick(int64_t now_us);

  std::vector<RotationStatus> status() const;
  // True while the master is asked, or a file packed.
  bool busy() const;

 private:
  struct File;
  struct Alive;

  bool hold(File& file);
  void find_leftovers(File& file);
  void look(File& file);
  int64_t age_of(File& file, const LogFileState& state) const;
  void ask_reopen();
  void reopened(const Result<void>& result);
  void move_back(File& file);
  void pack_next(File& file);
  void packed(File& file, const std::string& plain, const Result<Packing>& result);
  void prune(File& file);
  void failed(File& file, const std::string& problem);

  JobThread& packing_;
  std::function<void(Reopened)> reopen_;
  std::shared_ptr<Alive> alive_;  // what callbacks look at before they touch this object
  std::map<std::string, std::unique_ptr<File>> files_;  // by path
  int64_t now_us_ = 0;
  bool reopening_ = false;
  int64_t reopen_not_before_us_ = 0;
  int64_t reopen_pause_us_ = 0;
};

}  // namespace gatehouse
