// Requests: head, target, framing and chunked body, as a session reads them.
//
// What must hold for every input: the verdict is the same for one read and for many; a request
// that is accepted is still accepted, with the same meaning, when it is written out in the form in
// which the gateway forwards it; and what is written holds exactly one request.
//
// The first two bytes of the input seed the way it is split into reads.
#include <cstdint>
#include <memory>
#include <string>

#include "http/body_framing.h"
#include "http/chars.h"
#include "http/chunked.h"
#include "http/h1_parser.h"
#include "http/target.h"
#include "support.h"

namespace gatehouse {
namespace {

using namespace fuzz;

// A message as read; texts are copies, so that the buffer may go.
struct Read {
  ParseStatus status = ParseStatus::kIncomplete;
  Reason reason = Reason::kNone;
  std::string method;
  std::string raw_target;
  std::string wire;
  std::string host;
  std::string fields;   // all, with their marks
  std::string forward;  // lines that are handed on
  uint8_t minor = 0;
  size_t length = 0;
  BodyLength body;
  bool keep_alive = false;
  bool expect = false;
  std::string upgrade;
};

// Reads the head in pieces: `seed` 0 means all at once.
Read read_head(std::string_view bytes, unsigned seed) {
  Read read;
  H1RequestParser parser;
  RequestHead head;
  FieldList fields;
  std::unique_ptr<char[]> buffer;
  read.status = read_head_in_pieces(bytes, seed, parser, head, fields, buffer);
  read.reason = parser.reason();
  if (read.status != ParseStatus::kComplete) return read;

  std::pmr::monotonic_buffer_resource arena;
  RequestTarget target;
  RequestFacts facts;
  read.reason = parse_target(head.target, head.method_id, {}, arena, target);
  if (read.reason == Reason::kNone) {
    read.reason = check_request(head, fields, target, arena, facts);
  }
  if (read.reason != Reason::kNone) {
    read.status = ParseStatus::kRefused;
    return read;
  }
  read.method = head.method;
  read.raw_target = head.target;
  read.wire = target.wire;
  read.host = facts.authority.text;
  read.minor = head.minor_version;
  read.length = head.length;
  read.body = facts.body;
  read.keep_alive = facts.keep_alive;
  read.expect = facts.expect_continue;
  read.upgrade = facts.upgrade;
  for (const Field& field : fields) {
    const std::string line = line_of(field);
    read.fields += (field.dropped ? "-" : "+") + line;
    require(field.value.find_first_of(std::string_view("\r\n\0", 3)) == std::string_view::npos,
            "no value holds a line end");
    if (!field.dropped) {
      require(field.id != FieldId::kContentLength && field.id != FieldId::kTransferEncoding &&
                  field.id != FieldId::kHost && field.id != FieldId::kConnection,
              "framing fields are never handed on");
      require(!field_name_imitates_known(field.name), "imitations are never handed on");
      read.forward += line;
    }
  }
  return read;
}

// The head as the gateway would send it on.
std::string write_head(const Read& read) {
  std::string text = read.method + " " + read.wire + " HTTP/1.1\r\n";
  text += "Host: " + (read.host.empty() ? "unknown" : read.host) + "\r\n";
  return text + framing_line(read.body) + read.forward + "\r\n";
}

}  // namespace
}  // namespace gatehouse

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace gatehouse;
  if (size < 2) return 0;
  const unsigned seed = seed_of(data);
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 2, size - 2);
  const Read whole = read_head(bytes, 0);
  const Read split = read_head(bytes, seed);
  require(whole.status == split.status && whole.reason == split.reason &&
              whole.length == split.length && whole.fields == split.fields &&
              whole.wire == split.wire && whole.host == split.host && whole.minor == split.minor,
          "one read and many have the same verdict");
  if (whole.status != ParseStatus::kComplete) return 0;

  const std::string forwarded = write_head(whole);
  if (forwarded.size() > kHeadLimits.head_max || whole.wire.size() > kHeadLimits.target_max)
    return 0;
  const Read again = read_head(forwarded + "GET /next HTTP/1.1\r\n\r\n", 0);
  if (again.reason == Reason::kTooManyFields) return 0;  // the Host field is one more
  require(again.status == ParseStatus::kComplete, "what is forwarded is well-formed");
  require(again.length == forwarded.size(), "what is forwarded is one head");
  require(again.method == whole.method && again.wire == whole.wire &&
              again.raw_target == again.wire && again.body.kind == whole.body.kind &&
              again.body.length == whole.body.length && again.forward == whole.forward &&
              (whole.host.empty() || again.host == whole.host),
          "what is forwarded has the same meaning");
  return 0;
}
