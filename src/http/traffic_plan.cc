// See traffic_plan.h.
#include "http/traffic_plan.h"

#include <algorithm>
#include <utility>

#include "core/process_conf.h"
#include "core/tls_trust.h"
#include "http/canary_conf.h"
#include "http/health_conf.h"
#include "http/target_transport.h"
#include "http/upstream_conf.h"
#include "http/upstream_tls.h"

namespace gatehouse {
namespace {

bool is_named(const TargetConf& target) {
  return !target.resolved;
}

ProbeTransport transport_of(const ConfigSource& source, const ConfigSection& section) {
  const auto& conf = section.get<UpstreamConf>(kUpstreamTable);
  const auto& tls = section.get<UpstreamTlsConf>(kUpstreamTlsTable);
  ProbeTransport transport;
  transport.proxy_protocol = conf.proxy_protocol != ProxyProtocolOut::kOff;
  switch (conf.spoken()) {
    case UpstreamProtocol::kAuto:
      break;
    case UpstreamProtocol::kHttp1:
      transport.protocol = ProbeTransport::Protocol::kHttp1;
      break;
    case UpstreamProtocol::kH2:
      transport.protocol = ProbeTransport::Protocol::kH2;
      break;
  }
  transport.secure = conf.discovered_scheme == TargetScheme::kHttps;
  transport.verify = tls.verify;
  transport.server_name = tls.server_name;
  if (tls.verify && !tls.ca.empty()) {
    const Result<std::string_view> pem =
        source.attachment(tls.ca, section.origin_of(kUpstreamTlsTable, "tls_ca"), kMaxAuthorities);
    if (pem) transport.authorities = *pem;
  }
  return transport;
}

PlannedUpstream plan_of(const Upstream& upstream, const Config& config, const ConfigSource& source,
                        const NameTable& names) {
  PlannedUpstream plan;
  plan.name = traffic_name(upstream);
  for (const UpstreamTarget& target : upstream.configured.targets) {
    PlannedTarget planned;
    planned.text = target.address_text;
    // (A generation may have been built with what its names meant then.)
    const Result<SocketAddress> address = SocketAddress::parse(target.address_text, uint16_t{80});
    if (address) {
      planned.address = *address;
    } else if (const auto found = names.find(planned.text); found != names.end()) {
      planned.last_known = found->second;
    }
    planned.weight = target.weight;
    planned.secure = target.transport != nullptr && target.transport->tls != nullptr;
    plan.targets.push_back(std::move(planned));
  }
  if (const ConfigSection* section =
          upstream.is_inline ? nullptr : config.find("upstream", upstream.name)) {
    const auto& conf = section->get<UpstreamHealthConf>(kUpstreamHealthTable);
    plan.health = conf.health;
    plan.health.transport = transport_of(source, *section);
    plan.discover = conf.discover;
  }
  return plan;
}

}  // namespace

std::string traffic_name(const Upstream& upstream) {
  if (!upstream.is_inline) return upstream.name;
  return (upstream.is_https ? "https://" : "http://") + upstream.name;
}

TrafficPlan traffic_plan_of(const Generation& generation, const NameTable& names) {
  TrafficPlan plan;
  const auto& conf =
      generation.config().sections("gatehouse")[0].get<GatehouseConf>(kGatehouseTable);
  plan.capacity = {conf.discovered_upstreams, conf.discovered_targets};
  for (const auto& upstream : generation.upstreams()) {
    PlannedUpstream planned = plan_of(*upstream, generation.config(), generation.source(), names);
    const bool has_name =
        std::any_of(planned.targets.begin(), planned.targets.end(),
                    [](const PlannedTarget& target) { return target.address.is_none(); });
    if (has_name || planned.health.kind != HealthCheck::Kind::kNone ||
        planned.discover.kind != Discovery::Kind::kNone) {
      plan.upstreams.push_back(std::move(planned));
    }
  }
  for (const auto& route : generation.routes()) {
    const SplitCanary* canary = route->split != nullptr ? route->split->canary() : nullptr;
    if (canary == nullptr) continue;
    const auto& rules = canary->section->get<CanaryConf>(kCanaryTable);
    plan.canaries.push_back({canary->section->name(), route->name, canary->fresh->name,
                             canary->stable->name, rules.rules()});
  }
  return plan;
}

void check_traffic(const Config& config, const ConfigSection& section, ConfigErrors& errors) {
  const auto& conf = section.get<UpstreamHealthConf>(kUpstreamHealthTable);
  const auto& targets = section.get<UpstreamConf>(kUpstreamTable).target;
  const bool agent = config.sections("gatehouse")[0].get<GatehouseConf>(kGatehouseTable).agent;
  const auto kind = conf.discover.kind;
  if (section.is_broken()) return;
  if (targets.empty() && kind != Discovery::Kind::kFile && kind != Discovery::Kind::kApi) {
    section.report(errors, kUpstreamTable, {}, "the key target is missing",
                   "expected: target = http://10.0.1.11:8080 weight 3");
    return;
  }
  constexpr const char* kAgentHint = "the agent does that, and [gatehouse] agent is off";
  if (!agent && conf.health.kind != HealthCheck::Kind::kNone) {
    section.report(errors, kUpstreamHealthTable, "health", kAgentHint);
  }
  if (!agent && kind != Discovery::Kind::kNone) {
    section.report(errors, kUpstreamHealthTable, "discover", kAgentHint);
  }
  const bool dns = kind == Discovery::Kind::kDns || kind == Discovery::Kind::kSrv;
  if (dns && std::none_of(targets.begin(), targets.end(), is_named)) {
    section.report(errors, kUpstreamHealthTable, "discover", "no target has a name to look up",
                   "expected: a target such as http://users.internal:8080");
  }
}

}  // namespace gatehouse
