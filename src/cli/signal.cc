// Orders to the running gateway. See signal.h.
#include "cli/signal.h"

#include <signal.h>
#include <time.h>

#include <cstdio>
#include <string>
#include <string_view>
#include <utility>

#include "cli/gateway.h"
#include "core/pid_file.h"

namespace gatehouse {
namespace {

constexpr Duration kConnectTimeout{10'000};
// The master bounds each step of these itself, by timeouts of up to an hour; this is for one that
// hangs.
constexpr Duration kLongTimeout = std::chrono::hours(4);
constexpr Duration kShortTimeout{60'000};
// A graceful stop takes what drain_timeout allows: the gateway knows it, we only wait.
constexpr Duration kNoTimeout = std::chrono::hours(24 * 365);
// From the end of its connections to the end of the process.
constexpr Duration kEndTimeout{10'000};
constexpr int kSuccessorTries = 500;  // 20 ms each

struct Order {
  std::string_view word;
  int signal;
  const char* command;
  const char* mode;  // of stop
  Duration timeout;
  bool outcome_in_log;  // where it goes by signal
};
constexpr Order kOrders[] = {
    {"reload", SIGHUP, "reload", nullptr, kLongTimeout, true},
    {"reopen", SIGUSR1, "reopen", nullptr, kShortTimeout, false},
    {"quit", SIGQUIT, "stop", "graceful", kShortTimeout, false},
    {"stop", SIGTERM, "stop", "fast", kShortTimeout, false},
    {"upgrade", SIGUSR2, "upgrade", nullptr, kLongTimeout, true},
};

int fail(const std::string& message) {
  std::fprintf(stderr, "gatehouse: %s\n", message.c_str());
  return kExitFailed;
}

// `why` there is no answer from a socket.
int send_by_pid_file(const Gateway& gateway, const Order& order, const std::string& why) {
  if (gateway.pid_file.empty()) {
    return fail(why + ", and the configuration names no pid_file");
  }
  // Who listens nowhere and holds no pid file is not running: the second says it as well.
  if (const Result<void> sent = send_signal_from_pid_file(gateway.pid_file, order.signal); !sent) {
    return fail(sent.error().message);
  }
  if (order.outcome_in_log) {
    std::fprintf(stderr, "gatehouse: %s; sent a signal, the outcome is in the error log (%s)\n",
                 why.c_str(), gateway.error_log.c_str());
  }
  return kExitOk;
}

int report_refusal(const ControlReply& reply) {
  print_errors(reply.error());
  if (const uint64_t generation = control_number(reply.body, "generation"); generation != 0) {
    std::fprintf(stderr, "gatehouse: refused; generation %llu goes on serving\n",
                 static_cast<unsigned long long>(generation));
  }
  return kExitFailed;
}

// The new master opens its socket when the old one has told of it: the next command shall find it.
void wait_for_successor(const std::string& control, uint64_t pid) {
  const timespec pause = {.tv_sec = 0, .tv_nsec = 20'000'000};
  for (int i = 0; i < kSuccessorTries; ++i) {
    const Result<ControlClient> client = ControlClient::connect(control, kConnectTimeout);
    // 0: a process that cannot be seen from here.
    if (client && (client->server_pid() == 0 || client->server_pid() == static_cast<pid_t>(pid))) {
      return;
    }
    nanosleep(&pause, nullptr);
  }
}

int report_done(const Order& order, const Gateway& gateway, const ControlReply& reply) {
  print_warnings(reply);
  const uint64_t generation = control_number(reply.body, "generation");
  if (order.signal == SIGHUP && generation != 0) {
    std::printf("generation %llu serves\n", static_cast<unsigned long long>(generation));
  }
  if (const uint64_t pid = control_number(reply.body, "pid"); order.signal == SIGUSR2 && pid != 0) {
    wait_for_successor(gateway.control, pid);
    std::printf("process %llu has taken over\n", static_cast<unsigned long long>(pid));
  }
  return kExitOk;
}

// True where it is a stop that was obeyed before it could be answered.
bool ended_unheard(ControlClient& client, const Order& order) {
  return order.mode != nullptr && client.wait_for_end(kEndTimeout);
}

int give(const CommandLine& line, const Order& order) {
  const Result<Gateway> gateway = find_gateway(line);
  if (!gateway) return fail(gateway.error().message);
  if (gateway->control.empty()) {
    return send_by_pid_file(*gateway, order, "there is no control socket (control = none)");
  }
  ControlClient::Failure failure{};
  Result<ControlClient> client =
      ControlClient::connect(gateway->control, kConnectTimeout, &failure);
  if (!client) {
    const std::string& why = client.error().message;
    if (failure != ControlClient::Failure::kAbsent || gateway->pid_file.empty()) return fail(why);
    return send_by_pid_file(*gateway, order, "nobody answers at " + gateway->control);
  }
  nlohmann::json body = nlohmann::json::object();
  if (order.mode != nullptr) body["mode"] = order.mode;
  const Result<ControlReply> reply = client->ask(order.command, std::move(body), order.timeout);
  if (!reply) {
    if (ended_unheard(*client, order)) return kExitOk;
    return fail(reply.error().message);
  }
  if (!reply->ok) return report_refusal(*reply);
  if (order.mode != nullptr && line.wait) client->wait_for_end(kNoTimeout);
  return report_done(order, *gateway, *reply);
}

}  // namespace

int run_signal(const CommandLine& line) {
  for (const Order& order : kOrders) {
    if (order.word == line.signal) return give(line, order);
  }
  return complain("\"" + line.signal + "\" is nothing that -s can do");
}

int run_upgrade(const CommandLine& line) {
  if (!line.cancel) {
    for (const Order& order : kOrders) {
      if (order.word == "upgrade") return give(line, order);
    }
  }
  int exit_code = kExitOk;
  const std::optional<ControlReply> reply =
      ask_gateway(line, "upgrade_cancel", nlohmann::json::object(), kShortTimeout, exit_code);
  if (!reply) return kExitFailed;
  if (!reply->ok) return report_refusal(*reply);
  print_warnings(*reply);
  return kExitOk;
}

}  // namespace gatehouse
