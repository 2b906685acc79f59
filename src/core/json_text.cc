// JSON from text and to text; see json_text.h.
#include "core/json_text.h"

#include <nlohmann/json.hpp>

namespace gatehouse {

using nlohmann::json;

Result<json> json_from_text(std::string_view text) {
  try {
    return json::parse(text);
  } catch (const json::exception& problem) {
    return Error{problem.what()};
  }
}

std::string json_to_text(const json& value, int indent) {
  return value.dump(indent, ' ', false, json::error_handler_t::replace);
}

}  // namespace gatehouse
