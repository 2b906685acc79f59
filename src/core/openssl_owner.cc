// See openssl_owner.h.
#include "core/openssl_owner.h"

#include <openssl/err.h>

namespace gatehouse {

void X509StackFree::operator()(stack_st_X509* stack) const {
  sk_X509_pop_free(stack, X509_free);
}

std::string take_openssl_error() {
  const unsigned long code = ERR_peek_last_error();
  ERR_clear_error();
  if (code == 0) return {};
  const char* reason = ERR_reason_error_string(code);
  return reason != nullptr ? reason : "error " + std::to_string(code);
}

}  // namespace gatehouse
