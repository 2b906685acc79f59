// ProcessPlan: which processes, sockets and files a configuration asks for.
//
// Made by whoever compiles the configuration (http/config_check), carried out by the master; plain
// values, no descriptors. The master itself never looks into the configuration's bytes. `where` is
// the beginning of an error message, "FILE:LINE: [section] key = value: ", or empty.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/certificate_plan.h"
#include "core/log.h"
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
  std::vector<std::string> where;  // of each address; may be shorter
};

struct LogFilePlan {
  std::string path;
  std::string where;
};

struct AgentPlan {
  bool on = false;
  std::string user;   // empty: the workers'
  std::string state;  // its folder
  // What it has to know of the upstreams, as core/traffic_plan.h writes it; passed on unread.
  std::string traffic;
};

struct ProcessPlan {
  std::vector<PoolPlan> pools;
  std::vector<ListenerPlan> listeners;
  std::vector<LogFilePlan> log_files;  // access logs and the like; opened by the master
  CertificatePlan certificates;        // whose files the master reads
  LogFilePlan error_log;               // empty or "stderr": standard error
  LogLevel error_log_level = LogLevel::kNotice;

  // Whom the workers run as. Used only where the master is root; group empty: the user's own.
  std::string user;
  std::string group;
  std::string user_where;

  AgentPlan agent;
  Duration drain_timeout{30'000};
  // How long a new configuration may take: to be checked by one checker, and in all.
  Duration check_timeout{5'000};
  Duration reload_timeout{60'000};
  Duration upgrade_timeout{60'000};

  // What a reload cannot change; see restart_notes().
  std::string pid_file;  // empty: none
  std::string control;   // the control socket's path; empty: none
  std::string control_group;
  bool daemon = false;
  uint64_t shared_memory = 0;  // bytes
  uint32_t metric_series = 0;
  uint32_t targets_max = 0;  // 0: as many as there are
};

// What `next` asks for and a reload cannot give, a line each ("shared_memory: takes effect …").
std::vector<std::string> restart_notes(const ProcessPlan& now, const ProcessPlan& next);

}  // namespace gatehouse
