// Log files: opening them safely as root, and exchanging them under the feet of their writers.
//
// The master opens every log, because the workers may not; it hands the descriptors over at the
// fork and again after a reopen (logrotate moved the files away). A writer keeps its descriptor
// *number* for ever: the new file is put under it with dup3(), in one atomic step.
//
// Opening is where a log directory that a worker's user may write to becomes a way to root: a log
// replaced by a link to /etc/shadow would be appended to, or given away. So a symbolic link in the
// last place is followed only if root (or the user we run as) made it, and only a file made by this
// very call gets a new owner.
#pragma once

#include <sys/types.h>

#include <span>
#include <string>

#include "core/channel.h"
#include "core/result.h"
#include "core/unique_fd.h"
#include "core/worker_context.h"

namespace gatehouse {

struct FileOwner {
  uid_t user = static_cast<uid_t>(-1);  // -1: leave as it is
  gid_t group = static_cast<gid_t>(-1);
};

// Opens `path` for appending (O_APPEND|O_CLOEXEC|O_NONBLOCK, mode 0640 where made). "stderr",
// "stdout" and "/dev/stderr", "/dev/stdout" give a copy of that descriptor. O_NONBLOCK keeps a
// FIFO without a reader from stopping the caller: it is an error instead.
Result<UniqueFd> open_log_file(const std::string& path, const FileOwner& owner = {});

// Worker: does what a kReopenLog message says, for the error log or for one of `files`, whose
// descriptor numbers stay the same. Takes the message's descriptor.
Result<void> adopt_reopened_log(ChannelMessage& message, std::span<const WorkerLog> files);

}  // namespace gatehouse
