// A WebSocket that sends a text once a second and wants it back.
#pragma once

#include <array>
#include <random>
#include <string>

#include "peer.h"
#include "websocket_wire.h"

namespace gatehouse::load {

class WebSocketPeer final : public Peer {
 public:
  // `first_ns`: when its first text is due, so that not all of them send at once.
  WebSocketPeer(Load& load, uint64_t first_ns, uint64_t seed)
      : Peer(load), next_ns_(first_ns), random_(seed) {
    prefix_ = "ws_";
  }

  bool is_established() const { return state_ == State::kOpen; }

  // Connects where it is not connected, sends what is due.
  void turn(uint64_t now) {
    if (state_ == State::kClosed) {
      if (load_.stopping() || now < begun_ns_ + kPauseNs) return;
      begun_ns_ = now;
      received_.clear();
      connect_now();
      if (is_open()) state_ = State::kConnecting;
      return;
    }
    if (state_ != State::kOpen) {
      if (now > begun_ns_ + kGiveUpNs) fail("no_handshake", received_);
      return;
    }
    if (!awaited_.empty()) {
      if (!late_ && now > sent_ns_ + load_.options().late_ns) {
        late_ = true;
        count_failure("late", "no echo in time of " + awaited_);
      }
      if (now > sent_ns_ + kGiveUpNs) fail("no_echo", "of " + awaited_);
      return;
    }
    if (now < next_ns_ || load_.stopping()) return;
    next_ns_ += kIntervalNs;
    if (next_ns_ < now) next_ns_ = now + kIntervalNs;
    awaited_ = "text " + std::to_string(load_.next_number()) + " of a WebSocket that stays open";
    late_ = false;
    sent_ns_ = now;
    write(frame(kTextFrame, awaited_, true, static_cast<uint32_t>(random_())));
  }

  void on_event(uint32_t) override {
    if (state_ == State::kClosed) return;
    if (state_ == State::kConnecting) {
      if (!connected()) {
        state_ = State::kClosed;
        begun_ns_ = bench::now_ns();
        return;
      }
      ask();
      return;
    }
    char buffer[4096];
    for (;;) {
      const ssize_t n = recv(fd_, buffer, sizeof buffer, 0);
      if (n < 0 && errno == EAGAIN) return;
      if (n < 0) return fail("reset", std::strerror(errno));
      if (n == 0) return fail("closed", received_);
      received_.append(buffer, static_cast<size_t>(n));
      if (!take()) return;
    }
  }

 private:
  enum class State { kClosed, kConnecting, kHandshake, kOpen };
  static constexpr uint64_t kIntervalNs = 1'000'000'000;

  void fail(const std::string& kind, std::string_view text) {
    count_failure(kind, text.substr(0, 400));
    disconnect();
    state_ = State::kClosed;
    awaited_.clear();
    begun_ns_ = bench::now_ns();
  }

  void write(const std::string& bytes) {
    if (send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(bytes.size())) {
      fail("reset", std::string("while sending: ") + std::strerror(errno));
    }
  }

  void ask() {
    std::array<uint8_t, 16> nonce{};
    for (uint8_t& octet : nonce) octet = static_cast<uint8_t>(random_());
    key_ = base64(nonce);
    state_ = State::kHandshake;
    write("GET " + load_.options().websocket_path +
          " HTTP/1.1\r\nHost: load.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
          "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " +
          key_ + "\r\n\r\n");
  }

  // Takes what was received; false where the connection is gone.
  bool take() {
    if (state_ == State::kHandshake) {
      const size_t end = received_.find("\r\n\r\n");
      if (end == std::string::npos) return true;
      const std::string_view head = std::string_view(received_).substr(0, end + 2);
      if (head.substr(0, 12) != "HTTP/1.1 101" ||
          field_value(head, "sec-websocket-accept") != accept_key(key_)) {
        fail("handshake", received_);
        return false;
      }
      received_.erase(0, end + 4);
      state_ = State::kOpen;
      ++load_.tally().websockets;
    }
    while (!received_.empty()) {
      const Frame found = read_frame(received_, false);
      if (found.kind == Frame::Kind::kPart) return true;
      if (found.kind == Frame::Kind::kBroken || found.opcode != kTextFrame ||
          found.payload != awaited_) {
        fail("wrong", received_);
        return false;
      }
      received_.erase(0, found.size);
      load_.tally().echoes.add(bench::now_ns() - sent_ns_);
      awaited_.clear();
    }
    return true;
  }

  State state_ = State::kClosed;
  uint64_t begun_ns_ = 0;  // of the connecting, or of the failure
  uint64_t next_ns_;
  uint64_t sent_ns_ = 0;
  bool late_ = false;
  std::string key_;
  std::string awaited_;  // the text whose echo is due; empty: none is
  std::string received_;
  std::mt19937_64 random_;
};

}  // namespace gatehouse::load
