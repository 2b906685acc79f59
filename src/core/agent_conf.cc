// The directive table of [agent].
#include "core/agent_conf.h"

#include <fmt/format.h>

#include <utility>

namespace gatehouse {
namespace {

constexpr size_t kUnixPathMax = 107;

bool is_loopback(const IpAddress& address) {
  const std::span<const uint8_t> bytes = address.bytes();
  if (address.is_v4()) return bytes[0] == 127;
  for (size_t i = 0; i + 1 < bytes.size(); ++i) {
    if (bytes[i] != 0) return false;
  }
  return address.is_v6() && bytes.back() == 1;
}

void check_agent(const AgentConf& conf, SectionErrors& errors) {
  if (!conf.state.path.empty() && !conf.state.path.starts_with('/')) {
    errors.add("state", "not an absolute path", "expected: an absolute path, or none");
  }
  for (const auto& [key, path] :
       {std::pair<std::string_view, const std::string&>("api_socket", conf.api_socket.path),
        {"api_token", conf.api_token.path}}) {
    if (!path.empty() && !path.starts_with('/')) {
      errors.add(key, "not an absolute path", "expected: an absolute path, or none");
    }
  }
  if (conf.api_socket.path.size() > kUnixPathMax) {
    errors.add("api_socket", "too long", "expected: at most 107 bytes");
  }
  for (size_t i = 0; i < conf.resolver.size(); ++i) {
    if (conf.resolver[i].is_unix() || conf.resolver[i].port() == 0) {
      errors.add("resolver", "not the address of a server", "expected: 10.0.0.53:53", i);
    }
  }
}

constexpr Directive kAgentDirectives[] = {
    directive<&AgentConf::user>(
        "user", "The user that the agent runs as, when started as root; the workers' when not set.",
        "gatehouse", expects("the name of a user")),
    directive<&AgentConf::state>(
        "state",
        "The agent's folder, made with mode 0700: the configurations that were in force are kept "
        "in it. With none, none is kept.",
        "/var/lib/gatehouse-agent", expects("an absolute path, or none")),
    directive<&AgentConf::listen>(
        "listen",
        "Where the agent answers HTTP: /metrics, /health, /ready and /status. An address that "
        "others than this host reach needs the word exposed.",
        "127.0.0.1:9180"),
    directive<&AgentConf::history_keep>("history_keep", "Configurations that are kept.", "500",
                                        range(2, kHistoryKeepMax)),
    directive<&AgentConf::history_size>(
        "history_size",
        "Room for the configurations that are kept, each of them compressed; the oldest give way.",
        "256m", range(kHistorySizeMin, Bytes{uint64_t{1} << 40})),
    directive<&AgentConf::api_socket>(
        "api_socket",
        "A unix socket where the agent answers as at listen, and takes registrations of targets "
        "from whoever may write to it (mode 0660, the agent's user and group). Its folder has to "
        "be the agent's to write to.",
        "/var/lib/gatehouse-agent/api.sock", expects("an absolute path, or none")),
    directive<&AgentConf::api_token>(
        "api_token",
        "A file with the token (one line, 16 bytes or more) that registrations need at listen, as "
        "Authorization: Bearer TOKEN. The agent's user has to be able to read it. With none they "
        "are taken at api_socket only.",
        "/etc/gatehouse/api.token", expects("an absolute path, or none")),
    directive<&AgentConf::resolver>(
        "resolver",
        "DNS servers that names of targets are looked up at; those of /etc/resolv.conf where none "
        "is named.",
        "10.0.0.53:53"),
    directive<&AgentConf::resolver_stale>(
        "resolver_stale",
        "How long the last addresses of a name stay in use, once its TTL is over, while no DNS "
        "server answers. A name that does not exist any more loses them at once.",
        "1h", range(std::chrono::seconds(0), std::chrono::hours(24 * 30))),
};

}  // namespace

constexpr DirectiveTable kAgentTable =
    directive_table<AgentConf, check_agent>("agent", kAgentDirectives);

void add_agent_section(Schema& schema) {
  schema.add_section("agent", NameRule::kNone,
                     "The process beside the workers that keeps configurations, rotates logs and "
                     "answers for the state of the whole.");
  schema.add_table(&kAgentTable);
}

Result<AgentListen> ValueType<AgentListen>::parse(std::string_view text) {
  AgentListen listen;
  if (text == "none") return listen;
  Result<SocketAddress> address = ValueType<SocketAddress>::parse(take_word(text));
  if (!address) return address.error();
  if (address->is_unix()) return Error{"not an IP address"};
  listen.address = *address;
  listen.exposed = text == "exposed";
  if (!text.empty() && !listen.exposed) {
    return Error{fmt::format("\"{}\" behind the address", text)};
  }
  if (!listen.exposed && !is_loopback(address->ip())) {
    return Error{"not a loopback address; what may be reached from outside has to say so: " +
                 address->format() + " exposed"};
  }
  return listen;
}

std::string ValueType<AgentListen>::format(const AgentListen& value) {
  if (value.address.is_none()) return "none";
  return value.address.format() + (value.exposed ? " exposed" : "");
}

std::string ValueType<AgentListen>::expected() {
  return "none, a loopback address with its port, or any address and the word exposed: "
         "127.0.0.1:9180";
}

}  // namespace gatehouse
