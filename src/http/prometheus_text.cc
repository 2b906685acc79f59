// See prometheus_text.h.
#include "http/prometheus_text.h"

#include <fmt/format.h>

#include <cstdint>

namespace gatehouse {

namespace {

// How many bytes at the beginning of `text` are one well-formed UTF-8 sequence; 0: none.
size_t utf8_sequence(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  if (byte(0) < 0x80) return 1;
  size_t size = 0;
  uint32_t smallest = 0;
  uint32_t code = 0;
  if ((byte(0) & 0xe0) == 0xc0) {
    size = 2, smallest = 0x80, code = byte(0) & 0x1f;
  } else if ((byte(0) & 0xf0) == 0xe0) {
    size = 3, smallest = 0x800, code = byte(0) & 0x0f;
  } else if ((byte(0) & 0xf8) == 0xf0) {
    size = 4, smallest = 0x10000, code = byte(0) & 0x07;
  } else {
    return 0;
  }
  if (text.size() < size) return 0;
  for (size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
    code = code << 6 | (byte(i) & 0x3f);
  }
  const bool surrogate = code >= 0xd800 && code < 0xe000;
  return code < smallest || code > 0x10ffff || surrogate ? 0 : size;
}

void append_label_value(TextBuffer& out, std::string_view text) {
  while (!text.empty()) {
    const size_t size = utf8_sequence(text);
    if (size == 0) {
      append_text(out, "\xef\xbf\xbd");
      text.remove_prefix(1);
      continue;
    }
    if (text[0] == '\\') {
      append_text(out, "\\\\");
    } else if (text[0] == '"') {
      append_text(out, "\\\"");
    } else if (text[0] == '\n') {
      append_text(out, "\\n");
    } else {
      append_text(out, text.substr(0, size));
    }
    text.remove_prefix(size);
  }
}

}  // namespace

void append_label(TextBuffer& out, std::string_view name, std::string_view value) {
  append_text(out, name);
  append_text(out, "=\"");
  append_label_value(out, value);
  append_text(out, "\"");
}

void write_head(TextBuffer& out, std::string_view metric, std::string_view type,
                std::string_view help) {
  fmt::format_to(fmt::appender(out), "# HELP {0} {2}.\n# TYPE {0} {1}\n", metric, type, help);
}

}  // namespace gatehouse
