// Answers over HTTP/2: whatever a target sends to the client's side.
//
// What must hold for every input: no head or body beyond its limit; an answer that is whole has the
// length that it announced; field lines are what the parser of heads takes, so that nothing in them
// can become another line; every transfer ends when the connection does.
//
// The first two bytes of the input seed the way it is split. Frames follow; the settings that begin
// a connection are made up where the input does not have them.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <random>
#include <string>

#include "http/body_framing.h"
#include "http/h1_parser.h"
#include "http/h2_codec.h"
#include "support.h"

namespace gatehouse {
namespace {

using namespace fuzz;
using End = H2Transfer::End;

constexpr H2Limits kLimits{.head_max = 2000, .fields_max = 20, .window = 65'536};
constexpr size_t kTransfers = 3;

nghttp2_nv line(std::string_view name, std::string_view value) {
  return {reinterpret_cast<uint8_t*>(const_cast<char*>(name.data())),
          reinterpret_cast<uint8_t*>(const_cast<char*>(value.data())), name.size(), value.size(),
          NGHTTP2_NV_FLAG_NONE};
}

void check_lines(std::string_view lines, FieldList& fields) {
  require(lines.size() <= kLimits.head_max + 2, "a head within its limit");
  FieldSectionParser section;
  section.reset(0);
  require(section.parse(lines, kLimits.fields_max, fields) == ParseStatus::kComplete &&
              section.end() == lines.size(),
          "lines are one section");
  size_t count = 0;
  for (size_t at = 0; (at = lines.find("\r\n", at)) != std::string_view::npos; at += 2) ++count;
  require(count == fields.size() + 1, "each line is one field");
}

struct Asked {
  Arena arena;
  H2Transfer transfer{arena};
  size_t body = 0;
  bool head_seen = false;
};

void look(H2Codec& codec, Asked& asked) {
  H2Transfer& transfer = asked.transfer;
  require(transfer.body_size() <= kLimits.window, "a body within the window");
  while (transfer.has_interim()) {
    const H2Transfer::Head interim = transfer.take_interim();
    require(interim.status >= 100 && interim.status < 200, "an interim status");
    FieldList fields;
    check_lines(interim.lines, fields);
  }
  while (transfer.body_size() != 0) {
    require(transfer.has_head(), "no body before the head");
    const size_t size = transfer.take_body().size();
    asked.body += size;
    codec.release(transfer, size);
  }
  if (!transfer.has_head() || transfer.end() != End::kWhole || asked.head_seen) return;
  asked.head_seen = true;
  FieldList fields;
  check_lines(transfer.head().lines, fields);
  const ResponseHead head{transfer.head().status, 1, {}, 0};
  require(head.status >= 200 && head.status <= 599, "a final status");
  ResponseFacts facts;
  if (check_response(head, fields, Method::kGet, facts) != Reason::kNone) return;
  if (facts.body.kind == BodyLength::Kind::kLength) {
    require(facts.body.length == asked.body, "a whole answer has its length");
  }
  if (facts.body.kind == BodyLength::Kind::kNone) require(asked.body == 0, "no body, none came");
  if (!transfer.trailers().empty()) {
    FieldList trailers;
    check_lines(transfer.trailers(), trailers);
  }
}

}  // namespace
}  // namespace gatehouse

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace gatehouse;
  if (size < 2) return 0;
  const unsigned seed = seed_of(data);
  std::string bytes(reinterpret_cast<const char*>(data) + 2, size - 2);
  // SETTINGS, empty.
  if (bytes.size() < 4 || bytes[3] != 4) bytes.insert(0, std::string("\0\0\0\4\0\0\0\0\0", 9));
  std::minstd_rand random(seed);

  std::unique_ptr<Asked> asked[kTransfers];
  H2Codec codec(kLimits);
  Buffer out(BufferClass::kBulk);
  const nghttp2_nv request[] = {line(":method", "GET"), line(":scheme", "http"),
                                line(":authority", "a"), line(":path", "/")};
  for (size_t i = 0; i < kTransfers; ++i) {
    asked[i] = std::make_unique<Asked>();
    require(codec.open(asked[i]->transfer, request, i == 1), "a new request has a number");
  }
  codec.offer(asked[1]->transfer, "some of the body", seed % 2 == 0, nullptr);
  codec.fill(out);
  out.clear();
  bool alive = true;
  for (size_t at = 0; at < bytes.size() && alive;) {
    const size_t piece = std::min<size_t>(bytes.size() - at, 1 + random() % (seed % 97 + 1));
    // A copy of the exact size, so that a byte too far is found.
    const auto copy = std::make_unique<char[]>(piece);
    std::copy_n(bytes.data() + at, piece, copy.get());
    alive = codec.feed({copy.get(), piece}, Moment{static_cast<int64_t>(at)});
    at += piece;
    codec.fill(out);
    out.clear();
    while (codec.next_changed() != nullptr) {
    }
    for (const auto& one : asked) {
      if (one != nullptr) look(codec, *one);
    }
    if (random() % 64 == 0) asked[random() % kTransfers].reset();
  }
  codec.lose();
  for (const auto& one : asked) {
    if (one == nullptr) continue;
    require(one->transfer.end() != H2Transfer::End::kOpen, "every transfer ends");
    look(codec, *one);
  }
  return 0;
}
