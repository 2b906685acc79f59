// A connection that sends GETs and checks each answer: kept alive, or new for one request.
#pragma once

#include <string>

#include "peer.h"

namespace gatehouse::load {

class HttpPeer final : public Peer {
 public:
  HttpPeer(Load& load, bool once) : Peer(load), once_(once) {}

  // Connects. `due_ns`: when the one request of a new connection was due.
  void open(uint64_t due_ns) {
    due_ns_ = due_ns;
    begun_ns_ = bench::now_ns();
    received_.clear();
    connect_now();
    failed_ = !is_open();
    state_ = failed_ ? State::kClosed : State::kConnecting;
  }

  // Sends a request on an idle connection. False where the server has closed it before: that is
  // no failure, and the request is not sent.
  bool send_request(uint64_t due_ns) {
    char byte = 0;
    const ssize_t n = recv(fd_, &byte, 1, MSG_PEEK);
    if (n >= 0 || errno != EAGAIN) {
      end_idle(n);
      return false;
    }
    due_ns_ = due_ns;
    begun_ns_ = bench::now_ns();
    target_ = load_.options().path + std::to_string(load_.next_number());
    const std::string request = "GET " + target_ + " HTTP/1.1\r\nHost: load.example\r\n" +
                                (once_ ? "Connection: close\r\n\r\n" : "\r\n");
    ++load_.tally().sent;
    state_ = State::kBusy;
    if (send(fd_, request.data(), request.size(), MSG_NOSIGNAL) !=
        static_cast<ssize_t>(request.size())) {
      fail("reset", std::string("while sending: ") + std::strerror(errno));
    }
    return true;
  }

  void on_event(uint32_t events) override {
    switch (state_) {
      case State::kClosed:
        return;
      case State::kConnecting:
        if (!connected()) {
          state_ = State::kClosed;
          failed_ = true;
          begun_ns_ = bench::now_ns();
          return;
        }
        state_ = State::kIdle;
        if (once_) send_request(due_ns_);
        // What comes from here on has its own event.
        return;
      case State::kIdle: {
        char byte = 0;
        const ssize_t n = recv(fd_, &byte, 1, MSG_PEEK);
        if (n >= 0 || errno != EAGAIN) end_idle(n);
        return;
      }
      case State::kBusy:
        read_answer((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0);
        return;
    }
  }

  void give_up(uint64_t now) {
    const bool waits = state_ == State::kBusy || state_ == State::kConnecting;
    if (!waits || now < begun_ns_ + kGiveUpNs) return;
    fail(state_ == State::kBusy ? "no_answer" : "no_connection", received_);
  }

  bool is_idle() const { return state_ == State::kIdle; }
  bool is_busy() const { return state_ == State::kBusy; }
  bool is_closed() const { return state_ == State::kClosed; }
  bool may_open(uint64_t now) const {
    return is_closed() && (!failed_ || now >= begun_ns_ + kPauseNs);
  }
  bool listed = false;  // in the list of idle ones

 private:
  enum class State { kClosed, kConnecting, kIdle, kBusy };

  void finish() {
    disconnect();
    state_ = State::kClosed;
    failed_ = false;
  }
  void fail(const std::string& kind, std::string_view text) {
    count_failure(kind, target_ + ": " + std::string(text.substr(0, 400)));
    finish();
    failed_ = true;
    begun_ns_ = bench::now_ns();
  }

  // The end of an idle connection; `n` is what recv() gave.
  void end_idle(ssize_t n) {
    if (n > 0) return fail("unasked", "bytes without a request");
    if (n < 0) return fail("reset_idle", std::strerror(errno));
    if (once_) return fail("closed", "before the first request");
    ++load_.tally().closes;
    finish();
  }

  void read_answer(bool closing) {
    char buffer[16384];
    for (;;) {
      const ssize_t n = recv(fd_, buffer, sizeof buffer, 0);
      if (n < 0 && errno == EAGAIN) return;
      if (n < 0) return fail("reset", std::string(std::strerror(errno)) + " after " + received_);
      if (n == 0) return fail(received_.empty() ? "closed" : "short", received_);
      received_.append(buffer, static_cast<size_t>(n));
      if (take_answer()) return;
      if (static_cast<size_t>(n) < sizeof buffer && !closing) return;
    }
  }

  // True where the exchange has ended.
  bool take_answer() {
    const std::string_view bytes = received_;
    const size_t end = bytes.find("\r\n\r\n");
    if (end == std::string_view::npos) return false;
    const std::string_view head = bytes.substr(0, end + 2);
    const std::string_view length = field_value(head, "content-length");
    if (head.substr(0, 9) != "HTTP/1.1 " || length.empty()) {
      fail("malformed", bytes);
      return true;
    }
    const size_t size = end + 4 + std::strtoull(std::string(length).c_str(), nullptr, 10);
    if (bytes.size() < size) return false;
    check(head, bytes.substr(end + 4), size);
    return true;
  }

  void check(std::string_view head, std::string_view body, size_t size) {
    Tally& tally = load_.tally();
    const uint64_t now = bench::now_ns();
    const uint64_t took = now - due_ns_;
    ++tally.answered;
    tally.http.add(took);
    if (received_.size() > size) return fail("unasked", "more bytes than the answer has");
    const std::string status(head.substr(9, 3));
    if (status != "200") return fail("status_" + status, received_);
    // The upstream answers "NAME TARGET": another target would be somebody else's answer.
    const std::string_view asked = body.substr(std::min(body.find(' '), body.size() - 1) + 1);
    if (load_.options().check_body && asked.substr(0, asked.find('\n')) != target_) {
      return fail("wrong", received_);
    }
    if (took > load_.options().late_ns) {
      count_failure("late", target_ + ": after " + std::to_string(took / 1'000'000) + " ms");
    } else {
      ++tally.ok;
    }
    const bool close = once_ || field_value(head, "connection") == "close";
    received_.clear();
    if (!close) {
      state_ = State::kIdle;
      return;
    }
    if (!once_) ++tally.closes;
    finish();
  }

  const bool once_;
  State state_ = State::kClosed;
  bool failed_ = false;
  uint64_t due_ns_ = 0;    // the latency counts from here
  uint64_t begun_ns_ = 0;  // of what is under way, or of the failure
  std::string target_;
  std::string received_;
};

}  // namespace gatehouse::load
