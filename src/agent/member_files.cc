// See member_files.h.
#include "agent/member_files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <tuple>
#include <utility>

#include "core/log.h"

namespace gatehouse {
namespace {

constexpr Duration kLookEvery = std::chrono::seconds(5);
constexpr Duration kLookAgain{100};
constexpr uint32_t kEvents = IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_ONLYDIR;

std::string folder_part(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == 0 ? "/" : path.substr(0, slash);
}

// What differs between any two versions of a file, but for writes within one tick of its clock.
using Stamp = std::tuple<uint64_t, uint64_t, int64_t, int64_t>;

struct Look {
  std::optional<Stamp> stamp;  // none: the file could not be read
  bool unchanged = false;
  Result<std::vector<Member>> members{std::vector<Member>()};
};

// On the reading thread.
Look look_at(const std::string& path, const std::optional<Stamp>& known) {
  Look look;
  const auto fail = [&look](std::string what) {
    look.members = Error{std::move(what)};
    return look;
  };
  // A pipe must not keep the thread waiting.
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd) return fail(std::strerror(errno));
  struct stat info {};
  if (fstat(fd.get(), &info) != 0) return fail(std::strerror(errno));
  if (!S_ISREG(info.st_mode)) return fail("not a regular file");
  if (static_cast<uint64_t>(info.st_size) > kMemberFileMax) return fail("too large");
  look.stamp = Stamp(info.st_dev, info.st_ino, info.st_size,
                     int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec);
  if (look.stamp == known) {
    look.unchanged = true;
    return look;
  }
  std::string text(static_cast<size_t>(info.st_size) + 1, '\0');
  size_t have = 0;
  while (have < text.size()) {
    const ssize_t got = read(fd.get(), text.data() + have, text.size() - have);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail(std::strerror(errno));
    if (got == 0) break;
    have += static_cast<size_t>(got);
  }
  text.resize(have);
  look.members = members_from_json(text);
  return look;
}

}  // namespace

struct MemberFiles::File : std::enable_shared_from_this<File> {
  MemberFiles* owner = nullptr;
  std::string path;
  Duration every{0};
  MemberFileState state;
  Timer timer;
  int folder_watch = -1;
  bool looking = false;
  bool again = false;  // something happened meanwhile
  std::optional<Stamp> stamp;
  Look look;
};

MemberFiles::MemberFiles(EventLoop& loop, JobThread& reading,
                         std::function<void(const std::string&)> changed)
    : loop_(loop), reading_(reading), changed_(std::move(changed)) {
  notify_.reset(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  const auto on_event = [](void* self, uint8_t) { static_cast<MemberFiles*>(self)->read_events(); };
  if (!notify_ || !watch_.open(loop_, notify_.get(), WatchMode::kLevel, on_event, this)) {
    GH_LOG(kWarn, "files of targets are only looked at every few seconds: {}",
           std::strerror(errno));
  }
}

MemberFiles::~MemberFiles() = default;

void MemberFiles::set(const std::vector<Wish>& wishes) {
  std::map<std::string, std::shared_ptr<File>> kept;
  for (const Wish& wish : wishes) {
    if (kept.contains(wish.path)) continue;
    const auto found = files_.find(wish.path);
    std::shared_ptr<File> file = found != files_.end() ? found->second : std::make_shared<File>();
    if (found == files_.end()) {
      file->owner = this;
      file->path = wish.path;
      file->state.known = wish.has_before;
      file->state.members = wish.before;
      file->timer.set(
          [](void* self) {
            auto& due = *static_cast<File*>(self);
            due.owner->look(due);
          },
          file.get());
    }
    file->every = wish.every.count() == 0 ? kLookEvery : wish.every;
    loop_.arm(file->timer, Duration(0));
    kept.emplace(wish.path, std::move(file));
  }
  files_ = std::move(kept);
}

void MemberFiles::look(File& file) {
  file.timer.cancel();
  if (file.looking) {
    file.again = true;
    return;
  }
  // The folder may be another one than before, under the same name; adding it twice is harmless.
  if (notify_) {
    file.folder_watch = inotify_add_watch(notify_.get(), folder_part(file.path).c_str(), kEvents);
  }
  const std::shared_ptr<File> kept = file.shared_from_this();
  file.looking = reading_.run([kept] { kept->look = look_at(kept->path, kept->stamp); },
                              [kept, weak = std::weak_ptr<File>(kept), this] {
                                const auto now = files_.find(kept->path);
                                if (now != files_.end() && now->second == kept) taken(*kept);
                              });
  if (!file.looking) loop_.arm(file.timer, kLookAgain);
}

void MemberFiles::taken(File& file) {
  file.looking = false;
  loop_.arm(file.timer, std::exchange(file.again, false) ? Duration(0) : file.every);
  Look look = std::exchange(file.look, {});
  if (look.unchanged) return;
  file.stamp = look.stamp;
  MemberFileState& state = file.state;
  if (!look.members) {
    const std::string& problem = look.members.error().message;
    if (state.problem != problem) {
      GH_LOG(kError, "targets of {} not taken{}: {}", file.path,
             state.known ? ", the last good list stays" : "", problem);
    }
    state.problem = problem;
    return;
  }
  if (!std::exchange(state.problem, {}).empty()) {
    GH_LOG(kNotice, "targets of {} are taken again", file.path);
  }
  state.read_us = loop_.wall_us();
  const bool news = !state.known || state.members != *look.members;
  state.known = true;
  state.members = std::move(*look.members);
  if (news) changed_(file.path);
}

void MemberFiles::read_events() {
  alignas(inotify_event) std::array<char, 16 * 1024> buffer;
  for (;;) {
    const ssize_t size = read(notify_.get(), buffer.data(), buffer.size());
    if (size <= 0) return;
    for (size_t at = 0; at < static_cast<size_t>(size);) {
      inotify_event event;
      std::memcpy(&event, buffer.data() + at, sizeof(event));
      at += sizeof(event) + event.len;
      // Whatever moved in the folder may be what a link there leads to.
      for (const auto& [path, file] : files_) {
        if (file->folder_watch == event.wd || (event.mask & IN_Q_OVERFLOW) != 0) look(*file);
      }
    }
  }
}

const MemberFileState* MemberFiles::find(const std::string& path) const {
  const auto found = files_.find(path);
  return found == files_.end() ? nullptr : &found->second->state;
}

std::vector<std::pair<std::string, MemberFileState>> MemberFiles::all() const {
  std::vector<std::pair<std::string, MemberFileState>> all;
  for (const auto& [path, file] : files_) all.emplace_back(path, file->state);
  return all;
}

}  // namespace gatehouse
