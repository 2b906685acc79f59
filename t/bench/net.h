// Sockets and clocks for the three small programs of the benchmark (load, upstream, forwarder).
//
// They share nothing with src/ on purpose: a fault in the gateway's own event core must not be able
// to bend the yardstick it is measured with. Errors in setting up end the program with a message,
// since a benchmark without its sockets has nothing to report.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

namespace gatehouse::bench {

[[noreturn]] inline void die(const char* what) {
  std::fprintf(stderr, "%s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

// Nanoseconds of the monotonic clock.
inline uint64_t now_ns() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000u + static_cast<uint64_t>(t.tv_nsec);
}

inline sockaddr_in loopback(uint16_t port, uint32_t host_part = 1) {
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_port = htons(port);
  a.sin_addr.s_addr = htonl(0x7f000000u + host_part);
  return a;
}

// A non-blocking listening socket on 127.0.0.1; port 0 lets the kernel pick. The port that was
// bound is printed as one line, "port N", which is how the harness learns it.
inline int listen_and_print(uint16_t port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) die("socket");
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in a = loopback(port);
  if (bind(fd, reinterpret_cast<sockaddr*>(&a), sizeof a) < 0) die("bind");
  if (listen(fd, 4096) < 0) die("listen");
  socklen_t len = sizeof a;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&a), &len) < 0) die("getsockname");
  std::printf("port %u\n", static_cast<unsigned>(ntohs(a.sin_port)));
  std::fflush(stdout);
  return fd;
}

// Nagle off: the last part of a response must not wait for the acknowledgement of the part before.
inline void no_delay(int fd) {
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

inline void watch(int epoll, int fd, uint32_t events, void* data) {
  epoll_event e{};
  e.events = events;
  e.data.ptr = data;
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) < 0) die("epoll_ctl");
}

// The value behind "--name" when `argument` is "--name=value", else nullptr.
inline const char* option_value(const char* argument, std::string_view name) {
  const std::string_view a{argument};
  if (a.size() <= name.size() || a.substr(0, name.size()) != name || a[name.size()] != '=') {
    return nullptr;
  }
  return argument + name.size() + 1;
}

}  // namespace gatehouse::bench
