// CheckAnswer as JSON. See check_answer.h.
#include "core/check_answer.h"

#include <chrono>
#include <exception>
#include <limits>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <utility>

#include "core/json_text.h"

namespace gatehouse {
namespace {

using Json = nlohmann::json;

constexpr int kVersion = 1;
// More than any configuration can ask for.
constexpr uint32_t kWorkersMax = 1 << 14;
constexpr Duration kDurationMax = std::chrono::hours(24 * 365);

Json value_to_json(const PlannedValue& value) {
  return Json::array({value.text, value.where, value.origin.file, value.origin.line});
}

Json files_to_json(const std::vector<PlannedCertificate::File>& files) {
  Json list = Json::array();
  for (const PlannedCertificate::File& file : files) {
    Json entry = value_to_json(file.value);
    entry.push_back(file.path);
    list.push_back(std::move(entry));
  }
  return list;
}

Json certificates_to_json(const CertificatePlan& plan) {
  Json list = Json::array();
  for (const PlannedCertificate& planned : plan) {
    Json names = Json::array();
    for (const PlannedValue& name : planned.names) names.push_back(value_to_json(name));
    list.push_back({{"name", planned.name},
                    {"certificates", files_to_json(planned.certificates)},
                    {"keys", files_to_json(planned.keys)},
                    {"ocsp", files_to_json(planned.ocsp)},
                    {"names", std::move(names)}});
  }
  return list;
}

Json plan_to_json(const ProcessPlan& plan) {
  Json pools = Json::array();
  for (const PoolPlan& pool : plan.pools) {
    pools.push_back({{"name", pool.name},
                     {"workers", pool.workers},
                     {"connections_max", pool.connections_max},
                     {"nofile", pool.nofile}});
  }
  Json listeners = Json::array();
  for (const ListenerPlan& listener : plan.listeners) {
    Json addresses = Json::array();
    for (const SocketAddress& address : listener.addresses) addresses.push_back(address.format());
    listeners.push_back({{"name", listener.name},
                         {"addresses", std::move(addresses)},
                         {"pool", listener.pool},
                         {"backlog", listener.backlog},
                         {"where", listener.where}});
  }
  Json logs = Json::array();
  for (const LogFilePlan& log : plan.log_files) {
    logs.push_back({{"path", log.path}, {"where", log.where}});
  }
  return {{"pools", std::move(pools)},
          {"listeners", std::move(listeners)},
          {"log_files", std::move(logs)},
          {"certificates", certificates_to_json(plan.certificates)},
          {"error_log", {{"path", plan.error_log.path}, {"where", plan.error_log.where}}},
          {"error_log_level", static_cast<int>(plan.error_log_level)},
          {"user", plan.user},
          {"group", plan.group},
          {"user_where", plan.user_where},
          {"agent",
           {{"on", plan.agent.on},
            {"user", plan.agent.user},
            {"state", plan.agent.state},
            {"traffic", plan.agent.traffic}}},
          {"drain_timeout", plan.drain_timeout.count()},
          {"check_timeout", plan.check_timeout.count()},
          {"reload_timeout", plan.reload_timeout.count()},
          {"upgrade_timeout", plan.upgrade_timeout.count()},
          {"pid_file", plan.pid_file},
          {"control", plan.control},
          {"control_group", plan.control_group},
          {"daemon", plan.daemon},
          {"shared_memory", plan.shared_memory},
          {"metric_series", plan.metric_series},
          {"targets_max", plan.targets_max}};
}

// A whole number of this range. (get<uint32_t>() would cut a large one and round a fraction.)
template <typename Number>
void get_number(const Json& json, std::string_view key, Number& number, Number min = 0,
                Number max = std::numeric_limits<Number>::max()) {
  const Json& value = json.at(std::string(key));
  const bool fits = value.is_number_unsigned()
                        ? value.get<uint64_t>() >= static_cast<uint64_t>(min) &&
                              value.get<uint64_t>() <= static_cast<uint64_t>(max)
                        : value.is_number_integer() && min < 0 &&
                              value.get<int64_t>() >= static_cast<int64_t>(min);
  if (!fits) throw std::runtime_error(std::string(key) + " is no number that it can be");
  number = value.get<Number>();
}

// null would look like an empty list.
const Json& array_at(const Json& json, const char* key) {
  const Json& value = json.at(key);
  if (!value.is_array()) throw std::runtime_error(std::string(key) + " is no list");
  return value;
}

Duration get_duration(const Json& json, std::string_view key) {
  int64_t milliseconds = 0;
  get_number(json, key, milliseconds, int64_t{0}, kDurationMax.count());
  return Duration(milliseconds);
}

// Throws where an address is none; the caller catches what the library throws as well.
SocketAddress address_of(const Json& text) {
  Result<SocketAddress> address = SocketAddress::parse(text.get<std::string>());
  if (!address) throw std::runtime_error(address.error().message);
  return *address;
}

uint32_t index_of(const Json& json) {
  if (!json.is_number_unsigned() || json.get<uint64_t>() > UINT32_MAX) {
    throw std::runtime_error("a place is no number that it can be");
  }
  return json.get<uint32_t>();
}

PlannedValue value_of(const Json& json) {
  PlannedValue value;
  json.at(0).get_to(value.text);
  json.at(1).get_to(value.where);
  value.origin = {index_of(json.at(2)), index_of(json.at(3))};
  return value;
}

std::vector<PlannedCertificate::File> files_at(const Json& json, const char* key) {
  std::vector<PlannedCertificate::File> files;
  for (const Json& entry : array_at(json, key)) {
    files.push_back({value_of(entry), entry.at(4).get<std::string>()});
  }
  return files;
}

CertificatePlan certificates_from_json(const Json& list) {
  CertificatePlan plan;
  for (const Json& entry : list) {
    PlannedCertificate planned;
    entry.at("name").get_to(planned.name);
    planned.certificates = files_at(entry, "certificates");
    planned.keys = files_at(entry, "keys");
    planned.ocsp = files_at(entry, "ocsp");
    for (const Json& name : array_at(entry, "names")) planned.names.push_back(value_of(name));
    if (planned.certificates.size() != planned.keys.size()) {
      throw std::runtime_error("a certificate without a key");
    }
    plan.push_back(std::move(planned));
  }
  return plan;
}

ProcessPlan plan_from_json(const Json& json) {
  ProcessPlan plan;
  for (const Json& entry : array_at(json, "pools")) {
    PoolPlan pool;
    entry.at("name").get_to(pool.name);
    get_number(entry, "workers", pool.workers, 1U, kWorkersMax);
    get_number(entry, "connections_max", pool.connections_max);
    get_number(entry, "nofile", pool.nofile);
    plan.pools.push_back(std::move(pool));
  }
  for (const Json& entry : array_at(json, "listeners")) {
    ListenerPlan listener;
    entry.at("name").get_to(listener.name);
    for (const Json& address : array_at(entry, "addresses")) {
      listener.addresses.push_back(address_of(address));
    }
    entry.at("pool").get_to(listener.pool);
    get_number(entry, "backlog", listener.backlog, 1);
    entry.at("where").get_to(listener.where);
    plan.listeners.push_back(std::move(listener));
  }
  for (const Json& entry : array_at(json, "log_files")) {
    plan.log_files.push_back(
        {entry.at("path").get<std::string>(), entry.at("where").get<std::string>()});
  }
  plan.certificates = certificates_from_json(array_at(json, "certificates"));
  const Json& error_log = json.at("error_log");
  plan.error_log = {error_log.at("path").get<std::string>(),
                    error_log.at("where").get<std::string>()};
  int level = 0;
  get_number(json, "error_log_level", level, static_cast<int>(LogLevel::kDebug),
             static_cast<int>(LogLevel::kAlert));
  plan.error_log_level = static_cast<LogLevel>(level);
  json.at("user").get_to(plan.user);
  json.at("group").get_to(plan.group);
  json.at("user_where").get_to(plan.user_where);
  const Json& agent = json.at("agent");
  agent.at("on").get_to(plan.agent.on);
  agent.at("user").get_to(plan.agent.user);
  agent.at("state").get_to(plan.agent.state);
  agent.at("traffic").get_to(plan.agent.traffic);
  plan.drain_timeout = get_duration(json, "drain_timeout");
  plan.check_timeout = get_duration(json, "check_timeout");
  plan.reload_timeout = get_duration(json, "reload_timeout");
  plan.upgrade_timeout = get_duration(json, "upgrade_timeout");
  json.at("pid_file").get_to(plan.pid_file);
  json.at("control").get_to(plan.control);
  json.at("control_group").get_to(plan.control_group);
  json.at("daemon").get_to(plan.daemon);
  get_number(json, "shared_memory", plan.shared_memory);
  get_number(json, "metric_series", plan.metric_series);
  get_number(json, "targets_max", plan.targets_max);
  if (plan.pools.empty()) throw std::runtime_error("there is no pool");
  return plan;
}

CheckAnswer answer_from_json(const Json& json) {
  if (json.at("version").get<int>() != kVersion) throw std::runtime_error("another version");
  CheckAnswer answer;
  json.at("errors").get_to(answer.errors);
  for (const Json& entry : array_at(json, "wanted")) {
    ConfigSource::Wanted file;
    entry.at("path").get_to(file.path);
    get_number(entry, "max", file.max);
    answer.wanted.push_back(std::move(file));
  }
  if (!answer.errors.empty() || !answer.wanted.empty()) return answer;
  answer.plan = plan_from_json(json.at("plan"));
  const Json& names = json.at("names");
  if (!names.is_object()) throw std::runtime_error("names is no object");
  for (const auto& [name, address] : names.items()) {
    answer.names.emplace(name, address_of(address));
  }
  return answer;
}

}  // namespace

std::string check_answer_to_json(const CheckAnswer& answer) {
  Json wanted = Json::array();
  for (const ConfigSource::Wanted& file : answer.wanted) {
    wanted.push_back({{"path", file.path}, {"max", file.max}});
  }
  Json names = Json::object();
  for (const auto& [name, address] : answer.names) names[name] = address.format();
  const Json json = {{"version", kVersion},
                     {"errors", answer.errors},
                     {"wanted", std::move(wanted)},
                     {"plan", plan_to_json(answer.plan)},
                     {"names", std::move(names)}};
  // Paths and errors may hold bytes that are no UTF-8; the master would say them with U+FFFD.
  return json_to_text(json);
}

Result<CheckAnswer> check_answer_from_json(std::string_view json) {
  const Result<Json> parsed = json_from_text(json);
  if (!parsed) return Error{"a checker's answer is malformed: " + parsed.error().message};
  try {
    return answer_from_json(*parsed);
  } catch (const std::exception& problem) {
    return Error{std::string("a checker's answer is malformed: ") + problem.what()};
  }
}

}  // namespace gatehouse
