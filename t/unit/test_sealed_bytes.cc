// Bytes in a sealed memfd: whole, unchangeable, and believed only where they are.
#include "core/sealed_bytes.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <string>

namespace {

using gatehouse::read_sealed;
using gatehouse::Result;
using gatehouse::seal_bytes;
using gatehouse::UniqueFd;

}  // namespace

TestSuite(sealed_bytes, .timeout = 20);

Test(sealed_bytes, come_back_and_cannot_be_changed) {
  for (const size_t size : {size_t{0}, size_t{1}, size_t{3'000'000}}) {
    const std::string bytes(size, '\xfe');
    const Result<UniqueFd> fd = seal_bytes("test", bytes);
    cr_assert(fd.ok());
    // Twice, wherever the descriptor stands.
    lseek(fd->get(), 1, SEEK_SET);
    for (int i = 0; i < 2; ++i) {
      const Result<std::string> copy = read_sealed(fd->get(), size);
      cr_assert(copy.ok() && *copy == bytes);
    }
    cr_assert(pwrite(fd->get(), "x", 1, 0) < 0 && errno == EPERM);
    cr_assert(ftruncate(fd->get(), static_cast<off_t>(size + 1)) < 0 && errno == EPERM);
    cr_assert(fcntl(fd->get(), F_GETFD) & FD_CLOEXEC);
    if (size > 0) cr_assert(!read_sealed(fd->get(), size - 1).ok());
  }
}

Test(sealed_bytes, anything_else_is_refused) {
  const UniqueFd open_memfd(memfd_create("open", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  cr_assert(write(open_memfd.get(), "abc", 3) == 3);
  cr_assert(read_sealed(open_memfd.get(), 100).error().message == "the memfd is not sealed");
  cr_assert(fcntl(open_memfd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) == 0);
  // Seals could still be added.
  cr_assert(!read_sealed(open_memfd.get(), 100).ok());
  const UniqueFd null(open("/dev/null", O_RDONLY | O_CLOEXEC));
  cr_assert(!read_sealed(null.get(), 100).ok());
  int ends[2];
  cr_assert(pipe2(ends, O_CLOEXEC) == 0);
  const UniqueFd reading(ends[0]), writing(ends[1]);
  cr_assert(!read_sealed(reading.get(), 100).ok());
  cr_assert(!read_sealed(-1, 100).ok());
}
