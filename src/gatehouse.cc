// The gatehouse program: the command line, and what brings its parts together.
//
//   gatehouse [--foreground] [-c FILE]     run
//   gatehouse -t | -T [-c FILE]            test the configuration; -T prints what it means
//   gatehouse -s quit|stop|reopen [-c FILE]  signal the running master
//   gatehouse explain [-c FILE] 'METHOD URL' [-H 'Name: value']…
//   gatehouse reference                    every section and directive
//   gatehouse -v | -V | -h
//
// Here alone the folders meet: core's master forks, http's Worker runs in what it forked, and the
// list of modules comes from src/modules.
#include <config.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/config_source.h"
#include "core/log.h"
#include "core/log_conf.h"
#include "core/master.h"
#include "core/metrics.h"
#include "core/pid_file.h"
#include "core/process_conf.h"
#include "core/process_title.h"
#include "core/resolver.h"
#include "core/shared_memory.h"
#include "http/explain.h"
#include "http/generation.h"
#include "http/reference.h"
#include "http/worker.h"
#include "modules/registry.h"

namespace gatehouse {
namespace {

constexpr std::string_view kUsage =
    "Usage:\n"
    "  gatehouse [--foreground] [-c FILE]       run (in the background unless told otherwise)\n"
    "  gatehouse -t [-c FILE]                   test the configuration\n"
    "  gatehouse -T [-c FILE]                   test it, and print every value with its origin\n"
    "  gatehouse -s quit|stop|reopen [-c FILE]  signal the running gatehouse\n"
    "  gatehouse explain [-c FILE] 'METHOD URL' [-H 'Name: value']... [--client ADDRESS]\n"
    "                    [--listener NAME] [--json]\n"
    "                                           tell what would answer a request, and why\n"
    "  gatehouse reference [--man]              describe every directive, $variable and reason\n"
    "  gatehouse -v | -V | -h                   version | version and build | this text\n"
    "\n"
    "The configuration is " GATEHOUSE_CONFIG_FILE " unless -c names another.\n";

struct CommandLine {
  enum class Command {
    kRun,
    kTest,
    kPrint,
    kSignal,
    kExplain,
    kReference,
    kVersion,
    kBuild,
    kHelp
  };
  Command command = Command::kRun;
  std::string config = GATEHOUSE_CONFIG_FILE;
  bool foreground = false;
  bool man = false;
  std::string signal;
  ExplainRequest explain;
};

int complain(std::string_view problem) {
  std::fprintf(stderr, "gatehouse: %.*s\nTry: gatehouse -h\n", static_cast<int>(problem.size()),
               problem.data());
  return 2;
}

// Result: 0, or the exit code after complaining.
int parse_command_line(const std::vector<std::string>& arguments, CommandLine& line) {
  using Command = CommandLine::Command;
  size_t i = 1;
  if (arguments.size() > 1) {
    const std::string_view first = arguments[1];
    if (first == "explain") {
      line.command = Command::kExplain;
      i = 2;
    } else if (first == "reference") {
      line.command = Command::kReference;
      i = 2;
    }
  }
  const auto value_of = [&](std::string& into) {
    if (i + 1 >= arguments.size()) return false;
    into = arguments[++i];
    return true;
  };
  for (; i < arguments.size(); ++i) {
    const std::string_view argument = arguments[i];
    std::string value;
    const std::string missing = "the option " + std::string(argument) + " needs a value";
    if (argument == "-c" || argument == "--config") {
      if (!value_of(line.config)) return complain(missing);
    } else if (line.command == Command::kExplain && (argument == "-H" || argument == "--header")) {
      if (!value_of(value)) return complain(missing);
      line.explain.fields.push_back(std::move(value));
    } else if (line.command == Command::kExplain && argument == "--client") {
      if (!value_of(line.explain.client)) return complain(missing);
    } else if (line.command == Command::kExplain && argument == "--listener") {
      if (!value_of(line.explain.listener)) return complain(missing);
    } else if (line.command == Command::kExplain && argument == "--json") {
      line.explain.json = true;
    } else if (line.command == Command::kExplain && !argument.starts_with('-') &&
               line.explain.request.empty()) {
      line.explain.request = argument;
    } else if (line.command == Command::kReference && argument == "--man") {
      line.man = true;
    } else if (argument == "--foreground") {
      line.foreground = true;
    } else if (argument == "-t") {
      line.command = Command::kTest;
    } else if (argument == "-T") {
      line.command = Command::kPrint;
    } else if (argument == "-s") {
      line.command = Command::kSignal;
      if (!value_of(line.signal)) return complain(missing);
    } else if (argument == "-v" || argument == "--version") {
      line.command = Command::kVersion;
    } else if (argument == "-V") {
      line.command = Command::kBuild;
    } else if (argument == "-h" || argument == "--help") {
      line.command = Command::kHelp;
    } else {
      return complain("unknown argument \"" + std::string(argument) + "\"");
    }
  }
  if (line.command == Command::kExplain && line.explain.request.empty()) {
    return complain("explain needs a request, such as 'GET https://example.com/'");
  }
  return 0;
}

// A configuration that has been read and compiled.
struct Loaded {
  Schema schema;
  std::shared_ptr<const ConfigSource> source;
  std::unique_ptr<Generation> generation;
};

// Reads and compiles; tells all that is wrong on standard error.
bool load(const std::string& path, Loaded& loaded) {
  Result<ConfigSource> source = ConfigSource::load(path);
  if (!source) {
    std::fprintf(stderr, "gatehouse: %s\n", source.error().message.c_str());
    return false;
  }
  loaded.schema = make_schema(all_modules());
  loaded.source = std::make_shared<const ConfigSource>(std::move(*source));
  ConfigErrors errors;
  loaded.generation =
      Generation::build(loaded.source, loaded.schema, all_modules(), NameTable(), errors);
  if (loaded.generation == nullptr) {
    std::fputs(errors.text().c_str(), stderr);
    return false;
  }
  return true;
}

uint32_t available_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return 1;
  return static_cast<uint32_t>(std::max(1, CPU_COUNT(&set)));
}

ProcessPlan make_plan(const Loaded& loaded, bool foreground) {
  const Config& config = loaded.generation->config();
  const GatehouseConf& conf = config.sections("gatehouse")[0].get<GatehouseConf>(kGatehouseTable);
  const auto workers = [](const AutoCount& count) {
    return count.count ? *count.count : available_cpus();
  };
  ProcessPlan plan;
  const ConfigSection* default_section = config.find("workers", kDefaultPool);
  const WorkersConf default_conf =
      default_section != nullptr ? default_section->get<WorkersConf>(kWorkersTable) : WorkersConf();
  const auto add_pool = [&](const std::string& name, const WorkersConf& pool, AutoCount count) {
    PoolPlan entry;
    entry.name = name;
    entry.workers = workers(count);
    entry.connections_max = pool.connections_max;
    entry.nofile = pool.nofile != 0 ? pool.nofile : conf.nofile;
    plan.pools.push_back(std::move(entry));
  };
  add_pool(kDefaultPool, default_conf,
           default_conf.count.count ? default_conf.count : conf.workers);
  for (const ConfigSection& section : config.sections("workers")) {
    if (section.name() == kDefaultPool) continue;
    const WorkersConf& pool = section.get<WorkersConf>(kWorkersTable);
    add_pool(section.name(), pool, pool.count);
  }
  for (const auto& listener : loaded.generation->listeners()) {
    const ListenerSocketConf& socket =
        listener->section->get<ListenerSocketConf>(kListenerSocketTable);
    ListenerPlan entry;
    entry.name = listener->name;
    entry.addresses = addresses_of(socket);
    entry.pool = socket.pool;
    entry.backlog = socket.backlog;
    plan.listeners.push_back(std::move(entry));
  }
  for (const ConfigSection& section : config.sections("log")) {
    const std::string& file = section.get<LogConf>(kLogTable).file;
    if (std::find(plan.log_files.begin(), plan.log_files.end(), file) == plan.log_files.end()) {
      plan.log_files.push_back(file);
    }
  }
  plan.error_log = conf.error_log.path;
  plan.error_log_level = conf.error_log.level;
  plan.user = conf.user;
  plan.group = conf.group;
  plan.pid_file = conf.pid_file.path;
  plan.daemon = conf.daemon && !foreground;
  plan.drain_timeout = conf.drain_timeout;
  return plan;
}

int run(const CommandLine& line) {
  Loaded loaded;
  if (!load(line.config, loaded)) return 1;
  const GatehouseConf conf =
      loaded.generation->config().sections("gatehouse")[0].get<GatehouseConf>(kGatehouseTable);
  ProcessPlan plan = make_plan(loaded, line.foreground);
  plan.names = resolve_names(loaded.generation->target_names());
  // Each worker compiles the same bytes for itself.
  loaded.generation.reset();
  Result<UniqueFd> config_bytes = loaded.source->to_memfd();
  if (!config_bytes) {
    std::fprintf(stderr, "gatehouse: %s\n", config_bytes.error().message.c_str());
    return 1;
  }
  plan.config_fd = config_bytes->get();

  Result<SharedMemory> shared = SharedMemory::create(conf.shared_memory);
  if (!shared) {
    std::fprintf(stderr, "gatehouse: shared_memory: %s\n", shared.error().message.c_str());
    return 1;
  }
  uint32_t rows = 0;
  for (const PoolPlan& pool : plan.pools) rows += pool.workers;
  Result<std::unique_ptr<Metrics>> metrics =
      Metrics::open(*shared, rows, conf.metric_series.count.value_or(0));
  if (!metrics) {
    std::fprintf(stderr, "gatehouse: metrics: %s\n", metrics.error().message.c_str());
    return 1;
  }
  plan.on_worker_exit = [&metrics](uint32_t row) { (*metrics)->zero_gauges(row); };
  return run_master(plan, *shared, [&loaded](WorkerContext context) {
    return Worker::run(std::move(context), loaded.schema, all_modules());
  });
}

int send_signal(const CommandLine& line) {
  int number = 0;
  if (line.signal == "quit") number = SIGQUIT;
  if (line.signal == "stop") number = SIGTERM;
  if (line.signal == "reopen") number = SIGUSR1;
  if (number == 0) {
    return complain("\"" + line.signal + "\" is no signal; expected quit, stop or reopen");
  }
  Loaded loaded;
  if (!load(line.config, loaded)) return 1;
  const GatehouseConf& conf =
      loaded.generation->config().sections("gatehouse")[0].get<GatehouseConf>(kGatehouseTable);
  if (conf.pid_file.path.empty()) {
    std::fprintf(stderr, "gatehouse: the configuration names no pid_file\n");
    return 1;
  }
  const Result<void> sent = send_signal_from_pid_file(conf.pid_file.path, number);
  if (!sent) {
    std::fprintf(stderr, "gatehouse: %s\n", sent.error().message.c_str());
    return 1;
  }
  return 0;
}

int run_command(const CommandLine& line) {
  using Command = CommandLine::Command;
  switch (line.command) {
    case Command::kRun:
      return run(line);
    case Command::kTest:
    case Command::kPrint: {
      Loaded loaded;
      if (!load(line.config, loaded)) return 1;
      if (line.command == Command::kPrint) {
        std::fputs(loaded.generation->config().effective().c_str(), stdout);
      } else {
        std::printf("configuration %s is ok\n", line.config.c_str());
      }
      return 0;
    }
    case Command::kSignal:
      return send_signal(line);
    case Command::kExplain: {
      Loaded loaded;
      if (!load(line.config, loaded)) return 1;
      const Result<std::string> told = explain(*loaded.generation, line.explain);
      if (!told) return complain(told.error().message);
      std::fputs(told->c_str(), stdout);
      return 0;
    }
    case Command::kReference: {
      const Schema schema = make_schema(all_modules());
      std::fputs((line.man ? reference_man(schema) + http_reference_man()
                           : reference_text(schema) + http_reference_text())
                     .c_str(),
                 stdout);
      return 0;
    }
    case Command::kVersion:
      std::printf("gatehouse %s\n", GATEHOUSE_VERSION);
      return 0;
    case Command::kBuild:
      std::printf("gatehouse %s\nconfigured with: %s\nmodules:", GATEHOUSE_VERSION,
                  GATEHOUSE_CONFIGURE_ARGUMENTS);
      for (const Module* module : all_modules()) std::printf(" %s", module->name);
      std::printf("\n");
      return 0;
    case Command::kHelp:
      std::fputs(kUsage.data(), stdout);
      return 0;
  }
  return 2;
}

}  // namespace
}  // namespace gatehouse

int main(int argc, char** argv) {
  const std::vector<std::string> arguments = gatehouse::init_process_title(argc, argv);
  gatehouse::CommandLine line;
  const int status = gatehouse::parse_command_line(arguments, line);
  if (status != 0) return status;
  return gatehouse::run_command(line);
}
