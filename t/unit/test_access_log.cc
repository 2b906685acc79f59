// The access log's lines, formats and sampling; the hook itself is tried end to end.
#include "modules/access_log.h"

#include <criterion/criterion.h>

#include <string>

#include "http/exchange.h"
#include "http/route.h"
#include "http/router.h"
#include "http/upstream.h"

namespace gatehouse {
namespace {

// An exchange as it looks when its log line is written.
struct Fixture {
  Route route;
  Listener listener;
  Exchange exchange;

  Fixture() {
    route.name = "app";
    listener.name = "public";
    exchange.route = &route;
    exchange.listener = &listener;
    exchange.request.head.method = "GET";
    exchange.request.head.method_id = Method::kGet;
    exchange.request.head.target = "/a%20b?x=1";
    exchange.request.target.path = "/a%20b";
    exchange.request.target.query = "x=1";
    exchange.request.target.has_query = true;
    exchange.request.target.wire = "/a%20b?x=1";
    exchange.request.authority.host = "example.com";
    exchange.request.fields.push("User-Agent", "curl/8 \"quoted\"");
    exchange.client_text = "192.0.2.7";
    exchange.request_id = "0123456789abcdef";
    exchange.response.status = 200;
    exchange.response.body_bytes = 1234;
    exchange.times.started = Moment{1'000'000};
    exchange.times.finished = Moment{1'012'345};
  }
  std::string line(std::string_view format) {
    Result<LogFormat> parsed = ValueType<LogFormat>::parse(format);
    cr_assert(parsed.ok(), "%s", parsed.ok() ? "" : parsed.error().message.c_str());
    fmt::memory_buffer out;
    render_log_line(*parsed, exchange, out);
    return fmt::to_string(out);
  }
};

void assert_has(const std::string& text, const std::string& piece) {
  cr_assert(text.find(piece) != std::string::npos, "no %s in %s", piece.c_str(), text.c_str());
}

Test(access_log, the_combined_format) {
  Fixture f;
  const std::string line = f.line("combined");
  cr_assert_eq(line.substr(0, 15), "192.0.2.7 - - [", "%s", line.c_str());
  assert_has(line, "] \"GET /a%20b?x=1 HTTP/1.1\" 200 1234 \"-\" \"curl/8 ");
  assert_has(line, "\\x22quoted\\x22\"");
  LogFormat unset;
  fmt::memory_buffer out;
  render_log_line(unset, f.exchange, out);
  cr_assert_eq(fmt::to_string(out).substr(0, 15), "192.0.2.7 - - [");
}

Test(access_log, json_is_one_object_without_empty_members) {
  Fixture f;
  const std::string line = f.line("json");
  cr_assert_eq(line.substr(0, 9), "{\"time\":\"", "%s", line.c_str());
  cr_assert_eq(line.back(), '}');
  for (const char* piece :
       {"\"request_id\":\"0123456789abcdef\"", "\"client\":\"192.0.2.7\"",
        "\"listener\":\"public\"", "\"route\":\"app\"", "\"method\":\"GET\"",
        "\"host\":\"example.com\"", "\"path\":\"/a%20b\"", "\"query\":\"x=1\"",
        "\"protocol\":\"HTTP/1.1\"", "\"status\":200", "\"reason\":\"none\"", "\"bytes_out\":1234",
        "\"duration\":0.012345", "\"user_agent\":\"curl/8 \\\"quoted\\\"\""}) {
    assert_has(line, piece);
  }
  cr_assert(line.find("\"referer\"") == std::string::npos);
  cr_assert(line.find("\"target\"") == std::string::npos);
  cr_assert(line.find("\"tries\"") == std::string::npos);
  cr_assert(line.find(":,") == std::string::npos);
}

Test(access_log, json_names_the_target) {
  Fixture f;
  UpstreamTarget target;
  target.name = "users/127.0.0.1:8080";
  target.address_text = "127.0.0.1:8080";
  f.exchange.target = &target;
  f.exchange.tries = 2;
  f.exchange.target_reused = true;
  const std::string line = f.line("json");
  assert_has(line, "\"target\":\"127.0.0.1:8080\"");
  assert_has(line, "\"tries\":2");
  assert_has(line, "\"target_reused\":true");
}

// What a client chose must neither break the line nor the JSON.
Test(access_log, every_byte_is_kept_inside_its_line) {
  for (int byte = 0; byte < 256; ++byte) {
    Fixture f;
    std::string agent = "<";
    agent += static_cast<char>(byte);
    agent += ">";
    f.exchange.request.fields.clear();
    f.exchange.request.fields.push("User-Agent", agent);
    f.exchange.request.head.target = agent;
    for (const char* format : {"combined", "json", "$raw_target|$header_user_agent"}) {
      const std::string line = f.line(format);
      for (const char c : line) {
        cr_assert(static_cast<uint8_t>(c) >= 0x20 && c != 0x7f, "byte %d in %s", byte, format);
        if (std::string_view(format) != "json") cr_assert_lt(static_cast<uint8_t>(c), 0x7f);
      }
    }
    const std::string json = f.line("json");
    // A lone byte above 0x7F is no UTF-8.
    if (byte >= 0x80) assert_has(json, "\"user_agent\":\"<\xef\xbf\xbd>\"");
    if (byte == '"') assert_has(json, "\"user_agent\":\"<\\\">\"");
  }
}

Test(access_log, a_request_without_a_readable_head_still_makes_a_line) {
  Exchange exchange;
  exchange.response.status = 400;
  exchange.reason = Reason::kBadRequestLine;
  exchange.client_text = "192.0.2.7";
  fmt::memory_buffer out;
  render_log_line(*ValueType<LogFormat>::parse("json"), exchange, out);
  assert_has(fmt::to_string(out), "\"reason\":\"bad_request_line\"");
  out.clear();
  render_log_line(LogFormat(), exchange, out);
  assert_has(fmt::to_string(out), "\" 400 0 \"-\" \"-\"");
}

Test(access_log, formats_are_read_back_as_written) {
  for (const char* text : {"combined", "json", "$client_address \"$request_line\" $$ $status"}) {
    Result<LogFormat> parsed = ValueType<LogFormat>::parse(text);
    cr_assert(parsed.ok());
    cr_assert_eq(ValueType<LogFormat>::format(*parsed), text);
  }
  cr_assert(!ValueType<LogFormat>::parse("jsn").ok());
  cr_assert(!ValueType<LogFormat>::parse("$no_such_variable").ok());
}

Test(access_log, samples_are_read_back_as_written) {
  Result<LogSample> sample = ValueType<LogSample>::parse("2xx 1% 4xx 50.5% none 0%");
  cr_assert(sample.ok());
  cr_assert_eq(sample->hundredths[2], 100);
  cr_assert_eq(sample->hundredths[4], 5050);
  cr_assert_eq(sample->hundredths[0], 0);
  cr_assert_eq(sample->hundredths[5], 10'000);
  Result<LogSample> again = ValueType<LogSample>::parse(ValueType<LogSample>::format(*sample));
  cr_assert(again.ok());
  cr_assert(again->hundredths == sample->hundredths);
  Result<LogSample> whole = ValueType<LogSample>::parse(ValueType<LogSample>::format(LogSample()));
  cr_assert(whole.ok());
  cr_assert(whole->hundredths == LogSample().hundredths);
  for (const char* text : {"", "2xx", "2xx 101%", "6xx 1%", "2xx 1% 2xx 2%", "1%", "2xx 1"}) {
    cr_assert(!ValueType<LogSample>::parse(text).ok(), "%s", text);
  }
}

// Ids that differ in a digit only must not all be in or all be out.
Test(access_log, sampling_takes_its_share_of_similar_ids) {
  constexpr int kIds = 100'000;
  int kept = 0;
  for (int i = 0; i < kIds; ++i) {
    const uint32_t point = sample_point(fmt::format("6f1d-{:08}", i));
    cr_assert_lt(point, 10'000u);
    if (point < 500) ++kept;
  }
  // 5 % of them, give or take six standard deviations.
  cr_assert_gt(kept, 4580);
  cr_assert_lt(kept, 5420);
  cr_assert_eq(sample_point("abc"), sample_point("abc"));
}

}  // namespace
}  // namespace gatehouse
