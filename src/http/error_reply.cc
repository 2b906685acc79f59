// Error replies; see error_reply.h.
#include "http/error_reply.h"

#include <fmt/format.h>

#include <string>
#include <string_view>

#include "http/h1_writer.h"

namespace gatehouse {

namespace {

// True where the Accept field names HTML and does not put JSON before it: a browser.
bool prefers_html(const FieldList& fields) {
  const Field* accept = fields.find(FieldId::kAccept);
  if (accept == nullptr) return false;
  const size_t html = accept->value.find("text/html");
  if (html == std::string_view::npos) return false;
  const size_t json = accept->value.find("json");
  return json == std::string_view::npos || html < json;
}

// `text` with what HTML or a JSON string gives a meaning replaced. Ids come from outside.
std::string escape(std::string_view text, bool html) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (html && (c == '<' || c == '>' || c == '&' || c == '"' || c == '\'')) {
      fmt::format_to(std::back_inserter(out), "&#{};", byte);
    } else if (!html && (c == '"' || c == '\\')) {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte >= 0x7F) {
      fmt::format_to(std::back_inserter(out), "{}{:04x}{}", html ? "&#x" : "\\u", byte,
                     html ? ";" : "");
    } else {
      out += c;
    }
  }
  return out;
}

std::string html_page(uint16_t status, std::string_view title, const ReasonInfo& info,
                      std::string_view request_id) {
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
      "<meta name=\"viewport\" content=\"width=device-width\"><title>{0} {1}</title>\n"
      "<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:40em;margin:15vh auto;"
      "padding:0 1em;color:#222;background:#fff}}h1{{font-size:1.4em}}"
      "code{{color:#666;font-size:.9em;overflow-wrap:anywhere}}"
      "@media(prefers-color-scheme:dark){{body{{color:#ddd;background:#181818}}"
      "code{{color:#999}}}}</style></head>\n"
      "<body><h1>{0} {1}</h1><p>{2}</p><p><code>{3}<br>{4}</code></p></body></html>\n",
      status, title, info.text, info.code, escape(request_id, true));
}

std::string problem_details(uint16_t status, std::string_view title, const ReasonInfo& info,
                            std::string_view request_id) {
  return fmt::format(
      "{{\"type\":\"about:blank\",\"title\":\"{}\",\"status\":{},\"detail\":\"{}\","
      "\"code\":\"{}\",\"request_id\":\"{}\"}}\n",
      title, status, info.text, info.code, escape(request_id, false));
}

}  // namespace

void write_error_reply(Exchange& exchange, Reason why) {
  const ReasonInfo& info = reason_info(why);
  // Codes without a reply of their own (499 among them) are only seen where something else went
  // wrong before: the client is told of a fault of ours.
  const uint16_t status = info.status >= 400 && info.status != 499 ? info.status : 500;
  const std::string_view title = status_phrase(status);
  const bool html = prefers_html(exchange.request.fields);
  const std::string text = html ? html_page(status, title, info, exchange.request_id)
                                : problem_details(status, title, info, exchange.request_id);
  exchange.answer(status, html ? "text/html; charset=utf-8" : "application/problem+json",
                  exchange.arena.copy(text));
  exchange.response.fields.push("Cache-Control", "no-store");
}

}  // namespace gatehouse
