// Host names and ports: the Host field, and the authority of a request target.
//
// uri-host [ ":" port ] (RFC 9110 §7.2, RFC 3986 §3.2.2), read strictly: a host is a name of
// letters, digits, '-', '_' and '.', an IPv4 address, or an IPv6 address in brackets. Commas,
// userinfo, percent-escapes, empty labels and zone identifiers are refused, because programs
// differ about what they mean. It is brought to one spelling: lower case, no trailing dot, IPv6 in
// the form of RFC 5952, no empty port, no zeros before a port.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <string_view>

namespace gatehouse {

struct Authority {
  std::string_view host;  // one spelling, without port; IPv6 with its brackets
  std::string_view text;  // host, and ":port" where one was given: what a Host field may say
  uint16_t port = 0;      // 0: none was given
};

// False where `raw` is malformed or empty. Views in `out` are into `raw` where it was in its one
// spelling already, otherwise into memory of `arena`.
[[nodiscard]] bool parse_authority(std::string_view raw, std::pmr::memory_resource& arena,
                                   Authority& out);

}  // namespace gatehouse
