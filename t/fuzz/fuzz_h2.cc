// HTTP/2 input: frames, HPACK and requests, as a session reads them.
//
// What must hold for every input: the frame heads that the scanner finds do not depend on how the
// bytes are split, and are those that libnghttp2 sees; a request that is accepted can be written
// out in the form in which the gateway forwards it, and is then exactly one request of HTTP/1.1
// with the same meaning; no field of it frames or routes.
//
// The first two bytes of the input seed the way it is split into reads. The rest follows a preface
// and SETTINGS.
#include <nghttp2/nghttp2.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/buffer.h"
#include "http/body_framing.h"
#include "http/exchange.h"
#include "http/h1_parser.h"
#include "http/h1_writer.h"
#include "http/h2_frames.h"
#include "http/h2_request.h"
#include "http/target.h"
#include "support.h"

namespace gatehouse {
namespace {

using namespace fuzz;

const std::string kStart = std::string(kH2Preface) + std::string("\0\0\0\4\0\0\0\0\0", 9);
constexpr H2RequestLimits kLimits{.head_max = 4000, .fields_max = 20, .target_max = 200};

std::string scan(std::string_view bytes, unsigned seed) {
  H2FrameScanner scanner;
  std::string found;
  for (size_t from = 0; from < bytes.size();) {
    const size_t piece =
        seed == 0 ? bytes.size() : 1 + (seed = seed * 1103515245 + 12345) / 65536 % 40;
    const std::string_view part = bytes.substr(from, piece);
    size_t at = 0;
    size_t begin = 0;
    H2FrameHead head;
    while (scanner.next(part, at, begin, head)) {
      require(begin <= at && at <= part.size(), "places lie within the bytes");
      found += std::to_string(head.type) + " " + std::to_string(head.flags) + " " +
               std::to_string(head.stream) + " " + std::to_string(head.length) + " " +
               std::to_string(head.other_stream) + " " + std::to_string(head.padding) + "\n";
    }
    require(at == part.size(), "all bytes are looked at");
    from += part.size();
  }
  return found;
}

// What was accepted, as HTTP/1.1 would have it.
void check_forwarded(const Exchange& exchange) {
  const Request& request = exchange.request;
  for (const Field& field : request.fields) {
    if (field.dropped) continue;
    require(field.id != FieldId::kContentLength && field.id != FieldId::kTransferEncoding &&
                field.id != FieldId::kHost && field.id != FieldId::kConnection &&
                field.id != FieldId::kUpgrade,
            "framing fields are never handed on");
    require(!field_name_imitates_known(field.name) || field.id != FieldId::kOther,
            "imitations are never handed on");
    require(field.stands_as_written(), "fields are stored as lines");
  }
  const Buffer written = write_request_head(exchange, request.authority.text);
  H1RequestParser parser;
  RequestHead head;
  FieldList fields;
  const std::string text = std::string(written.view()) + "GET /next HTTP/1.1\r\n\r\n";
  require(parser.parse(text, {60000, 200, 8000}, head, fields) == ParseStatus::kComplete,
          "what is forwarded is well-formed");
  require(head.length == written.size(), "what is forwarded is one head");
  require(head.method == request.head.method && head.target == request.target.wire,
          "the request line has the same meaning");
  std::pmr::monotonic_buffer_resource arena;
  RequestTarget target;
  RequestFacts facts;
  require(parse_target(head.target, head.method_id, {}, arena, target) == Reason::kNone &&
              check_request(head, fields, target, arena, facts) == Reason::kNone,
          "what is forwarded is accepted");
  require(target.path == request.target.path && target.query == request.target.query,
          "the target is normal already");
  require(facts.authority.text == request.authority.text, "the host is the same");
  require(
      facts.body.kind == request.facts.body.kind && facts.body.length == request.facts.body.length,
      "the body is framed alike");
}

struct Open {
  std::unique_ptr<Exchange> exchange = std::make_unique<Exchange>();
  FieldList trailers;
};

struct Session {
  std::map<int32_t, Open> streams;
  H2RequestReader request;
  H2TrailerReader trailers;
  bool in_trailers = false;
};

int begin_headers(nghttp2_session*, const nghttp2_frame* frame, void* self) {
  auto* session = static_cast<Session*>(self);
  session->in_trailers = frame->headers.cat != NGHTTP2_HCAT_REQUEST;
  if (session->in_trailers) {
    session->trailers.begin(kLimits);
  } else {
    session->streams.try_emplace(frame->hd.stream_id);
    session->request.begin(kLimits);
  }
  return 0;
}

int header(nghttp2_session*, const nghttp2_frame* frame, const uint8_t* name, size_t name_size,
           const uint8_t* value, size_t value_size, uint8_t, void* self) {
  auto* session = static_cast<Session*>(self);
  const std::string_view n(reinterpret_cast<const char*>(name), name_size);
  const std::string_view v(reinterpret_cast<const char*>(value), value_size);
  Open& open = session->streams[frame->hd.stream_id];
  if (session->in_trailers) {
    session->trailers.add(n, v, open.exchange->arena, open.trailers);
  } else {
    session->request.add(n, v, *open.exchange);
  }
  return 0;
}

int frame_received(nghttp2_session*, const nghttp2_frame* frame, void* self) {
  auto* session = static_cast<Session*>(self);
  if (frame->hd.type != NGHTTP2_HEADERS) return 0;
  Open& open = session->streams[frame->hd.stream_id];
  if (session->in_trailers) {
    for (const Field& field : open.trailers) {
      require(field.dropped || trailer_allowed(field), "trailers neither frame nor route");
    }
    return 0;
  }
  const bool end = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
  const H2Fault fault = session->request.finish(end, *open.exchange);
  require(fault.reason != Reason::kNone || !fault.malformed, "what is malformed has a reason");
  if (fault.reason == Reason::kNone && !session->request.websocket()) {
    check_forwarded(*open.exchange);
  }
  return 0;
}

int stream_closed(nghttp2_session*, int32_t id, uint32_t, void* self) {
  static_cast<Session*>(self)->streams.erase(id);
  return 0;
}

}  // namespace
}  // namespace gatehouse

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace gatehouse;
  if (size < 2) return 0;
  const unsigned seed = seed_of(data);
  const std::string bytes = kStart + std::string(reinterpret_cast<const char*>(data) + 2, size - 2);
  require(scan(bytes, 0) == scan(bytes, seed | 1), "frames do not depend on how bytes are split");

  Session session;
  nghttp2_session_callbacks* callbacks = nullptr;
  nghttp2_option* options = nullptr;
  nghttp2_session* ng = nullptr;
  nghttp2_session_callbacks_new(&callbacks);
  nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, &begin_headers);
  nghttp2_session_callbacks_set_on_header_callback(callbacks, &header);
  nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, &frame_received);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, &stream_closed);
  nghttp2_option_new(&options);
  nghttp2_option_set_no_http_messaging(options, 1);
  nghttp2_session_server_new2(&ng, callbacks, &session, options);
  (void)!nghttp2_session_mem_recv(ng, reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  const uint8_t* out = nullptr;
  while (nghttp2_session_mem_send(ng, &out) > 0) {
  }
  nghttp2_session_del(ng);
  nghttp2_option_del(options);
  nghttp2_session_callbacks_del(callbacks);
  return 0;
}
