// Finding the running gateway and speaking with it.
//
// Where its control socket is stands in the configuration. That is read leniently: nothing but
// [gatehouse] is bound, and errors elsewhere do not matter, since a configuration that is being
// worked on must not keep `-s reload` and `status` from reaching what runs. A file that was named
// and cannot be read does matter: a slip of the pen must not stop the gateway of another file.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "cli/command_line.h"
#include "core/control_client.h"
#include "core/control_message.h"
#include "core/result.h"
#include "core/units.h"

namespace gatehouse {

struct Gateway {
  std::string control;   // path of its socket; empty: it has none
  std::string pid_file;  // empty: it has none
  std::string error_log;
};

Result<Gateway> find_gateway(const CommandLine& line);

// Finds it, connects and asks one thing. Where there is no answer, says why on standard error, sets
// `exit_code` and gives nothing. A refusal is an answer.
std::optional<ControlReply> ask_gateway(const CommandLine& line, const std::string& command,
                                        nlohmann::json body, Duration timeout, int& exit_code);

// Texts of a reply, on standard error, each ended with a newline.
void print_errors(const std::string& text);
// The reply's "warnings".
void print_warnings(const ControlReply& reply);
// A reply that is not ok: its error, or with --json the whole of it on standard output. Gives
// kExitFailed.
int print_refusal(const CommandLine& line, const ControlReply& reply);
// The body on standard output.
void print_json(const nlohmann::json& body);

// Asks one thing and shows the answer: a refusal as print_refusal() does, with --json the whole
// object, else what `show` prints of it. Gives the exit code.
int run_question(const CommandLine& line, const std::string& command, nlohmann::json body,
                 Duration timeout, const std::function<void(const nlohmann::json&)>& show);

}  // namespace gatehouse
