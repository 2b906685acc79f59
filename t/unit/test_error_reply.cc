// What a refused client is sent: problem details or a page, by its Accept field.
#include <criterion/criterion.h>

#include <string>

#include "http/error_reply.h"

using namespace gatehouse;

namespace {

std::string field_of(const Exchange& exchange, FieldId id) {
  const Field* field = exchange.response.fields.find(id);
  return field == nullptr ? "" : std::string(field->value);
}

bool is_html(const char* accept) {
  Exchange exchange;
  if (accept != nullptr) exchange.request.fields.push("Accept", accept);
  write_error_reply(exchange, Reason::kNoRoute);
  const std::string type = field_of(exchange, FieldId::kContentType);
  cr_assert(type == "text/html; charset=utf-8" || type == "application/problem+json");
  return type.starts_with("text/html");
}

}  // namespace

Test(error_reply, browsers_get_a_page_and_programs_do_not) {
  cr_expect(is_html("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"));
  cr_expect(is_html("text/html"));
  cr_expect(is_html("application/json;q=0.5, Text/HTML;q=0.9"));
  cr_expect(is_html("text/html;level=1;q=0.3"));
  cr_expect(not is_html(nullptr));
  cr_expect(not is_html("*/*"));
  cr_expect(not is_html(""));
  cr_expect(not is_html("application/json, text/html"));
  cr_expect(not is_html("application/problem+json, text/html;q=0.9"));
  cr_expect(not is_html("text/html;q=0"));
  cr_expect(not is_html("text/html;q=0.000, */*"));
  cr_expect(not is_html("text/html;q=0.5, application/json;q=0.501"));
  cr_expect(not is_html("text/html;q=x"));
  cr_expect(not is_html(",;,;q=,text/htmlx"));
}

Test(error_reply, problem_details_name_code_and_id) {
  Exchange exchange;
  exchange.request_id = "id\"\n<";
  write_error_reply(exchange, Reason::kNoRoute);
  cr_expect_eq(exchange.response.status, 404);
  cr_expect(exchange.reason == Reason::kNoRoute);
  cr_expect(field_of(exchange, FieldId::kCacheControl) == "no-store");
  const std::string body(exchange.response.content);
  cr_expect(body ==
                "{\"type\":\"about:blank\",\"title\":\"Not Found\",\"status\":404,\"detail\":\"No "
                "route matches the request.\",\"code\":\"no_route\",\"request_id\":"
                "\"id\\\"\\u000A<\"}\n",
            "%s", body.c_str());
  cr_expect_eq(exchange.response.body.length, body.size());
}

Test(error_reply, a_page_escapes_what_came_from_outside) {
  Exchange exchange;
  exchange.request.fields.push("Accept", "text/html");
  exchange.request_id = "<script>";
  write_error_reply(exchange, Reason::kNoTarget);
  const std::string body(exchange.response.content);
  cr_expect(body.find("<script>") == std::string::npos);
  cr_expect(body.find("&lt;script&gt;") != std::string::npos);
  cr_expect(body.find("503 Service Unavailable") != std::string::npos);
  cr_expect(body.find("no_target") != std::string::npos);
  cr_expect(field_of(exchange, FieldId::kRetryAfter) == "1");
}

Test(error_reply, every_reason_gives_an_error_status) {
  for (size_t i = 0; i < kReasonCount; ++i) {
    Exchange exchange;
    const auto reason = static_cast<Reason>(i);
    write_error_reply(exchange, reason);
    const uint16_t status = exchange.response.status;
    cr_expect(status >= 400 && status < 600 && status != 499, "%s gives %u",
              reason_info(reason).code, status);
    const uint16_t own = reason_info(reason).status;
    if (own >= 400 && own != 499) cr_expect_eq(status, own);
    const std::string title = "\"title\":\"\"";
    cr_expect(exchange.response.content.find(title) == std::string_view::npos, "%u has no phrase",
              status);
  }
}

Test(error_reply, grpc_is_answered_in_its_own_terms) {
  struct Case {
    const char* type;
    const char* answered;
  };
  for (const Case& one : {Case{"application/grpc", "application/grpc"},
                          Case{"application/grpc+proto", "application/grpc"},
                          Case{"application/grpc-web+proto", "application/grpc-web+proto"},
                          Case{"application/grpc-web-text", "application/grpc-web-text+proto"}}) {
    Exchange exchange;
    exchange.request.head.method_id = Method::kPost;
    exchange.request.fields.push("Content-Type", one.type);
    exchange.request_id = "id%1";
    write_error_reply(exchange, Reason::kRateLimited);
    cr_expect_eq(exchange.response.status, 200);
    cr_expect_eq(exchange.grpc_status, 8);
    cr_expect(exchange.reason == Reason::kRateLimited);
    cr_expect(field_of(exchange, FieldId::kContentType) == one.answered);
    cr_expect(exchange.response.content.empty());
    cr_expect(exchange.response.fields.find("grpc-status")->value == "8");
    const std::string message(exchange.response.fields.find("grpc-message")->value);
    cr_expect(message == "A rate limit has no room for the request. (rate_limited, request id%251)",
              "%s", message.c_str());
  }
}

Test(error_reply, a_get_is_no_grpc) {
  Exchange exchange;
  exchange.request.head.method_id = Method::kGet;
  exchange.request.fields.push("Content-Type", "application/grpc");
  write_error_reply(exchange, Reason::kNoRoute);
  cr_expect_eq(exchange.response.status, 404);
}
