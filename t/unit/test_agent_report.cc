// What the agent tells about itself, and when the gateway counts as ready.
#include "agent/agent_report.h"

#include <criterion/criterion.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/json_text.h"

namespace gatehouse {
namespace {

nlohmann::json status(const char* state, const nlohmann::json& workers) {
  return {{"state", state}, {"workers", workers}};
}

nlohmann::json array(std::initializer_list<nlohmann::json> entries) {
  return nlohmann::json(std::vector<nlohmann::json>(entries));
}

nlohmann::json worker(const char* pool, const char* state) {
  return {{"pool", pool}, {"state", state}};
}

}  // namespace

Test(agent_report, it_is_ready_with_a_ready_worker_in_each_pool) {
  const auto ready = worker("a", "ready");
  cr_assert_eq(why_not_ready(status("running", array({ready}))), "");
  cr_assert_eq(why_not_ready(status("running", array({worker("a", "starting"), ready}))), "");
  cr_assert_eq(why_not_ready(status("running", array({ready, worker("b", "waiting")}))),
               "no worker of pool b is ready");
  cr_assert_eq(
      why_not_ready(status("running", array({worker("b", "parked"), worker("a", "draining")}))),
      "no worker of pool a is ready; no worker of pool b is ready");
  cr_assert_eq(why_not_ready(status("draining", array({ready}))), "the gateway is draining");
  cr_assert_eq(why_not_ready(status("running", array({}))), "there are no workers");
}

Test(agent_report, what_is_no_status_is_not_ready) {
  for (const char* text : {"null", "[]", "{}", R"({"state":1})", R"({"state":"running"})",
                           R"({"state":"running","workers":{}})",
                           R"({"state":"running","workers":[1,"x",null,{"pool":1}]})"}) {
    cr_assert_neq(why_not_ready(*json_from_text(text)), "", "%s", text);
  }
}

Test(agent_report, metrics_name_each_family_once) {
  AgentReport report;
  report.generation = 3;
  report.rotations.push_back({"/var/log/\"a\\b\".log", 2, 1, 4096, 0, 0, ""});
  report.rotations.push_back({"/var/log/b.log", 0, 0, 0, 0, 0, ""});
  const std::string text = agent_metrics(report);
  cr_assert(text.find("\ngatehouse_generation 3\n") != std::string::npos);
  cr_assert(text.find("gatehouse_agent_log_rotations_total{file=\"/var/log/\\\"a\\\\b\\\".log\"} 2"
                      "\ngatehouse_agent_log_rotations_total{file=\"/var/log/b.log\"} 0\n") !=
            std::string::npos);
  cr_assert(text.find("gatehouse_agent_checks_total{result=\"bad\"} 0\n") != std::string::npos);
  size_t types = 0;
  for (size_t at = 0; (at = text.find("# TYPE ", at)) != std::string::npos; ++at) ++types;
  size_t rotations = 0;
  for (size_t at = 0;
       (at = text.find("# TYPE gatehouse_agent_log_rotations_total", at)) != std::string::npos;
       ++at) {
    ++rotations;
  }
  cr_assert_eq(rotations, 1);
  cr_assert_eq(types, 9);
  report.generation = 0;
  cr_assert(agent_metrics(report).find("gatehouse_generation") == std::string::npos,
            "not told before it is known");
}

Test(agent_report, json_has_what_is_asked_for) {
  AgentReport report;
  report.pid = 7;
  report.history = "/var/lib/x";
  report.rotations.push_back({"/a.log", 2, 1, 4096, 5, 6, "why"});
  const nlohmann::json told = agent_json(report);
  cr_assert_eq(told["pid"], 7);
  cr_assert_eq(told["history"]["folder"], "/var/lib/x");
  cr_assert_eq(told["logs"][0]["file"], "/a.log");
  cr_assert_eq(told["logs"][0]["error"], "why");
}

Test(agent_report, a_listed_version_has_the_beginning_of_its_error) {
  HistoryVersion version;
  version.number = 4;
  version.outcome = "refused";
  version.error = std::string(5000, 'e');
  const nlohmann::json told = version_json(version);
  cr_assert_eq(told["number"], 4);
  cr_assert_lt(told["error"].get<std::string>().size(), 1000);
}

}  // namespace gatehouse
