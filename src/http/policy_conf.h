// What an [upstream] says about failing targets: breakers, retries, hedging, fallback, and how many
// requests may be under way. Value types and their grammar; the directive table is
// kUpstreamPolicyTable.
//
//   breaker = failures 5 or 50% of 20 in 10s, open 60s, close after 3
//   retry   = 2 on connect 502 503 budget 20%
//   hedge   = after 50ms
//   fallback    = reply 503 "Back in a minute."
//   concurrency = adaptive min 4 max 500
//
// Commas may stand between the parts, and mean nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/breaker.h"
#include "core/config.h"
#include "core/config_values.h"
#include "core/directive.h"
#include "core/units.h"
#include "http/failure_set.h"

namespace gatehouse {

// `off`, or when a breaker opens, and for how long.
struct BreakerConf {
  BreakerRules rules;  // none of its triggers: off
  FailureSet on = FailureSet::usual();
};

// `off`, or how often a request may be tried again, after what, and how much of that there may be.
struct RetryConf {
  uint32_t times = 0;  // beside the first try; 0: off
  FailureSet on;
  bool non_idempotent = false;  // methods too that may do something twice
  Percent budget{2000};         // of the requests
  uint32_t budget_min = 3;      // retries a second that there may always be
};

// `off`, or after how long without an answer a second target is asked too.
struct HedgeConf {
  Duration after{0};  // 0: off
};

// What a request gets that no target can be asked about.
struct FallbackConf {
  std::string upstream;  // the name of another upstream; empty: a reply
  uint16_t status = 0;   // of the reply; 0 with an empty upstream: none
  std::string text;
  bool any() const { return !upstream.empty() || status != 0; }
};

// `off`, or between which bounds the number of requests under way is found.
struct ConcurrencyConf {
  uint32_t min = 0;  // 0: off
  uint32_t max = 0;
  bool on() const { return min != 0; }
};

struct UpstreamPolicyConf {
  BreakerConf breaker;
  BreakerConf upstream_breaker;
  FallbackConf fallback;
  RetryConf retry;
  Duration try_timeout{0};  // 0: response_timeout
  Bytes retry_body_max = 64_KiB;
  HedgeConf hedge;
  ConcurrencyConf concurrency;

  // True where something is to be done that is not done anyway.
  bool any() const {
    return breaker.rules.any() || upstream_breaker.rules.any() || fallback.any() ||
           retry.times != 0 || try_timeout != Duration::zero() || hedge.after != Duration::zero() ||
           concurrency.on();
  }
  // True where the policy needs state that workers share.
  bool needs_target_rows() const { return breaker.rules.any(); }
  bool needs_upstream_row() const { return upstream_breaker.rules.any() || concurrency.on(); }
};

extern const DirectiveTable kUpstreamPolicyTable;

template <>
struct ValueType<BreakerConf> {
  static Result<BreakerConf> parse(std::string_view text);
  static std::string format(const BreakerConf& conf);
  static std::string expected();
};

template <>
struct ValueType<RetryConf> {
  static Result<RetryConf> parse(std::string_view text);
  static std::string format(const RetryConf& conf);
  static std::string expected();
};

template <>
struct ValueType<HedgeConf> {
  static Result<HedgeConf> parse(std::string_view text);
  static std::string format(const HedgeConf& conf);
  static std::string expected();
};

template <>
struct ValueType<FallbackConf> {
  static Result<FallbackConf> parse(std::string_view text);
  static std::string format(const FallbackConf& conf);
  static std::string expected();
};

template <>
struct ValueType<ConcurrencyConf> {
  static Result<ConcurrencyConf> parse(std::string_view text);
  static std::string format(const ConcurrencyConf& conf);
  static std::string expected();
};

}  // namespace gatehouse
