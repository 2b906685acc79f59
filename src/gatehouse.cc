// The gatehouse program: where the command line (src/cli) and the processes come together.
//
// Here alone the folders meet: core's master forks, http's Worker runs in what it forked, and the
// list of modules comes from src/modules. What is asked of a gateway that runs already is in
// src/cli; here is what reads the configuration itself: running, -t, -T, explain and reference.
#include <config.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cli/breaker.h"
#include "cli/canary.h"
#include "cli/certificate.h"
#include "cli/command_line.h"
#include "cli/explain_running.h"
#include "cli/history.h"
#include "cli/limit.h"
#include "cli/register.h"
#include "cli/signal.h"
#include "cli/status.h"
#include "cli/target.h"
#include "core/certificate_conf.h"
#include "core/certificate_load.h"
#include "core/config_source.h"
#include "core/control_message.h"
#include "core/log.h"
#include "core/master.h"
#include "core/metrics.h"
#include "core/openssl_memory.h"
#include "core/process_conf.h"
#include "core/process_title.h"
#include "core/resolver.h"
#include "core/shared_memory.h"
#include "core/traffic_table.h"
#include "core/worker_columns.h"
#include "http/config_check.h"
#include "http/explain.h"
#include "http/generation.h"
#include "http/reference.h"
#include "http/worker.h"
#include "modules/registry.h"

namespace gatehouse {
namespace {

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

// The segment of the master that this one replaces, or a new one.
Result<SharedMemory> open_segment(const ProcessPlan& plan, std::optional<Handover>& handover) {
  if (handover) {
    Result<SharedMemory> inherited = SharedMemory::attach(std::move(handover->shared));
    if (inherited) {
      if (inherited->size().count < plan.shared_memory) {
        GH_LOG(kWarn, "shared_memory: the new value counts from the next start on");
      }
      return inherited;
    }
    // Counters, limits and health begin anew; the old workers go on with theirs.
    GH_LOG(kWarn, "upgrade: the shared memory is not taken over: {}", inherited.error().message);
    handover->rows.clear();
  }
  return SharedMemory::create(Bytes{plan.shared_memory});
}

// What `explain` says over the control socket.
Result<std::string> explain_running(std::shared_ptr<const ConfigSource> source,
                                    const NameTable& names, const nlohmann::json& body) {
  const Schema schema = make_schema(all_modules());
  ConfigErrors errors;
  const std::unique_ptr<Generation> generation =
      Generation::build(std::move(source), schema, all_modules(), names, errors);
  if (generation == nullptr) return Error{errors.text()};
  ExplainRequest request;
  request.request = control_text(body, "request");
  request.fields = control_texts(body, "fields");
  request.client = control_text(body, "client");
  request.listener = control_text(body, "listener");
  request.json = control_flag(body, "json");
  return explain(*generation, request);
}

void describe_worker(const Metrics& metrics, uint32_t row, nlohmann::json& worker) {
  for (const WorkerRow& found : metrics.workers()) {
    if (found.row != row) continue;
    worker["connections"] = found.connections_active;
    worker["requests"] = found.requests;
    worker["requests_active"] = found.requests_active;
    // Older ones are held by exchanges that began under them.
    worker["generations_held"] = found.cells.generations.get();
  }
}

// Tells what is wrong with them on standard error; false where they cannot serve.
bool complain_of(const Result<LoadedCertificates>& certificates) {
  if (!certificates) {
    std::fprintf(stderr, "%s%s", certificates.error().message.c_str(),
                 certificates.error().message.ends_with('\n') ? "" : "\n");
    return false;
  }
  for (const std::string& warning : certificates->warnings) {
    std::fprintf(stderr, "warning: %s\n", warning.c_str());
  }
  return true;
}

int run(const CommandLine& line) {
  Result<std::optional<Handover>> handover = Handover::take();
  if (!handover) {
    std::fprintf(stderr, "gatehouse: %s\n", handover.error().message.c_str());
    return 1;
  }
  Loaded loaded;
  if (!load(line.config, loaded)) {
    if (*handover) {
      (void)say_upgrade_word((*handover)->talk.get(), UpgradeWord::kFailed,
                             "the configuration is not valid for it");
    }
    return 1;
  }
  MasterStart start;
  start.config_path = line.config;
  start.version = GATEHOUSE_VERSION;
  start.names = resolve_names(loaded.generation->target_names());
  start.plan = plan_of(*loaded.generation, available_cpus(), start.names);
  start.plan.daemon = start.plan.daemon && !line.foreground;
  start.handover = std::move(*handover);
  Result<LoadedCertificates> certificates = load_certificates(start.plan.certificates, 1);
  if (!complain_of(certificates)) {
    if (start.handover) {
      (void)say_upgrade_word(start.handover->talk.get(), UpgradeWord::kFailed,
                             "the certificates are not valid");
    }
    return 1;
  }
  start.certificates = std::move(certificates->bundle);
  // Each worker compiles the same bytes for itself.
  loaded.generation.reset();
  Result<UniqueFd> bytes = loaded.source->to_memfd();
  if (!bytes) {
    std::fprintf(stderr, "gatehouse: %s\n", bytes.error().message.c_str());
    return 1;
  }
  start.config = std::move(*bytes);

  Result<SharedMemory> shared = open_segment(start.plan, start.handover);
  if (!shared) {
    std::fprintf(stderr, "gatehouse: shared_memory: %s\n", shared.error().message.c_str());
    return 1;
  }
  uint32_t rows = 0;
  for (const PoolPlan& pool : start.plan.pools) rows += pool.workers;
  const uint32_t series = start.plan.metric_series;
  Result<std::unique_ptr<Metrics>> metrics = Metrics::open(*shared, rows, series);
  if (!metrics) {
    std::fprintf(stderr, "gatehouse: metrics: %s\n", metrics.error().message.c_str());
    return 1;
  }
  // Made before the first fork: every worker finds the same one.
  if (Result<std::unique_ptr<TrafficTable>> traffic =
          TrafficTable::open(*shared, start.plan.targets_max);
      !traffic) {
    std::fprintf(stderr, "gatehouse: %s\n", traffic.error().message.c_str());
    return 1;
  }
  MasterCalls calls;
  calls.worker_main = [&loaded](WorkerContext context) {
    return Worker::run(std::move(context), loaded.schema, all_modules());
  };
  calls.check = [](std::shared_ptr<const ConfigSource> source) {
    return check_config(std::move(source), all_modules());
  };
  calls.explain = explain_running;
  calls.make_rows = [&](uint32_t wanted) -> Result<void> {
    if (wanted <= (*metrics)->rows()) return {};
    Result<std::unique_ptr<Metrics>> larger = Metrics::open(*shared, wanted, series);
    if (!larger) return larger.error();
    *metrics = std::move(*larger);
    return {};
  };
  calls.on_worker_exit = [&](uint32_t row) {
    (*metrics)->zero_gauges(row);
    (void)zero_columns(*shared, row);
  };
  calls.describe_worker = [&metrics](uint32_t row, nlohmann::json& worker) {
    describe_worker(**metrics, row, worker);
  };
  return run_master(std::move(start), *shared, calls);
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
        return 0;
      }
      const Generation& generation = *loaded.generation;
      if (!complain_of(load_certificates(
              certificate_plan_of(generation.source(), generation.config()), 1))) {
        return 1;
      }
      std::printf("configuration %s is ok\n", line.config.c_str());
      return 0;
    }
    case Command::kSignal:
      return run_signal(line);
    case Command::kStatus:
      return run_status(line);
    case Command::kConfigList:
    case Command::kConfigShow:
    case Command::kConfigDiff:
    case Command::kConfigRollback:
      return run_config(line);
    case Command::kUpgrade:
      return run_upgrade(line);
    case Command::kLimitList:
    case Command::kLimitShow:
    case Command::kLimitSet:
    case Command::kLimitReset:
      return run_limit(line);
    case Command::kTargetRegister:
    case Command::kTargetDeregister:
    case Command::kTargetRegisterList:
      return run_register(line);
    case Command::kBreakerList:
    case Command::kBreakerOpen:
    case Command::kBreakerClose:
      return run_breaker(line);
    case Command::kCanary:
      return run_canary(line);
    case Command::kCertificate:
      return run_certificate(line);
    case Command::kTargetList:
    case Command::kTargetDrain:
    case Command::kTargetDisable:
    case Command::kTargetEnable:
      return run_target(line);
    case Command::kExplain: {
      if (line.running) return run_explain_running(line);
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
      std::fputs(usage_text().c_str(), stdout);
      return 0;
  }
  return 2;
}

}  // namespace
}  // namespace gatehouse

int main(int argc, char** argv) {
  const std::vector<std::string> arguments = gatehouse::init_process_title(argc, argv);
  gatehouse::keep_openssl_buffers();
  gatehouse::CommandLine line;
  const int status = gatehouse::parse_command_line(arguments, line);
  if (status != 0) return status;
  return gatehouse::run_command(line);
}
