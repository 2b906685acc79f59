// How an [upstream] chooses among its targets, and which of them it leaves out for a while: the
// value types of `balance` and `eject`.
//
//   balance = round_robin | least_conn | least_time
//   balance = hash $header_x_user$uri load 125%
//   balance = client_address load 125%
//   balance = sticky SESSION by least_conn max_age 1h path /app domain example.com secure
//             same_site strict
//   eject   = failures 5 open 30s longest 5m max 50% on 5xx connect timeout
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/config_values.h"
#include "core/units.h"
#include "http/ejection.h"
#include "http/failure_set.h"
#include "http/text_template.h"

namespace gatehouse {

enum class BalanceMethod : uint8_t {
  kRoundRobin,
  kLeastConn,
  kLeastTime,
  kHash,
  kClientAddress,
  kSticky,
};

struct BalanceConf {
  BalanceMethod method = BalanceMethod::kRoundRobin;
  // hash
  TextTemplate key;
  // hash and client_address: the most a target may have, in percent of an even share; 0: any.
  uint32_t bound_percent = 0;
  // sticky: the cookie, what its field says beside the value, and who chooses where it names
  // nobody.
  std::string cookie;
  BalanceMethod without_cookie = BalanceMethod::kRoundRobin;
  Duration max_age{0};  // 0: as long as the browser's session
  std::string path = "/";
  std::string domain;
  std::string same_site;  // lax, strict or none; empty: left to the browser
  bool secure = false;

  // Who chooses where nothing in the request names a target.
  BalanceMethod chooser() const {
    return method == BalanceMethod::kSticky ? without_cookie : method;
  }
};

struct EjectConf {
  EjectionRules rules;  // failures 0: off
  Percent share{5000};  // of the targets that may be out at once
  FailureSet on = FailureSet::usual();
};

template <>
struct ValueType<BalanceConf> {
  static Result<BalanceConf> parse(std::string_view text);
  static std::string format(const BalanceConf& conf);
  static std::string expected();
};

template <>
struct ValueType<EjectConf> {
  static Result<EjectConf> parse(std::string_view text);
  static std::string format(const EjectConf& conf);
  static std::string expected();
};

}  // namespace gatehouse
