// Printing what explain found; see explain_report.h.
#include "http/explain_report.h"

#include <algorithm>

#include "core/format.h"
#include "http/text_template.h"

namespace gatehouse {

namespace {

constexpr size_t kWhatColumn = 12;
// Lines longer than this do not push the column of places further to the right.
constexpr size_t kTextColumnMax = 72;

// What a terminal must not see: URLs and fields come from the command line, but also from logs.
std::string printable(std::string_view text) {
  constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte != 0x7F) {
      out += c;
      continue;
    }
    out += "\\x";
    out += kHex[byte >> 4];
    out += kHex[byte & 15];
  }
  return out;
}

void append_member(std::string_view key, std::string_view value, TextBuffer& out) {
  append_text(out, "\"");
  append_text(out, key);
  append_text(out, "\":\"");
  append_escaped(value, TextEscape::kJson, out);
  append_text(out, "\"");
}

}  // namespace

void ExplainReport::add(unsigned level, std::string_view what, std::string text,
                        std::string where) {
  lines_.push_back({level, std::string(what), std::move(text), std::move(where)});
}

void ExplainReport::set_outcome(std::string_view reason, uint16_t status) {
  reason_ = reason;
  status_ = status;
}

std::string ExplainReport::text() const {
  std::vector<std::string> left;
  size_t width = 0;
  for (const Line& line : lines_) {
    std::string text(size_t{line.level} * 2, ' ');
    text += line.what;
    text += std::string(text.size() < kWhatColumn ? kWhatColumn - text.size() : 1, ' ');
    text += printable(line.text);
    if (text.size() <= kTextColumnMax && !line.where.empty()) width = std::max(width, text.size());
    left.push_back(std::move(text));
  }
  std::string out;
  for (size_t i = 0; i < lines_.size(); ++i) {
    out += left[i];
    if (!lines_[i].where.empty()) {
      out += std::string(left[i].size() < width ? width - left[i].size() : 0, ' ');
      out += "  " + lines_[i].where;
    }
    out += '\n';
  }
  return out;
}

std::string ExplainReport::json() const {
  fmt::memory_buffer out;
  append_text(out, "{");
  if (!route_.empty()) {
    append_member("route", route_, out);
    append_text(out, ",");
  }
  if (!action_.empty()) {
    append_member("action", action_, out);
    append_text(out, ",");
  }
  if (!reason_.empty()) {
    append_member("reason", reason_, out);
    fmt::format_to(fmt::appender(out), ",\"status\":{},", status_);
  }
  append_text(out, "\"lines\":[");
  for (size_t i = 0; i < lines_.size(); ++i) {
    const Line& line = lines_[i];
    fmt::format_to(fmt::appender(out), "{}\n{{\"level\":{},", i == 0 ? "" : ",", line.level);
    append_member("what", line.what, out);
    append_text(out, ",");
    append_member("text", line.text, out);
    if (!line.where.empty()) {
      append_text(out, ",");
      append_member("where", line.where, out);
    }
    append_text(out, "}");
  }
  append_text(out, "]}\n");
  return {out.data(), out.size()};
}

}  // namespace gatehouse
