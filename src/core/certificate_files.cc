// Opening and reading the files. See certificate_files.h.
#include "core/certificate_files.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "core/clock.h"

namespace gatehouse {
namespace {

constexpr char kMagic[] = "gatehouse certificate files 1\n\0";
constexpr size_t kMagicSize = 32;
static_assert(sizeof(kMagic) == kMagicSize);
constexpr size_t kCountMax = 1'000'000;
constexpr int kAttemptsMax = 3;

bool same_content(const struct stat& a, const struct stat& b) {
  return a.st_size == b.st_size && a.st_mtim.tv_sec == b.st_mtim.tv_sec &&
         a.st_mtim.tv_nsec == b.st_mtim.tv_nsec && a.st_ctim.tv_sec == b.st_ctim.tv_sec &&
         a.st_ctim.tv_nsec == b.st_ctim.tv_nsec;
}

// Keys pass through it.
struct Passage {
  std::array<char, 16384> bytes;
  ~Passage() { OPENSSL_cleanse(bytes.data(), bytes.size()); }
};

Result<void> write_at(int fd, const char* bytes, size_t size, uint64_t at) {
  while (size > 0) {
    const ssize_t put = ::pwrite(fd, bytes, size, static_cast<off_t>(at));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return errno_error("keeping the files of certificates", errno);
    bytes += put;
    size -= static_cast<size_t>(put);
    at += static_cast<uint64_t>(put);
  }
  return {};
}

// An Error is about the file, and said in its place; what goes wrong with the memfd is `broken`.
Result<uint64_t> copy_file(int from, int to, uint64_t at, Result<void>& broken) {
  Passage passage;
  uint64_t size = 0;
  for (;;) {
    const ssize_t got = ::read(from, passage.bytes.data(), passage.bytes.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno_error("cannot read it", errno);
    if (got == 0) return size;
    if (size + static_cast<size_t>(got) > kCertificateFileMax) {
      return Error{"it is larger than " + std::to_string(kCertificateFileMax >> 20) +
                   "m, the most that is read"};
    }
    broken = write_at(to, passage.bytes.data(), static_cast<size_t>(got), at + size);
    if (!broken) return uint64_t{0};
    size += static_cast<size_t>(got);
  }
}

// The whole of one file, at one time.
Result<uint64_t> read_whole(const std::string& path, int to, uint64_t at, Result<void>& broken) {
  for (int attempt = 0; attempt < kAttemptsMax; ++attempt) {
    // Looked at before it is opened, for to open a device may do something; and opened without
    // waiting, for it may have become a pipe in between.
    struct stat before = {};
    if (::stat(path.c_str(), &before) == 0 && !S_ISREG(before.st_mode)) {
      return Error{"it is not a regular file"};
    }
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
    if (!fd) return errno_error("cannot open it", errno);
    if (::fstat(fd.get(), &before) != 0) return errno_error("cannot examine it", errno);
    if (!S_ISREG(before.st_mode)) return Error{"it is not a regular file"};
    const Result<uint64_t> size = copy_file(fd.get(), to, at, broken);
    if (!size || !broken) return size;
    struct stat after = {};
    if (::fstat(fd.get(), &after) != 0) return errno_error("cannot examine it", errno);
    if (same_content(before, after) && static_cast<uint64_t>(after.st_size) == *size) return size;
  }
  return Error{"it changes while it is read"};
}

}  // namespace

Result<CertificateReader> CertificateReader::start(const CertificatePlan& plan) {
  UniqueFd memory(::memfd_create("gatehouse certificate files", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memory) return errno_error("memfd_create for certificates", errno);
  CertificateReader reader(std::move(memory));
  visit_certificate_files(plan, [&reader](const PlannedCertificate::File& file) {
    reader.paths_.push_back(&file.path);
  });
  if (reader.paths_.size() > kCountMax) return Error{"too many files of certificates"};
  reader.places_.reserve(reader.paths_.size());
  reader.end_ = kMagicSize + sizeof(uint64_t) + reader.paths_.size() * sizeof(Place);
  return reader;
}

Result<bool> CertificateReader::read_until(Moment until) {
  while (places_.size() < paths_.size()) {
    if (const Result<void> taken = take(*paths_[places_.size()]); !taken) return taken.error();
    if (monotonic_now() >= until) break;
  }
  return places_.size() == paths_.size();
}

Result<void> CertificateReader::take(const std::string& path) {
  Result<void> broken;
  const Result<uint64_t> size = read_whole(path, memory_.get(), end_, broken);
  if (!broken) return broken;
  if (!size) return note(size.error().message);
  if (end_ + *size > kCertificateFilesMax) {
    return note("with it the files of certificates are larger than " +
                std::to_string(kCertificateFilesMax >> 20) + "m, the most that is read");
  }
  places_.push_back({1, end_, *size});
  end_ += *size;
  return {};
}

Result<void> CertificateReader::note(std::string_view reason) {
  // Over the beginning of what could not be read to its end; the rest is cut off by the next one,
  // or by seal().
  if (Result<void> kept = write_at(memory_.get(), reason.data(), reason.size(), end_); !kept) {
    return kept;
  }
  places_.push_back({0, end_, reason.size()});
  end_ += reason.size();
  return {};
}

Result<UniqueFd> CertificateReader::seal() {
  const uint64_t count = places_.size();
  if (::ftruncate(memory_.get(), static_cast<off_t>(end_)) != 0) {
    return errno_error("keeping the files of certificates", errno);
  }
  Result<void> done = write_at(memory_.get(), kMagic, kMagicSize, 0);
  if (done) {
    done =
        write_at(memory_.get(), reinterpret_cast<const char*>(&count), sizeof(count), kMagicSize);
  }
  if (done) {
    done = write_at(memory_.get(), reinterpret_cast<const char*>(places_.data()),
                    places_.size() * sizeof(Place), kMagicSize + sizeof(count));
  }
  if (done) done = write_and_seal(memory_.get(), {});
  if (!done) return done.error();
  return std::move(memory_);
}

Result<CertificateTexts> CertificateTexts::open(int fd) {
  const Error malformed{"the files of certificates are malformed"};
  Result<SealedView> view = SealedView::map(fd, kCertificateFilesMax + (size_t{64} << 20));
  if (!view) return view.error();
  CertificateTexts texts(std::move(*view));
  const std::string_view bytes = texts.view_.bytes();
  uint64_t count = 0;
  if (bytes.size() < kMagicSize + sizeof(count) ||
      std::memcmp(bytes.data(), kMagic, kMagicSize) != 0) {
    return malformed;
  }
  std::memcpy(&count, bytes.data() + kMagicSize, sizeof(count));
  size_t next = kMagicSize + sizeof(count);
  if (count > kCountMax || bytes.size() - next < count * 3 * sizeof(uint64_t)) return malformed;
  for (; count > 0; --count) {
    uint64_t place[3];
    std::memcpy(place, bytes.data() + next, sizeof(place));
    next += sizeof(place);
    if (place[0] > 1 || place[1] > bytes.size() || place[2] > bytes.size() - place[1]) {
      return malformed;
    }
    texts.places_.push_back({place[0] == 1, bytes.substr(place[1], place[2])});
  }
  return texts;
}

}  // namespace gatehouse
