// Request id: one name for an exchange, the same in every log line, error reply and upstream.
//
//   [route app]
//   request_id = both
//
// A trusted proxy's X-Request-ID is kept where it is 1 to 128 visible ASCII characters without
// quotes, commas or backslashes; anything else, and everybody else's, is replaced by 32 hex digits
// from a generator that each worker seeds from the kernel. The ids are unique, not secret.
//
// Nothing is shared. The id is made for every exchange, because logs and error replies name it;
// the directive only says who is told.
#include <sys/random.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <string_view>

#include "http/module.h"
#include "http/route.h"
#include "modules/registry.h"

namespace gatehouse {

namespace {

enum class TellWhom : uint8_t { kOff, kUpstream, kClient, kBoth };

}  // namespace

constexpr EnumName<TellWhom> kTellWhomNames[] = {
    {TellWhom::kOff, "off"},
    {TellWhom::kUpstream, "upstream"},
    {TellWhom::kClient, "client"},
    {TellWhom::kBoth, "both"},
};
template <>
struct ValueType<TellWhom> : EnumValueType<TellWhom, kTellWhomNames> {};

namespace {

struct RequestIdConf {
  TellWhom request_id = TellWhom::kUpstream;
};

// xoshiro256++ (public domain, Blackman and Vigna): fast, and far more than unique enough.
struct Generator {
  uint64_t state[4] = {};
  bool seeded = false;

  static uint64_t rotate(uint64_t x, int k) { return (x << k) | (x >> (64 - k)); }
  uint64_t next() {
    const uint64_t result = rotate(state[0] + state[3], 23) + state[0];
    const uint64_t t = state[1] << 17;
    state[2] ^= state[0];
    state[3] ^= state[1];
    state[1] ^= state[2];
    state[0] ^= state[3];
    state[2] ^= t;
    state[3] = rotate(state[3], 45);
    return result;
  }
};

thread_local constinit Generator generator{};

void seed(Generator& into) {
  if (getrandom(into.state, sizeof(into.state), 0) != sizeof(into.state)) {
    // No kernel that we run on fails here; should one, addresses and ids still differ by process.
    into.state[0] = static_cast<uint64_t>(getpid());
    into.state[1] = reinterpret_cast<uintptr_t>(&into);
    into.state[2] = 0x9E3779B97F4A7C15U;
  }
  into.seeded = true;
}

// Sixteen hex digits for 64 bits, eight at a time: each nibble is spread to a byte of its own, and
// gets '0', or the distance to 'a' more where it is above 9. The order of digits does not matter
// here, so even and odd nibbles need not be brought together.
void write_hex(char* to, uint64_t value) {
  for (const uint64_t nibbles : {value, value >> 4}) {
    uint64_t x = nibbles & 0x0F0F0F0F0F0F0F0FU;
    const uint64_t above_nine = (x + 0x0606060606060606U) >> 4 & 0x0101010101010101U;
    x += 0x3030303030303030U + above_nine * ('a' - '0' - 10);
    std::memcpy(to, &x, sizeof(x));
    to += sizeof(x);
  }
}

bool is_usable(std::string_view id) {
  if (id.empty() || id.size() > 128) return false;
  for (const char c : id) {
    if (c <= ' ' || c > '~' || c == '"' || c == ',' || c == '\\') return false;
  }
  return true;
}

Verdict identify(Exchange& exchange, const void*) {
  const Field* given = exchange.request.fields.find(FieldId::kXRequestId);
  if (given != nullptr && exchange.peer_trusted && is_usable(given->value)) {
    exchange.request_id = given->value;
  } else {
    if (!generator.seeded) [[unlikely]]
      seed(generator);
    char* text = exchange.arena.bytes(32);
    for (int i = 0; i < 32; i += 16) write_hex(text + i, generator.next());
    exchange.request_id = {text, 32};
  }
  if (given != nullptr) exchange.request.fields.drop(FieldId::kXRequestId);
  return Verdict::kContinue;
}

Verdict tell_upstream(Exchange& exchange, const void*) {
  exchange.request.added.push(
      Field{"X-Request-ID", exchange.request_id, FieldId::kXRequestId, false});
  return Verdict::kContinue;
}

Verdict tell_client(Exchange& exchange, const void*) {
  exchange.response.fields.drop(FieldId::kXRequestId);
  exchange.response.added.push(
      Field{"X-Request-ID", exchange.request_id, FieldId::kXRequestId, false});
  return Verdict::kContinue;
}

constexpr Directive kDirectives[] = {
    directive<&RequestIdConf::request_id>("request_id",
                                          "Who is told the request's id in X-Request-ID.", "both"),
};

constexpr DirectiveTable kTable = directive_table<RequestIdConf>("route", kDirectives);
constexpr const DirectiveTable* kTables[] = {&kTable};

Result<void> compile(RouteBuilder& builder) {
  const TellWhom whom = builder.section().get<RequestIdConf>(kTable).request_id;
  builder.add_hook(Phase::kIdentify, &identify, nullptr, kTable, {});
  if (whom == TellWhom::kUpstream || whom == TellWhom::kBoth) {
    builder.add_hook(Phase::kRewrite, &tell_upstream, nullptr, kTable, "request_id");
  }
  if (whom == TellWhom::kClient || whom == TellWhom::kBoth) {
    builder.add_hook(Phase::kRespond, &tell_client, nullptr, kTable, "request_id");
  }
  return {};
}

}  // namespace

constinit const Module kRequestIdModule = {"request_id", kTables, &compile};

}  // namespace gatehouse
