// The load client that forgives nothing: it never retries, and counts each answer that is refused,
// reset, cut short, wrong, an error or late under its own name, with the first examples.
//
// Three loads at once, on one thread with epoll: kept-alive connections (--connections) that send
// GETs at a fixed rate together (--rate) or each as soon as it has its answer; new connections for
// one request each (--new-rate a second); WebSockets (--websockets) that send a text once a second
// and want its echo. At a fixed rate the latency counts from when the request was due, so that a
// stall shows on every request that it held up.
//
// A kept-alive connection that the server closes before a byte of the next request was written is
// no failure (RFC 9112, 9.3: a server may do that; the client looks before it writes). Closed
// after the request was written it is one, although a browser would try again. A WebSocket that is
// lost is connected anew, to keep the load up, and counted.
//
// Failures: refused reset closed short malformed wrong unasked late no_answer no_connection
// reset_idle connect status_NNN, and for WebSockets ws_ with handshake no_handshake wrong late
// no_echo closed reset refused. The upstream is upstream.cc beside this file: its answers say what
// was asked. --no-check-body takes any body of a 200.
//
// Usage: client --port=N [--connections=C] [--rate=R] [--new-rate=M] [--websockets=K]
//               [--path=/] [--websocket-path=/ws] [--sources=S] [--late=MS] [--seconds=T]
//               [--no-check-body]
// Without --seconds it obeys lines on standard input: "window NAME" prints what was counted since
// the last one, as one line of JSON, and begins anew; "stop", or the end of the input, prints the
// last window and then "total", and ends. Requests that are under way then are waited for.

#include <fcntl.h>
#include <sys/prctl.h>

#include <algorithm>
#include <csignal>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "http_peer.h"
#include "websocket_peer.h"

namespace {

using namespace gatehouse::bench;
using namespace gatehouse::load;

constexpr size_t kDueMax = 200'000;
constexpr uint64_t kSlowTurnNs = 10'000'000;  // between two looks at what waits

class Client final : public Load {
 public:
  explicit Client(Options options) : options_(std::move(options)) {}
  int run();

  const Options& options() const override { return options_; }
  Tally& tally() override { return window_; }
  int epoll() const override { return epoll_; }
  bool stopping() const override { return stopping_; }
  uint64_t next_number() override { return ++number_; }

 private:
  void open_all(uint64_t now);
  void wait_for_events();
  void obey();
  void print_window(const std::string& name);
  void turn(uint64_t now);
  void send_due(uint64_t now);
  void connect_due(uint64_t now);
  bool at_rest() const;

  Options options_;
  int epoll_ = -1;
  uint64_t number_ = 0;
  bool stopping_ = false;
  uint64_t start_ns_ = 0;
  uint64_t window_start_ns_ = 0;
  uint64_t slow_turn_ns_ = 0;  // of the last look at all peers
  double next_request_ns_ = 0;
  double next_connection_ns_ = 0;
  std::string commands_;
  Tally window_;
  Tally total_;
  std::vector<std::unique_ptr<HttpPeer>> kept_;
  std::vector<std::unique_ptr<HttpPeer>> once_;
  std::vector<std::unique_ptr<WebSocketPeer>> websockets_;
  std::deque<HttpPeer*> idle_;  // those that listed says; some may have ended
  std::deque<uint64_t> due_;
};

void Client::open_all(uint64_t now) {
  for (size_t i = 0; i < options_.connections; ++i) {
    kept_.push_back(std::make_unique<HttpPeer>(*this, false));
  }
  for (size_t i = 0; i < options_.websockets; ++i) {
    const uint64_t first = now + 1'000'000'000 * i / options_.websockets;
    websockets_.push_back(std::make_unique<WebSocketPeer>(*this, first, i));
  }
  next_request_ns_ = next_connection_ns_ = static_cast<double>(now);
}

void Client::obey() {
  char buffer[256];
  const ssize_t n = read(STDIN_FILENO, buffer, sizeof buffer);
  if (n < 0 && errno == EAGAIN) return;
  if (n <= 0) {
    stopping_ = true;
    epoll_ctl(epoll_, EPOLL_CTL_DEL, STDIN_FILENO, nullptr);
    return;
  }
  commands_.append(buffer, static_cast<size_t>(n));
  for (size_t end = commands_.find('\n'); end != std::string::npos; end = commands_.find('\n')) {
    const std::string line = commands_.substr(0, end);
    commands_.erase(0, end + 1);
    if (line.substr(0, 7) == "window ") {
      print_window(line.substr(7));
    } else {
      stopping_ = true;
    }
  }
}

void Client::print_window(const std::string& name) {
  const uint64_t now = now_ns();
  size_t open = 0;
  for (const auto& peer : websockets_) open += peer->is_established() ? 1 : 0;
  total_.add(window_);
  window_.print(name, static_cast<double>(now - window_start_ns_) / 1e9, open);
  if (name == "last") {
    total_.print("total", static_cast<double>(now - start_ns_) / 1e9, open);
  }
  window_ = Tally();
  window_start_ns_ = now;
}

// Sleeps to the nanosecond: whole milliseconds would be part of every latency at a fixed rate.
void Client::wait_for_events() {
  static std::vector<epoll_event> events(1024);
  const auto now = static_cast<double>(now_ns());
  double wait = kSlowTurnNs;
  if (options_.rate != 0) wait = std::min(wait, next_request_ns_ - now);
  if (options_.new_rate != 0) wait = std::min(wait, next_connection_ns_ - now);
  const timespec pause{0, static_cast<long>(std::max(wait, stopping_ ? 1e6 : 0.0))};
  const int n =
      epoll_pwait2(epoll_, events.data(), static_cast<int>(events.size()), &pause, nullptr);
  for (int i = 0; i < n; ++i) {
    const epoll_event& e = events[static_cast<size_t>(i)];
    if (e.data.ptr == nullptr) {
      obey();
    } else {
      static_cast<Peer*>(e.data.ptr)->on_event(e.events);
    }
  }
}

// Sends the requests that are due on the connections that have been idle longest.
void Client::send_due(uint64_t now) {
  for (const auto& peer : kept_) {
    if (peer->is_idle() && !peer->listed) {
      if (options_.rate == 0) {
        if (!stopping_) peer->send_request(now);
      } else {
        peer->listed = true;
        idle_.push_back(peer.get());
      }
    } else if (!stopping_ && peer->may_open(now)) {
      peer->open(now);
    }
  }
  if (options_.rate == 0) return;
  for (; !stopping_ && next_request_ns_ <= static_cast<double>(now);
       next_request_ns_ += 1e9 / options_.rate) {
    if (due_.size() < kDueMax) {
      due_.push_back(static_cast<uint64_t>(next_request_ns_));
    } else {
      ++window_.skipped;
    }
  }
  while (!due_.empty() && !idle_.empty()) {
    HttpPeer* peer = idle_.front();
    idle_.pop_front();
    peer->listed = false;
    if (peer->is_idle() && peer->send_request(due_.front())) due_.pop_front();
  }
}

void Client::connect_due(uint64_t now) {
  if (options_.new_rate == 0 || stopping_) return;
  size_t free = 0;
  for (; next_connection_ns_ <= static_cast<double>(now);
       next_connection_ns_ += 1e9 / options_.new_rate) {
    while (free < once_.size() && !once_[free]->is_closed()) ++free;
    if (free == once_.size()) once_.push_back(std::make_unique<HttpPeer>(*this, true));
    once_[free++]->open(static_cast<uint64_t>(next_connection_ns_));
  }
}

void Client::turn(uint64_t now) {
  connect_due(now);
  send_due(now);
  if (now < slow_turn_ns_ + kSlowTurnNs) return;
  slow_turn_ns_ = now;
  for (const auto& peer : websockets_) peer->turn(now);
  for (const auto& peer : kept_) peer->give_up(now);
  for (const auto& peer : once_) peer->give_up(now);
}

bool Client::at_rest() const {
  for (const auto& peer : kept_) {
    if (peer->is_busy()) return false;
  }
  for (const auto& peer : once_) {
    if (!peer->is_closed()) return false;
  }
  return due_.empty() || idle_.empty();
}

int Client::run() {
  epoll_ = epoll_create1(EPOLL_CLOEXEC);
  if (epoll_ < 0) die("epoll_create1");
  start_ns_ = window_start_ns_ = now_ns();
  open_all(start_ns_);
  if (options_.seconds == 0) {
    fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK);
    watch(epoll_, STDIN_FILENO, EPOLLIN, nullptr);
  }
  const uint64_t end = options_.seconds == 0
                           ? UINT64_MAX
                           : start_ns_ + static_cast<uint64_t>(options_.seconds * 1e9);
  while (!stopping_ || !at_rest()) {
    wait_for_events();
    const uint64_t now = now_ns();
    if (now >= end) stopping_ = true;
    turn(now);
  }
  print_window("last");
  return 0;
}

// Reads one argument; false when it is none of ours.
bool parse(Options& o, const char* a) {
  if (const char* port = option_value(a, "--port")) {
    o.port = static_cast<uint16_t>(std::atoi(port));
  } else if (const char* connections = option_value(a, "--connections")) {
    o.connections = static_cast<size_t>(std::atol(connections));
  } else if (const char* rate = option_value(a, "--rate")) {
    o.rate = std::atof(rate);
  } else if (const char* new_rate = option_value(a, "--new-rate")) {
    o.new_rate = std::atof(new_rate);
  } else if (const char* websockets = option_value(a, "--websockets")) {
    o.websockets = static_cast<size_t>(std::atol(websockets));
  } else if (const char* path = option_value(a, "--path")) {
    o.path = path;
  } else if (const char* ws_path = option_value(a, "--websocket-path")) {
    o.websocket_path = ws_path;
  } else if (const char* sources = option_value(a, "--sources")) {
    o.sources = std::clamp(static_cast<uint32_t>(std::atol(sources)), 1u, 250u);
  } else if (const char* late = option_value(a, "--late")) {
    o.late_ns = static_cast<uint64_t>(std::atoll(late)) * 1'000'000;
  } else if (const char* seconds = option_value(a, "--seconds")) {
    o.seconds = std::atof(seconds);
  } else if (std::string_view{a} == "--no-check-body") {
    o.check_body = false;
  } else {
    return false;
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  Options options;
  for (int i = 1; i < argc; ++i) {
    if (!parse(options, argv[i])) {
      std::fprintf(stderr, "client: unknown argument %s (see the head of client.cc)\n", argv[i]);
      return 2;
    }
  }
  if (options.port == 0) {
    std::fprintf(stderr, "client: --port is needed\n");
    return 2;
  }
  return Client(std::move(options)).run();
}
