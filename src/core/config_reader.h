// The reader: a ConfigSource becomes sections with keys and values, each with its line.
//
// inih takes the lines apart (ini_parse_stream), but as Debian ships it, it misreads silently: it
// takes an indented key for more of the value before, cuts lines at 199 bytes and names at 49, ends
// a value at " ;", swallows empty sections and tells no line numbers. So it gets its lines from
// here, one at a time, prepared so that none of that can happen (config_reader.cc says how), and
// what it hands back is put together again. Nothing of inih shows outside config_reader.cc.
//
// `include` is taken care of here and may stand anywhere: the files it names are read in its
// place, each starting outside any section; afterwards the section around it goes on.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "core/config_errors.h"
#include "core/config_source.h"

namespace gatehouse {

inline constexpr size_t kMaxConfigEntries = 500'000;
inline constexpr size_t kMaxConfigSections = 100'000;

struct RawEntry {
  std::string key;
  std::string value;  // trimmed, variables replaced; may be empty
  Origin origin;
};

struct RawSection {
  std::string kind;
  std::string name;  // may be empty
  Origin origin;
  std::vector<RawEntry> entries;  // in the order they were written
};

// All sections in the order they were written. Adds an error for each line that cannot be read,
// variable that is unset and include that failed, and goes on.
std::vector<RawSection> read_config(const ConfigSource& source, ConfigErrors& errors);

}  // namespace gatehouse
