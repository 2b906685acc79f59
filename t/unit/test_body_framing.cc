// Where messages end, and what hop-by-hop fields ask for: every rule of http/body_framing.h.
#include "http/body_framing.h"

#include <criterion/criterion.h>

#include <string>

namespace gatehouse {
namespace {

using namespace std::string_literals;

std::string length_text(const BodyLength& body) {
  switch (body.kind) {
    case BodyLength::Kind::kNone:
      return "none";
    case BodyLength::Kind::kLength:
      return std::to_string(body.length);
    case BodyLength::Kind::kChunked:
      return "chunked";
    case BodyLength::Kind::kUntilClose:
      return "until_close";
    case BodyLength::Kind::kTunnel:
      return "tunnel";
  }
  return "?";
}

// Names of the fields that would be handed on.
std::string kept(const FieldList& fields) {
  std::string text;
  for (const Field& field : fields) {
    if (!field.dropped) text += " " + std::string(field.name);
  }
  return text;
}

// "LENGTH [keep] [continue] [trailers] [upgrade=X] [host=X] ; kept names" or "!code".
std::string request(const std::string& first_line, const std::string& lines) {
  const std::string bytes = first_line + "\r\n" + lines + "\r\n";
  H1RequestParser parser;
  RequestHead head;
  FieldList fields;
  cr_assert(parser.parse(bytes, {}, head, fields) == ParseStatus::kComplete, "%s", bytes.c_str());
  std::pmr::monotonic_buffer_resource arena;
  RequestTarget target;
  cr_assert(parse_target(head.target, head.method_id, {}, arena, target) == Reason::kNone);
  RequestFacts facts;
  const Reason reason = check_request(head, fields, target, arena, facts);
  if (reason != Reason::kNone) return "!"s + reason_info(reason).code;
  std::string text = length_text(facts.body);
  if (facts.keep_alive) text += " keep";
  if (facts.expect_continue) text += " continue";
  if (facts.te_trailers) text += " trailers";
  if (!facts.upgrade.empty()) text += " upgrade=" + std::string(facts.upgrade);
  if (facts.has_authority) text += " host=" + std::string(facts.authority.text);
  return text + ";" + kept(fields);
}

std::string response(const std::string& status, const std::string& lines,
                     Method method = Method::kGet, const std::string& version = "1.1") {
  const std::string bytes = "HTTP/" + version + " " + status + " X\r\n" + lines + "\r\n";
  H1ResponseParser parser;
  ResponseHead head;
  FieldList fields;
  cr_assert(parser.parse(bytes, {}, head, fields) == ParseStatus::kComplete, "%s", bytes.c_str());
  ResponseFacts facts;
  const Reason reason = check_response(head, fields, method, facts);
  if (reason != Reason::kNone) return "!"s + reason_info(reason).code;
  std::string text = length_text(facts.body);
  if (facts.keep_alive) text += " keep";
  if (!facts.upgrade.empty()) text += " upgrade=" + std::string(facts.upgrade);
  return text + ";" + kept(fields);
}

#define IS(actual, wanted)                                                               \
  do {                                                                                   \
    const std::string is_actual = (actual);                                              \
    cr_assert_str_eq(is_actual.c_str(), wanted, "%s is %s", #actual, is_actual.c_str()); \
  } while (false)

const std::string kGet = "GET / HTTP/1.1";
const std::string kPost = "POST / HTTP/1.1";
const std::string kPost10 = "POST / HTTP/1.0";
const std::string kHost = "Host: a\r\n";

Test(body_framing, request_lengths) {
  IS(request(kGet, kHost), "none keep host=a;");
  IS(request(kPost, kHost + "Content-Length: 0\r\n"), "0 keep host=a;");
  IS(request(kPost, kHost + "Content-Length: 5\r\n"), "5 keep host=a;");
  IS(request(kPost, kHost + "content-length:\t 5 \r\n"), "5 keep host=a;");
  IS(request(kGet, kHost + "Content-Length: 5\r\n"), "5 keep host=a;");
  IS(request(kPost, kHost + "Content-Length: 9223372036854775807\r\n"),
     "9223372036854775807 keep host=a;");
  IS(request(kPost, kHost + "Transfer-Encoding: chunked\r\n"), "chunked keep host=a;");
  IS(request(kPost, kHost + "transfer-encoding: CHUNKED\r\n"), "chunked keep host=a;");
  IS(request("HEAD / HTTP/1.1", kHost + "Content-Length: 5\r\n"), "5 keep host=a;");
}

Test(body_framing, request_lengths_that_are_malformed) {
  for (const auto* value : {"",
                            "+5",
                            "-5",
                            "5 5",
                            "5,5",
                            "5, 5",
                            "0x5",
                            "5a",
                            "a",
                            "5.0",
                            "1e3",
                            "9223372036854775808",
                            "18446744073709551616",
                            "99999999999999999999",
                            "00",
                            "05",
                            "5;",
                            "\"5\"",
                            "5_0",
                            "\xD9\xA5",
                            "5\t5",
                            ",5",
                            "5,"}) {
    IS(request(kPost, kHost + "Content-Length: " + value + "\r\n"), "!bad_length");
  }
  IS(request(kPost, kHost + "Content-Length: 5\r\nContent-Length: 5\r\n"), "!repeated_length");
  IS(request(kPost, kHost + "Content-Length: 5\r\nX: y\r\ncontent-length: 6\r\n"),
     "!repeated_length");
  IS(request(kPost, kHost + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
     "!both_lengths");
  IS(request(kPost, kHost + "Transfer-Encoding: identity\r\nContent-Length: 5\r\n"),
     "!both_lengths");
  IS(request(kPost10, "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), "!both_lengths");
}

Test(body_framing, transfer_encodings_that_are_refused) {
  for (const auto* value :
       {"", "identity", "gzip", "gzip, chunked", "chunked, gzip", "chunked, chunked", "chunked,",
        ",chunked", "chunked;q=1", "\"chunked\"", "chunked ,", "xchunked", "chunkedx", "chunke",
        "chunked identity",
        "chun\xE2\x84\xAA"
        "ed",
        "cow, chunked"}) {
    IS(request(kPost, kHost + "Transfer-Encoding: " + value + "\r\n"), "!bad_transfer_encoding");
  }
  IS(request(kPost, kHost + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
     "!bad_transfer_encoding");
  IS(request(kPost, kHost + "Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n"),
     "!bad_transfer_encoding");
  IS(request(kPost10, kHost + "Transfer-Encoding: chunked\r\n"), "!bad_transfer_encoding");
}

Test(body_framing, connect_and_trace_have_no_body) {
  IS(request("CONNECT a:1 HTTP/1.1", kHost), "tunnel keep host=a:1;");
  IS(request("CONNECT a:1 HTTP/1.1", kHost + "Content-Length: 0\r\n"), "tunnel keep host=a:1;");
  IS(request("CONNECT a:1 HTTP/1.1", kHost + "Content-Length: 1\r\n"), "!bad_length");
  IS(request("CONNECT a:1 HTTP/1.1", kHost + "Transfer-Encoding: chunked\r\n"),
     "!bad_transfer_encoding");
  IS(request("TRACE / HTTP/1.1", kHost), "none keep host=a;");
  IS(request("TRACE / HTTP/1.1", kHost + "Content-Length: 1\r\n"), "!bad_length");
}

Test(body_framing, hosts) {
  IS(request(kGet, ""), "!missing_host");
  IS(request("GET / HTTP/1.0", ""), "none;");
  IS(request("GET / HTTP/1.0", kHost), "none host=a;");
  IS(request(kGet, kHost + "Host: a\r\n"), "!repeated_host");
  IS(request(kGet, kHost + "X: y\r\nhost: b\r\n"), "!repeated_host");
  IS(request("GET / HTTP/1.0", "Host: a\r\nHost: b\r\n"), "!repeated_host");
  IS(request("GET / HTTP/1.0", "Host:\r\n"), "!bad_host");
  for (const auto* value : {"", "a b", "a,b", "u@a", "a/b", "a:x", "a:0", "a..b", "a%41"}) {
    IS(request(kGet, "Host: "s + value + "\r\n"), "!bad_host");
  }
  IS(request(kGet, "Host: EXAMPLE.com:81\r\n"), "none keep host=example.com:81;");
}

Test(body_framing, the_target_names_the_host_before_the_field_does) {
  IS(request("GET http://B.com:81/ HTTP/1.1", kHost), "none keep host=b.com:81;");
  IS(request("GET http://b/ HTTP/1.0", ""), "none host=b;");
  IS(request("GET http://b/ HTTP/1.1", ""), "!missing_host");
  IS(request("GET http://b/ HTTP/1.1", "Host: a b\r\n"), "!bad_host");
  IS(request("GET http://b/ HTTP/1.1", "Host: b\r\nHost: b\r\n"), "!repeated_host");
}

Test(body_framing, keep_alive) {
  IS(request(kGet, kHost + "Connection: close\r\n"), "none host=a;");
  IS(request(kGet, kHost + "Connection: Keep-Alive, CLOSE\r\n"), "none host=a;");
  IS(request(kGet, kHost + "Connection: x\r\nConnection: close\r\n"), "none host=a;");
  IS(request(kGet, kHost + "Connection: keep-alive\r\n"), "none keep host=a;");
  IS(request(kGet, kHost + "Connection:\r\n"), "none keep host=a;");
  IS(request("GET / HTTP/1.0", "Connection: keep-alive\r\n"), "none keep;");
  IS(request("GET / HTTP/1.0", "Connection: keep-alive, close\r\n"), "none;");
  IS(request("GET / HTTP/1.0", "Proxy-Connection: keep-alive\r\n"), "none;");
}

Test(body_framing, hop_by_hop_fields_are_dropped) {
  IS(request(kGet, kHost +
                       "Connection: x-a, ,X-B\r\nX-A: 1\r\nX-C: 1\r\nx-b: 1\r\nKeep-Alive: 5\r\n"
                       "Proxy-Connection: x\r\nTE: gzip\r\nUpgrade: x\r\nHTTP2-Settings: x\r\n"),
     "none keep host=a; X-C");
  IS(request(kGet, kHost + "Connection: TE\r\nTE: trailers\r\nTrailer: A\r\n"),
     "none keep trailers host=a; Trailer");
  IS(request(kGet, kHost + "TE: deflate;q=0.5, Trailers\r\n"), "none keep trailers host=a;");
  IS(request(kGet, kHost + "TE: trailersx\r\n"), "none keep host=a;");
  IS(request("GET / HTTP/1.0", "TE: trailers\r\n"), "none;");
}

Test(body_framing, connection_cannot_remove_what_matters) {
  for (const auto* name : {"Host", "content-length", "Transfer-Encoding"}) {
    IS(request(kGet, kHost + "Connection: close, " + name + "\r\n"), "!bad_connection");
  }
  for (const auto* name : {"a b", "a;b", "\"a\"", "a/b", "close;", "(x)"}) {
    IS(request(kGet, kHost + "Connection: " + name + "\r\n"), "!bad_connection");
  }
  IS(request(kGet, kHost + "Connection: Cookie, X-Forwarded-For, authorization, via\r\n"
                           "Cookie: a\r\nX-Forwarded-For: b\r\nAuthorization: c\r\nVia: d\r\n"),
     "none keep host=a; Cookie X-Forwarded-For Authorization Via");
  std::string many = "Connection: n0";
  for (int i = 1; i < 32; ++i) many += ",n" + std::to_string(i);
  IS(request(kGet, kHost + many + "\r\n"), "none keep host=a;");
  IS(request(kGet, kHost + many + ",n33\r\n"), "!bad_connection");
  IS(request(kGet, kHost + many + "\r\nConnection: n33\r\n"), "!bad_connection");
}

Test(body_framing, expectations) {
  const std::string body = kHost + "Content-Length: 5\r\n";
  IS(request(kPost, body + "Expect: 100-continue\r\n"), "5 keep continue host=a; Expect");
  IS(request(kPost, body + "Expect: 100-Continue\r\n"), "5 keep continue host=a; Expect");
  IS(request(kPost, kHost + "Expect: 100-continue\r\n"), "none keep host=a;");
  IS(request(kPost, kHost + "Content-Length: 0\r\nExpect: 100-continue\r\n"), "0 keep host=a;");
  IS(request(kPost10, "Content-Length: 5\r\nExpect: 100-continue\r\n"), "5;");
  for (const auto* value :
       {"", "100", "100-continue, x", "x 100-continue", "100-continue;a=b", "y=z", "200-ok"}) {
    IS(request(kPost, body + "Expect: " + value + "\r\n"), "!unsupported_expectation");
  }
  IS(request(kPost, body + "Expect: 100-continue\r\nExpect: 100-continue\r\n"),
     "!unsupported_expectation");
}

Test(body_framing, upgrades) {
  const std::string offer = kHost + "Connection: Upgrade\r\nUpgrade: ";
  IS(request(kGet, offer + "websocket\r\nSec-WebSocket-Key: x\r\n"),
     "none keep upgrade=websocket host=a; Sec-WebSocket-Key");
  IS(request(kGet, offer + "SPDY/3.1\r\n"), "none keep upgrade=SPDY/3.1 host=a;");
  IS(request("POST / HTTP/1.1", offer + "tcp\r\nContent-Length: 0\r\n"),
     "0 keep upgrade=tcp host=a;");
  for (const auto* value : {"h2c", "H2C", "h2", "HTTP/2.0", "TLS/1.0", "", "websocket, h2c",
                            "h2c, websocket", "web socket", "a/b/c", "a/\"b\"", "/1"}) {
    IS(request(kGet, offer + value + "\r\n"), "none keep host=a;");
  }
  IS(request(kGet, kHost + "Upgrade: websocket\r\n"), "none keep host=a;");
  IS(request(kGet, offer + "websocket\r\nUpgrade: h2c\r\n"), "none keep host=a;");
  IS(request(kPost, offer + "websocket\r\nContent-Length: 5\r\n"), "5 keep host=a;");
  IS(request(kPost, offer + "websocket\r\nTransfer-Encoding: chunked\r\n"), "chunked keep host=a;");
  IS(request("GET / HTTP/1.0", offer + "websocket\r\n"), "none host=a;");
}

Test(body_framing, response_lengths) {
  IS(response("200", "Content-Length: 5\r\nA: b\r\n"), "5 keep; A");
  IS(response("200", "Content-Length: 0\r\n"), "0 keep;");
  IS(response("200", "Transfer-Encoding: chunked\r\n"), "chunked keep;");
  IS(response("200", ""), "until_close;");
  IS(response("200", "Connection: keep-alive\r\n"), "until_close;");
  IS(response("500", "Connection: close\r\nContent-Length: 1\r\n"), "1;");
  IS(response("200", "Content-Length: 5\r\n", Method::kGet, "1.0"), "5;");
  IS(response("200", "Content-Length: 5\r\nConnection: keep-alive\r\n", Method::kGet, "1.0"),
     "5 keep;");
  IS(response("205", "Content-Length: 0\r\n"), "0 keep;");
}

Test(body_framing, responses_that_are_refused) {
  IS(response("200", "Content-Length: 5\r\nContent-Length: 5\r\n"), "!repeated_length");
  IS(response("200", "Content-Length: 5, 5\r\n"), "!bad_length");
  IS(response("200", "Content-Length: +5\r\n"), "!bad_length");
  IS(response("200", "Content-Length:\r\n"), "!bad_length");
  IS(response("200", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), "!both_lengths");
  IS(response("200", "Transfer-Encoding: gzip, chunked\r\n"), "!bad_transfer_encoding");
  IS(response("200", "Transfer-Encoding: identity\r\n"), "!bad_transfer_encoding");
  IS(response("200", "Transfer-Encoding: chunked\r\n", Method::kGet, "1.0"),
     "!bad_transfer_encoding");
  IS(response("304", "Content-Length: x\r\n"), "!bad_length");
  IS(response("200", "Content-Length: 5\r\nContent-Length: 6\r\n", Method::kHead),
     "!repeated_length");
  IS(response("200", "Content-Length: 5\r\nConnection: content-length\r\n"), "!bad_connection");
}

Test(body_framing, responses_without_a_body) {
  IS(response("200", "Content-Length: 5\r\nX: y\r\n", Method::kHead),
     "none keep; Content-Length X");
  IS(response("200", "Transfer-Encoding: chunked\r\n", Method::kHead), "none keep;");
  IS(response("200", "", Method::kHead), "none keep;");
  IS(response("304", "Content-Length: 5\r\nETag: x\r\n"), "none keep; Content-Length ETag");
  IS(response("304", ""), "none keep;");
  IS(response("204", ""), "none keep;");
  IS(response("204", "Content-Length: 0\r\n"), "none keep;");
  // A body is announced where none may be: what follows cannot be trusted.
  IS(response("204", "Content-Length: 5\r\n"), "none;");
  IS(response("204", "Transfer-Encoding: chunked\r\n"), "none;");
  IS(response("100", ""), "none keep;");
  IS(response("103", "Link: x\r\n"), "none keep; Link");
  IS(response("100", "Content-Length: 0\r\n"), "none keep;");
  IS(response("100", "Content-Length: 5\r\n"), "!bad_length");
  IS(response("103", "Transfer-Encoding: chunked\r\n"), "!bad_transfer_encoding");
}

Test(body_framing, tunnels) {
  IS(response("101", "Upgrade: websocket\r\nConnection: upgrade\r\nX: y\r\n"),
     "tunnel upgrade=websocket; X");
  IS(response("101", "Upgrade: h2c\r\nConnection: upgrade\r\n"), "tunnel;");
  IS(response("101", "Content-Length: 5\r\n"), "!bad_length");
  IS(response("200", "", Method::kConnect), "tunnel;");
  IS(response("200", "Content-Length: 5\r\n", Method::kConnect), "tunnel;");
  IS(response("403", "Content-Length: 5\r\n", Method::kConnect), "5 keep;");
  IS(response("426", "Upgrade: websocket\r\nContent-Length: 0\r\n"), "0 keep upgrade=websocket;");
}

Test(body_framing, hop_by_hop_fields_of_responses_are_dropped) {
  IS(response("200",
              "Content-Length: 0\r\nConnection: X-A\r\nX-A: b\r\nKeep-Alive: 1\r\n"
              "Upgrade: h2\r\nSet-Cookie: c\r\n"),
     "0 keep; Set-Cookie");
  IS(response("200", "Content-Length: 0\r\nConnection: a b\r\n"), "0;");
  IS(response("200", "Content-Length: 0\r\nConnection: set-cookie\r\nSet-Cookie: c\r\n"),
     "0 keep; Set-Cookie");
}

}  // namespace
}  // namespace gatehouse
