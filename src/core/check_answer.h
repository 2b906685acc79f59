// CheckAnswer: what a checker says of a configuration, and its journey as JSON from the process
// that checked (the agent, or a child of the master) to the master.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/config_source.h"
#include "core/process_plan.h"
#include "core/resolver.h"
#include "core/result.h"

namespace gatehouse {

struct CheckAnswer {
  // All that is wrong, as -t prints it: lines, each ended with a newline. Empty: nothing is.
  std::string errors;
  // Files that the checker may not open: nothing can be said before their bytes are attached.
  std::vector<ConfigSource::Wanted> wanted;
  // What to do, where errors and wanted are empty.
  ProcessPlan plan;
  NameTable names;
};

inline constexpr size_t kCheckAnswerMax = size_t{64} << 20;  // bytes of JSON

std::string check_answer_to_json(const CheckAnswer& answer);
// Fails on anything that is not an answer of this version.
Result<CheckAnswer> check_answer_from_json(std::string_view json);

}  // namespace gatehouse
