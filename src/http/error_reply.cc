// Error replies; see error_reply.h.
#include "http/error_reply.h"

#include <algorithm>
#include <string_view>

#include "core/format.h"
#include "http/grpc.h"
#include "http/h1_writer.h"
#include "http/text_template.h"

namespace gatehouse {

namespace {

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

std::string_view take_until(std::string_view& text, char end) {
  const size_t at = std::min(text.find(end), text.size());
  const std::string_view piece = trim(text.substr(0, at));
  text.remove_prefix(std::min(at + 1, text.size()));
  return piece;
}

// "0.8" in thousandths (RFC 9110 §12.4.2); 0 for anything malformed.
unsigned parse_weight(std::string_view text) {
  if (text.starts_with('1')) return 1000;
  if (!text.starts_with('0')) return 0;
  unsigned weight = 0;
  unsigned scale = 100;
  for (const char c : text.substr(std::min<size_t>(2, text.size()))) {
    if (c < '0' || c > '9') return 0;
    weight += static_cast<unsigned>(c - '0') * scale;
    scale /= 10;
  }
  return weight;
}

// True where the client asks for HTML by name and wants JSON less: a browser, not a program.
bool prefers_html(const FieldList& fields) {
  const Field* accept = fields.find(FieldId::kAccept);
  if (accept == nullptr) return false;
  unsigned html = 0;
  unsigned json = 0;
  std::string_view rest = accept->value;
  while (!rest.empty()) {
    std::string_view range = take_until(rest, ',');
    const std::string_view type = take_until(range, ';');
    unsigned weight = 1000;
    while (!range.empty()) {
      const std::string_view parameter = take_until(range, ';');
      if (parameter.size() > 2 && (parameter[0] | 0x20) == 'q' && parameter[1] == '=') {
        weight = parse_weight(parameter.substr(2));
      }
    }
    if (equal_ignoring_case(type, "text/html")) {
      html = std::max(html, weight);
    } else if (equal_ignoring_case(type, "application/json") ||
               equal_ignoring_case(type, "application/problem+json")) {
      json = std::max(json, weight);
    }
  }
  return html > json;
}

void append_page(uint16_t status, std::string_view title, const ReasonInfo& info,
                 std::string_view request_id, TextBuffer& out) {
  fmt::format_to(fmt::appender(out),
                 "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
                 "<meta name=\"viewport\" content=\"width=device-width\"><title>{0} {1}</title>\n"
                 "<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:40em;margin:15vh auto;"
                 "padding:0 1em;color:#222;background:#fff}}h1{{font-size:1.4em}}"
                 "code{{color:#666;font-size:.9em;overflow-wrap:anywhere}}"
                 "@media(prefers-color-scheme:dark){{body{{color:#ddd;background:#181818}}"
                 "code{{color:#999}}}}</style></head>\n"
                 "<body><h1>{0} {1}</h1><p>{2}</p><p><code>{3}",
                 status, title, info.text, info.code);
  if (!request_id.empty()) {
    append_text(out, "<br>");
    append_escaped(request_id, TextEscape::kHtml, out);
  }
  append_text(out, "</code></p></body></html>\n");
}

void append_problem(uint16_t status, std::string_view title, const ReasonInfo& info,
                    std::string_view request_id, TextBuffer& out) {
  fmt::format_to(fmt::appender(out),
                 "{{\"type\":\"about:blank\",\"title\":\"{}\",\"status\":{},\"detail\":\"{}\","
                 "\"code\":\"{}\"",
                 title, status, info.text, info.code);
  if (!request_id.empty()) {
    append_text(out, ",\"request_id\":\"");
    append_escaped(request_id, TextEscape::kJson, out);
    append_text(out, "\"");
  }
  append_text(out, "}\n");
}

// A gRPC client reads grpc-status, whatever the HTTP status: the answer is trailers-only.
void write_grpc_reply(Exchange& exchange, Reason why, std::string_view content_type) {
  const GrpcStatus status = grpc_status_for(why);
  std::string_view type = "application/grpc";
  if (grpc_web_type(content_type) == GrpcWeb::kBinary) type = "application/grpc-web+proto";
  if (grpc_web_type(content_type) == GrpcWeb::kText) type = "application/grpc-web-text+proto";
  exchange.answer(200, type, {});
  exchange.grpc_status = static_cast<int8_t>(status);
  const fmt::format_int number(static_cast<unsigned>(status));
  exchange.response.fields.push("grpc-status", exchange.arena.copy({number.data(), number.size()}));
  exchange.response.fields.push("grpc-message",
                                exchange.arena.copy(grpc_message(why, exchange.request_id)));
}

// Where a moment's patience helps, the client is told (RFC 9110 §10.2.3).
bool may_be_retried(uint16_t status) {
  return status == 503;
}

}  // namespace

void write_error_reply(Exchange& exchange, Reason why) {
  const ReasonInfo& info = reason_info(why);
  exchange.reason = why;
  // Codes without a reply of their own (499 among them) are only seen where something else went
  // wrong before: the client is told of a fault of ours.
  const uint16_t status = info.status >= 400 && info.status != 499 ? info.status : 500;
  if (exchange.request.head.method_id == Method::kPost &&
      is_grpc_request(exchange.request.fields)) {
    const Field* type = exchange.request.fields.find(FieldId::kContentType);
    write_grpc_reply(exchange, why, type->value);
    return;
  }
  const bool html = prefers_html(exchange.request.fields);
  fmt::memory_buffer text;
  if (html) {
    append_page(status, status_phrase(status), info, exchange.request_id, text);
  } else {
    append_problem(status, status_phrase(status), info, exchange.request_id, text);
  }
  exchange.answer(status, html ? "text/html; charset=utf-8" : "application/problem+json",
                  exchange.arena.copy({text.data(), text.size()}));
  exchange.response.fields.push("Cache-Control", "no-store");
  if (may_be_retried(status)) exchange.response.fields.push("Retry-After", "1");
}

}  // namespace gatehouse
