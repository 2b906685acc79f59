// Making and reading sealed memfds. See sealed_bytes.h.
#include "core/sealed_bytes.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace gatehouse {
namespace {

constexpr int kAllSeals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;

Result<size_t> size_of_sealed(int fd, size_t max) {
  const int seals = ::fcntl(fd, F_GET_SEALS);
  if (seals < 0) return errno_error("the descriptor is no memfd", errno);
  if ((seals & kAllSeals) != kAllSeals) return Error{"the memfd is not sealed"};
  struct stat status = {};
  if (::fstat(fd, &status) != 0) return errno_error("examining a memfd", errno);
  if (static_cast<uint64_t>(status.st_size) > max) {
    return Error{"the memfd has more than " + std::to_string(max) + " bytes"};
  }
  return static_cast<size_t>(status.st_size);
}

}  // namespace

Result<UniqueFd> seal_bytes(const char* name, std::string_view bytes) {
  UniqueFd fd(::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) return errno_error(std::string("memfd_create for ") + name, errno);
  const Result<void> written = write_and_seal(fd.get(), bytes);
  if (!written) return Error{std::string(name) + ": " + written.error().message};
  return fd;
}

Result<void> write_and_seal(int fd, std::string_view bytes) {
  size_t written = 0;
  while (written < bytes.size()) {
    const ssize_t put = ::write(fd, bytes.data() + written, bytes.size() - written);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return errno_error("writing a memfd", errno);
    written += static_cast<size_t>(put);
  }
  if (::fcntl(fd, F_ADD_SEALS, kAllSeals) != 0) return errno_error("sealing a memfd", errno);
  return {};
}

Result<std::string> read_sealed(int fd, size_t max) {
  const Result<size_t> size = size_of_sealed(fd, max);
  if (!size) return size.error();
  std::string bytes(*size, '\0');
  size_t have = 0;
  while (have < bytes.size()) {
    const ssize_t got =
        ::pread(fd, bytes.data() + have, bytes.size() - have, static_cast<off_t>(have));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno_error("reading a memfd", errno);
    if (got == 0) return Error{"a memfd ends early"};
    have += static_cast<size_t>(got);
  }
  return bytes;
}

Result<SealedView> SealedView::map(int fd, size_t max) {
  const Result<size_t> size = size_of_sealed(fd, max);
  if (!size) return size.error();
  if (*size == 0) return Error{"the memfd is empty"};
  void* start = ::mmap(nullptr, *size, PROT_READ, MAP_SHARED, fd, 0);
  if (start == MAP_FAILED) return errno_error("mapping a memfd", errno);
  // Where the kernel does not know them, it goes without.
  (void)::madvise(start, *size, MADV_DONTDUMP);
  (void)::madvise(start, *size, MADV_DONTFORK);
  SealedView view;
  view.bytes_ = {static_cast<const char*>(start), *size};
  return view;
}

void SealedView::lock() const {
  if (!bytes_.empty()) (void)::mlock(bytes_.data(), bytes_.size());
}

SealedView::~SealedView() {
  if (bytes_.empty()) return;
  (void)::munmap(const_cast<char*>(bytes_.data()), bytes_.size());
}

}  // namespace gatehouse
