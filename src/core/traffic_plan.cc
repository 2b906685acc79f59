// TrafficPlan as JSON. See traffic_plan.h.
#include "core/traffic_plan.h"

#include <exception>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <utility>

#include "core/json_text.h"

namespace gatehouse {
namespace {

using Json = nlohmann::json;

constexpr int kVersion = 1;
constexpr int64_t kDurationMax = int64_t{1000} * 3600 * 24 * 365;

constexpr const char* kHealthKinds[] = {"none", "http", "tcp", "grpc"};
constexpr const char* kDiscoveryKinds[] = {"none", "dns", "srv", "file", "api"};

constexpr const char* kProtocols[] = {"auto", "http1", "h2"};

Json transport_to_json(const ProbeTransport& transport) {
  return {{"kind", kProtocols[static_cast<size_t>(transport.protocol)]},
          {"proxy_protocol", transport.proxy_protocol},
          {"secure", transport.secure},
          {"verify", transport.verify},
          {"authorities", transport.authorities},
          {"server_name", transport.server_name}};
}

Json health_to_json(const HealthCheck& check) {
  Json expect = Json::array();
  for (const StatusRange& range : check.expect) expect.push_back({range.low, range.high});
  Json fields = Json::array();
  for (const FieldExpectation& field : check.fields) fields.push_back({field.name, field.value});
  return {{"kind", kHealthKinds[static_cast<size_t>(check.kind)]},
          {"method", check.method},
          {"path", check.path},
          {"host", check.host},
          {"expect", std::move(expect)},
          {"fields", std::move(fields)},
          {"body", check.body},
          {"service", check.service},
          {"port", check.port},
          {"every", check.every.count()},
          {"timeout", check.timeout.count()},
          {"jitter", check.jitter},
          {"rise", check.rise},
          {"fall", check.fall},
          {"transport", transport_to_json(check.transport)}};
}

[[noreturn]] void refuse(const std::string& what) {
  throw std::runtime_error(what);
}

// A whole number of this range: what the library converts silently is refused.
uint64_t number_at(const Json& json, const char* key, uint64_t low, uint64_t high) {
  const Json& value = json.at(key);
  if (!value.is_number_unsigned() || value.get<uint64_t>() < low || value.get<uint64_t>() > high) {
    refuse(std::string(key) + " is no number that it can be");
  }
  return value.get<uint64_t>();
}

const Json& list_at(const Json& json, const char* key) {
  const Json& value = json.at(key);
  if (!value.is_array()) refuse(std::string(key) + " is no list");
  return value;
}

std::string text_at(const Json& json, const char* key) {
  return json.at(key).get<std::string>();
}

Duration duration_at(const Json& json, const char* key, int64_t low) {
  return Duration(static_cast<int64_t>(
      number_at(json, key, static_cast<uint64_t>(low), static_cast<uint64_t>(kDurationMax))));
}

std::string text_of(const SocketAddress& address) {
  return address.is_none() ? std::string() : address.format();
}

SocketAddress address_at(const Json& json, const char* key) {
  const std::string text = text_at(json, key);
  if (text.empty()) return {};
  Result<SocketAddress> parsed = SocketAddress::parse(text);
  if (!parsed) refuse(parsed.error().message);
  return *parsed;
}

template <typename Kind, size_t kCount>
Kind kind_at(const Json& json, const char* const (&names)[kCount]) {
  const std::string name = text_at(json, "kind");
  for (size_t i = 0; i < kCount; ++i) {
    if (name == names[i]) return static_cast<Kind>(i);
  }
  refuse("there is no kind " + name);
}

ProbeTransport transport_from_json(const Json& json) {
  ProbeTransport transport;
  transport.protocol = kind_at<ProbeTransport::Protocol>(json, kProtocols);
  transport.proxy_protocol = json.at("proxy_protocol").get<bool>();
  transport.secure = json.at("secure").get<bool>();
  transport.verify = json.at("verify").get<bool>();
  transport.authorities = text_at(json, "authorities");
  transport.server_name = text_at(json, "server_name");
  for (const char c : transport.server_name) {
    if (static_cast<unsigned char>(c) <= 0x20 || c == 0x7f || c == '/' || c == '@') {
      refuse("a server name that is none");
    }
  }
  return transport;
}

HealthCheck health_from_json(const Json& json) {
  HealthCheck check;
  check.kind = kind_at<HealthCheck::Kind>(json, kHealthKinds);
  check.method = text_at(json, "method");
  check.path = text_at(json, "path");
  check.host = text_at(json, "host");
  check.service = text_at(json, "service");
  if (check.service.size() > kHealthServiceMax) refuse("a service's name is too long");
  // They become parts of a request.
  for (const std::string* part : {&check.method, &check.path, &check.host}) {
    for (const char c : *part) {
      if (static_cast<unsigned char>(c) <= 0x20 || c == 0x7f) refuse("a blank in a request");
    }
  }
  if (check.kind == HealthCheck::Kind::kHttp && !check.path.starts_with('/')) {
    refuse("a check without a path");
  }
  check.expect.clear();
  for (const Json& range : list_at(json, "expect")) {
    if (!range.is_array() || range.size() != 2) refuse("expect is malformed");
    const auto status = [](const Json& value) {
      if (!value.is_number_unsigned() || value.get<uint64_t>() < 100 ||
          value.get<uint64_t>() > 599) {
        refuse("expect is no status");
      }
      return value.get<uint16_t>();
    };
    check.expect.push_back({status(range[0]), status(range[1])});
  }
  for (const Json& field : list_at(json, "fields")) {
    if (!field.is_array() || field.size() != 2) refuse("fields is malformed");
    check.fields.push_back({field[0].get<std::string>(), field[1].get<std::string>()});
  }
  check.body = text_at(json, "body");
  check.port = static_cast<uint16_t>(number_at(json, "port", 0, 65535));
  check.every = duration_at(json, "every", 1);
  check.timeout = duration_at(json, "timeout", 1);
  check.jitter = static_cast<uint32_t>(number_at(json, "jitter", 0, 10'000));
  check.rise = static_cast<uint32_t>(number_at(json, "rise", 1, 1000));
  check.fall = static_cast<uint32_t>(number_at(json, "fall", 1, 1000));
  check.transport = transport_from_json(json.at("transport"));
  return check;
}

Discovery discovery_from_json(const Json& json) {
  Discovery discovery;
  discovery.kind = kind_at<Discovery::Kind>(json, kDiscoveryKinds);
  discovery.every = duration_at(json, "every", 0);
  discovery.path = text_at(json, "path");
  if (discovery.kind == Discovery::Kind::kFile && !discovery.path.starts_with('/')) {
    refuse("a file without a path");
  }
  return discovery;
}

PlannedUpstream upstream_from_json(const Json& json) {
  PlannedUpstream upstream;
  upstream.name = text_at(json, "name");
  if (upstream.name.empty()) refuse("an upstream without a name");
  for (const Json& entry : list_at(json, "targets")) {
    PlannedTarget target;
    target.text = text_at(entry, "text");
    target.address = address_at(entry, "address");
    target.last_known = address_at(entry, "last_known");
    target.weight = static_cast<uint32_t>(number_at(entry, "weight", 1, kMemberWeightMax));
    target.secure = entry.contains("secure") && entry.at("secure").get<bool>();
    upstream.targets.push_back(std::move(target));
  }
  upstream.health = health_from_json(json.at("health"));
  upstream.discover = discovery_from_json(json.at("discover"));
  return upstream;
}

Json canary_to_json(const PlannedCanary& canary) {
  const CanaryRules& rules = canary.rules;
  Json steps = Json::array();
  for (const Percent& step : rules.steps) steps.push_back(step.hundredths);
  return {{"name", canary.name},
          {"route", canary.route},
          {"fresh", canary.fresh},
          {"stable", canary.stable},
          {"steps", std::move(steps)},
          {"interval", rules.interval.count()},
          {"min_requests", rules.min_requests},
          {"max_error_rate", rules.max_error_rate.hundredths},
          {"over_stable", rules.over_stable},
          {"max_latency", rules.max_latency},
          {"pause", rules.on_failure == CanaryRules::OnFailure::kPause}};
}

PlannedCanary canary_from_json(const Json& json) {
  PlannedCanary canary;
  canary.name = text_at(json, "name");
  canary.route = text_at(json, "route");
  canary.fresh = text_at(json, "fresh");
  canary.stable = text_at(json, "stable");
  for (const std::string* name : {&canary.name, &canary.route, &canary.fresh, &canary.stable}) {
    if (name->empty()) refuse("a canary without a name");
  }
  CanaryRules& rules = canary.rules;
  uint64_t before = 0;
  for (const Json& step : list_at(json, "steps")) {
    if (!step.is_number_unsigned() || step.get<uint64_t>() <= before ||
        step.get<uint64_t>() > kWholeShare) {
      refuse("steps do not grow");
    }
    before = step.get<uint64_t>();
    rules.steps.push_back(Percent{static_cast<uint32_t>(before)});
  }
  if (rules.steps.empty() || rules.steps.size() > kCanaryStepsMax) refuse("no steps, or too many");
  rules.interval = duration_at(json, "interval", 1);
  rules.min_requests = number_at(json, "min_requests", 1, UINT32_MAX);
  rules.max_error_rate.hundredths =
      static_cast<uint32_t>(number_at(json, "max_error_rate", 0, kWholeShare));
  rules.over_stable = json.at("over_stable").get<bool>();
  rules.max_latency = json.at("max_latency").get<double>();
  if (!(rules.max_latency >= 0)) refuse("max_latency is no number that it can be");
  rules.on_failure = json.at("pause").get<bool>() ? CanaryRules::OnFailure::kPause
                                                  : CanaryRules::OnFailure::kRollback;
  return canary;
}

TrafficPlan plan_from_json(const Json& json) {
  if (json.at("version").get<int>() != kVersion) refuse("another version");
  TrafficPlan plan;
  plan.capacity.lists = static_cast<uint32_t>(number_at(json, "lists", 1, kMemberListsMax));
  plan.capacity.members = static_cast<uint32_t>(number_at(json, "members", 1, kMembersMax));
  for (const Json& entry : list_at(json, "upstreams")) {
    plan.upstreams.push_back(upstream_from_json(entry));
  }
  // A master of the version before, whose program has just been replaced on disk, sends none.
  if (!json.contains("canaries")) return plan;
  for (const Json& entry : list_at(json, "canaries")) {
    plan.canaries.push_back(canary_from_json(entry));
  }
  return plan;
}

}  // namespace

std::string traffic_plan_to_json(const TrafficPlan& plan) {
  Json upstreams = Json::array();
  for (const PlannedUpstream& upstream : plan.upstreams) {
    Json targets = Json::array();
    for (const PlannedTarget& target : upstream.targets) {
      targets.push_back({{"text", target.text},
                         {"address", text_of(target.address)},
                         {"last_known", text_of(target.last_known)},
                         {"weight", target.weight},
                         {"secure", target.secure}});
    }
    upstreams.push_back({{"name", upstream.name},
                         {"targets", std::move(targets)},
                         {"health", health_to_json(upstream.health)},
                         {"discover",
                          {{"kind", kDiscoveryKinds[static_cast<size_t>(upstream.discover.kind)]},
                           {"every", upstream.discover.every.count()},
                           {"path", upstream.discover.path}}}});
  }
  Json canaries = Json::array();
  for (const PlannedCanary& canary : plan.canaries) canaries.push_back(canary_to_json(canary));
  const Json json = {{"version", kVersion},
                     {"lists", plan.capacity.lists},
                     {"members", plan.capacity.members},
                     {"upstreams", std::move(upstreams)},
                     {"canaries", std::move(canaries)}};
  return json_to_text(json);
}

Result<TrafficPlan> traffic_plan_from_json(std::string_view json) {
  const Result<Json> parsed = json_from_text(json);
  if (!parsed) return Error{"the plan of the traffic is malformed: " + parsed.error().message};
  try {
    return plan_from_json(*parsed);
  } catch (const std::exception& problem) {
    return Error{std::string("the plan of the traffic is malformed: ") + problem.what()};
  }
}

}  // namespace gatehouse
