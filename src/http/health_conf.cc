// How health and discover are written. See health_conf.h.
#include "http/health_conf.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "core/config_values.h"
#include "http/chars.h"

namespace gatehouse {
namespace {

constexpr Duration kEveryMin{100};
constexpr Duration kEveryMax = std::chrono::hours(24);
constexpr Duration kTimeoutMin{10};
constexpr Duration kTimeoutMax = std::chrono::minutes(5);
constexpr uint64_t kRowMax = 1000;

constexpr Directive kDirectives[] = {
    directive<&UpstreamHealthConf::health>(
        "health",
        "How the agent checks each target: a request, grpc for a call of the gRPC health protocol "
        "(of a service, where one is named), or tcp for a connection. A check is made at "
        "once and then at this interval, give or take the jitter; the target is down after `fall` "
        "bad answers in a row and up again after `rise` good ones, and the first answer of all "
        "counts by itself. Expected may be statuses, fields (header NAME or \"NAME: VALUE\") and a "
        "text in the first 64k of the body; port names another port than the target's. While the "
        "agent is away, what it said last is not believed.",
        "GET /healthz every 5s timeout 2s jitter 10% expect 200-299 rise 2 fall 3"),
    directive<&UpstreamHealthConf::discover>(
        "discover",
        "Where targets come from that no line names. dns: every address of the names in the "
        "target lines is a target; dns srv: every server of their SRV records; file: a JSON file; "
        "api: registrations, by gatehouse target register or the agent's HTTP API. Without it a "
        "name in a target line is one target, whose address follows the name.",
        "dns srv every 10s", DirectiveFlag::kNotInherited),
};

Error about(std::string_view part, std::string_view problem) {
  return Error{fmt::format("{}: {}", part, problem)};
}

Result<void> read_duration(std::string_view name, std::string_view& text, Duration low,
                           Duration high, Duration& into) {
  const std::string_view word = take_word(text);
  Result<Duration> value = ValueType<Duration>::parse(word);
  if (!value) return about(name, value.error().message);
  if (*value < low) return about(name, "too small");
  if (*value > high) return about(name, "too large");
  into = *value;
  return {};
}

template <typename Number>
Result<void> read_number(std::string_view name, std::string_view& text, uint64_t high,
                         Number& into) {
  const Result<uint64_t> value = parse_unsigned(take_word(text), high);
  if (!value || *value == 0) return about(name, fmt::format("expected 1 to {}", high));
  into = static_cast<Number>(*value);
  return {};
}

Result<StatusRange> parse_status(std::string_view word) {
  const size_t dash = word.find('-');
  const Result<uint64_t> low = parse_unsigned(word.substr(0, dash), 599);
  const Result<uint64_t> high =
      dash == std::string_view::npos ? low : parse_unsigned(word.substr(dash + 1), 599);
  if (!low || !high || *low < 100 || *high < *low) {
    return about("expect", fmt::format("\"{}\" is no status", word));
  }
  return StatusRange{static_cast<uint16_t>(*low), static_cast<uint16_t>(*high)};
}

// All words up to the next one that is no status.
Result<void> read_statuses(std::string_view& text, HealthCheck& check) {
  check.expect.clear();
  while (!text.empty() && text.front() >= '0' && text.front() <= '9') {
    const Result<StatusRange> range = parse_status(take_word(text));
    if (!range) return range.error();
    check.expect.push_back(*range);
  }
  if (check.expect.empty()) return about("expect", "no status");
  return {};
}

Result<void> read_field(std::string_view& text, HealthCheck& check) {
  const Result<std::string> field = take_quoted_word(text);
  if (!field) return about("header", field.error().message);
  const std::string_view all = *field;
  const size_t colon = all.find(':');
  const std::string_view name = all.substr(0, colon);
  std::string_view value =
      colon == std::string_view::npos ? std::string_view() : all.substr(colon + 1);
  while (value.starts_with(' ') || value.starts_with('\t')) value.remove_prefix(1);
  while (value.ends_with(' ') || value.ends_with('\t')) value.remove_suffix(1);
  if (!chars::is_token(name)) {
    return about("header", fmt::format("\"{}\" is no field's name", name));
  }
  check.fields.push_back({std::string(name), std::string(value)});
  return {};
}

Result<void> read_service(std::string_view& text, HealthCheck& check) {
  check.service = take_word(text);
  const bool legal = !check.service.empty() && check.service.size() <= kHealthServiceMax &&
                     std::all_of(check.service.begin(), check.service.end(),
                                 [](char c) { return c > 0x20 && c < 0x7f && c != '"'; });
  if (!legal) return about("service", "not the name of a service");
  return {};
}

Result<void> read_host(std::string_view& text, HealthCheck& check) {
  check.host = take_word(text);
  const bool legal =
      !check.host.empty() && std::all_of(check.host.begin(), check.host.end(), [](char c) {
        return c > 0x20 && c < 0x7f && c != '/' && c != '"' && c != '@' && c != '\\';
      });
  if (!legal) return about("host", "not a host name");
  return {};
}

// One part of a check, whose name was taken off already.
Result<void> read_part(std::string_view name, std::string_view& text, HealthCheck& check) {
  if (name == "every") return read_duration(name, text, kEveryMin, kEveryMax, check.every);
  if (name == "timeout") return read_duration(name, text, kTimeoutMin, kTimeoutMax, check.timeout);
  if (name == "rise") return read_number(name, text, kRowMax, check.rise);
  if (name == "fall") return read_number(name, text, kRowMax, check.fall);
  if (name == "port") return read_number(name, text, 65535, check.port);
  if (name == "jitter") {
    const Result<Percent> share = ValueType<Percent>::parse(take_word(text));
    if (!share) return about(name, share.error().message);
    if (share->hundredths > 5'000) return about(name, "more than 50%");
    check.jitter = share->hundredths;
    return {};
  }
  std::vector<std::string_view> known{"every", "timeout", "jitter", "port", "rise", "fall"};
  if (check.kind == HealthCheck::Kind::kHttp) {
    if (name == "expect") return read_statuses(text, check);
    if (name == "header") return read_field(text, check);
    if (name == "host") return read_host(text, check);
    if (name == "body") {
      Result<std::string> body = take_quoted_word(text);
      if (!body) return about(name, body.error().message);
      if (body->empty()) return about(name, "no text");
      check.body = std::move(*body);
      return {};
    }
    known.insert(known.end(), {"expect", "header", "host", "body"});
  }
  if (check.kind == HealthCheck::Kind::kGrpc) {
    if (name == "service") return read_service(text, check);
    if (name == "host") return read_host(text, check);
    known.insert(known.end(), {"service", "host"});
  }
  return Error{fmt::format("\"{}\": {}", name, unknown_word(name, known).message)};
}

}  // namespace

constexpr DirectiveTable kUpstreamHealthTable =
    directive_table<UpstreamHealthConf>("upstream", kDirectives);

Result<HealthCheck> ValueType<HealthCheck>::parse(std::string_view text) {
  HealthCheck check;
  const std::string_view first = take_word(text);
  if (first == "none") {
    if (!text.empty()) return Error{"more than none"};
    return check;
  }
  if (first == "tcp") {
    check.kind = HealthCheck::Kind::kTcp;
  } else if (first == "grpc") {
    check.kind = HealthCheck::Kind::kGrpc;
  } else if (first == "GET" || first == "HEAD") {
    check.kind = HealthCheck::Kind::kHttp;
    check.method = first;
    check.path = take_word(text);
    if (!check.path.starts_with('/')) return Error{"the path is missing"};
    if (!std::all_of(check.path.begin(), check.path.end(),
                     [](char c) { return c > 0x20 && c < 0x7f && c != '#' && c != '"'; })) {
      return Error{"the path has to be percent-encoded"};
    }
  } else {
    return Error{fmt::format("\"{}\" is no way to check", first)};
  }
  std::vector<std::string_view> seen;
  while (!text.empty()) {
    const std::string_view name = take_word(text);
    if (name != "header" && std::find(seen.begin(), seen.end(), name) != seen.end()) {
      return about(name, "given twice");
    }
    seen.push_back(name);
    const Result<void> part = read_part(name, text, check);
    if (!part) return part.error();
  }
  if (check.method == "HEAD" && !check.body.empty()) return Error{"a HEAD has no body to look at"};
  return check;
}

std::string ValueType<HealthCheck>::format(const HealthCheck& check) {
  if (check.kind == HealthCheck::Kind::kNone) return "none";
  const bool http = check.kind == HealthCheck::Kind::kHttp;
  const bool grpc = check.kind == HealthCheck::Kind::kGrpc;
  std::string text = http ? check.method + " " + check.path : grpc ? "grpc" : "tcp";
  if (!check.service.empty()) text += " service " + check.service;
  text += " every " + ValueType<Duration>::format(check.every);
  text += " timeout " + ValueType<Duration>::format(check.timeout);
  text += " jitter " + ValueType<Percent>::format({check.jitter});
  if (http) {
    text += " expect";
    for (const StatusRange& range : check.expect) {
      text += fmt::format(" {}", range.low);
      if (range.high != range.low) text += fmt::format("-{}", range.high);
    }
    for (const FieldExpectation& field : check.fields) {
      const std::string value = field.value.empty() ? "" : ": " + field.value;
      text += " header " + quoted_word(field.name + value);
    }
    if (!check.body.empty()) text += " body " + quoted_word(check.body);
  }
  if (!check.host.empty()) text += " host " + check.host;
  if (check.port != 0) text += fmt::format(" port {}", check.port);
  return text + fmt::format(" rise {} fall {}", check.rise, check.fall);
}

std::string ValueType<HealthCheck>::expected() {
  return "none, tcp, grpc, or GET or HEAD and a path; then every, timeout, jitter, expect, header, "
         "body, "
         "host, port, rise, fall, and of grpc service";
}

Result<Discovery> ValueType<Discovery>::parse(std::string_view text) {
  Discovery discovery;
  const std::string_view first = take_word(text);
  if (first == "none") {
    discovery.kind = Discovery::Kind::kNone;
  } else if (first == "api") {
    discovery.kind = Discovery::Kind::kApi;
  } else if (first == "file") {
    discovery.kind = Discovery::Kind::kFile;
    discovery.path = take_word(text);
    if (!discovery.path.starts_with('/')) return Error{"not an absolute path"};
  } else if (first == "dns") {
    discovery.kind = Discovery::Kind::kDns;
    if (std::string_view rest = text; take_word(rest) == "srv") {
      discovery.kind = Discovery::Kind::kSrv;
      text = rest;
    }
  } else {
    return Error{fmt::format("\"{}\": {}", first,
                             unknown_word(first, {"dns", "file", "api", "none"}).message)};
  }
  if (text.empty()) return discovery;
  const std::string_view word = take_word(text);
  const bool may_wait =
      discovery.kind != Discovery::Kind::kNone && discovery.kind != Discovery::Kind::kApi;
  if (word != "every" || !may_wait) return Error{fmt::format("\"{}\" behind it", word)};
  const Result<void> every =
      read_duration(word, text, std::chrono::seconds(1), kEveryMax, discovery.every);
  if (!every) return every.error();
  if (!text.empty()) return Error{fmt::format("\"{}\" behind it", text)};
  return discovery;
}

std::string ValueType<Discovery>::format(const Discovery& discovery) {
  constexpr const char* kNames[] = {"none", "dns", "dns srv", "file", "api"};
  std::string text = kNames[static_cast<size_t>(discovery.kind)];
  if (!discovery.path.empty()) text += " " + discovery.path;
  if (discovery.every.count() > 0) {
    text += " every " + ValueType<Duration>::format(discovery.every);
  }
  return text;
}

std::string ValueType<Discovery>::expected() {
  return "dns, dns srv, file and a path, api, or none; but for api, every and a time may follow";
}

}  // namespace gatehouse
