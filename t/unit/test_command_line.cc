// The command line: which command is meant, and what is refused.
#include "cli/command_line.h"

#include <criterion/criterion.h>
#include <criterion/redirect.h>

#include <cstdio>
#include <string>
#include <vector>

namespace {

using namespace gatehouse;
using Command = CommandLine::Command;

CommandLine parsed(std::vector<std::string> words) {
  words.insert(words.begin(), "gatehouse");
  CommandLine line;
  cr_assert_eq(parse_command_line(words, line), 0);
  return line;
}

// What is said on standard error.
std::string refused(std::vector<std::string> words) {
  cr_redirect_stderr();
  words.insert(words.begin(), "gatehouse");
  CommandLine line;
  cr_assert_eq(parse_command_line(words, line), kExitUsage);
  std::fflush(stderr);
  FILE* said = cr_get_redirected_stderr();
  char text[2048];
  const size_t size = std::fread(text, 1, sizeof text, said);
  return std::string(text, size);
}

bool has(const std::string& text, const char* part) {
  const bool found = text.find(part) != std::string::npos;
  if (!found) cr_log_error("no \"%s\" in: %s", part, text.c_str());
  return found;
}

}  // namespace

Test(command_line, nothing_means_run_with_the_default_file) {
  const CommandLine line = parsed({});
  cr_assert(line.command == Command::kRun && !line.config_given && !line.config.empty());
  cr_assert(parsed({"-c", "x", "--foreground"}).foreground);
  cr_assert(parsed({"--config", "x"}).config == "x" && parsed({"-c", "x"}).config_given);
}

Test(command_line, canaries_are_named) {
  const CommandLine list = parsed({"canary", "list", "--json"});
  cr_assert(list.command == Command::kCanary && list.word == "list" && list.names.empty());
  for (const char* word : {"start", "pause", "resume", "promote", "rollback"}) {
    const CommandLine line = parsed({"canary", word, "beta"});
    cr_assert(line.command == Command::kCanary && line.word == word);
    cr_assert(line.names == std::vector<std::string>{"beta"});
    refused({"canary", word});
    refused({"canary", word, "beta", "gamma"});
  }
  refused({"canary"});
  refused({"canary", "promot", "beta"});
}

Test(command_line, breakers_are_named) {
  const CommandLine list = parsed({"breaker", "list"});
  cr_expect(list.command == Command::kBreakerList && list.names.empty());
  const CommandLine open = parsed({"breaker", "open", "users", "10.0.0.1:80", "--for", "1m"});
  cr_expect(open.command == Command::kBreakerOpen);
  cr_expect(open.names == std::vector<std::string>({"users", "10.0.0.1:80"}));
  cr_expect(open.period == "1m");
  refused({"breaker"});
  refused({"breaker", "opne", "users"});
  refused({"breaker", "close"});
  refused({"breaker", "close", "a", "b", "c"});
  refused({"breaker", "list", "--for", "1m"});
}

Test(command_line, commands_are_words_or_options) {
  cr_assert(parsed({"-t"}).command == Command::kTest);
  cr_assert(parsed({"-T", "-c", "x"}).command == Command::kPrint);
  cr_assert(parsed({"--version"}).command == Command::kVersion);
  cr_assert(parsed({"-V"}).command == Command::kBuild);
  cr_assert(parsed({"status"}).command == Command::kStatus);
  cr_assert(parsed({"config", "list", "--json"}).json);
  cr_assert(parsed({"config", "show", "3"}).versions == std::vector<uint64_t>({3}));
  cr_assert(parsed({"config", "diff", "3", "12"}).versions == std::vector<uint64_t>({3, 12}));
  cr_assert(parsed({"config", "rollback", "3"}).command == Command::kConfigRollback);
  cr_assert(parsed({"upgrade", "--cancel"}).cancel);
  cr_assert(parsed({"reference", "--man"}).man);
  const CommandLine line = parsed({"-s", "quit", "--no-wait"});
  cr_assert(line.command == Command::kSignal && line.signal == "quit" && !line.wait);
}

Test(command_line, options_stand_anywhere) {
  const CommandLine line = parsed({"-c", "x", "explain", "--client", "::1", "GET /", "-H", "A: b",
                                   "--running", "-H", "C: d", "--control", "/run/x"});
  cr_assert(line.command == Command::kExplain && line.running && line.config == "x");
  cr_assert(line.explain.request == "GET /" && line.explain.client == "::1");
  cr_assert(line.explain.fields == std::vector<std::string>({"A: b", "C: d"}));
  cr_assert(line.control == "/run/x");
  cr_assert(parsed({"--json", "-c", "x", "status"}).command == Command::kStatus);
}

Test(command_line, help_comes_before_all_else) {
  cr_assert(parsed({"-h"}).command == Command::kHelp);
  cr_assert(parsed({"nonsense", "--help"}).command == Command::kHelp);
  cr_assert(parsed({"-s", "explode", "-h", "-t"}).command == Command::kHelp);
}

Test(command_line, an_unknown_command_gets_a_suggestion) {
  cr_assert(has(refused({"statsu"}), "unknown command \"statsu\"; did you mean \"status\"?"));
}
Test(command_line, an_unknown_command_of_config_gets_a_suggestion) {
  cr_assert(has(refused({"config", "rolback", "1"}), "did you mean \"rollback\"?"));
}
Test(command_line, an_unknown_option_gets_a_suggestion) {
  cr_assert(has(refused({"--forground"}), "did you mean \"--foreground\"?"));
}
Test(command_line, an_unknown_word_for_s_gets_a_suggestion) {
  cr_assert(has(refused({"-s", "relaod"}), "did you mean \"reload\"?"));
}
Test(command_line, a_far_word_for_s_gets_the_list) {
  cr_assert(has(refused({"-s", "explode"}), "expected reload, reopen, quit, stop or upgrade"));
}
Test(command_line, config_alone_lists_what_it_can) {
  cr_assert(has(refused({"config"}), "config needs list, show, diff or rollback"));
}
Test(command_line, a_version_is_a_number) {
  cr_assert(has(refused({"config", "show", "3x"}), "\"3x\" is no number"));
}
Test(command_line, a_version_is_not_negative) {
  cr_assert(has(refused({"config", "rollback", "-3"}), "unknown option \"-3\""));
}
Test(command_line, a_version_is_needed) {
  cr_assert(has(refused({"config", "diff"}), "config diff needs the number"));
}
Test(command_line, options_of_other_commands_are_refused) {
  cr_assert(has(refused({"status", "--man"}), "--man does not belong to status"));
}
Test(command_line, two_commands_are_refused) {
  cr_assert(has(refused({"-t", "status"}), "unexpected argument \"status\" after -t"));
}
Test(command_line, too_many_words_are_refused) {
  cr_assert(has(refused({"explain", "/", "x"}), "unexpected argument \"x\""));
}
Test(command_line, a_value_is_needed) {
  cr_assert(has(refused({"-c"}), "the option -c needs a value"));
}
Test(command_line, explain_needs_a_request) {
  cr_assert(has(refused({"explain", "--json"}), "explain needs a request"));
}

Test(command_line, help_names_every_option_and_command) {
  const std::string text = usage_text();
  for (const char* word :
       {"status",       "explain",  "upgrade",    "reference", "list",      "show",
        "diff",         "rollback", "reload",     "reopen",    "quit",      "stop",
        "--foreground", "-c",       "--control",  "--json",    "--no-wait", "--running",
        "-H",           "--client", "--listener", "--cancel",  "--man"}) {
    cr_assert(has(text, word));
  }
}
