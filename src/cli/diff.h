// The difference between two configurations, file by file, by the system's `diff -u`.
#pragma once

#include <string>

#include "core/config_source.h"
#include "core/result.h"

namespace gatehouse {

// Prints on standard output, files labelled "PATH (NAME)". Prints nothing where they are equal.
// Fails where diff cannot be run. A file that one of them does not have counts as empty.
Result<void> diff_sources(const ConfigSource& from, const std::string& from_name,
                          const ConfigSource& to, const std::string& to_name);

}  // namespace gatehouse
