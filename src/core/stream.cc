// Reading and writing a socket from coroutines; see stream.h.
#include "core/stream.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <utility>

namespace gatehouse {

namespace {
constexpr Duration kProbeAfter = std::chrono::milliseconds(200);
}

Stream::~Stream() {
  assert(reader_ == nullptr && writer_ == nullptr);
  if (destroyed_ != nullptr) *destroyed_ = true;
  if (tls_ != nullptr && fd_ >= 0 && !cut_ && error_ == 0) tls_->close_write();
  // Closing takes the descriptor out of epoll; asked afterwards, the kernel only says that it does
  // not know it, which costs less than taking it out by a call of its own.
  if (fd_ >= 0) ::close(fd_);
  watch_.close();
}

Result<void> Stream::open() {
  return watch_.open(loop_, fd_, WatchMode::kEdge, &Stream::on_ready, this);
}

void Stream::shutdown_write() {
  if (tls_ != nullptr && end_encrypted()) return;
  ::shutdown(fd_, SHUT_WR);
}

// The kernel tells of a failed connection once, to whoever asks first; after a send that was told,
// a recv reads what is left and then an end like any other. A reply that a reset cut short would
// pass for a whole one. So the first failure is kept, and stands in the place of that end. Where
// the peer had ended its side in good order before (the kernel says EPIPE then), the end is true.
void Stream::note_error(int error) {
  if (error_ == 0) error_ = peer_closed_ ? EPIPE : error;
}

IoResult Stream::receive(std::span<char> into) {
  assert(!into.empty());
  if (tls_ != nullptr) return receive_decrypted(into);
  for (;;) {
    const ssize_t n = ::recv(fd_, into.data(), into.size(), 0);
    if (n > 0) {
      const auto bytes = static_cast<size_t>(n);
      bytes_in_ += bytes;
      // A short read has emptied the socket; only the peer's end can still stand behind it.
      if (bytes < into.size()) readable_ = peer_closed_;
      return {IoStatus::kOk, 0, bytes};
    }
    if (n == 0) {
      if (error_ != 0 && error_ != EPIPE) return {IoStatus::kError, error_, 0};
      peer_closed_ = true;
      return {IoStatus::kEof, 0, 0};
    }
    if (errno == EINTR) continue;
    if (errno == EAGAIN) {
      readable_ = false;
      return {IoStatus::kTimeout, 0, 0};
    }
    const int error = errno;
    note_error(error);
    return {IoStatus::kError, error, 0};
  }
}

IoResult Stream::read_now(std::span<char> into) {
  if (!readable_) return {IoStatus::kTimeout, 0, 0};
  return receive(into);
}

bool Stream::is_reset() {
  // Not a peek: that sees no error behind unread bytes, nor behind the peer's end.
  int error = 0;
  socklen_t size = sizeof(error);
  if (error_ == 0 && ::getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error != 0) {
    note_error(error);
  }
  return error_ != 0;
}

void Stream::on_ready(void* self, uint8_t ready) {
  static_cast<Stream*>(self)->handle_ready(ready);
}

void Stream::handle_ready(uint8_t ready) {
  bool destroyed = false;
  bool* outer = destroyed_;
  destroyed_ = &destroyed;
  if ((ready & kIoPeerClosed) != 0) peer_closed_ = true;
  if ((ready & (kIoReadable | kIoPeerClosed)) != 0) readable_ = true;
  if (tls_ != nullptr) note_ready(ready);

  if ((ready & kIoWritable) != 0) {
    while (writer_ != nullptr && writer_->attempt()) {
      writer_->finish();
      if (destroyed) return;
    }
  }
  if (readable_ && (ready & (kIoReadable | kIoPeerClosed)) != 0) {
    if (reader_ != nullptr) {
      if (reader_->attempt()) {
        reader_->finish();
        if (destroyed) return;
      }
    } else if (activity_callback_ != nullptr) {
      if (may_read()) activity_callback_(activity_owner_);
      if (destroyed) return;
    } else if (peer_callback_ != nullptr) {
      const bool reset = is_reset();
      if (reset || peer_closed_) {
        PeerCallback callback = peer_callback_;
        peer_callback_ = nullptr;
        callback(peer_owner_, reset);
        if (destroyed) return;
      }
    }
  }
  destroyed_ = outer;
}

bool Stream::ReadAwaiter::attempt() {
  if (goal_ == Goal::kReadable) return stream_.may_read();
  result_ = goal_ == Goal::kBytes ? stream_.receive(into_) : stream_.shake_hands();
  return result_.status != IoStatus::kTimeout;
}

void Stream::ReadAwaiter::await_suspend(std::coroutine_handle<> awaiting) {
  assert(stream_.reader_ == nullptr);
  awaiting_ = awaiting;
  stream_.reader_ = this;
  // libevent hides EPOLLRDHUP behind EPOLLERR: a reset that arrives in the same event as the last
  // bytes leaves no edge behind once those are read. So a wait that grows long asks once.
  if (timeout_ == Duration::zero() || timeout_ > kProbeAfter) {
    probe_ = true;
    stream_.loop_.arm(timer_, kProbeAfter);
  } else if (timeout_ != Duration::zero()) {
    stream_.loop_.arm(timer_, timeout_);
  }
}

bool Stream::ReadAwaiter::probe() {
  if (stream_.tls_ != nullptr) stream_.note_ready(kIoReadable);
  if (goal_ != Goal::kReadable || stream_.tls_ != nullptr) return attempt();
  char byte = 0;
  if (::recv(stream_.fd_, &byte, 1, MSG_PEEK) < 0) {
    if (errno == EAGAIN || errno == EINTR) return false;
    // The kernel does not tell it again.
    stream_.note_error(errno);
  }
  stream_.readable_ = true;
  return true;
}

void Stream::ReadAwaiter::finish() {
  stream_.reader_ = nullptr;
  timer_.cancel();
  awaiting_.resume();
}

void Stream::ReadAwaiter::on_timeout(void* self) {
  auto* awaiter = static_cast<ReadAwaiter*>(self);
  if (std::exchange(awaiter->probe_, false)) {
    if (awaiter->probe()) {
      awaiter->finish();
    } else if (awaiter->timeout_ != Duration::zero()) {
      awaiter->stream_.loop_.arm(awaiter->timer_, awaiter->timeout_ - kProbeAfter);
    }
    return;
  }
  awaiter->result_ = {IoStatus::kTimeout, 0, 0};
  awaiter->finish();
}

Stream::WriteAwaiter::WriteAwaiter(Stream& stream, std::span<const iovec> parts, Duration timeout,
                                   bool connecting)
    : stream_(stream), connecting_(connecting), timeout_(timeout) {
  assert(parts.size() <= kMaxParts);
  for (const iovec& part : parts) {
    if (part.iov_len != 0) parts_[count_++] = part;
  }
}

bool Stream::WriteAwaiter::attempt() {
  if (connecting_) {
    int error = 0;
    socklen_t size = sizeof(error);
    ::getsockopt(stream_.fd_, SOL_SOCKET, SO_ERROR, &error, &size);
    result_ = error == 0 ? IoResult{} : IoResult{IoStatus::kError, error, 0};
    return true;
  }
  if (cut_off()) return true;
  if (stream_.tls_ != nullptr) return attempt_encrypted();
  while (first_ < count_) {
    ssize_t n = 0;
    if (count_ - first_ == 1) {
      n = ::send(stream_.fd_, parts_[first_].iov_base, parts_[first_].iov_len, MSG_NOSIGNAL);
    } else {
      msghdr message{};
      message.msg_iov = parts_ + first_;
      message.msg_iovlen = static_cast<size_t>(count_ - first_);
      n = ::sendmsg(stream_.fd_, &message, MSG_NOSIGNAL);
    }
    if (n < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) return false;
      result_.status = IoStatus::kError;
      result_.error = errno;
      stream_.note_error(result_.error);
      return true;
    }
    note_progress(static_cast<size_t>(n));
    if (first_ == count_) break;
    // A short write has filled the socket: the next event says when there is room.
    return false;
  }
  result_.status = IoStatus::kOk;
  return true;
}

void Stream::WriteAwaiter::note_progress(size_t bytes) {
  result_.bytes += bytes;
  stream_.bytes_out_ += bytes;
  note_movement();
  while (first_ < count_ && bytes >= parts_[first_].iov_len) bytes -= parts_[first_++].iov_len;
  if (first_ == count_) return;
  parts_[first_].iov_base = static_cast<char*>(parts_[first_].iov_base) + bytes;
  parts_[first_].iov_len -= bytes;
}

void Stream::WriteAwaiter::note_movement() {
  stream_.last_write_ = stream_.loop_.now();
  // Bytes moved for all that wait, also for those behind this one.
  for (WriteAwaiter* each = stream_.writer_; each != nullptr; each = each->next_) {
    if (each->timer_.armed()) stream_.loop_.arm(each->timer_, each->timeout_);
  }
}

void Stream::WriteAwaiter::await_suspend(std::coroutine_handle<> awaiting) {
  awaiting_ = awaiting;
  WriteAwaiter** last = &stream_.writer_;
  while (*last != nullptr) last = &(*last)->next_;
  *last = this;
  if (timeout_ != Duration::zero()) stream_.loop_.arm(timer_, timeout_);
}

bool Stream::WriteAwaiter::cut_off() {
  if (!stream_.cut_ || first_ == count_) return false;
  result_.status = IoStatus::kError;
  result_.error = EPIPE;
  return true;
}

void Stream::WriteAwaiter::leave() {
  // What came next would be read as the rest of this.
  if (first_ < count_ && result_.bytes > 0) stream_.cut_ = true;
  for (WriteAwaiter** at = &stream_.writer_; *at != nullptr; at = &(*at)->next_) {
    if (*at != this) continue;
    *at = next_;
    return;
  }
}

void Stream::WriteAwaiter::finish() {
  leave();
  timer_.cancel();
  awaiting_.resume();
}

void Stream::WriteAwaiter::on_timeout(void* self) {
  auto* awaiter = static_cast<WriteAwaiter*>(self);
  awaiter->result_.status = IoStatus::kTimeout;
  awaiter->finish();
}

}  // namespace gatehouse
