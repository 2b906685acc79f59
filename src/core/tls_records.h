// TlsRecords: the records of a TLS 1.3 connection after its handshake (RFC 8446 §5), without
// OpenSSL's connection.
//
// What OpenSSL keeps for a connection is 14 KB, of which nearly all is there for handshakes. A
// server's connection needs no other once it has shaken hands: what is left is sealing and opening
// records with two keys. So the keys are taken over (as OpenSSL itself hands them to a kernel that
// can do this), and its connection is freed. The cipher stays OpenSSL's (EVP).
//
// Of the messages that may come after a handshake a client sends key updates only; they are
// answered as RFC 8446 §4.6.3 asks. Our own keys are updated long before a key has sealed as much
// as §5.5 allows. All else is an error, as are records that are too long, empty ones in a row, and
// what does not open; after an error nothing more is sealed or opened.
#pragma once

#include <openssl/ssl.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace gatehouse {

// What the handshake has come to, for one direction.
struct TlsTrafficSecret {
  std::array<uint8_t, 48> bytes{};
  uint8_t size = 0;       // that of the suite's hash; 0: unknown
  uint64_t sequence = 0;  // records that went under it so far
};

class TlsRecords {
 public:
  static constexpr size_t kHeader = 5;
  static constexpr size_t kPlainMax = 16 * 1024;
  // Header, type and tag.
  static constexpr size_t kOverhead = kHeader + 1 + 16;
  // The longest record that may come.
  static constexpr size_t kWireMax = kHeader + kPlainMax + 256;

  // Null where the suite is none of TLS 1.3's usual three, or memory is short.
  static std::unique_ptr<TlsRecords> create(const SSL_CIPHER* suite, const TlsTrafficSecret& read,
                                            const TlsTrafficSecret& write);
  ~TlsRecords();
  TlsRecords(const TlsRecords&) = delete;
  TlsRecords& operator=(const TlsRecords&) = delete;

  enum class Opened : uint8_t {
    kData,     // bytes of the application
    kNothing,  // a message that was dealt with, or an empty record
    kPart,     // the record is not whole yet
    kEnd,      // close_notify
    kAlert,    // the peer gives up
    kBroken,   // what it sent cannot be; alert() says how
  };
  // Opens the first record of `wire` in place: `*used` bytes of it are done with, `*plain` is what
  // was in it.
  Opened open(std::span<char> wire, size_t* used, std::span<char>* plain);

  // How long a record with so much in it is. REQUIRES: size <= kPlainMax.
  static constexpr size_t wire_size(size_t size) { return size + kOverhead; }
  // Seals the parts as one record of application data into `out`, which has room for it. False on
  // failure. REQUIRES: together they are `size` bytes.
  bool seal(std::span<const std::string_view> parts, size_t size, char* out);
  // The same with any content type; what only peers would send, for the tests.
  bool seal_typed(std::span<const std::string_view> parts, size_t size, uint8_t type, char* out);
  // The same for an alert (RFC 8446 §6): wire_size(2) bytes.
  bool seal_alert(uint8_t level, uint8_t description, char* out);

  // A key update that the peer asked for, or that is due, has to be sent before anything else:
  // wire_size(kUpdate) bytes.
  static constexpr size_t kUpdate = 5;
  bool update_due() const { return answer_update_ || write_.sequence >= kUpdateAfter; }
  bool seal_update(char* out);

  // The alert that tells the peer what was broken; 0: none.
  uint8_t alert() const { return alert_; }
  // Why it ended, for the error log.
  std::string_view failure() const { return failure_; }

 private:
  // Records under one key; §5.5 allows 2^24.5 full ones for AES-GCM.
  static constexpr uint64_t kUpdateAfter = uint64_t{1} << 23;
  static constexpr uint32_t kEmptyMax = 32;

  struct Direction {
    EVP_CIPHER_CTX* context = nullptr;
    std::array<uint8_t, 12> iv{};
    std::array<uint8_t, 48> secret{};
    uint64_t sequence = 0;
  };

  TlsRecords() = default;
  bool set_keys(Direction& direction, bool sealing);
  bool update_keys(Direction& direction, bool sealing);
  void nonce(const Direction& direction, uint8_t* out) const;
  Opened take_handshake(std::string_view message);
  Opened take_alert(std::string_view message);
  Opened broken(uint8_t alert, std::string_view why);

  const EVP_MD* hash_ = nullptr;
  const EVP_CIPHER* cipher_ = nullptr;
  uint8_t secret_size_ = 0;
  uint8_t key_size_ = 0;
  uint8_t alert_ = 0;
  bool answer_update_ = false;
  uint32_t empty_ = 0;    // records without content in a row
  uint32_t updates_ = 0;  // key updates of the peer since it last sent bytes
  std::string_view failure_;
  Direction read_;
  Direction write_;
};

}  // namespace gatehouse
