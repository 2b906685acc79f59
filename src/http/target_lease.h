// TargetLease: the right to use a target for one try.
//
// Choosing a target counts the try as in flight there, in the worker's own column of shared memory;
// the end of the lease gives that back, whatever ended it, and the death of the worker does too
// (core/worker_columns). settle() tells how the try went: from that come the target's latency, its
// breaker and whether it is ejected. The target of a plain upstream has no row in shared memory:
// its lease is a pointer.
#pragma once

#include <chrono>
#include <cstdint>
#include <utility>

#include "core/breaker.h"
#include "core/units.h"
#include "http/target_set.h"

namespace gatehouse {

struct Upstream;

// How a try ended.
struct TryOutcome {
  enum class Kind : uint8_t {
    kAnswered,       // a whole response head came; `status` is its
    kConnectFailed,  // also where connecting took too long
    kTimeout,
    kReset,
    kBadResponse,
    kCancelled,  // not the target's doing: it says nothing about it
  };
  Kind kind = Kind::kCancelled;
  uint16_t status = 0;
  std::chrono::microseconds
      latency{};  // from the start of the try to the response's head, or to the failure
};

class TargetLease {
 public:
  TargetLease() = default;
  TargetLease(TargetLease&& other) noexcept
      : upstream_(other.upstream_),
        target_(std::exchange(other.target_, nullptr)),
        state_(std::exchange(other.state_, nullptr)),
        set_(std::move(other.set_)),
        pass_(other.pass_),
        settled_(other.settled_) {}
  TargetLease& operator=(TargetLease&& other) noexcept {
    if (this != &other) {
      end();
      upstream_ = other.upstream_;
      target_ = std::exchange(other.target_, nullptr);
      state_ = std::exchange(other.state_, nullptr);
      set_ = std::move(other.set_);
      pass_ = other.pass_;
      settled_ = other.settled_;
    }
    return *this;
  }
  ~TargetLease() { end(); }

  explicit operator bool() const { return target_ != nullptr; }
  // REQUIRES: there is one, and detach() was not called.
  UpstreamTarget& target() const { return *target_; }
  // The set that the target is of.
  TargetSet& set() const { return *set_; }

  // Records how the try went; the first call counts. A lease that ends without has learnt nothing.
  // REQUIRES: the generation is held.
  void settle(const TryOutcome& outcome);

  // For a try that outlives its generation, as a tunnel does: from now on the lease only counts.
  void detach() {
    target_ = nullptr;
    set_.reset();
    upstream_ = nullptr;
  }

  // Ends it now.
  void end() {
    if (state_ != nullptr) give_back();
    target_ = nullptr;
    set_.reset();
  }

 private:
  friend class TargetChooser;
  void give_back();
  BreakerCells breaker_cells() const;
  void eject(uint64_t now_ms);

  const Upstream* upstream_ = nullptr;
  UpstreamTarget* target_ = nullptr;
  TargetState* state_ = nullptr;  // what counts the try; null where nothing does
  TargetSetRef set_;
  BreakerPass pass_;  // what the target's breaker gave
  bool settled_ = false;
};

}  // namespace gatehouse
