// The steps of rotation, driven by a tick, by the master's answers and by the packing thread. See
// log_rotator.h.
#include "agent/log_rotator.h"

#include <algorithm>
#include <utility>

#include "core/log.h"

namespace gatehouse {
namespace {

constexpr int64_t kSecond = 1'000'000;
constexpr int64_t kPauseMin = 2 * kSecond;
constexpr int64_t kPauseMax = 60 * kSecond;
constexpr int64_t kStillWrittenPause = 2 * kSecond;
constexpr int64_t kPruneEvery = 60 * kSecond;

int64_t longer(int64_t pause) {
  return std::clamp(pause * 2, kPauseMin, kPauseMax);
}

}  // namespace

struct LogRotator::Alive {
  LogRotator* rotator;
};

struct LogRotator::File {
  LogRotation rotation;
  RotationStatus status;
  UniqueFd lock;  // held while we rotate it
  bool leftovers_found = false;
  std::vector<std::string> moved;    // not confirmed by the master yet
  size_t asked = 0;                  // the first so many of `moved` are being asked for
  std::vector<std::string> to_pack;  // the oldest first
  bool packing = false;
  int64_t pack_not_before_us = 0;
  int64_t look_not_before_us = 0;
  int64_t pause_us = 0;
  int64_t prune_at_us = 0;
  // For file systems that do not tell when a file was made.
  uint64_t seen_inode = 0;
  int64_t seen_us = 0;
};

LogRotator::LogRotator(JobThread& packing, std::function<void(Reopened)> reopen)
    : packing_(packing), reopen_(std::move(reopen)), alive_(std::make_shared<Alive>(Alive{this})) {}

LogRotator::~LogRotator() {
  alive_->rotator = nullptr;
}

void LogRotator::set_rules(const std::vector<RotationRule>& rules) {
  std::map<std::string, std::unique_ptr<File>> files;
  for (const RotationRule& rule : rules) {
    const auto known = files_.find(rule.path);
    std::unique_ptr<File> file;
    if (known != files_.end()) {
      file = std::move(known->second);
    } else {
      file = std::make_unique<File>();
      file->status.path = rule.path;
    }
    // Old files that were to stay as they are may have to be packed now.
    if (file->rotation != rule.rotation) file->leftovers_found = false;
    file->rotation = rule.rotation;
    file->prune_at_us = 0;
    files.emplace(rule.path, std::move(file));
  }
  files_ = std::move(files);
}

void LogRotator::tick(int64_t now_us) {
  now_us_ = now_us;
  bool unconfirmed = false;
  for (auto& [path, file] : files_) {
    const bool pausing = now_us_ < file->look_not_before_us;
    if (!pausing) {
      if (!hold(*file)) continue;
      find_leftovers(*file);
      look(*file);
    }
    if (!file->lock) continue;
    pack_next(*file);
    if (now_us_ >= file->prune_at_us) prune(*file);
    unconfirmed |= !file->moved.empty();
  }
  if (unconfirmed && !reopening_ && now_us_ >= reopen_not_before_us_) ask_reopen();
}

bool LogRotator::hold(File& file) {
  if (file.lock) return true;
  Result<UniqueFd> lock = lock_log(file.status.path);
  if (!lock) {
    failed(file, lock.error().message);
    return false;
  }
  file.lock = std::move(*lock);
  return static_cast<bool>(file.lock);  // else another agent rotates it, and will end some day
}

void LogRotator::find_leftovers(File& file) {
  if (file.leftovers_found) return;
  const std::string folder = folder_of(file.status.path);
  const Result<std::vector<RotatedFile>> rotated = list_rotated(file.status.path);
  const Result<LogFileState> log = look_at_log(file.status.path);
  if (!rotated || !log) return failed(file, (!rotated ? rotated.error() : log.error()).message);
  file.leftovers_found = true;
  for (const RotatedFile& old : *rotated) {
    const std::string path = folder + "/" + old.name;
    const bool known =
        std::find(file.moved.begin(), file.moved.end(), path) != file.moved.end() ||
        std::find(file.to_pack.begin(), file.to_pack.end(), path) != file.to_pack.end();
    if (known) continue;
    if (old.partial) {
      const Result<void> removed = remove_partial(folder, old);
      if (!removed) failed(file, removed.error().message);
    }
    // Without the log itself its last file may still be the one that is written to.
    const bool last = &old == &rotated->back() && !log->present;
    if (old.plain && (file.rotation.compress || last)) file.moved.push_back(path);
    if (file.status.last_us == 0 || old.stamp_us > file.status.last_us) {
      file.status.last_us = old.stamp_us;
    }
  }
}

int64_t LogRotator::age_of(File& file, const LogFileState& state) const {
  if (state.begun_us != 0) return now_us_ - state.begun_us;
  if (file.seen_inode != state.inode) {
    const bool first = file.seen_inode == 0;
    file.seen_inode = state.inode;
    file.seen_us = first && file.status.last_us != 0 ? file.status.last_us : now_us_;
  }
  return now_us_ - file.seen_us;
}

void LogRotator::look(File& file) {
  const Result<LogFileState> state = look_at_log(file.status.path);
  if (!state) return failed(file, state.error().message);
  file.status.size = state->size;
  if (!state->present || !is_due(file.rotation, state->size, age_of(file, *state))) {
    if (file.moved.empty() && file.to_pack.empty()) {
      file.status.error.clear();
      file.pause_us = 0;
    }
    return;
  }
  Result<std::string> moved = move_log_away(file.status.path, now_us_);
  if (!moved) return failed(file, moved.error().message);
  GH_LOG(kInfo, "log {} moved to {}", file.status.path, base_of(*moved));
  file.moved.push_back(std::move(*moved));
}

void LogRotator::ask_reopen() {
  reopening_ = true;
  for (auto& [path, file] : files_) file->asked = file->moved.size();
  reopen_([alive = alive_](const Result<void>& result) {
    if (alive->rotator != nullptr) alive->rotator->reopened(result);
  });
}

void LogRotator::reopened(const Result<void>& result) {
  reopening_ = false;
  if (result.ok()) {
    reopen_pause_us_ = 0;
    reopen_not_before_us_ = 0;
  } else {
    reopen_pause_us_ = longer(reopen_pause_us_);
    reopen_not_before_us_ = now_us_ + reopen_pause_us_;
  }
  for (auto& [path, file] : files_) {
    if (file->asked == 0) continue;
    if (!result.ok()) {
      failed(*file, "log not reopened: " + result.error().message);
      move_back(*file);
      file->asked = 0;
      continue;
    }
    const auto end = file->moved.begin() + static_cast<std::ptrdiff_t>(file->asked);
    if (file->rotation.compress) {
      file->to_pack.insert(file->to_pack.end(), file->moved.begin(), end);
    }
    file->moved.erase(file->moved.begin(), end);
    file->asked = 0;
    ++file->status.rotations;
    file->status.last_us = now_us_;
    file->status.error.clear();
    file->pause_us = 0;
    prune(*file);
    pack_next(*file);
  }
}

// The newest of the moved files is what the workers still write to. Put back, the log is as before;
// where somebody has made a new one, the old one waits for the next attempt.
void LogRotator::move_back(File& file) {
  if (file.moved.empty()) return;
  const Result<bool> back = move_log_back(file.moved.back(), file.status.path);
  if (!back) return failed(file, back.error().message);
  if (*back) file.moved.pop_back();
}

void LogRotator::pack_next(File& file) {
  if (file.packing || file.to_pack.empty() || now_us_ < file.pack_not_before_us) return;
  auto result = std::make_shared<Result<Packing>>(Packing::kCancelled);
  const std::string plain = file.to_pack.front();
  const bool queued = packing_.run(
      [plain, result, &cancelled = packing_.cancelled()] { *result = pack_log(plain, cancelled); },
      [alive = alive_, path = file.status.path, plain, result] {
        if (alive->rotator == nullptr) return;
        const auto found = alive->rotator->files_.find(path);
        if (found != alive->rotator->files_.end()) {
          alive->rotator->packed(*found->second, plain, *result);
        }
      });
  file.packing = queued;
}

void LogRotator::packed(File& file, const std::string& plain, const Result<Packing>& result) {
  file.packing = false;
  if (!result.ok()) {
    failed(file, result.error().message);
    file.pack_not_before_us = now_us_ + std::max(file.pause_us, kStillWrittenPause);
    return;
  }
  if (*result == Packing::kStillWritten) {
    GH_LOG(kInfo, "log {} is not compressed yet: a process still writes to it", plain);
    file.pack_not_before_us = now_us_ + kStillWrittenPause;
    return;
  }
  if (*result == Packing::kCancelled) return;
  std::erase(file.to_pack, plain);
  if (file.to_pack.empty()) file.status.error.clear();
  pack_next(file);
}

void LogRotator::prune(File& file) {
  file.prune_at_us = now_us_ + kPruneEvery;
  const std::string folder = folder_of(file.status.path);
  Result<std::vector<RotatedFile>> rotated = list_rotated(file.status.path);
  if (!rotated) return failed(file, rotated.error().message);
  for (const RotatedFile& old : surplus(file.rotation, std::move(*rotated), now_us_)) {
    const std::string path = folder + "/" + old.name;
    // Somebody may still write to it, or the thread read from it; the next time will do.
    if (std::find(file.moved.begin(), file.moved.end(), path) != file.moved.end()) continue;
    if (file.packing && file.to_pack.front() == path) continue;
    const Result<void> removed = remove_rotated(folder, old);
    if (!removed) return failed(file, removed.error().message);
    std::erase(file.to_pack, path);
    GH_LOG(kInfo, "old log {} removed", path);
  }
}

void LogRotator::failed(File& file, const std::string& problem) {
  ++file.status.failures;
  file.pause_us = longer(file.pause_us);
  file.look_not_before_us = now_us_ + file.pause_us;
  if (file.status.error == problem) return;
  file.status.error = problem;
  GH_LOG(kError, "log rotation: {}", problem);
}

std::vector<RotationStatus> LogRotator::status() const {
  std::vector<RotationStatus> all;
  for (const auto& [path, file] : files_) {
    all.push_back(file->status);
    all.back().unpacked = static_cast<uint32_t>(file->to_pack.size() + file->moved.size());
  }
  return all;
}

bool LogRotator::busy() const {
  if (reopening_) return true;
  return std::any_of(files_.begin(), files_.end(),
                     [](const auto& entry) { return entry.second->packing; });
}

}  // namespace gatehouse
