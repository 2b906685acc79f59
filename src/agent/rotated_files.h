// The files of log rotation: their names, when one is due, which may go, and the steps on disk.
//
// FILE is moved to FILE.YYYYMMDD-HHMMSS (UTC; with .1, .2 … behind it where that is taken), and
// compressed to the same name with .gz. Each step leaves what a crash can be mended from:
//   moved, not compressed     the name says so; compressed later
//   NAME.gz.part              being written; removed, and begun anew from NAME
//   NAME.gz and NAME          NAME is removed last, so it is whole: compressed again over NAME.gz
// Nothing is ever written over, and NAME goes only once all its bytes are in NAME.gz on disk and
// no process has it open for writing.
#pragma once

#include <atomic>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/log_conf.h"
#include "core/result.h"
#include "core/unique_fd.h"

namespace gatehouse {

// A file that was rotated away, by the two parts of its name that order them.
struct RotatedFile {
  int64_t stamp_us = 0;  // when it was moved, to the second; since the epoch
  uint32_t number = 0;   // among those of the same second
  bool plain = false;    // NAME is there
  bool packed = false;   // NAME.gz is there
  bool partial = false;  // NAME.gz.part is there
  std::string name;      // without .gz, without folder

  friend std::strong_ordering operator<=>(const RotatedFile& a, const RotatedFile& b) {
    if (a.stamp_us != b.stamp_us) return a.stamp_us <=> b.stamp_us;
    return a.number <=> b.number;
  }
  friend bool operator==(const RotatedFile& a, const RotatedFile& b) {
    return a.stamp_us == b.stamp_us && a.number == b.number;
  }
};

// ---- Decisions: no clock, no disk ----

// "access.log.20261120-093000", or with ".2" behind it for the number 2.
std::string rotated_name(std::string_view base, int64_t wall_us, uint32_t number);

// What `name` says, where it is a rotated file of the log `base`; one of plain, packed and partial
// is set.
std::optional<RotatedFile> parse_rotated(std::string_view base, std::string_view name);

// Whether a log of this size, begun so long ago, is to be moved. An empty one never is.
bool is_due(const LogRotation& rotation, uint64_t size, int64_t age_us);

// Which of the rotated files are to be removed now. `files` in any order.
std::vector<RotatedFile> surplus(const LogRotation& rotation, std::vector<RotatedFile> files,
                                 int64_t now_us);

// ---- Steps on disk ----

// "DIR" and "NAME" of a path.
std::string folder_of(const std::string& path);
std::string base_of(const std::string& path);

struct LogFileState {
  bool present = false;  // a regular file, not reached by a symbolic link
  uint64_t size = 0;
  int64_t begun_us = 0;  // when the file was made; 0: the file system does not tell
  uint64_t device = 0;
  uint64_t inode = 0;
};
// A missing file is no error. One that is no regular file (a link, a pipe) is.
Result<LogFileState> look_at_log(const std::string& path);

// The rotated files of the log at `path`, the oldest first.
Result<std::vector<RotatedFile>> list_rotated(const std::string& path);

// Moves the log away; gives its new path. Never writes over a file.
Result<std::string> move_log_away(const std::string& path, int64_t now_us);

// Undoes that, where nobody has made a new file in its place; false where somebody has.
Result<bool> move_log_back(const std::string& moved, const std::string& path);

enum class Packing : uint8_t { kDone, kStillWritten, kCancelled };
// Compresses `plain` to plain.gz and removes it. kStillWritten: a process has it open for writing,
// or it grew meanwhile; nothing has changed then. A file that is gone is done. Long; looks at
// `cancelled` between pieces.
Result<Packing> pack_log(const std::string& plain, const std::atomic<bool>& cancelled);

// Removes all that there is of it.
Result<void> remove_rotated(const std::string& folder, const RotatedFile& file);
// Removes what a compression that never ended left.
Result<void> remove_partial(const std::string& folder, const RotatedFile& file);

// Holds the log for one process that rotates it; none where another process does. It is a name in
// the kernel (an abstract unix address), so that nothing stays behind in any folder.
Result<UniqueFd> lock_log(const std::string& path);

}  // namespace gatehouse
