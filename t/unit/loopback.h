// What the tests of the event core share: a loop that is turned until something holds, and TCP
// connections over loopback with a Stream at one end and a bare descriptor at the other.
#pragma once

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "core/event_loop.h"
#include "core/stream.h"

namespace gatehouse::loopback {

inline constexpr std::chrono::milliseconds kLong{5'000};

inline std::unique_ptr<EventLoop> make_loop() {
  Result<std::unique_ptr<EventLoop>> loop = EventLoop::create();
  cr_assert(loop.ok());
  return std::move(*loop);
}

inline int64_t monotonic_ms() {
  timespec ts{};
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return int64_t{ts.tv_sec} * 1000 + ts.tv_nsec / 1'000'000;
}

inline size_t open_descriptors() {
  namespace fs = std::filesystem;
  return static_cast<size_t>(
      std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator{}));
}

// Turns the loop until `over()`; false where that has not come about within `limit`.
template <typename Over>
bool turn_until(EventLoop& loop, Over over, std::chrono::milliseconds limit = kLong) {
  bool late = false;
  Timer guard([](void* flag) { *static_cast<bool*>(flag) = true; }, &late);
  loop.arm(guard, limit);
  while (!over() && !late) loop.turn(true);
  return over();
}

inline void turn_for(EventLoop& loop, std::chrono::milliseconds time) {
  turn_until(
      loop, [] { return false; }, time);
}

struct Listener {
  int fd = -1;
  sockaddr_in address{};
  explicit Listener(int backlog = 16) {
    fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    cr_assert_eq(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    socklen_t size = sizeof(address);
    cr_assert_eq(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size), 0);
    if (backlog >= 0) cr_assert_eq(listen(fd, backlog), 0);
  }
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;
  ~Listener() { close(fd); }
  // A socket with a connect() to this listener under way.
  int begin_connect() const {
    const int client = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    const int result =
        connect(client, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
    cr_assert(result == 0 || errno == EINPROGRESS);
    return client;
  }
  int accept_one() const { return accept4(fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC); }
};

// A TCP connection over loopback: our end as a Stream, the other as a bare descriptor.
struct Connection {
  std::unique_ptr<Stream> stream;
  int peer = -1;

  explicit Connection(EventLoop& loop, int buffers = 0) {
    const Listener listener;
    if (buffers != 0) set_buffer(listener.fd, SO_RCVBUF, buffers);
    const int client = listener.begin_connect();
    peer = listener.accept_one();
    cr_assert_geq(peer, 0);
    if (buffers != 0) set_buffer(client, SO_SNDBUF, buffers);
    stream = std::make_unique<Stream>(loop, client);
    cr_assert(stream->open().ok());
    loop.turn(false);  // the first edge: writable
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection() { hang_up(); }

  static void set_buffer(int fd, int option, int bytes) {
    cr_assert_eq(setsockopt(fd, SOL_SOCKET, option, &bytes, sizeof(bytes)), 0);
  }
  void send(std::string_view bytes) const {
    cr_assert_eq(::send(peer, bytes.data(), bytes.size(), MSG_NOSIGNAL),
                 static_cast<ssize_t>(bytes.size()));
  }
  void finish() const { cr_assert_eq(shutdown(peer, SHUT_WR), 0); }
  void hang_up() {
    if (peer >= 0) close(std::exchange(peer, -1));
  }
  void reset() {
    const linger off{1, 0};
    cr_assert_eq(setsockopt(peer, SOL_SOCKET, SO_LINGER, &off, sizeof(off)), 0);
    hang_up();
  }
  // What the peer has got so far.
  std::string drain(size_t limit = SIZE_MAX) const {
    std::string all;
    std::array<char, 16384> block;
    while (all.size() < limit) {
      const ssize_t n =
          recv(peer, block.data(), std::min(block.size(), limit - all.size()), MSG_DONTWAIT);
      if (n <= 0) break;
      all.append(block.data(), static_cast<size_t>(n));
    }
    return all;
  }
};

}  // namespace gatehouse::loopback
