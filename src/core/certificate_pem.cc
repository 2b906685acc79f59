// See certificate_pem.h.
#include "core/certificate_pem.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>

#include <cstdint>
#include <string>
#include <utility>

#include "core/certificate_key.h"

namespace gatehouse {
namespace {

// One "-----BEGIN …-----" block.
struct Block {
  char* name = nullptr;
  char* header = nullptr;
  unsigned char* data = nullptr;
  long size = 0;

  Block() = default;
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;
  ~Block() {
    OPENSSL_free(name);
    OPENSSL_free(header);
    OPENSSL_clear_free(data, static_cast<size_t>(size));
  }
  std::string_view label() const { return name; }
  std::string_view der() const {
    return {reinterpret_cast<const char*>(data), static_cast<size_t>(size)};
  }
};

// Calls visit(block) until it gives false or there is no more. The error is about a block that
// begins and does not end well.
template <typename Visit>
Result<void> each_block(std::string_view pem, Visit visit) {
  const BioOwner bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  if (bio == nullptr) return Error{"out of memory"};
  for (;;) {
    Block block;
    if (PEM_read_bio(bio.get(), &block.name, &block.header, &block.data, &block.size) != 1) {
      const unsigned long code = ERR_peek_last_error();
      const bool is_end =
          ERR_GET_LIB(code) == ERR_LIB_PEM && ERR_GET_REASON(code) == PEM_R_NO_START_LINE;
      const std::string why = take_openssl_error();
      if (is_end) return {};
      return Error{"malformed PEM: " + why};
    }
    if (!visit(block)) return {};
  }
}

bool is_key_label(std::string_view label) {
  return label == PEM_STRING_PKCS8INF || label == PEM_STRING_PKCS8 || label == PEM_STRING_RSA ||
         label == PEM_STRING_ECPRIVATEKEY || label == PEM_STRING_DSA;
}

}  // namespace

Result<std::vector<std::string>> certificates_of_pem(std::string_view pem) {
  std::vector<std::string> found;
  const Result<void> read = each_block(pem, [&found](const Block& block) {
    if (block.label() == PEM_STRING_X509 || block.label() == PEM_STRING_X509_OLD) {
      found.emplace_back(block.der());
    }
    return true;
  });
  if (!read) return read.error();
  if (found.empty()) return Error{"there is no certificate in PEM form in it"};
  return found;
}

Result<KeyOwner> key_of_pem(std::string_view pem) {
  KeyOwner key;
  std::string problem = "there is no private key in PEM form in it";
  const Result<void> read = each_block(pem, [&](const Block& block) {
    if (!is_key_label(block.label())) return true;
    if (block.label() == PEM_STRING_PKCS8 ||
        std::string_view(block.header).find("ENCRYPTED") != std::string_view::npos) {
      problem = "the key is protected by a passphrase";
      return false;
    }
    Result<KeyOwner> found = block.label() == PEM_STRING_ECPRIVATEKEY ? key_of_ec_der(block.der())
                             : block.label() == PEM_STRING_RSA        ? key_of_rsa_der(block.der())
                             : block.label() == PEM_STRING_DSA
                                 ? Result<KeyOwner>(Error{"it is a DSA key"})
                                 : key_of_pkcs8(block.der());
    if (found) {
      key = std::move(*found);
    } else {
      problem = found.error().message;
    }
    return false;
  });
  if (!read) return read.error();
  if (key == nullptr) return Error{std::move(problem)};
  return key;
}

X509Owner x509_of_der(std::string_view der) {
  const auto* at = reinterpret_cast<const uint8_t*>(der.data());
  return X509Owner(d2i_X509(nullptr, &at, static_cast<long>(der.size())));
}

}  // namespace gatehouse
