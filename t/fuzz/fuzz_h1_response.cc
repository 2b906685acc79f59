// Responses: head and framing, as the proxying side reads them.
//
// What must hold for every input: the verdict is the same for one read and for many; a response
// that is accepted is accepted with the same framing when it is written out as the gateway sends
// it to the client; no response without a body can be taken for one with a body.
//
// The first two bytes of the input seed the way it is split, the third chooses the method of the
// request that is answered.
#include <cstdint>
#include <memory>
#include <string>

#include "http/body_framing.h"
#include "http/h1_parser.h"
#include "support.h"

namespace gatehouse {
namespace {

using namespace fuzz;

struct Read {
  ParseStatus status = ParseStatus::kIncomplete;
  Reason reason = Reason::kNone;
  unsigned code = 0;
  std::string phrase;
  std::string fields;
  std::string forward;
  size_t length = 0;
  BodyLength body;
  bool keep_alive = false;
};

Read read_head(std::string_view bytes, unsigned seed, Method method) {
  Read read;
  H1ResponseParser parser;
  ResponseHead head;
  FieldList fields;
  std::unique_ptr<char[]> buffer;
  read.status = read_head_in_pieces(bytes, seed, parser, head, fields, buffer);
  read.reason = parser.reason();
  if (read.status != ParseStatus::kComplete) return read;
  require(head.status >= 100 && head.status <= 599, "the status is a status");

  ResponseFacts facts;
  read.reason = check_response(head, fields, method, facts);
  if (read.reason != Reason::kNone) {
    read.status = ParseStatus::kRefused;
    return read;
  }
  read.code = head.status;
  read.phrase = head.phrase;
  read.length = head.length;
  read.body = facts.body;
  read.keep_alive = facts.keep_alive;
  if (head.status < 200 || head.status == 204 || head.status == 304 || method == Method::kHead) {
    require(facts.body.empty() || facts.body.kind == BodyLength::Kind::kTunnel,
            "no body where none may be");
  }
  if (facts.body.kind == BodyLength::Kind::kUntilClose ||
      facts.body.kind == BodyLength::Kind::kTunnel) {
    require(!facts.keep_alive, "a connection that ends the body is not used again");
  }
  for (const Field& field : fields) {
    const std::string line = line_of(field);
    read.fields += (field.dropped ? "-" : "+") + line;
    if (!field.dropped) read.forward += line;
  }
  return read;
}

}  // namespace
}  // namespace gatehouse

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace gatehouse;
  if (size < 3) return 0;
  const unsigned seed = seed_of(data);
  const auto method = static_cast<Method>(data[2] % static_cast<unsigned>(Method::kCount));
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 3, size - 3);
  const Read whole = read_head(bytes, 0, method);
  const Read split = read_head(bytes, seed, method);
  require(whole.status == split.status && whole.reason == split.reason &&
              whole.length == split.length && whole.fields == split.fields &&
              whole.code == split.code && whole.phrase == split.phrase,
          "one read and many have the same verdict");
  if (whole.status != ParseStatus::kComplete) return 0;

  std::string forwarded = "HTTP/1.1 " + std::to_string(whole.code) + " " + whole.phrase + "\r\n";
  forwarded += framing_line(whole.body) + whole.forward + "\r\n";
  if (forwarded.size() > kHeadLimits.head_max) return 0;
  const Read again = read_head(forwarded + "HTTP/1.1 200 OK\r\n\r\n", 0, method);
  if (again.reason == Reason::kTooManyFields) return 0;
  require(again.status == ParseStatus::kComplete, "what is forwarded is well-formed");
  require(again.length == forwarded.size() && again.code == whole.code,
          "what is forwarded is one head");
  require(again.body.kind == whole.body.kind && again.body.length == whole.body.length,
          "what is forwarded has the same framing");
  return 0;
}
