// What the agent tells about itself: as metrics, as JSON, and the verdict of /ready.
//
// Pure functions of what is known; the master's part of /status comes as the master gave it.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "agent/history.h"
#include "agent/log_rotator.h"

namespace gatehouse {

struct AgentReport {
  int32_t pid = 0;
  int64_t started_us = 0;   // wall clock, since the epoch
  int64_t now_us = 0;       // the same
  uint64_t generation = 0;  // that serves, as far as the agent was told; 0: not yet
  uint64_t checks_good = 0;
  uint64_t checks_bad = 0;
  uint64_t checks_failed = 0;  // the bytes could not be read or kept
  std::string history;         // the folder; empty where nothing is kept
  uint64_t history_stored = 0;
  uint64_t history_failures = 0;
  std::string history_error;  // of the last attempt
  std::string listen;         // empty: no HTTP
  std::string listen_error;
  uint64_t http_requests = 0;
  std::vector<RotationStatus> rotations;
};

// gatehouse_generation and the families gatehouse_agent_*, in Prometheus' exposition format.
std::string agent_metrics(const AgentReport& report);

nlohmann::json agent_json(const AgentReport& report);

// Whether the master's answer to `status` lets clients come: empty, or why not.
std::string why_not_ready(const nlohmann::json& status);

nlohmann::json version_json(const HistoryVersion& version);

}  // namespace gatehouse
