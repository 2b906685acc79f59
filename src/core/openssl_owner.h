// Owners of OpenSSL's objects, and its errors as text.
#pragma once

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/ocsp.h>
#include <openssl/x509.h>

#include <memory>
#include <string>

namespace gatehouse {

template <auto Free>
struct OpensslFree {
  template <typename T>
  void operator()(T* object) const {
    Free(object);
  }
};

using BioOwner = std::unique_ptr<BIO, OpensslFree<&BIO_free_all>>;
using X509Owner = std::unique_ptr<X509, OpensslFree<&X509_free>>;
using KeyOwner = std::unique_ptr<EVP_PKEY, OpensslFree<&EVP_PKEY_free>>;
using OcspOwner = std::unique_ptr<OCSP_RESPONSE, OpensslFree<&OCSP_RESPONSE_free>>;

// A STACK_OF(X509), whose certificates it owns with it.
struct X509StackFree {
  void operator()(stack_st_X509* stack) const;
};
using X509StackOwner = std::unique_ptr<stack_st_X509, X509StackFree>;

// The newest reason in this thread's queue of errors ("unsupported"), and empties the queue.
// Empty where there was none.
std::string take_openssl_error();

}  // namespace gatehouse
