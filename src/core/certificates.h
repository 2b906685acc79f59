// CertificateSet: the certificates that serve, found by server name, parsed when first used.
//
// A set is a view of one sealed *certificate bundle* (core/certificate_bundle.h): the DER bytes of
// all certificates and keys of one reading, with an index by name. All workers map the same pages,
// and what nobody asks for is never parsed, so that ten thousand certificates cost a worker little
// more than one. The checker has verified everything in it before any worker sees it.
//
// A [certificate NAME] section is one Certificate. Its number is its place among the sections, from
// 0, and stays the same as long as the generation does, also when the bytes are swapped alone
// (`gatehouse certificate reload`). Whoever shows certificates (a listener's TLS, an upstream's
// client certificate) therefore keeps numbers (CertificateScope) and a reference to the
// generation's CertificateHolder, and asks that for the set at each handshake:
//
//   const CertificateSet* set = generation.certificates().get();
//   const std::optional<uint32_t> number = set->find(scope, server_name);  // none: unknown name
//   const std::optional<CertificateEntry> entry = set->entry_for(*number, {.rsa = false});
//   const CertificateMaterial* material = set->material(*entry);  // parsed now, or earlier
//   SSL_use_cert_and_key(ssl, material->leaf, material->key, material->chain, 1);
//
// What OpenSSL is given it holds by its own counts: a set can be replaced and freed while
// connections made with it live. find() and the entries are immutable; material() fills a cache and
// belongs to one thread, the loop's.
#pragma once

#include <openssl/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

struct stack_st_X509;

namespace gatehouse {

enum class KeyKind : uint8_t { kEcdsa, kRsa, kEd25519 };
std::string_view key_kind_name(KeyKind kind);  // "ecdsa", "rsa", "ed25519"

// Which kinds of keys a client can verify signatures of.
struct KeyKinds {
  bool ecdsa = true;
  bool rsa = true;
  bool ed25519 = false;
  bool has(KeyKind kind) const {
    return kind == KeyKind::kEcdsa ? ecdsa : kind == KeyKind::kRsa ? rsa : ed25519;
  }
};

// One certificate with its key, as the index knows it: nothing is parsed for this. The texts live
// as long as the set.
struct CertificateEntry {
  uint32_t number = 0;       // of this entry in its set, for material()
  uint32_t certificate = 0;  // the number of its section
  KeyKind kind = KeyKind::kEcdsa;
  bool has_ocsp = false;
  int64_t not_before = 0;  // seconds since 1970
  int64_t not_after = 0;
  std::string_view fingerprint;  // SHA-256 of the leaf, 64 hex digits
  std::string_view serial;       // hex digits
  std::string_view subject;      // RFC 2253, UTF-8
  std::string_view issuer;
};

// What OpenSSL takes. Owned by the set; OpenSSL's functions take their own references.
struct CertificateMaterial {
  X509* leaf = nullptr;
  stack_st_X509* chain = nullptr;  // STACK_OF(X509), without the leaf; empty, never null
  EVP_PKEY* key = nullptr;
  std::string_view ocsp;  // DER of an OCSPResponse for the leaf; empty: none
};

// Which sections a listener shows. The first is what it shows where a name is unknown or missing.
class CertificateScope {
 public:
  // All of a generation's.
  CertificateScope() = default;
  // These, in this order; not empty.
  explicit CertificateScope(std::vector<uint32_t> numbers);

  bool has(uint32_t number) const;
  uint32_t fallback() const { return fallback_; }

 private:
  bool all_ = true;
  uint32_t fallback_ = 0;
  std::vector<uint32_t> sorted_;
};

class CertificateSet {
 public:
  // Maps the bundle; `fd` stays the caller's and may be closed. Fails where it is not sealed or not
  // well formed.
  static Result<std::shared_ptr<const CertificateSet>> from_bundle(int fd);
  ~CertificateSet();
  CertificateSet(const CertificateSet&) = delete;
  CertificateSet& operator=(const CertificateSet&) = delete;

  uint32_t edition() const;  // the master's number of this reading; grows with each
  size_t size() const;       // sections

  // By server name (SNI; case does not matter): the exact name before the wildcard that covers its
  // first label; of several sections with the same name the one written first. O(1). None: no
  // section of the scope has the name.
  std::optional<uint32_t> find(const CertificateScope& scope, std::string_view server_name) const;

  // The best entry of a section that the client can verify: ECDSA before Ed25519 before RSA. None:
  // it has only others. (Showing entries_of()[0] then gives the client the reason.)
  std::optional<CertificateEntry> entry_for(uint32_t certificate, KeyKinds kinds) const;

  // All of these are empty where there is no such section.
  std::string_view name_of(uint32_t certificate) const;  // of [certificate NAME]
  // What it is shown for: lower case, "*.example.com" for a wildcard.
  std::vector<std::string_view> names_of(uint32_t certificate) const;
  std::vector<CertificateEntry> entries_of(uint32_t certificate) const;  // best first

  // Of the names of all sections: two sets with the same are about the same sections
  // (sections_hash_of() in core/certificate_conf.h gives that of a configuration).
  uint64_t sections_hash() const;
  // Numbers of the sections whose certificates, keys or OCSP responses differ from those of
  // `before`, which is about the same sections.
  std::vector<uint32_t> changed_since(const CertificateSet& before) const;
  // Takes over what `before` has parsed of that which is the same here. Loop's thread.
  void adopt_parsed(const CertificateSet& before) const;
  size_t parsed() const;  // entries that have been

  // Parsed on the first call. Null where that fails (the log says why), which only a lack of memory
  // can bring about. REQUIRES: `entry` is of this set.
  const CertificateMaterial* material(const CertificateEntry& entry) const;

 private:
  struct State;
  explicit CertificateSet(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// Where the users of a generation find the set that serves now. Its address is as stable as the
// generation; the set is exchanged on the loop's thread.
class CertificateHolder {
 public:
  // Null in a generation that no worker has bound (-t, explain), or that has no certificate.
  const CertificateSet* get() const { return set_.get(); }
  // Gives back the set that was there before.
  std::shared_ptr<const CertificateSet> exchange(std::shared_ptr<const CertificateSet> next) {
    set_.swap(next);
    return next;
  }

 private:
  std::shared_ptr<const CertificateSet> set_;
};

}  // namespace gatehouse
