// A checker's answer comes back from JSON as it was; what is no answer is refused, whatever it is.
#include "core/check_answer.h"

#include <criterion/criterion.h>

#include <nlohmann/json.hpp>
#include <string>

#include "core/json_text.h"

namespace {

using gatehouse::check_answer_from_json;
using gatehouse::check_answer_to_json;
using gatehouse::CheckAnswer;
using gatehouse::Duration;
using gatehouse::json_from_text;
using gatehouse::json_to_text;
using gatehouse::LogLevel;
using gatehouse::PlannedCertificate;
using gatehouse::ProcessPlan;
using gatehouse::Result;
using gatehouse::SocketAddress;
using Json = nlohmann::json;

CheckAnswer some_answer() {
  CheckAnswer answer;
  ProcessPlan& plan = answer.plan;
  plan.pools = {{"default", 4, 1000, 0}, {"side", 1, 16, 512}};
  plan.listeners = {{"public",
                     {*SocketAddress::parse("[::1]:8080"), *SocketAddress::parse("unix:/run/a b")},
                     "side",
                     128,
                     {"x.conf:3: [listener public] address = [::1]:8080: ", "x.conf:4: "}}};
  plan.log_files = {{"/var/log/a\"b.log", "x.conf:9: "}};
  PlannedCertificate certificate;
  certificate.name = "main";
  certificate.certificates = {{{"a.pem", {1, 7}, "y.conf:7"}, "/etc/a.pem"}};
  certificate.keys = {{{"a.key", {1, 8}, "y.conf:8"}, "/etc/a.key"}};
  certificate.ocsp = {{{"a.ocsp", {1, 9}, "y.conf:9"}, "/etc/a.ocsp"}};
  certificate.names = {{"*.a.test", {1, 10}, "y.conf:10"}};
  plan.certificates = {certificate};
  plan.error_log = {"/var/log/error.log", "x.conf:2: "};
  plan.error_log_level = LogLevel::kWarn;
  plan.user = "nobody";
  plan.group = "nogroup";
  plan.user_where = "x.conf:1: ";
  plan.agent = {true, "keeper", "/var/lib/gatehouse", "{\"version\":1}"};
  plan.drain_timeout = Duration(1);
  plan.check_timeout = Duration(2);
  plan.reload_timeout = Duration(3);
  plan.upgrade_timeout = Duration(4);
  plan.pid_file = "/run/pid";
  plan.control = "/run/control.sock";
  plan.control_group = "adm";
  plan.daemon = true;
  plan.shared_memory = uint64_t{1} << 40;
  plan.metric_series = 77;
  answer.names.emplace("users:80", *SocketAddress::parse("127.0.0.1:80"));
  return answer;
}

// What check_answer_from_json() says of some_answer() after `change`.
template <typename Change>
Result<CheckAnswer> after(Change change) {
  Json json = *json_from_text(check_answer_to_json(some_answer()));
  change(json);
  return check_answer_from_json(json_to_text(json));
}

}  // namespace

TestSuite(check_answer, .timeout = 20);

Test(check_answer, comes_back_as_it_was) {
  const CheckAnswer answer = some_answer();
  const std::string json = check_answer_to_json(answer);
  const Result<CheckAnswer> copy = check_answer_from_json(json);
  cr_assert(copy.ok());
  // Written anew it is the same to the last byte, so that no member can have been forgotten on the
  // way back ...
  cr_assert(check_answer_to_json(*copy) == json);
  // ... and these show that the way there has them.
  cr_assert(copy->plan.pools.size() == 2 && copy->plan.pools[1].nofile == 512);
  cr_assert(copy->plan.listeners[0].addresses == answer.plan.listeners[0].addresses);
  cr_assert(copy->plan.listeners[0].where == answer.plan.listeners[0].where);
  cr_assert(copy->plan.log_files[0].path == "/var/log/a\"b.log");
  cr_assert(copy->plan.error_log_level == LogLevel::kWarn);
  cr_assert(copy->plan.agent.on && copy->plan.agent.user == "keeper");
  cr_assert(copy->plan.agent.traffic == "{\"version\":1}");
  cr_assert(copy->plan.upgrade_timeout == Duration(4) && copy->plan.daemon);
  cr_assert(copy->plan.shared_memory == uint64_t{1} << 40 && copy->plan.metric_series == 77);
  cr_assert(copy->names == answer.names);
  const PlannedCertificate& certificate = copy->plan.certificates[0];
  cr_assert(certificate.keys[0].path == "/etc/a.key" && certificate.keys[0].value.text == "a.key");
  cr_assert(certificate.ocsp[0].value.where == "y.conf:9");
  cr_assert(certificate.names[0].origin == (gatehouse::Origin{1, 10}));
}

Test(check_answer, a_certificate_has_as_many_keys) {
  cr_assert(
      !after([](Json& json) { json["plan"]["certificates"][0]["keys"] = Json::array(); }).ok());
  cr_assert(!after([](Json& json) { json["plan"]["certificates"][0]["keys"][0].erase(4); }).ok());
  for (const Json& wrong : {Json(-1), Json(1.5), Json(uint64_t{1} << 32), Json("1")}) {
    cr_assert(
        !after([&](Json& json) { json["plan"]["certificates"][0]["keys"][0][3] = wrong; }).ok());
  }
}

Test(check_answer, errors_and_wishes_come_without_a_plan) {
  CheckAnswer answer;
  answer.errors = "x.conf:1: bad\nx.conf:2: worse \xff\n";
  Result<CheckAnswer> copy = check_answer_from_json(check_answer_to_json(answer));
  cr_assert(copy.ok());
  cr_assert(copy->errors == "x.conf:1: bad\nx.conf:2: worse \xef\xbf\xbd\n");
  answer = {};
  answer.wanted = {{"/etc/secret page", 4096}};
  copy = check_answer_from_json(check_answer_to_json(answer));
  cr_assert(copy.ok() && copy->errors.empty());
  cr_assert(copy->wanted.size() == 1 && copy->wanted[0].path == "/etc/secret page");
  cr_assert(copy->wanted[0].max == 4096);
}

Test(check_answer, what_is_no_answer_is_refused) {
  const std::string good = check_answer_to_json(some_answer());
  for (const char* bad : {"", "null", "[]", "7", "{}", "{\"version\":1}", "{\"version\":\"1\"}"}) {
    cr_assert(!check_answer_from_json(bad).ok(), "%s", bad);
  }
  for (size_t size = 0; size < good.size(); ++size) {
    cr_assert(!check_answer_from_json(good.substr(0, size)).ok(), "cut at %zu", size);
  }
  cr_assert(!check_answer_from_json(std::string(100'000, '[')).ok());
  cr_assert(!after([](Json& json) { json["version"] = 2; }).ok());
  cr_assert(after([](Json&) {}).ok());
}

Test(check_answer, each_member_of_the_plan_has_to_be_there_and_of_its_type) {
  const Json whole = *json_from_text(check_answer_to_json(some_answer()));
  for (const auto& [key, value] : whole["plan"].items()) {
    const std::string name = key;
    cr_assert(!after([&](Json& json) { json["plan"].erase(name); }).ok(), "%s", name.c_str());
    cr_assert(!after([&](Json& json) { json["plan"][name] = nullptr; }).ok(), "%s", name.c_str());
  }
  for (const char* list : {"pools", "listeners", "log_files", "certificates"}) {
    for (const auto& [key, value] : whole["plan"][list][0].items()) {
      const std::string name = key;
      cr_assert(!after([&](Json& json) { json["plan"][list][0].erase(name); }).ok(), "%s %s", list,
                name.c_str());
    }
  }
}

// The master opens as many sockets as it is told, as root.
Test(check_answer, numbers_are_neither_cut_nor_rounded) {
  const auto workers = [](const Json& value) {
    return after([&](Json& json) { json["plan"]["pools"][0]["workers"] = value; }).ok();
  };
  cr_assert(workers(1) && workers(512));
  for (const Json& bad : {Json(0), Json(-1), Json(1.5), Json(1e300), Json(int64_t{1} << 32),
                          Json((int64_t{1} << 32) + 1), Json(1'000'000), Json("4"), Json(true)}) {
    cr_assert(!workers(bad), "%s", json_to_text(bad).c_str());
  }
  cr_assert(!after([](Json& json) { json["plan"]["pools"] = Json::array(); }).ok());
  cr_assert(!after([](Json& json) { json["plan"]["listeners"][0]["backlog"] = 0; }).ok());
  cr_assert(
      !after([](Json& json) { json["plan"]["listeners"][0]["backlog"] = int64_t{1} << 31; }).ok());
  cr_assert(!after([](Json& json) { json["plan"]["error_log_level"] = 6; }).ok());
  cr_assert(!after([](Json& json) { json["plan"]["error_log_level"] = -1; }).ok());
  cr_assert(!after([](Json& json) { json["plan"]["reload_timeout"] = -1; }).ok());
  cr_assert(!after([](Json& json) { json["plan"]["reload_timeout"] = INT64_MAX; }).ok());
  cr_assert(!after([](Json& json) { json["plan"]["listeners"][0]["addresses"][0] = "x:y"; }).ok());
  cr_assert(!after([](Json& json) { json["names"]["users:80"] = "users:80"; }).ok());
}
