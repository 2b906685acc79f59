// The directive table of [log NAME], and the value of `rotate`.
#include "core/log_conf.h"

#include <fmt/format.h>

#include <vector>

namespace gatehouse {
namespace {

Error about(std::string_view part, std::string_view problem) {
  return Error{fmt::format("{}: {}", part, problem)};
}

// One value of a rotation, with its smallest legal value.
template <typename T>
Result<void> set_part(std::string_view name, std::string_view text, T low, T& into) {
  const std::string_view word = take_word(text);
  if (word.empty()) return about(name, "no value");
  if (!text.empty()) return about(name, "more than one value; parts are separated by commas");
  Result<T> value = ValueType<T>::parse(word);
  if (!value) return about(name, value.error().message);
  if (*value < low) return about(name, "too small");
  into = *value;
  return {};
}

Result<void> parse_part(std::string_view part, LogRotation& rotation) {
  const std::string_view name = take_word(part);
  if (name == "size") return set_part(name, part, kRotationSizeMin, rotation.size);
  if (name == "age") return set_part(name, part, kRotationAgeMin, rotation.age);
  if (name == "keep_age") return set_part(name, part, kRotationAgeMin, rotation.keep_age);
  if (name == "compress") return set_part(name, part, false, rotation.compress);
  if (name == "keep") {
    Result<void> set = set_part(name, part, uint32_t{1}, rotation.keep);
    if (set && rotation.keep > kRotationKeepMax) return about(name, "too large");
    return set;
  }
  const Error unknown = unknown_word(name, {"size", "age", "keep", "keep_age", "compress"});
  return name.empty() ? Error{"nothing between two commas"}
                      : Error{fmt::format("\"{}\": {}", name, unknown.message)};
}

void check_log(const LogConf& conf, SectionErrors& errors) {
  if (conf.rotate.rotates() && is_standard_stream(conf.file)) {
    errors.add("rotate", "this log is no file", "expected: none, for " + conf.file);
  }
}

constexpr Directive kLogDirectives[] = {
    directive<&LogConf::file>(
        "file", "The file that lines are added to; or stdout or stderr. The master opens it.",
        "/var/log/gatehouse/access.log", DirectiveFlag::kRequired,
        expects("a path, stdout or stderr")),
    directive<&LogConf::buffer>(
        "buffer",
        "How many bytes of lines each worker collects before it writes them, and the most that it "
        "keeps while the file cannot be written.",
        "64k", range(4_KiB, 16_MiB)),
    directive<&LogConf::flush>(
        "flush", "How long a line may wait in the buffer; 0s writes after every turn of the loop.",
        "1s", range(std::chrono::seconds(0), std::chrono::minutes(1))),
    directive<&LogConf::rotate>(
        "rotate",
        "When the agent moves the file to FILE.YYYYMMDD-HHMMSS (in UTC) and has a new one begun, "
        "and which of the old ones it keeps. Age is that of the file. Old ones are compressed "
        "with gzip unless it says compress off, and kept for ever unless it says keep or "
        "keep_age.",
        "size 100m, age 1d, keep 14, keep_age 30d, compress on"),
};

}  // namespace

constexpr DirectiveTable kLogTable = directive_table<LogConf, check_log>("log", kLogDirectives);

bool is_standard_stream(std::string_view log_file) {
  return log_file == "stderr" || log_file == "stdout" || log_file == "/dev/stderr" ||
         log_file == "/dev/stdout";
}

Result<LogRotation> ValueType<LogRotation>::parse(std::string_view text) {
  LogRotation rotation;
  if (text == "none") return rotation;
  std::vector<std::string_view> seen;
  for (bool more = true; more;) {
    const size_t comma = text.find(',');
    std::string_view part = text.substr(0, comma);
    more = comma != std::string_view::npos;
    text.remove_prefix(more ? comma + 1 : text.size());
    const Result<void> parsed = parse_part(part, rotation);
    if (!parsed) return parsed.error();
    const std::string_view name = take_word(part);
    for (const std::string_view other : seen) {
      if (other == name) return about(name, "given twice");
    }
    seen.push_back(name);
  }
  if (!rotation.rotates()) return Error{"neither size nor age says when"};
  return rotation;
}

std::string ValueType<LogRotation>::format(const LogRotation& value) {
  if (!value.rotates()) return "none";
  std::string text;
  const auto add = [&text](std::string_view name, const std::string& what) {
    if (!text.empty()) text += ", ";
    text += fmt::format("{} {}", name, what);
  };
  if (value.size.count > 0) add("size", ValueType<Bytes>::format(value.size));
  if (value.age.count() > 0) add("age", ValueType<Duration>::format(value.age));
  if (value.keep > 0) add("keep", std::to_string(value.keep));
  if (value.keep_age.count() > 0) add("keep_age", ValueType<Duration>::format(value.keep_age));
  add("compress", ValueType<bool>::format(value.compress));
  return text;
}

std::string ValueType<LogRotation>::expected() {
  return "none, or when and how, such as size 100m, age 1d, keep 14, keep_age 30d, compress on";
}

}  // namespace gatehouse
