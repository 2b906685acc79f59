// The names and numbers of gRPC.
#include "http/grpc.h"

#include <criterion/criterion.h>

#include <string>
#include <string_view>

#include "expect_text.h"

namespace {

using namespace gatehouse;
using std::chrono::hours;
using std::chrono::milliseconds;

GrpcWeb web(std::string_view type) {
  return grpc_web_type(type);
}

}  // namespace

Test(grpc, content_types) {
  for (const std::string_view type : {"application/grpc", "application/grpc+proto",
                                      "Application/gRPC; charset=x", "application/grpc;x"}) {
    cr_expect(is_grpc_type(type), "%s", std::string(type).c_str());
    cr_expect(web(type) == GrpcWeb::kNo);
  }
  for (const std::string_view type :
       {"application/grpc-web", "application/grpcx", "application/json", "", "application/grp"}) {
    cr_expect_not(is_grpc_type(type), "%s", std::string(type).c_str());
  }
  cr_expect(web("application/grpc-web") == GrpcWeb::kBinary);
  cr_expect(web("application/grpc-web+proto") == GrpcWeb::kBinary);
  cr_expect(web("application/grpc-web-text") == GrpcWeb::kText);
  cr_expect(web("application/grpc-web-text+proto") == GrpcWeb::kText);
  cr_expect(web("application/grpc-web-texts") == GrpcWeb::kNo);
  cr_expect(web("application/grpc-webtext") == GrpcWeb::kNo);
}

Test(grpc, timeouts) {
  cr_expect(parse_grpc_timeout("100m") == milliseconds(100));
  cr_expect(parse_grpc_timeout("2S") == milliseconds(2000));
  cr_expect(parse_grpc_timeout("1M") == milliseconds(60'000));
  cr_expect(parse_grpc_timeout("99999999H") == hours(99'999'999));
  cr_expect(parse_grpc_timeout("0n") == milliseconds(0));
  cr_expect(parse_grpc_timeout("1n") == milliseconds(1));
  cr_expect(parse_grpc_timeout("1000u") == milliseconds(1));
  cr_expect(parse_grpc_timeout("1001u") == milliseconds(2));
  for (const std::string_view text :
       {"", "S", "1", "1s", "123456789m", "-1S", "1.5S", " 1S", "1S ", "1 S", "+1S"}) {
    cr_expect_not(parse_grpc_timeout(text).has_value(), "%s", std::string(text).c_str());
  }
}

Test(grpc, reasons_have_statuses) {
  cr_expect(grpc_status_for(Reason::kNoRoute) == GrpcStatus::kUnimplemented);
  cr_expect(grpc_status_for(Reason::kRateLimited) == GrpcStatus::kResourceExhausted);
  cr_expect(grpc_status_for(Reason::kUpstreamTimeout) == GrpcStatus::kDeadlineExceeded);
  cr_expect(grpc_status_for(Reason::kUpstreamConnectTimeout) == GrpcStatus::kUnavailable);
  cr_expect(grpc_status_for(Reason::kUpstreamConnectFailed) == GrpcStatus::kUnavailable);
  cr_expect(grpc_status_for(Reason::kCircuitOpen) == GrpcStatus::kUnavailable);
  cr_expect(grpc_status_for(Reason::kDraining) == GrpcStatus::kUnavailable);
  cr_expect(grpc_status_for(Reason::kBadHost) == GrpcStatus::kInternal);
  // None of what ends an exchange may pass for success.
  for (size_t i = 1; i < kReasonCount; ++i) {
    const auto reason = static_cast<Reason>(i);
    if (reason_info(reason).status < 400) continue;
    cr_expect(grpc_status_for(reason) != GrpcStatus::kOk, "%s", reason_info(reason).code);
  }
}

Test(grpc, statuses_as_text) {
  cr_expect(parse_grpc_status("0") == GrpcStatus::kOk);
  cr_expect(parse_grpc_status("14") == GrpcStatus::kUnavailable);
  cr_expect(parse_grpc_status("17") == GrpcStatus::kUnknown);
  for (const std::string_view text : {"", "-1", "1x", " 1", "1234567890"}) {
    cr_expect_not(parse_grpc_status(text).has_value());
  }
  expect(std::string(grpc_status_name(GrpcStatus::kDeadlineExceeded)), "DEADLINE_EXCEEDED");
  expect(std::string(grpc_status_name(GrpcStatus::kUnauthenticated)), "UNAUTHENTICATED");
}

Test(grpc, messages_are_percent_encoded) {
  expect(encode_grpc_message("No route matches."), "No route matches.");
  expect(encode_grpc_message("100% \xC3\xA4\r\n"), "100%25 %C3%A4%0D%0A");
}

Test(grpc, paths_name_service_and_method) {
  expect(std::string(parse_grpc_path("/a.b.C/D").service), "a.b.C");
  expect(std::string(parse_grpc_path("/a.b.C/D").method), "D");
  for (const std::string_view path : {"", "/", "/a", "//a", "/a/", "a/b"}) {
    cr_expect(parse_grpc_path(path).service.empty(), "%s", std::string(path).c_str());
  }
}
