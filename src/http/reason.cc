// The table behind http/reason.h.
#include "http/reason.h"

#include <cassert>

namespace gatehouse {
namespace {

constexpr ReasonInfo kReasons[] = {
#define GATEHOUSE_REASON_ROW(name, code, status, text) {code, status, text},
    GATEHOUSE_REASONS(GATEHOUSE_REASON_ROW)
#undef GATEHOUSE_REASON_ROW
};
static_assert(sizeof kReasons / sizeof kReasons[0] == kReasonCount);

}  // namespace

const ReasonInfo& reason_info(Reason reason) {
  assert(reason < Reason::kCount);
  return kReasons[static_cast<size_t>(reason)];
}

Reason reason_from_code(std::string_view code) {
  for (size_t i = 0; i < kReasonCount; ++i) {
    if (code == kReasons[i].code) return static_cast<Reason>(i);
  }
  return Reason::kCount;
}

}  // namespace gatehouse
