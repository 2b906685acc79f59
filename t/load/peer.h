// One connection of the load client, over its life of connects, failures and new connects.
//
// Load owns the peers and never frees one while it runs; an event for a descriptor that its peer
// has closed meanwhile cannot come, because a peer closes and opens only in its own event, or
// between two turns of the loop.
#pragma once

#include <algorithm>
#include <array>
#include <string>

#include "../bench/net.h"
#include "tally.h"

namespace gatehouse::load {

struct Options {
  uint16_t port = 0;
  size_t connections = 0;  // kept alive
  double rate = 0;         // requests a second on these; 0: each sends its next at once
  double new_rate = 0;     // connections a second for one request each
  size_t websockets = 0;
  double seconds = 0;  // 0: until told on standard input
  uint64_t late_ns = 1'000'000'000;
  uint32_t sources = 1;
  std::string path = "/";
  std::string websocket_path = "/ws";
  bool check_body = true;
};

constexpr uint64_t kGiveUpNs = 5'000'000'000;  // no answer at all
constexpr uint64_t kPauseNs = 20'000'000;      // before a failed connection is tried again

class Peer;

// What a peer asks of the program.
class Load {
 public:
  virtual ~Load() = default;
  virtual const Options& options() const = 0;
  virtual Tally& tally() = 0;
  virtual int epoll() const = 0;
  virtual bool stopping() const = 0;
  virtual uint64_t next_number() = 0;
};

class Peer {
 public:
  explicit Peer(Load& load) : load_(load) {}
  virtual ~Peer() { disconnect(); }
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;
  virtual void on_event(uint32_t events) = 0;

 protected:
  // Begins to connect; a failure is counted, and is seen by is_open().
  void connect_now() {
    fd_ = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd_ < 0) bench::die("socket");
    bench::no_delay(fd_);
    ++load_.tally().connects;
    const uint32_t sources = load_.options().sources;
    if (sources > 1) {
      const int on = 1;
      setsockopt(fd_, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
      const sockaddr_in own =
          bench::loopback(0, 1 + static_cast<uint32_t>(load_.next_number() % sources));
      if (bind(fd_, reinterpret_cast<const sockaddr*>(&own), sizeof own) < 0) bench::die("bind");
    }
    const sockaddr_in to = bench::loopback(load_.options().port);
    if (connect(fd_, reinterpret_cast<const sockaddr*>(&to), sizeof to) < 0 &&
        errno != EINPROGRESS) {
      const int error = errno;
      count_failure(connect_kind(error), std::strerror(error));
      disconnect();
      return;
    }
    bench::watch(load_.epoll(), fd_, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, this);
  }

  // True where the connection stands; otherwise the failure is counted.
  bool connected() {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error == 0) return true;
    count_failure(connect_kind(error), std::strerror(error));
    disconnect();
    return false;
  }

  void disconnect() {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
  }
  bool is_open() const { return fd_ >= 0; }

  void count_failure(const std::string& kind, std::string_view text) {
    load_.tally().fail(prefix_ + kind, bench::now_ns(), local(), text);
  }

  Load& load_;
  int fd_ = -1;
  std::string prefix_;  // of the kinds of failures

 private:
  static std::string connect_kind(int error) {
    return error == ECONNREFUSED ? "refused" : error == ECONNRESET ? "reset" : "connect";
  }
  std::string local() const {
    sockaddr_in own{};
    socklen_t size = sizeof own;
    if (fd_ < 0 || getsockname(fd_, reinterpret_cast<sockaddr*>(&own), &size) < 0) return {};
    std::array<char, INET_ADDRSTRLEN> text{};
    inet_ntop(AF_INET, &own.sin_addr, text.data(), text.size());
    return std::string(text.data()) + ":" + std::to_string(ntohs(own.sin_port));
  }
};

// The value of a field in a response head that ends with the CRLF of its last line.
inline std::string_view field_value(std::string_view head, std::string_view lower_name) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  for (size_t at = head.find("\r\n"); at + 2 < head.size(); at = head.find("\r\n", at + 2)) {
    const std::string_view line = head.substr(at + 2, head.find("\r\n", at + 2) - at - 2);
    if (line.size() <= lower_name.size() || line[lower_name.size()] != ':') continue;
    if (!std::equal(lower_name.begin(), lower_name.end(), line.begin(),
                    [&](char a, char b) { return a == lower(b); })) {
      continue;
    }
    std::string_view value = line.substr(lower_name.size() + 1);
    while (!value.empty() && value.front() == ' ') value.remove_prefix(1);
    return value;
  }
  return {};
}

}  // namespace gatehouse::load
