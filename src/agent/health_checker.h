// HealthChecker: which targets are up, found out by asking them.
//
// Each target is checked at once when it becomes known, and when its check changes; then at the
// check's interval, give or take its jitter, counted from the start of the check before, and never
// twice at a time. At most kChecksAtOnce checks are under way; further ones wait their turn.
//
// The first answer decides by itself. After that, `fall` bad answers in a row take a target down,
// and `rise` good ones bring it back. A change is said once in the log and told to the owner, who
// tells the workers. A new agent begins with what the one before has said last.
// Leaves out: where the targets come from (agent/traffic_duty), how one check is made
// (agent/health_probe).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "agent/health_probe.h"
#include "core/event_loop.h"
#include "core/sockets.h"
#include "core/target_verdict.h"
#include "core/traffic_plan.h"

namespace gatehouse {

inline constexpr size_t kChecksAtOnce = 128;

// What is known of a target, and the answers that speak against it.
struct HealthRecord {
  std::optional<bool> up;  // none: not known yet
  uint32_t against = 0;    // answers in a row that contradict it
  uint32_t same = 0;       // answers in a row that said the same as the last
  bool last = false;
};

// Counts an answer; true where it changes what is known. A pure function.
bool note_answer(HealthRecord& record, const HealthCheck& check, bool good);

// A target to be checked.
struct CheckedTarget {
  std::string name;  // in the traffic table: "users/10.0.0.1:8080"
  SocketAddress address;
  std::string host;     // for the Host field
  bool secure = false;  // https
};

struct TargetHealth {
  std::string name;
  std::string address;
  std::optional<bool> up;
  uint64_t checks = 0;
  uint64_t failures = 0;
  int64_t since_us = 0;  // wall clock: of the last change
  int64_t last_us = 0;   // the same: of the last answer
  std::string error;     // of the last answer; empty where it was good
};

class HealthChecker {
 public:
  struct Owner {
    // What is known of a target, after each answer.
    std::function<void(const std::string& name, TargetVerdict)> tell;
    // What was said of it before this agent.
    std::function<TargetVerdict(const std::string& name)> before;
  };

  HealthChecker(EventLoop& loop, HealthProbes& probes, Owner owner);
  HealthChecker(const HealthChecker&) = delete;
  HealthChecker& operator=(const HealthChecker&) = delete;
  ~HealthChecker();

  // From now on these targets of the upstream, each name once; those that stay go on as they are.
  void set(const std::string& upstream, const HealthCheck& check,
           std::span<const CheckedTarget> targets);
  // None of any other upstream any more.
  void keep_only(std::span<const std::string> upstreams);
  // Of no upstream.
  void clear() { keep_only({}); }

  // Tells the owner again what is known, for rows that were made after it was found out.
  void tell_all();

  std::vector<TargetHealth> status() const;  // ordered by name
  uint64_t checks_good() const { return good_; }
  uint64_t checks_bad() const { return bad_; }

 private:
  struct Target;

  void due(Target& target);
  void begin(Target& target);
  void answered(Target& target, const ProbeOutcome& outcome);
  static TargetVerdict verdict_of(const Target& target);
  void start_waiting();
  Duration pause(const Target& target);

  EventLoop& loop_;
  HealthProbes& probes_;
  Owner owner_;
  std::map<std::string, std::map<std::string, std::unique_ptr<Target>>> upstreams_;
  std::vector<Target*> waiting_;  // due, while kChecksAtOnce are under way
  size_t under_way_ = 0;
  uint64_t good_ = 0;
  uint64_t bad_ = 0;
  std::minstd_rand random_;
};

}  // namespace gatehouse
