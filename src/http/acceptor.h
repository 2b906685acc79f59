// Acceptor: one listening socket of a worker, and the sessions it began.
//
// Exchanges of its sessions begin under the generation that it holds: the current one while it is
// open. Once it leaves (its listener or its place in this worker is gone) it follows the
// generations that have its listener, keeps the last one that had it, and lives until its last
// session is gone. Tunnels have gone already.
//
// A client cannot know that its idle connection is about to be closed, and may be sending its next
// request. So idle sessions get a moment (kLeaveGrace) for one more exchange, whose answer tells
// the client to close; then those that are idle are closed. What is still busy after drain_timeout
// is cut, so that old generations always go.
#pragma once

#include <cstdint>
#include <string>

#include "core/event_loop.h"
#include "core/unique_fd.h"
#include "core/worker_plan.h"
#include "http/session.h"

namespace gatehouse {

class Acceptor {
 public:
  static constexpr Duration kLeaveGrace = std::chrono::seconds(1);

  Acceptor(Worker& worker, const WorkerSocket& socket, UniqueFd fd);
  // REQUIRES: no session of it is left.
  ~Acceptor();
  Acceptor(const Acceptor&) = delete;
  Acceptor& operator=(const Acceptor&) = delete;

  uint64_t id() const { return id_; }
  AcceptorState& state() { return state_; }
  // Under which generation and listener exchanges begin from now on. REQUIRES: `generation` has a
  // listener of that name.
  void bind(const Generation& generation, const std::string& listener);
  // The same under the name that it has, where the generation has such a listener.
  void follow(const Generation& generation);

  bool is_open() const { return watch_.is_open() || resume_.armed(); }
  // Begins to accept; where the system has no memory for that, a little later.
  void open();
  // Takes the connections that wait, and no more, and sees its sessions off. Where the master has
  // let go of the socket too, the kernel refuses whoever comes later.
  void leave(Duration drain_timeout);
  bool has_left() const { return state_.closed && state_.sessions == 0; }

 private:
  static void on_ready(void* self, uint8_t) { static_cast<Acceptor*>(self)->accept_some(); }
  static void on_resume(void* self) { static_cast<Acceptor*>(self)->open(); }
  static void on_grace_over(void* self);
  static void on_deadline(void* self);
  // True where there may be more to accept.
  bool accept_some();
  void failed(int error);

  uint64_t id_;
  UniqueFd fd_;
  AcceptorState state_;
  int batch_ = 1;  // how many accept_some() tries to take
  bool deadline_over_ = false;
  Watch watch_;
  Timer resume_{&Acceptor::on_resume, this};
  Timer grace_{&Acceptor::on_grace_over, this};
  Timer deadline_{&Acceptor::on_deadline, this};
};

}  // namespace gatehouse
