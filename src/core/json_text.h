// JSON from text and to text, compiled once: nlohmann's parser and serializer are templates that
// take two to three seconds in each file that calls them.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "core/result.h"

namespace gatehouse {

// Without limits on depth and size: for bytes of our own processes (control_message has limits).
// The error says where the text is no JSON.
Result<nlohmann::json> json_from_text(std::string_view text);

// Never throws: what is not UTF-8 becomes U+FFFD. `indent` as json::dump() has it.
std::string json_to_text(const nlohmann::json& value, int indent = -1);

}  // namespace gatehouse
