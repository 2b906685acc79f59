// A text with $variables as it reads for an exchange.
#pragma once

#include <criterion/criterion.h>
#include <fmt/format.h>

#include <string>
#include <string_view>

#include "http/exchange.h"
#include "http/text_template.h"

namespace gatehouse {

inline std::string rendered(std::string_view text, const Exchange& exchange,
                            TextEscape escape = TextEscape::kNone) {
  Result<TextTemplate> parsed = TextTemplate::parse(text);
  cr_assert(parsed, "%s", parsed.error().message.c_str());
  fmt::memory_buffer out;
  parsed->render(exchange, escape, out);
  return {out.data(), out.size()};
}

}  // namespace gatehouse
