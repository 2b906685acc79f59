// The gatehouse-agent program: what the master starts beside the workers.
//
//   gatehouse-agent --channel FD --shared FD    as the master calls it
//   gatehouse-agent -v | -h
//
// Here the folders meet: the agent itself (src/agent) knows core alone, and is lent what it needs
// of http and modules: the check of a configuration, the tables to bind one, the metrics as text.
#include <config.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/agent.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/metrics.h"
#include "core/process_title.h"
#include "core/shared_memory.h"
#include "http/config_check.h"
#include "http/generation.h"
#include "http/prometheus.h"
#include "modules/registry.h"

namespace gatehouse {
namespace {

constexpr char kUsage[] =
    "gatehouse-agent keeps configurations, rotates logs and answers for the state of gatehouse.\n"
    "It is started by gatehouse itself (agent = on in [gatehouse]), never by hand:\n"
    "  gatehouse-agent --channel FD --shared FD\n"
    "  gatehouse-agent -v | -h                     version | this text\n"
    "See gatehouse-agent(8).\n";

int complain(std::string_view problem) {
  std::fprintf(stderr, "gatehouse-agent: %.*s\n%s", static_cast<int>(problem.size()),
               problem.data(), kUsage);
  return 2;
}

// A descriptor that was inherited, from now on closed by an exec.
bool take_descriptor(const std::string& text, UniqueFd& into) {
  int fd = -1;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, fd);
  if (error != std::errc() || stop != end || fd <= STDERR_FILENO) return false;
  if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) return false;
  into.reset(fd);
  return true;
}

bool is_seqpacket(int fd) {
  int type = 0;
  socklen_t size = sizeof type;
  return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_SEQPACKET;
}

std::string metrics_text(SharedMemory& shared, const Metrics& metrics) {
  fmt::memory_buffer text;
  MetricsSnapshot snapshot = take_snapshot(metrics, wall_clock_us());
  const Result<std::unique_ptr<TrafficTable>> traffic = TrafficTable::open(shared);
  if (traffic) {
    snapshot.breakers = list_breakers(**traffic);
    snapshot.targets = report_targets(**traffic, static_cast<uint64_t>(monotonic_now().us / 1000));
  }
  snapshot.limits = SharedLimit::list(shared);
  snapshot.certificates = read_certificate_expiry(shared);
  write_prometheus(snapshot, text);
  return fmt::to_string(text);
}

int run(UniqueFd channel, UniqueFd segment) {
  log_set_identity("agent");
  set_process_title("gatehouse: agent");
  umask(077);
  // A lease that is broken (see agent/rotated_files.cc) is told by a signal that would kill.
  signal(SIGIO, SIG_IGN);
  // The log's descriptor is exchanged when the file is; standard error follows it.
  log_adopt(fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));

  Result<SharedMemory> shared = SharedMemory::attach(std::move(segment));
  if (!shared) {
    GH_LOG(kError, "cannot use the shared memory: {}", shared.error().message);
    return 1;
  }
  Result<std::unique_ptr<Metrics>> metrics = Metrics::open(*shared, 1);
  if (!metrics) {
    GH_LOG(kError, "cannot use the metrics: {}", metrics.error().message);
    return 1;
  }
  const Schema schema = make_schema(all_modules());
  AgentParts parts;
  parts.version = GATEHOUSE_VERSION;
  parts.check = [](std::shared_ptr<const ConfigSource> source) {
    return check_config(std::move(source), all_modules());
  };
  parts.bind = [&schema](const ConfigSource& source, ConfigErrors& errors) {
    return Config::bind(source, schema, errors);
  };
  parts.metrics = [&shared, &metrics] { return metrics_text(*shared, **metrics); };
  Result<std::unique_ptr<Agent>> agent =
      Agent::start(std::move(parts), std::move(channel), *shared);
  if (!agent) {
    GH_LOG(kError, "cannot start: {}", agent.error().message);
    return 1;
  }
  // A thread that does not end (a name that does not resolve, a slow disk) must not keep the master
  // waiting; whatever it was doing can be cut off at any point.
  if (!(*agent)->run()) _exit(0);
  return 0;
}

int run_command(const std::vector<std::string>& arguments) {
  UniqueFd channel;
  UniqueFd segment;
  for (size_t i = 1; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (argument == "-v" || argument == "--version") {
      std::printf("gatehouse-agent %s\n", GATEHOUSE_VERSION);
      return 0;
    }
    if (argument == "-h" || argument == "--help") {
      std::fputs(kUsage, stdout);
      return 0;
    }
    if (argument != "--channel" && argument != "--shared") {
      return complain("unknown argument \"" + argument + "\"");
    }
    if (i + 1 == arguments.size()) return complain("the option " + argument + " needs a value");
    UniqueFd& into = argument == "--channel" ? channel : segment;
    if (!take_descriptor(arguments[++i], into)) {
      return complain(argument + " " + arguments[i] + " is no descriptor of this process");
    }
  }
  if (!channel || !segment) return complain("started without a master");
  if (!is_seqpacket(channel.get())) return complain("--channel is not the socket of a master");
  return run(std::move(channel), std::move(segment));
}

}  // namespace
}  // namespace gatehouse

int main(int argc, char** argv) {
  return gatehouse::run_command(gatehouse::init_process_title(argc, argv));
}
