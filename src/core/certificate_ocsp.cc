// See certificate_ocsp.h.
#include "core/certificate_ocsp.h"

#include <array>
#include <ctime>
#include <memory>

#include "core/openssl_owner.h"

namespace gatehouse {
namespace {

using BasicOwner = std::unique_ptr<OCSP_BASICRESP, OpensslFree<&OCSP_BASICRESP_free>>;

std::string_view as_text(const ASN1_STRING* string) {
  return {reinterpret_cast<const char*>(ASN1_STRING_get0_data(string)),
          static_cast<size_t>(ASN1_STRING_length(string))};
}

OcspFacts::Single facts_of(OCSP_SINGLERESP* response) {
  OcspFacts::Single single;
  // The function takes no const, and changes nothing.
  auto* id = const_cast<OCSP_CERTID*>(OCSP_SINGLERESP_get0_id(response));
  ASN1_OCTET_STRING* name_hash = nullptr;
  ASN1_OBJECT* algorithm = nullptr;
  ASN1_INTEGER* serial = nullptr;
  if (OCSP_id_get0_info(&name_hash, &algorithm, nullptr, &serial, id) == 1) {
    single.issuer_hash = as_text(name_hash);
    single.digest = OBJ_obj2nid(algorithm);
    single.serial = as_text(serial);
  }
  ASN1_GENERALIZEDTIME* next = nullptr;
  single.revoked = OCSP_single_get0_status(response, nullptr, nullptr, nullptr, &next) ==
                   V_OCSP_CERTSTATUS_REVOKED;
  tm parts{};
  if (next != nullptr && ASN1_TIME_to_tm(next, &parts) == 1) single.next_update = timegm(&parts);
  return single;
}

}  // namespace

const OcspFacts::Single* OcspFacts::about(const X509& leaf) const {
  const std::string_view serial = as_text(X509_get0_serialNumber(&leaf));
  for (const Single& single : singles) {
    const EVP_MD* digest = EVP_get_digestbynid(single.digest);
    std::array<unsigned char, EVP_MAX_MD_SIZE> hash{};
    unsigned size = 0;
    if (digest == nullptr || single.serial != serial ||
        X509_NAME_digest(X509_get_issuer_name(&leaf), digest, hash.data(), &size) != 1) {
      continue;
    }
    if (single.issuer_hash == std::string_view(reinterpret_cast<char*>(hash.data()), size)) {
      return &single;
    }
  }
  return nullptr;
}

Result<OcspFacts> ocsp_facts(std::string_view der) {
  const auto* at = reinterpret_cast<const unsigned char*>(der.data());
  const OcspOwner response(d2i_OCSP_RESPONSE(nullptr, &at, static_cast<long>(der.size())));
  if (response == nullptr) {
    return Error{"it is no OCSP response: " + take_openssl_error()};
  }
  const int status = OCSP_response_status(response.get());
  if (status != OCSP_RESPONSE_STATUS_SUCCESSFUL) {
    return Error{std::string("the responder refused: ") + OCSP_response_status_str(status)};
  }
  const BasicOwner basic(OCSP_response_get1_basic(response.get()));
  if (basic == nullptr) return Error{"it is no basic OCSP response: " + take_openssl_error()};
  OcspFacts facts;
  for (int i = 0; i < OCSP_resp_count(basic.get()); ++i) {
    facts.singles.push_back(facts_of(OCSP_resp_get0(basic.get(), i)));
  }
  return facts;
}

}  // namespace gatehouse
