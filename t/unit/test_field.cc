// Field numbers (the perfect hash against plain comparison) and the list of fields.
#include "http/field.h"

#include <criterion/criterion.h>

#include <random>
#include <string>

namespace gatehouse {
namespace {

using namespace std::string_view_literals;

FieldId slow_field_id(std::string_view name) {
  for (size_t i = 1; i < static_cast<size_t>(FieldId::kCount); ++i) {
    if (equal_ignoring_case(name, field_name(static_cast<FieldId>(i)))) {
      return static_cast<FieldId>(i);
    }
  }
  return FieldId::kOther;
}

Test(field, every_name_has_its_number_in_any_case) {
  for (size_t i = 1; i < static_cast<size_t>(FieldId::kCount); ++i) {
    const auto id = static_cast<FieldId>(i);
    std::string name(field_name(id));
    cr_assert(field_id(name) == id, "%s", name.c_str());
    for (char& c : name) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    cr_assert(field_id(name) == id, "%s", name.c_str());
    for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    cr_assert(field_id(name) == id, "%s", name.c_str());
  }
}

// Every single byte put in every place of every name, and every name shortened and lengthened.
Test(field, a_name_that_differs_in_one_byte_is_another) {
  for (size_t i = 1; i < static_cast<size_t>(FieldId::kCount); ++i) {
    const std::string name(field_name(static_cast<FieldId>(i)));
    for (size_t at = 0; at < name.size(); ++at) {
      for (int byte = 0; byte < 256; ++byte) {
        std::string other = name;
        other[at] = static_cast<char>(byte);
        cr_assert(field_id(other) == slow_field_id(other), "%s, byte %d at %zu", name.c_str(), byte,
                  at);
      }
    }
    cr_assert(field_id(name.substr(1)) == slow_field_id(name.substr(1)));
    cr_assert(field_id(name + "x") == FieldId::kOther);
  }
}

Test(field, any_bytes_may_be_asked_for) {
  std::mt19937 random(7);
  for (int round = 0; round < 200000; ++round) {
    std::string name(random() % 40, '\0');
    for (char& c : name) c = static_cast<char>(random());
    cr_assert(field_id(name) == slow_field_id(name));
  }
  cr_assert(field_id("") == FieldId::kOther);
  cr_assert(field_id("a") == FieldId::kOther);
}

Test(field, imitations_of_known_names_are_recognised) {
  for (const auto name : {"Content_Length"sv, "content_length"sv, "Transfer_Encoding"sv,
                          "X_Forwarded_For"sv, "X-Forwarded_For"sv, "X.Forwarded.For"sv,
                          "CONTENT~LENGTH"sv, "Transfer.Encoding"sv, "X_Real_IP"sv}) {
    cr_assert(field_name_imitates_known(name), "%s", std::string(name).c_str());
  }
  for (const auto name : {"Content-Length"sv, "HOST"sv, "X_Custom_Name"sv, "X-Custom"sv, ""sv,
                          "Content__Length"sv, "A_very_long_name_that_no_list_could_ever_hold"sv}) {
    cr_assert_not(field_name_imitates_known(name), "%s", std::string(name).c_str());
  }
  cr_assert(field_name_imitates("X_User", "x-user"));
  cr_assert_not(field_name_imitates("X-User", "x-user"));
  cr_assert_not(field_name_imitates("X_Users", "x-user"));
}

Test(field, comparison_ignores_the_case_of_ascii_letters_only) {
  cr_assert(equal_ignoring_case("Chunked", "cHUNKED"));
  cr_assert_not(equal_ignoring_case("a\x4b", "a\xE2\x84\xAA"));  // the Kelvin sign is no K
  cr_assert_not(equal_ignoring_case("@", "`"));
  cr_assert_not(equal_ignoring_case("[", "{"));
  cr_assert_not(equal_ignoring_case("chunked", "chunke"));
}

Test(field, the_list_finds_first_and_repeated_fields) {
  FieldList fields;
  cr_assert(fields.find(FieldId::kHost) == nullptr);
  fields.push("Host", "a");
  fields.push("X-One", "1");
  fields.push("hOST", "b");
  fields.push("x-one", "2");
  cr_assert_eq(fields.size(), 4u);
  cr_assert(fields.has(FieldId::kHost));
  cr_assert(fields.repeated(FieldId::kHost));
  cr_assert_not(fields.repeated(FieldId::kConnection));
  cr_assert(fields.find(FieldId::kHost)->value == "a");
  cr_assert(fields.find("host")->value == "a");
  cr_assert(fields.find("X-ONE")->value == "1");
  cr_assert(fields.find("x-two") == nullptr);
  fields.drop(FieldId::kHost);
  cr_assert(fields[0].dropped && fields[2].dropped && !fields[1].dropped);
  fields.clear();
  cr_assert(fields.empty() && !fields.has(FieldId::kHost) && !fields.repeated(FieldId::kHost));
}

Test(field, the_list_grows_and_shrinks) {
  FieldList fields;
  for (int round = 0; round < 3; ++round) {
    for (size_t i = 0; i < 5 * FieldList::kInline; ++i) {
      fields.push(i == 70 ? "Cookie" : "X-Other", i % 2 == 0 ? "even" : "odd");
      cr_assert_eq(fields.size(), i + 1);
    }
    cr_assert(fields[0].value == "even");
    cr_assert(fields[5 * FieldList::kInline - 1].value == "odd");
    cr_assert(&fields[70] == fields.find(FieldId::kCookie));
    if (round == 0) fields.clear();
    if (round == 1) fields.shrink();
  }
}

}  // namespace
}  // namespace gatehouse
