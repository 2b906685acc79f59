// See h2_websocket.h.
#include "http/h2_websocket.h"

#include <openssl/evp.h>
#include <openssl/rand.h>

#include <string>

#include "http/field_names.h"

namespace gatehouse {
namespace {

constexpr std::string_view kGuid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

}  // namespace

std::string_view add_websocket_key(Exchange& exchange) {
  unsigned char random[16];
  if (RAND_bytes(random, sizeof(random)) != 1) return {};
  unsigned char text[25];
  const int size = EVP_EncodeBlock(text, random, sizeof(random));
  const std::string_view key =
      exchange.arena.copy({reinterpret_cast<const char*>(text), static_cast<size_t>(size)});
  exchange.set_upstream_field("Sec-WebSocket-Key", key);
  return key;
}

bool accepts_websocket(const FieldList& response_fields, std::string_view key) {
  const std::string text = std::string(key) + std::string(kGuid);
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned digest_size = 0;
  if (EVP_Digest(text.data(), text.size(), digest, &digest_size, EVP_sha1(), nullptr) != 1) {
    return false;
  }
  unsigned char wanted[2 * EVP_MAX_MD_SIZE];
  const int size = EVP_EncodeBlock(wanted, digest, static_cast<int>(digest_size));
  const Field* found = nullptr;
  for (const Field& field : response_fields) {
    if (!equal_ignoring_case(field.name, "Sec-WebSocket-Accept")) continue;
    if (found != nullptr) return false;
    found = &field;
  }
  return found != nullptr && found->value == std::string_view(reinterpret_cast<const char*>(wanted),
                                                              static_cast<size_t>(size));
}

}  // namespace gatehouse
