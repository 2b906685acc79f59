// Rates and keys as text, and the hash of a key that an operator writes.
#include "core/limit_conf.h"

#include <criterion/criterion.h>

#include <string>
#include <vector>

#include "expect_text.h"

using namespace gatehouse;

namespace {

std::string error_of_rate(std::string_view text) {
  const Result<LimitRate> rate = ValueType<LimitRate>::parse(text);
  return rate ? "none" : rate.error().message;
}

IpAddress address(std::string_view text) {
  return *IpAddress::parse(text);
}

}  // namespace

Test(limit_conf, rates_are_read_and_written) {
  for (const std::string text : {"100/1s", "5/1m burst 1", "524287/1s", "1000000/1s burst 1000000",
                                 "1/400d", "3/1ms burst 7"}) {
    const Result<LimitRate> rate = ValueType<LimitRate>::parse(text);
    cr_assert(rate, "%s: %s", text.c_str(), rate ? "" : rate.error().message.c_str());
    expect(ValueType<LimitRate>::format(*rate), text);
  }
  expect(error_of_rate("0/1s"), "a rate of nothing");
  expect(error_of_rate("10/1s burst 0"), "a burst is a number from 1 to 1000000000");
  expect(error_of_rate("10/1s bust 5"), "unknown word \"bust\"");
  expect(error_of_rate("600000/1s"), "a window counts to 524287: give a burst, or a shorter time");
  expect(error_of_rate("2000/1ms"), "more than 1000000 in a second");
  expect(error_of_rate("10/401d"), "a time above 400d");
}

Test(limit_conf, keys_are_read_and_written) {
  for (const std::string text :
       {"all", "client_address/32 /64", "client_address/24 /48 header_x", "path host"}) {
    const Result<LimitKey> key = ValueType<LimitKey>::parse(text);
    cr_assert(key);
    expect(ValueType<LimitKey>::format(*key), text);
  }
  const Result<LimitKey> plain = ValueType<LimitKey>::parse("$client_address $header_x");
  cr_assert(plain);
  expect(ValueType<LimitKey>::format(*plain), "client_address/32 /64 header_x");
}

Test(limit_conf, addresses_are_cut_to_bits) {
  LimitKeyPart part{"client_address", true, 20, 57};
  expect(cut_address_text(part, address("192.0.2.255")), "192.0.0.0/20");
  expect(cut_address_text(part, address("2001:db8:1:2ff::1")), "2001:db8:1:280::/57");
  part.v4_bits = 32;
  expect(cut_address_text(part, address("192.0.2.255")), "192.0.2.255");
  expect(cut_address_text(part, IpAddress()), "");
}

Test(limit_conf, words_hash_as_the_parts_do) {
  const KeyedHash hash(HashKey{3, 4});
  const LimitKey key = *ValueType<LimitKey>::parse("client_address/24 header_x");
  uint64_t wanted = begin_limit_key(hash, "one");
  wanted = join_limit_key(hash, wanted, "route a");
  wanted = join_limit_key(hash, wanted, key.parts[0], address("192.0.2.7"));
  wanted = join_limit_key(hash, wanted, "value");
  const std::vector<std::string> words{"route a", "192.0.2.9/24", "value"};
  cr_expect_eq(*hash_limit_words(hash, "one", key, true, words), wanted);
  cr_expect_neq(*hash_limit_words(hash, "two", key, true, words), wanted);
  const std::vector<std::string> few{"192.0.2.9"};
  expect(hash_limit_words(hash, "one", key, false, few).error().message,
         "the key has 2 parts: client_address/24 /64 header_x");
  const std::vector<std::string> wrong{"host", "value"};
  expect(hash_limit_words(hash, "one", key, false, wrong).error().message,
         "\"host\" is no address");
}
