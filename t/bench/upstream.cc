// The server behind every proxy of the benchmark: answers GET /N with a fixed body of N bytes.
//
// N takes the suffixes k and m (/128, /10k, /1m); any other path gets 128 bytes. Responses are
// built once for each size and sent from that memory by one send(), so that a small request costs
// one recv and one send: the upstream shares its core with the load generator and must not be what
// limits a round. Large bodies go out by plain send() too: sendfile() would be cheaper for this
// core, but hands 4 KiB page fragments to the receiver, which makes splice() in a proxy look worse
// than it is behind a real server (a pipe holds 16 fragments), and MSG_ZEROCOPY copies on loopback
// anyway.
//
// Guarantees: keep-alive for HTTP/1.1 unless "Connection: close" is asked; pipelined requests are
// answered in order. Leaves out request bodies, HTTP/1.0 and every check of what it is sent: its
// only clients are the proxies under test.
//
// Usage: upstream [--port=N]   prints "port N" when it listens.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "net.h"

namespace {

using namespace gatehouse::bench;

constexpr size_t kMaxBody = size_t{64} << 20;
constexpr size_t kReadSize = size_t{64} << 10;

struct Connection {
  int fd = -1;
  std::string partial;      // bytes of a request whose head is not complete
  std::string_view unsent;  // rest of the response being sent; points into responses
  bool close_when_sent = false;
};

std::string_view response_of(size_t size) {
  static std::map<size_t, std::unique_ptr<std::string>> responses;
  std::unique_ptr<std::string>& r = responses[size];
  if (!r) {
    r = std::make_unique<std::string>(
        "HTTP/1.1 200 OK\r\nServer: upstream\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
        "Content-Type: text/plain\r\nContent-Length: " +
        std::to_string(size) + "\r\n\r\n");
    for (size_t i = 0; i < size; ++i) r->push_back(static_cast<char>('a' + i % 26));
  }
  return *r;
}

size_t body_size(std::string_view head) {
  const size_t at = head.find(" /");
  if (at == std::string_view::npos) return 128;
  size_t n = 0;
  size_t i = at + 2;
  while (i < head.size() && head[i] >= '0' && head[i] <= '9' && n < kMaxBody) {
    n = n * 10 + static_cast<size_t>(head[i++] - '0');
  }
  if (i == at + 2) return 128;
  if (i < head.size() && head[i] == 'k') n <<= 10;
  if (i < head.size() && head[i] == 'm') n <<= 20;
  return n < kMaxBody ? n : kMaxBody;
}

// Sends what is unsent; false when the connection is finished.
bool flush(Connection& c) {
  while (!c.unsent.empty()) {
    const ssize_t n = send(c.fd, c.unsent.data(), c.unsent.size(), MSG_NOSIGNAL);
    if (n < 0) return errno == EAGAIN;
    c.unsent.remove_prefix(static_cast<size_t>(n));
  }
  return !c.close_when_sent;
}

// Answers the complete requests at the front of `bytes` and keeps the rest; false when finished.
bool serve(Connection& c, std::string_view bytes) {
  while (c.unsent.empty() && !c.close_when_sent) {
    const size_t end = bytes.find("\r\n\r\n");
    if (end == std::string_view::npos) break;
    const std::string_view head = bytes.substr(0, end + 2);
    bytes.remove_prefix(end + 4);
    c.close_when_sent = head.find("onnection: close\r\n") != std::string_view::npos;
    c.unsent = response_of(body_size(head));
    if (!flush(c)) return false;
  }
  c.partial.assign(bytes);
  return true;
}

// Reads until the socket is empty: a read shorter than the buffer says that it is, unless the peer
// has closed (`closing`), when the end of the stream still has to be met.
bool on_event(Connection& c, uint32_t events) {
  static char buffer[kReadSize];
  const bool closing = (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
  if (!c.unsent.empty()) {
    if (!flush(c)) return false;
    if (c.unsent.empty() && !c.partial.empty() && !serve(c, std::string{c.partial})) return false;
  }
  if ((events & EPOLLIN) == 0) return !closing;
  for (;;) {
    const ssize_t n = recv(c.fd, buffer, sizeof buffer, 0);
    if (n < 0) return errno == EAGAIN;
    if (n == 0) return false;
    const std::string_view bytes{buffer, static_cast<size_t>(n)};
    if (c.partial.empty() ? !serve(c, bytes) : !serve(c, c.partial + std::string{bytes})) {
      return false;
    }
    if (static_cast<size_t>(n) < sizeof buffer && !closing) return true;
  }
}

void accept_all(int listener, int epoll) {
  for (;;) {
    const int fd = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    no_delay(fd);
    auto* c = new Connection;
    c->fd = fd;
    watch(epoll, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, c);
  }
}

}  // namespace

int main(int argc, char** argv) {
  uint16_t port = 0;
  for (int i = 1; i < argc; ++i) {
    const char* v = option_value(argv[i], "--port");
    if (v == nullptr) {
      std::fprintf(stderr, "usage: upstream [--port=N]\n");
      return 2;
    }
    port = static_cast<uint16_t>(std::atoi(v));
  }
  const int listener = listen_and_print(port);
  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  if (epoll < 0) die("epoll_create1");
  watch(epoll, listener, EPOLLIN, nullptr);
  std::vector<epoll_event> events(512);
  for (;;) {
    const int n = epoll_wait(epoll, events.data(), static_cast<int>(events.size()), -1);
    for (int i = 0; i < n; ++i) {
      const epoll_event& e = events[static_cast<size_t>(i)];
      if (e.data.ptr == nullptr) {
        accept_all(listener, epoll);
        continue;
      }
      auto* c = static_cast<Connection*>(e.data.ptr);
      if (!on_event(*c, e.events)) {
        close(c->fd);
        delete c;
      }
    }
  }
}
