// A TLS connection after it has left OpenSSL, and its way there; see tls_layer.h and tls_records.h.
#include <openssl/crypto.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "core/tls_layer.h"

namespace gatehouse {

namespace {

int hex_digit(char c) {
  return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

}  // namespace

// ---- The handshake ------------------------------------------------------------------------------

void TlsLayer::begin_light() {
  light_ = true;
  // Nothing that comes behind the handshake may get into OpenSSL's own buffer.
  SSL_set_read_ahead(ssl_, 0);
  SSL_set_info_callback(ssl_, &TlsLayer::on_state);
}

int TlsLayer::supply(char* into, size_t size) {
  if (!light_ && in_.empty()) return receive(into, size);
  if (in_.empty()) {
    if (!in_) in_ = Buffer(BufferClass::kHead);
    in_.clear();
    const int n = receive(in_.tail(), in_.room());
    if (n <= 0) {
      in_.release();
      return n;
    }
    in_.commit(static_cast<size_t>(n));
  }
  const size_t n = std::min(size, in_.size());
  std::memcpy(into, in_.view().data(), n);
  in_.consume(n);
  if (in_.empty()) in_.release();
  return static_cast<int>(n);
}

// OpenSSL writes out each secret that it derives, in hex, which costs it 4 µs a line. Only those of
// the application's records are wanted: so it is asked for them from the server's last messages on.
void TlsLayer::on_state(const SSL* ssl, int where, int) {
  if ((where & SSL_CB_LOOP) == 0) return;
  switch (SSL_get_state(ssl)) {
    case TLS_ST_SW_CERT_VRFY:
    case TLS_ST_SW_ENCRYPTED_EXTENSIONS:
    case TLS_ST_EARLY_DATA:
    case TLS_ST_SR_FINISHED:
      SSL_CTX_set_keylog_callback(SSL_get_SSL_CTX(ssl), &TlsLayer::on_secret);
      break;
    default:
      break;
  }
}

// "CLIENT_TRAFFIC_SECRET_0 RANDOM SECRET".
void TlsLayer::on_secret(const SSL* ssl, const char* line) {
  TlsLayer* layer = of(ssl);
  const std::string_view text(line);
  const bool client = text.starts_with("CLIENT_TRAFFIC_SECRET_0 ");
  if (!layer->light_ || (!client && !text.starts_with("SERVER_TRAFFIC_SECRET_0 "))) return;
  if (layer->secrets_ == nullptr) layer->secrets_ = std::make_unique<Secrets>();
  TlsTrafficSecret& secret = client ? layer->secrets_->read : layer->secrets_->write;
  const std::string_view hex = text.substr(text.rfind(' ') + 1);
  if (hex.size() % 2 != 0 || hex.size() / 2 > secret.bytes.size()) return;
  for (size_t i = 0; i < hex.size(); i += 2) {
    const int high = hex_digit(hex[i]);
    const int low = hex_digit(hex[i + 1]);
    if (high < 0 || low < 0) return;
    secret.bytes[i / 2] = static_cast<uint8_t>(high << 4 | low);
  }
  secret.size = static_cast<uint8_t>(hex.size() / 2);
}

void TlsLayer::end_light_call(bool done, bool clean) {
  SSL_CTX_set_keylog_callback(SSL_get_SSL_CTX(ssl_), nullptr);
  if (!done) return;
  light_ = false;
  SSL_set_info_callback(ssl_, nullptr);
  if (clean && handshake_done()) leave_openssl();
  if (ssl_ != nullptr) SSL_set_read_ahead(ssl_, 1);
  if (secrets_ != nullptr) OPENSSL_cleanse(secrets_.get(), sizeof(Secrets));
  secrets_.reset();
}

// REQUIRES: what stands in out_ is what the last call of the handshake has made.
void TlsLayer::leave_openssl() {
  if (secrets_ == nullptr || SSL_version(ssl_) != TLS1_3_VERSION || SSL_has_pending(ssl_) != 0 ||
      write_error_ != 0) {
    return;
  }
  // A client with little memory wants short records (RFC 6066 §4).
  if (SSL_SESSION_get_max_fragment_length(SSL_get0_session(ssl_)) != 0) return;
  // That is nothing but tickets, each a record under the keys that are used from here on.
  const std::string_view sent = out_.view();
  for (size_t at = 0; at < sent.size(); ++secrets_->write.sequence) {
    if (sent.size() - at < TlsRecords::kHeader || sent[at] != SSL3_RT_APPLICATION_DATA) return;
    const auto high = static_cast<unsigned char>(sent[at + 3]);
    const auto low = static_cast<unsigned char>(sent[at + 4]);
    at += TlsRecords::kHeader + (size_t{high} << 8 | low);
  }
  records_ = TlsRecords::create(SSL_get_current_cipher(ssl_), secrets_->read, secrets_->write);
  if (records_ == nullptr) return;
  const std::string_view protocol = alpn();
  alpn_size_ = static_cast<uint8_t>(std::min(protocol.size(), sizeof(alpn_)));
  if (alpn_size_ != 0) std::memcpy(alpn_, protocol.data(), alpn_size_);
  server_name_ = server_name();
  resumed_ = resumed();
  cipher_ = SSL_get_current_cipher(ssl_);
  peer_ = SSL_get1_peer_certificate(ssl_);
  SSL_set_shutdown(ssl_, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
  SSL_free(std::exchange(ssl_, nullptr));
}

// ---- Reading ------------------------------------------------------------------------------------

IoResult TlsLayer::fill() {
  if (!in_) in_ = Buffer(wide_ ? BufferClass::kBulk : BufferClass::kHead);
  if (in_.begin() != 0) in_.compact();
  if (in_.room() == 0) {
    // A record of the largest size does not fit a small buffer.
    wide_ = true;
    in_.grow(BufferClass::kBulk);
  }
  const int n = receive(in_.tail(), in_.room());
  if (n > 0) {
    in_.commit(static_cast<size_t>(n));
    return {};
  }
  if (in_.empty()) in_.release();
  if (n == 0) return fail(ECONNRESET);
  if (error_ != 0) return fail(error_);
  more_ = false;
  return {IoStatus::kTimeout, 0, 0};
}

IoResult TlsLayer::open_record() {
  if (failed_) return {IoStatus::kError, error_, 0};
  for (;;) {
    TlsRecords::Opened opened = TlsRecords::Opened::kPart;
    if (closed_) {
      // Nothing that came behind it counts (RFC 8446 §6.1).
      in_.release();
      more_ = ended_ = true;
      return {IoStatus::kEof, 0, 0};
    }
    if (!in_.empty()) {
      size_t used = 0;
      opened = records_->open({in_.data() + in_.begin(), in_.size()}, &used, &plain_);
      in_.consume(used);
    }
    switch (opened) {
      case TlsRecords::Opened::kData:
        return {};
      case TlsRecords::Opened::kNothing:
        break;
      case TlsRecords::Opened::kEnd:
        closed_ = true;
        break;
      case TlsRecords::Opened::kPart: {
        const IoResult filled = fill();
        if (!filled.ok()) return filled;
        break;
      }
      case TlsRecords::Opened::kBroken:
        if (out_.empty()) {
          char alert[TlsRecords::wire_size(2)];
          if (records_->seal_alert(SSL3_AL_FATAL, records_->alert(), alert)) {
            emit(alert, sizeof(alert));
          }
        }
        return fail(EPROTO);
      case TlsRecords::Opened::kAlert:
        return fail(EPROTO);
    }
  }
}

IoResult TlsLayer::read_opened(std::span<char> into) {
  size_t filled = 0;
  for (;;) {
    if (plain_.empty()) {
      // One recv a call: more may be had by the next.
      if (filled != 0 && in_.empty()) {
        in_.release();
        more_ = socket_ready_;
        return {IoStatus::kOk, 0, filled};
      }
      const IoResult opened = open_record();
      if (!opened.ok()) return filled != 0 ? IoResult{IoStatus::kOk, 0, filled} : opened;
    }
    const size_t n = std::min(plain_.size(), into.size() - filled);
    std::memcpy(into.data() + filled, plain_.data(), n);
    plain_ = plain_.subspan(n);
    filled += n;
    if (filled == into.size()) {
      more_ = true;
      if (plain_.empty() && in_.empty()) in_.release();
      return {IoStatus::kOk, 0, filled};
    }
  }
}

// ---- Writing ------------------------------------------------------------------------------------

// REQUIRES: total is at most kBatch, and no more than there is in the parts.
bool TlsLayer::seal_parts(std::span<const iovec> parts, size_t total) {
  const size_t records = (total + TlsRecords::kPlainMax - 1) / TlsRecords::kPlainMax;
  const size_t size = total + (records + 1) * TlsRecords::kOverhead + TlsRecords::kUpdate;
  out_ = Buffer(size <= kBufferSizes[0] - 64 ? BufferClass::kHead : BufferClass::kBulk);
  if (records_->update_due()) {
    if (!records_->seal_update(out_.tail())) return fail(EPROTO).ok();
    out_.commit(TlsRecords::wire_size(TlsRecords::kUpdate));
  }
  size_t part = 0;
  size_t begin = 0;
  while (total > 0) {
    std::string_view pieces[8];
    size_t count = 0;
    size_t in_record = 0;
    const size_t wanted = std::min(total, TlsRecords::kPlainMax);
    while (in_record < wanted && count < std::size(pieces)) {
      const size_t n = std::min(parts[part].iov_len - begin, wanted - in_record);
      pieces[count++] = {static_cast<const char*>(parts[part].iov_base) + begin, n};
      in_record += n;
      begin += n;
      if (begin == parts[part].iov_len) {
        ++part;
        begin = 0;
      }
    }
    if (!records_->seal({pieces, count}, in_record, out_.tail())) {
      out_.release();
      return fail(EPROTO).ok();
    }
    out_.commit(TlsRecords::wire_size(in_record));
    total -= in_record;
  }
  ended_ = false;
  (void)flush();
  return true;
}

}  // namespace gatehouse
