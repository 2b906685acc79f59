// Value types: what is accepted, what is refused and why, and that printing can be read back.
#include "core/config_values.h"

#include <criterion/criterion.h>

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "core/config_errors.h"
#include "core/process_conf.h"

namespace gatehouse {
namespace {

enum class Colour { kRed, kGreen, kBlue };
constexpr EnumName<Colour> kColourNames[] = {
    {Colour::kRed, "red"}, {Colour::kGreen, "green"}, {Colour::kBlue, "blue"}};

// The canonical form of `text`, or the problem in brackets.
template <class T>
std::string canonical(std::string_view text) {
  Result<T> parsed = ValueType<T>::parse(text);
  if (!parsed) return "<" + parsed.error().message + ">";
  const std::string shown = ValueType<T>::format(*parsed);
  Result<T> again = ValueType<T>::parse(shown);
  if (!again || ValueType<T>::format(*again) != shown) return "not read back: " + shown;
  return shown;
}

struct Case {
  const char* text;
  const char* canonical;
};

template <class T>
void check_all(const std::vector<Case>& cases) {
  for (const Case& one : cases) {
    const std::string got = canonical<T>(one.text);
    cr_assert_str_eq(got.c_str(), one.canonical, "\"%s\" gave %s", one.text, got.c_str());
  }
}

}  // namespace

template <>
struct ValueType<Colour> : EnumValueType<Colour, kColourNames> {};

namespace {

Test(config_values, booleans) {
  check_all<bool>({{"on", "on"},
                   {"yes", "on"},
                   {"true", "on"},
                   {"off", "off"},
                   {"no", "off"},
                   {"false", "off"},
                   {"1", "<neither on nor off>"},
                   {"On", "<neither on nor off>"},
                   {"", "<neither on nor off>"}});
}

Test(config_values, durations) {
  check_all<Duration>({{"0", "0s"},
                       {"0s", "0s"},
                       {"500ms", "500ms"},
                       {"10s", "10s"},
                       {"90s", "1m30s"},
                       {"1m30s", "1m30s"},
                       {"1500ms", "1s500ms"},
                       {"1d2h3m4s5ms", "1d2h3m4s5ms"},
                       {"24h", "1d"},
                       {"36500d", "36500d"},
                       {"36500d1ms", "<too large>"},
                       {"36501d", "<too large>"},
                       {"99999999999999999999s", "<too large>"},
                       {"10", "<a time needs a unit>"},
                       {"10 s", "<a time needs a unit>"},
                       {"10x", "<\"x\" is no unit of time>"},
                       {"10S", "<a time needs a unit>"},
                       {"s", "<not a number>"},
                       {"-1s", "<not a number>"},
                       {"1.5s", "<a time needs a unit>"},
                       {"1m30", "<a time needs a unit>"},
                       {"", "<not a number>"}});
  cr_assert_eq(ValueType<Duration>::parse("1m30s")->count(), 90'000);
}

Test(config_values, sizes) {
  check_all<Bytes>({{"0", "0"},
                    {"512", "512"},
                    {"1024", "1k"},
                    {"64k", "64k"},
                    {"64K", "64k"},
                    {"8m", "8m"},
                    {"2048m", "2g"},
                    {"1t", "1t"},
                    {"1025", "1025"},
                    {"18446744073709551615", "18446744073709551615"},
                    {"18446744073709551616", "<too large>"},
                    {"16777216t", "<too large>"},
                    {"8mb", "<not a number of bytes>"},
                    {"8x", "<\"x\" is no unit of size>"},
                    {"k", "<not a number>"},
                    {"-1", "<not a number>"},
                    {"", "<not a number>"}});
  cr_assert_eq(ValueType<Bytes>::parse("64k")->count, 65536U);
}

Test(config_values, integers_fit_their_type_or_are_refused) {
  check_all<uint8_t>({{"255", "255"}, {"256", "<too large>"}, {"-1", "<not a number>"}});
  check_all<uint16_t>({{"65535", "65535"}, {"65536", "<too large>"}});
  check_all<uint32_t>({{"4294967295", "4294967295"},
                       {"4294967296", "<too large>"},
                       {"007", "7"},
                       {"1e3", "<not a number>"},
                       {"0x10", "<not a number>"},
                       {"+1", "<not a number>"},
                       {" 1", "<not a number>"},
                       {"1 ", "<not a number>"}});
  check_all<uint64_t>(
      {{"18446744073709551615", "18446744073709551615"}, {"18446744073709551616", "<too large>"}});
  check_all<int>({{"-2147483648", "-2147483648"},
                  {"-2147483649", "<too small>"},
                  {"2147483647", "2147483647"},
                  {"2147483648", "<too large>"},
                  {"--1", "<not a number>"},
                  {"-", "<not a number>"}});
  check_all<int64_t>({{"-9223372036854775808", "-9223372036854775808"},
                      {"-9223372036854775809", "<too small>"},
                      {"9223372036854775807", "9223372036854775807"},
                      {"9223372036854775808", "<too large>"}});
}

Test(config_values, rates) {
  check_all<Rate>({{"100/1s", "100/1s"},
                   {"100/s", "100/1s"},
                   {"5/m", "5/1m"},
                   {"5/1m30s", "5/1m30s"},
                   {"100", "<a rate needs a \"/\" and a time>"},
                   {"100/", "<not a number>"},
                   {"0/s", "<a rate of nothing>"},
                   {"1/0", "<a rate needs a time above 0>"},
                   {"1/0s", "<a rate needs a time above 0>"},
                   {"1/2", "<a time needs a unit>"},
                   {"/s", "<not a number>"}});
}

Test(config_values, shares) {
  check_all<Percent>({{"20%", "20%"},
                      {"0%", "0%"},
                      {"100%", "100%"},
                      {"0.25%", "0.25%"},
                      {"0.5%", "0.5%"},
                      {"0.50%", "0.5%"},
                      {"99.99%", "99.99%"},
                      {"100.01%", "<more than 100%>"},
                      {"101%", "<more than 100%>"},
                      {"1.234%", "<more than two decimals>"},
                      {"20", "<a share needs a \"%\">"},
                      {"20.%", "<not a number>"},
                      {"20%%", "<a share needs a \"%\">"}});
  cr_assert_float_eq(ValueType<Percent>::parse("25%")->fraction(), 0.25, 1e-12);
}

Test(config_values, file_modes_auto_counts_and_decimals) {
  check_all<FileMode>({{"0640", "0640"},
                       {"600", "0600"},
                       {"7777", "7777"},
                       {"10000", "<too large>"},
                       {"0680", "<not permissions in octal>"},
                       {"64", "<not permissions in octal>"},
                       {"rw-", "<not permissions in octal>"}});
  check_all<AutoCount>({{"auto", "auto"},
                        {"4", "4"},
                        {"0", "<too small>"},
                        {"four", "<not a number>"},
                        {"4294967296", "<too large>"}});
  check_all<double>({{"1.5", "1.5"},
                     {"-2", "-2"},
                     {"0.1", "0.1"},
                     {"nan", "<not a number>"},
                     {"inf", "<not a number>"},
                     {"1,5", "<not a number>"},
                     {"", "<not a number>"}});
}

Test(config_values, names_of_an_enum) {
  check_all<Colour>({{"red", "red"},
                     {"blue", "blue"},
                     {"Red", "<unknown word; did you mean \"red\"?>"},
                     {"gren", "<unknown word; did you mean \"green\"?>"},
                     {"purple", "<unknown word>"}});
  cr_assert(ValueType<Colour>::expected() == "red, green or blue");
}

Test(config_values, words) {
  const std::vector<std::string_view> words = split_words("  a \t bb  c\t");
  cr_assert_eq(words.size(), 3U);
  cr_assert(words[0] == "a" && words[1] == "bb" && words[2] == "c");
  cr_assert(split_words(" \t ").empty());
  std::string_view rest = " GET  /x  y ";
  cr_assert(take_word(rest) == "GET");
  cr_assert(rest == "/x  y ");
}

Test(config_values, nearest_word_suggests_only_what_is_near) {
  const std::vector<std::string_view> keys = {"upstream", "host", "path", "idle_timeout"};
  cr_assert(nearest_word("upstram", keys) == "upstream");
  cr_assert(nearest_word("upstreams", keys) == "upstream");
  cr_assert(nearest_word("idle_timout", keys) == "idle_timeout");
  cr_assert(nearest_word("hots", keys) == "host");
  cr_assert(nearest_word("zebra", keys).empty());
  cr_assert(nearest_word("", keys).empty());
  cr_assert(nearest_word("x", {"y"}).empty());
}

Test(config_values, error_log_targets_and_optional_paths) {
  check_all<ErrorLogTarget>({{"stderr", "stderr notice"},
                             {"/var/log/e.log warn", "/var/log/e.log warn"},
                             {"/e.log  debug", "/e.log debug"},
                             {"/e.log wran", "<\"wran\": unknown word; did you mean \"warn\"?>"},
                             {"/e.log info x", "<more than a path and a level>"}});
  check_all<OptionalPath>({{"none", "none"}, {"/run/x y.pid", "/run/x y.pid"}});
}

}  // namespace
}  // namespace gatehouse
