// The directive table of [upstream], and how a target is written; see upstream_conf.h.
#include "http/upstream_conf.h"

#include <charconv>

#include "core/config_values.h"

namespace gatehouse {

namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Directive kUpstreamDirectives[] = {
    directive<&UpstreamConf::target>("target", "A server: its URL and its weight.",
                                     "http://10.0.1.11:8080 weight 3",
                                     DirectiveFlag::kNotInherited),
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
    directive<&UpstreamConf::connect_tries>(
        "connect_tries", "Targets tried where connecting fails.", "3", range(1, 64)),
};

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

constexpr DirectiveTable kUpstream = directive_table<UpstreamConf>("upstream", kUpstreamDirectives);

}  // namespace

constinit const DirectiveTable kUpstreamTable = kUpstream;

Result<TargetConf> ValueType<TargetConf>::parse(std::string_view text) {
  TargetConf target;
  std::string_view url = take_word(text);
  constexpr std::string_view kScheme = "http://";
  if (url.starts_with("https://")) return Error{"https to a target is not supported yet"};
  if (!url.starts_with(kScheme)) return Error{"a target begins with http://"};
  url.remove_prefix(kScheme.size());
  if (url.ends_with('/')) url.remove_suffix(1);
  if (url.empty()) return Error{"the address is missing"};
  if (url.find('/') != std::string_view::npos && !url.starts_with("unix:")) {
    return Error{"a target has no path"};
  }
  const Result<SocketAddress> address = SocketAddress::parse(url, uint16_t{80});
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
  while (!text.empty()) {
    const std::string_view word = take_word(text);
    if (word != "weight") return Error{"unknown word \"" + std::string(word) + "\""};
    const std::string_view number = take_word(text);
    uint32_t weight = 0;
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), weight);
    if (error != std::errc() || end != number.data() + number.size() || weight < 1 ||
        weight > 1000) {
      return Error{"a weight is a number from 1 to 1000"};
    }
    target.weight = weight;
  }
  return target;
}

std::string ValueType<TargetConf>::format(const TargetConf& target) {
  std::string text = "http://" + target.text;
  if (target.weight != 1) text += " weight " + std::to_string(target.weight);
  return text;
}

std::string ValueType<TargetConf>::expected() {
  return "http://ADDRESS[:PORT], optionally followed by weight N (1 to 1000)";
}

}  // namespace gatehouse
