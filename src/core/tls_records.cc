// Records of TLS 1.3 after the handshake; see tls_records.h.
#include "core/tls_records.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <cassert>
#include <cstring>

namespace gatehouse {

namespace {

constexpr uint8_t kAlert = 21;
constexpr uint8_t kHandshake = 22;
constexpr uint8_t kApplication = 23;
constexpr size_t kTag = 16;
constexpr uint8_t kKeyUpdate = 24;

// Fetched once: by name, OpenSSL would look them up for each connection.
struct Algorithms {
  EVP_CIPHER* aes128 = EVP_CIPHER_fetch(nullptr, "AES-128-GCM", nullptr);
  EVP_CIPHER* aes256 = EVP_CIPHER_fetch(nullptr, "AES-256-GCM", nullptr);
  EVP_CIPHER* chacha = EVP_CIPHER_fetch(nullptr, "ChaCha20-Poly1305", nullptr);
  EVP_MD* sha256 = EVP_MD_fetch(nullptr, "SHA2-256", nullptr);
  EVP_MD* sha384 = EVP_MD_fetch(nullptr, "SHA2-384", nullptr);
};
const Algorithms& algorithms() {
  static const Algorithms fetched;
  return fetched;
}

// HMAC (RFC 2104) of one short text, with a digest context that each thread keeps.
bool hmac(const EVP_MD* hash, std::span<const uint8_t> key, std::span<const uint8_t> text,
          uint8_t* out) {
  thread_local EVP_MD_CTX* context = nullptr;
  if (context == nullptr) context = EVP_MD_CTX_new();
  if (context == nullptr) return false;
  constexpr size_t kBlockMax = 128;
  const auto block = static_cast<size_t>(EVP_MD_get_block_size(hash));
  assert(block <= kBlockMax && key.size() <= block);
  uint8_t inner[kBlockMax];
  uint8_t outer[kBlockMax];
  for (size_t i = 0; i < block; ++i) {
    const uint8_t byte = i < key.size() ? key[i] : 0;
    inner[i] = byte ^ 0x36;
    outer[i] = byte ^ 0x5C;
  }
  uint8_t digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  const bool done = EVP_DigestInit_ex2(context, hash, nullptr) == 1 &&
                    EVP_DigestUpdate(context, inner, block) == 1 &&
                    EVP_DigestUpdate(context, text.data(), text.size()) == 1 &&
                    EVP_DigestFinal_ex(context, digest, &size) == 1 &&
                    EVP_DigestInit_ex2(context, hash, nullptr) == 1 &&
                    EVP_DigestUpdate(context, outer, block) == 1 &&
                    EVP_DigestUpdate(context, digest, size) == 1 &&
                    EVP_DigestFinal_ex(context, out, &size) == 1;
  OPENSSL_cleanse(inner, sizeof(inner));
  OPENSSL_cleanse(outer, sizeof(outer));
  OPENSSL_cleanse(digest, sizeof(digest));
  return done;
}

// HKDF-Expand-Label(secret, label, "", size) of RFC 8446 §7.1. REQUIRES: size is no more than that
// of the hash, so that there is one block.
bool expand_label(const EVP_MD* hash, std::span<const uint8_t> secret, std::string_view label,
                  size_t size, uint8_t* out) {
  assert(size <= static_cast<size_t>(EVP_MD_get_size(hash)));
  constexpr std::string_view kPrefix = "tls13 ";
  uint8_t info[64];
  size_t n = 0;
  info[n++] = 0;
  info[n++] = static_cast<uint8_t>(size);
  info[n++] = static_cast<uint8_t>(kPrefix.size() + label.size());
  for (const std::string_view part : {kPrefix, label}) {
    std::memcpy(info + n, part.data(), part.size());
    n += part.size();
  }
  info[n++] = 0;  // no context
  info[n++] = 1;  // the number of the block
  uint8_t block[EVP_MAX_MD_SIZE];
  if (!hmac(hash, secret, {info, n}, block)) return false;
  std::memcpy(out, block, size);
  OPENSSL_cleanse(block, sizeof(block));
  return true;
}

}  // namespace

std::unique_ptr<TlsRecords> TlsRecords::create(const SSL_CIPHER* suite,
                                               const TlsTrafficSecret& read,
                                               const TlsTrafficSecret& write) {
  const Algorithms& known = algorithms();
  std::unique_ptr<TlsRecords> records(new TlsRecords());
  switch (suite != nullptr ? SSL_CIPHER_get_protocol_id(suite) : 0) {
    case 0x1301:
      records->cipher_ = known.aes128;
      records->hash_ = known.sha256;
      break;
    case 0x1302:
      records->cipher_ = known.aes256;
      records->hash_ = known.sha384;
      break;
    case 0x1303:
      records->cipher_ = known.chacha;
      records->hash_ = known.sha256;
      break;
    default:
      return nullptr;
  }
  if (records->cipher_ == nullptr || records->hash_ == nullptr) return nullptr;
  records->key_size_ = static_cast<uint8_t>(EVP_CIPHER_get_key_length(records->cipher_));
  records->secret_size_ = static_cast<uint8_t>(EVP_MD_get_size(records->hash_));
  if (read.size != records->secret_size_ || write.size != records->secret_size_) return nullptr;
  records->read_.secret = read.bytes;
  records->read_.sequence = read.sequence;
  records->write_.secret = write.bytes;
  records->write_.sequence = write.sequence;
  if (!records->set_keys(records->read_, false) || !records->set_keys(records->write_, true)) {
    ERR_clear_error();
    return nullptr;
  }
  return records;
}

TlsRecords::~TlsRecords() {
  for (Direction* direction : {&read_, &write_}) {
    EVP_CIPHER_CTX_free(direction->context);
    OPENSSL_cleanse(direction->secret.data(), direction->secret.size());
  }
}

bool TlsRecords::set_keys(Direction& direction, bool sealing) {
  uint8_t key[32];
  const std::span<const uint8_t> secret(direction.secret.data(), secret_size_);
  if (direction.context == nullptr) direction.context = EVP_CIPHER_CTX_new();
  const bool done =
      direction.context != nullptr && expand_label(hash_, secret, "key", key_size_, key) &&
      expand_label(hash_, secret, "iv", direction.iv.size(), direction.iv.data()) &&
      EVP_CipherInit_ex2(direction.context, cipher_, key, nullptr, sealing ? 1 : 0, nullptr) == 1;
  OPENSSL_cleanse(key, sizeof(key));
  return done;
}

bool TlsRecords::update_keys(Direction& direction, bool sealing) {
  uint8_t next[EVP_MAX_MD_SIZE];
  const std::span<const uint8_t> secret(direction.secret.data(), secret_size_);
  if (!expand_label(hash_, secret, "traffic upd", secret_size_, next)) return false;
  std::memcpy(direction.secret.data(), next, secret_size_);
  OPENSSL_cleanse(next, sizeof(next));
  direction.sequence = 0;
  return set_keys(direction, sealing);
}

void TlsRecords::nonce(const Direction& direction, uint8_t* out) const {
  std::memcpy(out, direction.iv.data(), direction.iv.size());
  for (unsigned i = 0; i < 8; ++i) {
    out[11 - i] ^= static_cast<uint8_t>(direction.sequence >> (8 * i));
  }
}

TlsRecords::Opened TlsRecords::broken(uint8_t alert, std::string_view why) {
  ERR_clear_error();
  if (failure_.empty()) {
    alert_ = alert;
    failure_ = why;
  }
  return Opened::kBroken;
}

TlsRecords::Opened TlsRecords::open(std::span<char> wire, size_t* used, std::span<char>* plain) {
  *used = 0;
  *plain = {};
  if (!failure_.empty()) return Opened::kBroken;
  if (wire.size() < kHeader) return Opened::kPart;
  auto* bytes = reinterpret_cast<uint8_t*>(wire.data());
  const size_t length = size_t{bytes[3]} << 8 | bytes[4];
  // Once keys are in use everything is of this type on the outside (§5.2).
  if (bytes[0] != kApplication) return broken(SSL_AD_UNEXPECTED_MESSAGE, "unexpected record");
  if (bytes[1] != 3 || bytes[2] != 3)
    return broken(SSL_AD_PROTOCOL_VERSION, "wrong version number");
  if (length > kPlainMax + 256) return broken(SSL_AD_RECORD_OVERFLOW, "encrypted length too long");
  if (length < kTag + 1) return broken(SSL_AD_BAD_RECORD_MAC, "record too short");
  if (wire.size() < kHeader + length) return Opened::kPart;
  *used = kHeader + length;

  uint8_t iv[12];
  nonce(read_, iv);
  uint8_t* body = bytes + kHeader;
  const auto sealed = static_cast<int>(length - kTag);
  int n = 0;
  int rest = 0;
  EVP_CIPHER_CTX* context = read_.context;
  if (EVP_CipherInit_ex2(context, nullptr, nullptr, iv, -1, nullptr) != 1 ||
      EVP_CipherUpdate(context, nullptr, &n, bytes, static_cast<int>(kHeader)) != 1 ||
      EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, kTag, body + sealed) != 1 ||
      EVP_CipherUpdate(context, body, &n, body, sealed) != 1 ||
      EVP_CipherFinal_ex(context, body + n, &rest) != 1) {
    return broken(SSL_AD_BAD_RECORD_MAC, "decryption failed or bad record mac");
  }
  ++read_.sequence;
  // The type is the last byte that is not zero; what stands behind it is padding (§5.4).
  auto size = static_cast<size_t>(sealed);
  while (size > 0 && body[size - 1] == 0) --size;
  if (size == 0) return broken(SSL_AD_UNEXPECTED_MESSAGE, "a record without a type");
  const uint8_t type = body[--size];
  if (size > kPlainMax) return broken(SSL_AD_RECORD_OVERFLOW, "data length too long");
  const std::string_view content(wire.data() + kHeader, size);
  switch (type) {
    case kApplication:
      if (size == 0) {
        if (++empty_ > kEmptyMax)
          return broken(SSL_AD_UNEXPECTED_MESSAGE, "too many empty records");
        return Opened::kNothing;
      }
      empty_ = updates_ = 0;
      *plain = wire.subspan(kHeader, size);
      return Opened::kData;
    case kHandshake:
      return take_handshake(content);
    case kAlert:
      return take_alert(content);
    default:
      return broken(SSL_AD_UNEXPECTED_MESSAGE, "unexpected record");
  }
}

// A key update is the only message that a client may send, and has to be the last of its record
// (§5.1): five bytes by themselves.
TlsRecords::Opened TlsRecords::take_handshake(std::string_view message) {
  constexpr std::string_view kBegin("\x18\0\0\1", 4);
  if (message.size() != kUpdate || !message.starts_with(kBegin)) {
    return broken(SSL_AD_UNEXPECTED_MESSAGE, "unexpected message");
  }
  const char request = message[4];
  if (request != 0 && request != 1) return broken(SSL_AD_ILLEGAL_PARAMETER, "bad key update");
  // Each costs us a derivation of keys, and may be had for 27 bytes.
  if (++updates_ > kEmptyMax) return broken(SSL_AD_UNEXPECTED_MESSAGE, "too many key updates");
  if (!update_keys(read_, false)) return broken(SSL_AD_INTERNAL_ERROR, "internal error");
  if (request == 1) answer_update_ = true;
  return Opened::kNothing;
}

TlsRecords::Opened TlsRecords::take_alert(std::string_view message) {
  if (message.size() != 2) return broken(SSL_AD_DECODE_ERROR, "bad alert");
  const auto description = static_cast<uint8_t>(message[1]);
  if (description == SSL_AD_CLOSE_NOTIFY) return Opened::kEnd;
  if (description == SSL_AD_USER_CANCELLED) return Opened::kNothing;
  if (failure_.empty()) failure_ = SSL_alert_desc_string_long(description);
  return Opened::kAlert;
}

bool TlsRecords::seal_typed(std::span<const std::string_view> parts, size_t size, uint8_t type,
                            char* out) {
  assert(size <= kPlainMax);
  auto* bytes = reinterpret_cast<uint8_t*>(out);
  const size_t length = size + 1 + kTag;
  bytes[0] = kApplication;
  bytes[1] = bytes[2] = 3;
  bytes[3] = static_cast<uint8_t>(length >> 8);
  bytes[4] = static_cast<uint8_t>(length);
  uint8_t iv[12];
  nonce(write_, iv);
  EVP_CIPHER_CTX* context = write_.context;
  int n = 0;
  bool done = EVP_CipherInit_ex2(context, nullptr, nullptr, iv, -1, nullptr) == 1 &&
              EVP_CipherUpdate(context, nullptr, &n, bytes, static_cast<int>(kHeader)) == 1;
  uint8_t* at = bytes + kHeader;
  for (const std::string_view part : parts) {
    if (part.empty()) continue;
    done = done && EVP_CipherUpdate(context, at, &n, reinterpret_cast<const uint8_t*>(part.data()),
                                    static_cast<int>(part.size())) == 1;
    at += n;
  }
  done = done && EVP_CipherUpdate(context, at, &n, &type, 1) == 1;
  at += n;
  done = done && EVP_CipherFinal_ex(context, at, &n) == 1 && at + n == bytes + kHeader + size + 1 &&
         EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, kTag, at + n) == 1;
  if (!done) {
    (void)broken(SSL_AD_INTERNAL_ERROR, "internal error");
    return false;
  }
  ++write_.sequence;
  return true;
}

bool TlsRecords::seal(std::span<const std::string_view> parts, size_t size, char* out) {
  return seal_typed(parts, size, kApplication, out);
}

bool TlsRecords::seal_alert(uint8_t level, uint8_t description, char* out) {
  const char bytes[2] = {static_cast<char>(level), static_cast<char>(description)};
  const std::string_view part(bytes, sizeof(bytes));
  return seal_typed({&part, 1}, sizeof(bytes), kAlert, out);
}

bool TlsRecords::seal_update(char* out) {
  // Where it is an answer it must not ask for one.
  constexpr char kMessage[kUpdate] = {kKeyUpdate, 0, 0, 1, 0};
  const std::string_view part(kMessage, sizeof(kMessage));
  if (!seal_typed({&part, 1}, kUpdate, kHandshake, out)) return false;
  answer_update_ = false;
  if (update_keys(write_, true)) return true;
  (void)broken(SSL_AD_INTERNAL_ERROR, "internal error");
  return false;
}

}  // namespace gatehouse
