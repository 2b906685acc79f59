// The directive table of [upstream], and how a target is written; see upstream_conf.h.
#include "http/upstream_conf.h"

#include <algorithm>

#include "core/config_values.h"

namespace gatehouse {

namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr uint64_t kWeightMax = 1000;
constexpr uint64_t kConnectionsMax = 1'000'000;

constexpr std::string_view kHttp = "http://";
constexpr std::string_view kHttps = "https://";

constexpr EnumName<TargetScheme> kSchemeNames[] = {
    {TargetScheme::kHttp, "http"},
    {TargetScheme::kHttps, "https"},
};
using SchemeValue = EnumValueType<TargetScheme, kSchemeNames>;

constexpr EnumName<UpstreamProtocol> kProtocolNames[] = {
    {UpstreamProtocol::kAuto, "auto"},
    {UpstreamProtocol::kHttp1, "http1"},
    {UpstreamProtocol::kH2, "h2"},
};
using ProtocolValue = EnumValueType<UpstreamProtocol, kProtocolNames>;

constexpr Directive kUpstreamDirectives[] = {
    directive<&UpstreamConf::target>(
        "target",
        "A server: its URL, its weight, whether it is there for when no other is (backup), and how "
        "many requests it may have in flight (max_connections).",
        "http://10.0.1.11:8080 weight 3", DirectiveFlag::kNotInherited),
    directive<&UpstreamConf::connect_timeout>("connect_timeout",
                                              "How long connecting to a target may take.", "5s",
                                              range(milliseconds(1), seconds(300))),
    directive<&UpstreamConf::response_timeout>(
        "response_timeout", "How long a target may take from the request to its response's head.",
        "60s", range(milliseconds(1), hours(24))),
    directive<&UpstreamConf::read_timeout>(
        "read_timeout", "How long a target may send no byte of a response's body.", "60s",
        range(milliseconds(1), hours(24))),
    directive<&UpstreamConf::write_timeout>("upstream_write_timeout",
                                            "How long a target may take no byte of a request.",
                                            "60s", range(milliseconds(1), hours(24))),
    directive<&UpstreamConf::head_max>("response_head_max", "Largest response head.", "32k",
                                       range(1_KiB, 60_KiB)),
    directive<&UpstreamConf::fields_max>(
        "response_fields_max", "Most field lines in a response head.", "100", range(1, 1000)),
    directive<&UpstreamConf::keepalive>(
        "keepalive", "Idle connections that a worker keeps to each target; 0 keeps none.", "256",
        range(0, 65536)),
    directive<&UpstreamConf::keepalive_timeout>("upstream_keepalive_timeout",
                                                "How long a connection to a target may rest.",
                                                "30s", range(milliseconds(1), hours(24))),
    directive<&UpstreamConf::keepalive_age>(
        "keepalive_age", "How old a connection to a target may grow; 0s means any age.", "1h",
        range(milliseconds(0), hours(24 * 30))),
    directive<&UpstreamConf::keepalive_requests>(
        "upstream_keepalive_requests",
        "Requests sent over one connection to a target; 0 means no cap.", "10000",
        expects("a number; 0 means no cap")),
    directive<&UpstreamConf::discovered_scheme>(
        "discovered_scheme",
        "How targets are spoken to that discovery brings from a file or by registration: http or "
        "https. Those that a name of a target means are spoken to as that target's line says.",
        "https"),
    directive<&UpstreamConf::protocol>(
        "protocol",
        "What is spoken to the targets: http1, h2 (over http:// without asking, for the targets "
        "are known to speak it), or auto: over https:// what the target prefers, else http1.",
        "h2"),
    directive<&UpstreamConf::h2_window>(
        "h2_window",
        "Bytes of an answer over HTTP/2 that a target may send before the client has taken them.",
        "256k", range(64_KiB, 16_MiB)),
    directive<&UpstreamConf::proxy_protocol>(
        "proxy_protocol",
        "Begins each connection to a target with a PROXY header, v1 (a line) or v2 (binary, with "
        "ALPN, host name and TLS facts), that says who the client is. A kept-alive connection then "
        "belongs to one client connection; connections are not shared over HTTP/2.",
        "v2"),
    directive<&UpstreamConf::connect_tries>(
        "connect_tries", "Targets tried where connecting fails.", "3", range(1, 64)),
    directive<&UpstreamConf::balance>(
        "balance",
        "Who chooses among the targets: by turns (round_robin), by the fewest requests in flight "
        "over all workers (least_conn), by the expected time to answer (least_time), by a key that "
        "stays with its target (hash, client_address; load caps what a target may have, in percent "
        "of an even share), or by a cookie that names the client's target (sticky).",
        "hash $header_x_user load 125%"),
    directive<&UpstreamConf::eject>(
        "eject",
        "Leaves a target out for a while that has failed so many times in a row, seen by any "
        "worker: at first for the time behind open, then twice as long each time, up to longest; "
        "never more than the share behind max, and never the last one.",
        "failures 5 open 30s longest 5m max 50% on connect timeout reset 5xx"),
    directive<&UpstreamConf::panic>(
        "panic",
        "Where fewer than this share of the targets are healthy, all are used as if they were; 0% "
        "means never.",
        "50%"),
    directive<&UpstreamConf::slow_start>(
        "slow_start",
        "How long the weight of a target grows that was down, ejected or disabled; 0s gives it the "
        "whole at once.",
        "30s", range(milliseconds(0), hours(24))),
    directive<&UpstreamConf::max_connections>(
        "max_connections",
        "Most requests in flight at each target, over all workers; 0 means no cap. A target may "
        "have its own.",
        "100", range(0, 1'000'000)),
    directive<&UpstreamConf::queue>(
        "queue",
        "Requests that may wait in a worker while all targets have as many as they may; the others "
        "are refused (targets_busy).",
        "100", range(0, 100'000)),
    directive<&UpstreamConf::queue_timeout>(
        "queue_timeout", "How long a request may wait there, then it is refused (queue_timeout).",
        "2s", range(milliseconds(1), hours(1))),
    directive<&UpstreamConf::sticky_secret>(
        "sticky_secret",
        "What the values of sticky cookies are made with: the same in several gateways, they know "
        "each other's. At least 16 random bytes are hard to guess. Without one they are good until "
        "the next restart (not reload).",
        "3f0a91c7e5d24b8860aa", DirectiveFlag::kSecret, DirectiveFlag::kNotInherited),
};

bool has_port(std::string_view host) {
  const size_t colon = host.rfind(':');
  return colon != std::string_view::npos && host.find(']', colon) == std::string_view::npos;
}

// HOST[:PORT] of letters, digits, '-', '_' and '.'; says what is wrong with anything else. Comes
// here too: an address whose port is none.
Result<void> check_host_name(std::string_view text) {
  size_t colon = text.rfind(':');
  if (colon != std::string_view::npos && text.find(']', colon) != std::string_view::npos) {
    colon = std::string_view::npos;
  }
  if (colon != std::string_view::npos) {
    const std::string_view digits = text.substr(colon + 1);
    const Result<uint64_t> port = parse_unsigned(digits, 65535);
    if (!port || *port == 0) return Error{"\"" + std::string(digits) + "\" is not a port"};
  }
  const std::string_view host = text.substr(0, colon);
  const bool legal = !host.empty() && host.size() <= 253 && host.front() != '.' &&
                     host.find("..") == std::string_view::npos &&
                     host.find_first_not_of(
                         "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                         "0123456789-._") == std::string_view::npos &&
                     host.find_first_not_of("0123456789.") != std::string_view::npos;
  if (!legal) return Error{"\"" + std::string(host) + "\" is neither an address nor a host name"};
  return {};
}

void check(const UpstreamConf& conf, SectionErrors& errors) {
  if (conf.proxy_protocol != ProxyProtocolOut::kOff && conf.protocol == UpstreamProtocol::kH2) {
    errors.add("proxy_protocol", "a connection over HTTP/2 has the requests of many clients",
               "expected: protocol = http1 beside it");
  }
  bool all_backup = !conf.target.empty();
  for (const TargetConf& target : conf.target) all_backup = all_backup && target.backup;
  if (all_backup) errors.add("target", "all targets are backup", "one that the others back up");
}

constexpr DirectiveTable kUpstream =
    directive_table<UpstreamConf, &check>("upstream", kUpstreamDirectives);

}  // namespace

constinit const DirectiveTable kUpstreamTable = kUpstream;

bool UpstreamConf::needs_rows() const {
  return max_connections != 0 ||
         std::any_of(target.begin(), target.end(),
                     [](const TargetConf& one) { return one.max_connections.value_or(0) != 0; });
}

Result<TargetConf> ValueType<TargetConf>::parse(std::string_view text) {
  TargetConf target;
  std::string_view url = take_word(text);
  target.tls = url.starts_with(kHttps);
  if (!target.tls && !url.starts_with(kHttp)) {
    return Error{"a target begins with http:// or https://"};
  }
  url.remove_prefix(target.tls ? kHttps.size() : kHttp.size());
  if (url.ends_with('/')) url.remove_suffix(1);
  if (url.empty()) return Error{"the address is missing"};
  if (url.find('/') != std::string_view::npos && !url.starts_with("unix:")) {
    return Error{"a target has no path"};
  }
  const uint16_t port = target.tls ? 443 : 80;
  const Result<SocketAddress> address = SocketAddress::parse(url, port);
  if (address) {
    if (!address->is_unix() && address->port() == 0) return Error{"port 0 cannot be connected to"};
    target.address = *address;
    target.host = address->is_unix() ? "localhost" : std::string(url);
  } else {
    const Result<void> name = check_host_name(url);
    if (!name) return name.error();
    // A name is not resolved here: the target is down until something resolves it.
    target.resolved = false;
    target.host = std::string(url);
  }
  target.text = std::string(url);
  // A name in the text means port 80 to whoever looks it up.
  if (target.tls && !has_port(url) && !url.starts_with("unix:")) target.text += ":443";
  while (!text.empty()) {
    const std::string_view word = take_word(text);
    if (word == "backup") {
      target.backup = true;
    } else if (word == "weight") {
      const Result<uint64_t> weight = parse_unsigned(take_word(text), kWeightMax);
      if (!weight || *weight == 0) return Error{"a weight is a number from 1 to 1000"};
      target.weight = static_cast<uint32_t>(*weight);
    } else if (word == "max_connections") {
      const Result<uint64_t> most = parse_unsigned(take_word(text), kConnectionsMax);
      if (!most) return Error{"max_connections is a number from 0 to 1000000"};
      target.max_connections = static_cast<uint32_t>(*most);
    } else {
      return Error{"unknown word \"" + std::string(word) + "\""};
    }
  }
  return target;
}

std::string ValueType<TargetConf>::format(const TargetConf& target) {
  std::string text = std::string(target.tls ? kHttps : kHttp) + target.text;
  if (target.weight != 1) text += " weight " + std::to_string(target.weight);
  if (target.backup) text += " backup";
  if (target.max_connections) {
    text += " max_connections " + std::to_string(*target.max_connections);
  }
  return text;
}

Result<TargetScheme> ValueType<TargetScheme>::parse(std::string_view text) {
  return SchemeValue::parse(text);
}
std::string ValueType<TargetScheme>::format(TargetScheme scheme) {
  return SchemeValue::format(scheme);
}
std::string ValueType<TargetScheme>::expected() {
  return SchemeValue::expected();
}

Result<UpstreamProtocol> ValueType<UpstreamProtocol>::parse(std::string_view text) {
  return ProtocolValue::parse(text);
}
std::string ValueType<UpstreamProtocol>::format(UpstreamProtocol protocol) {
  return ProtocolValue::format(protocol);
}
std::string ValueType<UpstreamProtocol>::expected() {
  return ProtocolValue::expected();
}

std::string ValueType<TargetConf>::expected() {
  return "http://ADDRESS[:PORT] or https://ADDRESS[:PORT], optionally followed by weight N (1 to "
         "1000), backup and "
         "max_connections N";
}

}  // namespace gatehouse
