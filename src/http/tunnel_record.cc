// See tunnel_record.h.
#include "http/tunnel_record.h"

#include "http/router.h"

namespace gatehouse {
TunnelRecord::TunnelRecord() = default;
TunnelRecord::~TunnelRecord() = default;

std::unique_ptr<TunnelRecord> detach_from_generation(Exchange& exchange) {
  auto record = std::make_unique<TunnelRecord>();
  record->listener.name = exchange.listener->name;
  record->listener.origin = exchange.listener->origin;
  record->listener.cells = exchange.listener->cells;
  record->route.name = exchange.route->name;
  record->route.origin = exchange.route->origin;
  record->route.cells = exchange.route->cells;
  record->target = *exchange.target;
  record->target.state = nullptr;  // the connection keeps it
  exchange.listener = &record->listener;
  exchange.route = &record->route;
  exchange.target = &record->target;
  exchange.target_set.reset();

  Arena& arena = exchange.arena;
  for (size_t i = 0; i < exchange.capture_count; ++i) {
    exchange.captures[i].name = arena.copy(exchange.captures[i].name);
  }
  copy_texts(exchange.request.added, arena);
  copy_texts(exchange.response.added, arena);
  copy_texts(exchange.response.fields, arena);
  exchange.response.phrase = arena.copy(exchange.response.phrase);
  exchange.response.content = {};
  exchange.generation = nullptr;
  return record;
}

}  // namespace gatehouse
