// The client that checks rate limits: it sends requests with a key in a field, as fast as answers
// come, and tells how many of each key were admitted.
//
// An answer 200 is an admission and 429 a refusal; any other status is counted by its number. All
// of this is known for certain only where every request was answered: requests on a connection
// that ended are "lost", either way.
//
// When an admission was decided is known to lie between sending and receiving. Hence two bounds,
// where --window is given: "surely" is the most admissions in any span of that length that were
// both sent and answered inside of it, so more than the limit there is a proof; "at_least" is the
// fewest in any such span between the first and the last answer, counting all that may lie in it.
//
// Usage: keys --port=N [--keys=K] [--requests=R | --seconds=S] [--connections=64] [--depth=1]
//             [--rate=R] [--window=MS] [--field=X-Key] [--prefix=TEXT] [--path=/] [--random]
//             [--sources=S] [--map=FILE]
// Keys are PREFIX0 to PREFIX(K-1), asked in turn or, with --random, drawn. --depth requests are
// sent on a connection before the first is answered. --rate: requests a second, by all connections
// together; else each sends its next at once. Output: one line of JSON; "by_admitted" tells how
// many keys were admitted so many times.

#include <sys/prctl.h>

#include <algorithm>
#include <csignal>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "../bench/net.h"

namespace {

using namespace gatehouse::bench;

constexpr uint64_t kStallNs = 10'000'000'000;
constexpr size_t kNamesMax = 100;
constexpr uint64_t kPauseNs = 10'000'000;  // before a failed connection is tried again

struct Options {
  uint16_t port = 0;
  uint32_t keys = 1;
  uint64_t requests = 0;
  double seconds = 1;
  size_t connections = 64;
  size_t depth = 1;
  double rate = 0;
  uint64_t window_ns = 0;
  std::string field = "X-Key";
  std::string prefix = "key";
  std::string path = "/";
  std::string map;
  uint32_t sources = 1;
  bool random = false;
};

struct Sent {
  uint32_t key;
  uint64_t at_ns;
};

struct Connection {
  int fd = -1;
  bool connecting = false;
  uint64_t ended_ns = 0;
  std::deque<Sent> sent;
  std::string unread;
};

struct Admission {
  uint64_t sent_ns;
  uint64_t answered_ns;
};

class Client {
 public:
  explicit Client(Options options)
      : options_(std::move(options)),
        admitted_(options_.keys, 0u),
        last_name_(options_.map.empty() ? 0 : options_.keys, int8_t{-1}) {}
  void run();

 private:
  void open(Connection& c);
  void end(Connection& c);
  void send_more(Connection& c);
  bool may_send();
  void on_event(Connection& c, uint32_t events);
  bool read_all(Connection& c);
  bool take_answers(Connection& c);
  void count(const Sent& sent, unsigned status, std::string_view body);
  void count_name(uint32_t key, std::string_view body);
  void write_map() const;
  bool is_over(uint64_t now) const;
  uint64_t surely_most() const;
  uint64_t at_least() const;
  void print() const;

  Options options_;
  int epoll_ = -1;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::vector<uint32_t> admitted_;  // of each key
  std::vector<Admission> admissions_;
  std::map<unsigned, uint64_t> statuses_;
  std::vector<std::string> names_;
  std::vector<uint64_t> by_name_;
  std::vector<int8_t> last_name_;  // of each key, where --map is given
  std::mt19937_64 random_{7};
  uint32_t next_source_ = 0;
  uint64_t issued_ = 0;
  uint64_t answered_ = 0;
  uint64_t lost_ = 0;
  uint64_t ends_ = 0;     // connections that ended
  uint64_t refused_ = 0;  // connections that were
  uint64_t start_ns_ = 0;
  uint64_t stop_ns_ = 0;
  uint64_t first_answer_ns_ = 0;
  uint64_t last_answer_ns_ = 0;
  bool stopping_ = false;
};

void Client::open(Connection& c) {
  c.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (c.fd < 0) die("socket");
  no_delay(c.fd);
  if (options_.sources > 1) {
    const int on = 1;
    setsockopt(c.fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    const sockaddr_in own = loopback(0, 1 + next_source_++ % options_.sources);
    if (bind(c.fd, reinterpret_cast<const sockaddr*>(&own), sizeof own) < 0) die("bind");
  }
  const sockaddr_in to = loopback(options_.port);
  if (connect(c.fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) < 0 &&
      errno != EINPROGRESS) {
    ++refused_;
    return end(c);
  }
  c.connecting = true;
  watch(epoll_, c.fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, &c);
}

void Client::end(Connection& c) {
  lost_ += c.sent.size();
  c.sent.clear();
  c.unread.clear();
  close(c.fd);
  c.fd = -1;
  c.connecting = false;
  c.ended_ns = now_ns();
}

bool Client::may_send() {
  if (stopping_ || (options_.requests != 0 && issued_ >= options_.requests)) return false;
  if (options_.rate == 0) return true;
  const double due = static_cast<double>(now_ns() - start_ns_) * options_.rate / 1e9;
  return static_cast<double>(issued_) < due;
}

void Client::send_more(Connection& c) {
  std::string bytes;
  while (c.sent.size() < options_.depth && may_send()) {
    const auto key = static_cast<uint32_t>((options_.random ? random_() : issued_) % options_.keys);
    ++issued_;
    bytes += "GET " + options_.path + " HTTP/1.1\r\nHost: keys.example\r\n" + options_.field +
             ": " + options_.prefix + std::to_string(key) + "\r\n\r\n";
    c.sent.push_back({key, now_ns()});
  }
  if (bytes.empty()) return;
  // Far less than a socket's buffer takes: --depth small requests.
  if (send(c.fd, bytes.data(), bytes.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(bytes.size())) {
    ++ends_;
    end(c);
  }
}

void Client::count_name(uint32_t key, std::string_view body) {
  const std::string_view name = body.substr(0, body.find_first_of(" \n"));
  const auto known = std::find(names_.begin(), names_.end(), name);
  const auto number = static_cast<size_t>(known - names_.begin());
  if (known == names_.end()) {
    if (names_.size() == kNamesMax) return;
    names_.emplace_back(name);
    by_name_.push_back(0);
  }
  ++by_name_[number];
  if (!last_name_.empty()) last_name_[key] = static_cast<int8_t>(number);
}

void Client::count(const Sent& sent, unsigned status, std::string_view body) {
  const uint64_t now = now_ns();
  if (first_answer_ns_ == 0) first_answer_ns_ = now;
  last_answer_ns_ = now;
  ++answered_;
  ++statuses_[status];
  if (status != 200) return;
  ++admitted_[sent.key];
  count_name(sent.key, body);
  if (options_.window_ns != 0) admissions_.push_back({sent.at_ns, now});
}

// False where what came is no answer to what was asked.
bool Client::take_answers(Connection& c) {
  size_t done = 0;
  const std::string_view unread = c.unread;
  for (;;) {
    const std::string_view rest = unread.substr(done);
    const size_t head_end = rest.find("\r\n\r\n");
    if (head_end == std::string_view::npos) break;
    const std::string_view head = rest.substr(0, head_end + 2);
    if (c.sent.empty() || head.substr(0, 9) != "HTTP/1.1 ") return false;
    static constexpr std::string_view kLength = "\r\ncontent-length: ";
    const auto same = [](char a, char b) { return (a >= 'A' && a <= 'Z' ? a + 32 : a) == b; };
    const auto* at = std::search(head.begin(), head.end(), kLength.begin(), kLength.end(), same);
    const size_t length = at == head.end() ? 0 : std::strtoull(at + kLength.size(), nullptr, 10);
    if (rest.size() < head_end + 4 + length) break;
    count(c.sent.front(), static_cast<unsigned>(std::atoi(head.data() + 9)),
          rest.substr(head_end + 4, length));
    c.sent.pop_front();
    done += head_end + 4 + length;
  }
  c.unread.erase(0, done);
  return true;
}

bool Client::read_all(Connection& c) {
  char buffer[65536];
  for (;;) {
    const ssize_t n = recv(c.fd, buffer, sizeof buffer, 0);
    if (n < 0) return errno == EAGAIN;
    if (n == 0) return false;
    c.unread.append(buffer, static_cast<size_t>(n));
    if (!take_answers(c)) {
      std::fprintf(stderr, "keys: no answer to what was asked: %.200s\n", c.unread.c_str());
      std::exit(1);
    }
  }
}

void Client::on_event(Connection& c, uint32_t events) {
  if (c.fd < 0) return;
  if (c.connecting) {
    if ((events & (EPOLLERR | EPOLLHUP)) != 0) {
      ++refused_;
      return end(c);
    }
    c.connecting = false;
  }
  if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP)) != 0 && !read_all(c)) {
    ++ends_;
    return end(c);
  }
  send_more(c);
}

bool Client::is_over(uint64_t now) const {
  if (!stopping_ && (options_.requests == 0 || issued_ < options_.requests)) return false;
  if (now > stop_ns_ + kStallNs) return true;
  return std::all_of(connections_.begin(), connections_.end(),
                     [](const auto& c) { return c->sent.empty(); });
}

void Client::run() {
  epoll_ = epoll_create1(EPOLL_CLOEXEC);
  if (epoll_ < 0) die("epoll_create1");
  start_ns_ = now_ns();
  for (size_t i = 0; i < options_.connections; ++i) {
    connections_.push_back(std::make_unique<Connection>());
    open(*connections_.back());
  }
  const uint64_t end_ns = options_.requests != 0
                              ? UINT64_MAX
                              : start_ns_ + static_cast<uint64_t>(options_.seconds * 1e9);
  std::vector<epoll_event> events(1024);
  uint64_t now = start_ns_;
  stop_ns_ = UINT64_MAX - kStallNs;
  while (!is_over(now)) {
    const bool waits = options_.rate != 0 || stopping_;
    const int n =
        epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), waits ? 1 : 10);
    for (int i = 0; i < n; ++i) {
      const epoll_event& e = events[static_cast<size_t>(i)];
      on_event(*static_cast<Connection*>(e.data.ptr), e.events);
    }
    now = now_ns();
    const bool is_last = now >= end_ns || (options_.requests != 0 && issued_ >= options_.requests);
    if (is_last && !stopping_) {
      stopping_ = true;
      stop_ns_ = now;
    }
    for (const auto& c : connections_) {
      if (c->fd < 0 && !stopping_ && now >= c->ended_ns + kPauseNs) open(*c);
      if (c->fd >= 0 && !c->connecting && options_.rate != 0) send_more(*c);
    }
  }
  for (const auto& c : connections_) {
    if (c->fd >= 0) end(*c);  // what is unanswered now is lost
  }
  print();
}

// REQUIRES: --window. In the order of sending, of those that were sent and answered in the span
// that begins with each.
uint64_t Client::surely_most() const {
  std::vector<Admission> all = admissions_;
  std::sort(all.begin(), all.end(),
            [](const Admission& a, const Admission& b) { return a.sent_ns < b.sent_ns; });
  uint64_t most = 0;
  for (size_t i = 0; i < all.size(); ++i) {
    const uint64_t end = all[i].sent_ns + options_.window_ns;
    uint64_t found = 0;
    for (size_t j = i; j < all.size() && all[j].sent_ns < end; ++j) {
      found += all[j].answered_ns < end ? 1 : 0;
    }
    most = std::max(most, found);
  }
  return most;
}

// Spans that begin every twentieth of a window.
uint64_t Client::at_least() const {
  uint64_t least = UINT64_MAX;
  for (uint64_t begin = first_answer_ns_; begin + options_.window_ns <= last_answer_ns_;
       begin += options_.window_ns / 20 + 1) {
    const uint64_t end = begin + options_.window_ns;
    const auto found = std::count_if(admissions_.begin(), admissions_.end(), [&](const auto& a) {
      return a.answered_ns >= begin && a.sent_ns <= end;
    });
    least = std::min(least, static_cast<uint64_t>(found));
  }
  return least == UINT64_MAX ? 0 : least;
}

void Client::write_map() const {
  std::FILE* file = std::fopen(options_.map.c_str(), "w");
  if (file == nullptr) die(options_.map.c_str());
  for (const std::string& name : names_) std::fprintf(file, "%s ", name.c_str());
  for (const int8_t number : last_name_) std::fprintf(file, "\n%d", number);
  std::fclose(file);
}

void Client::print() const {
  std::map<unsigned, uint64_t> by_admitted;
  for (const uint32_t n : admitted_) ++by_admitted[n];
  const auto object = [](const std::map<unsigned, uint64_t>& counts) {
    std::string text;
    for (const auto& [name, n] : counts) {
      text += (text.empty() ? "\"" : ",\"") + std::to_string(name) + "\":" + std::to_string(n);
    }
    return "{" + text + "}";
  };
  std::string spans;
  if (options_.window_ns != 0) {
    spans = ",\"surely\":" + std::to_string(surely_most()) +
            ",\"at_least\":" + std::to_string(at_least());
  }
  std::string by_name;
  for (size_t i = 0; i < names_.size(); ++i) {
    by_name += (i == 0 ? "\"" : ",\"") + names_[i] + "\":" + std::to_string(by_name_[i]);
  }
  if (!options_.map.empty()) write_map();
  std::printf(
      "{\"sent\":%llu,\"answered\":%llu,\"lost\":%llu,\"ends\":%llu,\"refused\":%llu,"
      "\"seconds\":%.6f,\"statuses\":%s,\"by_admitted\":%s,"
      "\"by_name\":{%s}%s}\n",
      static_cast<unsigned long long>(issued_), static_cast<unsigned long long>(answered_),
      static_cast<unsigned long long>(lost_), static_cast<unsigned long long>(ends_),
      static_cast<unsigned long long>(refused_),
      static_cast<double>(last_answer_ns_ - start_ns_) / 1e9, object(statuses_).c_str(),
      object(by_admitted).c_str(), by_name.c_str(), spans.c_str());
}

// Reads one argument; false when it is none of ours.
bool parse(Options& o, const char* a) {
  if (const char* port = option_value(a, "--port")) {
    o.port = static_cast<uint16_t>(std::atoi(port));
  } else if (const char* keys = option_value(a, "--keys")) {
    o.keys = std::max(1u, static_cast<uint32_t>(std::atol(keys)));
  } else if (const char* requests = option_value(a, "--requests")) {
    o.requests = static_cast<uint64_t>(std::atoll(requests));
  } else if (const char* seconds = option_value(a, "--seconds")) {
    o.seconds = std::atof(seconds);
  } else if (const char* connections = option_value(a, "--connections")) {
    o.connections = static_cast<size_t>(std::atol(connections));
  } else if (const char* depth = option_value(a, "--depth")) {
    o.depth = std::clamp<size_t>(static_cast<size_t>(std::atol(depth)), 1, 256);
  } else if (const char* rate = option_value(a, "--rate")) {
    o.rate = std::atof(rate);
  } else if (const char* window = option_value(a, "--window")) {
    o.window_ns = static_cast<uint64_t>(std::atoll(window)) * 1'000'000;
  } else if (const char* field = option_value(a, "--field")) {
    o.field = field;
  } else if (const char* prefix = option_value(a, "--prefix")) {
    o.prefix = prefix;
  } else if (const char* path = option_value(a, "--path")) {
    o.path = path;
  } else if (const char* sources = option_value(a, "--sources")) {
    o.sources = std::clamp(static_cast<uint32_t>(std::atol(sources)), 1u, 250u);
  } else if (const char* map = option_value(a, "--map")) {
    o.map = map;
  } else if (std::string_view{a} == "--random") {
    o.random = true;
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
      std::fprintf(stderr, "keys: unknown argument %s (see the head of keys.cc)\n", argv[i]);
      return 2;
    }
  }
  if (options.port == 0 || options.connections == 0) {
    std::fprintf(stderr, "keys: --port and at least one connection are needed\n");
    return 2;
  }
  Client(std::move(options)).run();
}
