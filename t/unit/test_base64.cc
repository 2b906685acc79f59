// Base64 in pieces.
#include "core/base64.h"

#include <criterion/criterion.h>

#include <string>
#include <string_view>

#include "expect_text.h"

namespace {

using namespace gatehouse;

std::string encoded(std::string_view bytes) {
  std::string text;
  append_base64(bytes, text);
  return text;
}

// Empty where the text is refused or has no end.
std::string decoded(std::string_view text, size_t piece) {
  Base64Decoder decoder;
  std::string bytes;
  for (size_t at = 0; at < text.size(); at += piece) {
    if (!decoder.decode(text.substr(at, piece), bytes)) return {};
  }
  return decoder.at_end() ? bytes : std::string();
}

}  // namespace

Test(base64, the_texts_of_rfc_4648) {
  expect(encoded(""), "");
  expect(encoded("f"), "Zg==");
  expect(encoded("fo"), "Zm8=");
  expect(encoded("foo"), "Zm9v");
  expect(encoded("foobar"), "Zm9vYmFy");
}

Test(base64, any_bytes_come_back_from_any_pieces) {
  std::string bytes;
  for (int i = 0; i < 256; ++i) {
    bytes += static_cast<char>(i * 7);
    for (const size_t piece : {1, 3, 4, 5, 1000}) {
      cr_assert(decoded(encoded(bytes), piece) == bytes);
    }
  }
}

Test(base64, padded_texts_may_follow_each_other) {
  expect(decoded("Zg==Zm8=Zm9v", 2), "ffofoo");
}

Test(base64, what_is_malformed_is_refused) {
  for (const std::string_view text : {"Z", "Zg", "Zg=", "Z===", "====", "Zg=a",
                                      "Zh==", "Zm9=", "Zm 9v", "Zm9v\n", "Zm9-", "Zg==="}) {
    for (const size_t piece : {1, 100}) {
      cr_expect(decoded(text, piece).empty(), "%s", std::string(text).c_str());
    }
  }
}
