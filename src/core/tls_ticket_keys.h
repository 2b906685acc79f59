// The keys under which session tickets are sealed (RFC 5077, RFC 8446 §4.6.1), in shared memory.
//
// All workers seal and open tickets with the same keys, so that a session that one of them began is
// resumed by any other, also after a reload, a crash or an upgrade: the zone lives as long as the
// segment. They are random, never on disk, and gone with it.
//
// A key seals for twelve hours and opens for thirty-six more. Then its place is overwritten, and
// who reads the memory later cannot open what was sealed with it. Whichever process first sees that
// the time is up makes the next key, under the segment's lock (a rare path: twice a day). Readers
// take no lock: each keeps a copy of the keys, and looks at one word to see whether it still
// stands. A process that dies while it writes leaves that word odd; the next one under the lock
// writes anew.
#pragma once

#include <openssl/types.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/result.h"
#include "core/shared_memory.h"

namespace gatehouse {

struct TlsTicketKey {
  std::array<uint8_t, 16> name;
  std::array<uint8_t, 32> cipher;  // AES-256-CBC
  std::array<uint8_t, 32> mac;     // HMAC-SHA256
};

class TlsTicketKeys {
 public:
  static constexpr int64_t kSealsFor = 12 * 3600;  // seconds
  static constexpr uint32_t kKept = 4;             // the one that seals and those before it
  // How long a ticket may be good, so that its key outlives it.
  static constexpr int64_t kTicketMax = kSealsFor * (kKept - 2);

  // Adopts or makes the zone, and the first key. Not on the request path.
  static Result<std::unique_ptr<TlsTicketKeys>> open(SharedMemory& shared);
  ~TlsTicketKeys();
  TlsTicketKeys(const TlsTicketKeys&) = delete;
  TlsTicketKeys& operator=(const TlsTicketKeys&) = delete;

  // The key to seal with at this time (seconds since 1970). One thread.
  const TlsTicketKey& current(int64_t now);
  // The key of that name; null where it is none of ours (any more). `*newest`: it still seals.
  const TlsTicketKey* find(const uint8_t* name, int64_t now, bool* newest);

  // Lets `context` seal and open its tickets with these keys, which must outlive its handshakes.
  // Instead of OpenSSL's own keys, which are different in each process. SSL_CTX_set_ex_data is used
  // to find them.
  void use(SSL_CTX* context);

 private:
  struct Zone;
  explicit TlsTicketKeys(SharedMemory& shared, Zone& zone) : shared_(shared), zone_(zone) {}
  void refresh(int64_t now);
  void roll(int64_t now);
  bool copy();
  static int on_ticket(SSL* ssl, unsigned char* name, unsigned char* iv, EVP_CIPHER_CTX* cipher,
                       EVP_MAC_CTX* mac, int seal);

  SharedMemory& shared_;
  Zone& zone_;
  // The copy, and which edition of the zone it is of.
  uint64_t edition_ = 0;
  int64_t seals_until_ = 0;
  std::array<TlsTicketKey, kKept> keys_{};  // newest first
  uint32_t count_ = 0;
};

}  // namespace gatehouse
