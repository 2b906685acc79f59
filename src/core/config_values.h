// ValueType<T>: how a value of type T is parsed, shown and described in the configuration.
//
// Provided here: bool, integers, double, std::string, Duration, Bytes, Rate, Percent, FileMode,
// AutoCount, and enums by a table of their names. parse(format(x)) gives x for every x. Numbers
// are decimal, have no sign unless the type has one, and do not wrap: what does not fit is
// refused. A custom type specialises ValueType beside its own code (see core/directive.h).
#pragma once

#include <sys/types.h>

#include <compare>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "core/units.h"

namespace gatehouse {

// The longest key and the longest kind of a section, in bytes.
inline constexpr size_t kMaxKeyBytes = 48;

// The longest time that can be written; keeps every sum of two moments far from overflow.
inline constexpr Duration kMaxDuration = std::chrono::hours(24 * 36500);

template <class T>
struct ValueType;

// The words of a value, separated by blanks and tabs. Views into `text`; none when it is blank.
std::vector<std::string_view> split_words(std::string_view text);

// Takes the first word off `text`, with the blanks around it; empty when there is none.
std::string_view take_word(std::string_view& text);

// As take_word(), but it may be a text in quotation marks, with \" and \\ in it, which is taken
// without them. Fails where a mark has no end, or where no blank follows it.
Result<std::string> take_quoted_word(std::string_view& text);
// The value as take_quoted_word() reads it back: in quotation marks where it is empty or has
// blanks, marks, backslashes or one of `special` in it.
std::string quoted_word(std::string_view value, std::string_view special = {});

// How often something may happen: `count` times in `per`. "100/1s", "5/m".
struct Rate {
  uint64_t count = 0;
  Duration per = std::chrono::seconds(1);
  friend bool operator==(const Rate&, const Rate&) = default;
};

// A share of a hundred in steps of 0.01 %: "20%", "0.25%". Up to 100 %.
struct Percent {
  uint32_t hundredths = 0;
  constexpr double fraction() const { return hundredths / 10000.0; }
  friend constexpr auto operator<=>(const Percent&, const Percent&) = default;
};

// Permission bits in octal: "0640". Up to 07777.
struct FileMode {
  mode_t bits = 0;
  friend constexpr auto operator<=>(const FileMode&, const FileMode&) = default;
};

// "auto" or a number from 1; nullopt is auto.
struct AutoCount {
  std::optional<uint32_t> count;
  friend bool operator==(const AutoCount&, const AutoCount&) = default;
};

template <>
struct ValueType<bool> {
  static Result<bool> parse(std::string_view text);
  static std::string format(const bool& value);
  static std::string expected();
};

template <>
struct ValueType<std::string> {
  static Result<std::string> parse(std::string_view text);
  static std::string format(const std::string& value);
  static std::string expected();
};

template <>
struct ValueType<Duration> {
  static Result<Duration> parse(std::string_view text);
  static std::string format(const Duration& value);
  static std::string expected();
};

template <>
struct ValueType<Bytes> {
  static Result<Bytes> parse(std::string_view text);
  static std::string format(const Bytes& value);
  static std::string expected();
};

template <>
struct ValueType<Rate> {
  static Result<Rate> parse(std::string_view text);
  static std::string format(const Rate& value);
  static std::string expected();
};

template <>
struct ValueType<Percent> {
  static Result<Percent> parse(std::string_view text);
  static std::string format(const Percent& value);
  static std::string expected();
};

template <>
struct ValueType<FileMode> {
  static Result<FileMode> parse(std::string_view text);
  static std::string format(const FileMode& value);
  static std::string expected();
};

template <>
struct ValueType<AutoCount> {
  static Result<AutoCount> parse(std::string_view text);
  static std::string format(const AutoCount& value);
  static std::string expected();
};

template <>
struct ValueType<double> {
  static Result<double> parse(std::string_view text);
  static std::string format(const double& value);
  static std::string expected();
};

// Unsigned and signed decimal numbers that fit between the limits given.
Result<uint64_t> parse_unsigned(std::string_view text, uint64_t max);
Result<int64_t> parse_signed(std::string_view text, int64_t min, int64_t max);

template <std::unsigned_integral T>
requires(!std::same_as<T, bool>) struct ValueType<T> {
  static Result<T> parse(std::string_view text) {
    Result<uint64_t> number = parse_unsigned(text, static_cast<T>(~T{0}));
    if (!number) return number.error();
    return static_cast<T>(*number);
  }
  static std::string format(const T& value) { return std::to_string(value); }
  static std::string expected() { return "a number"; }
  static constexpr bool kWord = true;
};

template <std::signed_integral T>
struct ValueType<T> {
  static Result<T> parse(std::string_view text) {
    constexpr T kMax = static_cast<T>((uint64_t{1} << (sizeof(T) * 8 - 1)) - 1);
    Result<int64_t> number = parse_signed(text, -int64_t{kMax} - 1, kMax);
    if (!number) return number.error();
    return static_cast<T>(*number);
  }
  static std::string format(const T& value) { return std::to_string(value); }
  static std::string expected() { return "a number"; }
  static constexpr bool kWord = true;
};

// The name of one enumerator:
//   constexpr EnumName<Balance> kBalanceNames[] = {{Balance::kRoundRobin, "round_robin"}, …};
//   template <> struct ValueType<Balance> : EnumValueType<Balance, kBalanceNames> {};
template <class E>
struct EnumName {
  E value;
  std::string_view name;
};

// `"blue" is not known` with the nearest name, for parse() of types with a list of words.
Error unknown_word(std::string_view text, const std::vector<std::string_view>& known);

// The message of a parser that quotes its `text` first, without that: whoever reports a value
// quotes it.
std::string unquoted(const Error& error, std::string_view text);

// "red, green or blue".
std::string list_words(const std::vector<std::string_view>& words);

template <class E, const auto& Names>
struct EnumValueType {
  static Result<E> parse(std::string_view text) {
    for (const EnumName<E>& entry : Names) {
      if (entry.name == text) return entry.value;
    }
    return unknown_word(text, names());
  }
  static std::string format(const E& value) {
    for (const EnumName<E>& entry : Names) {
      if (entry.value == value) return std::string(entry.name);
    }
    return "?";
  }
  static std::string expected() { return list_words(names()); }
  static constexpr bool kWord = true;

 private:
  static std::vector<std::string_view> names() {
    std::vector<std::string_view> all;
    for (const EnumName<E>& entry : Names) all.push_back(entry.name);
    return all;
  }
};

}  // namespace gatehouse
