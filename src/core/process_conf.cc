// The tables of [gatehouse], [workers NAME] and of the sockets of [listener].

#include "core/process_conf.h"

#include <set>

#include "core/agent_conf.h"

namespace gatehouse {

namespace {

constexpr EnumName<LogLevel> kLogLevelNames[] = {
    {LogLevel::kDebug, "debug"}, {LogLevel::kInfo, "info"},   {LogLevel::kNotice, "notice"},
    {LogLevel::kWarn, "warn"},   {LogLevel::kError, "error"}, {LogLevel::kAlert, "alert"},
};
using LogLevelNames = EnumValueType<LogLevel, kLogLevelNames>;

bool too_many_workers(const AutoCount& count) {
  return count.count && *count.count > kMaxWorkersPerPool;
}
std::string workers_expected() {
  return "expected: auto, or a number from 1 to " + std::to_string(kMaxWorkersPerPool);
}

void check_gatehouse(const GatehouseConf& conf, SectionErrors& errors) {
  if (too_many_workers(conf.workers)) errors.add("workers", "too large", workers_expected());
  if (conf.error_log_rotate.rotates() && is_standard_stream(conf.error_log.path)) {
    errors.add("error_log_rotate", "the error log is no file",
               "expected: none, or a file in error_log");
  }
}

void check_workers(const WorkersConf& conf, SectionErrors& errors) {
  if (too_many_workers(conf.count)) errors.add("count", "too large", workers_expected());
}

// Port 0 lets the kernel pick, so that giving it twice means two sockets.
void check_listener(const ListenerSocketConf& conf, SectionErrors& errors) {
  std::set<SocketAddress> seen;
  for (size_t i = 0; i < conf.address.size(); ++i) {
    const SocketAddress& address = conf.address[i];
    if (!address.is_unix() && address.port() == 0) continue;
    if (!seen.insert(address).second) errors.add("address", "given twice", {}, i);
  }
}

constexpr uint32_t kMaxNofile = 1 << 30;

constexpr Directive kGatehouseDirectives[] = {
    directive<&GatehouseConf::user>(
        "user", "The user that the workers run as; used only when started as root.", "gatehouse",
        expects("the name of a user")),
    directive<&GatehouseConf::group>(
        "group", "The group that the workers run as; the user's own when not set.", "gatehouse",
        expects("the name of a group")),
    directive<&GatehouseConf::workers>(
        "workers", "Workers in the default pool; auto is one for each CPU.", "4"),
    directive<&GatehouseConf::shared_memory>(
        "shared_memory", "Size of the memory that the workers share: metrics, limits, health.",
        "64m", range(1_MiB, Bytes{uint64_t{1} << 40})),
    directive<&GatehouseConf::error_log>("error_log",
                                         "Where errors are written, and from which level on.",
                                         "/var/log/gatehouse/error.log notice"),
    directive<&GatehouseConf::error_log_rotate>(
        "error_log_rotate", "When and how the agent rotates the error log; as rotate of [log].",
        "size 20m, keep 5"),
    directive<&GatehouseConf::agent>(
        "agent",
        "Run gatehouse-agent beside the workers; see [agent]. Without it the traffic is served "
        "all the same, but no configuration is kept and no log rotated.",
        "off"),
    directive<&GatehouseConf::pid_file>("pid_file", "File that holds the master's process id.",
                                        "/run/gatehouse/gatehouse.pid"),
    directive<&GatehouseConf::control>(
        "control",
        "Socket over which the running gateway is asked and steered, by gatehouse(8); with none "
        "there is just what signals can do.",
        "/run/gatehouse/control.sock"),
    directive<&GatehouseConf::control_group>(
        "control_group",
        "Group whose members may ask over the control socket for what changes nothing: status, "
        "explain, the history of the configuration.",
        "adm", expects("the name of a group")),
    directive<&GatehouseConf::drain_timeout>(
        "drain_timeout", "Time that exchanges have to finish when a worker stops gracefully.",
        "30s", range(std::chrono::milliseconds(0), std::chrono::hours(24))),
    directive<&GatehouseConf::check_timeout>(
        "check_timeout",
        "Time that one checker has for a new configuration: the agent first, then a process of "
        "the master's own.",
        "5s", range(std::chrono::milliseconds(10), std::chrono::hours(1))),
    directive<&GatehouseConf::reload_timeout>(
        "reload_timeout",
        "Time that a reload may take in all until every worker is prepared; then it is given up.",
        "60s", range(std::chrono::milliseconds(100), std::chrono::hours(1))),
    directive<&GatehouseConf::upgrade_timeout>(
        "upgrade_timeout",
        "Time that a new program has until its workers are ready; then the old one carries on.",
        "60s", range(std::chrono::milliseconds(100), std::chrono::hours(1))),
    directive<&GatehouseConf::daemon>(
        "daemon", "Go to the background; the option --foreground overrides it.", "off"),
    directive<&GatehouseConf::nofile>(
        "nofile", "Descriptors that a process may open; 0 is as many as connections_max needs.",
        "200000", range(0, kMaxNofile)),
    directive<&GatehouseConf::metric_series>(
        "metric_series",
        "Metric series that are kept, each 256 bytes and 1152 more for each worker; further names "
        "count together. auto is 4096, or what leaves the shared memory room for twice the "
        "workers.",
        "2000"),
    directive<&GatehouseConf::discovered_upstreams>(
        "discovered_upstreams",
        "Upstreams whose targets are discovered or named by host names, at most. A change takes "
        "effect at a restart.",
        "64", range(1, kMemberListsMax)),
    directive<&GatehouseConf::discovered_targets>(
        "discovered_targets",
        "Targets that each of them may have, at most, 512 bytes of shared memory for each. A "
        "change takes effect at a restart.",
        "256", range(1, kMembersMax)),
    directive<&GatehouseConf::targets_max>(
        "targets_max",
        "Upstreams and targets that shared state is kept for, each 256 bytes and 64 more for each "
        "worker. A target that nothing but its address is said of needs none.",
        "10000", range(TrafficTable::kCapacityMin, TrafficTable::kCapacityMax)),
};

constexpr Directive kWorkersDirectives[] = {
    directive<&WorkersConf::count>("count", "Workers in this pool; auto is one for each CPU.", "2"),
    directive<&WorkersConf::nofile>(
        "nofile", "Descriptors that a worker may open; 0 is as many as connections_max needs.",
        "200000", range(0, kMaxNofile)),
    directive<&WorkersConf::connections_max>("connections_max",
                                             "Client connections that a worker holds at once.",
                                             "65536", range(1, 1 << 24)),
};

constexpr Directive kListenerSocketDirectives[] = {
    directive<&ListenerSocketConf::address>("address", "Addresses to accept connections at.",
                                            "0.0.0.0:80 [::]:80", DirectiveFlag::kNotInherited),
    directive<&ListenerSocketConf::pool>("pool", "The pool of workers that serves it.", "default",
                                         expects("the name of a [workers] section")),
    directive<&ListenerSocketConf::backlog>(
        "backlog", "Connections that wait to be accepted; the kernel may cut it.", "4096",
        range(1, 1 << 16)),
};

}  // namespace

constexpr DirectiveTable kGatehouseTable =
    directive_table<GatehouseConf, check_gatehouse>("gatehouse", kGatehouseDirectives);
constexpr DirectiveTable kWorkersTable =
    directive_table<WorkersConf, check_workers>("workers", kWorkersDirectives);
constexpr DirectiveTable kListenerSocketTable =
    directive_table<ListenerSocketConf, check_listener>("listener", kListenerSocketDirectives);

std::vector<SocketAddress> addresses_of(const ListenerSocketConf& conf) {
  if (!conf.address.empty()) return conf.address;
  return {SocketAddress::ip(IpAddress::v4(0), 80)};
}

void add_process_sections(Schema& schema) {
  schema.add_section("gatehouse", NameRule::kNone, "The gateway as a whole.");
  schema.add_section("workers", NameRule::kRequired,
                     "A pool of workers with limits of its own; listeners choose one by name.");
  schema.add_section("listener", NameRule::kOptional, "Where clients connect.");
  schema.add_table(&kGatehouseTable);
  schema.add_table(&kWorkersTable);
  schema.add_table(&kListenerSocketTable);
  add_agent_section(schema);
}

Result<LogLevel> ValueType<LogLevel>::parse(std::string_view text) {
  return LogLevelNames::parse(text);
}
std::string ValueType<LogLevel>::format(const LogLevel& value) {
  return LogLevelNames::format(value);
}
std::string ValueType<LogLevel>::expected() {
  return LogLevelNames::expected();
}

Result<OptionalPath> ValueType<OptionalPath>::parse(std::string_view text) {
  if (text == "none") return OptionalPath{};
  return OptionalPath{std::string(text)};
}
std::string ValueType<OptionalPath>::format(const OptionalPath& value) {
  return value.path.empty() ? "none" : value.path;
}
std::string ValueType<OptionalPath>::expected() {
  return "a path, or none";
}

Result<ErrorLogTarget> ValueType<ErrorLogTarget>::parse(std::string_view text) {
  ErrorLogTarget target;
  target.path = take_word(text);
  if (text.empty()) return target;
  const std::string_view word = take_word(text);
  Result<LogLevel> level = ValueType<LogLevel>::parse(word);
  if (!level) return Error{"\"" + std::string(word) + "\": " + level.error().message};
  if (!text.empty()) return Error{"more than a path and a level"};
  target.level = *level;
  return target;
}
std::string ValueType<ErrorLogTarget>::format(const ErrorLogTarget& value) {
  return value.path + " " + ValueType<LogLevel>::format(value.level);
}
std::string ValueType<ErrorLogTarget>::expected() {
  return "a path or stderr, then a level if wanted: " + ValueType<LogLevel>::expected();
}

Result<SocketAddress> ValueType<SocketAddress>::parse(std::string_view text) {
  Result<SocketAddress> parsed = SocketAddress::parse(text);
  if (parsed) return parsed;
  // What was expected is said by whoever reports the error, too.
  std::string message = unquoted(parsed.error(), text);
  constexpr std::string_view kForms = ": expected 127.0.0.1:80, [::1]:80, *:80 or unix:/path";
  const size_t forms = message.find(kForms);
  if (forms != std::string::npos) message.erase(forms, kForms.size());
  return Error{std::move(message)};
}
std::string ValueType<SocketAddress>::format(const SocketAddress& value) {
  return value.format();
}
std::string ValueType<SocketAddress>::expected() {
  return "an IP address with its port, or unix: and a path: 0.0.0.0:80 [::1]:8080 *:80 "
         "unix:/run/app.sock";
}

}  // namespace gatehouse
