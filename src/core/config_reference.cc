// Reference texts from the directive tables: plain, and roff for gatehouse.conf(5).

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <vector>

#include "core/config.h"
#include "core/config_state.h"

namespace gatehouse {

namespace {

// The value a key has when nobody sets it; of a list, its entries joined.
std::string default_text(const DirectiveTable& table, const Directive& directive) {
  const ConfPointer conf(table.create(), DestroyConf{&table});
  std::string text;
  for (const std::string& value : directive.show(conf.get())) {
    if (!text.empty()) text += ' ';
    text += value;
  }
  return text;
}

std::string notes(const Schema::Kind& kind, const Directive& directive) {
  std::string text;
  const auto note = [&text](std::string_view words) {
    if (!text.empty()) text += ' ';
    text += words;
  };
  if (directive.required) note("Required.");
  if (directive.repeatable) {
    note(directive.words ? "A list: one entry per word, on one line or several."
                         : "A list: each line adds an entry.");
  }
  if (kind.inherits() && directive.inherited) note("Can be set in [defaults].");
  return text;
}

std::string header_of(const Schema::Kind& kind) {
  switch (kind.rule) {
    case NameRule::kNone:
      return section_label(kind.kind, {});
    case NameRule::kRequired:
      return section_label(kind.kind, "NAME");
    case NameRule::kOptional:
      return section_label(kind.kind, {}) + " or " + section_label(kind.kind, "NAME");
  }
  return {};
}

// The character beyond ASCII that begins at `i`, by its number; `i` is left at its last byte.
// REQUIRES: `text` is UTF-8.
std::string roff_character(std::string_view text, size_t& i) {
  const auto lead = static_cast<unsigned char>(text[i]);
  const unsigned following = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : 1;
  unsigned number = lead & (0x3FU >> following);
  for (unsigned n = 0; n < following && i + 1 < text.size(); ++n) {
    number = number << 6 | (static_cast<unsigned char>(text[++i]) & 0x3FU);
  }
  return fmt::format("\\[u{:04X}]", number);
}

}  // namespace

std::string roff_literal(std::string_view text) {
  std::string escaped;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if ((c & 0x80) != 0) {
      escaped += roff_character(text, i);
      continue;
    }
    switch (c) {
      case '\\':
        escaped += "\\e";
        break;
      case '-':
        escaped += "\\-";
        break;
      case '\'':
        escaped += "\\(aq";
        break;
      case '`':
        escaped += "\\(ga";
        break;
      case '^':
        escaped += "\\(ha";
        break;
      case '~':
        escaped += "\\(ti";
        break;
      case '"':
        escaped += "\\(dq";
        break;
      default:
        escaped += c;
    }
  }
  // A line that begins with a dot would be a request.
  if (escaped.starts_with('.')) escaped.insert(0, "\\&");
  return escaped;
}

std::string reference_text(const Schema& schema) {
  std::string text;
  for (const Schema::Kind& kind : schema.kinds()) {
    if (!text.empty()) text += '\n';
    text += header_of(kind) + "\n";
    if (!kind.help.empty()) text += "  " + kind.help + "\n";
    for (const DirectiveTable* table : kind.tables) {
      for (const Directive& directive : table->directives) {
        const std::string by_default = default_text(*table, directive);
        const std::string note = notes(kind, directive);
        text += fmt::format("\n  {}\n      {}\n", directive.name, directive.help);
        text += fmt::format("      expected: {}\n", directive.expected());
        text += fmt::format("      default: {}\n", by_default.empty() ? "not set" : by_default);
        text += fmt::format("      example: {} = {}\n", directive.name, directive.example);
        if (!note.empty()) text += fmt::format("      {}\n", note);
      }
    }
  }
  return text;
}

std::string reference_man(const Schema& schema) {
  std::string text;
  for (const Schema::Kind& kind : schema.kinds()) {
    text += ".SS \"" + roff_literal(header_of(kind)) + "\"\n";
    if (!kind.help.empty()) text += roff_literal(kind.help) + "\n";
    for (const DirectiveTable* table : kind.tables) {
      for (const Directive& directive : table->directives) {
        const std::string by_default = default_text(*table, directive);
        const std::string note = notes(kind, directive);
        text +=
            ".TP\n.B " + roff_literal(directive.name) + "\n" + roff_literal(directive.help) + "\n";
        text += ".br\nExpected: " + roff_literal(directive.expected()) + ".\n";
        text += ".br\nDefault: " +
                (by_default.empty() ? "not set" : "\\fB" + roff_literal(by_default) + "\\fR") +
                ".\n";
        text += ".br\nExample: \\fB" +
                roff_literal(std::string(directive.name) + " = " + std::string(directive.example)) +
                "\\fR\n";
        if (!note.empty()) text += ".br\n" + roff_literal(note) + "\n";
      }
    }
  }
  return text;
}

}  // namespace gatehouse
