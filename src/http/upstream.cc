// See upstream.h.
#include "http/upstream.h"

#include "http/member_targets.h"

namespace gatehouse {

Upstream::Upstream() = default;
Upstream::~Upstream() = default;

}  // namespace gatehouse
