// Metrics endpoint: a route that answers with the gateway's metrics.
//
//   [route metrics]
//   listener = internal             # metrics tell much: give them a listener of their own
//   path     = /metrics
//   metrics  = on                   # Prometheus text, or JSON for who accepts application/json
//
// `metrics = prometheus` and `metrics = json` give one form whatever the client accepts. Any
// worker can answer: all of them see the same shared memory (core/metrics.h).
// Leaves out: OpenMetrics (exemplars, units); who may read it, which access rules say.
#include <fmt/format.h>

#include "core/directive.h"
#include "http/exchange.h"
#include "http/module.h"
#include "http/prometheus.h"
#include "http/worker.h"
#include "modules/registry.h"

namespace gatehouse {
namespace {

enum class MetricsForm : uint8_t { kOff, kNegotiated, kPrometheus, kJson };

struct MetricsConf {
  MetricsForm metrics = MetricsForm::kOff;
};

}  // namespace

constexpr EnumName<MetricsForm> kMetricsForms[] = {{MetricsForm::kOff, "off"},
                                                   {MetricsForm::kNegotiated, "on"},
                                                   {MetricsForm::kPrometheus, "prometheus"},
                                                   {MetricsForm::kJson, "json"}};
template <>
struct ValueType<MetricsForm> : EnumValueType<MetricsForm, kMetricsForms> {};

namespace {

bool accepts_json(const FieldList& fields) {
  if (!fields.has(FieldId::kAccept)) return false;
  for (const Field& field : fields) {
    if (field.id == FieldId::kAccept &&
        field.value.find("application/json") != std::string_view::npos) {
      return true;
    }
  }
  return false;
}

void answer_metrics(Exchange& exchange, const void* state) {
  const auto form = static_cast<const MetricsConf*>(state)->metrics;
  const Method method = exchange.request.head.method_id;
  if (method != Method::kGet && method != Method::kHead) {
    exchange.add_response_field("Allow", "GET, HEAD");
    exchange.refuse(Reason::kMethodNotAllowed);
    return;
  }
  const bool json = form == MetricsForm::kJson ||
                    (form == MetricsForm::kNegotiated && accepts_json(exchange.request.fields));
  Worker& worker = *exchange.worker;
  MetricsSnapshot snapshot = take_snapshot(worker.metrics(), worker.loop().wall_us());
  snapshot.breakers = list_breakers(worker.traffic());
  snapshot.limits = SharedLimit::list(worker.shared());
  snapshot.certificates = read_certificate_expiry(worker.shared());
  snapshot.targets =
      report_targets(worker.traffic(), static_cast<uint64_t>(worker.loop().now().us / 1000));
  fmt::memory_buffer text;
  if (json) {
    write_metrics_json(snapshot, text);
  } else {
    write_prometheus(snapshot, text);
  }
  exchange.reason = Reason::kMetrics;
  exchange.add_response_field("Cache-Control", "no-store");
  if (form == MetricsForm::kNegotiated) exchange.add_response_field("Vary", "Accept");
  exchange.answer(200, json ? "application/json" : kPrometheusType,
                  exchange.arena.copy({text.data(), text.size()}));
}

constexpr Directive kDirectives[] = {
    directive<&MetricsConf::metrics>(
        "metrics",
        "Answers with the gateway's metrics: on gives Prometheus text, or JSON to a client that "
        "accepts it; prometheus and json give that form to all.",
        "on", DirectiveFlag::kNotInherited),
};
constexpr DirectiveTable kMetricsTable = directive_table<MetricsConf>("route", kDirectives);
constexpr const DirectiveTable* kTables[] = {&kMetricsTable};

Result<void> compile_route(RouteBuilder& builder) {
  const MetricsConf& conf = builder.section().get<MetricsConf>(kMetricsTable);
  if (conf.metrics == MetricsForm::kOff || builder.is_fallback()) return {};
  Action action;
  action.instant = &answer_metrics;
  action.state = &conf;
  action.name = "metrics";
  action.detail = ValueType<MetricsForm>::format(conf.metrics);
  return builder.set_action(std::move(action), kMetricsTable, "metrics");
}

}  // namespace

constinit const Module kMetricsEndpointModule{"metrics_endpoint", kTables, &compile_route, nullptr,
                                              "metrics"};

}  // namespace gatehouse
