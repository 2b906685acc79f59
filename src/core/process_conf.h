// The configuration of processes and sockets: [gatehouse], [workers NAME], and of [listener] the
// keys that say where to listen.
//
// Only what the tables need is here; process_plan.h is what the master is started with. Schema
// kinds that other parts add keys to ([listener]) are made here, once.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/config.h"
#include "core/log.h"
#include "core/log_conf.h"
#include "core/member_lists.h"
#include "core/sockets.h"
#include "core/traffic_table.h"
#include "core/units.h"

namespace gatehouse {

// The most workers that one pool may have.
inline constexpr uint32_t kMaxWorkersPerPool = 512;

// The pool that listeners use unless they name another one.
inline constexpr char kDefaultPool[] = "default";

// A path, or "none", which is the empty path.
struct OptionalPath {
  std::string path;
  friend bool operator==(const OptionalPath&, const OptionalPath&) = default;
};

// "PATH", or "PATH LEVEL": a file, or stderr, and the least serious level that is written.
struct ErrorLogTarget {
  std::string path = "stderr";
  LogLevel level = LogLevel::kNotice;
  friend bool operator==(const ErrorLogTarget&, const ErrorLogTarget&) = default;
};

struct GatehouseConf {
  std::string user = "nobody";
  std::string group;  // empty: the user's own
  AutoCount workers;  // of the default pool; auto: one for each CPU that may be used
  Bytes shared_memory = 64_MiB;
  ErrorLogTarget error_log;
  LogRotation error_log_rotate;
  bool agent = true;
  OptionalPath pid_file;
  OptionalPath control{"/run/gatehouse/control.sock"};
  std::string control_group;  // may read over the control socket; empty: nobody but root
  Duration drain_timeout = std::chrono::seconds(30);
  Duration check_timeout = std::chrono::seconds(5);
  Duration reload_timeout = std::chrono::seconds(60);
  Duration upgrade_timeout = std::chrono::seconds(60);
  bool daemon = true;
  uint32_t nofile = 0;      // RLIMIT_NOFILE of master and workers; 0: as much as the work needs
  AutoCount metric_series;  // see Metrics::open
  uint32_t discovered_upstreams = MemberCapacity().lists;
  uint32_t discovered_targets = MemberCapacity().members;  // of each of them
  uint32_t targets_max = TrafficTable::kCapacityDefault;
};

struct WorkersConf {
  AutoCount count;
  uint32_t nofile = 0;
  uint32_t connections_max = 65536;
};

struct ListenerSocketConf {
  std::vector<SocketAddress> address;
  std::string pool = kDefaultPool;
  int backlog = 4096;
};

// Where a listener accepts connections: what it says, or *:80 where it says nothing.
std::vector<SocketAddress> addresses_of(const ListenerSocketConf& conf);

extern const DirectiveTable kGatehouseTable;
extern const DirectiveTable kWorkersTable;
extern const DirectiveTable kListenerSocketTable;

// Adds the sections gatehouse, workers and listener, with the tables above, and [agent].
void add_process_sections(Schema& schema);

template <>
struct ValueType<LogLevel> {
  static Result<LogLevel> parse(std::string_view text);
  static std::string format(const LogLevel& value);
  static std::string expected();
};

template <>
struct ValueType<OptionalPath> {
  static Result<OptionalPath> parse(std::string_view text);
  static std::string format(const OptionalPath& value);
  static std::string expected();
};

template <>
struct ValueType<ErrorLogTarget> {
  static Result<ErrorLogTarget> parse(std::string_view text);
  static std::string format(const ErrorLogTarget& value);
  static std::string expected();
};

// Numeric addresses and unix paths only: no name is resolved to start listening.
template <>
struct ValueType<SocketAddress> {
  static Result<SocketAddress> parse(std::string_view text);
  static std::string format(const SocketAddress& value);
  static std::string expected();
  static constexpr bool kWord = true;
};

}  // namespace gatehouse
