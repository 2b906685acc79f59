// How inih is fed. A section header [route app] is handed over as two lines,
//   [route]
//   <4>=<1>app<3>
// where <4> is the control byte 4: no file has control bytes, so what carries one is ours. The
// second line makes an empty section show up, and frees its name from inih's 49 bytes. An entry
//   key = some value; with a semicolon
// is handed over as
//   key=<1>some value<5> with a semicolon<3>
// with each ";" disguised as <5>, no blank at either end for inih to strip, and no indentation. A
// value that does not fit inih's line buffer comes in pieces, which end in <1> instead of <3>:
//   key=<1>first piece<1>
//   <2>=<1>last piece<3>
// inih calls the handler for a line before it asks for the next one, so the line number of what
// was handed over last is the line number of what comes back.

#include "core/config_reader.h"

#include <ini.h>

#include <algorithm>
#include <cstring>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "core/config_lines.h"

namespace gatehouse {

namespace {

constexpr char kQuote = '\x01';      // begins each piece, and ends one that more follow
constexpr char kMoreKey[] = "\x02";  // the key of all pieces but the first
constexpr char kLastQuote = '\x03';  // ends the last piece
constexpr char kNameKey[] = "\x04";  // the key under which the name of a section travels
constexpr char kSemicolon = '\x05';

// What a line of inih's buffer has besides key and piece: "=", two quotes, newline and NUL; and
// the least room for a piece that is worth a line.
constexpr size_t kLineOverhead = 5;
constexpr size_t kLeastPiece = 16;

class Reader {
 public:
  Reader(const ConfigSource& source, ConfigErrors& errors) : source_(source), errors_(errors) {}

  std::vector<RawSection> run() {
    const auto files = source_.files();
    for (uint32_t i = 1; i < files.size(); ++i) {
      included_[key_of(files[i].included_at)].push_back(i);
    }
    open(0);
    const int result = ini_parse_stream(&Reader::feed, this, &Reader::handle, this);
    // Every line was prepared so that inih can only accept it.
    if (result != 0) report(at_, {}, {}, "the ini library refused a line", {});
    return std::move(sections_);
  }

 private:
  // A file being read. Its entries go to sections_[section], or nowhere after a broken header.
  struct OpenFile {
    OpenFile(uint32_t number, std::string_view text) : index(number), cursor(text) {}
    uint32_t index;
    LineCursor cursor;
    enum class In : uint8_t { kNoSection, kSection, kBrokenSection } in = In::kNoSection;
    size_t section = 0;
  };

  // What is handed over in one line or several.
  struct Outgoing {
    std::string key;
    std::string value;
    size_t sent = 0;
    bool header = false;  // "[key]" goes first, and `value` is the section's name
    bool active = false;
  };

  static uint64_t key_of(Origin origin) { return (uint64_t{origin.file} << 32) | origin.line; }

  void open(uint32_t index) { open_.emplace_back(index, source_.files()[index].text); }

  // ---- Towards inih

  static char* feed(char* buffer, int size, void* self) {
    return static_cast<Reader*>(self)->feed(buffer, static_cast<size_t>(size)) ? buffer : nullptr;
  }

  bool feed(char* buffer, size_t size) {
    if (!outgoing_.active && !prepare()) return false;
    if (size < outgoing_.key.size() + kLineOverhead + kLeastPiece) {
      report(at_, {}, {}, "the ini library's lines are too short", {});
      return false;
    }
    std::string line;
    if (outgoing_.header) {
      line = "[" + outgoing_.key + "]\n";
      outgoing_.header = false;
      outgoing_.key = kNameKey;
    } else {
      const size_t room = size - outgoing_.key.size() - kLineOverhead;
      const std::string_view piece = std::string_view(outgoing_.value).substr(outgoing_.sent, room);
      outgoing_.sent += piece.size();
      const bool last = outgoing_.sent == outgoing_.value.size();
      line = outgoing_.key + "=" + kQuote;
      line += piece;
      line += last ? kLastQuote : kQuote;
      line += '\n';
      outgoing_.key = kMoreKey;
      outgoing_.active = !last;
    }
    std::memcpy(buffer, line.c_str(), line.size() + 1);
    return true;
  }

  // Finds the next line worth handing over; false at the end of everything.
  bool prepare() {
    while (!open_.empty()) {
      LogicalLine line;
      if (!open_.back().cursor.next(line)) {
        open_.pop_back();
        continue;
      }
      at_ = Origin{open_.back().index, line.line};
      if (!line.problem.empty()) {
        report(at_, {}, {}, std::move(line.problem), std::move(line.expected));
        continue;
      }
      ParsedLine parsed = parse_line(line.text);
      switch (parsed.what) {
        case ParsedLine::What::kProblem:
          if (line.text.front() == '[') open_.back().in = OpenFile::In::kBrokenSection;
          report(at_, {}, line.text, std::move(parsed.problem), std::move(parsed.expected));
          continue;
        case ParsedLine::What::kSection:
          if (sections_.size() >= kMaxConfigSections)
            return too_many("sections", kMaxConfigSections);
          outgoing_ = {std::string(parsed.kind), std::string(parsed.name), 0, true, true};
          return true;
        case ParsedLine::What::kEntry:
          if (++entries_ > kMaxConfigEntries) return too_many("keys", kMaxConfigEntries);
          outgoing_ = {std::string(parsed.key), std::string(parsed.value), 0, false, true};
          std::replace(outgoing_.value.begin(), outgoing_.value.end(), ';', kSemicolon);
          return true;
      }
    }
    return false;
  }

  bool too_many(const std::string& what, size_t limit) {
    report(at_, {}, {}, "too many " + what, "expected: at most " + std::to_string(limit));
    open_.clear();
    return false;
  }

  // ---- Back from inih

  static int handle(void* self, const char* section, const char* key, const char* value) {
    return static_cast<Reader*>(self)->handle(section, key, value) ? 1 : 0;
  }

  bool handle(std::string_view section, std::string_view key, std::string_view value) {
    if (value.size() < 2 || value.front() != kQuote) return false;
    const char end = value.back();
    value = value.substr(1, value.size() - 2);
    if (key != kMoreKey) {
      incoming_key_ = key;
      incoming_value_.clear();
    }
    incoming_value_ += value;
    if (end == kQuote) return true;
    if (end != kLastQuote) return false;
    std::replace(incoming_value_.begin(), incoming_value_.end(), kSemicolon, ';');
    if (incoming_key_ == kNameKey) {
      begin_section(section);
    } else {
      add_entry();
    }
    return true;
  }

  void begin_section(std::string_view kind) {
    open_.back().in = OpenFile::In::kSection;
    open_.back().section = sections_.size();
    sections_.push_back({std::string(kind), incoming_value_, at_, {}});
  }

  void add_entry() {
    const OpenFile& file = open_.back();
    if (file.in == OpenFile::In::kBrokenSection && incoming_key_ != "include") return;
    Result<std::string> value = expand_variables(
        incoming_value_, [this](std::string_view name) { return source_.environment(name); });
    if (!value) {
      report(at_, incoming_key_, incoming_value_, value.error().message,
             "expected: ${NAME} of a variable that is set; $${ stands for a plain ${");
    } else if (incoming_key_ == "include") {
      include(*value);
    } else if (file.in == OpenFile::In::kNoSection) {
      report(at_, incoming_key_, *value, "a key outside of any section",
             "expected: a line such as [route app] before it; only include may stand alone");
    } else {
      sections_[file.section].entries.push_back({incoming_key_, std::move(*value), at_});
    }
  }

  void include(const std::string& pattern) {
    if (pattern.empty()) {
      report(at_, incoming_key_, {}, "no value",
             "expected: a file or a pattern such as conf.d/*.conf");
      return;
    }
    for (const IncludeProblem& problem : source_.include_problems()) {
      if (problem.included_at != at_) continue;
      report(at_, incoming_key_, pattern, problem.problem, problem.expected);
    }
    const auto found = included_.find(key_of(at_));
    if (found == included_.end()) return;
    // The last file is opened first, for the one on top is read first.
    for (auto index = found->second.rbegin(); index != found->second.rend(); ++index) open(*index);
  }

  void report(Origin origin, std::string_view key, std::string_view value, std::string problem,
              std::string expected) {
    ConfigError error;
    error.origin = origin;
    error.where = source_.where(origin);
    if (!open_.empty() && open_.back().in == OpenFile::In::kSection && !key.empty()) {
      const RawSection& section = sections_[open_.back().section];
      error.section = "[" + section.kind + (section.name.empty() ? "" : " ") + section.name + "]";
    }
    error.key = key;
    error.value = value;
    error.problem = std::move(problem);
    error.expected = std::move(expected);
    errors_.add(std::move(error));
  }

  const ConfigSource& source_;
  ConfigErrors& errors_;
  std::unordered_map<uint64_t, std::vector<uint32_t>> included_;
  std::vector<OpenFile> open_;
  Origin at_;
  Outgoing outgoing_;
  std::string incoming_key_;
  std::string incoming_value_;
  std::vector<RawSection> sections_;
  size_t entries_ = 0;
};

}  // namespace

std::vector<RawSection> read_config(const ConfigSource& source, ConfigErrors& errors) {
  return Reader(source, errors).run();
}

}  // namespace gatehouse
