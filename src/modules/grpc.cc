// gRPC: calls with their deadlines and their statuses.
//
//   [route greeter]
//   grpc     = helloworld.Greeter
//   upstream = greeters            # [upstream greeters] protocol = h2
//
// A route with `grpc` takes calls (http/grpc_pattern.h). Its exchanges get a filter that
//   - ends the call when the client's deadline (grpc-timeout) is over, whatever it waits for, with
//     the status DEADLINE_EXCEEDED and the reason grpc_deadline;
//   - notes the status that the call ends with, for logs ($grpc_status) and metrics;
//   - ends a call whose upstream dies midway with trailers that say so, where a body would else
//     only be cut.
// What the gateway refuses is answered in gRPC's terms with or without this (http/error_reply.h).
// Streams may last as long as bytes move within idle_timeout, and may carry any amount; what waits
// on the upstream's side has its read_timeout.
//
// Nothing is shared. Leaves out: looking into messages, and lowering grpc-timeout towards the
// upstream by the time that has passed.
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "core/event_loop.h"
#include "core/format.h"
#include "http/client_filter.h"
#include "http/exchange_run.h"
#include "http/grpc.h"
#include "http/module.h"
#include "http/route_conf.h"
#include "http/worker.h"
#include "modules/registry.h"

namespace gatehouse {

namespace {

class GrpcClient final : public ClientFilter {
 public:
  explicit GrpcClient(Exchange& exchange) : ClientFilter(exchange) {}

  // `after`: from now until the call's time is over.
  void set_deadline(Duration after) { exchange_.worker->loop().arm(deadline_, after); }

  Task<bool> send_head(std::string_view first, bool last) override {
    // Trailers-only: the head is all there is.
    note_status(exchange_.response.fields);
    if (last) ended_ = true;
    return next_.send_head(first, last);
  }
  Task<bool> send_end(const FieldList* trailers) override {
    ended_ = true;
    if (trailers != nullptr) note_status(*trailers);
    return next_.send_end(trailers);
  }
  Task<bool> send_failure(Reason why) override {
    return ended_ ? next_.send_failure(why) : send_status(why);
  }

 private:
  void note_status(const FieldList& fields) {
    const Field* field = fields.find("grpc-status");
    if (field == nullptr) return;
    const std::optional<GrpcStatus> status = parse_grpc_status(field->value);
    set_status(status.value_or(GrpcStatus::kUnknown));
  }
  void set_status(GrpcStatus status) { exchange_.grpc_status = static_cast<int8_t>(status); }

  Task<bool> send_status(Reason why) {
    ended_ = true;
    const GrpcStatus status = grpc_status_for(why);
    set_status(status);
    const fmt::format_int number(static_cast<unsigned>(status));
    FieldList trailers;
    trailers.push("grpc-status", exchange_.arena.copy({number.data(), number.size()}));
    trailers.push("grpc-message", exchange_.arena.copy(grpc_message(why, exchange_.request_id)));
    const bool there = co_await next_.send_end(&trailers);
    co_return there;
  }

  static void on_deadline(void* self) {
    auto& client = *static_cast<GrpcClient*>(self);
    Exchange& exchange = client.exchange_;
    if (exchange.runner == nullptr || !exchange.runner->acting()) return;
    if (!exchange.client->head_sent())
      return exchange.runner->replace_action(Reason::kGrpcDeadline);
    exchange.reason = Reason::kGrpcDeadline;
    exchange.runner->replace_action(exchange.client->send_failure(Reason::kGrpcDeadline));
  }

  bool ended_ = false;
  Timer deadline_{&GrpcClient::on_deadline, this};
};

Verdict begin_call(Exchange& exchange, const void*) {
  const Field* timeout = exchange.request.fields.find("grpc-timeout");
  exchange.grpc_status = kGrpcStatusPending;
  auto& client = add_client_filter<GrpcClient>(exchange);
  if (timeout == nullptr) return Verdict::kContinue;
  const std::optional<Duration> after = parse_grpc_timeout(timeout->value);
  // What a malformed one means is the upstream's to say, as it is without a gateway.
  if (!after) return Verdict::kContinue;
  if (*after <= Duration::zero()) {
    exchange.refuse(Reason::kGrpcDeadline);
    return Verdict::kAnswered;
  }
  client.set_deadline(*after);
  return Verdict::kContinue;
}

// ---- Configuration ------------------------------------------------------------------------------

// The key itself is the route's own (http/route_conf.cc), since it says what the route matches.
Result<void> compile(RouteBuilder& builder) {
  if (builder.is_fallback()) return {};
  if (builder.section().get<RouteConf>(kRouteTable).grpc.empty()) return {};
  builder.add_hook(Phase::kAuthenticate, &begin_call, nullptr, kRouteTable, "grpc");
  return {};
}

}  // namespace

constinit const Module kGrpcModule = {"grpc", {}, &compile};

}  // namespace gatehouse
