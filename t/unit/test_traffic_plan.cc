// What the agent is told of the upstreams: made from a configuration, carried as JSON, and refused
// where it is no such plan.
#include "http/traffic_plan.h"

#include <criterion/criterion.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "core/config_source.h"
#include "core/json_text.h"
#include "core/traffic_plan.h"
#include "http/generation.h"
#include "http/health_conf.h"

namespace {

using gatehouse::ConfigErrors;
using gatehouse::ConfigSource;
using gatehouse::Discovery;
using gatehouse::Generation;
using gatehouse::HealthCheck;
using gatehouse::json_from_text;
using gatehouse::json_to_text;
using gatehouse::PlannedUpstream;
using gatehouse::Result;
using gatehouse::traffic_plan_from_json;
using gatehouse::traffic_plan_to_json;
using gatehouse::TrafficPlan;
using gatehouse::ValueType;
using Json = nlohmann::json;

TrafficPlan plan_of(const std::string& text) {
  const gatehouse::Schema schema = gatehouse::make_schema({});
  ConfigErrors errors;
  auto source = std::make_shared<ConfigSource>(ConfigSource::from_text("t.conf", text));
  const std::unique_ptr<Generation> generation =
      Generation::build(source, schema, {}, gatehouse::NameTable(), errors);
  cr_assert(generation != nullptr, "%s", errors.text().c_str());
  gatehouse::NameTable names;
  names.emplace("app.internal:3000", *gatehouse::SocketAddress::parse("10.0.0.7:3000"));
  return gatehouse::traffic_plan_of(*generation, names);
}

TrafficPlan full_plan() {
  return plan_of(
      "[gatehouse]\ndiscovered_upstreams = 5\ndiscovered_targets = 6\n"
      "[upstream checked]\ntarget = http://10.0.0.1:80 weight 7\ntarget = http://[::1]\n"
      "health = GET /h every 1s timeout 3s jitter 25% expect 200 301-302 header \"A: b c\" "
      "header D body \"x \\\" y\" host h.example port 99 rise 4 fall 5\n"
      "[upstream named]\ntarget = http://users.internal\ndiscover = dns srv every 2s\n"
      "[upstream file]\ndiscover = file /x.json\n"
      "[upstream plain]\ntarget = http://10.0.0.9\n"
      "[route a]\nhost = a\nupstream = http://app.internal:3000\n"
      "[route b]\nhost = b\nupstream = http://127.0.0.1:3000\n"
      "[route c]\nhost = c\nupstream = plain\n"
      "[canary beta]\nroute = c\nupstream = checked\nsteps = 1% 100%\ninterval = 2s\n"
      "min_requests = 7\nmax_error_rate = 3% over stable\nmax_latency = 1.5\n"
      "on_failure = pause\n");
}

template <typename Change>
bool refused(Change change) {
  Json json = *json_from_text(traffic_plan_to_json(full_plan()));
  change(json);
  return !traffic_plan_from_json(json_to_text(json)).ok();
}

}  // namespace

TestSuite(traffic_plan, .timeout = 20);

Test(traffic_plan, has_what_the_agent_needs_and_no_more) {
  const TrafficPlan plan = full_plan();
  cr_assert_eq(plan.capacity.lists, 5);
  cr_assert_eq(plan.capacity.members, 6);
  cr_assert_eq(plan.upstreams.size(), 4, "plain ones are none of its business");
  const PlannedUpstream& checked = plan.upstreams[0];
  cr_assert_eq(checked.name, "checked");
  cr_assert_eq(checked.targets.size(), 2);
  cr_assert_eq(checked.targets[0].weight, 7);
  cr_assert_eq(checked.targets[1].address.format(), "[::1]:80");
  const HealthCheck& check = checked.health;
  cr_assert(check.kind == HealthCheck::Kind::kHttp && check.path == "/h" && check.port == 99);
  cr_assert(check.every == gatehouse::Duration(1000) && check.jitter == 2500);
  cr_assert(check.expect.size() == 2 && check.expect[1].low == 301 && check.expect[1].high == 302);
  cr_assert(check.fields.size() == 2 && check.fields[0].value == "b c" &&
            check.fields[1].value.empty());
  cr_assert(check.body == "x \" y" && check.host == "h.example");
  cr_assert(check.rise == 4 && check.fall == 5);
  const PlannedUpstream& named = plan.upstreams[1];
  cr_assert(named.discover.kind == Discovery::Kind::kSrv);
  cr_assert(named.discover.every == gatehouse::Duration(2000));
  cr_assert(named.targets[0].address.is_none() && named.targets[0].text == "users.internal");
  cr_assert(plan.upstreams[2].discover.path == "/x.json" && plan.upstreams[2].targets.empty());
  cr_assert_eq(plan.upstreams[3].name, "http://app.internal:3000");
  cr_assert(plan.upstreams[3].targets[0].address.is_none());
  cr_assert_eq(plan.upstreams[3].targets[0].last_known.format(), "10.0.0.7:3000");
}

Test(traffic_plan, has_the_canaries) {
  const TrafficPlan plan = full_plan();
  cr_assert_eq(plan.canaries.size(), 1);
  const gatehouse::PlannedCanary& canary = plan.canaries[0];
  cr_assert(canary.name == "beta" && canary.route == "c");
  cr_assert(canary.fresh == "checked" && canary.stable == "plain");
  const gatehouse::CanaryRules& rules = canary.rules;
  cr_assert(rules.steps.size() == 2 && rules.steps[0].hundredths == 100);
  cr_assert(rules.interval == gatehouse::Duration(2000) && rules.min_requests == 7);
  cr_assert(rules.max_error_rate.hundredths == 300 && rules.over_stable);
  cr_assert(rules.max_latency == 1.5);
  cr_assert(rules.on_failure == gatehouse::CanaryRules::OnFailure::kPause);
  // A master of the version before sends none.
  Json json = *json_from_text(traffic_plan_to_json(plan));
  json.erase("canaries");
  cr_assert(traffic_plan_from_json(json_to_text(json))->canaries.empty());
}

Test(traffic_plan, comes_back_as_it_was) {
  const TrafficPlan plan = full_plan();
  const std::string json = traffic_plan_to_json(plan);
  Result<TrafficPlan> copy = traffic_plan_from_json(json);
  cr_assert(copy.ok(), "%s", copy.ok() ? "" : copy.error().message.c_str());
  cr_assert(copy->upstreams == plan.upstreams);
  cr_assert(copy->canaries == plan.canaries);
  cr_assert_eq(copy->capacity.lists, 5);
  cr_assert_eq(traffic_plan_to_json(*copy), json);
}

Test(traffic_plan, what_is_no_plan_is_refused) {
  const std::string good = traffic_plan_to_json(full_plan());
  for (const char* bad : {"", "null", "[]", "{}", "{\"version\":1}"}) {
    cr_assert(!traffic_plan_from_json(bad).ok(), "%s", bad);
  }
  for (size_t size = 0; size < good.size(); ++size) {
    cr_assert(!traffic_plan_from_json(good.substr(0, size)).ok(), "cut at %zu", size);
  }
  cr_assert(!refused([](Json&) {}));
  cr_assert(refused([](Json& json) { json["version"] = 2; }));
  cr_assert(refused([](Json& json) { json["lists"] = 0; }));
  cr_assert(refused([](Json& json) { json["members"] = 1e9; }));
  cr_assert(refused([](Json& json) { json["upstreams"][0]["health"]["path"] = "/a b"; }));
  cr_assert(refused([](Json& json) { json["upstreams"][0]["health"]["path"] = "a"; }));
  cr_assert(refused([](Json& json) { json["upstreams"][0]["health"]["host"] = "a\r\nb"; }));
  cr_assert(refused([](Json& json) { json["upstreams"][0]["health"]["every"] = 0; }));
  cr_assert(refused([](Json& json) { json["upstreams"][0]["health"]["expect"][0] = {1, 2}; }));
  cr_assert(refused([](Json& json) { json["upstreams"][0]["targets"][0]["address"] = "x"; }));
  cr_assert(refused([](Json& json) { json["upstreams"][0]["targets"][0]["last_known"] = 1; }));
  cr_assert(refused([](Json& json) { json["upstreams"][2]["discover"]["path"] = "x.json"; }));
  cr_assert(refused([](Json& json) { json["canaries"][0]["steps"] = {100, 100}; }));
  cr_assert(refused([](Json& json) { json["canaries"][0]["steps"] = {0}; }));
  cr_assert(refused([](Json& json) { json["canaries"][0]["steps"] = {10'001}; }));
  cr_assert(refused([](Json& json) { json["canaries"][0]["steps"] = Json::array(); }));
  cr_assert(refused([](Json& json) { json["canaries"][0]["interval"] = 0; }));
  cr_assert(refused([](Json& json) { json["canaries"][0]["max_latency"] = -1; }));
  cr_assert(refused([](Json& json) { json["canaries"][0]["stable"] = ""; }));
  const Json whole = *json_from_text(good);
  for (const auto& [key, value] : whole["canaries"][0].items()) {
    const std::string name = key;
    cr_assert(refused([&](Json& json) { json["canaries"][0].erase(name); }), "%s", name.c_str());
    cr_assert(refused([&](Json& json) { json["canaries"][0][name] = nullptr; }), "%s",
              name.c_str());
  }
  for (const char* part : {"health", "discover"}) {
    for (const auto& [key, value] : whole["upstreams"][0][part].items()) {
      const std::string name = key;
      cr_assert(refused([&](Json& json) { json["upstreams"][0][part].erase(name); }), "%s",
                name.c_str());
      cr_assert(refused([&](Json& json) { json["upstreams"][0][part][name] = nullptr; }), "%s",
                name.c_str());
    }
  }
}

Test(traffic_plan, checks_are_shown_as_they_are_read) {
  for (const char* text : {"none", "tcp every 100ms timeout 2s jitter 0% rise 1 fall 1",
                           "GET / every 5s timeout 2s jitter 10% expect 200-299 rise 2 fall 3",
                           "GET / every 5s timeout 2s jitter 10% expect 200 header \"A: "
                           "\\\"b\\\\\" body \"\\\" \" host "
                           "a:1 port 9 rise 2 fall 3"}) {
    Result<HealthCheck> check = ValueType<HealthCheck>::parse(text);
    cr_assert(check.ok(), "%s: %s", text, check.ok() ? "" : check.error().message.c_str());
    cr_assert_eq(ValueType<HealthCheck>::format(*check), text);
  }
  for (const char* text :
       {"none", "dns", "dns srv", "dns every 1m", "dns srv every 5s", "file /a every 2s", "api"}) {
    Result<Discovery> discovery = ValueType<Discovery>::parse(text);
    cr_assert(discovery.ok(), "%s", text);
    cr_assert_eq(ValueType<Discovery>::format(*discovery), text);
  }
  for (const char* text : {"", "GET", "GET /a\"b", "GET / body \"\"", "GET / body \"a\"b",
                           "GET / header \"a b\"", "GET / host", "GET / port 70000", "none tcp",
                           "tcp expect 200", "GET / expect 099", "tcp every"}) {
    cr_assert(!ValueType<HealthCheck>::parse(text).ok(), "%s", text);
  }
}
