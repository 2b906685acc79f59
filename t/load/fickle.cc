// A target that fails on command: it dies, hangs, answers errors, answers slowly, disappears, and
// comes back. Tests of health, breakers, retries and balancing put several behind a gateway.
//
// GET TARGET is answered with the body "NAME TARGET\n" and 100 bytes of filling, so that a client
// can tell whether an answer is the one to its own request (client.cc does). How it behaves it
// reads from standard input, one line a command; each is answered with one line of JSON, what was
// counted since the last "reset", when the new behaviour holds:
//
//   answer STATUS [delay MS] [share PERCENT] [but PATH]
//               this status after this time; with a share the others get 200 at once; requests
//               whose target begins with PATH get 200 at once
//   hang        accepts and reads, and answers nobody
//   dead        its port refuses, its connections are ended
//   blackhole   as if its host were gone: connects are not answered, connections fall silent
//   stats       nothing new
//   reset       counts from zero; "most" begins at what is under way
//
// {"requests":N,"checks":N,"under_way":N,"most":N,"connections":N}: complete requests without those
// whose target begins with /healthz, which are the checks; how many of them are being answered, and
// the most there were at one time. A request is under way until its answer is handed to the kernel,
// or its connection has ended: the gateway counts it for longer, so "most" is never above what the
// gateway has let through.
//
// Any command that changes the behaviour ends the connections whose requests hang, as a server does
// that is started again. The black hole needs no privilege: the accept queue is made as short as it
// goes and filled by connections of its own, and Linux drops the SYNs that find it full.
//
// Guarantees: requests on one connection are answered in order. A request with a body, or one whose
// head is over 64 KiB, ends the connection.
//
// Usage: fickle [--port=N] [--name=TEXT]   prints "port N" when it listens; ends at SIGTERM, or
// with its standard input.

#include <sys/prctl.h>

#include <algorithm>
#include <csignal>
#include <memory>
#include <queue>
#include <random>
#include <sstream>
#include <string>
#include <unordered_map>
#include <vector>

#include "../bench/net.h"

namespace {

using namespace gatehouse::bench;

constexpr size_t kHeadMax = size_t{64} << 10;
constexpr int kBacklog = 4096;
constexpr size_t kFillersMax = 8;

enum class Kind { kAnswer, kHang, kDead, kBlackhole };

struct Behaviour {
  Kind kind = Kind::kAnswer;
  unsigned status = 200;
  unsigned delay_ms = 0;
  double share = 100;
  std::string but;  // empty: no target is excepted
};

struct Connection {
  uint64_t number = 0;
  int fd = -1;
  std::string unread;
  std::string unsent;
  std::string answer;       // what is sent at the time that is waited for
  bool is_busy = false;     // a request was read and is not answered yet
  bool is_counted = false;  // and it is no check
  bool close_when_sent = false;
};

struct Due {
  uint64_t at_ns;
  uint64_t number;
  bool operator>(const Due& other) const { return at_ns > other.at_ns; }
};

struct Counts {
  uint64_t requests = 0;
  uint64_t checks = 0;
  uint64_t under_way = 0;
  uint64_t most = 0;
};

class Target {
 public:
  explicit Target(std::string name) : name_(std::move(name)) {}
  void run(uint16_t port);

 private:
  void open_listener();
  void fill_accept_queue();
  void empty_accept_queue();
  void obey();
  void obey_line(const std::string& line);
  void behave(const Behaviour& wanted);
  void accept_all();
  void on_event(uint64_t number, uint32_t events);
  bool read_all(Connection& c);
  bool serve(Connection& c);
  bool take_request(Connection& c, std::string_view head);
  bool send_answer(Connection& c);
  static bool flush(Connection& c);
  void answer_due(uint64_t now);
  int pause_ms() const;
  void end(uint64_t number);
  void print() const;

  std::string name_;
  uint16_t port_ = 0;
  int listener_ = -1;
  int epoll_ = -1;
  Behaviour behaviour_;
  Counts counts_;
  uint64_t next_number_ = 2;  // 0 is standard input, 1 the listener
  std::unordered_map<uint64_t, std::unique_ptr<Connection>> connections_;
  std::priority_queue<Due, std::vector<Due>, std::greater<>> due_;
  std::vector<int> fillers_;
  std::string commands_;
  std::mt19937_64 random_{1};
};

std::string_view connection_field(std::string_view head) {
  static constexpr std::string_view kName = "\r\nconnection: ";
  const auto lower = [](char a, char b) { return (a >= 'A' && a <= 'Z' ? a + 32 : a) == b; };
  const auto* at = std::search(head.begin(), head.end(), kName.begin(), kName.end(), lower);
  if (at == head.end()) return {};
  const std::string_view rest{at + kName.size(), head.end()};
  return rest.substr(0, rest.find("\r\n"));
}

void watch_number(int epoll, int op, int fd, uint32_t events, uint64_t number) {
  epoll_event e{};
  e.events = events;
  e.data.u64 = number;
  if (epoll_ctl(epoll, op, fd, &e) < 0) die("epoll_ctl");
}

void Target::open_listener() {
  listener_ = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (listener_ < 0) die("socket");
  const int on = 1;
  setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in own = loopback(port_);
  if (bind(listener_, reinterpret_cast<sockaddr*>(&own), sizeof own) < 0) die("bind");
  if (listen(listener_, kBacklog) < 0) die("listen");
  socklen_t size = sizeof own;
  if (getsockname(listener_, reinterpret_cast<sockaddr*>(&own), &size) < 0) die("getsockname");
  port_ = ntohs(own.sin_port);
  watch_number(epoll_, EPOLL_CTL_ADD, listener_, EPOLLIN, 1);
}

// REQUIRES: nobody accepts any more. Connects until one is not answered.
void Target::fill_accept_queue() {
  accept_all();
  watch_number(epoll_, EPOLL_CTL_MOD, listener_, 0, 1);
  if (listen(listener_, 0) < 0) die("listen");
  const sockaddr_in to = loopback(port_);
  for (size_t i = 0; i < kFillersMax; ++i) {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) die("socket");
    fillers_.push_back(fd);
    // On loopback a handshake that succeeds is over when connect() returns.
    connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to);
    tcp_info info{};
    socklen_t size = sizeof info;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) < 0) die("TCP_INFO");
    if (info.tcpi_state == TCP_SYN_SENT) return;
  }
  std::fprintf(stderr, "fickle: the accept queue does not fill\n");
  std::exit(1);
}

void Target::empty_accept_queue() {
  for (const int fd : fillers_) close(fd);
  fillers_.clear();
  if (listen(listener_, kBacklog) < 0) die("listen");
  watch_number(epoll_, EPOLL_CTL_MOD, listener_, EPOLLIN, 1);
}

void Target::behave(const Behaviour& wanted) {
  const Kind before = behaviour_.kind;
  behaviour_ = wanted;
  std::vector<uint64_t> ended;
  for (const auto& [number, c] : connections_) {
    if (wanted.kind == Kind::kDead || (before == Kind::kHang && c->is_busy))
      ended.push_back(number);
  }
  for (const uint64_t number : ended) end(number);
  if (before == Kind::kDead && wanted.kind != Kind::kDead) open_listener();
  if (before == Kind::kBlackhole && wanted.kind != Kind::kBlackhole) {
    empty_accept_queue();
    // What came meanwhile has been given up by those who sent it.
    std::vector<uint64_t> all;
    for (const auto& [number, c] : connections_) all.push_back(number);
    for (const uint64_t number : all) end(number);
  }
  if (wanted.kind == Kind::kBlackhole && before != Kind::kBlackhole) fill_accept_queue();
  if (wanted.kind == Kind::kDead && before != Kind::kDead) {
    close(listener_);
    listener_ = -1;
  }
}

void Target::obey_line(const std::string& line) {
  std::istringstream words(line);
  std::string word;
  words >> word;
  Behaviour wanted;
  if (word == "answer") {
    words >> wanted.status;
    while (words >> word) {
      if (word == "delay") {
        words >> wanted.delay_ms;
      } else if (word == "share") {
        words >> wanted.share;
      } else if (word == "but") {
        words >> wanted.but;
      } else {
        words.setstate(std::ios::failbit);
      }
      if (words.fail()) break;
    }
    if (words.fail() && !words.eof()) word = "?";
    behave(wanted);
  } else if (word == "hang" || word == "dead" || word == "blackhole") {
    wanted.kind = word == "hang" ? Kind::kHang : word == "dead" ? Kind::kDead : Kind::kBlackhole;
    behave(wanted);
  } else if (word == "reset") {
    counts_ = Counts{0, 0, counts_.under_way, counts_.under_way};
  } else if (word != "stats") {
    word = "?";
  }
  if (word == "?") {
    std::fprintf(stderr, "fickle: unknown command: %s\n", line.c_str());
    std::exit(2);
  }
  print();
}

void Target::obey() {
  char buffer[512];
  const ssize_t n = read(STDIN_FILENO, buffer, sizeof buffer);
  if (n <= 0) std::exit(0);
  commands_.append(buffer, static_cast<size_t>(n));
  for (size_t end = commands_.find('\n'); end != std::string::npos; end = commands_.find('\n')) {
    const std::string line = commands_.substr(0, end);
    commands_.erase(0, end + 1);
    obey_line(line);
  }
}

void Target::print() const {
  std::printf(
      "{\"requests\":%llu,\"checks\":%llu,\"under_way\":%llu,\"most\":%llu,\"connections\":%zu}\n",
      static_cast<unsigned long long>(counts_.requests),
      static_cast<unsigned long long>(counts_.checks),
      static_cast<unsigned long long>(counts_.under_way),
      static_cast<unsigned long long>(counts_.most), connections_.size());
  std::fflush(stdout);
}

void Target::end(uint64_t number) {
  const auto found = connections_.find(number);
  if (found == connections_.end()) return;
  if (found->second->is_counted) --counts_.under_way;
  close(found->second->fd);
  connections_.erase(found);
}

// Sends what is unsent; false when the connection is finished.
bool Target::flush(Connection& c) {
  while (!c.unsent.empty()) {
    const ssize_t n = send(c.fd, c.unsent.data(), c.unsent.size(), MSG_NOSIGNAL);
    if (n < 0) return errno == EAGAIN;
    c.unsent.erase(0, static_cast<size_t>(n));
  }
  return !c.close_when_sent;
}

bool Target::send_answer(Connection& c) {
  c.unsent += c.answer;
  c.answer.clear();
  c.is_busy = false;
  if (c.is_counted) --counts_.under_way;
  c.is_counted = false;
  return flush(c);
}

// One request; false when the connection is finished.
bool Target::take_request(Connection& c, std::string_view head) {
  const size_t begin = head.find(' ') + 1;
  const size_t end = head.find(' ', begin);
  if (begin == 0 || end == std::string_view::npos) return false;
  const std::string_view target = head.substr(begin, end - begin);
  const bool is_check = target.starts_with("/healthz");
  ++(is_check ? counts_.checks : counts_.requests);
  c.is_busy = true;
  if (!is_check) {
    c.is_counted = true;
    counts_.most = std::max(counts_.most, ++counts_.under_way);
  }
  c.close_when_sent = connection_field(head) == "close";
  if (behaviour_.kind == Kind::kHang) return true;
  const bool is_excepted = !behaviour_.but.empty() && target.starts_with(behaviour_.but);
  const bool is_struck =
      !is_excepted && std::uniform_real_distribution<>(0, 100)(random_) < behaviour_.share;
  const unsigned status = is_struck ? behaviour_.status : 200;
  std::string body = name_ + " ";
  body.append(target).append("\n").append(99, '.').append("\n");
  c.answer = "HTTP/1.1 " + std::to_string(status) + (status == 200 ? " OK" : " Failed") +
             "\r\nContent-Type: text/plain\r\nContent-Length: " + std::to_string(body.size()) +
             "\r\n\r\n" + body;
  if (!is_struck || behaviour_.delay_ms == 0) return send_answer(c);
  due_.push({now_ns() + uint64_t{behaviour_.delay_ms} * 1'000'000, c.number});
  return true;
}

bool Target::serve(Connection& c) {
  while (!c.is_busy && !c.close_when_sent) {
    const size_t end = c.unread.find("\r\n\r\n");
    if (end == std::string::npos) return c.unread.size() <= kHeadMax;
    const std::string head = c.unread.substr(0, end + 2);
    c.unread.erase(0, end + 4);
    if (!take_request(c, head)) return false;
  }
  return true;
}

bool Target::read_all(Connection& c) {
  char buffer[16384];
  for (;;) {
    const ssize_t n = recv(c.fd, buffer, sizeof buffer, 0);
    if (n < 0) return errno == EAGAIN;
    if (n == 0) return false;
    c.unread.append(buffer, static_cast<size_t>(n));
    if (!serve(c)) return false;
  }
}

void Target::on_event(uint64_t number, uint32_t events) {
  const auto found = connections_.find(number);
  // In a black hole nothing is heard; that the connection is gone is found when it is over.
  if (found == connections_.end() || behaviour_.kind == Kind::kBlackhole) return;
  Connection& c = *found->second;
  const bool is_gone = (events & (EPOLLHUP | EPOLLERR)) != 0;
  if (is_gone || !flush(c) || ((events & EPOLLIN) != 0 && !read_all(c))) end(number);
}

void Target::accept_all() {
  for (;;) {
    const int fd = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    no_delay(fd);
    auto c = std::make_unique<Connection>();
    c->number = next_number_++;
    c->fd = fd;
    watch_number(epoll_, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLOUT | EPOLLET, c->number);
    connections_.emplace(c->number, std::move(c));
  }
}

void Target::answer_due(uint64_t now) {
  while (!due_.empty() && due_.top().at_ns <= now) {
    const uint64_t number = due_.top().number;
    due_.pop();
    const auto found = connections_.find(number);
    if (found == connections_.end() || behaviour_.kind == Kind::kBlackhole) continue;
    Connection& c = *found->second;
    if (c.answer.empty()) continue;
    if (!send_answer(c) || !serve(c)) end(number);
  }
}

int Target::pause_ms() const {
  if (due_.empty()) return -1;
  const uint64_t now = now_ns();
  if (due_.top().at_ns <= now) return 0;
  return static_cast<int>((due_.top().at_ns - now) / 1'000'000) + 1;
}

void Target::run(uint16_t port) {
  port_ = port;
  epoll_ = epoll_create1(EPOLL_CLOEXEC);
  if (epoll_ < 0) die("epoll_create1");
  open_listener();
  watch_number(epoll_, EPOLL_CTL_ADD, STDIN_FILENO, EPOLLIN, 0);
  std::printf("port %u\n", static_cast<unsigned>(port_));
  std::fflush(stdout);
  std::vector<epoll_event> events(512);
  for (;;) {
    const int n = epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), pause_ms());
    answer_due(now_ns());
    for (int i = 0; i < n; ++i) {
      const epoll_event& e = events[static_cast<size_t>(i)];
      if (e.data.u64 == 0) {
        obey();
      } else if (e.data.u64 != 1) {
        on_event(e.data.u64, e.events);
      } else if (behaviour_.kind == Kind::kAnswer || behaviour_.kind == Kind::kHang) {
        accept_all();
      }
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  uint16_t port = 0;
  std::string name = "target";
  for (int i = 1; i < argc; ++i) {
    if (const char* p = option_value(argv[i], "--port")) {
      port = static_cast<uint16_t>(std::atoi(p));
    } else if (const char* n = option_value(argv[i], "--name")) {
      name = n;
    } else {
      std::fprintf(stderr, "usage: fickle [--port=N] [--name=TEXT]\n");
      return 2;
    }
  }
  Target(name).run(port);
}
