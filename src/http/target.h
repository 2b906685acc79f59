// The request target, brought to one meaning (RFC 9112 §3.2, RFC 3986 §6.2.2).
//
// A target is split by its form, every byte is checked, and the path is normalised once; what the
// gateway routes by is exactly what it sends on, so that no later hop can read another path.
//   - Escapes of unreserved characters are decoded, other escapes get upper-case digits. %2F and
//     %5C stay as they are: they never become separators.
//   - Empty segments are merged ("//" is "/") unless the options say otherwise. Dot segments are
//     removed after decoding, so %2e%2e is one; a path that climbs above its root is refused.
//   - Refused too: bytes above 0x7F, controls, space, '#', a backslash, bad escapes, %00, and what
//     some servers read as a dot segment though it is none: "..;x", "..%2f", "..%5c".
//   - Characters that RFC 3986 does not allow but browsers send ({}|^`"<>) are escaped.
//   - The query is handed on as it came: it has no structure that a gateway may assume. Its bytes
//     are checked in the same way, but browsers do send '\' and a lone '%' in it.
// A path that is normal already costs one scan and no copy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <string_view>

#include "http/host.h"
#include "http/method.h"
#include "http/reason.h"

namespace gatehouse {

enum class TargetForm : uint8_t { kOrigin, kAbsolute, kAuthority, kAsterisk };

struct TargetOptions {
  bool merge_slashes = true;
};

struct RequestTarget {
  TargetForm form = TargetForm::kOrigin;
  bool has_query = false;
  bool https = false;          // kAbsolute: the scheme
  bool has_authority = false;  // the target names the host: it replaces the Host field
  std::string_view path;       // normalised, begins with '/'; "*" for kAsterisk, empty for CONNECT
  std::string_view query;      // without the '?'
  std::string_view wire;  // what goes into the request line in origin form: path [ "?" query ];
                          // "*" for kAsterisk, host ":" port for kAuthority
  Authority authority;    // where has_authority
};

// kNone and a filled `out`, or kBadTarget / kBadHost. CONNECT takes the authority form with a port
// and nothing else, OPTIONS alone takes "*"; an absolute form must be http or https without
// userinfo. Views are into `raw` where nothing changed, else into memory of `arena`.
[[nodiscard]] Reason parse_target(std::string_view raw, Method method, const TargetOptions& options,
                                  std::pmr::memory_resource& arena, RequestTarget& out);

}  // namespace gatehouse
