// Bytes in a sealed memfd: they can be read by whoever gets the descriptor, and changed by nobody.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "core/result.h"
#include "core/unique_fd.h"

namespace gatehouse {

// A memfd of this name (as /proc shows it) that holds `bytes`, sealed against every change.
Result<UniqueFd> seal_bytes(const char* name, std::string_view bytes);

// The same for a memfd that is there already, made with MFD_ALLOW_SEALING.
Result<void> write_and_seal(int fd, std::string_view bytes);

// Reads all of it back. Leaves `fd` open, and does not depend on its position. Fails unless it is
// fully sealed (unsealed bytes could change while they are read) and at most `max` bytes.
Result<std::string> read_sealed(int fd, size_t max);

}  // namespace gatehouse
