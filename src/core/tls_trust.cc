// Stores of authorities; see tls_trust.h.
#include "core/tls_trust.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <climits>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "core/tls_profile.h"

namespace gatehouse {

namespace {

struct FreeBio {
  void operator()(BIO* bio) const { BIO_free(bio); }
};

// By the texts. A store that nobody has any more is made anew.
struct Shared {
  std::mutex mutex;
  std::map<std::pair<std::string, std::string>, std::weak_ptr<X509_STORE>> stores;
};

Shared& shared() {
  static Shared* const all = new Shared;
  return *all;
}

// True where reading ended because there is no more, and not in the middle of something.
bool ended_well() {
  const unsigned long last = ERR_peek_last_error();
  const bool well = last == 0 || (ERR_GET_LIB(last) == ERR_LIB_PEM &&
                                  ERR_GET_REASON(last) == PEM_R_NO_START_LINE);
  if (well) ERR_clear_error();
  return well;
}

}  // namespace

Result<TlsTrust> load_trust(std::string_view pem, std::string_view crl_pem) {
  Shared& all = shared();
  std::pair<std::string, std::string> key(pem, crl_pem);
  {
    const std::lock_guard<std::mutex> lock(all.mutex);
    if (const auto found = all.stores.find(key); found != all.stores.end()) {
      if (TlsTrust store = found->second.lock(); store != nullptr) return store;
    }
  }
  if (pem.size() > INT_MAX || crl_pem.size() > INT_MAX) return Error{"too large"};
  ERR_clear_error();
  TlsTrust store(X509_STORE_new(), &X509_STORE_free);
  const std::unique_ptr<BIO, FreeBio> bio(
      BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  if (store == nullptr || bio == nullptr) return tls_error("out of memory");
  size_t count = 0;
  // As in OpenSSL's own files, a certificate may carry a note of what it is trusted for.
  while (X509* x509 = PEM_read_bio_X509_AUX(bio.get(), nullptr, nullptr, nullptr)) {
    const bool added = X509_STORE_add_cert(store.get(), x509) == 1;
    X509_free(x509);
    if (!added) return tls_error("certificate " + std::to_string(count + 1));
    ++count;
  }
  if (!ended_well()) return tls_error("certificate " + std::to_string(count + 1));
  if (count == 0) return Error{"there is no certificate in it"};
  if (!crl_pem.empty()) {
    const std::unique_ptr<BIO, FreeBio> lists(
        BIO_new_mem_buf(crl_pem.data(), static_cast<int>(crl_pem.size())));
    if (lists == nullptr) return tls_error("out of memory");
    count = 0;
    while (X509_CRL* crl = PEM_read_bio_X509_CRL(lists.get(), nullptr, nullptr, nullptr)) {
      const bool added = X509_STORE_add_crl(store.get(), crl) == 1;
      X509_CRL_free(crl);
      if (!added) return tls_error("revocation list " + std::to_string(count + 1));
      ++count;
    }
    if (!ended_well()) return tls_error("revocation list " + std::to_string(count + 1));
    if (count == 0) return Error{"there is no revocation list in it"};
    X509_STORE_set_flags(store.get(), X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
  }
  const std::lock_guard<std::mutex> lock(all.mutex);
  std::erase_if(all.stores, [](const auto& entry) { return entry.second.expired(); });
  all.stores[std::move(key)] = store;
  return store;
}

}  // namespace gatehouse
