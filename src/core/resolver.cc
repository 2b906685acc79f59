// Name look-ups through the system's resolver; see resolver.h.
#include "core/resolver.h"

#include <netdb.h>

#include "core/log.h"

namespace gatehouse {

namespace {

Result<SocketAddress> resolve(const std::string& name) {
  const size_t colon = name.find(':');
  const std::string host = name.substr(0, colon);
  const std::string port = colon == std::string::npos ? "80" : name.substr(colon + 1);
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int status = getaddrinfo(host.c_str(), port.c_str(), &hints, &found);
  if (status != 0) return Error{gai_strerror(status)};
  // An IPv4 address is preferred: most servers on a private network listen there only.
  SocketAddress address;
  for (const addrinfo* entry = found; entry != nullptr; entry = entry->ai_next) {
    const SocketAddress candidate = SocketAddress::from_kernel(entry->ai_addr, entry->ai_addrlen);
    if (address.is_none() || (candidate.family() == AF_INET && address.family() != AF_INET)) {
      address = candidate;
    }
  }
  freeaddrinfo(found);
  if (address.is_none()) return Error{"no usable address"};
  return address;
}

}  // namespace

NameTable resolve_names(const std::vector<std::string>& names) {
  NameTable table;
  for (const std::string& name : names) {
    if (table.contains(name)) continue;
    const Result<SocketAddress> address = resolve(name);
    if (address) {
      table.emplace(name, *address);
    } else {
      GH_LOG(kWarn, "target {} is down: its name does not resolve: {}", name,
             address.error().message);
    }
  }
  return table;
}

}  // namespace gatehouse
