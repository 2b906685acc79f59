// gRPC-Web: browsers' calls, translated for upstreams that speak gRPC and back.
//
//   [route greeter]
//   grpc     = helloworld.Greeter
//   grpc_web = on
//   upstream = greeters            # [upstream greeters] protocol = h2
//
// A browser can neither read trailers nor be sure of HTTP/2, so gRPC-Web
// (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md) puts the trailers behind the last
// message, as a frame of the body whose first bit is set: 0x80, length, lines "name: value". The
// text form (application/grpc-web-text) has all of that in Base64, each piece of it padded.
//
// Requests: the type becomes application/grpc with its suffix, a body in Base64 is decoded; text
// that is none ends the exchange (bad_grpc_web). Responses of the type application/grpc: the type
// is that of the request again, the trailers become a frame; an answer that is trailers-only stays
// one, with its status in the head. Other responses, an upstream's error page, go through as they
// are. Plain gRPC over the same route is not touched.
//
// CORS is the user's business: the route takes POST only, and OPTIONS can have one of its own.
// Nothing is shared. Leaves out: gRPC-Web towards upstreams, WebSocket transports.
#include <cstdint>
#include <string>
#include <string_view>

#include "core/base64.h"
#include "http/client_filter.h"
#include "http/grpc.h"
#include "http/module.h"
#include "http/route_conf.h"
#include "modules/registry.h"

namespace gatehouse {

namespace {

struct GrpcWebConf {
  bool grpc_web = false;
};

// "+proto" of "application/grpc-web-text+proto; charset=x"; empty where there is none.
std::string_view suffix_of(std::string_view type) {
  type = type.substr(0, type.find_first_of("; \t"));
  const size_t plus = type.find('+');
  return plus == type.npos ? std::string_view() : type.substr(plus);
}

// The trailers as a frame of the body.
std::string trailer_frame(const FieldList* trailers) {
  std::string lines;
  bool status = false;
  if (trailers != nullptr) {
    for (const Field& field : *trailers) {
      if (field.dropped) continue;
      for (const char c : field.name) {
        lines += c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
      }
      lines.append(": ").append(field.value).append("\r\n");
      status = status || equal_ignoring_case(field.name, "grpc-status");
    }
  }
  // An upstream that does not say how the call has ended: UNKNOWN.
  if (!status) lines += "grpc-status: 2\r\n";
  std::string frame = {'\x80'};
  for (int shift = 24; shift >= 0; shift -= 8) {
    frame += static_cast<char>(lines.size() >> shift & 0xFF);
  }
  return frame += lines;
}

class GrpcWebClient final : public ClientFilter {
 public:
  GrpcWebClient(Exchange& exchange, GrpcWeb kind) : ClientFilter(exchange), kind_(kind) {}

  Task<BodyPiece> read_body() override {
    return kind_ == GrpcWeb::kText ? read_text() : next_.read_body();
  }
  bool body_ready() const override { return kind_ != GrpcWeb::kText && next_.body_ready(); }

  Task<bool> send_head(std::string_view first, bool last) override {
    Response& response = exchange_.response;
    Field* type = response.fields.find(FieldId::kContentType);
    if (type == nullptr || !is_grpc_type(type->value)) return next_.send_head(first, last);
    const std::string_view name =
        kind_ == GrpcWeb::kText ? "application/grpc-web-text" : "application/grpc-web";
    const std::string_view suffix = suffix_of(type->value);
    type->value = exchange_.arena.concat(name, suffix.empty() ? "+proto" : suffix);
    type->verbatim = false;
    response.fields.drop(FieldId::kTrailer);
    if (last && first.empty() && response.fields.find("grpc-status") != nullptr) {
      return next_.send_head(first, last);
    }
    response.fields.drop(FieldId::kContentLength);
    response.body = {BodyLength::Kind::kChunked, 0};
    translating_ = true;
    return begin(first, last);
  }
  Task<bool> send_body(std::string_view bytes) override {
    if (!translating_) return next_.send_body(bytes);
    return next_.send_body(encoded(bytes));
  }
  Task<bool> send_end(const FieldList* trailers) override {
    if (!translating_) return next_.send_end(trailers);
    return finish(trailers);
  }

 private:
  // Valid until the next call.
  std::string_view encoded(std::string_view bytes) {
    if (kind_ != GrpcWeb::kText) return bytes;
    text_.clear();
    append_base64(bytes, text_);
    return text_;
  }

  Task<bool> begin(std::string_view first, bool last) {
    const bool there = co_await next_.send_head(encoded(first), false);
    if (!there || !last) co_return there;
    const bool still_there = co_await finish(nullptr);
    co_return still_there;
  }

  Task<bool> finish(const FieldList* trailers) {
    const std::string frame = trailer_frame(trailers);
    const bool there = co_await next_.send_body(encoded(frame));
    if (!there) co_return false;
    const bool still_there = co_await next_.send_end(nullptr);
    co_return still_there;
  }

  Task<BodyPiece> read_text() {
    for (;;) {
      BodyPiece piece = co_await next_.read_body();
      if (piece.status == BodyPiece::Status::kFailed) co_return piece;
      decoded_.clear();
      const bool well = piece.status == BodyPiece::Status::kEnd
                            ? decoder_.at_end()
                            : decoder_.decode(piece.bytes, decoded_);
      if (!well) {
        piece.status = BodyPiece::Status::kFailed;
        piece.why = Reason::kBadGrpcWeb;
        piece.bytes = {};
        co_return piece;
      }
      if (piece.status == BodyPiece::Status::kEnd) co_return piece;
      piece.bytes = decoded_;
      if (!decoded_.empty()) co_return piece;
    }
  }

  GrpcWeb kind_;
  bool translating_ = false;
  std::string text_;
  std::string decoded_;
  Base64Decoder decoder_;
};

Verdict translate(Exchange& exchange, const void*) {
  Request& request = exchange.request;
  const Field* type = request.fields.find(FieldId::kContentType);
  const GrpcWeb kind = type == nullptr ? GrpcWeb::kNo : grpc_web_type(type->value);
  if (kind == GrpcWeb::kNo) return Verdict::kContinue;
  add_client_filter<GrpcWebClient>(exchange, kind);
  const std::string_view suffix = suffix_of(type->value);
  exchange.set_upstream_field("Content-Type", exchange.arena.concat("application/grpc", suffix));
  for (Field& field : request.fields) {
    if (equal_ignoring_case(field.name, "X-Grpc-Web")) field.dropped = true;
  }
  request.facts.te_trailers = true;
  // What is decoded has another length.
  if (kind == GrpcWeb::kText && !request.facts.body.empty()) {
    request.facts.body = {BodyLength::Kind::kChunked, 0};
  }
  return Verdict::kContinue;
}

// ---- Configuration ------------------------------------------------------------------------------

constexpr Directive kDirectives[] = {
    directive<&GrpcWebConf::grpc_web>(
        "grpc_web",
        "Takes gRPC-Web calls of browsers, too, and translates them: for routes with grpc whose "
        "upstream speaks gRPC.",
        "on"),
};

constexpr DirectiveTable kTable = directive_table<GrpcWebConf>("route", kDirectives);
constexpr const DirectiveTable* kTables[] = {&kTable};

Result<void> compile(RouteBuilder& builder) {
  if (builder.is_fallback() || !builder.section().get<GrpcWebConf>(kTable).grpc_web) return {};
  // From [defaults] it means the routes with grpc alone.
  if (builder.section().get<RouteConf>(kRouteTable).grpc.empty()) return {};
  builder.add_hook(Phase::kAuthenticate, &translate, nullptr, kTable, "grpc_web");
  return {};
}

}  // namespace

constinit const Module kGrpcWebModule = {"grpc_web", kTables, &compile};

}  // namespace gatehouse
