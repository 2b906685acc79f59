// Compiling and rendering texts with $variables; see text_template.h.
#include "http/text_template.h"

#include "http/exchange.h"

namespace gatehouse {

namespace {

constexpr char kHex[] = "0123456789ABCDEF";

bool is_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
}

void append_hex(std::string_view mark, unsigned char byte, TextBuffer& out) {
  append_text(out, mark);
  out.push_back(kHex[byte >> 4]);
  out.push_back(kHex[byte & 15]);
}

// The length of the UTF-8 character that `text` begins with; 0 where it is none (overlong forms
// and surrogates are none).
size_t utf8_length(std::string_view text) {
  const auto byte = [text](size_t i) {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U;
  };
  const auto continues = [byte](size_t i) { return (byte(i) & 0xC0U) == 0x80U; };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first <= 0xDF) return continues(1) ? 2 : 0;
  if (first >= 0xE0 && first <= 0xEF) {
    if (!continues(1) || !continues(2)) return 0;
    if (first == 0xE0 && byte(1) < 0xA0) return 0;
    if (first == 0xED && byte(1) > 0x9F) return 0;
    return 3;
  }
  if (first >= 0xF0 && first <= 0xF4) {
    if (!continues(1) || !continues(2) || !continues(3)) return 0;
    if (first == 0xF0 && byte(1) < 0x90) return 0;
    if (first == 0xF4 && byte(1) > 0x8F) return 0;
    return 4;
  }
  return 0;
}

void append_log(std::string_view text, TextBuffer& out) {
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte > 0x7E || c == '"' || c == '\\') {
      append_hex("\\x", byte, out);
    } else {
      out.push_back(c);
    }
  }
}

void append_json(std::string_view text, TextBuffer& out) {
  while (!text.empty()) {
    const auto byte = static_cast<unsigned char>(text.front());
    const size_t length = utf8_length(text);
    if (length == 0) {
      append_text(out, "\xEF\xBF\xBD");
    } else if (byte == '"' || byte == '\\') {
      out.push_back('\\');
      out.push_back(text.front());
    } else if (byte < 0x20 || byte == 0x7F) {
      append_hex("\\u00", byte, out);
    } else {
      append_text(out, text.substr(0, length));
    }
    text.remove_prefix(length == 0 ? 1 : length);
  }
}

void append_field_value(std::string_view text, TextBuffer& out) {
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte >= 0x20 && byte != 0x7F) || c == '\t') out.push_back(c);
  }
}

void append_html(std::string_view text, TextBuffer& out) {
  for (const char c : text) {
    switch (c) {
      case '&':
        append_text(out, "&amp;");
        break;
      case '<':
        append_text(out, "&lt;");
        break;
      case '>':
        append_text(out, "&gt;");
        break;
      case '"':
        append_text(out, "&quot;");
        break;
      case '\'':
        append_text(out, "&#39;");
        break;
      default:
        out.push_back(c);
    }
  }
}

void append_url(std::string_view text, TextBuffer& out) {
  constexpr std::string_view kUnsafe = "\"<>\\^`{|}";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte <= 0x20 || byte >= 0x7F || kUnsafe.find(c) != std::string_view::npos) {
      append_hex("%", byte, out);
    } else {
      out.push_back(c);
    }
  }
}

}  // namespace

void append_escaped(std::string_view text, TextEscape escape, TextBuffer& out) {
  switch (escape) {
    case TextEscape::kNone:
      append_text(out, text);
      break;
    case TextEscape::kLog:
      if (text.empty()) out.push_back('-');
      append_log(text, out);
      break;
    case TextEscape::kJson:
      append_json(text, out);
      break;
    case TextEscape::kField:
      append_field_value(text, out);
      break;
    case TextEscape::kHtml:
      append_html(text, out);
      break;
    case TextEscape::kUrl:
      append_url(text, out);
      break;
  }
}

Result<TextTemplate> TextTemplate::parse(std::string_view text) {
  TextTemplate made;
  made.source_ = text;
  made.pieces_.emplace_back();
  while (!text.empty()) {
    const size_t dollar = text.find('$');
    made.pieces_.back().text += text.substr(0, dollar);
    if (dollar == std::string_view::npos) break;
    text.remove_prefix(dollar + 1);
    if (text.starts_with('$')) {
      made.pieces_.back().text += '$';
      text.remove_prefix(1);
      continue;
    }
    size_t end = 0;
    while (end < text.size() && is_name(text[end])) ++end;
    if (end == 0) return Error{"a $ begins a variable such as $host; a dollar is written $$"};
    Result<Variable> variable = parse_variable(text.substr(0, end));
    if (!variable) return variable.error();
    made.pieces_.back().has_variable = true;
    made.pieces_.back().variable = std::move(*variable);
    made.pieces_.emplace_back();
    text.remove_prefix(end);
  }
  return made;
}

bool TextTemplate::is_literal() const {
  return pieces_.size() <= 1;
}

std::string_view TextTemplate::literal() const {
  return pieces_.empty() ? std::string_view() : pieces_.front().text;
}

void TextTemplate::render(const Exchange& exchange, TextEscape escape, TextBuffer& out) const {
  thread_local fmt::memory_buffer value;
  for (const Piece& piece : pieces_) {
    append_text(out, piece.text);
    if (!piece.has_variable) continue;
    if (escape == TextEscape::kNone) {
      append_variable(piece.variable, exchange, out);
      continue;
    }
    value.clear();
    append_variable(piece.variable, exchange, value);
    append_escaped({value.data(), value.size()}, escape, out);
  }
}

std::string_view TextTemplate::render(Exchange& exchange, TextEscape escape) const {
  if (is_literal()) return literal();
  fmt::memory_buffer out;
  render(exchange, escape, out);
  return exchange.arena.copy({out.data(), out.size()});
}

std::string ValueType<TextTemplate>::expected() {
  return "a text, with $variables such as $host and $request_id; $$ is a dollar";
}

}  // namespace gatehouse
