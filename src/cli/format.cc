// Times, ages and tables. See format.h.
#include "cli/format.h"

#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <string_view>

namespace gatehouse {
namespace {

// Of UTF-8 text: every byte that does not continue a character.
size_t width_of(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }));
}

bool is_number(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

}  // namespace

std::string format_age(int64_t us) {
  const int64_t ms = std::max<int64_t>(us, 0) / 1000;
  const int64_t s = ms / 1000;
  if (s < 1) return fmt::format("{} ms", ms);
  if (s < 60) return fmt::format("{} s", s);
  if (s < 3600) return fmt::format("{} m {} s", s / 60, s % 60);
  if (s < 86400) return fmt::format("{} h {} m", s / 3600, s / 60 % 60);
  return fmt::format("{} d {} h", s / 86400, s / 3600 % 24);
}

std::string format_time(int64_t us) {
  const time_t seconds = us / 1'000'000;
  tm parts{};
  char text[64];
  if (localtime_r(&seconds, &parts) == nullptr) return "?";
  const size_t size = strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &parts);
  return std::string(text, size);
}

std::string format_table(const std::vector<std::vector<std::string>>& rows,
                         const std::string& indent) {
  std::vector<size_t> widths;
  std::vector<bool> numeric;
  for (size_t row = 0; row < rows.size(); ++row) {
    for (size_t column = 0; column < rows[row].size(); ++column) {
      if (column >= widths.size()) {
        widths.push_back(0);
        numeric.push_back(true);
      }
      const std::string& cell = rows[row][column];
      widths[column] = std::max(widths[column], width_of(cell));
      if (row > 0 && !cell.empty() && !is_number(cell)) numeric[column] = false;
    }
  }
  std::string text;
  for (const std::vector<std::string>& row : rows) {
    std::string line = indent;
    for (size_t column = 0; column < row.size(); ++column) {
      const std::string space(widths[column] - width_of(row[column]), ' ');
      if (column > 0) line += "  ";
      line += numeric[column] ? space + row[column] : row[column] + space;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

std::string indented(const std::string& text, const std::string& indent) {
  std::string out;
  bool at_start = true;
  for (const char c : text) {
    if (at_start) out += indent;
    at_start = c == '\n';
    const auto byte = static_cast<unsigned char>(c);
    out += (byte < 0x20 && c != '\n') || byte == 0x7F ? '?' : c;
  }
  if (!at_start) out += '\n';
  return out;
}

}  // namespace gatehouse
