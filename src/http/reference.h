// The reference of what HTTP itself says and takes: $variables and reason codes.
//
// Both come from the lists that the code runs by (http/variables.h, http/reason.h). Sections and
// directives are core's (reference_text and reference_man in core/config.h).
#pragma once

#include <string>

namespace gatehouse {

// Plain text, ended with a newline, to stand below reference_text().
std::string http_reference_text();

// The sections VARIABLES and REASON CODES of gatehouse.conf(5).
std::string http_reference_man();

}  // namespace gatehouse
