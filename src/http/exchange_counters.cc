// Counting; see exchange_counters.h.
#include "http/exchange_counters.h"

#include "http/route.h"
#include "http/upstream.h"
#include "http/worker.h"

namespace gatehouse {

void count_exchange(const Exchange& exchange) {
  const unsigned status = exchange.response.status;
  // 499 and "nothing was sent" are class 0: the client has seen no status.
  const unsigned status_class = status >= 100 && status < 600 ? status / 100 : 0;
  const int64_t latency = (exchange.times.finished - exchange.times.started).count();
  const auto reason = static_cast<unsigned>(exchange.reason);

  const auto count = [&](SeriesCells& cells) {
    cells.requests[status_class].add();
    cells.bytes_in.add(exchange.request.wire_bytes);
    cells.bytes_out.add(exchange.response.wire_bytes);
    cells.count_latency(latency);
    if (reason != 0) cells.reasons[reason].add();
    if (exchange.grpc_status >= 0) [[unlikely]]
      cells.grpc[exchange.grpc_status].add();
  };
  count(exchange.worker->pool_cells());
  count(*exchange.listener->cells);
  count(*exchange.route->cells);
  if (exchange.target == nullptr) {
    if (exchange.upstream_cells != nullptr) count(*exchange.upstream_cells);
    return;
  }

  SeriesCells& target = *exchange.target->cells;
  const int64_t upstream_latency =
      exchange.times.upstream_head.us != 0
          ? (exchange.times.upstream_head - exchange.times.upstream_started).count()
          : (exchange.times.finished - exchange.times.upstream_started).count();
  target.requests[status_class].add();
  target.bytes_in.add(exchange.upstream_bytes_in);
  target.bytes_out.add(exchange.upstream_bytes_out);
  target.count_latency(upstream_latency);
  if (reason != 0) target.reasons[reason].add();
  if (exchange.grpc_status >= 0) target.grpc[exchange.grpc_status].add();
  if (exchange.target_reused) target.connections_reused.add();
}

}  // namespace gatehouse
