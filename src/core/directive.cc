// The one part of a Directive that is not a constant.

#include "core/directive.h"

namespace gatehouse {

std::string Directive::expected() const {
  std::string text = expects.empty() ? expected_type() : std::string(expects);
  if (ranged) text += ", " + range_text(*this);
  return text;
}

}  // namespace gatehouse
