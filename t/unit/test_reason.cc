// The list of reasons: stable, unique codes, and texts fit to be shown.
#include "http/reason.h"

#include <criterion/criterion.h>

#include <set>
#include <string>

namespace gatehouse {
namespace {

Test(reason, codes_are_unique_snake_case_and_found_again) {
  std::set<std::string> codes;
  for (size_t i = 0; i < kReasonCount; ++i) {
    const auto reason = static_cast<Reason>(i);
    const std::string code = reason_info(reason).code;
    cr_assert(!code.empty());
    for (const char c : code) {
      cr_assert((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_', "%s", code.c_str());
    }
    cr_assert(codes.insert(code).second, "%s appears twice", code.c_str());
    cr_assert_eq(static_cast<int>(reason_from_code(code)), static_cast<int>(reason));
  }
  cr_assert_eq(static_cast<int>(reason_from_code("no_such_code")),
               static_cast<int>(Reason::kCount));
}

Test(reason, every_text_is_one_sentence_and_every_status_a_status) {
  for (size_t i = 0; i < kReasonCount; ++i) {
    const ReasonInfo& info = reason_info(static_cast<Reason>(i));
    const std::string text = info.text;
    cr_assert(text.size() > 10 && text.back() == '.', "%s", info.code);
    cr_assert_eq(text.find('.'), text.size() - 1, "%s", info.code);
    cr_assert(info.status == 0 || (info.status >= 200 && info.status <= 599), "%s", info.code);
  }
}

Test(reason, statuses_that_clients_rely_on) {
  cr_assert_eq(reason_info(Reason::kHeadTooLarge).status, 431);
  cr_assert_eq(reason_info(Reason::kTooManyFields).status, 431);
  cr_assert_eq(reason_info(Reason::kTargetTooLong).status, 414);
  cr_assert_eq(reason_info(Reason::kUnsupportedVersion).status, 505);
  cr_assert_eq(reason_info(Reason::kBothLengths).status, 400);
  cr_assert_eq(reason_info(Reason::kUnsupportedExpectation).status, 417);
  cr_assert_eq(reason_info(Reason::kBodyTooLarge).status, 413);
  cr_assert_eq(reason_info(Reason::kUpstreamTimeout).status, 504);
}

}  // namespace
}  // namespace gatehouse
