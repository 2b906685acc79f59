// TextTemplate: a text with $variables, compiled once when the configuration is loaded.
//
//   Result<TextTemplate> text = TextTemplate::parse("hello $client_address, $$5 please");
//   fmt::memory_buffer out;
//   text->render(exchange, TextEscape::kNone, out);
//
// `$name` is a variable, the longest run of a-z, 0-9 and '_'; `$$` is a dollar. A dollar before
// anything else is an error (`${NAME}` is the environment's and gone before values are read).
// Only what variables give is escaped; the text around them stays as written.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/config_values.h"
#include "core/result.h"
#include "http/variables.h"

namespace gatehouse {

enum class TextEscape : uint8_t {
  kNone,   // as it is; an absent value is empty
  kLog,    // '"', '\', controls and bytes above 0x7E as \xNN; an absent value is "-"
  kJson,   // for the inside of a JSON string; bytes that are no UTF-8 become U+FFFD
  kField,  // for a field value: controls are left out, so that no line can be broken
  kHtml,   // for HTML text and quoted attributes
  kUrl,    // for a URL: what may not stand in one is %-escaped, escapes stay as they are
};

// Appends `text` escaped; an absent (empty) text appends nothing, except "-" for kLog.
void append_escaped(std::string_view text, TextEscape escape, TextBuffer& out);

class TextTemplate {
 public:
  TextTemplate() = default;
  static Result<TextTemplate> parse(std::string_view text);

  // No variable in it: literal() is the whole text.
  bool is_literal() const;
  std::string_view literal() const;
  // As it was written.
  const std::string& source() const { return source_; }

  void render(const Exchange& exchange, TextEscape escape, TextBuffer& out) const;
  // The same into the exchange's arena; a literal text is not copied, it lives in the template.
  std::string_view render(Exchange& exchange, TextEscape escape) const;

  struct Piece {
    std::string text;  // comes first
    bool has_variable = false;
    Variable variable;  // then this
  };
  const std::vector<Piece>& pieces() const { return pieces_; }

 private:
  std::string source_;
  std::vector<Piece> pieces_;
};

template <>
struct ValueType<TextTemplate> {
  static Result<TextTemplate> parse(std::string_view text) { return TextTemplate::parse(text); }
  static std::string format(const TextTemplate& text) { return text.source(); }
  static std::string expected();
};

}  // namespace gatehouse
