// TlsLayer: one TLS connection over a Stream's socket, by OpenSSL; the Stream drives it.
//
// OpenSSL reads and writes through a BIO of our own, which calls recv and send itself. It knows
// what the Stream knows: after a short recv it says "nothing there" without asking the kernel. It
// never refuses bytes to be sent: what the kernel does not take waits in `out_`, so that OpenSSL
// has no half-written record to remember and a cancelled write leaves the connection's records
// whole. The Stream stops encrypting until that is gone. So a request costs one recv and a response
// one send; several records of one write, or of one flight of the handshake, leave in one send.
//
// At rest a connection holds no buffer: OpenSSL's are given back whenever nothing is in them
// (SSL_MODE_RELEASE_BUFFERS), `out_` when it is empty. What stays is OpenSSL's own state: 14 KB.
// So a server's connection of TLS 1.3 leaves OpenSSL's when the handshake is over, where its
// context says so (lighten_context), and seals and opens its records itself: see
// core/tls_records.h.
//
// The end of the peer's data is its close_notify (RFC 8446 §6.1). A connection that ends without
// one was cut, by whomever: that is an error (ECONNRESET), never an end. Alerts, renegotiation
// (which is refused) and what a broken peer sends are errors too (EPROTO); failure() says which.
//
// Contexts are made by core/tls_profile and its users. Whoever makes one must set
// SSL_MODE_RELEASE_BUFFERS and read-ahead on it: see prepare_context().
#pragma once

#include <openssl/ssl.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "core/buffer.h"
#include "core/io_result.h"
#include "core/result.h"
#include "core/tls_records.h"

namespace gatehouse {

class TlsLayer {
 public:
  // What encrypt() takes at most in one call: three records and the beginning of a fourth, which
  // with what TLS adds fit a Buffer of kBulk.
  static constexpr size_t kBatch = 60 * 1024;

  // Modes and options that this class relies on.
  static void prepare_context(SSL_CTX* context);

  // For a server's context: connections keep no more of OpenSSL's than they need.
  static void lighten_context(SSL_CTX* context);

  // The server's side of a connection. Fails where memory does.
  static Result<std::unique_ptr<TlsLayer>> server(SSL_CTX* context);
  // The client's side. `server_name` goes into the SNI extension unless it is empty or an address.
  // What is verified is said to ssl() by the caller (see core/tls_client).
  static Result<std::unique_ptr<TlsLayer>> client(SSL_CTX* context, const std::string& server_name);

  TlsLayer(const TlsLayer&) = delete;
  TlsLayer& operator=(const TlsLayer&) = delete;
  ~TlsLayer();

  // ---- For Stream
  // --------------------------------------------------------------------------------

  // Whose socket it is. To be called once, first.
  void attach(int fd) { fd_ = fd; }
  // The kernel has told of bytes, or (`peer_closed`) of an end that stands behind them.
  void note_ready(bool peer_closed) {
    socket_ready_ = true;
    peer_closed_ = peer_closed;
  }

  // Goes on with the handshake: kOk when it is done, kTimeout where the peer's bytes are missing.
  IoResult handshake();
  // Decrypts what has arrived, as much as fits: kTimeout where that is nothing.
  IoResult read(std::span<char> into);
  // What read() would say, without the bytes.
  IoStatus peek();
  // False where only an event can bring more to read.
  bool may_have_more() const { return more_; }
  // Encrypts bytes from the front of `parts`, at most kBatch, and tries to send them. Returns how
  // many; 0 on failure. REQUIRES: all that was encrypted before is sent, `parts` is not empty.
  size_t encrypt(std::span<const iovec> parts);
  // Sends what is left of earlier calls: kOk when nothing is, kTimeout where the socket is full.
  IoResult flush();
  size_t unsent() const { return out_.size(); }
  // Says close_notify, once, and tries to send it. Not where the connection has failed, nor where
  // the peer has ended it and nothing was written since: nobody would read it.
  void close_write();

  // What the connection failed with: an errno value, 0 while it has not. After a failed send there
  // may be something left to read.
  int error() const { return error_ != 0 ? error_ : write_error_; }

  // ---- Facts
  // -------------------------------------------------------------------------------------

  // Null once the connection needs it no more: see lighten_context().
  SSL* ssl() const { return ssl_; }
  // The layer that an SSL of ours belongs to, for callbacks.
  static TlsLayer* of(const SSL* ssl) { return static_cast<TlsLayer*>(SSL_get_app_data(ssl)); }

  // A server's handshake that let early data through is over for whoever awaits it; it goes on
  // within read(). Until this is true what was read may be a replay (RFC 8446 §8).
  bool is_server() const { return ssl_ == nullptr || SSL_is_server(ssl_) != 0; }
  bool handshake_done() const { return ssl_ == nullptr || SSL_is_init_finished(ssl_) != 0; }
  // "TLSv1.3"; "unknown" before the handshake has got so far.
  std::string_view version() const { return ssl_ != nullptr ? SSL_get_version(ssl_) : "TLSv1.3"; }
  // The name of the cipher suite as OpenSSL and nginx write it: "TLS_AES_128_GCM_SHA256".
  std::string_view cipher() const;
  // The protocol chosen by ALPN (RFC 7301); empty where none was.
  std::string_view alpn() const;
  // The name that the client asked for (SNI), as it wrote it; empty where it gave none.
  std::string_view server_name() const;
  // True where an earlier session was resumed.
  bool resumed() const { return ssl_ != nullptr ? SSL_session_reused(ssl_) != 0 : resumed_; }
  // The certificate that the peer has shown; null where it has not.
  const X509* peer_certificate() const {
    return ssl_ != nullptr ? SSL_get0_peer_certificate(ssl_) : peer_;
  }
  // Why the connection failed, for the error log: "no shared cipher"; empty where it has not.
  std::string failure() const;
  // OpenSSL's packed error of the failure; 0 where there is none, or it was not OpenSSL's.
  unsigned long failure_code() const { return failure_; }

  // For whoever made the context and needs to find his own things in its callbacks.
  void* user = nullptr;

 private:
  struct Bio;

  explicit TlsLayer(SSL* ssl) : ssl_(ssl) {}
  static Result<std::unique_ptr<TlsLayer>> create(SSL_CTX* context);
  static void on_state(const SSL* ssl, int where, int result);
  static void on_secret(const SSL* ssl, const char* line);
  // After a handshake: goes on without OpenSSL's connection, where that is possible.
  void leave_openssl();
  // Opens the next record with bytes in it: kOk when plain_ has some.
  IoResult open_record();
  IoResult read_opened(std::span<char> into);
  // recv into `in_`, which gets room for a record: kOk, kEof, kTimeout or kError.
  IoResult fill();
  bool seal_parts(std::span<const iovec> parts, size_t total);
  // Reads early data into `early_`, where there is room: kOk when there is some, or no more to
  // come.
  IoResult read_early();
  // Goes on with a handshake that early data came before.
  IoResult end_early();
  bool write(const char* bytes, size_t size);
  // What a call of OpenSSL's that returned `result` (not success) has come to.
  IoResult outcome(int result);
  IoResult fail(int error);
  int receive(char* into, size_t size);
  // What OpenSSL reads: in a light handshake no more than it asks for, from in_.
  int supply(char* into, size_t size);
  void begin_light();
  // `clean`: nothing was waiting to be sent when it began.
  void end_light_call(bool done, bool clean);
  void emit(const char* bytes, size_t size);
  // Sends what the kernel takes; how much that was. On failure all of it, with write_error_ set.
  size_t send_some(const char* bytes, size_t size);

  SSL* ssl_;
  int fd_ = -1;
  bool socket_ready_ = false;  // recv may find something
  bool peer_closed_ = false;   // the kernel has seen the peer's end
  bool more_ = false;
  bool collect_ = false;  // emit() waits for more before it sends
  bool at_end_ = false;   // recv has returned the end
  bool failed_ = false;   // nothing more can be asked of OpenSSL but to be freed
  bool ended_ = false;    // the peer's end was read, nothing written since
  bool said_goodbye_ = false;
  bool early_open_ = false;     // more early data may come
  bool early_shaking_ = false;  // and behind it the end of the handshake
  int error_ = 0;
  int write_error_ = 0;
  unsigned long failure_ = 0;
  Buffer out_;
  bool light_ = false;    // it is to leave OpenSSL after the handshake
  bool wide_ = false;     // the peer sends records that need a larger buffer
  bool closed_ = false;   // its close_notify was opened
  bool resumed_ = false;  // as are the facts below: what OpenSSL's connection knew
  uint8_t alpn_size_ = 0;
  char alpn_[15] = {};
  Buffer in_;              // what came and is not opened; in a light handshake what OpenSSL gets
  std::span<char> plain_;  // what is left of the record that was opened last, in in_
  struct Secrets {
    TlsTrafficSecret read;
    TlsTrafficSecret write;
  };
  std::unique_ptr<Secrets> secrets_;     // what on_secret() was told
  std::unique_ptr<TlsRecords> records_;  // in the place of ssl_
  const SSL_CIPHER* cipher_ = nullptr;
  X509* peer_ = nullptr;
  std::string server_name_;
  Buffer early_;  // early data that nobody has read
};

}  // namespace gatehouse
