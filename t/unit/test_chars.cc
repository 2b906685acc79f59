// The scans over many bytes at once, against the table that says what each byte may be.
#include "http/chars.h"

#include <criterion/criterion.h>

#include <memory>
#include <string>

namespace gatehouse {
namespace {

using Scan = const char* (*)(const char* p, const char* end);

// Every byte at every place of texts of every length, in a block of its own that ends where the
// text does, so that the sanitizers see a read beyond the end.
void check_scan(Scan scan, chars::Class wanted) {
  for (size_t size = 0; size <= 40; ++size) {
    for (size_t at = 0; at < size; ++at) {
      for (unsigned byte = 0; byte < 256; ++byte) {
        const auto text = std::make_unique<char[]>(size);
        std::fill_n(text.get(), size, 'x');
        text[at] = static_cast<char>(byte);
        const char* const found = scan(text.get(), text.get() + size);
        const size_t expected = chars::is(text[at], wanted) ? size : at;
        cr_assert(found == text.get() + expected, "byte %u at %zu of %zu", byte, at, size);
      }
    }
    const auto text = std::make_unique<char[]>(size);
    std::fill_n(text.get(), size, 'x');
    cr_assert(scan(text.get(), text.get() + size) == text.get() + size);
  }
}

Test(chars, scan_value_says_what_the_table_says) {
  check_scan(&chars::scan_value, chars::kValue);
}

Test(chars, scan_target_says_what_the_table_says) {
  check_scan(&chars::scan_target, chars::kTarget);
}

Test(chars, scan_plain_says_what_the_table_says) {
  check_scan(&chars::scan_plain, chars::kPlain);
}

}  // namespace
}  // namespace gatehouse
