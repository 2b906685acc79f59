// The only answer of a listener made by redirect_http: the same URL with https.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "http/module.h"

namespace gatehouse {

// Sends clients to https at `port` (443 and 0 are not written), by 301 for GET and HEAD and by 308
// otherwise, so that nothing but these becomes a GET. A request that names no host is refused. What
// the action needs is put into `states`.
Action redirect_to_https(uint16_t port, std::vector<std::unique_ptr<ModuleState>>& states);

}  // namespace gatehouse
