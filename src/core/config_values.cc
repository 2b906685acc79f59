// Parsing and printing of the common value types.

#include "core/config_values.h"

#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <system_error>

#include "core/config_errors.h"

namespace gatehouse {

namespace {

constexpr bool is_blank(char c) {
  return c == ' ' || c == '\t';
}

constexpr bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

// Takes the decimal digits at the front of `text` off it. An error when there are none, or more
// than the type holds.
Result<uint64_t> take_digits(std::string_view& text) {
  size_t digits = 0;
  while (digits < text.size() && is_digit(text[digits])) ++digits;
  if (digits == 0) return Error{"not a number"};
  uint64_t number = 0;
  if (std::from_chars(text.data(), text.data() + digits, number).ec != std::errc{}) {
    return Error{"too large"};
  }
  text.remove_prefix(digits);
  return number;
}

struct Unit {
  std::string_view name;
  uint64_t size;
};

// From the largest to the smallest, which is how times are printed.
constexpr Unit kTimeUnits[] = {
    {"d", 86'400'000}, {"h", 3'600'000}, {"m", 60'000}, {"s", 1000}, {"ms", 1},
};
constexpr Unit kByteUnits[] = {
    {"t", uint64_t{1} << 40}, {"g", uint64_t{1} << 30}, {"m", 1 << 20}, {"k", 1 << 10}, {"", 1},
};

// One "10s" at the front of `text`, in milliseconds.
Result<uint64_t> take_time(std::string_view& text) {
  Result<uint64_t> number = take_digits(text);
  if (!number) return number;
  size_t letters = 0;
  while (letters < text.size() && text[letters] >= 'a' && text[letters] <= 'z') ++letters;
  const std::string_view name = text.substr(0, letters);
  if (name.empty()) return Error{"a time needs a unit"};
  for (const Unit& unit : kTimeUnits) {
    if (unit.name != name) continue;
    text.remove_prefix(letters);
    if (*number > static_cast<uint64_t>(kMaxDuration.count()) / unit.size) {
      return Error{"too large"};
    }
    return *number * unit.size;
  }
  return Error{"\"" + std::string(name) + "\" is no unit of time"};
}

}  // namespace

std::vector<std::string_view> split_words(std::string_view text) {
  std::vector<std::string_view> words;
  for (std::string_view word = take_word(text); !word.empty(); word = take_word(text)) {
    words.push_back(word);
  }
  return words;
}

std::string_view take_word(std::string_view& text) {
  const auto skip_blanks = [&text] {
    while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  };
  skip_blanks();
  size_t end = 0;
  while (end < text.size() && !is_blank(text[end])) ++end;
  const std::string_view word = text.substr(0, end);
  text.remove_prefix(end);
  skip_blanks();
  return word;
}

Result<std::string> take_quoted_word(std::string_view& text) {
  if (!text.starts_with('"')) return std::string(take_word(text));
  std::string value;
  for (size_t i = 1; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 1 < text.size() && (text[i + 1] == '"' || text[i + 1] == '\\')) {
      value += text[++i];
    } else if (text[i] == '"') {
      text.remove_prefix(i + 1);
      if (!text.empty() && text.front() != ' ' && text.front() != '\t') {
        return Error{"no blank behind a quotation mark"};
      }
      text.remove_prefix(std::min(text.size(), text.find_first_not_of(" \t")));
      return value;
    } else {
      value += text[i];
    }
  }
  return Error{"a quotation mark that nothing ends"};
}

std::string quoted_word(std::string_view value, std::string_view special) {
  if (!value.empty() && value.find_first_of(" \t\"\\") == std::string_view::npos &&
      value.find_first_of(special) == std::string_view::npos) {
    return std::string(value);
  }
  std::string text = "\"";
  for (const char c : value) {
    if (c == '"' || c == '\\') text += '\\';
    text += c;
  }
  return text + "\"";
}

Result<uint64_t> parse_unsigned(std::string_view text, uint64_t max) {
  Result<uint64_t> number = take_digits(text);
  if (!number) return number;
  if (!text.empty()) return Error{"not a number"};
  if (*number > max) return Error{"too large"};
  return number;
}

Result<int64_t> parse_signed(std::string_view text, int64_t min, int64_t max) {
  const bool negative = !text.empty() && text.front() == '-';
  if (negative) text.remove_prefix(1);
  // The magnitude of the smallest number is one more than that of the largest.
  const uint64_t limit =
      negative ? uint64_t{0} - static_cast<uint64_t>(min) : static_cast<uint64_t>(max);
  Result<uint64_t> magnitude = parse_unsigned(text, std::numeric_limits<uint64_t>::max());
  if (!magnitude) return magnitude.error();
  if (*magnitude > limit) return Error{negative ? "too small" : "too large"};
  return static_cast<int64_t>(negative ? uint64_t{0} - *magnitude : *magnitude);
}

Error unknown_word(std::string_view text, const std::vector<std::string_view>& known) {
  std::string message = "unknown word";
  const std::string_view near = nearest_word(text, known);
  if (!near.empty()) message += "; did you mean \"" + std::string(near) + "\"?";
  return Error{std::move(message)};
}

std::string unquoted(const Error& error, std::string_view text) {
  std::string message = error.message;
  const std::string quoted = "'" + std::string(text) + "'";
  for (const std::string& prefix : {quoted + " is ", quoted + ": ", quoted + " "}) {
    if (!message.starts_with(prefix)) continue;
    message.erase(0, prefix.size());
    break;
  }
  return message;
}

std::string list_words(const std::vector<std::string_view>& words) {
  std::string text;
  for (size_t i = 0; i < words.size(); ++i) {
    if (i > 0) text += i + 1 == words.size() ? " or " : ", ";
    text += words[i];
  }
  return text;
}

Result<bool> ValueType<bool>::parse(std::string_view text) {
  if (text == "on" || text == "yes" || text == "true") return true;
  if (text == "off" || text == "no" || text == "false") return false;
  return Error{"neither on nor off"};
}
std::string ValueType<bool>::format(const bool& value) {
  return value ? "on" : "off";
}
std::string ValueType<bool>::expected() {
  return "on or off";
}

Result<std::string> ValueType<std::string>::parse(std::string_view text) {
  return std::string(text);
}
std::string ValueType<std::string>::format(const std::string& value) {
  return value;
}
std::string ValueType<std::string>::expected() {
  return "text";
}

Result<Duration> ValueType<Duration>::parse(std::string_view text) {
  if (text == "0") return Duration{0};
  uint64_t total = 0;
  do {
    Result<uint64_t> part = take_time(text);
    if (!part) return part.error();
    total += *part;  // both are at most kMaxDuration, far below overflow
    if (total > static_cast<uint64_t>(kMaxDuration.count())) return Error{"too large"};
  } while (!text.empty());
  return Duration{static_cast<Duration::rep>(total)};
}
std::string ValueType<Duration>::format(const Duration& value) {
  auto rest = static_cast<uint64_t>(value.count());
  if (rest == 0) return "0s";
  std::string text;
  for (const Unit& unit : kTimeUnits) {
    if (rest < unit.size) continue;
    text += std::to_string(rest / unit.size);
    text += unit.name;
    rest %= unit.size;
  }
  return text;
}
std::string ValueType<Duration>::expected() {
  return "a time with its unit: 500ms 10s 5m 1h30m 1d";
}

Result<Bytes> ValueType<Bytes>::parse(std::string_view text) {
  Result<uint64_t> number = take_digits(text);
  if (!number) return number.error();
  if (text.size() > 1) return Error{"not a number of bytes"};
  const char letter = text.empty() ? '\0' : static_cast<char>(text.front() | 0x20);
  for (const Unit& unit : kByteUnits) {
    if ((unit.name.empty() ? '\0' : unit.name.front()) != letter) continue;
    if (*number > std::numeric_limits<uint64_t>::max() / unit.size) return Error{"too large"};
    return Bytes{*number * unit.size};
  }
  return Error{"\"" + std::string(text) + "\" is no unit of size"};
}
std::string ValueType<Bytes>::format(const Bytes& value) {
  for (const Unit& unit : kByteUnits) {
    if (value.count >= unit.size && value.count % unit.size == 0) {
      return std::to_string(value.count / unit.size) + std::string(unit.name);
    }
  }
  return "0";
}
std::string ValueType<Bytes>::expected() {
  return "a size in bytes, or with a unit: 512 64k 8m 1g";
}

Result<Rate> ValueType<Rate>::parse(std::string_view text) {
  Rate rate;
  Result<uint64_t> count = take_digits(text);
  if (!count) return count.error();
  if (*count == 0) return Error{"a rate of nothing"};
  if (text.empty() || text.front() != '/') return Error{"a rate needs a \"/\" and a time"};
  text.remove_prefix(1);
  rate.count = *count;
  // "100/s" means "100/1s".
  const std::string with_one = "1" + std::string(text);
  const bool bare_unit = !text.empty() && !is_digit(text.front());
  Result<Duration> per = ValueType<Duration>::parse(bare_unit ? with_one : text);
  if (!per) return per.error();
  if (per->count() == 0) return Error{"a rate needs a time above 0"};
  rate.per = *per;
  return rate;
}
std::string ValueType<Rate>::format(const Rate& value) {
  return std::to_string(value.count) + "/" + ValueType<Duration>::format(value.per);
}
std::string ValueType<Rate>::expected() {
  return "a number per time: 100/1s 5/m 1000/1h";
}

Result<Percent> ValueType<Percent>::parse(std::string_view text) {
  Result<uint64_t> whole = take_digits(text);
  if (!whole) return whole.error();
  if (*whole > 100) return Error{"more than 100%"};
  uint64_t hundredths = *whole * 100;
  if (!text.empty() && text.front() == '.') {
    text.remove_prefix(1);
    const size_t before = text.size();
    Result<uint64_t> decimals = take_digits(text);
    if (!decimals) return decimals.error();
    const size_t digits = before - text.size();
    if (digits > 2) return Error{"more than two decimals"};
    hundredths += digits == 1 ? *decimals * 10 : *decimals;
  }
  if (text != "%") return Error{"a share needs a \"%\""};
  if (hundredths > 10000) return Error{"more than 100%"};
  return Percent{static_cast<uint32_t>(hundredths)};
}
std::string ValueType<Percent>::format(const Percent& value) {
  std::string text = std::to_string(value.hundredths / 100);
  const uint32_t rest = value.hundredths % 100;
  if (rest > 0) {
    text += '.';
    text += static_cast<char>('0' + rest / 10);
    if (rest % 10 > 0) text += static_cast<char>('0' + rest % 10);
  }
  return text + "%";
}
std::string ValueType<Percent>::expected() {
  return "a share of a hundred: 20% 0.25%";
}

Result<FileMode> ValueType<FileMode>::parse(std::string_view text) {
  unsigned bits = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), bits, 8);
  if (error != std::errc{} || end != text.data() + text.size() || text.size() < 3) {
    return Error{"not permissions in octal"};
  }
  if (bits > 07777) return Error{"too large"};
  return FileMode{static_cast<mode_t>(bits)};
}
std::string ValueType<FileMode>::format(const FileMode& value) {
  std::string text;
  for (int shift = 9; shift >= 0; shift -= 3) {
    text += static_cast<char>('0' + ((value.bits >> shift) & 7));
  }
  return text;
}
std::string ValueType<FileMode>::expected() {
  return "permissions in octal: 0640 0600";
}

Result<AutoCount> ValueType<AutoCount>::parse(std::string_view text) {
  if (text == "auto") return AutoCount{};
  Result<uint64_t> number = parse_unsigned(text, std::numeric_limits<uint32_t>::max());
  if (!number) return number.error();
  if (*number == 0) return Error{"too small"};
  return AutoCount{static_cast<uint32_t>(*number)};
}
std::string ValueType<AutoCount>::format(const AutoCount& value) {
  return value.count ? std::to_string(*value.count) : "auto";
}
std::string ValueType<AutoCount>::expected() {
  return "auto, or a number from 1";
}

Result<double> ValueType<double>::parse(std::string_view text) {
  double number = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  if (error == std::errc::result_out_of_range) return Error{"too large"};
  if (error != std::errc{} || end != text.data() + text.size() || !std::isfinite(number)) {
    return Error{"not a number"};
  }
  return number;
}
std::string ValueType<double>::format(const double& value) {
  // The largest double has 309 digits before the point; the shortest exact text needs no more.
  std::array<char, 352> buffer{};
  const auto result =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::fixed);
  return {buffer.data(), result.ptr};
}
std::string ValueType<double>::expected() {
  return "a number, with decimals or without";
}

}  // namespace gatehouse
