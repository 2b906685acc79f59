// See health_probe.h.
#include "agent/health_probe.h"

#include <curl/curl.h>
#include <event2/event.h>
#include <fmt/format.h>
#include <strings.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <map>
#include <utility>
#include <vector>

#include "agent/grpc_health.h"
#include "core/config_values.h"
#include "core/unique_fd.h"

namespace gatehouse {
namespace {

std::string no_answer(const HealthCheck& check) {
  return "no answer within " + ValueType<Duration>::format(check.timeout);
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r\n";
  const size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

bool same_name(const std::string& a, const std::string& b) {
  return strcasecmp(a.c_str(), b.c_str()) == 0;
}

}  // namespace

ProbeOutcome judge(const HealthCheck& check, const ProbeAnswer& answer) {
  const auto status = static_cast<uint16_t>(answer.status);
  const bool expected = std::any_of(
      check.expect.begin(), check.expect.end(),
      [status](const StatusRange& range) { return status >= range.low && status <= range.high; });
  if (!expected) return {false, fmt::format("status {}", status), status};
  for (const FieldExpectation& field : check.fields) {
    const bool there = std::any_of(answer.fields.begin(), answer.fields.end(),
                                   [&field](const FieldExpectation& got) {
                                     return same_name(got.name, field.name) &&
                                            (field.value.empty() || got.value == field.value);
                                   });
    if (there) continue;
    const std::string value = field.value.empty() ? "" : ": " + field.value;
    return {false, fmt::format("no field {}{}", field.name, value), status};
  }
  if (!check.body.empty() && answer.body.find(check.body) == std::string::npos) {
    return {false, "the expected text is not in the body", status};
  }
  return {true, {}, status};
}

struct HealthProbes::State {
  struct Probe {
    State* state = nullptr;
    uint64_t number = 0;
    HealthCheck check;
    Done done;
    // TCP
    UniqueFd fd;
    Watch watch;
    Timer timer;
    // HTTP
    CURL* easy = nullptr;
    curl_slist* fields = nullptr;
    curl_slist* connect_to = nullptr;
    ProbeAnswer answer;
    size_t head_bytes = 0;
    bool enough = false;    // of the body
    bool too_long = false;  // the head
    char problem[CURL_ERROR_SIZE] = "";

    ~Probe() {
      watch.close();
      if (easy != nullptr) {
        curl_multi_remove_handle(state->multi, easy);
        curl_easy_cleanup(easy);
      }
      curl_slist_free_all(fields);
      curl_slist_free_all(connect_to);
    }
  };
  struct Finished {
    uint64_t number;
    Done done;
    ProbeOutcome outcome;
  };

  explicit State(EventLoop& on) : loop(on) {
    curl_timer.set([](void* self) { static_cast<State*>(self)->act(CURL_SOCKET_TIMEOUT, 0); },
                   this);
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() {
    probes.clear();
    if (multi != nullptr) curl_multi_cleanup(multi);
  }

  // ---- libcurl, driven by the loop ----

  static int on_socket(CURL*, curl_socket_t fd, int what, void* self, void* watched) {
    auto* state = static_cast<State*>(self);
    auto* event = static_cast<struct event*>(watched);
    if (event != nullptr) event_free(event);
    event = nullptr;
    if (what != CURL_POLL_REMOVE) {
      const int events = EV_PERSIST | ((what & CURL_POLL_IN) != 0 ? EV_READ : 0) |
                         ((what & CURL_POLL_OUT) != 0 ? EV_WRITE : 0);
      event = event_new(state->loop.base(), fd, static_cast<short>(events), &State::on_ready, self);
      if (event != nullptr) event_add(event, nullptr);  // without one, the check's time runs out
    }
    curl_multi_assign(state->multi, fd, event);
    return 0;
  }

  static void on_ready(evutil_socket_t fd, short what, void* self) {
    const int events = ((what & EV_READ) != 0 ? CURL_CSELECT_IN : 0) |
                       ((what & EV_WRITE) != 0 ? CURL_CSELECT_OUT : 0);
    static_cast<State*>(self)->act(fd, events);
  }

  static int on_timer(CURLM*, long ms, void* self) {
    auto* state = static_cast<State*>(self);
    if (ms < 0) {
      state->curl_timer.cancel();
    } else {
      state->loop.arm(state->curl_timer, Duration(ms));
    }
    return 0;
  }

  void act(curl_socket_t fd, int events) {
    int running = 0;
    curl_multi_socket_action(multi, fd, events, &running);
    int left = 0;
    while (const CURLMsg* message = curl_multi_info_read(multi, &left)) {
      if (message->msg != CURLMSG_DONE) continue;
      Probe* probe = nullptr;
      curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &probe);
      finish(*probe, outcome_of(*probe, message->data.result));
    }
  }

  static ProbeOutcome outcome_of(Probe& probe, CURLcode result) {
    long status = 0;
    curl_easy_getinfo(probe.easy, CURLINFO_RESPONSE_CODE, &status);
    probe.answer.status = static_cast<int>(status);
    if (result == CURLE_OK && probe.check.kind == HealthCheck::Kind::kGrpc) {
      return judge_grpc_health(probe.answer);
    }
    // A body that was longer than what is looked at was broken off by ourselves.
    if (result == CURLE_OK || (result == CURLE_WRITE_ERROR && probe.enough)) {
      return judge(probe.check, probe.answer);
    }
    if (probe.too_long) return {false, "the head is too long"};
    if (result == CURLE_OPERATION_TIMEDOUT) return {false, no_answer(probe.check)};
    long problem = 0;
    curl_easy_getinfo(probe.easy, CURLINFO_OS_ERRNO, &problem);
    if (result == CURLE_COULDNT_CONNECT && problem != 0) {
      return {false, std::strerror(static_cast<int>(problem))};
    }
    return {false, probe.problem[0] != '\0' ? probe.problem : curl_easy_strerror(result)};
  }

  static size_t on_field(const char* bytes, size_t one, size_t count, void* self) {
    auto& probe = *static_cast<Probe*>(self);
    probe.head_bytes += one * count;
    if (probe.head_bytes > kHealthHeadMax) {
      probe.too_long = true;
      return 0;
    }
    const std::string_view line(bytes, one * count);
    if (line.starts_with("HTTP/")) probe.answer.fields.clear();  // the one before was a 1xx
    const size_t colon = line.find(':');
    if (colon != std::string_view::npos) {
      probe.answer.fields.push_back(
          {std::string(line.substr(0, colon)), std::string(trimmed(line.substr(colon + 1)))});
    }
    return one * count;
  }

  static size_t on_body(const char* bytes, size_t one, size_t count, void* self) {
    auto& probe = *static_cast<Probe*>(self);
    const size_t size = std::min(one * count, kHealthBodyMax - probe.answer.body.size());
    probe.answer.body.append(bytes, size);
    probe.enough = probe.answer.body.size() == kHealthBodyMax;
    return probe.enough ? 0 : size;
  }

  // ---- One check ----

  void finish(Probe& probe, ProbeOutcome outcome) {
    finished.push_back({probe.number, std::move(probe.done), std::move(outcome)});
    probes.erase(probe.number);
    loop.defer(deliver_later);
  }

  void deliver() {
    while (!finished.empty()) {  // what is told may cancel the next
      Finished one = std::move(finished.front());
      finished.pop_front();
      one.done(std::move(one.outcome));
    }
  }

  void start_tcp(Probe& probe, const SocketAddress& address) {
    ConnectStart started = start_connect(address);
    if (started.error == 0) return finish(probe, {true, {}});
    if (started.error != EINPROGRESS) return finish(probe, {false, std::strerror(started.error)});
    probe.fd = std::move(started.fd);
    const Result<void> watched = probe.watch.open(
        loop, probe.fd.get(), WatchMode::kEdge,
        [](void* self, uint8_t ready) {
          auto& connecting = *static_cast<Probe*>(self);
          if ((ready & kIoWritable) == 0) return;
          const int error = connect_result(connecting.fd.get());
          connecting.state->finish(connecting,
                                   {error == 0, error == 0 ? "" : std::strerror(error)});
        },
        &probe);
    if (!watched) return finish(probe, {false, watched.error().message});
    probe.timer.set(
        [](void* self) {
          auto& late = *static_cast<Probe*>(self);
          late.state->finish(late, {false, no_answer(late.check)});
        },
        &probe);
    loop.arm(probe.timer, probe.check.timeout);
  }

  // How an https target is asked: by its name, which it has to prove, at its address.
  static bool set_tls(Probe& probe, const ProbeTransport& transport, const std::string& to) {
    CURL* easy = probe.easy;
    probe.connect_to = curl_slist_append(nullptr, to.c_str());
    if (probe.connect_to == nullptr) return false;
    curl_easy_setopt(easy, CURLOPT_CONNECT_TO, probe.connect_to);
    const long verify = transport.verify ? 1 : 0;
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, verify);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2 * verify);
    if (transport.authorities.empty()) return true;
    curl_blob pem{probe.check.transport.authorities.data(), transport.authorities.size(),
                  CURL_BLOB_NOCOPY};
    return curl_easy_setopt(easy, CURLOPT_CAINFO_BLOB, &pem) == CURLE_OK;
  }

  static long http_version(const HealthCheck& check, bool secure) {
    if (check.kind == HealthCheck::Kind::kGrpc) {
      return secure ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE;
    }
    switch (check.transport.protocol) {
      case ProbeTransport::Protocol::kH2:
        return secure ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE;
      case ProbeTransport::Protocol::kAuto:
        return secure ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_1_1;
      case ProbeTransport::Protocol::kHttp1:
        break;
    }
    return CURL_HTTP_VERSION_1_1;
  }

  void start_http(Probe& probe, const SocketAddress& address, std::string_view host, bool secure) {
    CURL* easy = probe.easy = curl_easy_init();
    if (easy == nullptr) return finish(probe, {false, "out of memory"});
    const HealthCheck& check = probe.check;
    std::string authority = address.is_unix() ? "localhost" : address.format();
    const std::string to = "::" + authority;
    if (secure) {
      const std::string& named = check.transport.server_name;
      authority = named.empty() ? std::string(host) : named;
    }
    const bool grpc = check.kind == HealthCheck::Kind::kGrpc;
    const std::string url = (secure ? "https://" : "http://") + authority +
                            (grpc ? std::string(kGrpcHealthPath) : check.path);
    const std::string host_field = "Host: " + (check.host.empty() ? std::string(host) : check.host);
    std::vector<const char*> fields{host_field.c_str()};
    if (grpc) {
      fields.insert(fields.end(), {"Content-Type: application/grpc", "TE: trailers"});
    } else {
      fields.push_back("Connection: close");
    }
    for (const char* field : fields) {
      curl_slist* longer = curl_slist_append(probe.fields, field);
      if (longer == nullptr) return finish(probe, {false, "out of memory"});
      probe.fields = longer;
    }
    curl_easy_setopt(easy, CURLOPT_PRIVATE, &probe);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, probe.problem);
    curl_easy_setopt(easy, CURLOPT_URL, url.c_str());
    curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, secure ? "https" : "http");
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, http_version(check, secure));
    if (check.transport.proxy_protocol) curl_easy_setopt(easy, CURLOPT_HAPROXYPROTOCOL, 1L);
    if (secure && !set_tls(probe, check.transport, to)) {
      return finish(probe, {false, "the authorities to believe cannot be read"});
    }
    curl_easy_setopt(easy, CURLOPT_HTTP09_ALLOWED, 0L);
    curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
    curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, probe.fields);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "gatehouse-agent");
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, static_cast<long>(check.timeout.count()));
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, &State::on_field);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, &probe);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, &State::on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, &probe);
    if (grpc) {
      const std::string call = grpc_health_request(check.service);
      curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, static_cast<long>(call.size()));
      curl_easy_setopt(easy, CURLOPT_COPYPOSTFIELDS, call.data());
    }
    if (check.method == "HEAD") curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    if (address.is_unix()) {
      curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, std::string(address.path()).c_str());
    }
    const CURLMcode added = curl_multi_add_handle(multi, easy);
    if (added != CURLM_OK) finish(probe, {false, curl_multi_strerror(added)});
  }

  EventLoop& loop;
  CURLM* multi = nullptr;
  Timer curl_timer;
  uint64_t last_number = 0;
  std::map<uint64_t, std::unique_ptr<Probe>> probes;
  std::deque<Finished> finished;
  Deferred deliver_later{[](void* self) { static_cast<State*>(self)->deliver(); }, this};
};

Result<std::unique_ptr<HealthProbes>> HealthProbes::create(EventLoop& loop) {
  static const CURLcode started = curl_global_init(CURL_GLOBAL_DEFAULT);
  if (started != CURLE_OK) return Error{curl_easy_strerror(started)};
  auto state = std::make_unique<State>(loop);
  state->multi = curl_multi_init();
  if (state->multi == nullptr) return Error{"out of memory"};
  curl_multi_setopt(state->multi, CURLMOPT_SOCKETFUNCTION, &State::on_socket);
  curl_multi_setopt(state->multi, CURLMOPT_SOCKETDATA, state.get());
  curl_multi_setopt(state->multi, CURLMOPT_TIMERFUNCTION, &State::on_timer);
  curl_multi_setopt(state->multi, CURLMOPT_TIMERDATA, state.get());
  return std::unique_ptr<HealthProbes>(new HealthProbes(std::move(state)));
}

HealthProbes::HealthProbes(std::unique_ptr<State> state) : state_(std::move(state)) {}
HealthProbes::~HealthProbes() = default;

uint64_t HealthProbes::start(const HealthCheck& check, const SocketAddress& address,
                             std::string_view host, bool secure, Done done) {
  auto made = std::make_unique<State::Probe>();
  State::Probe& probe = *made;
  const uint64_t number = ++state_->last_number;
  probe.state = state_.get();
  probe.number = number;
  probe.check = check;
  probe.done = std::move(done);
  state_->probes.emplace(number, std::move(made));
  SocketAddress at = address;
  if (check.port != 0 && !at.is_unix()) at.set_port(check.port);
  if (check.kind == HealthCheck::Kind::kTcp) {
    state_->start_tcp(probe, at);
  } else {
    state_->start_http(probe, at, host, secure);
  }
  return number;
}

void HealthProbes::cancel(uint64_t number) {
  state_->probes.erase(number);
  std::erase_if(state_->finished,
                [number](const State::Finished& one) { return one.number == number; });
}

size_t HealthProbes::under_way() const {
  return state_->probes.size();
}

}  // namespace gatehouse
