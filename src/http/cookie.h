// Cookies of a request: RFC 6265 §4.2, read leniently as servers do.
#pragma once

#include <optional>
#include <string_view>

#include "http/field.h"

namespace gatehouse {

// The value of the first cookie of that name (names compare with regard to case), over all Cookie
// fields that no hook took away. Quotation marks around a value are part of it.
std::optional<std::string_view> find_cookie(const FieldList& fields, std::string_view name);

}  // namespace gatehouse
