// One TLS connection by OpenSSL; see tls_layer.h.
#include "core/tls_layer.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <sys/socket.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>

#include "core/sockets.h"

namespace gatehouse {

namespace {

// A record holds at most this much (RFC 8446 §5.1).
constexpr size_t kRecord = SSL3_RT_MAX_PLAIN_LENGTH;

// Where a context says that its connections are to be light.
int light_index() {
  static const int index = SSL_CTX_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
  return index;
}

}  // namespace

// The BIO through which OpenSSL reads and writes.
struct TlsLayer::Bio {
  static TlsLayer& layer(BIO* bio) { return *static_cast<TlsLayer*>(BIO_get_data(bio)); }

  static int read(BIO* bio, char* into, int size) {
    BIO_clear_retry_flags(bio);
    if (size <= 0) return 0;
    const int n = layer(bio).supply(into, static_cast<size_t>(size));
    if (n < 0 && layer(bio).error_ == 0) BIO_set_retry_read(bio);
    return n;
  }

  static int write(BIO* bio, const char* bytes, int size) {
    BIO_clear_retry_flags(bio);
    if (size <= 0) return 0;
    layer(bio).emit(bytes, static_cast<size_t>(size));
    return size;
  }

  static long control(BIO* bio, int command, long, void*) {
    switch (command) {
      case BIO_CTRL_FLUSH:
        return 1;
      case BIO_CTRL_EOF:
        return layer(bio).at_end_ ? 1 : 0;
      default:
        return 0;
    }
  }

  static int create(BIO* bio) {
    BIO_set_init(bio, 1);
    return 1;
  }

  // Made once and kept until the process ends; null where memory is short.
  static const BIO_METHOD* method() {
    static const BIO_METHOD* const made = [] {
      BIO_METHOD* method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "gatehouse");
      if (method == nullptr) return method;
      BIO_meth_set_read(method, &Bio::read);
      BIO_meth_set_write(method, &Bio::write);
      BIO_meth_set_ctrl(method, &Bio::control);
      BIO_meth_set_create(method, &Bio::create);
      return method;
    }();
    return made;
  }
};

void TlsLayer::prepare_context(SSL_CTX* context) {
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_options(context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
  // One recv brings a record's header and its body, and whatever stands behind it.
  SSL_CTX_set_read_ahead(context, 1);
}

void TlsLayer::lighten_context(SSL_CTX* context) {
  static char yes;
  SSL_CTX_set_ex_data(context, light_index(), &yes);
}

Result<std::unique_ptr<TlsLayer>> TlsLayer::create(SSL_CTX* context) {
  SSL* ssl = SSL_new(context);
  const BIO_METHOD* method = Bio::method();
  BIO* bio = ssl != nullptr && method != nullptr ? BIO_new(method) : nullptr;
  if (bio == nullptr) {
    SSL_free(ssl);
    ERR_clear_error();
    return Error{"out of memory for a TLS connection"};
  }
  std::unique_ptr<TlsLayer> layer(new TlsLayer(ssl));
  BIO_set_data(bio, layer.get());
  SSL_set_bio(ssl, bio, bio);
  SSL_set_app_data(ssl, layer.get());
  return layer;
}

Result<std::unique_ptr<TlsLayer>> TlsLayer::server(SSL_CTX* context) {
  Result<std::unique_ptr<TlsLayer>> layer = create(context);
  if (!layer) return layer;
  SSL_set_accept_state((*layer)->ssl_);
  (*layer)->early_open_ = SSL_get_max_early_data((*layer)->ssl_) != 0;
  if (SSL_CTX_get_ex_data(context, light_index()) != nullptr) (*layer)->begin_light();
  return layer;
}

Result<std::unique_ptr<TlsLayer>> TlsLayer::client(SSL_CTX* context,
                                                   const std::string& server_name) {
  Result<std::unique_ptr<TlsLayer>> layer = create(context);
  if (!layer) return layer;
  SSL* ssl = (*layer)->ssl_;
  SSL_set_connect_state(ssl);
  // RFC 6066 §3: no addresses there.
  if (!server_name.empty() && !IpAddress::parse(server_name) &&
      SSL_set_tlsext_host_name(ssl, server_name.c_str()) != 1) {
    ERR_clear_error();
    return Error{"'" + server_name + "' cannot be a server name"};
  }
  return layer;
}

TlsLayer::~TlsLayer() {
  // OpenSSL would take the session for one that must not be resumed.
  if (!failed_ && ssl_ != nullptr) {
    SSL_set_shutdown(ssl_, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
  }
  SSL_free(ssl_);
  X509_free(peer_);
}

int TlsLayer::receive(char* into, size_t size) {
  while (socket_ready_) {
    const ssize_t n = ::recv(fd_, into, size, 0);
    if (n > 0) {
      // A short read has emptied the socket; only the peer's end can still stand behind it.
      if (static_cast<size_t>(n) < size) socket_ready_ = peer_closed_;
      return static_cast<int>(n);
    }
    if (n == 0) {
      at_end_ = peer_closed_ = true;
      return 0;
    }
    if (errno == EINTR) continue;
    if (errno != EAGAIN) {
      error_ = errno;
      return -1;
    }
    socket_ready_ = false;
  }
  return -1;
}

size_t TlsLayer::send_some(const char* bytes, size_t size) {
  for (;;) {
    const ssize_t n = ::send(fd_, bytes, size, MSG_NOSIGNAL);
    if (n >= 0) return static_cast<size_t>(n);
    if (errno == EINTR) continue;
    if (errno == EAGAIN) return 0;
    write_error_ = errno;
    return size;
  }
}

void TlsLayer::emit(const char* bytes, size_t size) {
  if (write_error_ != 0) return;
  if (!collect_ && out_.empty()) {
    const size_t sent = send_some(bytes, size);
    bytes += sent;
    size -= sent;
    if (size == 0) return;
  }
  if (!out_) out_ = Buffer(size <= kBufferSizes[0] / 2 ? BufferClass::kHead : BufferClass::kBulk);
  if (out_.room() < size) {
    out_.compact();
    const auto next = static_cast<unsigned>(out_.size_class()) + 1;
    if (out_.room() < size && next < kBufferClasses) out_.grow(static_cast<BufferClass>(next));
    if (out_.room() < size) {
      // A peer that makes us answer (key updates, alerts) and does not read the answers.
      write_error_ = ENOBUFS;
      out_.release();
      return;
    }
  }
  out_.append({bytes, size});
}

IoResult TlsLayer::flush() {
  if (!out_.empty() && write_error_ == 0) {
    out_.consume(send_some(out_.view().data(), out_.size()));
  }
  if (write_error_ != 0) {
    out_.release();
    return {IoStatus::kError, write_error_, 0};
  }
  if (!out_.empty()) return {IoStatus::kTimeout, 0, 0};
  out_.release();
  return {};
}

IoResult TlsLayer::fail(int error) {
  failed_ = more_ = true;
  if (error_ == 0) error_ = error;
  // The reasons that OpenSSL piles up are for this connection only.
  const unsigned long first = ERR_peek_error();
  if (failure_ == 0) failure_ = first;
  ERR_clear_error();
  return {IoStatus::kError, error_, 0};
}

IoResult TlsLayer::outcome(int result) {
  switch (SSL_get_error(ssl_, result)) {
    case SSL_ERROR_WANT_READ:
      more_ = false;
      return {IoStatus::kTimeout, 0, 0};
    case SSL_ERROR_ZERO_RETURN:
      more_ = ended_ = true;
      return {IoStatus::kEof, 0, 0};
    default:
      break;
  }
  if (error_ == 0 && at_end_) {
    // The connection ended without a close_notify. What OpenSSL calls it is not worth telling.
    ERR_clear_error();
    return fail(ECONNRESET);
  }
  return fail(EPROTO);
}

IoResult TlsLayer::handshake() {
  if (failed_) return {IoStatus::kError, error_, 0};
  if (ssl_ == nullptr) return {};
  ERR_clear_error();
  const bool clean = out_.empty();
  collect_ = true;
  IoResult done;
  if (early_open_) done = read_early();
  if (done.ok() && !early_open_) {
    const int result = SSL_do_handshake(ssl_);
    if (result != 1) done = outcome(result);
  }
  collect_ = false;
  if (light_) end_light_call(done.ok(), clean);
  // Also after a failure: the alert tells the peer why.
  const IoResult sent = flush();
  if (sent.status == IoStatus::kError && !failed_) return fail(sent.error);
  if (done.ok()) {
    early_shaking_ = !handshake_done();
    more_ = early_shaking_ || socket_ready_ || !in_.empty() ||
            (ssl_ != nullptr && SSL_has_pending(ssl_) != 0);
  }
  return done;
}

IoResult TlsLayer::read_early() {
  if (!early_) early_ = Buffer(BufferClass::kHead);
  size_t n = 0;
  const int result = SSL_read_early_data(ssl_, early_.tail(), early_.room(), &n);
  if (result == SSL_READ_EARLY_DATA_SUCCESS) {
    early_.commit(n);
    more_ = true;
    return {};
  }
  IoResult ended;
  if (result == SSL_READ_EARLY_DATA_FINISH) {
    early_open_ = false;
  } else {
    ended = outcome(0);
  }
  if (early_.empty()) early_.release();
  return ended;
}

// kOk: there is early data, or the handshake is over.
IoResult TlsLayer::end_early() {
  if (!early_.empty()) return {};
  if (early_open_) {
    const IoResult read = read_early();
    if (!read.ok() || !early_.empty()) return read;
  }
  if (!handshake_done()) {
    collect_ = true;
    const int result = SSL_do_handshake(ssl_);
    const IoResult done = result == 1 ? IoResult{} : outcome(result);
    collect_ = false;
    (void)flush();
    if (!done.ok()) return done;
  }
  early_shaking_ = false;
  return {};
}

IoResult TlsLayer::read(std::span<char> into) {
  assert(!into.empty());
  if (records_ != nullptr) return read_opened(into);
  if (failed_) return {IoStatus::kError, error_, 0};
  if (early_shaking_) [[unlikely]] {
    const IoResult shaken = end_early();
    if (!shaken.ok()) return shaken;
    if (!early_.empty()) {
      const size_t n = std::min(early_.size(), into.size());
      std::memcpy(into.data(), early_.view().data(), n);
      early_.consume(n);
      if (early_.empty()) early_.release();
      more_ = true;
      return {IoStatus::kOk, 0, n};
    }
  }
  size_t filled = 0;
  for (;;) {
    size_t n = 0;
    const int result = SSL_read_ex(ssl_, into.data() + filled, into.size() - filled, &n);
    if (result != 1) {
      const IoResult ended = outcome(result);
      // What came before the end or the failure is told first.
      return filled != 0 ? IoResult{IoStatus::kOk, 0, filled} : ended;
    }
    filled += n;
    if (filled == into.size()) {
      more_ = true;
      return {IoStatus::kOk, 0, filled};
    }
    // Less than asked for: that record is used up. Nothing behind it saves asking OpenSSL again.
    if (SSL_has_pending(ssl_) == 0 && in_.empty()) {
      more_ = socket_ready_;
      return {IoStatus::kOk, 0, filled};
    }
  }
}

IoStatus TlsLayer::peek() {
  if (records_ != nullptr) {
    if (!plain_.empty()) return IoStatus::kOk;
    const IoStatus opened = open_record().status;
    if (opened == IoStatus::kOk) more_ = true;
    return opened;
  }
  if (failed_) return IoStatus::kError;
  if (early_shaking_) [[unlikely]] {
    const IoResult shaken = end_early();
    if (!shaken.ok()) return shaken.status;
    if (!early_.empty()) return IoStatus::kOk;
  }
  char byte = 0;
  size_t n = 0;
  const int result = SSL_peek_ex(ssl_, &byte, 1, &n);
  if (result != 1) return outcome(result).status;
  more_ = true;
  return IoStatus::kOk;
}

size_t TlsLayer::encrypt(std::span<const iovec> parts) {
  assert(!parts.empty() && out_.empty());
  if (failed_ || write_error_ != 0) return 0;
  size_t total = 0;
  for (const iovec& part : parts) total += part.iov_len;
  if (records_ != nullptr)
    return seal_parts(parts, std::min(total, kBatch)) ? std::min(total, kBatch) : 0;
  collect_ = total > kRecord;
  size_t taken = 0;
  size_t part = 0;
  size_t begin = 0;  // in parts[part]
  Buffer gathered;
  while (part < parts.size() && taken < kBatch) {
    const char* bytes = static_cast<const char*>(parts[part].iov_base) + begin;
    size_t size = std::min(parts[part].iov_len - begin, kBatch - taken);
    if (size < kRecord && part + 1 < parts.size()) {
      // Small parts share a record with those behind them.
      if (!gathered) gathered = Buffer(BufferClass::kHead);
      gathered.clear();
      size_t next = part;
      size_t at = begin;
      while (next < parts.size() && gathered.room() != 0) {
        const size_t n =
            std::min({parts[next].iov_len - at, gathered.room(), kBatch - taken - gathered.size()});
        if (n == 0) break;
        gathered.append({static_cast<const char*>(parts[next].iov_base) + at, n});
        at += n;
        if (at == parts[next].iov_len) {
          ++next;
          at = 0;
        }
      }
      part = next;
      begin = at;
      bytes = gathered.view().data();
      size = gathered.size();
    } else {
      begin += size;
      if (begin == parts[part].iov_len) {
        ++part;
        begin = 0;
      }
    }
    if (!write(bytes, size)) {
      // Our BIO takes everything, so this is no wait.
      collect_ = false;
      fail(EPROTO);
      return 0;
    }
    taken += size;
  }
  collect_ = ended_ = false;
  (void)flush();
  return taken;
}

bool TlsLayer::write(const char* bytes, size_t size) {
  size_t n = 0;
  if (!early_shaking_) [[likely]]
    return SSL_write_ex(ssl_, bytes, size, &n) == 1;
  // Half a round trip before the client has proven anything (RFC 8446 §2.3). Of a large text one
  // record at a time is taken.
  while (size > 0) {
    if (SSL_write_early_data(ssl_, bytes, size, &n) != 1) return false;
    bytes += n;
    size -= n;
  }
  return true;
}

void TlsLayer::close_write() {
  if (said_goodbye_ || ended_ || failed_ || write_error_ != 0 || !handshake_done()) return;
  said_goodbye_ = true;
  if (records_ != nullptr) {
    char alert[TlsRecords::wire_size(2)];
    if (records_->seal_alert(SSL3_AL_WARNING, SSL_AD_CLOSE_NOTIFY, alert)) {
      emit(alert, sizeof(alert));
    }
  } else {
    (void)SSL_shutdown(ssl_);
    ERR_clear_error();
  }
  (void)flush();
}

std::string_view TlsLayer::cipher() const {
  const SSL_CIPHER* cipher = ssl_ != nullptr ? SSL_get_current_cipher(ssl_) : cipher_;
  return cipher != nullptr ? SSL_CIPHER_get_name(cipher) : std::string_view();
}

std::string_view TlsLayer::alpn() const {
  if (ssl_ == nullptr) return {alpn_, alpn_size_};
  const unsigned char* name = nullptr;
  unsigned size = 0;
  SSL_get0_alpn_selected(ssl_, &name, &size);
  return {reinterpret_cast<const char*>(name), size};
}

std::string_view TlsLayer::server_name() const {
  if (ssl_ == nullptr) return server_name_;
  const char* name = SSL_get_servername(ssl_, TLSEXT_NAMETYPE_host_name);
  return name != nullptr ? name : std::string_view();
}

std::string TlsLayer::failure() const {
  if (error() == 0) return {};
  if (records_ != nullptr && !records_->failure().empty()) return std::string(records_->failure());
  if (failure_ == 0) return at_end_ ? "the peer closed the connection" : std::strerror(error());
  const char* reason = ERR_reason_error_string(failure_);
  std::string text = reason != nullptr ? reason : "error " + std::to_string(failure_);
  const long verified = SSL_get_verify_result(ssl_);
  if (verified != X509_V_OK && ERR_GET_REASON(failure_) == SSL_R_CERTIFICATE_VERIFY_FAILED) {
    text += ": ";
    text += X509_verify_cert_error_string(verified);
  }
  return text;
}

}  // namespace gatehouse
