// ProcessPlan: which processes and sockets a configuration asks for.
//
// Filled from the configuration before run_master(); plain values, no descriptors.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/log.h"
#include "core/resolver.h"
#include "core/sockets.h"
#include "core/units.h"

namespace gatehouse {

struct PoolPlan {
  std::string name;
  uint32_t workers = 1;  // 1 or more
  uint32_t connections_max = 1024;
  // RLIMIT_NOFILE of each worker; 0: enough for connections_max clients with an upstream each.
  uint32_t nofile = 0;
};

struct ListenerPlan {
  std::string name;
  std::vector<SocketAddress> addresses;
  std::string pool;  // one of the pools
  int backlog = 4096;
};

struct ProcessPlan {
  std::vector<PoolPlan> pools;
  std::vector<ListenerPlan> listeners;
  std::vector<std::string> log_files;  // access logs and the like; opened by the master
  std::string error_log;               // empty or "stderr": standard error
  LogLevel error_log_level = LogLevel::kNotice;

  // Whom the workers run as. Used only where the master is root; group empty: the user's own.
  std::string user;
  std::string group;

  // What the workers compile: the sealed configuration, and what its targets' names mean.
  int config_fd = -1;
  uint32_t generation = 1;
  NameTable names;

  std::string pid_file;  // empty: none
  bool daemon = false;
  Duration drain_timeout{30'000};

  // Called in the master after a worker's end and before its replacement starts, so that what the
  // dead worker held (gauges, in-flight counts) can be zeroed in its row of shared tables.
  std::function<void(uint32_t row)> on_worker_exit;
};

}  // namespace gatehouse
