// What HTTP/2 responses and their parts look like to libnghttp2, bodies that wait, and the
// handshake of WebSocket towards HTTP/1.1.
#include "http/h2_response.h"

#include <criterion/criterion.h>

#include <string>

#include "expect_text.h"
#include "http/h2_body.h"
#include "http/h2_memory.h"
#include "http/h2_websocket.h"

namespace gatehouse {
namespace {

std::string text_of(std::span<const nghttp2_nv> lines) {
  std::string text;
  for (const nghttp2_nv& line : lines) {
    text += std::string(reinterpret_cast<const char*>(line.name), line.namelen) + "=" +
            std::string(reinterpret_cast<const char*>(line.value), line.valuelen) + ";";
  }
  return text;
}

Test(h2_response, a_head_has_its_status_first_and_frames_itself) {
  Exchange exchange;
  exchange.response.status = 404;
  exchange.response.fields.push("X-A", "1");
  exchange.response.fields.push("X-B", "2").dropped = true;
  exchange.response.added.push("Server", "s");
  exchange.response.body = {BodyLength::Kind::kLength, 12};
  expect(text_of(H2Fields::response(exchange, ClientFraming::kLength, "today")),
         ":status=404;X-A=1;Server=s;date=today;content-length=12;");
  exchange.response.status = 200;
  expect(text_of(H2Fields::response(exchange, ClientFraming::kChunked, "today")),
         ":status=200;X-A=1;Server=s;date=today;");
}

Test(h2_response, what_belongs_to_a_connection_stays_behind) {
  Exchange exchange;
  exchange.response.status = 200;
  for (const char* name :
       {"Connection", "Keep-Alive", "Proxy-Connection", "Upgrade", "Transfer-Encoding", "TE"}) {
    exchange.response.added.push(name, "x");
  }
  exchange.response.fields.push("Date", "then");
  expect(text_of(H2Fields::response(exchange, ClientFraming::kNone, "now")),
         ":status=200;Date=then;");
}

Test(h2_response, a_tunnel_has_200_and_no_accept) {
  Exchange exchange;
  exchange.response.status = 101;
  exchange.response.fields.push("Sec-WebSocket-Accept", "x");
  exchange.response.fields.push("Sec-WebSocket-Protocol", "chat");
  expect(text_of(H2Fields::response(exchange, ClientFraming::kTunnel, "")),
         ":status=200;Sec-WebSocket-Protocol=chat;");
}

Test(h2_response, interim_heads_and_trailers) {
  FieldList fields;
  fields.push("Link", "</x>");
  expect(text_of(H2Fields::interim(103, fields)), ":status=103;Link=</x>;");
  expect(text_of(H2Fields::trailers(fields)), "Link=</x>;");
  expect(text_of(H2Fields::trailers(FieldList())), "");
}

// RFC 6455 §1.3 has this key and its answer.
Test(h2_response, websocket_answers_are_checked) {
  FieldList fields;
  cr_expect(!accepts_websocket(fields, "dGhlIHNhbXBsZSBub25jZQ=="));
  fields.push("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
  cr_expect(accepts_websocket(fields, "dGhlIHNhbXBsZSBub25jZQ=="));
  cr_expect(!accepts_websocket(fields, "dGhlIHNhbXBsZSBub25jZR=="));
  fields.push("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
  cr_expect(!accepts_websocket(fields, "dGhlIHNhbXBsZSBub25jZQ=="));
}

Test(h2_response, websocket_keys_are_new_and_replace_the_clients) {
  Exchange a;
  Exchange b;
  a.request.fields.push("sec-websocket-key", "mine");
  const std::string_view key = add_websocket_key(a);
  cr_expect_eq(key.size(), 24);
  cr_expect(key != add_websocket_key(b));
  cr_expect(a.request.fields[0].dropped);
  cr_expect(a.request.added[0].value == key);
}

Test(h2_response, bodies_wait_in_order) {
  H2Body body;
  cr_expect(body.empty() && body.front().empty());
  std::string sent;
  for (int i = 0; i < 5000; ++i) {
    const std::string piece = std::to_string(i) + ",";
    body.append(piece);
    sent += piece;
  }
  const std::string large(40'000, 'x');
  body.append(large);
  sent += large;
  cr_assert_eq(body.size(), sent.size());
  std::string got;
  for (size_t n = 1; !body.empty(); n = n * 7 % 5000 + 1) {
    const std::string_view front = body.front();
    cr_assert(!front.empty());
    const size_t size = std::min(n, front.size());
    got += front.substr(0, size);
    body.consume(size);
  }
  cr_expect(got == sent);
  body.append("again");
  expect(std::string(body.front()), "again");
  body.clear();
  cr_expect(body.empty());
}

Test(h2_response, one_buffer_is_lent_to_each_session_of_a_thread) {
  bool first = false;
  bool second = false;
  nghttp2_mem a = h2_memory(first);
  nghttp2_mem b = h2_memory(second);
  void* const shared = a.realloc(nullptr, kH2PieceMax, a.mem_user_data);
  cr_expect(first);
  cr_expect_eq(b.realloc(nullptr, kH2PieceMax, b.mem_user_data), shared);
  // A second one of a session is its own, and so is one that grows.
  void* const own = a.malloc(kH2PieceMax, a.mem_user_data);
  cr_expect_neq(own, shared);
  static_cast<char*>(shared)[5] = 'x';
  void* const grown = a.realloc(shared, 2 * kH2PieceMax, a.mem_user_data);
  cr_expect_neq(grown, shared);
  cr_expect_eq(static_cast<char*>(grown)[5], 'x');
  cr_expect(!first);
  a.free(grown, a.mem_user_data);
  a.free(own, a.mem_user_data);
  b.free(shared, b.mem_user_data);
  cr_expect(!second);
}

}  // namespace
}  // namespace gatehouse
