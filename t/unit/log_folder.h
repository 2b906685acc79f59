// A folder with logs for the tests of rotation, and gzip read back.
#pragma once

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace gatehouse::test {

struct LogFolder {
  std::string path;
  LogFolder() {
    char name[] = "/tmp/rotation.XXXXXX";
    path = mkdtemp(name);
  }
  LogFolder(const LogFolder&) = delete;
  LogFolder& operator=(const LogFolder&) = delete;
  ~LogFolder() { std::filesystem::remove_all(path); }

  std::string log() const { return path + "/access.log"; }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(path + "/" + name, std::ios::binary) << text;
  }
  std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(path)) {
      names.push_back(entry.path().filename().string());
    }
    std::sort(names.begin(), names.end());
    return names;
  }
  bool has(const std::string& name) const { return std::filesystem::exists(path + "/" + name); }
  // The bytes of a file, unpacked where its name ends with .gz.
  std::string read(const std::string& name) const {
    std::string text;
    gzFile file = gzopen((path + "/" + name).c_str(), "rb");
    if (file == nullptr) return "(no such file)";
    char piece[4096];
    int got;
    while ((got = gzread(file, piece, sizeof piece)) > 0) {
      text.append(piece, static_cast<size_t>(got));
    }
    gzclose(file);
    return got < 0 ? "(damaged)" : text;
  }
  // All that was logged, in order; a plain file that is also there packed counts once.
  std::string everything() const {
    std::string text;
    for (const std::string& name : names()) {
      if (name.ends_with(".part") || name == "access.log") continue;
      if (name.ends_with(".gz") && has(name.substr(0, name.size() - 3))) continue;
      text += read(name);
    }
    return has("access.log") ? text + read("access.log") : text;
  }
};

}  // namespace gatehouse::test
