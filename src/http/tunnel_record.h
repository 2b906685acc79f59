// TunnelRecord: what a tunnel keeps of the exchange it began as, once the generation may go.
//
// A tunnel (a WebSocket) lives for days and must not hold the configuration it began under. All
// that is still asked of its exchange when it ends (counting, its log line) is small: the names of
// route, listener and target, their counters, captures and added fields. The record stands in for
// Route, Listener and UpstreamTarget with just that, so that nothing else has to know. The log
// hooks are taken when the tunnel ends, from the generation that serves then.
#pragma once

#include <memory>

#include "http/exchange.h"
#include "http/route.h"
#include "http/upstream.h"

namespace gatehouse {

struct TunnelRecord {
  Listener listener;  // name and cells
  Route route;        // name and cells
  UpstreamTarget target;

  TunnelRecord();
  ~TunnelRecord();
};

// Points `exchange` at the record that is returned, copies into its arena what else it has of the
// generation or of the upstream's answer, and forgets the generation, which it no longer needs.
// REQUIRES: the record is kept as long as the exchange; target is set.
std::unique_ptr<TunnelRecord> detach_from_generation(Exchange& exchange);

}  // namespace gatehouse
