// ConfigSource: the bytes of a configuration, read once and never again.
//
// Loading reads the main file, follows every `include`, and notes the value of every environment
// variable that a `${NAME}` asks for. The result is immutable and complete: whoever gets it (a
// worker building a generation, the agent validating one, in whatever environment and file system
// they live) reads the very same configuration. It travels between processes in a sealed memfd.
//
// `include = PATTERN` is relative to the file it stands in. A pattern with * ? [ may match
// nothing, and its matches are taken in byte order; a plain path has to exist. A file that
// includes itself, at whatever distance, is refused with the chain.
//
// Only the main file being unreadable makes load() fail. What is wrong with an include is noted
// in the source and said by the reader together with all other errors (core/config_reader.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/config_errors.h"
#include "core/result.h"
#include "core/unique_fd.h"

namespace gatehouse {

inline constexpr size_t kMaxConfigFileBytes = size_t{16} << 20;
inline constexpr size_t kMaxConfigBytes = size_t{64} << 20;  // all files together
inline constexpr size_t kMaxConfigFiles = 4096;
// Files, attachments and what holds them together, as they travel.
inline constexpr size_t kMaxSealedConfig = size_t{256} << 20;
inline constexpr size_t kMaxIncludeDepth = 16;

struct ConfigFile {
  std::string path;    // as given, or as the include made it; used in every message
  Origin included_at;  // the include line that brought it in; line 0 for the main file
  std::string text;
};

// An include that could not be followed; `included_at` is its line.
struct IncludeProblem {
  Origin included_at;
  std::string problem;
  std::string expected;
};

class ConfigSource {
 public:
  // Reads `path` and all it includes. Fails when the main file cannot be read or is too large.
  // kRegular: also when it is a pipe or a device, for which whoever reads might wait for ever.
  enum class MainFile : uint8_t { kAny, kRegular };
  static Result<ConfigSource> load(const std::string& path, MainFile kind = MainFile::kAny);

  // As load(), with `text` in the place of a main file called `name`. Includes are followed.
  static ConfigSource from_text(std::string name, std::string text);

  // A sealed memfd (close-on-exec) with everything in it.
  Result<UniqueFd> to_memfd() const;

  // Reads back what to_memfd() wrote. Leaves `fd` open, and does not depend on its position.
  // Fails unless it is fully sealed and well formed. What comes back is closed: no file is read
  // for it any more, see wanted().
  static Result<ConfigSource> from_memfd(int fd);
  // The same from the memfd's content (kept in a history).
  static Result<ConfigSource> from_sealed_bytes(std::string_view bytes);

  // In the order they are read; [0] is the main file.
  std::span<const ConfigFile> files() const { return files_; }
  std::span<const IncludeProblem> include_problems() const { return problems_; }

  // Indexes of the files that the include at `origin` brought in, in order.
  std::vector<uint32_t> included_at(Origin origin) const;

  // The value an environment variable had when the source was loaded; null when it was unset.
  const std::string* environment(std::string_view name) const;

  // "FILE:LINE", or "default" for line 0.
  std::string where(Origin origin) const;

  // A path that a directive at `origin` names, which is relative to the file it stands in.
  std::string path_at(Origin origin, std::string_view path) const;

  // The bytes of a regular file that a directive names (a page, a list): read on the first call and
  // kept, so that a worker that compiles this source later, with fewer rights and in another
  // folder, gets what the first to compile it got. `path` is relative to the file of `origin`.
  // Fails when it cannot be read or is larger than `max` bytes.
  Result<std::string_view> attachment(const std::string& path, Origin origin, size_t max) const;

  // Attachments that a closed source was asked for and does not have (they seemed empty): whoever
  // may open them has to attach() them, and then the source is compiled again.
  struct Wanted {
    std::string path;
    size_t max = 0;
  };
  std::vector<Wanted> wanted() const;
  // Reads the file and keeps its bytes, or why it cannot be read, for attachment() to tell.
  void attach(const Wanted& wanted);

  // Size of all files together.
  size_t bytes() const;

 private:
  friend class ConfigLoader;

  std::string serialize() const;

  std::vector<ConfigFile> files_;
  std::vector<IncludeProblem> problems_;
  std::map<std::string, std::optional<std::string>, std::less<>> environment_;
  // By path: the bytes, or why there are none.
  struct Attachment {
    bool readable = true;
    std::string text;
  };
  static Attachment read_attachment(const std::string& path);
  mutable std::map<std::string, Attachment, std::less<>> attachments_;
  mutable std::map<std::string, size_t, std::less<>> wanted_;
  bool closed_ = false;
};

}  // namespace gatehouse
