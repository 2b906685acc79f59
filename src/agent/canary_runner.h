// CanaryRunner: moves canaries from step to step.
//
//   metrics of both upstreams ─> judge_canary() ─> TrafficRow::share ─> workers
//                                                        └─> CanaryStore
//
// It looks several times in each step's interval, and at least once a second. A step is measured
// from where this agent has begun to look: after an agent's death, a reload that changes the
// canary, or a command, it begins anew with the same share. Where the row is all zeros (the gateway
// has been started anew) the canary goes on as the store remembers it. Each change is logged with
// its figures. Two agents at once, as during an upgrade, do no harm: each change is made by one of
// them.
#pragma once

#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "agent/canary.h"
#include "agent/canary_store.h"
#include "agent/job_thread.h"
#include "core/event_loop.h"
#include "core/metrics.h"
#include "core/shared_memory.h"
#include "core/traffic_plan.h"
#include "core/traffic_table.h"

namespace gatehouse {

class CanaryRunner {
 public:
  // `disk` is where the store is used.
  CanaryRunner(EventLoop& loop, JobThread& disk, SharedMemory& shared);
  CanaryRunner(const CanaryRunner&) = delete;
  CanaryRunner& operator=(const CanaryRunner&) = delete;

  // The canaries of the configuration that serves from now on. `folder` is the agent's; empty:
  // nothing is remembered.
  void serve(const std::vector<PlannedCanary>& planned, const std::string& folder);

  // For /metrics and /status.
  std::string metrics() const;
  nlohmann::json status() const;

 private:
  struct Canary {
    PlannedCanary plan;
    std::string row;
    bool known = false;  // `seen` was read, and the window belongs to it
    uint64_t seen = 0;   // the row's word
    Moment since;        // of the window
    CanarySide fresh;    // as they were then
    CanarySide stable;
    std::string figures;  // of the last look
    uint64_t decisions = 0;
  };

  void use_store(const std::string& folder);
  void turn();
  bool open();
  void look(Canary& canary);
  void begin(Canary& canary, TrafficRow& row);
  void measure(Canary& canary, TrafficRow& row);
  // Exchanges the row's word; false where somebody else has.
  bool change(Canary& canary, TrafficRow& row, const CanaryStand& next);
  void open_window(Canary& canary);
  void save(const Canary& canary);
  CanarySide side(const std::string& upstream);
  uint64_t now_ms() const;

  EventLoop& loop_;
  JobThread& disk_;
  SharedMemory& shared_;
  std::unique_ptr<TrafficTable> table_;
  std::unique_ptr<Metrics> metrics_;
  std::vector<SeriesTotal> totals_;  // of this turn, once somebody has asked
  std::vector<Canary> canaries_;
  std::string folder_;
  std::shared_ptr<const CanaryStore> store_;   // null: nothing is remembered
  std::map<std::string, CanaryStand> stored_;  // as it was found
  bool loaded_ = true;                         // `stored_` is what the store had
  std::string problem_;                        // of opening, said once
  Timer timer_;
};

}  // namespace gatehouse
