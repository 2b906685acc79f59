// Control messages from any bytes.
//
// What must hold: decoding ends, within the limits; what it takes is encoded again to what decodes
// to the same; a refusal says why; and any text put into a reply's "error" goes out whole or cut at
// the end of a line, within the limit.
#include "core/control_message.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "support.h"

namespace {

using namespace gatehouse;
using fuzz::require;

bool same(const ControlMessage& a, const ControlMessage& b) {
  return a.kind == b.kind && a.id == b.id && a.command == b.command && a.ok == b.ok &&
         a.body == b.body;
}

void check_message(std::string_view bytes) {
  ControlMessage message;
  const Result<void> decoded = decode_control_message(bytes, message);
  if (!decoded) {
    require(!decoded.error().message.empty(), "a refusal says why");
    return;
  }
  require(bytes.size() <= kControlMessageMax, "the limit is kept");
  require(message.body.is_object(), "a body is an object");
  for (const char* key : {"v", "id", "command", "ok"}) {
    require(!message.body.contains(key), "what has a place of its own is not in the body");
  }
  const Result<std::string> encoded = encode_control_message(message);
  // Numbers may be written longer than they came: 1e0 as 1.0.
  require(encoded.ok() || bytes.size() > kControlMessageMax / 16, "what was taken can be sent");
  if (!encoded) return;
  require(encoded->size() <= kControlMessageMax, "what is sent keeps the limit");
  ControlMessage again;
  require(decode_control_message(*encoded, again).ok(), "what is sent is understood");
  const Result<std::string> twice = encode_control_message(again);
  require(encoded->size() + 64 > kControlMessageMax || same(message, again), "it is the same");
  require(twice.ok() && *twice == *encoded, "encoding is stable");
}

// The input, over and over, as the error of a reply.
void check_cutting(std::string_view piece) {
  if (piece.empty()) return;
  ControlMessage message;
  message.kind = ControlMessage::Kind::kReply;
  std::string text;
  const size_t wanted = kControlMessageMax / 2 + (piece.size() * 977) % kControlMessageMax;
  while (text.size() < wanted) text += piece;
  message.body = {{"error", text}};
  const Result<std::string> encoded = encode_control_message(message);
  require(encoded.ok() && encoded->size() <= kControlMessageMax, "an error always fits");
  ControlMessage back;
  require(decode_control_message(*encoded, back).ok(), "and is understood");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // A copy of the exact size, so that the address sanitizer sees each byte too far.
  const std::string copy(reinterpret_cast<const char*>(data), size);
  check_message(copy);
  // That takes long: a share of the inputs is enough.
  if (size > 0 && size < 256 && data[0] == ' ' && data[size - 1] % 8 == 2) check_cutting(copy);
  return 0;
}
