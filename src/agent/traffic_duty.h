// TrafficDuty: what the agent does for the traffic: it checks targets and discovers them, and
// writes what it finds out where every worker reads it.
//
//   plan of the configuration ─> discovery ─> MemberLists (core/member_lists.h)
//                                    └─> targets ─> health checks ─> TrafficRow::health
//
// One agent is on duty at a time. While an upgrade is under way there are two: the new one waits
// until the old one has ended, and looks for that ten times a second.
#pragma once

#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "agent/health_checker.h"
#include "agent/job_thread.h"
#include "agent/registrations.h"
#include "agent/target_api.h"
#include "agent/target_discovery.h"
#include "core/event_loop.h"
#include "core/member_lists.h"
#include "core/shared_memory.h"
#include "core/traffic_plan.h"
#include "core/traffic_table.h"

namespace gatehouse {

class TrafficDuty {
 public:
  static Result<std::unique_ptr<TrafficDuty>> create(EventLoop& loop, SharedMemory& shared);
  TrafficDuty(const TrafficDuty&) = delete;
  TrafficDuty& operator=(const TrafficDuty&) = delete;
  ~TrafficDuty();

  // The configuration that serves from now on.
  // `state`: the agent's folder; empty: nothing is kept.
  void serve(TrafficPlan plan, TargetDiscovery::Settings settings, const std::string& state);

  bool on_duty() const { return on_duty_; }
  // Nothing is being read or written on the thread beside the loop.
  bool idle() const { return reading_->idle(); }
  // ---- Registrations; REQUIRES: on_duty() ----
  // Empty where the upstream takes registrations, or why it does not.
  std::string why_no_registrations(const std::string& upstream) const;
  std::vector<std::string> registering_upstreams() const;
  std::vector<Registration> registered(const std::string& upstream) const;
  void put_registration(Registration registration, const ApiDone& done);
  void remove_registration(const std::string& upstream, const SocketAddress& address,
                           const ApiDone& done);

  // For /metrics and /status.
  std::string metrics() const;
  nlohmann::json status() const;

 private:
  TrafficDuty(EventLoop& loop, SharedMemory& shared);
  void turn();
  void apply();
  void update(const PlannedUpstream& upstream);
  void publish(const PlannedUpstream& upstream, const std::vector<Member>& members);
  void watch(const PlannedUpstream& upstream, const std::vector<Member>& members);
  void update_registering();
  const PlannedUpstream* find(const std::string& upstream) const;
  TrafficTable* table();
  void tell(const std::string& target, TargetVerdict verdict);
  TargetVerdict before(const std::string& target);

  EventLoop& loop_;
  SharedMemory& shared_;
  std::unique_ptr<HealthProbes> probes_;
  std::unique_ptr<HealthChecker> checker_;
  std::unique_ptr<TrafficTable> table_;
  std::optional<MemberLists> lists_;
  std::unique_ptr<JobThread> reading_;
  std::unique_ptr<TargetDiscovery> discovery_;
  std::unique_ptr<Registrations> registrations_;
  TrafficPlan plan_;
  TargetDiscovery::Settings settings_;
  std::string state_;
  std::map<std::string, std::vector<Member>> members_;  // in force, by upstream
  std::map<std::string, size_t> left_out_;              // of them, for want of room
  uint64_t published_ = 0;
  bool on_duty_ = false;
  bool applied_ = true;
  std::string problem_;  // that keeps it from its duty
  Timer timer_;
};

}  // namespace gatehouse
