// The tables of commands and options, and reading a command line by them. See command_line.h.
#include "cli/command_line.h"

#include <config.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <utility>

#include "core/config_errors.h"

namespace gatehouse {
namespace {

using Command = CommandLine::Command;

constexpr uint32_t bit(Command command) {
  return uint32_t{1} << static_cast<uint32_t>(command);
}
template <class... Commands>
constexpr uint32_t bits(Commands... commands) {
  return (bit(commands) | ...);
}
constexpr uint32_t kConfigCommands = bits(Command::kConfigList, Command::kConfigShow,
                                          Command::kConfigDiff, Command::kConfigRollback);
constexpr uint32_t kBreakerCommands =
    bits(Command::kBreakerList, Command::kBreakerOpen, Command::kBreakerClose);
constexpr uint32_t kLimitCommands =
    bits(Command::kLimitList, Command::kLimitShow, Command::kLimitSet, Command::kLimitReset);
constexpr uint32_t kRegisterCommands =
    bits(Command::kTargetRegister, Command::kTargetDeregister, Command::kTargetRegisterList);
constexpr uint32_t kTargetCommands = bits(Command::kTargetList, Command::kTargetDrain,
                                          Command::kTargetDisable, Command::kTargetEnable);
// Those that speak with a running gateway.
constexpr uint32_t kAsking = kConfigCommands | kLimitCommands | kRegisterCommands |
                             kBreakerCommands | kTargetCommands |
                             bits(Command::kCanary, Command::kCertificate, Command::kSignal,
                                  Command::kStatus, Command::kExplain, Command::kUpgrade);
constexpr uint32_t kReadingConfig = kAsking | bits(Command::kRun, Command::kTest, Command::kPrint);
constexpr uint32_t kEvery = UINT32_MAX;

// Commands that are words. `under` is the word before it: "config" for `config list`.
struct CommandWord {
  std::string_view under;
  std::string_view word;
  Command command;
  size_t follow_min, follow_max;  // words that follow it
  // What they are; without it numbers of versions.
  std::string_view names = {};
};
constexpr CommandWord kCommandWords[] = {
    {"", "status", Command::kStatus, 0, 0},
    {"", "explain", Command::kExplain, 0, 0},
    {"", "upgrade", Command::kUpgrade, 0, 0},
    {"", "reference", Command::kReference, 0, 0},
    {"config", "list", Command::kConfigList, 0, 0},
    {"config", "show", Command::kConfigShow, 1, 1},
    {"config", "diff", Command::kConfigDiff, 1, 2},
    {"config", "rollback", Command::kConfigRollback, 1, 1},
    {"limit", "list", Command::kLimitList, 0, 0, "nothing"},
    {"limit", "show", Command::kLimitShow, 1, 6, "a limit, and the parts of a key or none"},
    {"limit", "set", Command::kLimitSet, 2, 4, "a limit, and a rate or the word file"},
    {"limit", "reset", Command::kLimitReset, 1, 6, "a limit, and the parts of a key or none"},
    {"target", "register", Command::kTargetRegister, 2, 64, "an upstream, and an address"},
    {"target", "deregister", Command::kTargetDeregister, 2, 2, "an upstream, and an address"},
    {"target", "registrations", Command::kTargetRegisterList, 1, 1, "an upstream"},
    {"breaker", "list", Command::kBreakerList, 0, 1, "an upstream"},
    {"breaker", "open", Command::kBreakerOpen, 1, 2, "an upstream, and a target of it or none"},
    {"breaker", "close", Command::kBreakerClose, 1, 2, "an upstream, and a target of it or none"},
    {"canary", "list", Command::kCanary, 0, 1, "a canary"},
    {"canary", "start", Command::kCanary, 1, 1, "a canary"},
    {"canary", "pause", Command::kCanary, 1, 1, "a canary"},
    {"canary", "resume", Command::kCanary, 1, 1, "a canary"},
    {"canary", "promote", Command::kCanary, 1, 1, "a canary"},
    {"canary", "rollback", Command::kCanary, 1, 1, "a canary"},
    {"certificate", "list", Command::kCertificate, 0, 1, "a certificate"},
    {"certificate", "reload", Command::kCertificate, 0, 0, "nothing"},
    {"target", "list", Command::kTargetList, 0, 1, "an upstream"},
    {"target", "drain", Command::kTargetDrain, 2, 2, "an upstream, and a target of it"},
    {"target", "disable", Command::kTargetDisable, 2, 2, "an upstream, and a target of it"},
    {"target", "enable", Command::kTargetEnable, 2, 2, "an upstream, and a target of it"},
};

// Commands that are options.
struct CommandOption {
  std::string_view name, other;
  Command command;
};
constexpr CommandOption kCommandOptions[] = {
    {"-t", "", Command::kTest},   {"-T", "", Command::kPrint},
    {"-s", "", Command::kSignal}, {"-v", "--version", Command::kVersion},
    {"-V", "", Command::kBuild},  {"-h", "--help", Command::kHelp},
};

constexpr std::string_view kSignalWords[] = {"reload", "reopen", "quit", "stop", "upgrade"};

struct Option {
  std::string_view name, other;
  uint32_t commands;  // that it goes with
  bool takes_value;
  void (*set)(CommandLine& line, const std::string& value);
};
constexpr Option kOptions[] = {
    {"-c", "--config", kEvery, true,
     [](CommandLine& line, const std::string& value) {
       line.config = value;
       line.config_given = true;
     }},
    {"--control", "", kAsking, true,
     [](CommandLine& line, const std::string& value) { line.control = value; }},
    {"--foreground", "", kReadingConfig, false,
     [](CommandLine& line, const std::string&) { line.foreground = true; }},
    {"--keep", "", bit(Command::kLimitSet), false,
     [](CommandLine& line, const std::string&) { line.keep = true; }},
    {"--json", "",
     kConfigCommands | kLimitCommands | kRegisterCommands | kBreakerCommands | kTargetCommands |
         bits(Command::kCanary, Command::kCertificate, Command::kStatus, Command::kExplain),
     false, [](CommandLine& line, const std::string&) { line.json = line.explain.json = true; }},
    {"--no-wait", "", bit(Command::kSignal), false,
     [](CommandLine& line, const std::string&) { line.wait = false; }},
    {"--running", "", bit(Command::kExplain), false,
     [](CommandLine& line, const std::string&) { line.running = true; }},
    {"-H", "--header", bit(Command::kExplain), true,
     [](CommandLine& line, const std::string& value) { line.explain.fields.push_back(value); }},
    {"--client", "", bit(Command::kExplain), true,
     [](CommandLine& line, const std::string& value) { line.explain.client = value; }},
    {"--listener", "", bit(Command::kExplain), true,
     [](CommandLine& line, const std::string& value) { line.explain.listener = value; }},
    {"--for", "", bit(Command::kBreakerOpen), true,
     [](CommandLine& line, const std::string& value) { line.period = value; }},
    {"--cancel", "", bit(Command::kUpgrade), false,
     [](CommandLine& line, const std::string&) { line.cancel = true; }},
    {"--man", "", bit(Command::kReference), false,
     [](CommandLine& line, const std::string&) { line.man = true; }},
};

std::string quoted(std::string_view text) {
  return "\"" + std::string(text) + "\"";
}

// "; did you mean …?" where a known word is near.
std::string suggestion(std::string_view word, const std::vector<std::string_view>& known) {
  const std::string_view near = nearest_word(word, known);
  return near.empty() ? std::string() : "; did you mean " + quoted(near) + "?";
}

std::string joined(const std::vector<std::string_view>& words) {
  std::string text;
  for (size_t i = 0; i < words.size(); ++i) {
    if (i > 0) text += i + 1 == words.size() ? " or " : ", ";
    text += words[i];
  }
  return text;
}

template <class Entry, size_t kCount>
const Entry* find_option(const Entry (&among)[kCount], std::string_view name) {
  for (const Entry& entry : among) {
    if (entry.name == name || (!entry.other.empty() && entry.other == name)) return &entry;
  }
  return nullptr;
}

int complain_of_option(std::string_view name) {
  std::vector<std::string_view> known;
  const auto add = [&known](const auto& entry) {
    known.push_back(entry.name);
    if (!entry.other.empty()) known.push_back(entry.other);
  };
  for (const CommandOption& option : kCommandOptions) add(option);
  for (const Option& option : kOptions) add(option);
  // Any two letters are near to each other.
  return complain("unknown option " + quoted(name) +
                  (name.starts_with("--") ? suggestion(name, known) : ""));
}

std::vector<std::string_view> words_under(std::string_view under) {
  std::vector<std::string_view> words;
  for (const CommandWord& entry : kCommandWords) {
    if (entry.under == under) words.push_back(entry.word);
    const bool group = under.empty() && !entry.under.empty();
    if (group && std::find(words.begin(), words.end(), entry.under) == words.end()) {
      words.push_back(entry.under);
    }
  }
  return words;
}

// What is between the command's own words and the end.
class Reader {
 public:
  Reader(const std::vector<std::string>& arguments, CommandLine& line)
      : arguments_(arguments), line_(line) {}

  int read() {
    if (const int code = read_options(); code != 0) return code;
    if (const int code = find_command(); code != 0) return code;
    line_.command = command_.value_or(Command::kRun);
    if (line_.command == Command::kHelp) return 0;
    for (const auto& [option, value] : options_) {
      if ((option->commands & bit(line_.command)) == 0) {
        return complain("the option " + std::string(option->name) + " does not belong to " +
                        (command_name_.empty() ? "running gatehouse" : command_name_));
      }
      option->set(line_, value);
    }
    if (line_.command == Command::kSignal) return check_signal();
    if (line_.command == Command::kExplain && line_.explain.request.empty()) {
      return complain("explain needs a request, such as 'GET https://example.com/'");
    }
    return 0;
  }

 private:
  // Options may stand before, between and behind the words.
  int read_options() {
    for (size_t i = 1; i < arguments_.size(); ++i) {
      const std::string& argument = arguments_[i];
      if (!argument.starts_with('-')) {
        words_.push_back(argument);
        continue;
      }
      const auto* command = find_option(kCommandOptions, argument);
      const auto* option = find_option(kOptions, argument);
      if (command == nullptr && option == nullptr) return complain_of_option(argument);
      std::string value;
      if (command != nullptr ? command->command == Command::kSignal : option->takes_value) {
        if (i + 1 >= arguments_.size()) {
          return complain("the option " + argument + " needs a value");
        }
        value = arguments_[++i];
      }
      if (option != nullptr) {
        options_.emplace_back(option, std::move(value));
      } else if (command_ != Command::kHelp) {
        command_ = command->command;
        command_name_ = argument;
        if (command_ == Command::kSignal) line_.signal = std::move(value);
      }
    }
    return 0;
  }

  int find_command() {
    if (words_.empty() || command_ == Command::kHelp) return 0;
    if (command_) {
      return complain("unexpected argument " + quoted(words_[0]) + " after " + command_name_);
    }
    std::string_view under;
    size_t next = 0;
    if (!words_under(words_[0]).empty()) {
      under = words_[0];
      next = 1;
      if (words_.size() == 1) {
        return complain(words_[0] + " needs " + joined(words_under(under)));
      }
    }
    const auto* entry = std::find_if(
        std::begin(kCommandWords), std::end(kCommandWords),
        [&](const CommandWord& one) { return one.under == under && one.word == words_[next]; });
    if (entry == std::end(kCommandWords)) {
      const std::string name = (next > 0 ? words_[0] + " " : "") + words_[next];
      return complain("unknown command " + quoted(name) +
                      suggestion(words_[next], words_under(under)));
    }
    command_ = entry->command;
    line_.word = entry->word;
    command_name_ = next > 0 ? words_[0] + " " + words_[1] : words_[0];
    ++next;
    if (command_ == Command::kExplain && next < words_.size()) {
      line_.explain.request = words_[next++];
    }
    return entry->names.empty() ? read_numbers(*entry, next) : read_names(*entry, next);
  }

  int read_names(const CommandWord& entry, size_t next) {
    for (; next < words_.size() && line_.names.size() < entry.follow_max; ++next) {
      line_.names.push_back(words_[next]);
    }
    if (line_.names.size() < entry.follow_min) {
      return complain(command_name_ + " needs the name of " + std::string(entry.names));
    }
    if (next < words_.size()) {
      return complain("unexpected argument " + quoted(words_[next]) + " after " + command_name_);
    }
    return 0;
  }

  int read_numbers(const CommandWord& entry, size_t next) {
    for (; next < words_.size() && line_.versions.size() < entry.follow_max; ++next) {
      const std::string& word = words_[next];
      uint64_t number = 0;
      const auto [end, problem] = std::from_chars(word.data(), word.data() + word.size(), number);
      if (problem != std::errc{} || end != word.data() + word.size()) {
        return complain(quoted(word) + " is no number of a version; `gatehouse config list` has " +
                        "them");
      }
      line_.versions.push_back(number);
    }
    if (line_.versions.size() < entry.follow_min) {
      return complain(command_name_ +
                      " needs the number of a version; `gatehouse config list` has them");
    }
    if (next < words_.size()) {
      return complain("unexpected argument " + quoted(words_[next]) + " after " + command_name_);
    }
    return 0;
  }

  int check_signal() {
    const std::vector<std::string_view> known(std::begin(kSignalWords), std::end(kSignalWords));
    if (std::find(known.begin(), known.end(), line_.signal) != known.end()) return 0;
    const std::string near = suggestion(line_.signal, known);
    return complain(quoted(line_.signal) + " is nothing that -s can do" +
                    (near.empty() ? "; expected " + joined(known) : near));
  }

  const std::vector<std::string>& arguments_;
  CommandLine& line_;
  std::vector<std::string> words_;
  std::vector<std::pair<const Option*, std::string>> options_;
  std::optional<Command> command_;
  std::string command_name_;
};

}  // namespace

int parse_command_line(const std::vector<std::string>& arguments, CommandLine& line) {
  line.config = GATEHOUSE_CONFIG_FILE;
  return Reader(arguments, line).read();
}

int complain(std::string_view problem) {
  std::fprintf(stderr, "gatehouse: %.*s\nTry: gatehouse -h\n", static_cast<int>(problem.size()),
               problem.data());
  return kExitUsage;
}

std::string usage_text() {
  return "Usage:\n"
         "  gatehouse [--foreground] [-c FILE]       run (in the background unless told "
         "otherwise)\n"
         "  gatehouse -t [-c FILE]                   test the configuration\n"
         "  gatehouse -T [-c FILE]                   test it, and print every value with its "
         "origin\n"
         "  gatehouse -v | -V | -h                   version | version and build | this text\n"
         "  gatehouse reference [--man]              describe every directive, $variable and "
         "reason\n"
         "  gatehouse explain [-c FILE] 'METHOD URL' [-H 'Name: value']... [--client ADDRESS]\n"
         "                    [--listener NAME] [--json] [--running]\n"
         "                                           tell what would answer a request, and why\n"
         "\n"
         "Of the running gatehouse, found by -c FILE or --control SOCKET:\n"
         "  gatehouse status [--json]                what runs, since when, and what still drains\n"
         "  gatehouse -s reload                      take the changed configuration; tell every "
         "error\n"
         "  gatehouse -s reopen                      open the logs anew\n"
         "  gatehouse -s quit | stop [--no-wait]     stop: finish what is under way | at once\n"
         "  gatehouse upgrade [--cancel]             go over to the program that is installed now\n"
         "  gatehouse config list [--json]           the configurations that were loaded\n"
         "  gatehouse config show N [--json]         one of them\n"
         "  gatehouse config diff N [M]              what changed from N to M, or to the running "
         "one\n"
         "  gatehouse config rollback N [--json]     load it again\n"
         "  gatehouse limit list [--json]            limits, what they admitted and refused\n"
         "  gatehouse limit show NAME [KEY...] [--json]\n"
         "                                           who uses it most; what a key has left\n"
         "  gatehouse limit set NAME RATE | file [--keep]\n"
         "                                           another rate, until the next reload or "
         "beyond\n"
         "  gatehouse limit reset NAME [KEY...]      give a key, or all, their whole budget\n"
         "  gatehouse target register UPSTREAM ADDRESS [weight N] [backup] [lease TIME]\n"
         "                    [version V] [tag T]... take it into an upstream, or renew\n"
         "  gatehouse target deregister UPSTREAM ADDRESS\n"
         "  gatehouse target registrations UPSTREAM [--json]\n"
         "  gatehouse breaker list [UPSTREAM] [--json]\n"
         "                                           circuit breakers, and how they stand\n"
         "  gatehouse breaker open UPSTREAM [TARGET] [--for TIME]\n"
         "                                           ask it no more, until closed or for a time\n"
         "  gatehouse breaker close UPSTREAM [TARGET]\n"
         "                                           ask it again\n"
         "  gatehouse canary list [NAME] [--json]    canaries, and how they stand\n"
         "  gatehouse canary start | pause | resume | promote | rollback NAME\n"
         "                                           from the first step on | keep the share | go "
         "on |\n"
         "                                           all requests to the new side | none\n"
         "  gatehouse certificate list [NAME] [--json]\n"
         "                                           certificates, and when they expire\n"
         "  gatehouse certificate reload [--json]    read their files anew; nothing else changes\n"
         "  gatehouse target list [UPSTREAM] [--json]\n"
         "                                           targets, and whether they are used\n"
         "  gatehouse target drain UPSTREAM TARGET   no new clients; sticky ones stay\n"
         "  gatehouse target disable UPSTREAM TARGET no new requests\n"
         "  gatehouse target enable UPSTREAM TARGET  use it again\n"
         "\n"
         "The configuration is " GATEHOUSE_CONFIG_FILE " unless -c names another.\n";
}

}  // namespace gatehouse
