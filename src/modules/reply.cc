// Reply: an answer that is made here, without an upstream.
//
//   [route health]
//   path  = /healthz
//   reply = 200 ok
//
//   [route status]
//   path         = /status
//   reply        = 200
//   reply_type   = application/json
//   reply_body   = {"you": "$client_address",
//   reply_body   =  "id": "$request_id"}
//   reply_header = Cache-Control: no-store
//
//   [route page]
//   path         = /
//   reply        = 200
//   reply_file   = page.html
//
// The body is the text after the status, or the reply_body lines, each with a newline, or a file
// that is read when the configuration is loaded (at most kReplyFileMax; the workers' user must be
// able to read it). Lines may hold $variables; what they give is escaped as the type wants it
// (HTML, JSON), so that a client cannot put markup into a page. A file is sent as it is. A body
// without variables costs nothing to make. Without a body the status' own words are sent.
//
// Nothing is shared. Leaves out: ranges, ETags and big files, which are the work of a file server.

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "http/chars.h"
#include "http/h1_writer.h"
#include "http/module.h"
#include "http/text_template.h"
#include "modules/registry.h"

namespace gatehouse {

namespace {

constexpr size_t kReplyFileMax = size_t{1} << 20;
constexpr std::string_view kPlainText = "text/plain; charset=utf-8";

// "STATUS [TEXT]".
struct ReplyValue {
  uint16_t status = 200;
  TextTemplate text;
};

struct ReplyField {
  std::string name;
  TextTemplate value;
};

struct ReplyConf {
  std::optional<ReplyValue> reply;
  std::vector<TextTemplate> body;
  std::string type;
  std::string file;
  std::vector<ReplyField> header;
};

}  // namespace

template <>
struct ValueType<ReplyValue> {
  static Result<ReplyValue> parse(std::string_view text) {
    const std::string_view word = take_word(text);
    const Result<uint64_t> status = parse_unsigned(word, 599);
    if (!status || *status < 200) return Error{"a status is a number from 200 to 599"};
    Result<TextTemplate> body = TextTemplate::parse(text);
    if (!body) return body.error();
    return ReplyValue{static_cast<uint16_t>(*status), std::move(*body)};
  }
  static std::string format(const ReplyValue& value) {
    std::string text = std::to_string(value.status);
    if (!value.text.source().empty()) text += " " + value.text.source();
    return text;
  }
  static std::string expected() { return "a status, and a text if wanted: 200 ok"; }
};

template <>
struct ValueType<ReplyField> {
  static Result<ReplyField> parse(std::string_view text) {
    const size_t colon = text.find(':');
    if (colon == std::string_view::npos) return Error{"a header field is Name: value"};
    std::string_view name = text.substr(0, colon);
    if (name.empty() || !chars::all_of(name, chars::kToken)) {
      return Error{"\"" + std::string(name) + "\" is not the name of a header field"};
    }
    const FieldId id = field_id(name);
    if (id == FieldId::kContentType) return Error{"the content type is the key reply_type"};
    const FieldKind kind = field_kind(id);
    if (kind == FieldKind::kHopByHop || kind == FieldKind::kFraming) {
      return Error{"the gateway writes " + std::string(name) + " itself"};
    }
    text.remove_prefix(colon + 1);
    while (text.starts_with(' ') || text.starts_with('\t')) text.remove_prefix(1);
    if (!chars::all_of(text, chars::kValue)) return Error{"the value holds a control character"};
    Result<TextTemplate> value = TextTemplate::parse(text);
    if (!value) return value.error();
    return ReplyField{std::string(name), std::move(*value)};
  }
  static std::string format(const ReplyField& field) {
    return field.name + ": " + field.value.source();
  }
  static std::string expected() { return "Name: value"; }
};

namespace {

// ---- Answering ----------------------------------------------------------------------------------

struct ReplyState final : ModuleState {
  uint16_t status = 200;
  std::string type;
  std::string literal;              // the body, where it has no variables
  std::vector<TextTemplate> lines;  // else these
  TextEscape escape = TextEscape::kNone;
  std::vector<ReplyField> header;
};

std::string_view render_lines(const ReplyState& state, Exchange& exchange) {
  fmt::memory_buffer body;
  for (const TextTemplate& line : state.lines) {
    line.render(exchange, state.escape, body);
    body.push_back('\n');
  }
  return exchange.arena.copy({body.data(), body.size()});
}

void reply(Exchange& exchange, const void* state) {
  const auto& self = *static_cast<const ReplyState*>(state);
  // Set first: the body may say $reason and $status.
  exchange.reason = Reason::kReply;
  exchange.response.status = self.status;
  const std::string_view body = self.lines.empty() ? self.literal : render_lines(self, exchange);
  exchange.answer(self.status, self.type, body);
  for (const ReplyField& field : self.header) {
    const std::string_view value = field.value.render(exchange, TextEscape::kField);
    exchange.response.fields.push(field.name, value);
  }
}

// ---- Configuration ------------------------------------------------------------------------------

bool has_no_body(uint16_t status) {
  return status == 204 || status == 304;
}

// The type by the file's name, as browsers need it for what a page is made of.
std::string_view type_of_file(std::string_view path) {
  struct Type {
    std::string_view suffix;
    std::string_view type;
  };
  constexpr Type kTypes[] = {
      {".html", "text/html; charset=utf-8"},
      {".htm", "text/html; charset=utf-8"},
      {".css", "text/css; charset=utf-8"},
      {".js", "text/javascript; charset=utf-8"},
      {".json", "application/json"},
      {".xml", "application/xml"},
      {".svg", "image/svg+xml"},
      {".png", "image/png"},
      {".ico", "image/x-icon"},
      {".txt", kPlainText},
  };
  for (const Type& type : kTypes) {
    if (path.ends_with(type.suffix)) return type.type;
  }
  return "application/octet-stream";
}

void check(const ReplyConf& conf, SectionErrors& errors) {
  const bool text = conf.reply && !conf.reply->text.source().empty();
  if (!conf.reply) {
    constexpr std::string_view kProblem = "the route has no reply that this could be a part of";
    constexpr std::string_view kExpected = "expected: a line such as reply = 200 beside it";
    if (!conf.body.empty()) errors.add("reply_body", std::string(kProblem), std::string(kExpected));
    if (!conf.file.empty()) errors.add("reply_file", std::string(kProblem), std::string(kExpected));
    return;
  }
  if (int{text} + int{!conf.body.empty()} + int{!conf.file.empty()} > 1) {
    errors.add(conf.file.empty() ? "reply_body" : "reply_file",
               "the reply has another body already",
               "expected: one of a text after the status, reply_body, reply_file");
  }
  if (has_no_body(conf.reply->status) && (text || !conf.body.empty() || !conf.file.empty())) {
    errors.add("reply", "a response of this status has no body",
               "expected: the status alone, without reply_body and reply_file");
  }
}

constexpr Directive kDirectives[] = {
    directive<&ReplyConf::reply>("reply",
                                 "Answers with this status, and this text if there is one.",
                                 "200 ok", DirectiveFlag::kNotInherited),
    directive<&ReplyConf::body>("reply_body", "A line of the reply's body.",
                                "hello $client_address", DirectiveFlag::kNotInherited),
    directive<&ReplyConf::file>(
        "reply_file",
        "A file with the reply's body, read when the configuration is loaded; relative to the "
        "configuration file.",
        "page.html", DirectiveFlag::kNotInherited, expects("the path of a file")),
    directive<&ReplyConf::type>("reply_type", "The content type of the reply.", "application/json",
                                expects("a media type such as text/html or application/json")),
    directive<&ReplyConf::header>("reply_header", "A header field of the reply.",
                                  "Cache-Control: no-store"),
};

constexpr DirectiveTable kTable = directive_table<ReplyConf, &check>("route", kDirectives);
constexpr const DirectiveTable* kTables[] = {&kTable};

TextEscape escape_for(std::string_view type) {
  if (type.starts_with("text/html") || type.find("xml") != std::string_view::npos) {
    return TextEscape::kHtml;
  }
  return type.find("json") != std::string_view::npos ? TextEscape::kJson : TextEscape::kNone;
}

Result<void> set_body(const RouteBuilder& builder, const ReplyConf& conf, ReplyState& state) {
  state.type = conf.type.empty() ? std::string(kPlainText) : conf.type;
  if (!conf.file.empty()) {
    const Origin origin = builder.section().origin_of(kTable, "reply_file");
    const Result<std::string_view> text =
        builder.source().attachment(conf.file, origin, kReplyFileMax);
    if (!text) return text.error();
    state.literal = *text;
    if (conf.type.empty()) state.type = type_of_file(conf.file);
    return {};
  }
  state.lines = conf.body;
  if (!conf.reply->text.source().empty()) state.lines = {conf.reply->text};
  state.escape = escape_for(state.type);
  bool literal = true;
  for (const TextTemplate& line : state.lines) literal &= line.is_literal();
  if (!literal) return {};
  for (const TextTemplate& line : state.lines) {
    state.literal += line.literal();
    state.literal += '\n';
  }
  if (state.lines.empty() && !has_no_body(state.status)) {
    state.literal =
        std::to_string(state.status) + " " + std::string(status_phrase(state.status)) + "\n";
  }
  state.lines.clear();
  if (has_no_body(state.status)) state.type.clear();
  return {};
}

Result<void> compile(RouteBuilder& builder) {
  const ReplyConf& conf = builder.section().get<ReplyConf>(kTable);
  if (builder.is_fallback() || !conf.reply) return {};
  auto state = std::make_unique<ReplyState>();
  state->status = conf.reply->status;
  state->header = conf.header;
  const Result<void> body = set_body(builder, conf, *state);
  if (!body) {
    builder.blame(kTable, "reply_file", "expected: a file of at most 1 MiB that can be read");
    return body.error();
  }

  Action action;
  action.instant = &reply;
  action.name = "reply";
  action.detail = std::to_string(state->status);
  if (!state->type.empty()) action.detail += " " + state->type;
  if (state->lines.empty()) {
    action.detail += fmt::format(", {} bytes", state->literal.size());
  }
  action.state = builder.own(std::move(state));
  return builder.set_action(std::move(action), kTable, "reply");
}

}  // namespace

constinit const Module kReplyModule = {"reply", kTables, &compile, nullptr, "reply"};

}  // namespace gatehouse
