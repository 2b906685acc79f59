// Resolving the host names of a configuration, once, before the workers start.
//
// Names are looked up by the master (which may block) and never by a worker. What a name means is
// fixed until the configuration is loaded again; a name that does not resolve makes its target
// down and nothing else.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "core/sockets.h"

namespace gatehouse {

// "HOST:PORT" as written in the configuration, to the address it means.
using NameTable = std::map<std::string, SocketAddress, std::less<>>;

// Looks up each "HOST[:PORT]" (port 80 where none is written). Names that do not resolve are left
// out of the result and logged as warnings. Blocks for as long as the system's resolver does.
NameTable resolve_names(const std::vector<std::string>& names);

}  // namespace gatehouse
