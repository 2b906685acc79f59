// Which coding a client gets.
#include "http/accept_encoding.h"

#include <criterion/criterion.h>

#include <initializer_list>
#include <string>
#include <string_view>

#include "expect_text.h"

namespace {

using namespace gatehouse;

constexpr Coding kAll[] = {Coding::kZstd, Coding::kBrotli, Coding::kGzip};

std::string chosen(std::initializer_list<std::string_view> values,
                   std::span<const Coding> offered = kAll) {
  FieldList fields;
  fields.push("Host", "a");
  for (const std::string_view value : values) fields.push("Accept-Encoding", value);
  const std::optional<Coding> coding = choose_coding(fields, offered);
  return coding ? std::string(kCodingNames[static_cast<unsigned>(*coding)]) : "none";
}

}  // namespace

Test(accept_encoding, of_equal_ones_the_first_offered) {
  expect(chosen({"gzip, deflate, br, zstd"}), "zstd");
  expect(chosen({"gzip, deflate, br"}), "br");
  expect(chosen({"GZIP"}), "gzip");
  expect(chosen({"x-gzip"}), "gzip");
  constexpr Coding kGzipFirst[] = {Coding::kGzip, Coding::kBrotli};
  expect(chosen({"br, gzip"}, kGzipFirst), "gzip");
}

Test(accept_encoding, the_heaviest_otherwise) {
  expect(chosen({"gzip;q=1.0, br;q=0.9, zstd;q=0.001"}), "gzip");
  expect(chosen({"gzip;q=0.5 , br; q=0.501"}), "br");
  expect(chosen({"gzip;q=0.5", "zstd;Q=0.6"}), "zstd");
}

Test(accept_encoding, none_where_none_is_wanted) {
  expect(chosen({}), "none");
  expect(chosen({""}), "none");
  expect(chosen({"identity"}), "none");
  expect(chosen({"deflate, compress"}), "none");
  expect(chosen({"gzip;q=0, br;q=0.000"}), "none");
  expect(chosen({"gzip;q=0.5, identity"}), "none");
  expect(chosen({"gzip;q=0.5, identity;q=0.6"}), "none");
}

Test(accept_encoding, as_much_as_the_plain_form_is_enough) {
  expect(chosen({"gzip, identity"}), "gzip");
  expect(chosen({"gzip;q=0.5, identity;q=0.5"}), "gzip");
  expect(chosen({"gzip;q=0.5, identity;q=0"}), "gzip");
}

Test(accept_encoding, a_star_is_all_that_is_not_named) {
  expect(chosen({"*"}), "zstd");
  expect(chosen({"*, zstd;q=0"}), "br");
  expect(chosen({"gzip;q=0.8, *;q=0.1"}), "gzip");
  expect(chosen({"gzip, *;q=0"}), "gzip");
  expect(chosen({"*;q=0"}), "none");
}

Test(accept_encoding, what_is_malformed_is_not_guessed_at) {
  for (const std::string_view value :
       {"gzip;q=2", "gzip;q=", "gzip;q=0.1234", "gzip;q=1.5", "gzip;q=a", "gzip;x=1", "gz ip",
        "gzip;q=1;q=0", "gzip;", "gzip;q=-1"}) {
    const bool lenient = value == "gzip;";
    expect(chosen({value}), lenient ? "gzip" : "none");
  }
  expect(chosen({", gzip ,,"}), "gzip");
}
