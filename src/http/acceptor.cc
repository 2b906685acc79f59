// Accepting connections; see acceptor.h.
#include "http/acceptor.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <utility>

#include "core/log.h"
#include "http/connection_opener.h"
#include "http/worker.h"

namespace gatehouse {

namespace {

// Connections accepted in one go before other events get their turn.
constexpr int kAcceptBatch = 16;
// And before the listening socket is given up: a flood must not hold up the end.
constexpr int kAcceptBatchesAtEnd = 1024;
// How long accepting rests after the system had no descriptor or memory to give.
constexpr Duration kAcceptPause = std::chrono::milliseconds(100);

// Sent as it is to a connection over connections_max: nothing is allocated for it.
constexpr std::string_view kOverLimit =
    "HTTP/1.1 503 Service Unavailable\r\n"
    "Content-Type: application/problem+json\r\n"
    "Content-Length: 70\r\nConnection: close\r\nRetry-After: 1\r\n\r\n"
    "{\"title\":\"Service Unavailable\",\"status\":503,\"code\":\"connection_limit\"}";

}  // namespace

Acceptor::Acceptor(Worker& worker, const WorkerSocket& socket, UniqueFd fd)
    : id_(socket.id), fd_(std::move(fd)) {
  state_.worker = &worker;
}

Acceptor::~Acceptor() {
  assert(state_.sessions == 0);
  if (state_.generation != nullptr) state_.generation->release();
}

void Acceptor::bind(const Generation& generation, const std::string& listener) {
  generation.hold();
  if (state_.generation != nullptr) state_.generation->release();
  state_.generation = &generation;
  state_.listener = generation.find_listener(listener);
}

void Acceptor::follow(const Generation& generation) {
  const std::string name = state_.listener->name;
  if (generation.find_listener(name) != nullptr) bind(generation, name);
}

void Acceptor::open() {
  const Result<void> opened =
      watch_.open(state_.worker->loop(), fd_.get(), WatchMode::kLevel, &Acceptor::on_ready, this);
  if (opened) return;
  GH_LOG(kAlert, "listener {}: cannot accept: {}", state_.listener->name, opened.error().message);
  state_.worker->loop().arm(resume_, kAcceptPause);
}

void Acceptor::leave(Duration drain_timeout) {
  state_.closed = true;
  Worker& worker = *state_.worker;
  worker.for_each_session(state_, [](Session& session) { session.begin_leaving(); });
  // Who connected before this moment still gets an answer, one.
  for (int batch = 0; is_open() && batch < kAcceptBatchesAtEnd && accept_some(); ++batch) {
  }
  watch_.close();
  resume_.cancel();
  fd_.reset();
  worker.loop().arm(grace_, std::min(kLeaveGrace, drain_timeout));
  worker.loop().arm(deadline_, drain_timeout);
}

void Acceptor::on_grace_over(void* self) {
  const AcceptorState& state = static_cast<Acceptor*>(self)->state_;
  state.worker->for_each_session(state, [](Session& session) { session.drain(); });
}

void Acceptor::on_deadline(void* self) {
  auto* acceptor = static_cast<Acceptor*>(self);
  const AcceptorState& state = acceptor->state_;
  // A worker that ends says so itself.
  if (!state.worker->draining() && !std::exchange(acceptor->deadline_over_, true)) {
    GH_LOG(kNotice, "listener {}: drain_timeout is over with {} connections left",
           state.listener->name, state.sessions);
  }
  state.worker->for_each_session(state, [](Session& session) { session.cut(); });
  // The last words to a client may still be under way; not for long.
  state.worker->loop().arm(acceptor->deadline_, kLeaveGrace);
}

bool Acceptor::accept_some() {
  Worker& worker = *state_.worker;
  // About as many as came last time: the call that finds the queue empty is mostly saved, and
  // what is left in it is told again in the next turn.
  const int batch = std::exchange(batch_, std::min(batch_ + 1, kAcceptBatch));
  for (int i = 0; i < batch; ++i) {
    sockaddr_storage storage;
    socklen_t size = sizeof(storage);
    const int fd = ::accept4(fd_.get(), reinterpret_cast<sockaddr*>(&storage), &size,
                             SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      batch_ = std::max(i, 1);
      failed(errno);
      return false;
    }
    if (worker.connections() >= worker.connections_max()) {
      worker.cells().connections_refused.add();
      (void)!::send(fd, kOverLimit.data(), kOverLimit.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      ::close(fd);
      continue;
    }
    open_connection(state_, UniqueFd(fd),
                    SocketAddress::from_kernel(reinterpret_cast<sockaddr*>(&storage), size));
  }
  return true;
}

void Acceptor::failed(int error) {
  switch (error) {
    case EAGAIN:
    case EINTR:
      return;
    case ECONNABORTED:
    case EPROTO:
      state_.worker->cells().accept_errors.add();
      return;
    default:
      break;
  }
  // No descriptor or no memory: the connection stays in the queue; spinning on it helps nobody.
  state_.worker->cells().accept_errors.add();
  GH_LOG(kError, "listener {}: cannot accept: {}", state_.listener->name, std::strerror(error));
  watch_.close();
  state_.worker->loop().arm(resume_, kAcceptPause);
}

}  // namespace gatehouse
