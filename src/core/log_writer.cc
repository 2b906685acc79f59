// LogWriter: see log_writer.h.
#include "core/log_writer.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>

#include "core/log.h"
#include "core/stable_names.h"

namespace gatehouse {
namespace {

constexpr int kInterruptsMax = 16;

// False where a write would have to wait. A pipe that reports room has it for PIPE_BUF bytes.
bool has_room(int fd) {
  pollfd asked{fd, POLLOUT, 0};
  return poll(&asked, 1, 0) != 0;
}

}  // namespace

Result<LogTail*> shared_log_tail(SharedMemory& shared, std::string_view path) {
  Result<std::span<std::byte>> zone = shared.adopt_or_create_zone(
      fmt::format("log.tail.{:016x}", stable_hash(path)), "log_tail", 1, sizeof(LogTail));
  if (!zone) return zone.error();
  return zone_as<LogTail>(*zone);
}

LogWriter::LogWriter(EventLoop& loop, std::string name, int fd, uint32_t id, WorkerCells* cells,
                     LogTail* tail, const Options& options)
    : loop_(loop),
      name_(std::move(name)),
      fd_(fd),
      id_(id),
      cells_(cells),
      tail_(tail != nullptr ? tail : &own_tail_),
      options_(options),
      timer_(&on_timer, this),
      at_turns_end_(&on_timer, this) {
  inspect_file();
}

LogWriter::~LogWriter() {
  flush();
  if (torn_) abandon_half_line();
  drop(lines_);
}

void LogWriter::flush() {
  timer_.cancel();
  at_turns_end_.cancel();
  while (lines_ > 0) {
    if (!mend_tail() || !write_piece()) return;
  }
  recovered();
}

void LogWriter::reopen(int fd) {
  fd_ = fd;
  inspect_file();
  if (torn_) abandon_half_line();
  // What the old file ended with is nothing to the new one.
  uint32_t mine = id_;
  tail_->torn_by.compare_exchange_strong(mine, 0);
  if (lines_ > 0) flush();
}

void LogWriter::inspect_file() {
  struct stat status {};
  is_file_ = fstat(fd_, &status) != 0 || S_ISREG(status.st_mode);
}

void LogWriter::schedule() {
  if (failing_) return;  // the timer runs
  if (options_.flush.count() == 0) {
    loop_.defer(at_turns_end_);
  } else {
    loop_.arm(timer_, options_.flush);
  }
}

// Called where a line does not fit any more. False: it was dropped.
bool LogWriter::make_room() {
  if (!failing_) flush();
  // An empty buffer takes a line of any length.
  if (!failing_) return true;
  drop(1);
  return false;
}

// Brings the end of the file into a state in which the buffer may follow it.
bool LogWriter::mend_tail() {
  uint32_t torn_by = tail_->torn_by.load(std::memory_order_acquire);
  if (torn_) {
    if (torn_by == id_) return true;  // nobody wrote since: the line is finished where it stopped
    abandon_half_line();
    if (lines_ == 0) return true;
  }
  if (torn_by == 0 || !tail_->torn_by.compare_exchange_strong(torn_by, 0)) return true;
  if (write(fd_, "\n", 1) == 1) return true;
  const int error_number = errno;
  tail_->torn_by.store(torn_by, std::memory_order_release);
  failed(error_number);
  return false;
}

// The bytes of one write: all there is for a file, whole lines up to PIPE_BUF for a pipe.
size_t LogWriter::next_piece() const {
  const size_t rest = buffer_.size() - done_;
  if (is_file_ || rest <= PIPE_BUF) return rest;
  const void* newline = memrchr(buffer_.data() + done_, '\n', PIPE_BUF);
  if (newline == nullptr) return PIPE_BUF;
  return static_cast<size_t>(static_cast<const char*>(newline) - buffer_.data()) + 1 - done_;
}

bool LogWriter::write_piece() {
  if (lines_ == 0) return true;
  if (!is_file_ && !has_room(fd_)) {
    failed(EAGAIN);
    return false;
  }
  ssize_t written = -1;
  for (int interrupts = 0; interrupts < kInterruptsMax; ++interrupts) {
    written = write(fd_, buffer_.data() + done_, next_piece());
    if (written >= 0 || errno != EINTR) break;
  }
  if (written <= 0) {
    failed(written == 0 ? ENOSPC : errno);
    return false;
  }
  advance(static_cast<size_t>(written));
  return true;
}

void LogWriter::advance(size_t written) {
  const auto begin = buffer_.begin() + static_cast<std::ptrdiff_t>(done_);
  const auto end = begin + static_cast<std::ptrdiff_t>(written);
  const auto whole = static_cast<uint64_t>(std::count(begin, end, '\n'));
  if (cells_ != nullptr) cells_->log_lines.add(whole);
  lines_ -= whole;
  done_ += written;
  if (buffer_[done_ - 1] != '\n') {
    torn_ = true;
    tail_->torn_by.store(id_, std::memory_order_release);
  } else if (torn_) {
    torn_ = false;
    uint32_t mine = id_;
    tail_->torn_by.compare_exchange_strong(mine, 0);
  }
  if (lines_ > 0) return;
  buffer_.clear();
  done_ = 0;
  // A line of unusual length is no reason to keep its memory.
  if (buffer_.capacity() > 2 * options_.buffer) buffer_.shrink_to_fit();
}

// The first line of the buffer stays half in the file.
void LogWriter::abandon_half_line() {
  done_ = buffer_.find('\n', done_) + 1;
  torn_ = false;
  --lines_;
  drop(1);
  if (lines_ > 0) return;
  buffer_.clear();
  done_ = 0;
}

void LogWriter::failed(int error_number) {
  failing_ = true;
  buffer_.erase(0, done_);
  done_ = 0;
  const bool full_pipe = error_number == EAGAIN;
  loop_.arm(timer_, full_pipe ? kRetryFullPipe : kRetry);
  // A reader that is a little late is no event before it costs lines: see drop().
  if (full_pipe || said_) return;
  said_ = true;
  GH_LOG(kError, "log {}: cannot write: {}; up to {} KiB of lines are kept, the rest is dropped",
         name_, std::strerror(error_number), options_.buffer / 1024);
}

void LogWriter::recovered() {
  if (!failing_) return;
  failing_ = false;
  if (said_) GH_LOG(kNotice, "log {}: written again; {} lines were dropped", name_, dropped_);
  said_ = false;
  dropped_ = 0;
}

void LogWriter::drop(uint64_t lines) {
  if (lines == 0) return;
  if (cells_ != nullptr) cells_->log_lines_dropped.add(lines);
  dropped_ += lines;
  if (said_) return;
  said_ = true;
  GH_LOG(kError, "log {}: cannot keep up with the lines; some are dropped", name_);
}

}  // namespace gatehouse
