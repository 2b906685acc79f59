// Counting a finished exchange into the metrics of everything it touched.
#pragma once

#include "http/exchange.h"

namespace gatehouse {

// Adds to the series of pool, listener, route, upstream and target. REQUIRES: the exchange has a
// worker, a listener and a route, and times.finished is set.
void count_exchange(const Exchange& exchange);

}  // namespace gatehouse
