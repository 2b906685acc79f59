// From a compiled configuration to a plan of processes. See config_check.h.
#include "http/config_check.h"

#include <sched.h>

#include <algorithm>
#include <utility>

#include "core/agent_conf.h"
#include "core/certificate_conf.h"
#include "core/log_conf.h"
#include "core/process_conf.h"
#include "http/tls_conf.h"
#include "http/traffic_plan.h"

namespace gatehouse {
namespace {

// How an error about this key of this section would begin.
std::string blame(const ConfigSection& section, const DirectiveTable& table, std::string_view key,
                  std::string_view value, size_t entry = 0) {
  const Origin origin = section.origin_of(table, key, entry);
  std::string text = section.where(origin.is_default() ? section.origin() : origin);
  text += ": " + section.label();
  if (!origin.is_default()) text += " " + std::string(key) + " = " + std::string(value);
  return text + ": ";
}

void add_pools(ProcessPlan& plan, const Config& config, const GatehouseConf& conf, uint32_t cpus) {
  const auto add = [&](const std::string& name, const WorkersConf& pool, const AutoCount& count) {
    PoolPlan entry;
    entry.name = name;
    entry.workers = count.count.value_or(cpus);
    entry.connections_max = pool.connections_max;
    entry.nofile = pool.nofile != 0 ? pool.nofile : conf.nofile;
    plan.pools.push_back(std::move(entry));
  };
  const ConfigSection* section = config.find("workers", kDefaultPool);
  const WorkersConf main =
      section != nullptr ? section->get<WorkersConf>(kWorkersTable) : WorkersConf();
  add(kDefaultPool, main, main.count.count ? main.count : conf.workers);
  for (const ConfigSection& other : config.sections("workers")) {
    if (other.name() == kDefaultPool) continue;
    const WorkersConf& pool = other.get<WorkersConf>(kWorkersTable);
    add(other.name(), pool, pool.count);
  }
}

void add_listeners(ProcessPlan& plan, const Generation& generation) {
  for (const auto& listener : generation.listeners()) {
    const ConfigSection& section = *listener->section;
    const auto& socket = section.get<ListenerSocketConf>(kListenerSocketTable);
    ListenerPlan entry;
    entry.name = listener->name;
    entry.addresses = listener->addresses;
    entry.pool = socket.pool;
    entry.backlog = socket.backlog;
    for (size_t i = 0; i < entry.addresses.size(); ++i) {
      entry.where.push_back(
          listener->redirects_to != nullptr
              ? blame(section, kListenerTlsTable, "redirect_http", entry.addresses[i].format())
              : blame(section, kListenerSocketTable, "address", entry.addresses[i].format(), i));
    }
    plan.listeners.push_back(std::move(entry));
  }
}

void add_logs(ProcessPlan& plan, const Config& config) {
  for (const ConfigSection& section : config.sections("log")) {
    const std::string& file = section.get<LogConf>(kLogTable).file;
    const auto same = [&file](const LogFilePlan& log) { return log.path == file; };
    if (std::any_of(plan.log_files.begin(), plan.log_files.end(), same)) continue;
    plan.log_files.push_back({file, blame(section, kLogTable, "file", file)});
  }
}

}  // namespace

uint32_t available_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return 1;
  return static_cast<uint32_t>(std::max(1, CPU_COUNT(&set)));
}

ProcessPlan plan_of(const Generation& generation, uint32_t cpus, const NameTable& names) {
  const Config& config = generation.config();
  const ConfigSection& section = config.sections("gatehouse")[0];
  const auto& conf = section.get<GatehouseConf>(kGatehouseTable);
  ProcessPlan plan;
  add_pools(plan, config, conf, cpus);
  add_listeners(plan, generation);
  add_logs(plan, config);
  plan.certificates = certificate_plan_of(generation.source(), config);
  plan.error_log = {conf.error_log.path,
                    blame(section, kGatehouseTable, "error_log", conf.error_log.path)};
  plan.error_log_level = conf.error_log.level;
  plan.user = conf.user;
  plan.group = conf.group;
  plan.user_where = blame(section, kGatehouseTable, "user", conf.user);
  plan.agent.on = conf.agent;
  if (plan.agent.on) {
    const auto& agent = config.sections("agent")[0].get<AgentConf>(kAgentTable);
    plan.agent.user = agent.user;
    plan.agent.state = agent.state.path;
    plan.agent.traffic = traffic_plan_to_json(traffic_plan_of(generation, names));
  }
  plan.drain_timeout = conf.drain_timeout;
  plan.check_timeout = conf.check_timeout;
  plan.reload_timeout = conf.reload_timeout;
  plan.upgrade_timeout = conf.upgrade_timeout;
  plan.pid_file = conf.pid_file.path;
  plan.control = conf.control.path;
  plan.control_group = conf.control_group;
  plan.daemon = conf.daemon;
  plan.shared_memory = conf.shared_memory.count;
  plan.metric_series = conf.metric_series.count.value_or(0);
  plan.targets_max = conf.targets_max;
  return plan;
}

CheckAnswer check_config(std::shared_ptr<const ConfigSource> source,
                         std::span<const Module* const> modules) {
  CheckAnswer answer;
  const Schema schema = make_schema(modules);
  ConfigErrors errors;
  // Whether a name resolves changes nothing but the target's state, so the plan needs no table.
  const std::unique_ptr<Generation> generation =
      Generation::build(source, schema, modules, NameTable(), errors);
  answer.wanted = source->wanted();
  if (!answer.wanted.empty()) return answer;
  if (generation == nullptr) {
    answer.errors = errors.text();
    return answer;
  }
  answer.names = resolve_names(generation->target_names());
  answer.plan = plan_of(*generation, available_cpus(), answer.names);
  return answer;
}

}  // namespace gatehouse
