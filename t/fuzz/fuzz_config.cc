// Fuzzes the configuration from bytes to bound structs, with a small schema of every value type.
//
// What has to hold for any input: the reader, which goes through inih, gives exactly what the lines
// say when they are taken apart without it; a memfd carries everything; and the text of a
// configuration without errors binds again, without errors, to the same text.

#include <stdlib.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/config.h"
#include "core/config_lines.h"
#include "core/config_reader.h"
#include "support.h"

namespace gatehouse {
namespace {

using fuzz::require;

enum class FuzzWord { kOne, kTwo };
constexpr EnumName<FuzzWord> kFuzzWordNames[] = {{FuzzWord::kOne, "one"}, {FuzzWord::kTwo, "two"}};

}  // namespace

template <>
struct ValueType<FuzzWord> : EnumValueType<FuzzWord, kFuzzWordNames> {};

namespace {

struct FuzzRouteConf {
  std::vector<std::string> host;
  std::vector<std::string> header;
  std::vector<int> numbers;
  std::string upstream;
  std::optional<Bytes> body_max;
  Duration idle_timeout = std::chrono::seconds(30);
  Rate rate{10};
  Percent share;
  FileMode mode;
  AutoCount count;
  double factor = 1.5;
  FuzzWord word = FuzzWord::kOne;
  bool flag = true;
};

constexpr Directive kFuzzDirectives[] = {
    directive<&FuzzRouteConf::host>("host", "Help.", "x", DirectiveFlag::kWords),
    directive<&FuzzRouteConf::header>("header", "Help.", "x"),
    directive<&FuzzRouteConf::numbers>("numbers", "Help.", "1", range(-10, 1000)),
    directive<&FuzzRouteConf::upstream>("upstream", "Help.", "x"),
    directive<&FuzzRouteConf::body_max>("body_max", "Help.", "8m"),
    directive<&FuzzRouteConf::idle_timeout>(
        "idle_timeout", "Help.", "1s", range(std::chrono::milliseconds(1), std::chrono::hours(1))),
    directive<&FuzzRouteConf::rate>("rate", "Help.", "1/s"),
    directive<&FuzzRouteConf::share>("share", "Help.", "1%"),
    directive<&FuzzRouteConf::mode>("mode", "Help.", "0640"),
    directive<&FuzzRouteConf::count>("count", "Help.", "auto"),
    directive<&FuzzRouteConf::factor>("factor", "Help.", "1.5"),
    directive<&FuzzRouteConf::word>("word", "Help.", "one"),
    directive<&FuzzRouteConf::flag>("flag", "Help.", "on"),
};
constexpr DirectiveTable kFuzzRouteTable = directive_table<FuzzRouteConf>("route", kFuzzDirectives);
constexpr DirectiveTable kFuzzGroupTable =
    directive_table<FuzzRouteConf>("upstream", kFuzzDirectives);

Schema fuzz_schema() {
  Schema schema;
  schema.add_section("gatehouse", NameRule::kNone);
  schema.add_section("upstream", NameRule::kRequired);
  schema.add_section("route", NameRule::kOptional);
  schema.add_table(&kFuzzGroupTable);
  schema.add_table(&kFuzzRouteTable);
  return schema;
}

bool same(const std::vector<RawSection>& a, const std::vector<RawSection>& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i].kind != b[i].kind || a[i].name != b[i].name || a[i].origin != b[i].origin ||
        a[i].entries.size() != b[i].entries.size()) {
      return false;
    }
    for (size_t j = 0; j < a[i].entries.size(); ++j) {
      const RawEntry& left = a[i].entries[j];
      const RawEntry& right = b[i].entries[j];
      if (left.key != right.key || left.value != right.value || left.origin != right.origin) {
        return false;
      }
    }
  }
  return true;
}

// What the reader has to give for one file without includes, taken from the lines directly.
std::vector<RawSection> read_directly(std::string_view text, const ConfigSource& source) {
  std::vector<RawSection> sections;
  bool broken = true;  // outside of any section, or after a header that could not be read
  LineCursor cursor(text);
  LogicalLine line;
  while (cursor.next(line)) {
    if (!line.problem.empty()) continue;
    const ParsedLine parsed = parse_line(line.text);
    if (parsed.what == ParsedLine::What::kSection) {
      broken = false;
      sections.push_back({std::string(parsed.kind), std::string(parsed.name), {0, line.line}, {}});
    } else if (parsed.what == ParsedLine::What::kProblem) {
      if (line.text.front() == '[') broken = true;
    } else if (!broken) {
      const Result<std::string> value = expand_variables(
          parsed.value, [&source](std::string_view name) { return source.environment(name); });
      if (!value) continue;
      sections.back().entries.push_back({std::string(parsed.key), *value, {0, line.line}});
    }
  }
  return sections;
}

std::string& folder() {
  static std::string path;
  return path;
}

}  // namespace
}  // namespace gatehouse

// A folder with two files that include each other, and an environment that is always the same.
extern "C" int LLVMFuzzerInitialize(int*, char***) {
  char name[] = "/tmp/gatehouse-fuzz-XXXXXX";
  if (mkdtemp(name) == nullptr) std::abort();
  gatehouse::folder() = name;
  std::ofstream(gatehouse::folder() + "/a") << "[route a]\nhost = x\ninclude = b\n";
  std::ofstream(gatehouse::folder() + "/b") << "include = a\n[upstream b]\nhost = ${A}\n";
  clearenv();
  setenv("A", "value ; of [A]", 1);
  setenv("B", "", 1);
  std::atexit([] { std::filesystem::remove_all(gatehouse::folder()); });
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace gatehouse;
  const std::string text(reinterpret_cast<const char*>(data), size);
  // An include may only name what lies in the folder above: no walks through the file system.
  const bool includes = text.find("include") != std::string::npos;
  if (includes && text.find_first_of("/*?.") != std::string::npos) return 0;

  const ConfigSource source = ConfigSource::from_text(folder() + "/main", text);
  ConfigErrors errors;
  const std::vector<RawSection> read = read_config(source, errors);
  if (!includes) require(same(read, read_directly(text, source)), "read otherwise through inih");

  const Result<UniqueFd> memfd = source.to_memfd();
  require(memfd.ok(), "no memfd");
  const Result<ConfigSource> copy = ConfigSource::from_memfd(memfd->get());
  require(copy.ok(), "the memfd cannot be read");
  ConfigErrors errors_of_copy;
  require(same(read, read_config(*copy, errors_of_copy)), "the memfd holds something else");
  require(errors.text() == errors_of_copy.text(), "the memfd gives other errors");

  const Schema schema = fuzz_schema();
  ConfigErrors all;
  const Config config = Config::bind(source, schema, all);
  const std::string effective = config.effective(false);
  require(!config.effective().empty(), "no text");
  if (all.empty()) {
    ConfigErrors again;
    const Config second = Config::bind(ConfigSource::from_text("again", effective), schema, again);
    require(again.empty(), again.text().c_str());
    require(second.effective(false) == effective, "the text means something else");
  } else {
    require(!all.text().empty(), "errors without words");
  }
  return 0;
}
