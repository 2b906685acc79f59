// The limit: a proxy that parses nothing. One upstream connection for each client connection, bytes
// forwarded both ways, one recv and one send for each message, each socket registered once
// (edge-triggered). What a gateway costs above this is what it does with HTTP.
//
// It is a limit for kept-alive connections. With a new connection per request it has to connect to
// the upstream every time, where a proxy that pools its upstream connections need not: a good proxy
// beats it there.
//
// Guarantees: no byte is lost or reordered; a peer that reads slowly stops the reading of the other
// (at most one buffer is held for each direction). Leaves out timeouts and half-close: the end of
// either side closes both once its bytes are delivered.
//
// Usage: forwarder --upstream=PORT [--port=N] [--buffer=BYTES]   prints "port N" when it listens.

#include <string>
#include <vector>

#include "net.h"

namespace {

using namespace gatehouse::bench;

struct Pair;

struct Side {
  int fd = -1;
  Pair* pair = nullptr;
  Side* peer = nullptr;
  bool readable = false;
  bool closing = false;   // the peer of this socket has closed or reset it
  bool writable = false;  // set by the first EPOLLOUT, which also ends connect()
  bool at_end = false;
  std::string unsent;  // bytes for this socket that it would not take
};

struct Pair {
  Side client;
  Side upstream;
  bool dead = false;
};

struct Forwarder {
  int epoll = -1;
  int listener = -1;
  sockaddr_in upstream{};
  std::vector<char> buffer;
  std::vector<Pair*> graveyard;  // freed after the batch of events, which may still name them
};

void bury(Forwarder& f, Pair* p) {
  if (p->dead) return;
  p->dead = true;
  close(p->client.fd);
  close(p->upstream.fd);
  f.graveyard.push_back(p);
}

// Writes what `to` would not take before; false on a broken connection.
bool flush(Side& to) {
  if (to.unsent.empty() || !to.writable) return true;
  const ssize_t n = send(to.fd, to.unsent.data(), to.unsent.size(), MSG_NOSIGNAL);
  if (n < 0 && errno != EAGAIN) return false;
  if (n > 0) to.unsent.erase(0, static_cast<size_t>(n));
  if (!to.unsent.empty()) to.writable = false;
  return true;
}

// Moves bytes from one side to the other until the source is empty or the sink is full.
bool pump(Forwarder& f, Side& from, Side& to) {
  if (!flush(to)) return false;
  while (from.readable && to.writable && to.unsent.empty()) {
    const ssize_t n = recv(from.fd, f.buffer.data(), f.buffer.size(), 0);
    if (n < 0) {
      from.readable = false;
      if (errno != EAGAIN) return false;
      break;
    }
    if (n == 0) {
      from.at_end = true;
      from.readable = false;
      break;
    }
    const auto got = static_cast<size_t>(n);
    if (got < f.buffer.size() && !from.closing) from.readable = false;
    ssize_t sent = send(to.fd, f.buffer.data(), got, MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno != EAGAIN) return false;
      sent = 0;
    }
    if (static_cast<size_t>(sent) < got) {
      to.unsent.assign(f.buffer.data() + sent, got - static_cast<size_t>(sent));
      to.writable = false;
    }
  }
  return !(from.at_end && to.unsent.empty());
}

void accept_all(Forwarder& f) {
  for (;;) {
    const int fd = accept4(f.listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    const int up = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (up < 0) die("socket");
    no_delay(fd);
    no_delay(up);
    if (connect(up, reinterpret_cast<sockaddr*>(&f.upstream), sizeof f.upstream) < 0 &&
        errno != EINPROGRESS) {
      close(fd);
      close(up);
      continue;
    }
    auto* p = new Pair;
    p->client = {.fd = fd, .pair = p, .peer = &p->upstream, .unsent = {}};
    p->upstream = {.fd = up, .pair = p, .peer = &p->client, .unsent = {}};
    constexpr uint32_t kEvents = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    watch(f.epoll, fd, kEvents, &p->client);
    watch(f.epoll, up, kEvents, &p->upstream);
  }
}

void on_event(Forwarder& f, Side& side, uint32_t events) {
  if (side.pair->dead) return;
  if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) {
    side.closing = true;
    side.readable = true;
  }
  if ((events & EPOLLIN) != 0) side.readable = true;
  const bool became_writable = (events & EPOLLOUT) != 0 && !side.writable;
  if (became_writable) side.writable = true;
  bool alive = pump(f, side, *side.peer);
  if (alive && became_writable) alive = pump(f, *side.peer, side);
  if (!alive) bury(f, side.pair);
}

}  // namespace

int main(int argc, char** argv) {
  Forwarder f;
  uint16_t port = 0;
  uint16_t upstream = 0;
  size_t buffer = size_t{32} << 10;  // holds 10 KiB whole, stays in the cache for 1 MiB
  for (int i = 1; i < argc; ++i) {
    if (const char* v = option_value(argv[i], "--port")) {
      port = static_cast<uint16_t>(std::atoi(v));
    } else if (const char* u = option_value(argv[i], "--upstream")) {
      upstream = static_cast<uint16_t>(std::atoi(u));
    } else if (const char* b = option_value(argv[i], "--buffer")) {
      buffer = static_cast<size_t>(std::atol(b));
    } else {
      upstream = 0;
      break;
    }
  }
  if (upstream == 0 || buffer == 0) {
    std::fprintf(stderr, "usage: forwarder --upstream=PORT [--port=N] [--buffer=BYTES]\n");
    return 2;
  }
  f.upstream = loopback(upstream);
  f.buffer.resize(buffer);
  f.listener = listen_and_print(port);
  f.epoll = epoll_create1(EPOLL_CLOEXEC);
  if (f.epoll < 0) die("epoll_create1");
  watch(f.epoll, f.listener, EPOLLIN, nullptr);
  std::vector<epoll_event> events(512);
  for (;;) {
    const int n = epoll_wait(f.epoll, events.data(), static_cast<int>(events.size()), -1);
    for (int i = 0; i < n; ++i) {
      const epoll_event& e = events[static_cast<size_t>(i)];
      if (e.data.ptr == nullptr) {
        accept_all(f);
      } else {
        on_event(f, *static_cast<Side*>(e.data.ptr), e.events);
      }
    }
    for (Pair* p : f.graveyard) delete p;
    f.graveyard.clear();
  }
}
