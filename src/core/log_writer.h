// LogWriter: one worker's batched writer of lines to one log file.
//
// Lines are collected in a buffer and written with one write() when it is full, or when the first
// of them has waited for `flush`. The file is open for appending, so batches of several workers
// follow each other and never mix. To a pipe or terminal (stdout, stderr) no more than PIPE_BUF
// bytes of whole lines go at once, which the kernel keeps together, and only where there is room:
// a reader that has stopped does not stop the traffic.
//
// A write that fails (full disk, I/O error) is tried again once a second, a full pipe sooner. Until
// then lines are kept as far as the buffer goes, and further ones are dropped and counted in
// WorkerCells::log_lines_dropped. Failure and recovery are each said once in the error log.
//
// Half lines: where a write stops inside a line, the writer says so in LogTail, which all workers
// share. If nobody wrote since, it finishes the line. Whoever writes first instead begins with a
// newline; the half line then stands alone, and counts as dropped. A worker that is killed inside
// write() leaves no half line: the kernel completes what it began, or the tail is as after a full
// disk, without its mark.
// Leaves out: fsync; rotation (the master's reopen does that).
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/event_loop.h"
#include "core/metrics.h"
#include "core/shared_memory.h"
#include "core/units.h"

namespace gatehouse {

// What the writers of one file share: which of them left half a line at its end.
struct LogTail {
  std::atomic<uint32_t> torn_by;  // 0: the file ends with a whole line; else a writer's id
};

// The tail of the log file `path` in the shared segment, the same one for all processes.
Result<LogTail*> shared_log_tail(SharedMemory& shared, std::string_view path);

class LogWriter {
 public:
  struct Options {
    size_t buffer = size_t{64} << 10;
    Duration flush = std::chrono::seconds(1);
  };
  static constexpr Duration kRetry = std::chrono::seconds(1);
  static constexpr Duration kRetryFullPipe = std::chrono::milliseconds(20);

  // `name` is for messages. `fd` (O_APPEND) stays the caller's. `id` tells the writers of a file
  // apart: the worker's row + 1. `cells` and `tail` may be null, and outlive the writer otherwise.
  LogWriter(EventLoop& loop, std::string name, int fd, uint32_t id, WorkerCells* cells,
            LogTail* tail, const Options& options);
  LogWriter(const LogWriter&) = delete;
  LogWriter& operator=(const LogWriter&) = delete;
  // Writes what it can; the rest counts as dropped.
  ~LogWriter();

  // Adds one line; the newline is added here. REQUIRES: no newline in it.
  void append(std::string_view line) {
    if (buffer_.size() - done_ + line.size() >= options_.buffer) [[unlikely]] {
      if (!make_room()) return;
    }
    if (lines_ == 0) schedule();
    buffer_.append(line);
    buffer_.push_back('\n');
    ++lines_;
  }

  // Writes what is buffered, as far as that is possible now.
  void flush();

  // The file is about to be exchanged, perhaps under the same descriptor number: flush() before
  // it, then reopen() with the descriptor to write to from now on. What the old file did not take
  // goes to the new one.
  void reopen(int fd);

  int fd() const { return fd_; }
  void set_options(const Options& options) { options_ = options; }

  // The last write did not take everything.
  bool failing() const { return failing_; }
  size_t buffered() const { return buffer_.size() - done_; }

 private:
  static void on_timer(void* self) { static_cast<LogWriter*>(self)->flush(); }
  void schedule();
  bool make_room();
  bool mend_tail();
  bool write_piece();
  size_t next_piece() const;
  void advance(size_t written);
  void failed(int error_number);
  void recovered();
  void drop(uint64_t lines);
  void abandon_half_line();
  void inspect_file();

  EventLoop& loop_;
  std::string name_;
  int fd_;
  uint32_t id_;
  WorkerCells* cells_;
  LogTail own_tail_{};
  LogTail* tail_;
  Options options_;
  std::string buffer_;    // whole lines; the first may have been written in part
  size_t done_ = 0;       // bytes at the buffer's beginning that are written
  uint64_t lines_ = 0;    // not completely written yet
  bool torn_ = false;     // done_ stands inside a line
  bool is_file_ = true;   // a regular file: takes any amount at once
  bool failing_ = false;  // the timer tries again; append() does not
  bool said_ = false;     // the error log knows that it fails
  uint64_t dropped_ = 0;  // since it fails
  Timer timer_;
  Deferred at_turns_end_;
};

}  // namespace gatehouse
