// What a Stream does differently when it speaks TLS; see stream.h and tls_layer.h.
#include <sys/socket.h>

#include <cassert>
#include <cerrno>
#include <utility>

#include "core/stream.h"

namespace gatehouse {

void Stream::start_tls(std::unique_ptr<TlsLayer> layer) {
  assert(tls_ == nullptr && reader_ == nullptr && writer_ == nullptr);
  tls_ = std::move(layer);
  tls_->attach(fd_);
  if (readable_) tls_->note_ready(peer_closed_);
}

IoResult Stream::shake_hands() {
  const IoResult result = tls_->handshake();
  readable_ = result.ok() && tls_->may_have_more();
  if (result.status == IoStatus::kError) note_error(result.error);
  return result;
}

IoResult Stream::receive_decrypted(std::span<char> into) {
  const IoResult result = tls_->read(into);
  readable_ = tls_->may_have_more();
  if (result.ok()) {
    bytes_in_ += result.bytes;
  } else if (result.status == IoStatus::kEof) {
    peer_closed_ = true;
  } else if (result.status == IoStatus::kError) {
    note_error(result.error);
  }
  return result;
}

bool Stream::find_decrypted() {
  // An end or a failure is something to read too.
  readable_ = tls_->peek() != IoStatus::kTimeout;
  return readable_;
}

// Called before those that wait are looked at.
void Stream::note_ready(uint8_t ready) {
  if ((ready & (kIoReadable | kIoPeerClosed)) != 0) {
    tls_->note_ready(peer_closed_);
    readable_ = true;
  }
  // What is left of a handshake or of a cancelled write has no writer that would send it.
  if ((ready & kIoWritable) != 0 && writer_ == nullptr && tls_->unsent() != 0) {
    (void)flush_encrypted();
  }
}

IoResult Stream::flush_encrypted() {
  const IoResult sent = tls_->flush();
  if (sent.status == IoStatus::kError) note_error(sent.error);
  if (sent.status != IoStatus::kTimeout && std::exchange(end_when_sent_, false)) {
    ::shutdown(fd_, SHUT_WR);
  }
  return sent;
}

bool Stream::end_encrypted() {
  if (!cut_) tls_->close_write();
  end_when_sent_ = tls_->unsent() != 0;
  return end_when_sent_;
}

bool Stream::WriteAwaiter::attempt_encrypted() {
  for (;;) {
    const size_t unsent = stream_.tls_->unsent();
    const IoResult sent = stream_.flush_encrypted();
    if (stream_.tls_->unsent() < unsent) note_movement();
    if (sent.status == IoStatus::kTimeout) return false;
    if (sent.status == IoStatus::kError) {
      result_.status = IoStatus::kError;
      result_.error = sent.error;
      return true;
    }
    if (first_ == count_) break;
    const size_t taken = stream_.tls_->encrypt({parts_ + first_, size_t{count_} - first_});
    if (taken == 0) {
      result_.status = IoStatus::kError;
      result_.error = stream_.tls_->error();
      stream_.note_error(result_.error);
      return true;
    }
    note_progress(taken);
  }
  result_.status = IoStatus::kOk;
  return true;
}

}  // namespace gatehouse
