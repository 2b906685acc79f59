// The command line: which command is meant, and its options. One table of commands and one of
// options (command_line.cc) say what goes with what; usage_text() is what -h prints.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "http/explain.h"

namespace gatehouse {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;       // the command line makes no sense
inline constexpr int kExitNotRunning = 3;  // of status: there is no gateway to ask

struct CommandLine {
  enum class Command : uint8_t {
    kRun,
    kTest,
    kPrint,
    kSignal,
    kStatus,
    kConfigList,
    kConfigShow,
    kConfigDiff,
    kConfigRollback,
    kExplain,
    kUpgrade,
    kLimitList,
    kLimitShow,
    kLimitSet,
    kLimitReset,
    kTargetRegister,
    kTargetDeregister,
    kTargetRegisterList,
    kBreakerList,
    kBreakerOpen,
    kBreakerClose,
    kCanary,
    kCertificate,
    kTargetList,
    kTargetDrain,
    kTargetDisable,
    kTargetEnable,
    kReference,
    kVersion,
    kBuild,
    kHelp,
  };
  Command command = Command::kRun;
  std::string config;         // the file that was given, or the default one
  bool config_given = false;  // by -c
  std::string control;        // the socket that was given; empty: what the configuration says
  bool foreground = false;
  bool json = false;
  bool man = false;
  bool running = false;            // explain: ask the running gateway
  bool cancel = false;             // upgrade
  bool keep = false;               // limit set: beyond the next reload
  bool wait = true;                // -s quit, -s stop: until it is done
  std::string signal;              // the word after -s
  std::vector<uint64_t> versions;  // the numbers after config show, diff and rollback
  std::string word;                // of canary and certificate: list, start, …
  std::vector<std::string> names;  // the words after commands that take names
  std::string period;              // breaker open: for how long
  ExplainRequest explain;
};

// Gives 0, or the exit code after saying on standard error what makes no sense.
// `arguments` begin with the program's name.
int parse_command_line(const std::vector<std::string>& arguments, CommandLine& line);

std::string usage_text();

// Says "gatehouse: PROBLEM" and how to get help. Gives kExitUsage.
int complain(std::string_view problem);

}  // namespace gatehouse
