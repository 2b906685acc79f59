// The messages of the gRPC health protocol.
#include "agent/grpc_health.h"

#include <criterion/criterion.h>

#include <string>
#include <string_view>

#include "expect_text.h"

namespace {

using namespace gatehouse;
using std::string_view_literals::operator""sv;

std::string judged(std::string_view body, const char* status = "0", int http = 200) {
  ProbeAnswer answer;
  answer.status = http;
  answer.fields.push_back({"Content-Type", "application/grpc"});
  if (status != nullptr) answer.fields.push_back({"Grpc-Status", status});
  answer.body = body;
  const ProbeOutcome outcome = judge_grpc_health(answer);
  return outcome.good ? "good" : outcome.why;
}

}  // namespace

Test(grpc_health, requests) {
  cr_expect(grpc_health_request("") == "\0\0\0\0\0"sv);
  cr_expect(grpc_health_request("a.B") == "\0\0\0\0\5\x0A\3a.B"sv);
}

Test(grpc_health, answers) {
  expect(judged("\0\0\0\0\2\x08\1"sv), "good");
  expect(judged("\0\0\0\0\2\x08\2"sv), "NOT_SERVING");
  expect(judged("\0\0\0\0\2\x08\3"sv), "SERVICE_UNKNOWN");
  expect(judged("\0\0\0\0\2\x08\x09"sv), "serving status 9");
  expect(judged("\0\0\0\0\0"sv), "UNKNOWN");
  // What a later version of the protocol may add.
  expect(judged("\0\0\0\0\x14\x12\2ab\x19\1\2\3\4\5\6\7\x08\x08\1\x25\1\2\3\4"sv), "good");
}

Test(grpc_health, what_is_no_answer) {
  expect(judged("\0\0\0\0\2\x08\1"sv, nullptr), "no grpc-status");
  expect(judged("", "12"), "grpc-status 12");
  expect(judged("", "0", 503), "HTTP status 503");
  expect(judged(""), "the answer is no message");
  expect(judged("\1\0\0\0\2\x08\1"sv), "the answer is no message");
  expect(judged("\0\0\0\0\3\x08\1"sv), "the answer is no message");
  expect(judged("\0\0\0\0\1\x08"sv), "the answer is malformed");
  expect(judged("\0\0\0\0\2\x0A\5"sv), "the answer is malformed");
  expect(judged("\0\0\0\0\2\x0B\1"sv), "the answer is malformed");
}
