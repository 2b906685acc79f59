// Loading of a configuration's files and variables, and their journey through a sealed memfd.
//
// The memfd holds: the magic line, then counts and strings, each string with its length before it,
// all numbers as 64-bit words of this machine's order (the memfd never leaves the machine).

#include "core/config_source.h"

#include <fcntl.h>
#include <glob.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "core/config_lines.h"
#include "core/packer.h"
#include "core/sealed_bytes.h"

namespace gatehouse {

namespace {

constexpr std::string_view kMagic = "gatehouse configuration 3\n";
constexpr size_t kMaxProblems = 1000;

struct FileIdentity {
  dev_t device = 0;
  ino_t inode = 0;
  friend bool operator==(const FileIdentity&, const FileIdentity&) = default;
};

struct FileBytes {
  FileIdentity identity;
  std::string text;
};

enum class FileKind : uint8_t { kAny, kRegular };

// Reads until end of file, so that pipes (process substitution) work for the main file. What a
// pattern happens to match has to be a regular file, which is looked at before it is opened, for
// to open a FIFO or a device may block or even do something.
Result<FileBytes> read_file(const std::string& path, FileKind kind) {
  struct stat status = {};
  if (kind == FileKind::kRegular && ::stat(path.c_str(), &status) == 0 &&
      !S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode)) {
    return Error{"cannot read " + path + ": not a regular file"};
  }
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
  if (!fd) return errno_error("cannot open " + path, errno);
  if (::fstat(fd.get(), &status) != 0) return errno_error("cannot examine " + path, errno);
  if (S_ISDIR(status.st_mode)) return errno_error("cannot read " + path, EISDIR);
  FileBytes file;
  file.identity = {status.st_dev, status.st_ino};
  char buffer[64 * 1024];
  while (true) {
    const ssize_t got = ::read(fd.get(), buffer, sizeof(buffer));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno_error("cannot read " + path, errno);
    if (got == 0) return file;
    file.text.append(buffer, static_cast<size_t>(got));
    if (file.text.size() > kMaxConfigFileBytes) {
      return Error{path + " is larger than " + std::to_string(kMaxConfigFileBytes >> 20) +
                   "m, the most that is read"};
    }
  }
}

bool is_glob(std::string_view pattern) {
  return pattern.find_first_of("*?[") != std::string_view::npos;
}

// glob() gives its error function no argument of ours. A folder that is not there matches nothing;
// any other failure to look into one is an error, for files could be missed silently.
thread_local int glob_errno = 0;
int glob_failed(const char*, int error) {
  if (error == ENOENT || error == ENOTDIR) return 0;
  glob_errno = error;
  return 1;
}

Result<std::vector<std::string>> expand_glob(const std::string& pattern) {
  if (!is_glob(pattern)) return std::vector<std::string>{pattern};
  glob_t found = {};
  glob_errno = 0;
  const int result = ::glob(pattern.c_str(), GLOB_NOSORT, glob_failed, &found);
  std::vector<std::string> paths;
  if (result == 0) paths.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  ::globfree(&found);
  if (result != 0 && result != GLOB_NOMATCH) {
    return errno_error("cannot look for " + pattern,
                       result == GLOB_NOSPACE ? ENOMEM : (glob_errno != 0 ? glob_errno : EIO));
  }
  // glob() would sort by the locale; configurations must not change order with it.
  std::sort(paths.begin(), paths.end());
  return paths;
}

std::string relative_to(const std::string& including, std::string_view path) {
  const size_t slash = including.rfind('/');
  if (path.starts_with('/') || slash == std::string::npos) return std::string(path);
  return including.substr(0, slash + 1) + std::string(path);
}

void put(Packer& packer, Origin origin) {
  packer.put(origin.file);
  packer.put(origin.line);
}
Origin get_origin(Unpacker& unpacker) {
  Origin origin;
  origin.file = static_cast<uint32_t>(unpacker.number(kMaxConfigFiles));
  origin.line = static_cast<uint32_t>(unpacker.number(kMaxConfigFileBytes + 1));
  return origin;
}

}  // namespace

// Follows includes depth first, which is the order in which the reader will want the files.
class ConfigLoader {
 public:
  explicit ConfigLoader(ConfigSource& source) : source_(source) {}

  void add_file(std::string path, Origin included_at, const FileBytes& bytes) {
    bytes_ += bytes.text.size();
    const auto index = static_cast<uint32_t>(source_.files_.size());
    source_.files_.push_back({std::move(path), included_at, bytes.text});
    open_.push_back({index, bytes.identity});
    // Scanned from here and not from files_, which moves as it grows.
    scan(index, bytes.text);
    open_.pop_back();
  }

 private:
  struct OpenFile {
    uint32_t index;
    FileIdentity identity;
  };

  void scan(uint32_t index, std::string_view text) {
    LineCursor cursor(text);
    LogicalLine line;
    while (cursor.next(line)) {
      if (!line.problem.empty()) continue;  // the reader says so
      const ParsedLine parsed = parse_line(line.text);
      if (parsed.what != ParsedLine::What::kEntry) continue;
      const Result<std::string> value = expand_variables(
          parsed.value, [this](std::string_view name) { return note_variable(name); });
      if (!value || parsed.key != "include") continue;
      follow(Origin{index, line.line}, *value);
    }
  }

  const std::string* note_variable(std::string_view name) {
    auto found = source_.environment_.find(name);
    if (found == source_.environment_.end()) {
      std::string key(name);
      const char* content = std::getenv(key.c_str());
      std::optional<std::string> value;
      if (content != nullptr) value = content;
      found = source_.environment_.emplace(std::move(key), std::move(value)).first;
    }
    return found->second ? &*found->second : nullptr;
  }

  void follow(Origin at, const std::string& pattern) {
    if (pattern.empty()) return;  // the reader says so
    if (open_.size() > kMaxIncludeDepth) {
      return fail(at, "included too deep",
                  "expected: at most " + std::to_string(kMaxIncludeDepth) + " files in a chain");
    }
    Result<std::vector<std::string>> paths =
        expand_glob(relative_to(source_.files_[at.file].path, pattern));
    if (!paths) return fail(at, paths.error().message, {});
    for (std::string& path : *paths) include(at, std::move(path));
  }

  void include(Origin at, std::string path) {
    if (source_.files_.size() >= kMaxConfigFiles) {
      return fail(at, "too many files",
                  "expected: at most " + std::to_string(kMaxConfigFiles) + " files");
    }
    Result<FileBytes> bytes = read_file(path, FileKind::kRegular);
    if (!bytes) {
      return fail(
          at, bytes.error().message,
          "expected: a file relative to this one, or a pattern with * such as conf.d/*.conf");
    }
    const auto same = std::find_if(open_.begin(), open_.end(), [&bytes](const OpenFile& file) {
      return file.identity == bytes->identity;
    });
    if (same != open_.end()) return fail(at, "includes itself", chain(same, path));
    if (bytes_ + bytes->text.size() > kMaxConfigBytes) {
      return fail(at, "too much configuration",
                  "expected: at most " + std::to_string(kMaxConfigBytes >> 20) + "m in all files");
    }
    add_file(std::move(path), at, *bytes);
  }

  std::string chain(std::vector<OpenFile>::const_iterator from, const std::string& last) const {
    std::string text = "the chain: ";
    for (; from != open_.end(); ++from) text += source_.files_[from->index].path + " -> ";
    return text + last;
  }

  void fail(Origin at, std::string problem, std::string expected) {
    if (source_.problems_.size() >= kMaxProblems) return;
    source_.problems_.push_back({at, std::move(problem), std::move(expected)});
  }

  ConfigSource& source_;
  std::vector<OpenFile> open_;
  size_t bytes_ = 0;
};

Result<ConfigSource> ConfigSource::load(const std::string& path, MainFile kind) {
  Result<FileBytes> bytes =
      read_file(path, kind == MainFile::kAny ? FileKind::kAny : FileKind::kRegular);
  if (!bytes) return bytes.error();
  ConfigSource source;
  ConfigLoader(source).add_file(path, {}, *bytes);
  return source;
}

ConfigSource ConfigSource::from_text(std::string name, std::string text) {
  ConfigSource source;
  ConfigLoader(source).add_file(std::move(name), {}, {{}, std::move(text)});
  return source;
}

Result<UniqueFd> ConfigSource::to_memfd() const {
  return seal_bytes("gatehouse configuration", serialize());
}

Result<ConfigSource> ConfigSource::from_memfd(int fd) {
  const Result<std::string> bytes = read_sealed(fd, kMaxSealedConfig);
  if (!bytes) return Error{"the configuration: " + bytes.error().message};
  return from_sealed_bytes(*bytes);
}

Result<ConfigSource> ConfigSource::from_sealed_bytes(std::string_view bytes) {
  const Error malformed{"the configuration's memfd is malformed"};
  Unpacker unpacker(bytes, kMagic);
  ConfigSource source;
  source.closed_ = true;
  for (uint64_t left = unpacker.number(kMaxConfigFiles); left > 0 && unpacker.ok(); --left) {
    ConfigFile file;
    file.path = unpacker.text();
    file.included_at = get_origin(unpacker);
    file.text = unpacker.text();
    // A file is included by an earlier one, which also rules out cycles.
    const bool is_main = source.files_.empty();
    if (is_main != file.included_at.is_default() ||
        (!is_main && file.included_at.file >= source.files_.size())) {
      return malformed;
    }
    source.files_.push_back(std::move(file));
  }
  for (uint64_t left = unpacker.number(kMaxProblems); left > 0 && unpacker.ok(); --left) {
    IncludeProblem problem;
    problem.included_at = get_origin(unpacker);
    problem.problem = unpacker.text();
    problem.expected = unpacker.text();
    if (problem.included_at.file >= source.files_.size()) return malformed;
    source.problems_.push_back(std::move(problem));
  }
  for (uint64_t left = unpacker.number(bytes.size()); left > 0 && unpacker.ok(); --left) {
    std::string name = unpacker.text();
    std::optional<std::string> value;
    if (unpacker.number(1) == 1) value = unpacker.text();
    source.environment_.emplace(std::move(name), std::move(value));
  }
  for (uint64_t left = unpacker.number(bytes.size()); left > 0 && unpacker.ok(); --left) {
    std::string path = unpacker.text();
    Attachment attachment;
    attachment.readable = unpacker.number(1) == 1;
    attachment.text = unpacker.text();
    source.attachments_.emplace(std::move(path), std::move(attachment));
  }
  if (!unpacker.at_end() || source.files_.empty()) return malformed;
  return source;
}

std::string ConfigSource::serialize() const {
  Packer packer(kMagic);
  packer.put(files_.size());
  for (const ConfigFile& file : files_) {
    packer.put(file.path);
    put(packer, file.included_at);
    packer.put(file.text);
  }
  packer.put(problems_.size());
  for (const IncludeProblem& problem : problems_) {
    put(packer, problem.included_at);
    packer.put(problem.problem);
    packer.put(problem.expected);
  }
  packer.put(environment_.size());
  for (const auto& [name, value] : environment_) {
    packer.put(name);
    packer.put(uint64_t{value ? 1U : 0U});
    if (value) packer.put(*value);
  }
  packer.put(attachments_.size());
  for (const auto& [path, attachment] : attachments_) {
    packer.put(path);
    packer.put(uint64_t{attachment.readable});
    packer.put(attachment.text);
  }
  return packer.take();
}

std::vector<uint32_t> ConfigSource::included_at(Origin origin) const {
  std::vector<uint32_t> indexes;
  for (uint32_t i = origin.file + 1; i < files_.size(); ++i) {
    if (files_[i].included_at == origin) indexes.push_back(i);
  }
  return indexes;
}

const std::string* ConfigSource::environment(std::string_view name) const {
  const auto found = environment_.find(name);
  return found == environment_.end() || !found->second ? nullptr : &*found->second;
}

Result<std::string_view> ConfigSource::attachment(const std::string& path, Origin origin,
                                                  size_t max) const {
  const std::string full = relative_to(files_[origin.file].path, path);
  auto found = attachments_.find(full);
  if (found == attachments_.end() && closed_) {
    wanted_.emplace(full, max);
    return std::string_view();
  }
  if (found == attachments_.end()) {
    Attachment attachment = read_attachment(full);
    if (!attachment.readable) return Error{std::move(attachment.text)};
    found = attachments_.emplace(full, std::move(attachment)).first;
  }
  const Attachment& attachment = found->second;
  if (!attachment.readable) return Error{attachment.text};
  if (attachment.text.size() > max) {
    return Error{full + " is larger than " + std::to_string(max) + " bytes"};
  }
  return std::string_view(attachment.text);
}

ConfigSource::Attachment ConfigSource::read_attachment(const std::string& path) {
  Result<FileBytes> file = read_file(path, FileKind::kRegular);
  if (!file) return {false, file.error().message};
  return {true, std::move(file->text)};
}

std::vector<ConfigSource::Wanted> ConfigSource::wanted() const {
  std::vector<Wanted> wanted;
  for (const auto& [path, max] : wanted_) wanted.push_back({path, max});
  return wanted;
}

void ConfigSource::attach(const Wanted& wanted) {
  attachments_.insert_or_assign(wanted.path, read_attachment(wanted.path));
  wanted_.erase(wanted.path);
}

std::string ConfigSource::where(Origin origin) const {
  if (origin.is_default()) return "default";
  return files_[origin.file].path + ":" + std::to_string(origin.line);
}

std::string ConfigSource::path_at(Origin origin, std::string_view path) const {
  return relative_to(files_[origin.file].path, path);
}

size_t ConfigSource::bytes() const {
  size_t total = 0;
  for (const ConfigFile& file : files_) total += file.text.size();
  return total;
}

}  // namespace gatehouse
