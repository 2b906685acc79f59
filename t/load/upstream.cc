// The server behind the proxy in tests of reloads: it says what it was asked, and echoes.
//
// GET TARGET is answered with the body "NAME TARGET\n" and 100 bytes of filling, so that a client
// can tell whether an answer is the one to its own request. A request with Upgrade: websocket
// becomes a WebSocket whose frames are echoed (RFC 6455). Connections are kept until the other
// side closes them: whatever is closed between is the proxy's doing.
//
// Guarantees: pipelined requests are answered in order; what does not fit into the socket is kept
// and sent later. A request with a body, or one whose head is over 64 KiB, ends the connection.
//
// Usage: upstream [--port=N] [--name=TEXT]   prints "port N" when it listens; ends at SIGTERM.

#include <sys/prctl.h>

#include <csignal>
#include <memory>
#include <string>
#include <vector>

#include "../bench/net.h"
#include "websocket_wire.h"

namespace {

using namespace gatehouse::bench;
using namespace gatehouse::load;

constexpr size_t kReadSize = size_t{16} << 10;
constexpr size_t kHeadMax = size_t{64} << 10;

struct Connection {
  int fd = -1;
  std::string unread;
  std::string unsent;
  bool is_websocket = false;
  bool close_when_sent = false;
};

// The value of a field, whatever the case of its name; empty where there is none. REQUIRES: `head`
// ends with the CRLF of its last line.
std::string_view field(std::string_view head, std::string_view name) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  for (size_t at = head.find("\r\n"); at + 2 < head.size(); at = head.find("\r\n", at + 2)) {
    const std::string_view line = head.substr(at + 2, head.find("\r\n", at + 2) - at - 2);
    if (line.size() <= name.size() || line[name.size()] != ':') continue;
    bool same = true;
    for (size_t i = 0; i < name.size(); ++i) same = same && lower(line[i]) == name[i];
    if (!same) continue;
    std::string_view value = line.substr(name.size() + 1);
    while (!value.empty() && value.front() == ' ') value.remove_prefix(1);
    return value;
  }
  return {};
}

class Server {
 public:
  Server(int listener, std::string name) : listener_(listener), name_(std::move(name)) {}
  void run();

 private:
  void accept_all();
  bool on_event(Connection& c, uint32_t events);
  bool read_all(Connection& c, bool closing);
  bool serve(Connection& c);
  bool answer(Connection& c, std::string_view head);
  static bool flush(Connection& c);

  int listener_;
  int epoll_ = -1;
  std::string name_;
  std::string filling_ = std::string(99, '.') + "\n";
};

// Sends what is unsent; false when the connection is finished.
bool Server::flush(Connection& c) {
  while (!c.unsent.empty()) {
    const ssize_t n = send(c.fd, c.unsent.data(), c.unsent.size(), MSG_NOSIGNAL);
    if (n < 0) return errno == EAGAIN;
    c.unsent.erase(0, static_cast<size_t>(n));
  }
  return !c.close_when_sent;
}

bool Server::answer(Connection& c, std::string_view head) {
  const size_t begin = head.find(' ') + 1;
  const size_t end = head.find(' ', begin);
  if (begin == 0 || end == std::string_view::npos) return false;
  const std::string_view key = field(head, "sec-websocket-key");
  if (!field(head, "upgrade").empty() && !key.empty()) {
    c.is_websocket = true;
    c.unsent +=
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Accept: " +
        accept_key(key) + "\r\n\r\n";
    return true;
  }
  if (!field(head, "content-length").empty() || !field(head, "transfer-encoding").empty()) {
    return false;
  }
  c.close_when_sent = field(head, "connection") == "close";
  std::string body = name_ + " ";
  body.append(head.substr(begin, end - begin)).append("\n").append(filling_);
  c.unsent += "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: " +
              std::to_string(body.size()) + "\r\n\r\n" + body;
  return true;
}

// Answers the complete requests and frames; false when the connection is finished.
bool Server::serve(Connection& c) {
  size_t done = 0;
  const std::string_view unread = c.unread;
  while (!c.close_when_sent) {
    const std::string_view rest = unread.substr(done);
    if (c.is_websocket) {
      const Frame found = read_frame(rest, true);
      if (found.kind == Frame::Kind::kBroken) return false;
      if (found.kind == Frame::Kind::kPart) break;
      c.unsent += frame(found.opcode, found.payload, false, 0);
      c.close_when_sent = found.opcode == kCloseFrame;
      done += found.size;
      continue;
    }
    const size_t end = rest.find("\r\n\r\n");
    if (end == std::string_view::npos) {
      if (rest.size() > kHeadMax) return false;
      break;
    }
    if (!answer(c, rest.substr(0, end + 2))) return false;
    done += end + 4;
  }
  c.unread.erase(0, done);
  return flush(c);
}

bool Server::read_all(Connection& c, bool closing) {
  static char buffer[kReadSize];
  for (;;) {
    const ssize_t n = recv(c.fd, buffer, sizeof buffer, 0);
    if (n < 0) return errno == EAGAIN;
    if (n == 0) return false;
    c.unread.append(buffer, static_cast<size_t>(n));
    if (!serve(c)) return false;
    if (static_cast<size_t>(n) < sizeof buffer && !closing) return true;
  }
}

bool Server::on_event(Connection& c, uint32_t events) {
  if (!flush(c)) return false;
  const bool closing = (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
  return (events & EPOLLIN) == 0 ? !closing : read_all(c, closing);
}

void Server::accept_all() {
  for (;;) {
    const int fd = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    no_delay(fd);
    auto c = std::make_unique<Connection>();
    c->fd = fd;
    // Owned by the epoll set from here on; deleted in run().
    watch(epoll_, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, c.release());
  }
}

void Server::run() {
  epoll_ = epoll_create1(EPOLL_CLOEXEC);
  if (epoll_ < 0) die("epoll_create1");
  watch(epoll_, listener_, EPOLLIN, nullptr);
  std::vector<epoll_event> events(512);
  for (;;) {
    const int n = epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), -1);
    for (int i = 0; i < n; ++i) {
      const epoll_event& e = events[static_cast<size_t>(i)];
      if (e.data.ptr == nullptr) {
        accept_all();
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

}  // namespace

int main(int argc, char** argv) {
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  uint16_t port = 0;
  std::string name = "upstream";
  for (int i = 1; i < argc; ++i) {
    if (const char* p = option_value(argv[i], "--port")) {
      port = static_cast<uint16_t>(std::atoi(p));
    } else if (const char* n = option_value(argv[i], "--name")) {
      name = n;
    } else {
      std::fprintf(stderr, "usage: upstream [--port=N] [--name=TEXT]\n");
      return 2;
    }
  }
  Server(listen_and_print(port), name).run();
}
