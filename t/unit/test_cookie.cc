// Finding a cookie among a request's fields.
#include "http/cookie.h"

#include <criterion/criterion.h>

#include <string>
#include <vector>

namespace {

using namespace gatehouse;

std::string found(const std::vector<std::string>& values, std::string_view name) {
  FieldList fields;
  fields.push("Host", "a.example");
  for (const std::string& value : values) fields.push("Cookie", value);
  const auto value = find_cookie(fields, name);
  return value ? std::string(*value) : "(none)";
}

}  // namespace

Test(cookie, is_found_by_its_whole_name) {
  cr_assert_eq(found({"a=1; b=2; side=x"}, "side"), "x");
  cr_assert_eq(found({"inside=1; side=2"}, "side"), "2");
  cr_assert_eq(found({"Side=1"}, "side"), "(none)");
  cr_assert_eq(found({"sidecar=1"}, "side"), "(none)");
  cr_assert_eq(found({}, "side"), "(none)");
}

Test(cookie, is_the_first_one_over_all_fields) {
  cr_assert_eq(found({"a=1", "side=x; side=y", "side=z"}, "side"), "x");
}

Test(cookie, is_read_leniently) {
  cr_assert_eq(found({" ;; side = x ;a"}, "side"), "x");
  cr_assert_eq(found({"side=a=b"}, "side"), "a=b");
  cr_assert_eq(found({"side="}, "side"), "");
  cr_assert_eq(found({"side"}, "side"), "(none)");
  cr_assert_eq(found({"side=\"x\""}, "side"), "\"x\"");
}

Test(cookie, that_a_hook_took_away_is_not_there) {
  FieldList fields;
  fields.push("Cookie", "side=x");
  fields.drop(FieldId::kCookie);
  cr_assert(!find_cookie(fields, "side"));
}
