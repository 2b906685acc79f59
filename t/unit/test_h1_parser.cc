// HTTP/1 heads. Each input is parsed whole, byte by byte and in all pairs of reads, each time from
// a buffer at another address, and the verdict must be the same.
#include "http/h1_parser.h"

#include <criterion/criterion.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

namespace gatehouse {
namespace {

using namespace std::string_literals;

// All that a parse tells, as text that can be compared.
std::string describe(ParseStatus status, Reason reason, const std::string& head,
                     const FieldList& fields) {
  if (status == ParseStatus::kIncomplete) return "incomplete";
  if (status == ParseStatus::kRefused) return "refused "s + reason_info(reason).code;
  std::string text = head;
  for (const Field& field : fields) {
    text += "|" + std::string(field.name) + "=" + std::string(field.value);
    if (field.dropped) text += "(dropped)";
    cr_assert(field.id == field_id(field.name));
  }
  return text;
}

std::string text_of(const RequestHead& head) {
  return std::string(head.method) + " " + std::string(head.target) + " " +
         std::to_string(head.minor_version) + " " + std::to_string(head.length);
}

std::string text_of(const ResponseHead& head) {
  return std::to_string(head.status) + " " + std::string(head.phrase) + " " +
         std::to_string(head.minor_version) + " " + std::to_string(head.length);
}

// Feeds prefixes of `bytes` that end at the given offsets.
template <typename Parser, typename Head>
std::string feed(const std::string& bytes, const std::vector<size_t>& ends,
                 const H1Limits& limits) {
  Parser parser;
  Head head;
  FieldList fields;
  ParseStatus status = ParseStatus::kIncomplete;
  std::unique_ptr<char[]> buffer;
  for (const size_t end : ends) {
    // Exactly as large as its contents, so that the address sanitizer sees each byte too far; the
    // old one is freed only when the new one has another address.
    auto next = std::make_unique<char[]>(end);
    std::copy_n(bytes.data(), end, next.get());
    buffer = std::move(next);
    status = parser.parse({buffer.get(), end}, limits, head, fields);
    if (status != ParseStatus::kIncomplete) break;
  }
  const std::string text = status == ParseStatus::kComplete ? text_of(head) : "";
  return describe(status, parser.reason(), text, fields);
}

template <typename Parser, typename Head>
void expect(const std::string& bytes, const std::string& wanted, const H1Limits& limits = {}) {
  const std::string whole = feed<Parser, Head>(bytes, {bytes.size()}, limits);
  cr_assert_str_eq(whole.c_str(), wanted.c_str(), "\n%s\ngives   %s\ninstead %s", bytes.c_str(),
                   whole.c_str(), wanted.c_str());
  std::vector<size_t> each;
  for (size_t i = 1; i <= bytes.size(); ++i) each.push_back(i);
  const std::string single = feed<Parser, Head>(bytes, each, limits);
  cr_assert_str_eq(single.c_str(), wanted.c_str(), "byte by byte: %s", bytes.c_str());
  for (size_t i = 0; i < bytes.size() && bytes.size() < 600; ++i) {
    const std::string split = feed<Parser, Head>(bytes, {i, bytes.size()}, limits);
    cr_assert_str_eq(split.c_str(), wanted.c_str(), "split at %zu: %s", i, bytes.c_str());
  }
}

void request(const std::string& bytes, const std::string& wanted, const H1Limits& limits = {}) {
  expect<H1RequestParser, RequestHead>(bytes, wanted, limits);
}
void response(const std::string& bytes, const std::string& wanted, const H1Limits& limits = {}) {
  expect<H1ResponseParser, ResponseHead>(bytes, wanted, limits);
}

Test(h1_parser, requests_that_are_well_formed) {
  request("GET / HTTP/1.1\r\n\r\n", "GET / 1 18");
  request("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / 1 27|Host=a");
  request("GET / HTTP/1.0\r\nHost:a\r\n\r\nbody", "GET / 0 26|Host=a");
  request("POST /x?y=z HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
          "POST /x?y=z 1 52|Host=a|Content-Length=5");
  request("M-SEARCH * HTTP/1.1\r\nHost: a\r\n\r\n", "M-SEARCH * 1 32|Host=a");
  request("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / 1 29|Host=a");
  request("GET / HTTP/1.1\r\nA:\r\nB: \t \r\nC:  x \t y\t \r\n\r\n", "GET / 1 42|A=|B=|C=x \t y");
  request("GET / HTTP/1.1\r\nA: \x80\xFF caf\xC3\xA9\r\n\r\n", "GET / 1 31|A=\x80\xFF caf\xC3\xA9");
  request("GET / HTTP/1.1\r\n!#$%&'*+-.^_`|~09azAZ: x\r\n\r\n",
          "GET / 1 44|!#$%&'*+-.^_`|~09azAZ=x");
  request(
      "GET /" + std::string(100, 'a') + " HTTP/1.1\r\nLong: " + std::string(90, 'b') + "\r\n\r\n",
      "GET /" + std::string(100, 'a') + " 1 216|Long=" + std::string(90, 'b'));
}

Test(h1_parser, minor_versions_above_one_are_read_as_one) {
  request("GET / HTTP/1.2\r\n\r\n", "GET / 1 18");
  request("GET / HTTP/1.9\r\n\r\n", "GET / 1 18");
}

Test(h1_parser, names_that_imitate_others_are_marked) {
  request("GET / HTTP/1.1\r\nContent_Length: 5\r\nX_Y: 1\r\nTransfer.Encoding: x\r\n\r\n",
          "GET / 1 67|Content_Length=5(dropped)|X_Y=1|Transfer.Encoding=x(dropped)");
}

Test(h1_parser, incomplete_requests) {
  request("", "incomplete");
  request("\r", "incomplete");
  request("\r\n", "incomplete");
  request("G", "incomplete");
  request("GET /", "incomplete");
  request("GET / HTTP/1.1", "incomplete");
  request("GET / HTTP/1.1\r\n", "incomplete");
  request("GET / HTTP/1.1\r\nHost: a\r\n", "incomplete");
  request("GET / HTTP/1.1\r\nHost: a\r\n\r", "incomplete");
  request("GET / HTTP/1.1\r\nHost: a b c", "incomplete");
}

Test(h1_parser, request_lines_that_are_malformed) {
  request(" GET / HTTP/1.1\r\n\r\n", "refused bad_request_line");
  request("\r\n\r\nGET / HTTP/1.1\r\n\r\n", "refused bad_request_line");
  request("\nGET / HTTP/1.1\r\n\r\n", "refused bare_lf");
  request("\rGET / HTTP/1.1\r\n\r\n", "refused bare_cr");
  request("GET  / HTTP/1.1\r\n\r\n", "refused bad_request_line");
  request("GET /  HTTP/1.1\r\n\r\n", "refused bad_request_line");
  request("GET / HTTP/1.1 \r\n\r\n", "refused bad_request_line");
  request("GET\t/ HTTP/1.1\r\n\r\n", "refused bad_request_line");
  request("GET /\tHTTP/1.1\r\n\r\n", "refused bad_request_line");
  request("GET / HTTP/1.1\t\r\n\r\n", "refused bad_version");
  request("GET\r\n\r\n", "refused bad_request_line");
  request("GET /\r\n", "refused bad_version");
  request("GET /\rx HTTP/1.1\r\n", "refused bare_cr");
  request("GET /\n", "refused bare_lf");
  request("GET / HTTP/1.1\n\n", "refused bare_lf");
  request("GET / HTTP/1.1\rHost: a\r\n\r\n", "refused bare_cr");
  request("GET / HTTP/1.1\r\r\n", "refused bare_cr");
  request("GET /a b HTTP/1.1\r\n\r\n", "refused bad_version");
  request("GET /\0 HTTP/1.1\r\n\r\n"s, "refused nul_byte");
  request("G\0T / HTTP/1.1\r\n\r\n"s, "refused nul_byte");
  request("GET /\x7F HTTP/1.1\r\n\r\n", "refused bad_target");
  request("GET /\xC3\xA9 HTTP/1.1\r\n\r\n", "refused bad_target");
  request("GET /\x0B HTTP/1.1\r\n\r\n", "refused bad_target");
  request("\x16\x03\x01\x02\x00\x01", "refused bad_method");
}

Test(h1_parser, methods_that_are_malformed) {
  request("G@T / HTTP/1.1\r\n\r\n", "refused bad_method");
  request("GET: / HTTP/1.1\r\n\r\n", "refused bad_method");
  request("get / HTTP/1.1\r\n\r\n", "refused bad_method");
  request("Head / HTTP/1.1\r\n\r\n", "refused bad_method");
  request("connecT a:1 HTTP/1.1\r\n\r\n", "refused bad_method");
  request("propfind / HTTP/1.1\r\n\r\n", "propfind / 1 23");
  request(std::string(32, 'M') + " / HTTP/1.1\r\n\r\n", std::string(32, 'M') + " / 1 47");
  request(std::string(33, 'M') + " / HTTP/1.1\r\n\r\n", "refused method_not_implemented");
  request(std::string(33, 'M') + "\0"s, "refused method_not_implemented");
}

Test(h1_parser, versions_that_are_not_supported) {
  request("GET / HTTP/0.9\r\n\r\n", "refused unsupported_version");
  request("GET / HTTP/2.0\r\n\r\n", "refused unsupported_version");
  request("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "refused unsupported_version");
  request("GET / HTTP/3.1\r\n\r\n", "refused unsupported_version");
  request("GET / http/1.1\r\n\r\n", "refused bad_version");
  request("GET / HTTP/1\r\n\r\n", "refused bad_version");
  request("GET / HTTP/1.\r\n\r\n", "refused bad_version");
  request("GET / HTTP/1.10\r\n\r\n", "refused bad_version");
  request("GET / HTTP/01.1\r\n\r\n", "refused bad_version");
  request("GET / HTTP/+1.1\r\n\r\n", "refused bad_version");
  request("GET / HTTP 1.1\r\n\r\n", "refused bad_request_line");
  request("GET / HTTPS/1.1\r\n\r\n", "refused bad_version");
  request("GET / ICY/1.1\r\n\r\n", "refused bad_version");
  request("GET / HTTP/1.1\0\r\n\r\n"s, "refused nul_byte");
}

Test(h1_parser, field_lines_that_are_malformed) {
  const std::string line = "GET / HTTP/1.1\r\n";
  request(line + "Host : a\r\n\r\n", "refused space_before_colon");
  request(line + "Host\t: a\r\n\r\n", "refused space_before_colon");
  request(line + " Host: a\r\n\r\n", "refused obs_fold");
  request(line + "Host: a\r\n b\r\n\r\n", "refused obs_fold");
  request(line + "Host: a\r\n\tb\r\n\r\n", "refused obs_fold");
  request(line + "Host: a\r\n \r\n\r\n", "refused obs_fold");
  request(line + ": a\r\n\r\n", "refused bad_field_name");
  request(line + "Host\r\n\r\n", "refused bad_field_name");
  request(line + "Ho(st: a\r\n\r\n", "refused bad_field_name");
  request(line + "H\xC3\xB6st: a\r\n\r\n", "refused bad_field_name");
  request(line + "\"Host\": a\r\n\r\n", "refused bad_field_name");
  request(line + "Host\0: a\r\n\r\n"s, "refused nul_byte");
  request(line + "Ho\rst: a\r\n\r\n", "refused bad_field_name");
  request(line + "Ho\nst: a\r\n\r\n", "refused bare_lf");
  request(line + "Host: a\nX: b\r\n\r\n", "refused bare_lf");
  request(line + "Host: a\rX: b\r\n\r\n", "refused bare_cr");
  request(line + "Host: a\r\r\n\r\n", "refused bare_cr");
  request(line + "Host: a\r\n\n", "refused bare_lf");
  request(line + "Host: a\r\n\rGET", "refused bare_cr");
  request(line + "Host: a\r\n\r\r\n", "refused bare_cr");
  request(line + "Host: a\0b\r\n\r\n"s, "refused nul_byte");
  request(line + "Host: a\x01\r\n\r\n", "refused bad_field_value");
  request(line + "Host: a\x7F\r\n\r\n", "refused bad_field_value");
  request(line + "Host: " + std::string(40, 'a') + "\x1B\r\n\r\n", "refused bad_field_value");
}

// Every byte in every role, against the grammar of RFC 9110.
Test(h1_parser, each_byte_in_names_and_values) {
  const std::string token = "!#$%&'*+-.^_`|~";
  for (int i = 0; i < 256; ++i) {
    const char c = static_cast<char>(i);
    const bool alnum = i < 128 && std::isalnum(i) != 0;
    FieldList fields;
    RequestHead head;
    H1RequestParser parser;
    std::string bytes = "GET / HTTP/1.1\r\nA"s + c + "b: v\r\n\r\n";
    ParseStatus status = parser.parse(bytes, {}, head, fields);
    const bool name_ok = alnum || (c != '\0' && token.find(c) != std::string::npos);
    // A colon ends the name early, which is well-formed too.
    cr_assert_eq(status == ParseStatus::kComplete, name_ok || c == ':', "name byte %d", i);

    for (const size_t padding : {0, 3, 20}) {
      fields.clear();
      parser.reset();
      bytes =
          "GET / HTTP/1.1\r\nA: " + std::string(padding, 'x') + c + "yyyyyyyyyyyyyyyyyy\r\n\r\n";
      status = parser.parse(bytes, {}, head, fields);
      const bool value_ok = (i >= 0x20 && i != 0x7F) || c == '\t';
      cr_assert_eq(status == ParseStatus::kComplete, value_ok, "value byte %d", i);

      fields.clear();
      parser.reset();
      bytes = "GET /" + std::string(padding, 'x') + c + "yyyyyyyyyyyyyyyyyy HTTP/1.1\r\n\r\n";
      status = parser.parse(bytes, {}, head, fields);
      cr_assert_eq(status == ParseStatus::kComplete, i > 0x20 && i < 0x7F, "target byte %d", i);
    }
  }
}

Test(h1_parser, limits) {
  H1Limits limits;
  limits.target_max = 20;
  const std::string target = "/" + std::string(19, 'a');
  request("GET " + target + " HTTP/1.1\r\n\r\n", "GET " + target + " 1 37", limits);
  request("GET " + target + "b HTTP/1.1\r\n\r\n", "refused target_too_long", limits);
  request("GET " + target + "b", "refused target_too_long", limits);
  request("GET " + target + "\0"s, "refused nul_byte", limits);
  request("GET " + target, "incomplete", limits);

  limits = H1Limits();
  limits.fields_max = 2;
  const std::string two = "GET / HTTP/1.1\r\nA: 1\r\nB: 2\r\n";
  request(two + "\r\n", "GET / 1 30|A=1|B=2", limits);
  request(two + "C: 3\r\n\r\n", "refused too_many_fields", limits);
  request(two + "C", "refused too_many_fields", limits);
  request(two + "\n", "refused too_many_fields", limits);

  limits = H1Limits();
  limits.head_max = 30;
  request(two + "\r\n", "GET / 1 30|A=1|B=2", limits);
  request(two + "\r\nmore bytes", "GET / 1 30|A=1|B=2", limits);
  request(two + "C: 3\r\n\r\n", "refused head_too_large", limits);
  request("GET /" + std::string(30, 'a'), "refused head_too_large", limits);
  request("GET / HTTP/1.1\r\nA: " + std::string(30, 'a'), "refused head_too_large", limits);
  // What lies beyond the limit is not looked at.
  request("GET / HTTP/1.1\r\nA: aaaaaaaaaaa\n", "refused head_too_large", limits);

  request("GET / HTTP/1.1\r\n" + std::string(256, 'n') + ": x\r\n\r\n",
          "GET / 1 279|" + std::string(256, 'n') + "=x");
  request("GET / HTTP/1.1\r\n" + std::string(257, 'n') + ": x\r\n\r\n", "refused head_too_large");
}

// The whole head may come in single bytes without the work growing with the square of its size.
Test(h1_parser, a_large_head_byte_by_byte, .timeout = 20) {
  std::string bytes = "GET /" + std::string(8000, 'a') + " HTTP/1.1\r\n";
  for (int i = 0; i < 20; ++i) {
    bytes += "Name-" + std::to_string(i) + ": " + std::string(1000, 'v') + "\r\n";
  }
  bytes += "Last: " + std::string(3500, 'v') + "\r\n\r\n";
  H1RequestParser parser;
  RequestHead head;
  FieldList fields;
  for (size_t end = 0; end < bytes.size(); ++end) {
    cr_assert(parser.parse({bytes.data(), end}, {}, head, fields) == ParseStatus::kIncomplete);
  }
  cr_assert(parser.parse(bytes, {}, head, fields) == ParseStatus::kComplete);
  cr_assert_eq(fields.size(), 21u);
  cr_assert_eq(head.length, bytes.size());
  cr_assert_eq(head.target.size(), 8001u);
}

Test(h1_parser, begun_tells_idle_from_waiting) {
  H1RequestParser parser;
  RequestHead head;
  FieldList fields;
  cr_assert_not(parser.begun());
  parser.parse("\r\n", {}, head, fields);
  cr_assert_not(parser.begun());
  parser.parse("\r\nG", {}, head, fields);
  cr_assert(parser.begun());
  parser.reset();
  cr_assert_not(parser.begun());
}

Test(h1_parser, pipelined_requests_end_where_they_end) {
  const std::string one = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n";
  const std::string two = "GET /2 HTTP/1.1\r\nHost: b\r\n\r\n";
  const std::string bytes = one + two;
  H1RequestParser parser;
  RequestHead head;
  FieldList fields;
  cr_assert(parser.parse(bytes, {}, head, fields) == ParseStatus::kComplete);
  cr_assert_eq(head.length, one.size());
  parser.reset();
  fields.clear();
  cr_assert(parser.parse(std::string_view(bytes).substr(head.length), {}, head, fields) ==
            ParseStatus::kComplete);
  cr_assert(head.target == "/2" && fields[0].value == "b");
}

Test(h1_parser, responses_that_are_well_formed) {
  response("HTTP/1.1 200 OK\r\n\r\n", "200 OK 1 19");
  response("HTTP/1.0 404 Not Found\r\nServer: x\r\n\r\n", "404 Not Found 0 37|Server=x");
  response("HTTP/1.1 200 \r\n\r\n", "200  1 17");
  response("HTTP/1.1 200\r\nA: b\r\n\r\n", "200  1 22|A=b");
  response("HTTP/1.1 599 \xC3\xA9t\xC3\xA9\tx\r\n\r\n", "599 \xC3\xA9t\xC3\xA9\tx 1 24");
  response("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "100 Continue 1 25");
}

Test(h1_parser, responses_that_are_malformed) {
  response("\r\nHTTP/1.1 200 OK\r\n\r\n", "refused bad_status_line");
  response("HTTP/1.1  200 OK\r\n\r\n", "refused bad_status_line");
  response("HTTP/1.1 20 OK\r\n\r\n", "refused bad_status_line");
  response("HTTP/1.1 2000 OK\r\n\r\n", "refused bad_status_line");
  response("HTTP/1.1 099 OK\r\n\r\n", "refused bad_status_line");
  response("HTTP/1.1 600 OK\r\n\r\n", "refused bad_status_line");
  response("HTTP/1.1 +20 OK\r\n\r\n", "refused bad_status_line");
  response("HTTP/1.1\t200 OK\r\n\r\n", "refused bad_status_line");
  response("HTTP/1.1 200OK\r\n\r\n", "refused bad_status_line");
  response("HTTP/1.1 200 O\x01K\r\n\r\n", "refused bad_status_line");
  response("HTTP/1.1 200 OK\n\n", "refused bare_lf");
  response("HTTP/1.1 200 O\rK\r\n\r\n", "refused bare_cr");
  response("HTTP/1.1 200 O\0K\r\n\r\n"s, "refused nul_byte");
  response("HTTP/2.0 200 OK\r\n\r\n", "refused unsupported_version");
  response("http/1.1 200 OK\r\n\r\n", "refused bad_status_line");
  response("ICY 200 OK\r\n\r\n", "refused bad_status_line");
  response("SSH-2.0-OpenSSH\r\n", "refused bad_status_line");
  response("HTTP/1.1 200 OK\r\nA : b\r\n\r\n", "refused space_before_colon");
  response("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", "refused obs_fold");
  response("HTTP/1.1 200 OK\r\nA: b\nC: d\r\n\r\n", "refused bare_lf");
  H1Limits limits;
  limits.head_max = 20;
  response("HTTP/1.1 200 OK\r\nA: b\r\n\r\n", "refused head_too_large", limits);
  response("HTTP/1.1 200 " + std::string(20, 'x'), "refused head_too_large", limits);
  limits = H1Limits();
  limits.fields_max = 1;
  response("HTTP/1.1 200 OK\r\nA: b\r\nB: c\r\n\r\n", "refused too_many_fields", limits);
}

Test(h1_parser, incomplete_responses) {
  response("HTTP/1.1 2", "incomplete");
  response("HTTP/1.1 200", "incomplete");
  response("HTTP/1.1 200 OK\r", "incomplete");
  response("HTTP/1.1 200 OK\r\nA: b\r\n", "incomplete");
}

}  // namespace
}  // namespace gatehouse
