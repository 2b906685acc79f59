// The text format of Prometheus: labels and the lines before a metric.
#pragma once

#include <string_view>

#include "http/variables.h"

namespace gatehouse {

// NAME="VALUE", escaped; bytes that are no UTF-8 become U+FFFD.
void append_label(TextBuffer& out, std::string_view name, std::string_view value);
// # HELP and # TYPE. `help` has no full stop.
void write_head(TextBuffer& out, std::string_view metric, std::string_view type,
                std::string_view help);

}  // namespace gatehouse
