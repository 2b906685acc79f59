// The PROXY header that an upstream with `proxy_protocol` gets at the start of a connection.
#pragma once

#include <string>

#include "http/exchange.h"
#include "http/upstream_conf.h"

namespace gatehouse {

// The header's bytes for this exchange's client: its address by the trusted-proxy rule, its port
// where that is known, and where it connected to; in version 2 also what is known of its TLS
// connection, here or, where that ended at a proxy in front, from that one's header. Equal for all
// exchanges of one client connection, unless X-Forwarded-For names different clients in them: a
// connection to a target may be used again where its header would be the same.
// REQUIRES: version is not kOff.
std::string proxy_header_for(const Exchange& exchange, ProxyProtocolOut version);

}  // namespace gatehouse
