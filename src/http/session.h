// Session: one client connection, whatever its protocol; and the list a worker keeps of them.
#pragma once

#include <cstdint>
#include <memory>

namespace gatehouse {

class Buffer;
class ClientConnection;
class Generation;
class Worker;
struct Listener;

// What a session knows of the listening socket it came by (see http/acceptor); the generation and
// its listener change at each switch while the socket is open.
struct AcceptorState {
  Worker* worker = nullptr;
  const Generation* generation = nullptr;
  const Listener* listener = nullptr;
  uint32_t sessions = 0;  // those that have not left
  bool closed = false;    // sessions finish their exchange and take no other
};

class Session {
 public:
  Session() = default;
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  virtual ~Session() { unlink(); }

  // Finish the exchange under way, take no other; an idle session ends at once.
  virtual void drain() = 0;
  // As drain(), but an idle session may begin one more exchange, whose answer says that it is the
  // last: a client that is just sending its next request does not find the connection closed.
  virtual void begin_leaving() = 0;
  // End at once, whatever is under way; that is counted and logged as kDraining.
  virtual void cut() = 0;
  // Whose session it is; null once it is a tunnel, which belongs to no listener any more.
  virtual const AcceptorState* acceptor() const = 0;

 private:
  friend class SessionList;
  void unlink() {
    if (next_ == nullptr) return;
    next_->previous_ = previous_;
    previous_->next_ = next_;
    next_ = previous_ = nullptr;
  }
  Session* next_ = nullptr;
  Session* previous_ = nullptr;
};

// An intrusive list of sessions.
class SessionList {
 public:
  SessionList() { head_.next_ = head_.previous_ = &head_; }
  ~SessionList() {
    while (!empty()) front().unlink();
    head_.next_ = head_.previous_ = nullptr;
  }
  SessionList(const SessionList&) = delete;
  SessionList& operator=(const SessionList&) = delete;

  bool empty() const { return head_.next_ == &head_; }
  Session& front() { return *head_.next_; }
  // Moves the session here from whatever list it is on.
  void push_back(Session& session) {
    session.unlink();
    session.next_ = &head_;
    session.previous_ = head_.previous_;
    head_.previous_->next_ = &session;
    head_.previous_ = &session;
  }
  // Calls `visit` for each; it may remove the one it is given.
  template <typename Visit>
  void for_each(Visit visit) {
    Session* session = head_.next_;
    while (session != &head_) {
      Session* next = session->next_;
      visit(*session);
      session = next;
    }
  }

 private:
  struct Head final : Session {
    void drain() override {}
    void begin_leaving() override {}
    void cut() override {}
    const AcceptorState* acceptor() const override { return nullptr; }
  };
  Head head_;
};

// Begin a session on a connection whose stream is open, and return; it registers itself with the
// worker and destroys itself when the connection ends. `already_read` comes before what the
// stream has.
void start_h1_session(ClientConnection&& connection, Buffer already_read);
void start_h2_session(ClientConnection&& connection, Buffer already_read);

}  // namespace gatehouse
