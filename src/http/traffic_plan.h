// What the agent has to know of a compiled configuration's upstreams, and what it is asked for in
// vain.
#pragma once

#include <string>

#include "core/config.h"
#include "core/config_errors.h"
#include "core/resolver.h"
#include "core/traffic_plan.h"
#include "http/generation.h"
#include "http/upstream.h"

namespace gatehouse {

// What the upstream is called in MemberLists and in the traffic table. (Sections and the URLs of
// routes are named apart.)
std::string traffic_name(const Upstream& upstream);

// `names`: what the names of targets were found to mean when the configuration was checked.
TrafficPlan traffic_plan_of(const Generation& generation, const NameTable& names);

// Reports what health and discover of this [upstream] cannot do: without an agent, without a name
// to look up; and an upstream that has no way to get a target.
void check_traffic(const Config& config, const ConfigSection& section, ConfigErrors& errors);

}  // namespace gatehouse
