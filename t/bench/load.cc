// The load generator: N connections in a closed loop, each sending its next request when the whole
// response to the last has arrived. One thread, level-triggered epoll.
//
// It reads the CPU clocks of the proxy's processes (--pid) itself, at the two moments between which
// it counts requests: nanoseconds of the scheduler's own account (CLOCK_PROCESS_CPUTIME_ID of that
// process, all threads), so neither 10 ms ticks nor the time a script takes to start and to stop
// the load enter the ratio. Response bodies past the first read are thrown away inside the kernel
// (MSG_TRUNC), so that this side stays cheaper than the proxy also for large responses.
//
// Guarantees: only complete responses with status 200 and the declared length count as requests;
// whatever else happens is counted under its own name and the harness refuses the round. Ends by
// itself: after its window, or when nothing has arrived for five seconds. Leaves out chunked
// responses (the upstream declares a length, and a proxy has to keep it) and pipelining.
//
// Usage: load --port=N [--connections=64] [--seconds=S --warmup=S | --requests=N] [--close]
//             [--path=/128 | --paths=FILE] [--sources=K] [--tls [--resume]] [--pid=P ...]
// With --tls (1.3, X25519, the server's certificate not verified beyond its signature) each
// connection shakes hands anew; with --resume it goes on with the newest session, and a handshake
// that does not is counted as "full".
// FILE has "HOST PATH" lines, asked for in turn. With --close each request has its own connection.
// --sources spreads the clients' addresses over 127.0.0.1 .. 127.0.0.K, K <= 250.
// Output: one JSON object on one line.

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <array>
#include <bit>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "net.h"

namespace {

using namespace gatehouse::bench;

constexpr size_t kReadSize = size_t{64} << 10;
constexpr uint64_t kStallNs = 5'000'000'000u;

struct Options {
  uint16_t port = 0;
  size_t connections = 64;
  double seconds = 2;
  double warmup = 0.3;
  uint64_t requests = 0;
  bool close = false;
  bool tls = false;
  bool resume = false;
  std::string path = "/128";
  std::string paths;
  uint32_t sources = 1;
  std::vector<pid_t> pids;
};

// Latencies in buckets of under 1 % width: 128 to each power of two, in units of 64 ns.
class Histogram {
 public:
  void add(uint64_t ns) {
    ++counts_[index(ns >> 6)];
    ++total_;
  }
  void clear() {
    counts_.fill(0);
    total_ = 0;
  }
  double quantile_us(double q) const {
    const auto wanted = static_cast<uint64_t>(q * static_cast<double>(total_));
    uint64_t seen = 0;
    for (size_t i = 0; i < counts_.size(); ++i) {
      seen += counts_[i];
      if (seen > wanted) return static_cast<double>(value(i) << 6) / 1000.0;
    }
    return 0;
  }

 private:
  static size_t index(uint64_t v) {
    if (v < 128) return static_cast<size_t>(v);
    const auto shift = static_cast<size_t>(std::bit_width(v) - 8);
    return std::min((shift << 7) + static_cast<size_t>(v >> shift), size_t{4095});
  }
  static uint64_t value(size_t i) {
    if (i < 256) return i;
    const size_t shift = (i >> 7) - 1;
    return static_cast<uint64_t>((i & 127) + 128) << shift;
  }
  std::array<uint64_t, 4096> counts_{};
  uint64_t total_ = 0;
};

struct Connection {
  int fd = -1;
  bool connecting = false;
  bool shaking = false;  // the TLS handshake is under way
  SSL* ssl = nullptr;
  bool busy = false;        // a request is out
  uint64_t started_ns = 0;  // of the request, or of connect() with --close
  uint64_t body_left = 0;
  bool in_body = false;
  std::string head;  // an incomplete response head
};

struct Counts {
  uint64_t requests = 0;
  uint64_t bytes = 0;
  uint64_t bad_status = 0;
  uint64_t broken = 0;  // ended inside or before a response, or not readable as one
  uint64_t connect_errors = 0;
  uint64_t reconnects = 0;  // closed by the proxy between two requests
  uint64_t full = 0;        // handshakes that resumed no session, after the first window began
};

class Load {
 public:
  explicit Load(Options options) : options_(std::move(options)) {}
  int run();

 private:
  void build_requests();
  void prepare_tls();
  void shake_hands(Connection& c);
  ssize_t receive(Connection& c, char* into, size_t size);
  void open(Connection& c);
  void reopen(Connection& c);
  void send_next(Connection& c);
  void on_event(Connection& c, uint32_t events);
  void on_readable(Connection& c);
  bool take(Connection& c, const char* data, size_t size);
  void finish(Connection& c);
  uint64_t cpu_ns() const;
  void begin_window();
  void print() const;

  Options options_;
  std::vector<std::string> requests_;
  size_t next_request_ = 0;
  uint32_t next_source_ = 0;
  uint64_t issued_ = 0;
  int epoll_ = -1;
  SSL_CTX* tls_ = nullptr;
  SSL_SESSION* session_ = nullptr;
  std::vector<std::unique_ptr<Connection>> connections_;
  Counts counts_;
  Histogram latency_;
  uint64_t window_start_ns_ = 0;
  uint64_t window_end_ns_ = 0;
  uint64_t cpu_start_ns_ = 0;
  uint64_t cpu_end_ns_ = 0;
  uint64_t last_progress_ns_ = 0;
};

void Load::build_requests() {
  const std::string tail = std::string{"\r\nUser-Agent: load\r\nAccept: */*\r\n"} +
                           (options_.close ? "Connection: close\r\n\r\n" : "\r\n");
  const auto add = [&](const std::string& host, const std::string& path) {
    requests_.push_back("GET " + path + " HTTP/1.1\r\nHost: " + host + tail);
  };
  if (options_.paths.empty()) {
    add("127.0.0.1:" + std::to_string(options_.port), options_.path);
    return;
  }
  std::ifstream in{options_.paths};
  std::string host;
  std::string path;
  while (in >> host >> path) add(host, path);
  if (requests_.empty()) {
    std::fprintf(stderr, "%s: no HOST PATH line in it\n", options_.paths.c_str());
    std::exit(1);
  }
}

void Load::prepare_tls() {
  tls_ = SSL_CTX_new(TLS_client_method());
  SSL_CTX_set_min_proto_version(tls_, TLS1_3_VERSION);
  SSL_CTX_set1_groups_list(tls_, "X25519");
  SSL_CTX_set_mode(tls_, SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_read_ahead(tls_, 1);
  SSL_CTX_set_app_data(tls_, this);
  if (!options_.resume) return;
  SSL_CTX_set_session_cache_mode(tls_, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
  SSL_CTX_sess_set_new_cb(tls_, [](SSL* ssl, SSL_SESSION* session) {
    auto* load = static_cast<Load*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
    SSL_SESSION_free(load->session_);
    load->session_ = session;
    return 1;
  });
}

void Load::shake_hands(Connection& c) {
  if (c.ssl == nullptr) {
    c.ssl = SSL_new(tls_);
    SSL_set_fd(c.ssl, c.fd);
    SSL_set_connect_state(c.ssl);
    if (session_ != nullptr) SSL_set_session(c.ssl, session_);
  }
  const int result = SSL_do_handshake(c.ssl);
  if (result == 1) {
    c.shaking = false;
    if (SSL_session_reused(c.ssl) == 0 && window_start_ns_ != 0) ++counts_.full;
    send_next(c);
    return;
  }
  if (SSL_get_error(c.ssl, result) == SSL_ERROR_WANT_READ) return;
  ERR_clear_error();
  ++counts_.connect_errors;
  reopen(c);
}

// As recv(), for either kind of connection.
ssize_t Load::receive(Connection& c, char* into, size_t size) {
  if (c.ssl == nullptr) {
    return c.in_body ? recv(c.fd, nullptr, static_cast<size_t>(c.body_left), MSG_TRUNC)
                     : recv(c.fd, into, size, 0);
  }
  const int n =
      SSL_read(c.ssl, into, static_cast<int>(c.in_body ? std::min(size, c.body_left) : size));
  if (n > 0) return n;
  const int error = SSL_get_error(c.ssl, n);
  ERR_clear_error();
  if (error == SSL_ERROR_ZERO_RETURN) return 0;
  errno = error == SSL_ERROR_WANT_READ ? EAGAIN : EPROTO;
  return -1;
}

void Load::open(Connection& c) {
  c.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (c.fd < 0) die("socket");
  no_delay(c.fd);
  if (options_.sources > 1) {
    const int on = 1;
    setsockopt(c.fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    const sockaddr_in from = loopback(0, 1 + next_source_++ % options_.sources);
    if (bind(c.fd, reinterpret_cast<const sockaddr*>(&from), sizeof from) < 0) die("bind");
  }
  const sockaddr_in to = loopback(options_.port);
  c.started_ns = now_ns();
  if (connect(c.fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) < 0 &&
      errno != EINPROGRESS) {
    ++counts_.connect_errors;
    die("connect");
  }
  c.connecting = true;
  watch(epoll_, c.fd, EPOLLOUT, &c);
}

void Load::reopen(Connection& c) {
  if (c.ssl != nullptr) {
    // Not for the session's sake, which must stay resumable: nothing is sent.
    SSL_set_shutdown(c.ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(c.ssl);
  }
  close(c.fd);
  c = Connection{};
  open(c);
}

// Sends one request. The first send on a connection follows connect(), whose time counts with
// --close, when the connection is part of what a request costs.
void Load::send_next(Connection& c) {
  if (options_.requests != 0 && issued_ >= options_.requests) return;
  ++issued_;
  const std::string& r = requests_[next_request_];
  if (++next_request_ == requests_.size()) next_request_ = 0;
  if (!options_.close) c.started_ns = now_ns();
  c.busy = true;
  const ssize_t n = c.ssl != nullptr ? SSL_write(c.ssl, r.data(), static_cast<int>(r.size()))
                                     : send(c.fd, r.data(), r.size(), MSG_NOSIGNAL);
  if (n != static_cast<ssize_t>(r.size())) {
    ++counts_.broken;
    --issued_;
    reopen(c);
  }
}

void Load::on_event(Connection& c, uint32_t events) {
  if (c.shaking) {
    shake_hands(c);
    return;
  }
  if (!c.connecting) {
    on_readable(c);
    return;
  }
  if ((events & (EPOLLERR | EPOLLHUP)) != 0) {
    ++counts_.connect_errors;
    reopen(c);
    return;
  }
  c.connecting = false;
  epoll_event e{};
  e.events = EPOLLIN;
  e.data.ptr = &c;
  if (epoll_ctl(epoll_, EPOLL_CTL_MOD, c.fd, &e) < 0) die("epoll_ctl");
  c.shaking = options_.tls;
  if (c.shaking) {
    shake_hands(c);
  } else {
    send_next(c);
  }
}

void Load::on_readable(Connection& c) {
  static char buffer[kReadSize];
  const ssize_t n = receive(c, buffer, sizeof buffer);
  if (n < 0 && errno == EAGAIN) return;
  if (n <= 0) {
    if (c.busy) {
      ++counts_.broken;
      --issued_;
    } else {
      ++counts_.reconnects;
    }
    reopen(c);
    return;
  }
  counts_.bytes += static_cast<uint64_t>(n);
  if (c.in_body) {
    c.body_left -= static_cast<uint64_t>(n);
    if (c.body_left == 0) {
      finish(c);
    } else if (c.ssl != nullptr && SSL_has_pending(c.ssl) != 0) {
      on_readable(c);
    }
    return;
  }
  if (!take(c, buffer, static_cast<size_t>(n))) {
    ++counts_.broken;
    --issued_;
    reopen(c);
  } else if (c.ssl != nullptr && c.in_body && SSL_has_pending(c.ssl) != 0) {
    on_readable(c);
  }
}

// Takes bytes of a response head and what follows it; false when they are no response to count.
bool Load::take(Connection& c, const char* data, size_t size) {
  std::string_view bytes{data, size};
  if (!c.head.empty()) {
    c.head.append(bytes);
    bytes = c.head;
  }
  const size_t end = bytes.find("\r\n\r\n");
  if (end == std::string_view::npos) {
    if (bytes.size() > kReadSize) return false;
    if (c.head.empty()) c.head.assign(bytes);
    return true;
  }
  if (!c.busy || bytes.substr(0, 9) != "HTTP/1.1 ") return false;
  if (bytes.substr(9, 3) != "200") {
    ++counts_.bad_status;
    return false;
  }
  const std::string line{"\r\ncontent-length:"};
  const auto same = [](char a, char b) { return (a >= 'A' && a <= 'Z' ? a + 32 : a) == b; };
  const auto head_end = bytes.begin() + static_cast<ptrdiff_t>(end);
  const auto at = std::search(bytes.begin(), head_end, line.begin(), line.end(), same);
  if (at == head_end) return false;
  const uint64_t length = std::strtoull(&*at + line.size(), nullptr, 10);
  const uint64_t have = bytes.size() - end - 4;
  if (have > length) return false;
  c.body_left = length - have;
  c.in_body = c.body_left != 0;
  if (!c.in_body) finish(c);
  return true;
}

void Load::finish(Connection& c) {
  const uint64_t now = now_ns();
  latency_.add(now - c.started_ns);
  last_progress_ns_ = now;
  ++counts_.requests;
  c.in_body = false;
  c.busy = false;
  c.head.clear();
  if (!options_.close) {
    send_next(c);
  } else if (options_.requests == 0 || issued_ < options_.requests) {
    reopen(c);
  }
}

uint64_t Load::cpu_ns() const {
  uint64_t sum = 0;
  for (const pid_t pid : options_.pids) {
    clockid_t clock = 0;
    timespec t{};
    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &t) != 0) {
      std::fprintf(stderr, "process %d of the proxy is gone\n", static_cast<int>(pid));
      std::exit(1);
    }
    sum += static_cast<uint64_t>(t.tv_sec) * 1'000'000'000u + static_cast<uint64_t>(t.tv_nsec);
  }
  return sum;
}

void Load::begin_window() {
  counts_.requests = 0;
  counts_.bytes = 0;
  latency_.clear();
  cpu_start_ns_ = cpu_ns();
  window_start_ns_ = now_ns();
}

int Load::run() {
  build_requests();
  if (options_.tls) prepare_tls();
  epoll_ = epoll_create1(EPOLL_CLOEXEC);
  if (epoll_ < 0) die("epoll_create1");
  for (size_t i = 0; i < options_.connections; ++i) {
    connections_.push_back(std::make_unique<Connection>());
    open(*connections_.back());
  }
  const uint64_t start = now_ns();
  last_progress_ns_ = start;
  const auto warm = start + static_cast<uint64_t>(options_.warmup * 1e9);
  const auto stop = warm + static_cast<uint64_t>(options_.seconds * 1e9);
  const bool by_count = options_.requests != 0;
  if (by_count) begin_window();
  std::vector<epoll_event> events(512);
  for (;;) {
    const int n = epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), 20);
    for (int i = 0; i < n; ++i) {
      const epoll_event& e = events[static_cast<size_t>(i)];
      on_event(*static_cast<Connection*>(e.data.ptr), e.events);
    }
    const uint64_t now = now_ns();
    if (now - last_progress_ns_ > kStallNs) {
      std::fprintf(stderr, "no response for 5 s\n");
      return 1;
    }
    if (by_count ? counts_.requests >= options_.requests : window_start_ns_ != 0 && now >= stop) {
      break;
    }
    if (window_start_ns_ == 0 && now >= warm) begin_window();
  }
  cpu_end_ns_ = cpu_ns();
  window_end_ns_ = now_ns();
  print();
  return 0;
}

void Load::print() const {
  timespec own{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &own);
  std::printf(
      "{\"requests\":%llu,\"seconds\":%.6f,\"cpu_seconds\":%.9f,\"bytes\":%llu,"
      "\"bad_status\":%llu,\"broken\":%llu,\"connect_errors\":%llu,\"reconnects\":%llu,"
      "\"full_handshakes\":%llu,\"p50_us\":%.1f,\"p99_us\":%.1f,\"load_cpu_seconds\":%.3f}\n",
      static_cast<unsigned long long>(counts_.requests),
      static_cast<double>(window_end_ns_ - window_start_ns_) / 1e9,
      static_cast<double>(cpu_end_ns_ - cpu_start_ns_) / 1e9,
      static_cast<unsigned long long>(counts_.bytes),
      static_cast<unsigned long long>(counts_.bad_status),
      static_cast<unsigned long long>(counts_.broken),
      static_cast<unsigned long long>(counts_.connect_errors),
      static_cast<unsigned long long>(counts_.reconnects),
      static_cast<unsigned long long>(counts_.full), latency_.quantile_us(0.5),
      latency_.quantile_us(0.99),
      static_cast<double>(own.tv_sec) + static_cast<double>(own.tv_nsec) / 1e9);
}

// Reads one argument; false when it is none of ours.
bool parse(Options& o, const char* a) {
  if (const char* v = option_value(a, "--port")) {
    o.port = static_cast<uint16_t>(std::atoi(v));
  } else if (const char* c = option_value(a, "--connections")) {
    o.connections = static_cast<size_t>(std::atol(c));
  } else if (const char* s = option_value(a, "--seconds")) {
    o.seconds = std::atof(s);
  } else if (const char* w = option_value(a, "--warmup")) {
    o.warmup = std::atof(w);
  } else if (const char* r = option_value(a, "--requests")) {
    o.requests = static_cast<uint64_t>(std::atoll(r));
  } else if (const char* p = option_value(a, "--path")) {
    o.path = p;
  } else if (const char* f = option_value(a, "--paths")) {
    o.paths = f;
  } else if (const char* k = option_value(a, "--sources")) {
    o.sources = std::clamp(static_cast<uint32_t>(std::atol(k)), 1u, 250u);
  } else if (const char* i = option_value(a, "--pid")) {
    o.pids.push_back(static_cast<pid_t>(std::atoi(i)));
  } else if (std::string_view{a} == "--close") {
    o.close = true;
  } else if (std::string_view{a} == "--tls") {
    o.tls = true;
  } else if (std::string_view{a} == "--resume") {
    o.resume = true;
  } else {
    return false;
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    if (!parse(options, argv[i])) {
      std::fprintf(stderr, "load: unknown argument %s (see the head of load.cc)\n", argv[i]);
      return 2;
    }
  }
  if (options.port == 0 || options.connections == 0) {
    std::fprintf(stderr, "load: --port and at least one connection are needed\n");
    return 2;
  }
  return Load{std::move(options)}.run();
}
