// See dns_client.h.
#include "agent/dns_client.h"

#include <ares.h>
#include <event2/event.h>
#include <netdb.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <map>
#include <utility>

#include "agent/srv_records.h"
#include "core/log.h"
#include "core/unique_fd.h"

namespace gatehouse {
namespace {

constexpr int kQueryTimeoutMs = 1000;  // doubled with each further try
constexpr int kTries = 3;
constexpr int kClassInternet = 1;
constexpr int kTypeSrv = 33;
constexpr char kSystemFile[] = "/etc/resolv.conf";

// A UDP socket that connects sends nothing, but asks for the route.
bool has_route(const SocketAddress& address) {
  const UniqueFd fd(socket(address.family(), SOCK_DGRAM | SOCK_CLOEXEC, 0));
  return fd && connect(fd.get(), address.data(), address.size()) == 0;
}

void tidy(std::vector<FoundServer>& servers) {
  std::sort(servers.begin(), servers.end(), [](const FoundServer& a, const FoundServer& b) {
    if (a.priority != b.priority) return a.priority < b.priority;
    return a.address < b.address;
  });
  // The same server under two names is one.
  std::vector<FoundServer> once;
  for (const FoundServer& server : servers) {
    const bool known = std::any_of(once.begin(), once.end(), [&server](const FoundServer& other) {
      return other.address == server.address;
    });
    if (!known) once.push_back(server);
  }
  servers = std::move(once);
}

// Two numbers that change when the file does.
std::pair<int64_t, int64_t> stamp_of_system() {
  struct stat info {};
  if (stat(kSystemFile, &info) != 0) return {0, 0};
  return {info.st_mtim.tv_sec * 1'000'000'000 + info.st_mtim.tv_nsec,
          static_cast<int64_t>(info.st_ino)};
}

DnsAnswer failure(int status) {
  DnsAnswer answer;
  answer.kind = status == ARES_ENOTFOUND || status == ARES_ENODATA ? DnsAnswer::Kind::kNone
                                                                   : DnsAnswer::Kind::kFailed;
  answer.problem = ares_strerror(status);
  return answer;
}

}  // namespace

struct DnsClient::State {
  // One question, until c-ares has called back.
  struct Query {
    State* state;
    uint64_t number;
    uint16_t port = 0;
    Done done;
  };
  // The hosts of a name's SRV records.
  struct Collection {
    DnsAnswer answer;
    size_t missing = 0;
    bool failed = false;
    Done done;
  };

  explicit State(EventLoop& on) : loop(on) {
    timer.set([](void* self) { static_cast<State*>(self)->process(); }, this);
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() { close(); }

  Result<void> open() {
    ares_options options{};
    options.timeout = kQueryTimeoutMs;
    options.tries = kTries;
    options.sock_state_cb = &State::on_socket;
    options.sock_state_cb_data = this;
    int status = ares_init_options(&channel, &options,
                                   ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB);
    if (status != ARES_SUCCESS) {
      channel = nullptr;
      return Error{std::string("cannot look up names: ") + ares_strerror(status)};
    }
    stamp = stamp_of_system();
    if (servers.empty()) return {};
    std::string list;
    for (const SocketAddress& server : servers) {
      if (!list.empty()) list += ',';
      list += server.format();
    }
    status = ares_set_servers_ports_csv(channel, list.c_str());
    if (status != ARES_SUCCESS) {
      return Error{std::string("cannot use the resolver: ") + ares_strerror(status)};
    }
    return {};
  }

  // What is under way is told as failed, unless all of this goes.
  void close() {
    timer.cancel();
    if (channel != nullptr) ares_destroy(std::exchange(channel, nullptr));
    for (const auto& [fd, event] : events) event_free(event);
    events.clear();
  }

  // ---- c-ares, driven by the loop ----

  static void on_socket(void* self, ares_socket_t fd, int readable, int writable) {
    auto* state = static_cast<State*>(self);
    if (const auto found = state->events.find(fd); found != state->events.end()) {
      event_free(found->second);
      state->events.erase(found);
    }
    if (readable == 0 && writable == 0) return;
    const int what = EV_PERSIST | (readable != 0 ? EV_READ : 0) | (writable != 0 ? EV_WRITE : 0);
    struct event* event =
        event_new(state->loop.base(), fd, static_cast<short>(what), &State::on_ready, state);
    if (event == nullptr) return;  // the question's time runs out then
    event_add(event, nullptr);
    state->events.emplace(fd, event);
  }

  static void on_ready(evutil_socket_t fd, short what, void* self) {
    static_cast<State*>(self)->process((what & EV_READ) != 0 ? fd : ARES_SOCKET_BAD,
                                       (what & EV_WRITE) != 0 ? fd : ARES_SOCKET_BAD);
  }

  void process(ares_socket_t readable = ARES_SOCKET_BAD, ares_socket_t writable = ARES_SOCKET_BAD) {
    if (channel == nullptr) return;
    ares_process_fd(channel, readable, writable);
    arm();
  }

  void arm() {
    timeval next{};
    if (channel == nullptr || ares_timeout(channel, nullptr, &next) == nullptr) {
      return timer.cancel();
    }
    loop.arm(timer, Duration(int64_t{next.tv_sec} * 1000 + next.tv_usec / 1000 + 1));
  }

  // ---- Questions ----

  Query* begin(uint16_t port, Done done) {
    const uint64_t number = ++last_number;
    auto query = std::make_unique<Query>(Query{this, number, port, std::move(done)});
    Query* made = query.get();
    queries.emplace(number, std::move(query));
    return made;
  }

  void end(Query* query, DnsAnswer answer) {
    finished.emplace_back(std::move(query->done), std::move(answer));
    queries.erase(query->number);
    loop.defer(deliver_later);
  }

  void deliver() {
    while (!finished.empty()) {
      auto [done, answer] = std::move(finished.front());
      finished.pop_front();
      done(std::move(answer));
    }
  }

  static void on_addresses(void* self, int status, int, ares_addrinfo* found) {
    auto* query = static_cast<Query*>(self);
    DnsAnswer answer;
    if (status != ARES_SUCCESS) {
      answer = failure(status);
    } else {
      answer.kind = DnsAnswer::Kind::kFound;
      int64_t ttl = INT32_MAX;
      for (const ares_addrinfo_cname* name = found->cnames; name != nullptr; name = name->next) {
        ttl = std::min<int64_t>(ttl, name->ttl);
      }
      for (const ares_addrinfo_node* node = found->nodes; node != nullptr; node = node->ai_next) {
        SocketAddress address = SocketAddress::from_kernel(node->ai_addr, node->ai_addrlen);
        if (address.is_none()) continue;
        address.set_port(query->port);
        answer.servers.push_back({address, 0, 0});
        ttl = std::min<int64_t>(ttl, node->ai_ttl);
      }
      answer.ttl = std::chrono::seconds(std::max<int64_t>(ttl, 0));
      tidy(answer.servers);
      leave_out_unreachable(answer.servers);
      if (answer.servers.empty()) answer = failure(ARES_ENODATA);
    }
    if (found != nullptr) ares_freeaddrinfo(found);
    query->state->end(query, std::move(answer));
  }

  static void leave_out_unreachable(std::vector<FoundServer>& servers) {
    std::vector<FoundServer> reachable;
    for (const FoundServer& server : servers) {
      if (server.address.family() != AF_INET6 || has_route(server.address)) {
        reachable.push_back(server);
      }
    }
    if (!reachable.empty()) servers = std::move(reachable);
  }

  void ask_addresses(const std::string& host, uint16_t port, Done done) {
    Query* query = begin(port, std::move(done));
    if (channel == nullptr) return end(query, failure(ARES_ENOTINITIALIZED));
    ares_addrinfo_hints hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_flags = ARES_AI_NOSORT;
    ares_getaddrinfo(channel, host.c_str(), nullptr, &hints, &State::on_addresses, query);
    arm();
  }

  static void on_records(void* self, int status, int, unsigned char* bytes, int size) {
    auto* query = static_cast<Query*>(self);
    State* state = query->state;
    if (status != ARES_SUCCESS) return state->end(query, failure(status));
    Result<SrvRecords> records =
        parse_srv_records(std::span<const uint8_t>(bytes, static_cast<size_t>(size)));
    if (!records) {
      DnsAnswer answer;
      answer.problem = records.error().message;
      return state->end(query, std::move(answer));
    }
    if (records->records.empty()) return state->end(query, failure(ARES_ENODATA));
    // The hosts' addresses are asked for when c-ares is done with this answer.
    auto collection = std::make_shared<Collection>();
    collection->answer.kind = DnsAnswer::Kind::kFound;
    collection->answer.ttl = records->ttl;
    collection->missing = records->records.size();
    collection->done = std::move(query->done);
    query->done = [state, collection, wanted = std::move(records->records)](const DnsAnswer&) {
      for (const SrvRecord& record : wanted) {
        state->ask_addresses(record.host, record.port, [collection, record](DnsAnswer found) {
          collect(*collection, record, std::move(found));
        });
      }
    };
    state->end(query, DnsAnswer());
  }

  static void collect(Collection& collection, const SrvRecord& record, DnsAnswer found) {
    DnsAnswer& answer = collection.answer;
    for (const FoundServer& server : found.servers) {
      answer.servers.push_back({server.address, record.priority, record.weight});
    }
    if (found.kind == DnsAnswer::Kind::kFound) answer.ttl = std::min(answer.ttl, found.ttl);
    if (found.kind == DnsAnswer::Kind::kFailed) {
      // Half of the servers would look as if the others had gone.
      collection.failed = true;
      answer.problem = record.host + ": " + found.problem;
    }
    if (--collection.missing > 0) return;
    tidy(answer.servers);
    if (collection.failed) {
      answer.kind = DnsAnswer::Kind::kFailed;
      answer.servers.clear();
    } else if (answer.servers.empty()) {
      answer.kind = DnsAnswer::Kind::kNone;
      answer.problem = "the hosts of its SRV records have no address";
    }
    collection.done(std::move(answer));
  }

  EventLoop& loop;
  std::vector<SocketAddress> servers;
  ares_channel channel = nullptr;
  std::pair<int64_t, int64_t> stamp;
  std::map<ares_socket_t, struct event*> events;
  uint64_t last_number = 0;
  std::map<uint64_t, std::unique_ptr<Query>> queries;
  std::deque<std::pair<Done, DnsAnswer>> finished;
  Timer timer;
  Deferred deliver_later{[](void* self) { static_cast<State*>(self)->deliver(); }, this};
};

Result<std::unique_ptr<DnsClient>> DnsClient::create(EventLoop& loop,
                                                     std::vector<SocketAddress> servers) {
  static const int started = ares_library_init(ARES_LIB_INIT_ALL);
  if (started != ARES_SUCCESS) return Error{ares_strerror(started)};
  auto state = std::make_unique<State>(loop);
  state->servers = std::move(servers);
  const Result<void> opened = state->open();
  if (!opened) return opened.error();
  return std::unique_ptr<DnsClient>(new DnsClient(std::move(state)));
}

DnsClient::DnsClient(std::unique_ptr<State> state) : state_(std::move(state)) {}
DnsClient::~DnsClient() = default;

void DnsClient::find_addresses(const std::string& host, uint16_t port, Done done) {
  state_->ask_addresses(host, port, std::move(done));
}

void DnsClient::find_servers(const std::string& name, Done done) {
  State::Query* query = state_->begin(0, std::move(done));
  if (state_->channel == nullptr) return state_->end(query, failure(ARES_ENOTINITIALIZED));
  ares_query(state_->channel, name.c_str(), kClassInternet, kTypeSrv, &State::on_records, query);
  state_->arm();
}

void DnsClient::look_at_system() {
  if (!state_->servers.empty() && state_->channel != nullptr) return;
  if (state_->channel != nullptr && state_->stamp == stamp_of_system()) return;
  state_->close();
  const Result<void> opened = state_->open();
  if (!opened) GH_LOG(kError, "{}", opened.error().message);
}

}  // namespace gatehouse
