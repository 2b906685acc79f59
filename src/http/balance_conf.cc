// See balance_conf.h.
#include "http/balance_conf.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "http/chars.h"

namespace gatehouse {

namespace {

constexpr EnumName<BalanceMethod> kMethodNames[] = {
    {BalanceMethod::kRoundRobin, "round_robin"},       {BalanceMethod::kLeastConn, "least_conn"},
    {BalanceMethod::kLeastTime, "least_time"},         {BalanceMethod::kHash, "hash"},
    {BalanceMethod::kClientAddress, "client_address"}, {BalanceMethod::kSticky, "sticky"},
};
using MethodType = EnumValueType<BalanceMethod, kMethodNames>;

constexpr uint32_t kBoundMin = 101;
constexpr uint32_t kBoundMax = 1000;
constexpr uint32_t kFailuresMax = 1000;

Error missing(std::string_view word, std::string_view what) {
  return Error{"\"" + std::string(word) + "\" is followed by " + std::string(what)};
}

Result<uint32_t> parse_bound(std::string_view word) {
  if (word.ends_with('%')) {
    const Result<uint64_t> number = parse_unsigned(word.substr(0, word.size() - 1), kBoundMax);
    if (number && *number >= kBoundMin) return static_cast<uint32_t>(*number);
  }
  return missing("load", "a share from 101% to 1000%");
}

// What may stand in the attributes of Set-Cookie (RFC 6265 §4.1.1).
bool is_attribute(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return c > 0x20 && c < 0x7f && c != ';' && c != ',';
  });
}

Result<void> parse_sticky(std::string_view text, BalanceConf& conf) {
  conf.cookie = std::string(take_word(text));
  if (conf.cookie.empty() || !chars::is_token(conf.cookie)) {
    return missing("sticky", "the name of a cookie");
  }
  while (!text.empty()) {
    const std::string_view word = take_word(text);
    if (word == "secure") {
      conf.secure = true;
      continue;
    }
    const std::string_view value = take_word(text);
    if (word == "by") {
      const Result<BalanceMethod> method = MethodType::parse(value);
      if (!method || *method > BalanceMethod::kLeastTime) {
        return missing(word, "round_robin, least_conn or least_time");
      }
      conf.without_cookie = *method;
    } else if (word == "max_age") {
      const Result<Duration> age = ValueType<Duration>::parse(value);
      if (!age || *age < std::chrono::seconds(1)) return missing(word, "a time from 1s");
      conf.max_age = *age;
    } else if (word == "path") {
      if (!is_attribute(value) || value[0] != '/') return missing(word, "a path");
      conf.path = std::string(value);
    } else if (word == "domain") {
      if (!is_attribute(value)) return missing(word, "a domain");
      conf.domain = std::string(value);
    } else if (word == "same_site") {
      if (value != "lax" && value != "strict" && value != "none") {
        return missing(word, "lax, strict or none");
      }
      conf.same_site = std::string(value);
    } else {
      return unknown_word(word, {"by", "max_age", "path", "domain", "same_site", "secure"});
    }
  }
  if (conf.same_site == "none" && !conf.secure) {
    return Error{"browsers take a cookie with same_site none only where it is secure"};
  }
  return {};
}

}  // namespace

Result<BalanceConf> ValueType<BalanceConf>::parse(std::string_view text) {
  const Result<BalanceMethod> method = MethodType::parse(take_word(text));
  if (!method) return method.error();
  BalanceConf conf;
  conf.method = *method;
  if (conf.method == BalanceMethod::kSticky) {
    const Result<void> sticky = parse_sticky(text, conf);
    if (!sticky) return sticky.error();
    return conf;
  }
  if (conf.method == BalanceMethod::kHash) {
    const std::string_view key = take_word(text);
    if (key.empty()) return missing("hash", "a key such as $uri");
    Result<TextTemplate> parsed = TextTemplate::parse(key);
    if (!parsed) return parsed.error();
    if (parsed->is_literal())
      return Error{"a key without a $variable is the same for all requests"};
    conf.key = std::move(*parsed);
  }
  const bool hashes =
      conf.method == BalanceMethod::kHash || conf.method == BalanceMethod::kClientAddress;
  while (!text.empty()) {
    const std::string_view word = take_word(text);
    if (!hashes || word != "load") return Error{"unknown word \"" + std::string(word) + "\""};
    const Result<uint32_t> bound = parse_bound(take_word(text));
    if (!bound) return bound.error();
    conf.bound_percent = *bound;
  }
  return conf;
}

std::string ValueType<BalanceConf>::format(const BalanceConf& conf) {
  std::string text = MethodType::format(conf.method);
  if (conf.method == BalanceMethod::kHash) text += " " + conf.key.source();
  if (conf.bound_percent != 0) text += " load " + std::to_string(conf.bound_percent) + "%";
  if (conf.method != BalanceMethod::kSticky) return text;
  text += " " + conf.cookie;
  if (conf.without_cookie != BalanceMethod::kRoundRobin) {
    text += " by " + MethodType::format(conf.without_cookie);
  }
  if (conf.max_age != Duration::zero()) {
    text += " max_age " + ValueType<Duration>::format(conf.max_age);
  }
  if (conf.path != "/") text += " path " + conf.path;
  if (!conf.domain.empty()) text += " domain " + conf.domain;
  if (conf.secure) text += " secure";
  if (!conf.same_site.empty()) text += " same_site " + conf.same_site;
  return text;
}

std::string ValueType<BalanceConf>::expected() {
  return "round_robin, least_conn, least_time, hash $VARIABLE [load 125%], client_address "
         "[load 125%] or sticky COOKIE [by least_conn] [max_age 1h] [path /] [domain NAME] "
         "[secure] "
         "[same_site lax]";
}

Result<EjectConf> ValueType<EjectConf>::parse(std::string_view text) {
  EjectConf conf;
  if (text == "off") return conf;
  bool on_given = false;
  while (!text.empty()) {
    const std::string_view word = take_word(text);
    if (on_given) {
      std::string why;
      if (!conf.on.add_word(word, why)) {
        return Error{why.empty() ? "unknown word \"" + std::string(word) + "\" after \"on\"" : why};
      }
      continue;
    }
    if (word == "on") {
      on_given = true;
      conf.on = FailureSet();
      continue;
    }
    const std::string_view value = take_word(text);
    if (word == "failures") {
      const Result<uint64_t> number = parse_unsigned(value, kFailuresMax);
      if (!number || *number == 0) return missing(word, "a number from 1 to 1000");
      conf.rules.failures = static_cast<uint32_t>(*number);
    } else if (word == "open" || word == "longest") {
      const Result<Duration> time = ValueType<Duration>::parse(value);
      if (!time || *time < std::chrono::milliseconds(1) || *time > std::chrono::hours(24)) {
        return missing(word, "a time from 1ms to 1d");
      }
      (word == "open" ? conf.rules.open_ms : conf.rules.longest_ms) =
          static_cast<uint64_t>(time->count());
    } else if (word == "max") {
      const Result<Percent> share = ValueType<Percent>::parse(value);
      if (!share || share->hundredths == 0) return missing(word, "a share from 0.01% to 100%");
      conf.share = *share;
    } else {
      return unknown_word(word, {"failures", "open", "longest", "max", "on", "off"});
    }
  }
  if (conf.rules.failures == 0) return Error{"\"failures N\" is missing"};
  if (conf.on.empty()) return missing("on", "what counts as a failure");
  return conf;
}

std::string ValueType<EjectConf>::format(const EjectConf& conf) {
  if (conf.rules.failures == 0) return "off";
  const auto time = [](uint64_t ms) {
    return ValueType<Duration>::format(Duration(static_cast<int64_t>(ms)));
  };
  std::string text = "failures " + std::to_string(conf.rules.failures);
  text += " open " + time(conf.rules.open_ms) + " longest " + time(conf.rules.longest_ms);
  text += " max " + ValueType<Percent>::format(conf.share);
  return text + " on " + conf.on.format();
}

std::string ValueType<EjectConf>::expected() {
  return "off, or failures N [open 30s] [longest 5m] [max 50%] [on connect timeout reset "
         "bad_response 5xx 429]";
}

}  // namespace gatehouse
