// One connection on which both sides may ask: the master and its agent, or the control socket's
// server and one of its clients.
//
//   ControlPeer agent(std::move(socket), [&](ControlRequest request) { … });
//   agent.ask("validate", {}, {config_fd}, now + 10s, [&](Result<ControlReply> reply) { … });
//   poll(agent.fd(), agent.events(), agent.next_deadline()); agent.turn(now);
//
// It has no loop of its own: whoever owns it polls, and calls turn() when the descriptor is ready
// or the deadline is there. Nothing blocks.
//
// Guarantees
// - Handlers are called from turn() and close() only, never from ask() or reply(). They may call
//   anything of the peer, but must not destroy it.
// - Each ask() is answered exactly once: with the reply, or with an Error where nobody answered
//   (deadline, the other side gone, closed). The destructor alone answers nothing.
// - What waits to be sent is bounded: a peer that does not read is closed, and an ask() that finds
//   no room fails.
// - What is no message is refused with a reply that says why; the connection goes on.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/control_message.h"
#include "core/result.h"
#include "core/unique_fd.h"
#include "core/units.h"

namespace gatehouse {

// Bytes and messages that may wait for a peer to read them.
inline constexpr size_t kControlQueueBytesMax = 512 * 1024;
inline constexpr size_t kControlQueueMax = 128;
// A peer that has taken nothing of what waits for it for so long is closed.
inline constexpr Duration kControlStallMax{10'000};

struct ControlRequest {
  uint64_t client = 0;  // who asks, among the clients of a ControlServer
  uint64_t id = 0;
  std::string command;
  nlohmann::json body = nlohmann::json::object();
  std::vector<UniqueFd> fds;
  uid_t uid = 0;  // of the client of a ControlServer
  pid_t pid = 0;
};

struct ControlLimits {
  size_t fds_max = kControlFdsMax;  // that a message may bring
  size_t requests_max = 64;         // that wait for their reply at once
  Duration idle_max{0};             // without any request, until it is closed; 0: no end
};

class ControlPeer {
 public:
  using RequestHandler = std::function<void(ControlRequest)>;
  using AnswerHandler = std::function<void(Result<ControlReply>)>;

  ControlPeer(UniqueFd socket, RequestHandler on_request, ControlLimits limits = {});
  ControlPeer(const ControlPeer&) = delete;
  ControlPeer& operator=(const ControlPeer&) = delete;

  bool is_open() const { return static_cast<bool>(socket_); }
  int fd() const { return socket_.get(); }
  // POLLIN, with POLLOUT while something waits to be sent.
  short events() const;
  // When turn() has to be called even though nothing is ready; none: only then.
  std::optional<Moment> next_deadline() const;

  // Sends what waits, receives what came (some messages at most), and tells what is over.
  void turn(Moment now);

  void ask(std::string command, nlohmann::json body, std::vector<UniqueFd> fds, Moment deadline,
           AnswerHandler on_answer);
  // Once for each request; for one that is not open (answered, or from before a close) it does
  // nothing.
  void reply(uint64_t request, ControlReply reply);

  // Answers every ask() with an Error of this text.
  void close(const std::string& why);
  // Why it is closed; empty while it is open.
  const std::string& closed_because() const { return closed_because_; }
  size_t requests_open() const { return requests_.size(); }

 private:
  struct Outgoing {
    std::string bytes;
    std::vector<UniqueFd> fds;
    uint64_t asked = 0;  // the ask() that it is, or 0
  };
  struct Asked {
    Moment deadline;
    AnswerHandler on_answer;
  };
  struct Due {
    AnswerHandler on_answer;
    Error error;
  };

  bool enqueue(std::string bytes, std::vector<UniqueFd> fds, uint64_t asked);
  void send_reply(uint64_t request, ControlReply reply);
  void flush();
  void receive(Moment now);
  void take(ControlMessage message);
  void take_refused(const ControlMessage& message, const Error& error);
  void answer(uint64_t id, Result<ControlReply> reply);
  void expire(Moment now);

  UniqueFd socket_;
  RequestHandler on_request_;
  ControlLimits limits_;
  std::deque<Outgoing> queue_;
  size_t queue_bytes_ = 0;
  std::map<uint64_t, Asked> asked_;
  std::set<uint64_t> requests_;  // from the other side, not answered yet
  std::vector<Due> due_;         // asks that failed at once
  uint64_t next_id_ = 1;
  std::string broken_;  // why the next turn() closes
  std::string closed_because_;
  std::optional<Moment> stalled_since_;
  std::optional<Moment> heard_;  // the last message, either way
  Moment now_;                   // of the last turn()
};

}  // namespace gatehouse
