// The settings of [log NAME] that belong to the file and its writer.
//
// The master opens `file` (core/log_files.h) and every worker batches its lines for it
// (core/log_writer.h). What a line says is the business of the module that writes it: its keys
// stand in a table of its own.
#pragma once

#include <chrono>
#include <string>

#include "core/directive.h"
#include "core/units.h"

namespace gatehouse {

struct LogConf {
  std::string file;
  Bytes buffer = 64_KiB;
  Duration flush = std::chrono::seconds(1);
};

extern const DirectiveTable kLogTable;

}  // namespace gatehouse
