// The process title: what ps and top show for master and workers.
//
// ps reads the memory where the kernel placed the arguments, so that is where the title is written.
// The environment, which lies behind it, moves to the heap first and lends its room to the title.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace gatehouse {

// Prepares the area and returns a copy of the arguments: argv itself is overwritten by the first
// set_process_title(). Call once, first thing in main(). Without it only the short name (comm, 15
// bytes) changes.
std::vector<std::string> init_process_title(int argc, char** argv);

// What init_process_title() was called with; empty before.
const std::vector<std::string>& original_arguments();

// The path of the program's file as it is now, which may be another file than this process runs.
std::string program_path();

// "gatehouse: worker default/0". Cut to the room there is.
void set_process_title(std::string_view title);

}  // namespace gatehouse
