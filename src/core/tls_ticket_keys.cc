// Keys of session tickets; see tls_ticket_keys.h.
#include "core/tls_ticket_keys.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <cstring>
#include <ctime>
#include <new>

#include "core/log.h"

namespace gatehouse {

namespace {

constexpr size_t kKeyBytes = sizeof(TlsTicketKey);
constexpr size_t kWords = kKeyBytes / sizeof(uint64_t);
static_assert(kKeyBytes == 80 && kWords * sizeof(uint64_t) == kKeyBytes);

// Where a context keeps the pointer to its keys.
int context_index() {
  static const int index = SSL_CTX_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
  return index;
}

// Fetched once: by name, OpenSSL would look them up for each ticket.
struct Algorithms {
  EVP_CIPHER* cipher = EVP_CIPHER_fetch(nullptr, "AES-256-CBC", nullptr);
};
const Algorithms& algorithms() {
  static const Algorithms fetched;
  return fetched;
}

}  // namespace

// Bytes are kept as atomic words, because a reader may copy them while they are overwritten (and
// then throws them away).
struct TlsTicketKeys::Zone {
  std::atomic<uint64_t> edition;     // odd: being written; 0: no key yet
  std::atomic<int64_t> seals_until;  // of the newest
  std::atomic<uint64_t> count;
  std::atomic<uint64_t> words[kKept][kWords];  // newest first
};

Result<std::unique_ptr<TlsTicketKeys>> TlsTicketKeys::open(SharedMemory& shared) {
  static_assert(ZoneLayout<Zone> && std::atomic<uint64_t>::is_always_lock_free);
  Result<std::span<std::byte>> zone =
      shared.adopt_or_create_zone("tls.ticket_keys", "tls.ticket_keys", 1, sizeof(Zone));
  if (!zone) return Error{"the keys of session tickets: " + zone.error().message};
  std::unique_ptr<TlsTicketKeys> keys(
      new TlsTicketKeys(shared, *std::launder(reinterpret_cast<Zone*>(zone->data()))));
  keys->refresh(std::time(nullptr));
  if (keys->count_ == 0) return Error{"cannot make a key for session tickets"};
  return keys;
}

TlsTicketKeys::~TlsTicketKeys() {
  OPENSSL_cleanse(keys_.data(), sizeof(keys_));
}

bool TlsTicketKeys::copy() {
  const uint64_t before = zone_.edition.load(std::memory_order_acquire);
  if (before == 0 || before % 2 != 0) return false;
  std::array<TlsTicketKey, kKept> keys{};
  const auto count =
      static_cast<uint32_t>(std::min<uint64_t>(zone_.count.load(std::memory_order_relaxed), kKept));
  const int64_t seals_until = zone_.seals_until.load(std::memory_order_relaxed);
  for (uint32_t i = 0; i < count; ++i) {
    uint64_t words[kWords];
    for (size_t word = 0; word < kWords; ++word) {
      words[word] = zone_.words[i][word].load(std::memory_order_relaxed);
    }
    std::memcpy(&keys[i], words, kKeyBytes);
  }
  std::atomic_thread_fence(std::memory_order_acquire);
  if (zone_.edition.load(std::memory_order_relaxed) != before) return false;
  keys_ = keys;
  count_ = count;
  seals_until_ = seals_until;
  edition_ = before;
  return true;
}

void TlsTicketKeys::refresh(int64_t now) {
  // The clock may have been set back: a key that seals until the day after tomorrow is no use.
  const auto good = [&] { return seals_until_ > now && seals_until_ <= now + kSealsFor; };
  if (zone_.edition.load(std::memory_order_acquire) == edition_ && good()) return;
  if (zone_.edition.load(std::memory_order_acquire) != edition_ && copy() && good()) return;
  roll(now);
}

void TlsTicketKeys::roll(int64_t now) {
  TlsTicketKey fresh;
  if (RAND_bytes(reinterpret_cast<unsigned char*>(&fresh), sizeof(fresh)) != 1) {
    GH_LOG(kError, "session tickets: no random bytes for a new key");
    return;
  }
  const Result<SharedMemory::Lock> lock = shared_.lock();
  if (!lock) {
    GH_LOG(kError, "session tickets: {}", lock.error().message);
    return;
  }
  // Another process may have been faster, or have died over it.
  const uint64_t edition = zone_.edition.load(std::memory_order_acquire);
  const bool torn = edition % 2 != 0;
  if (!torn && edition != 0 && copy() && seals_until_ > now && seals_until_ <= now + kSealsFor) {
    return;
  }
  zone_.edition.store(edition | 1, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release);
  const uint64_t old = std::min<uint64_t>(zone_.count.load(std::memory_order_relaxed), kKept);
  // What a dead writer left may be half of one key and half of another: no ticket has such a name.
  for (uint64_t i = std::min<uint64_t>(old, kKept - 1); i > 0; --i) {
    for (size_t word = 0; word < kWords; ++word) {
      zone_.words[i][word].store(zone_.words[i - 1][word].load(std::memory_order_relaxed),
                                 std::memory_order_relaxed);
    }
  }
  uint64_t words[kWords];
  std::memcpy(words, &fresh, kKeyBytes);
  OPENSSL_cleanse(&fresh, sizeof(fresh));
  for (size_t word = 0; word < kWords; ++word) {
    zone_.words[0][word].store(words[word], std::memory_order_relaxed);
  }
  OPENSSL_cleanse(words, sizeof(words));
  zone_.count.store(std::min<uint64_t>(old + 1, kKept), std::memory_order_relaxed);
  zone_.seals_until.store(now + kSealsFor, std::memory_order_relaxed);
  zone_.edition.store((edition | 1) + 1, std::memory_order_release);
  (void)copy();
}

const TlsTicketKey& TlsTicketKeys::current(int64_t now) {
  refresh(now);
  return keys_[0];
}

const TlsTicketKey* TlsTicketKeys::find(const uint8_t* name, int64_t now, bool* newest) {
  refresh(now);
  for (uint32_t i = 0; i < count_; ++i) {
    if (std::memcmp(keys_[i].name.data(), name, keys_[i].name.size()) != 0) continue;
    *newest = i == 0;
    return &keys_[i];
  }
  return nullptr;
}

void TlsTicketKeys::use(SSL_CTX* context) {
  SSL_CTX_set_ex_data(context, context_index(), this);
  SSL_CTX_set_tlsext_ticket_key_evp_cb(context, &TlsTicketKeys::on_ticket);
}

int TlsTicketKeys::on_ticket(SSL* ssl, unsigned char* name, unsigned char* iv,
                             EVP_CIPHER_CTX* cipher, EVP_MAC_CTX* mac, int seal) {
  auto* keys =
      static_cast<TlsTicketKeys*>(SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), context_index()));
  const int64_t now = std::time(nullptr);
  const TlsTicketKey* key = nullptr;
  bool newest = true;
  if (seal != 0) {
    key = &keys->current(now);
    std::memcpy(name, key->name.data(), key->name.size());
    if (RAND_bytes(iv, 16) != 1) return -1;
  } else {
    key = keys->find(name, now, &newest);
    if (key == nullptr) return 0;  // a full handshake, and a new ticket
  }
  char digest[] = "SHA256";
  const OSSL_PARAM parameters[] = {
      OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
      OSSL_PARAM_construct_end()};
  if (EVP_MAC_init(mac, key->mac.data(), key->mac.size(), parameters) != 1) return -1;
  const EVP_CIPHER* algorithm = algorithms().cipher;
  const int ready = seal != 0
                        ? EVP_EncryptInit_ex(cipher, algorithm, nullptr, key->cipher.data(), iv)
                        : EVP_DecryptInit_ex(cipher, algorithm, nullptr, key->cipher.data(), iv);
  if (ready != 1) return -1;
  if (seal != 0) return 1;
  // In TLS 1.3 a ticket is for one use (RFC 8446 §C.4), so the client needs another.
  return newest && SSL_version(ssl) != TLS1_3_VERSION ? 1 : 2;
}

}  // namespace gatehouse
