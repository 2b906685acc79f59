// Asking and answering on one connection. See control_peer.h.
#include "core/control_peer.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <utility>

namespace gatehouse {
namespace {

// Messages received in one turn, so that one busy peer does not keep its owner from the rest.
constexpr int kMessagesPerTurn = 16;

}  // namespace

ControlPeer::ControlPeer(UniqueFd socket, RequestHandler on_request, ControlLimits limits)
    : socket_(std::move(socket)), on_request_(std::move(on_request)), limits_(limits) {}

short ControlPeer::events() const {
  return static_cast<short>(queue_.empty() ? POLLIN : POLLIN | POLLOUT);
}

std::optional<Moment> ControlPeer::next_deadline() const {
  if (!due_.empty() || !broken_.empty() || (is_open() && !heard_)) return Moment{};
  std::optional<Moment> until;
  const auto at_latest = [&until](Moment moment) {
    if (!until || moment < *until) until = moment;
  };
  for (const auto& [id, asked] : asked_) at_latest(asked.deadline);
  if (stalled_since_) at_latest(*stalled_since_ + kControlStallMax);
  if (is_open() && limits_.idle_max.count() > 0 && requests_.empty() && asked_.empty()) {
    at_latest(*heard_ + limits_.idle_max);
  }
  return until;
}

void ControlPeer::turn(Moment now) {
  if (is_open()) {
    now_ = now;
    if (!heard_) heard_ = now;
    flush();
    if (queue_.empty()) {
      stalled_since_.reset();
    } else if (!stalled_since_) {
      stalled_since_ = now;
    } else if (*stalled_since_ + kControlStallMax <= now) {
      broken_ = "it does not read what it is sent";
    }
    receive(now);
  }
  // What a handler has just asked for or answered may have broken it, too.
  if (is_open() && !broken_.empty()) close(broken_);
  for (Due& due : std::exchange(due_, {})) due.on_answer(std::move(due.error));
  expire(now);
  if (is_open() && limits_.idle_max.count() > 0 && requests_.empty() && asked_.empty() &&
      queue_.empty() && *heard_ + limits_.idle_max <= now) {
    close("nothing was asked for too long");
  }
}

void ControlPeer::ask(std::string command, nlohmann::json body, std::vector<UniqueFd> fds,
                      Moment deadline, AnswerHandler on_answer) {
  if (!is_open()) {
    due_.push_back({std::move(on_answer), Error{"the connection is closed: " + closed_because_}});
    return;
  }
  ControlMessage message;
  message.id = next_id_++;
  message.command = std::move(command);
  message.body = std::move(body);
  message.fds = std::move(fds);
  Result<std::string> bytes = encode_control_message(message);
  if (!bytes) {
    due_.push_back({std::move(on_answer), bytes.error()});
    return;
  }
  if (!enqueue(std::move(*bytes), std::move(message.fds), message.id)) {
    due_.push_back({std::move(on_answer), Error{"the other side does not read what it is sent"}});
    return;
  }
  asked_.emplace(message.id, Asked{deadline, std::move(on_answer)});
  flush();
}

void ControlPeer::reply(uint64_t request, ControlReply reply) {
  if (requests_.erase(request) > 0) send_reply(request, std::move(reply));
}

void ControlPeer::send_reply(uint64_t request, ControlReply reply) {
  if (!is_open()) return;
  ControlMessage message;
  message.kind = ControlMessage::Kind::kReply;
  message.id = request;
  message.ok = reply.ok;
  message.body = std::move(reply.body);
  message.fds = std::move(reply.fds);
  Result<std::string> bytes = encode_control_message(message);
  if (!bytes) {
    // The asker shall not wait for what cannot be said.
    message.ok = false;
    message.body = {{"error", "the reply cannot be sent: " + bytes.error().message}};
    message.fds.clear();
    bytes = encode_control_message(message);
  }
  if (!bytes || !enqueue(std::move(*bytes), std::move(message.fds), 0)) {
    broken_ = "it does not read its replies";
    return;
  }
  flush();
}

bool ControlPeer::enqueue(std::string bytes, std::vector<UniqueFd> fds, uint64_t asked) {
  if (queue_.size() >= kControlQueueMax || queue_bytes_ + bytes.size() > kControlQueueBytesMax) {
    return false;
  }
  queue_bytes_ += bytes.size();
  queue_.push_back({std::move(bytes), std::move(fds), asked});
  return true;
}

// Calls no handler: a failure is kept for the next turn.
void ControlPeer::flush() {
  while (!queue_.empty() && broken_.empty()) {
    const Outgoing& first = queue_.front();
    std::vector<int> fds;
    fds.reserve(first.fds.size());
    for (const UniqueFd& fd : first.fds) fds.push_back(fd.get());
    Error error;
    const ControlStatus status = send_control_message(fd(), first.bytes, fds, &error);
    if (status == ControlStatus::kWouldBlock) return;
    if (status == ControlStatus::kClosed) {
      // What it sent before it went is still to be read; receive() finds the end.
      queue_.clear();
      queue_bytes_ = 0;
      return;
    }
    if (status != ControlStatus::kOk) {
      broken_ = error.message;
      return;
    }
    heard_ = now_;
    stalled_since_.reset();
    queue_bytes_ -= first.bytes.size();
    queue_.pop_front();
  }
}

void ControlPeer::receive(Moment now) {
  for (int i = 0; i < kMessagesPerTurn && is_open() && broken_.empty(); ++i) {
    ControlMessage message;
    Error error;
    switch (receive_control_message(fd(), message, &error, limits_.fds_max)) {
      case ControlStatus::kOk:
        heard_ = now;
        take(std::move(message));
        break;
      case ControlStatus::kRefused:
        take_refused(message, error);
        break;
      case ControlStatus::kWouldBlock:
        return;
      case ControlStatus::kClosed:
        close("the other side has closed it");
        return;
      case ControlStatus::kFailed:
        close(error.message);
        return;
    }
  }
}

void ControlPeer::take(ControlMessage message) {
  if (message.kind == ControlMessage::Kind::kReply) {
    answer(message.id, ControlReply{message.ok, std::move(message.body), std::move(message.fds)});
    return;
  }
  if (requests_.size() >= limits_.requests_max) {
    send_reply(message.id,
               control_error(fmt::format("more than {} requests at once on one connection",
                                         limits_.requests_max)));
    return;
  }
  if (!requests_.insert(message.id).second) {
    // One reply would answer both: which is meant could not be told.
    broken_ = fmt::format("two requests with the id {}", message.id);
    return;
  }
  ControlRequest request;
  request.id = message.id;
  request.command = std::move(message.command);
  request.body = std::move(message.body);
  request.fds = std::move(message.fds);
  on_request_(std::move(request));
}

void ControlPeer::take_refused(const ControlMessage& message, const Error& error) {
  // A refusal is never answered by another one, or two versions would go on for ever.
  if (message.kind == ControlMessage::Kind::kReply) {
    answer(message.id, error);
  } else {
    send_reply(message.id, control_error(error.message));
  }
}

void ControlPeer::answer(uint64_t id, Result<ControlReply> reply) {
  const auto found = asked_.find(id);
  if (found == asked_.end()) return;  // it came after its deadline
  const AnswerHandler on_answer = std::move(found->second.on_answer);
  asked_.erase(found);
  on_answer(std::move(reply));
}

void ControlPeer::expire(Moment now) {
  std::vector<uint64_t> late;
  for (const auto& [id, asked] : asked_) {
    if (asked.deadline <= now) late.push_back(id);
  }
  for (const uint64_t id : late) {
    // What has not been sent yet need not be.
    const auto unsent = std::find_if(queue_.begin(), queue_.end(),
                                     [id](const Outgoing& one) { return one.asked == id; });
    if (unsent != queue_.end()) {
      queue_bytes_ -= unsent->bytes.size();
      queue_.erase(unsent);
    }
    answer(id, Error{"no answer in time"});
  }
}

void ControlPeer::close(const std::string& why) {
  if (!is_open()) return;
  closed_because_ = why;
  socket_.reset();
  broken_.clear();
  queue_.clear();
  queue_bytes_ = 0;
  requests_.clear();
  stalled_since_.reset();
  for (auto& [id, asked] : std::exchange(asked_, {})) {
    asked.on_answer(Error{"no answer: " + closed_because_});
  }
}

}  // namespace gatehouse
