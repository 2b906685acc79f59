// HTTP/2 field sections: which requests are malformed, which are refused, and what the others mean.
#include "http/h2_request.h"

#include <criterion/criterion.h>

#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "expect_text.h"

namespace gatehouse {
namespace {

using namespace std::string_literals;
using Lines = std::vector<std::pair<std::string, std::string>>;

const Lines kGet = {
    {":method", "GET"}, {":scheme", "https"}, {":authority", "a.test"}, {":path", "/x"}};

Lines get_with(Lines more) {
  Lines lines = kGet;
  lines.insert(lines.end(), more.begin(), more.end());
  return lines;
}

Lines post_with(Lines more) {
  Lines lines = get_with(std::move(more));
  lines[0].second = "POST";
  return lines;
}

std::string body_text(const BodyLength& body) {
  switch (body.kind) {
    case BodyLength::Kind::kNone:
      return "none";
    case BodyLength::Kind::kLength:
      return std::to_string(body.length);
    case BodyLength::Kind::kChunked:
      return "chunked";
    default:
      return "?";
  }
}

// "malformed CODE", "CODE" for what gets a reply, or "METHOD HOST TARGET BODY|kept lines".
std::string read(const Lines& lines, bool end_stream = true, H2RequestLimits limits = {}) {
  Exchange exchange;
  H2RequestReader reader;
  reader.begin(limits);
  for (const auto& [name, value] : lines) reader.add(name, value, exchange);
  const H2Fault fault = reader.finish(end_stream, exchange);
  if (fault.malformed) return "malformed "s + reason_info(fault.reason).code;
  if (fault.reason != Reason::kNone) return reason_info(fault.reason).code;
  const Request& request = exchange.request;
  std::string text = std::string(request.head.method) + " " + std::string(request.authority.text) +
                     " " + std::string(request.target.wire) + " " + body_text(request.facts.body);
  if (reader.websocket()) text += " websocket";
  if (request.facts.te_trailers) text += " trailers";
  if (request.facts.expect_continue) text += " continue";
  text += "|";
  for (const Field& field : request.fields) {
    if (field.dropped) continue;
    cr_assert(field.stands_as_written(), "%s", std::string(field.name).c_str());
    text += std::string(field.name) + ": " + std::string(field.value) + "|";
  }
  return text;
}

std::string bad_get(Lines more) {
  return read(get_with(std::move(more)));
}

Test(h2_request, a_plain_request) {
  expect(read(kGet), "GET a.test /x none|");
  expect(bad_get({{"accept", "*/*"}, {"x-a", ""}}), "GET a.test /x none|accept: */*|x-a: |");
  expect(read(post_with({}), false), "POST a.test /x chunked|");
  expect(read(post_with({{"content-length", "5"}}), false), "POST a.test /x 5|");
  expect(read(post_with({{"content-length", "0"}})), "POST a.test /x 0|");
  expect(read({{":path", "/a/../b?q"},
               {":authority", "A.test:8443"},
               {":method", "PURGE"},
               {":scheme", "HTTPS"}}),
         "PURGE a.test:8443 /b?q none|");
  expect(read({{":method", "OPTIONS"}, {":scheme", "http"}, {":authority", "a"}, {":path", "*"}}),
         "OPTIONS a * none|");
}

// RFC 9113 §8.2.1
Test(h2_request, names_are_lower_case_tokens) {
  for (const char* name :
       {"X-Upper", "acceptT", "a b", "a:b", "", "a\"b", "a\r\nb", "\x80", "a\x7f"}) {
    expect(bad_get({{name, "v"}}), "malformed bad_field_name");
  }
  expect(bad_get({{"a\0b"s, "v"}}), "malformed bad_field_name");
  expect(bad_get({{"x_under!#$%&'*+-.^`|~9", "v"}}),
         "GET a.test /x none|x_under!#$%&'*+-.^`|~9: v|");
}

Test(h2_request, values_hold_no_line_ends_and_no_outer_space) {
  expect(bad_get({{"a", "b\r\nx: y"}}), "malformed bare_cr");
  expect(bad_get({{"a", "b\nc"}}), "malformed bare_lf");
  expect(bad_get({{"a", "b\0c"s}}), "malformed nul_byte");
  expect(bad_get({{"a", "b\x01"}}), "malformed bad_field_value");
  expect(bad_get({{"a", "b\x7f"}}), "malformed bad_field_value");
  expect(bad_get({{"a", " b"}}), "malformed bad_field_value");
  expect(bad_get({{"a", "b\t"}}), "malformed bad_field_value");
  expect(bad_get({{"a", " "}}), "malformed bad_field_value");
  expect(bad_get({{"a", "b \t c\xff"}}), "GET a.test /x none|a: b \t c\xff|");
  for (size_t i = 0; i < kGet.size(); ++i) {
    for (const char* bad : {"x\r\ny", "x\ny", " x", "x ", "\tx"}) {
      Lines lines = kGet;
      lines[i].second = bad;
      expect(read(lines).substr(0, 9), "malformed");
    }
  }
}

// RFC 9113 §8.3
Test(h2_request, pseudo_fields_stand_first_once_and_are_known) {
  expect(bad_get({{"a", "b"}, {":method", "GET"}}), "malformed bad_pseudo_field");
  expect(bad_get({{":status", "200"}}), "malformed bad_pseudo_field");
  expect(bad_get({{":test", "x"}}), "malformed bad_pseudo_field");
  expect(bad_get({{":", "x"}}), "malformed bad_pseudo_field");
  expect(bad_get({{":Path", "/"}}), "malformed bad_pseudo_field");
  for (const auto& again : kGet) expect(bad_get({again}), "malformed bad_pseudo_field");
  for (const char* missing : {":method", ":scheme", ":path"}) {
    Lines lines;
    for (const auto& line : kGet) {
      if (line.first != missing) lines.push_back(line);
    }
    expect(read(lines), "malformed bad_pseudo_field");
  }
  expect(read({}), "malformed bad_pseudo_field");
}

Test(h2_request, methods) {
  const auto with = [](const char* method) {
    Lines lines = kGet;
    lines[0].second = method;
    return read(lines);
  };
  expect(with(""), "malformed bad_method");
  expect(with("GET /evil HTTP/1.1"), "malformed bad_method");
  expect(with("G/T"), "malformed bad_method");
  expect(with("get"), "bad_method");
  expect(with("connect"), "bad_method");
  expect(with("TRACE"), "method_not_allowed");
  expect(with("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), "method_not_implemented");
  expect(with("M-SEARCH"), "M-SEARCH a.test /x none|");
}

Test(h2_request, paths_and_schemes) {
  const auto path = [](const std::string& text) {
    Lines lines = kGet;
    lines[3].second = text;
    return read(lines);
  };
  for (const char* bad : {"", "x", "*", "http://b.test/", "?q", "//\\"}) {
    const std::string answer = path(bad);
    cr_assert(answer == "malformed bad_target" || answer == "bad_target", "%s", answer.c_str());
  }
  for (const char* bad : {"/a b", "/a\x7f", "/#f", "/..", "/%00", "/a HTTP/1.1", "/\xc3\xa4"}) {
    cr_assert_neq(path(bad).substr(0, 3), "GET", "%s", bad);
  }
  expect(path("/a b"), "bad_target");
  expect(path("/" + std::string(9000, 'a')), "target_too_long");
  const auto scheme = [](const char* text) {
    Lines lines = kGet;
    lines[1].second = text;
    return read(lines);
  };
  expect(scheme("http"), "GET a.test /x none|");
  for (const char* bad : {"", "ftp", "https://evil/", "http\"", "javascript"}) {
    expect(scheme(bad), "bad_target");
  }
}

// RFC 9113 §8.3.1
Test(h2_request, authority_and_host) {
  const Lines bare = {{":method", "GET"}, {":scheme", "https"}, {":path", "/"}};
  expect(read(bare), "missing_host");
  Lines host = bare;
  host.push_back({"host", "b.test"});
  expect(read(host), "GET b.test / none|");
  host.push_back({"host", "b.test"});
  expect(read(host), "repeated_host");
  expect(bad_get({{"host", "a.test"}}), "GET a.test /x none|");
  expect(bad_get({{"host", "A.TEST."}}), "GET a.test /x none|");
  expect(bad_get({{"host", "b.test"}}), "malformed bad_host");
  expect(bad_get({{"host", "a.test:81"}}), "malformed bad_host");
  expect(bad_get({{"host", ""}}), "malformed bad_host");
  expect(bad_get({{"host", "a.test"}, {"host", "a.test"}}), "malformed repeated_host");
  for (const char* bad : {"", "user@a.test", "a.test/x", "a,b", "a b", "a.test:x"}) {
    Lines lines = kGet;
    lines[2].second = bad;
    expect(read(lines), "bad_host");
  }
}

// RFC 9113 §8.2.2
Test(h2_request, no_field_belongs_to_a_connection) {
  for (const char* name :
       {"connection", "keep-alive", "proxy-connection", "upgrade", "http2-settings"}) {
    expect(bad_get({{name, "x"}}), "malformed bad_connection");
  }
  expect(bad_get({{"transfer-encoding", "chunked"}}), "malformed bad_transfer_encoding");
  expect(bad_get({{"te", "gzip"}}), "malformed bad_connection");
  expect(bad_get({{"te", "trailers, deflate"}}), "malformed bad_connection");
  expect(bad_get({{"te", "trailers"}}), "GET a.test /x none trailers|");
}

// RFC 9113 §8.1.1
Test(h2_request, content_length) {
  for (const char* bad : {"", "-1", "+1", "1,1", "0x1", "1 2", "010", "99999999999999999999"}) {
    expect(read(post_with({{"content-length", bad}}), false), "malformed bad_length");
  }
  expect(read(post_with({{"content-length", "1"}})), "malformed bad_length");
  expect(read(post_with({{"content-length", "1"}, {"content-length", "1"}}), false),
         "malformed repeated_length");
}

Test(h2_request, expectations) {
  expect(read(post_with({{"expect", "100-continue"}}), false), "POST a.test /x chunked continue|");
  expect(read(post_with({{"expect", "wonders"}}), false), "unsupported_expectation");
  expect(read(post_with({{"expect", "100-continue"}})), "POST a.test /x none|");
}

// RFC 9113 §8.2.3
Test(h2_request, cookies_are_joined) {
  expect(bad_get({{"cookie", "a=1"}}), "GET a.test /x none|cookie: a=1|");
  expect(bad_get({{"cookie", "a=1"}, {"b", "x"}, {"cookie", "c=2"}, {"cookie", "d"}, {"e", "f"}}),
         "GET a.test /x none|cookie: a=1; c=2; d|b: x|e: f|");
}

Test(h2_request, names_that_imitate_known_ones_stay_here) {
  expect(bad_get({{"content_length", "9"}, {"x.forwarded.for", "1"}, {"my_own", "2"}}),
         "GET a.test /x none|my_own: 2|");
}

Test(h2_request, limits) {
  const H2RequestLimits small = {400, 3, 20};
  expect(read(get_with({{"a", "1"}, {"b", "2"}}), true, small), "GET a.test /x none|a: 1|b: 2|");
  expect(read(get_with({{"a", "1"}, {"b", "2"}, {"c", "3"}, {"d", "4"}}), true, small),
         "too_many_fields");
  expect(read(get_with({{"a", std::string(400, 'x')}}), true, small), "head_too_large");
  expect(read(get_with({{std::string(300, 'x'), ""}})), "head_too_large");
  Lines lines = kGet;
  lines[3].second = "/" + std::string(400, 'x');
  expect(read(lines, true, small), "head_too_large");
  lines[3].second = "/" + std::string(30, 'x');
  expect(read(lines, true, small), "target_too_long");
  // What is malformed is not answered, however large it is.
  expect(read(get_with({{"a", std::string(400, 'x')}, {"B", "1"}}), true, small),
         "malformed bad_field_name");
}

// RFC 9113 §8.5, RFC 8441 §4
Test(h2_request, connect) {
  const Lines plain = {{":method", "CONNECT"}, {":authority", "a.test:443"}};
  expect(read(plain, false), "method_not_allowed");
  Lines more = plain;
  more.push_back({":path", "/"});
  expect(read(more, false), "malformed bad_pseudo_field");
  expect(read({{":method", "CONNECT"}}, false), "malformed bad_pseudo_field");
  const Lines socket = {{":method", "CONNECT"}, {":protocol", "websocket"},
                        {":scheme", "https"},   {":authority", "a.test"},
                        {":path", "/chat"},     {"sec-websocket-version", "13"}};
  expect(read(socket, false), "GET a.test /chat none websocket|sec-websocket-version: 13|");
  expect(read(socket, true), "malformed bad_length");
  Lines other = socket;
  other[1].second = "connect-udp";
  expect(read(other, false), "method_not_implemented");
  other = socket;
  other.erase(other.begin() + 2);
  expect(read(other, false), "malformed bad_pseudo_field");
  expect(bad_get({{":protocol", "websocket"}}), "malformed bad_pseudo_field");
}

std::string trailers(const Lines& lines, H2RequestLimits limits = {}) {
  Arena arena;
  FieldList fields;
  H2TrailerReader reader;
  reader.begin(limits);
  for (const auto& [name, value] : lines) reader.add(name, value, arena, fields);
  if (reader.reason() != Reason::kNone) return reason_info(reader.reason()).code;
  std::string text;
  for (const Field& field : fields) {
    if (!field.dropped) text += std::string(field.name) + "=" + std::string(field.value) + ";";
  }
  return text;
}

Test(h2_request, trailers_hold_no_pseudo_fields) {
  expect(trailers({{"x-sum", "1"}, {"content-length", "4"}, {"grpc-status", "0"}}),
         "x-sum=1;grpc-status=0;");
  expect(trailers({{":path", "/"}}), "bad_pseudo_field");
  expect(trailers({{"X", "1"}}), "bad_field_name");
  expect(trailers({{"x", "1\n"}}), "bare_lf");
  expect(trailers({{"transfer-encoding", "chunked"}}), "bad_connection");
  expect(trailers({{"connection", "x"}}), "bad_connection");
  expect(trailers({{"a", "1"}, {"b", "2"}}, {8192, 1, 100}), "bad_trailer");
  expect(trailers({{"a", std::string(100, 'x')}}, {100, 10, 100}), "bad_trailer");
}

}  // namespace
}  // namespace gatehouse
