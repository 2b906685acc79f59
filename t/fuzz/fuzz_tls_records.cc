// Records of TLS after the handshake. The input is cut into contents with their types, which a peer
// seals as it should; what is left comes as it is.
//
// What must hold for every input: what was sealed as the application's opens as the same bytes; a
// key update, an alert and an empty record do what RFC 8446 says, everything else ends the
// connection; of bytes that were not sealed none is ever taken for a record.
#include "core/tls_records.h"

#include <openssl/ssl.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "support.h"

namespace gatehouse {
namespace {

using namespace fuzz;
using Opened = TlsRecords::Opened;

std::unique_ptr<TlsRecords> make(bool peer) {
  static SSL_CTX* const context = SSL_CTX_new(TLS_method());
  static SSL* const ssl = SSL_new(context);
  static const SSL_CIPHER* const suite =
      SSL_CIPHER_find(ssl, reinterpret_cast<const uint8_t*>("\x13\x01"));
  TlsTrafficSecret one;
  TlsTrafficSecret other;
  one.size = other.size = 32;
  one.bytes[0] = 1;
  return TlsRecords::create(suite, peer ? one : other, peer ? other : one);
}

void check_opened(Opened opened, uint8_t type, std::string_view content, std::string_view plain) {
  switch (type) {
    case 23:
      require(content.empty() ? opened != Opened::kData : opened == Opened::kData,
              "the application's bytes are opened");
      if (opened == Opened::kData) require(plain == content, "as they were sealed");
      break;
    case 22: {
      const bool update = content.size() == 5 &&
                          content.starts_with(std::string_view("\x18\0\0\1", 4)) &&
                          (content[4] == 0 || content[4] == 1);
      require((opened == Opened::kNothing || opened == Opened::kBroken) &&
                  (update || opened == Opened::kBroken),
              "no message but a key update is taken");
      break;
    }
    case 21:
      require(opened != Opened::kData && (content.size() == 2 || opened == Opened::kBroken),
              "an alert has two bytes");
      break;
    default:
      require(opened == Opened::kBroken, "no other type is taken");
  }
}

}  // namespace
}  // namespace gatehouse

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace gatehouse;
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  const std::unique_ptr<TlsRecords> peer = make(true);
  const std::unique_ptr<TlsRecords> records = make(false);
  require(peer != nullptr && records != nullptr, "records can be made");
  for (int count = 0; count < 100 && rest.size() >= 2; ++count) {
    const auto type = static_cast<uint8_t>(rest[0]);
    // A type of zero would be padding, and what stands before it the type.
    if (type == 0) break;
    const auto length =
        std::min(rest.size() - 2, static_cast<size_t>(static_cast<uint8_t>(rest[1])));
    const std::string_view content = rest.substr(2, length);
    rest.remove_prefix(2 + length);
    std::string wire(TlsRecords::wire_size(length), ' ');
    require(peer->seal_typed({&content, 1}, length, type, wire.data()), "the peer seals");
    size_t used = 0;
    std::span<char> plain;
    std::string half = wire.substr(0, wire.size() - 1);
    require(records->open(half, &used, &plain) == Opened::kPart && used == 0,
            "a part is no record");
    const Opened opened = records->open(wire, &used, &plain);
    check_opened(opened, type, content, {plain.data(), plain.size()});
    if (opened != Opened::kData && opened != Opened::kNothing) return 0;
    require(used == wire.size(), "all of it is used");
    // The peer goes over to its next key too.
    if (type == 22) return 0;
  }
  std::string wire(rest);
  size_t used = 0;
  std::span<char> plain;
  const Opened opened = records->open(wire, &used, &plain);
  require(opened == Opened::kPart || opened == Opened::kBroken, "what nobody sealed does not open");
  return 0;
}
