// TargetSet: the targets of an upstream, as one list that never changes.
//
// The list that the configuration gives is part of the generation. Where discovery changes the
// members of an upstream while traffic flows, the worker makes another set, and the upstream points
// at that from then on: a set is replaced as a whole. Exchanges that chose from the one before hold
// it (TargetSetRef), so that what they know of their target stays true until they end. Holders are
// counted on the loop's thread alone, by a plain counter, and only those of sets made at run time:
// the configuration's own lives as long as its generation, which the exchange holds anyway.
//
// What changes about a target while it is in use (connections, position in the balancer, the rows
// in shared memory) is not here but in its TargetState (http/upstream_connection.h), which outlives
// sets and generations.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/config.h"
#include "core/metrics.h"
#include "core/sockets.h"

namespace gatehouse {

struct TargetTransport;
struct TrafficRow;
class TargetState;
class TargetStates;

// One server of an upstream.
struct UpstreamTarget {
  std::string name;          // "users/127.0.0.1:8080": the metric series, the row in shared memory
  std::string address_text;  // "127.0.0.1:8080": in logs
  SocketAddress address;
  std::string host;  // for a Host field where the request has none
  uint32_t weight = 1;
  bool resolved = true;  // false: down, its name means no address
  bool is_name = false;  // the configuration gives a name: the address may change
  bool backup = false;
  uint32_t max_connections = 0;  // requests in flight over all workers; 0: no cap
  std::shared_ptr<const TargetTransport> transport;  // null: HTTP/1.1 over plain TCP
  Origin origin;
  // What the balancers know it by; see bind_balancing().
  uint64_t seed = 0;
  uint64_t sticky_id = 0;
  // Bound to a worker; null before.
  TargetState* state = nullptr;
  SeriesCells* cells = nullptr;
  // In shared memory; null for the targets of plain upstreams.
  TrafficRow* row = nullptr;
  uint32_t row_index = 0;
};

class TargetSet {
 public:
  // The configuration's own.
  TargetSet() = default;
  // One made at run time, for which `states` holds what its targets have. It is destroyed by the
  // last TargetSetRef.
  explicit TargetSet(TargetStates& states) : states_(&states) {}
  TargetSet(const TargetSet&) = delete;
  TargetSet& operator=(const TargetSet&) = delete;

  std::vector<UpstreamTarget> targets;
  uint64_t version = 0;  // of the list that discovery gave; 0: the configuration's

 private:
  friend class TargetSetRef;
  ~TargetSet() = default;
  friend struct Upstream;
  void release();

  TargetStates* states_ = nullptr;
  uint32_t holders_ = 0;
};

// Holds a set made at run time; points at the configuration's own.
class TargetSetRef {
 public:
  TargetSetRef() = default;
  explicit TargetSetRef(TargetSet& set) : set_(&set) { hold(); }
  TargetSetRef(const TargetSetRef& other) : set_(other.set_) { hold(); }
  TargetSetRef(TargetSetRef&& other) noexcept : set_(std::exchange(other.set_, nullptr)) {}
  TargetSetRef& operator=(TargetSetRef other) noexcept {
    std::swap(set_, other.set_);
    return *this;
  }
  ~TargetSetRef() { reset(); }

  void reset() {
    if (set_ == nullptr) return;
    TargetSet* const set = std::exchange(set_, nullptr);
    if (set->states_ != nullptr && --set->holders_ == 0) set->release();
  }
  explicit operator bool() const { return set_ != nullptr; }
  TargetSet* get() const { return set_; }
  TargetSet& operator*() const { return *set_; }
  TargetSet* operator->() const { return set_; }

 private:
  void hold() {
    if (set_ != nullptr && set_->states_ != nullptr) ++set_->holders_;
  }
  TargetSet* set_ = nullptr;
};

}  // namespace gatehouse
