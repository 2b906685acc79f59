// MemberFiles: the files of `discover = file`, read when they change.
//
// The folder of each file is watched with inotify, so that a file that is written or moved into its
// place is read at once; and the file is looked at now and then anyway, for folders that come and
// go, links, and file systems that tell nothing. A file that cannot be read, or has anything in it
// that is not understood, changes nothing: the last good list stays, and the log says why, once.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/job_thread.h"
#include "agent/member_file.h"
#include "core/event_loop.h"
#include "core/unique_fd.h"
#include "core/units.h"

namespace gatehouse {

struct MemberFileState {
  bool known = false;  // it was read once, or somebody knew its targets
  std::vector<Member> members;
  int64_t read_us = 0;  // wall clock: when the list was taken; 0: never
  std::string problem;  // of the last look; empty where it went well
};

class MemberFiles {
 public:
  // `reading` is the thread that files are read on. `changed` is told of each path whose members
  // have changed or are known now.
  MemberFiles(EventLoop& loop, JobThread& reading, std::function<void(const std::string&)> changed);
  MemberFiles(const MemberFiles&) = delete;
  MemberFiles& operator=(const MemberFiles&) = delete;
  ~MemberFiles();

  struct Wish {
    std::string path;
    Duration every{0};           // how often to look; 0: every few seconds
    bool has_before = false;     // what `before` is
    std::vector<Member> before;  // known from before, used until it was read
  };
  // From now on these files, each path once, and no others.
  void set(const std::vector<Wish>& wishes);

  const MemberFileState* find(const std::string& path) const;
  std::vector<std::pair<std::string, MemberFileState>> all() const;

 private:
  struct File;
  void look(File& file);
  void taken(File& file);
  void read_events();

  EventLoop& loop_;
  JobThread& reading_;
  std::function<void(const std::string&)> changed_;
  std::map<std::string, std::shared_ptr<File>> files_;  // by path
  UniqueFd notify_;
  Watch watch_;
};

}  // namespace gatehouse
