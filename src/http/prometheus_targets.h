// The state of targets in the shared rows, as Prometheus metrics.
#pragma once

#include <vector>

#include "core/target_report.h"
#include "http/variables.h"

namespace gatehouse {

void write_targets(const std::vector<TargetReport>& targets, TextBuffer& out);

}  // namespace gatehouse
