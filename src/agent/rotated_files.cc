// Names, decisions and steps of log rotation. See rotated_files.h for the order of the steps.
#include "agent/rotated_files.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdio>
#include <memory>

#include "core/log.h"
#include "core/stable_names.h"

namespace gatehouse {
namespace {

constexpr std::string_view kPacked = ".gz";
constexpr std::string_view kPartial = ".gz.part";
constexpr size_t kStampSize = 15;        // YYYYMMDD-HHMMSS
constexpr uint32_t kNumberMax = 10'000;  // rotations of one file in one second
constexpr size_t kPieceSize = size_t{256} << 10;
constexpr int kGzip = 15 + 16;  // the largest window, in gzip's format

template <typename Call>
auto retrying(Call call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

Error about(const char* what, const std::string& path) {
  return errno_error(fmt::format("cannot {} {}", what, path), errno);
}

bool exists(const std::string& path) {
  struct stat info {};
  return lstat(path.c_str(), &info) == 0;
}

// Makes the names in a folder last over a power failure.
Result<void> sync_folder(const std::string& folder) {
  const UniqueFd fd(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return about("open", folder);
  if (retrying([&] { return fsync(fd.get()); }) != 0 && errno != EINVAL) {
    return about("sync", folder);
  }
  return {};
}

std::optional<int64_t> parse_stamp(std::string_view text) {
  if (text.size() != kStampSize || text[8] != '-') return std::nullopt;
  std::array<int, 6> parts{};
  constexpr size_t kAt[] = {0, 4, 6, 9, 11, 13};
  constexpr size_t kDigits[] = {4, 2, 2, 2, 2, 2};
  for (size_t i = 0; i < parts.size(); ++i) {
    const char* begin = text.data() + kAt[i];
    const auto [end, error] = std::from_chars(begin, begin + kDigits[i], parts[i]);
    if (error != std::errc() || end != begin + kDigits[i] || parts[i] < 0) return std::nullopt;
  }
  struct tm time {};
  time.tm_year = parts[0] - 1900;
  time.tm_mon = parts[1] - 1;
  time.tm_mday = parts[2];
  time.tm_hour = parts[3];
  time.tm_min = parts[4];
  time.tm_sec = parts[5];
  struct tm normal = time;
  const time_t seconds = timegm(&normal);
  // timegm() takes the 40th of a month; such a name is not ours.
  if (normal.tm_mon != time.tm_mon || normal.tm_mday != time.tm_mday ||
      normal.tm_hour != time.tm_hour || normal.tm_min != time.tm_min) {
    return std::nullopt;
  }
  return int64_t{seconds} * 1'000'000;
}

bool write_all(int fd, const unsigned char* bytes, size_t size) {
  while (size > 0) {
    const ssize_t put = retrying([&] { return write(fd, bytes, size); });
    if (put < 0) return false;
    bytes += put;
    size -= static_cast<size_t>(put);
  }
  return true;
}

bool same_file(int a, int b) {
  struct stat of_a {
  }, of_b{};
  return fstat(a, &of_a) == 0 && fstat(b, &of_b) == 0 && of_a.st_dev == of_b.st_dev &&
         of_a.st_ino == of_b.st_ino;
}

// True unless some process has the file open for writing. The kernel grants a read lease only then;
// where it gives none (a file of another user, a file system without leases) it is known of this
// process alone: its own error log may be what was moved.
bool nobody_writes(int fd) {
  if (same_file(fd, log_descriptor()) || same_file(fd, STDERR_FILENO)) return false;
  if (fcntl(fd, F_SETLEASE, F_RDLCK) != 0) return errno != EAGAIN;
  fcntl(fd, F_SETLEASE, F_UNLCK);
  return true;
}

struct EndDeflate {
  void operator()(z_stream* stream) const { deflateEnd(stream); }
};

// Copies `in` to `out` as gzip. `*size`: the bytes that were read.
Result<Packing> deflate_file(int in, int out, const std::string& in_path,
                             const std::string& out_path, const std::atomic<bool>& cancelled,
                             uint64_t* size) {
  z_stream stream{};
  if (deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, kGzip, 8, Z_DEFAULT_STRATEGY) !=
      Z_OK) {
    return Error{"out of memory"};
  }
  const std::unique_ptr<z_stream, EndDeflate> end(&stream);
  std::vector<unsigned char> read_bytes(kPieceSize);
  std::vector<unsigned char> packed(kPieceSize);
  for (bool last = false; !last;) {
    if (cancelled.load(std::memory_order_relaxed)) return Packing::kCancelled;
    const ssize_t got = retrying([&] { return read(in, read_bytes.data(), read_bytes.size()); });
    if (got < 0) return about("read", in_path);
    last = got == 0;
    *size += static_cast<uint64_t>(got);
    stream.next_in = read_bytes.data();
    stream.avail_in = static_cast<uInt>(got);
    do {
      stream.next_out = packed.data();
      stream.avail_out = static_cast<uInt>(packed.size());
      deflate(&stream, last ? Z_FINISH : Z_NO_FLUSH);
      if (!write_all(out, packed.data(), packed.size() - stream.avail_out)) {
        return about("write", out_path);
      }
    } while (stream.avail_out == 0);
  }
  return Packing::kDone;
}

// The packed file is as readable as the plain one was, and as old. Ownership may not be ours to
// give; the file is ours then.
Result<void> copy_attributes(int from, int to, const std::string& path) {
  struct stat info {};
  if (fstat(from, &info) != 0) return about("examine", path);
  if (fchown(to, info.st_uid, info.st_gid) != 0 && errno != EPERM) return about("give away", path);
  if (fchmod(to, info.st_mode & 0777) != 0) return about("set the mode of", path);
  const timespec times[] = {info.st_atim, info.st_mtim};
  if (futimens(to, times) != 0) return about("set the time of", path);
  return {};
}

}  // namespace

std::string rotated_name(std::string_view base, int64_t wall_us, uint32_t number) {
  const time_t seconds = wall_us / 1'000'000;
  struct tm parts {};
  gmtime_r(&seconds, &parts);
  char stamp[32];
  const size_t size = strftime(stamp, sizeof stamp, "%Y%m%d-%H%M%S", &parts);
  std::string name = fmt::format("{}.{}", base, std::string_view(stamp, size));
  if (number > 0) name += fmt::format(".{}", number);
  return name;
}

std::optional<RotatedFile> parse_rotated(std::string_view base, std::string_view name) {
  if (!name.starts_with(base)) return std::nullopt;
  std::string_view rest = name.substr(base.size());
  if (!rest.starts_with('.')) return std::nullopt;
  rest.remove_prefix(1);
  RotatedFile file;
  if (rest.ends_with(kPartial)) {
    file.partial = true;
    rest.remove_suffix(kPartial.size());
    name.remove_suffix(kPartial.size());
  } else if (rest.ends_with(kPacked)) {
    file.packed = true;
    rest.remove_suffix(kPacked.size());
    name.remove_suffix(kPacked.size());
  } else {
    file.plain = true;
  }
  const std::optional<int64_t> stamp = parse_stamp(rest.substr(0, kStampSize));
  if (!stamp) return std::nullopt;
  rest.remove_prefix(kStampSize);
  if (!rest.empty()) {
    if (rest[0] != '.' || rest.size() < 2 || rest[1] == '0') return std::nullopt;
    const char* end = rest.data() + rest.size();
    const auto [stop, error] = std::from_chars(rest.data() + 1, end, file.number);
    if (error != std::errc() || stop != end) return std::nullopt;
  }
  file.stamp_us = *stamp;
  file.name = name;
  return file;
}

bool is_due(const LogRotation& rotation, uint64_t size, int64_t age_us) {
  if (size == 0) return false;
  if (rotation.size.count > 0 && size >= rotation.size.count) return true;
  return rotation.age.count() > 0 && age_us >= rotation.age.count() * 1000;
}

std::vector<RotatedFile> surplus(const LogRotation& rotation, std::vector<RotatedFile> files,
                                 int64_t now_us) {
  std::sort(files.begin(), files.end());
  const size_t beyond =
      rotation.keep > 0 && files.size() > rotation.keep ? files.size() - rotation.keep : 0;
  std::vector<RotatedFile> gone;
  for (size_t i = 0; i < files.size(); ++i) {
    const bool old = rotation.keep_age.count() > 0 &&
                     now_us - files[i].stamp_us > rotation.keep_age.count() * 1000;
    if (i < beyond || old) gone.push_back(std::move(files[i]));
  }
  return gone;
}

std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

std::string base_of(const std::string& path) {
  return path.substr(path.rfind('/') + 1);
}

Result<LogFileState> look_at_log(const std::string& path) {
  LogFileState state;
  struct statx info {};
  if (statx(AT_FDCWD, path.c_str(), AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS | STATX_BTIME, &info) !=
      0) {
    if (errno == ENOENT) return state;
    return about("examine", path);
  }
  if (!S_ISREG(info.stx_mode)) return Error{path + " is not a regular file; it is not rotated"};
  state.present = true;
  state.size = info.stx_size;
  if ((info.stx_mask & STATX_BTIME) != 0) {
    state.begun_us = info.stx_btime.tv_sec * 1'000'000 + info.stx_btime.tv_nsec / 1000;
  }
  state.device = uint64_t{info.stx_dev_major} << 32 | info.stx_dev_minor;
  state.inode = info.stx_ino;
  return state;
}

Result<std::vector<RotatedFile>> list_rotated(const std::string& path) {
  const std::string folder = folder_of(path);
  const std::string base = base_of(path);
  DIR* stream = opendir(folder.c_str());
  if (stream == nullptr) return about("list", folder);
  std::vector<RotatedFile> files;
  errno = 0;
  while (const dirent* entry = readdir(stream)) {
    if (std::optional<RotatedFile> file = parse_rotated(base, entry->d_name)) {
      files.push_back(std::move(*file));
    }
    errno = 0;
  }
  const int failed = errno;
  closedir(stream);
  if (failed != 0) return errno_error("cannot list " + folder, failed);
  std::sort(files.begin(), files.end());
  std::vector<RotatedFile> merged;
  for (RotatedFile& file : files) {
    if (merged.empty() || merged.back() != file) {
      merged.push_back(std::move(file));
      continue;
    }
    merged.back().plain |= file.plain;
    merged.back().packed |= file.packed;
    merged.back().partial |= file.partial;
  }
  return merged;
}

Result<std::string> move_log_away(const std::string& path, int64_t now_us) {
  for (uint32_t number = 0; number < kNumberMax; ++number) {
    const std::string moved = folder_of(path) + "/" + rotated_name(base_of(path), now_us, number);
    if (exists(moved + std::string(kPacked)) || exists(moved)) continue;
    if (renameat2(AT_FDCWD, path.c_str(), AT_FDCWD, moved.c_str(), RENAME_NOREPLACE) == 0) {
      return moved;
    }
    if (errno == EEXIST) continue;
    // Some file systems cannot refuse to replace. Nobody else makes such names, and lstat() found
    // none a moment ago.
    if (errno == EINVAL && rename(path.c_str(), moved.c_str()) == 0) return moved;
    return about("move", path);
  }
  return Error{"cannot move " + path + ": all names of this second are taken"};
}

Result<bool> move_log_back(const std::string& moved, const std::string& path) {
  if (renameat2(AT_FDCWD, moved.c_str(), AT_FDCWD, path.c_str(), RENAME_NOREPLACE) == 0) {
    return true;
  }
  if (errno == EEXIST) return false;
  if (errno == EINVAL) {
    // link() never replaces; where it fails nothing has changed.
    if (link(moved.c_str(), path.c_str()) == 0) {
      if (unlink(moved.c_str()) == 0) return true;
    } else if (errno == EEXIST) {
      return false;
    }
  }
  return about("move back", moved);
}

Result<Packing> pack_log(const std::string& plain, const std::atomic<bool>& cancelled) {
  const UniqueFd in(retrying(
      [&] { return open(plain.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK); }));
  if (!in && errno == ENOENT) return Packing::kDone;
  struct stat info {};
  if (!in || fstat(in.get(), &info) != 0) return about("open", plain);
  if (!S_ISREG(info.st_mode)) return Error{plain + " is not a regular file"};
  if (!nobody_writes(in.get())) return Packing::kStillWritten;

  const std::string part = plain + std::string(kPartial);
  if (unlink(part.c_str()) != 0 && errno != ENOENT) return about("remove", part);
  UniqueFd out(retrying([&] {
    return open(part.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  }));
  if (!out) return about("create", part);
  uint64_t size = 0;
  const auto write_part = [&]() -> Result<Packing> {
    Result<Packing> packed = deflate_file(in.get(), out.get(), plain, part, cancelled, &size);
    if (!packed || *packed != Packing::kDone) return packed;
    Result<void> copied = copy_attributes(in.get(), out.get(), part);
    if (!copied) return copied.error();
    if (retrying([&] { return fsync(out.get()); }) != 0) return about("sync", part);
    if (close(out.release()) != 0 && errno != EINTR) return about("close", part);
    if (fstat(in.get(), &info) != 0) return about("examine", plain);
    const bool grown = static_cast<uint64_t>(info.st_size) != size || !nobody_writes(in.get());
    return grown ? Packing::kStillWritten : Packing::kDone;
  };
  Result<Packing> written = write_part();
  if (!written || *written != Packing::kDone) {
    unlink(part.c_str());
    return written;
  }
  // A .gz that is there already comes from a run that was cut off before it removed `plain`.
  if (rename(part.c_str(), (plain + std::string(kPacked)).c_str()) != 0) {
    const Error error = about("rename", part);
    unlink(part.c_str());
    return error;
  }
  // The name of the packed file has to be on disk before the plain one goes.
  Result<void> synced = sync_folder(folder_of(plain));
  if (!synced) return synced.error();
  if (unlink(plain.c_str()) != 0) return about("remove", plain);
  return Packing::kDone;
}

Result<void> remove_rotated(const std::string& folder, const RotatedFile& file) {
  const std::string path = folder + "/" + file.name;
  for (const std::string& name :
       {path + std::string(kPartial), path + std::string(kPacked), path}) {
    if (unlink(name.c_str()) != 0 && errno != ENOENT) return about("remove", name);
  }
  return {};
}

Result<void> remove_partial(const std::string& folder, const RotatedFile& file) {
  const std::string part = folder + "/" + file.name + std::string(kPartial);
  if (unlink(part.c_str()) != 0 && errno != ENOENT) return about("remove", part);
  return {};
}

Result<UniqueFd> lock_log(const std::string& path) {
  struct stat info {};
  const std::string folder = folder_of(path);
  if (stat(folder.c_str(), &info) != 0) return about("examine", folder);
  const std::string name = fmt::format("gatehouse rotation {:x} {:x} {:016x}", info.st_dev,
                                       info.st_ino, stable_hash(base_of(path)));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  // A leading zero byte makes the name abstract.
  name.copy(address.sun_path + 1, sizeof(address.sun_path) - 1);
  UniqueFd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd) return about("lock", path);
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), size) == 0) return fd;
  if (errno == EADDRINUSE) return UniqueFd();
  return about("lock", path);
}

}  // namespace gatehouse
