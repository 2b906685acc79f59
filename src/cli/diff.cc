// Running diff on memfds, so that nothing is left behind on disk. See diff.h.
#include "cli/diff.h"

#include <fmt/format.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <string_view>
#include <vector>

#include "core/unique_fd.h"

extern char** environ;

namespace gatehouse {
namespace {

const std::string* text_of(const ConfigSource& source, const std::string& path) {
  for (const ConfigFile& file : source.files()) {
    if (file.path == path) return &file.text;
  }
  return nullptr;
}

// The paths of both, each once, those of `to` that are new at the end.
std::vector<std::string> paths_of(const ConfigSource& from, const ConfigSource& to) {
  std::vector<std::string> paths;
  for (const ConfigSource* source : {&from, &to}) {
    for (const ConfigFile& file : source->files()) {
      if (std::find(paths.begin(), paths.end(), file.path) == paths.end()) {
        paths.push_back(file.path);
      }
    }
  }
  return paths;
}

// Inherited by diff, which opens it as /proc/self/fd/N.
Result<UniqueFd> in_memory(std::string_view text) {
  UniqueFd fd(memfd_create("gatehouse configuration", 0));
  if (!fd) return errno_error("memfd_create", errno);
  while (!text.empty()) {
    const ssize_t written = write(fd.get(), text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno_error("cannot write to a memfd", errno);
    text.remove_prefix(static_cast<size_t>(written));
  }
  return fd;
}

Result<void> run_diff(const std::string& from_text, const std::string& from_label,
                      const std::string& to_text, const std::string& to_label) {
  const Result<UniqueFd> from = in_memory(from_text);
  if (!from) return from.error();
  const Result<UniqueFd> to = in_memory(to_text);
  if (!to) return to.error();
  std::vector<std::string> words = {"diff",
                                    "-u",
                                    "--label",
                                    from_label,
                                    "--label",
                                    to_label,
                                    fmt::format("/proc/self/fd/{}", from->get()),
                                    fmt::format("/proc/self/fd/{}", to->get())};
  std::vector<char*> arguments;
  arguments.reserve(words.size() + 1);
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  std::fflush(stdout);
  pid_t child = 0;
  if (const int error = posix_spawnp(&child, "diff", nullptr, nullptr, arguments.data(), environ);
      error != 0) {
    return errno_error("cannot run diff", error);
  }
  int status = 0;
  pid_t waited;
  do waited = waitpid(child, &status, 0);
  while (waited < 0 && errno == EINTR);
  if (waited < 0) return errno_error("cannot wait for diff", errno);
  // 0: equal; 1: different.
  if (!WIFEXITED(status) || WEXITSTATUS(status) > 1) return Error{"diff has failed"};
  return {};
}

}  // namespace

Result<void> diff_sources(const ConfigSource& from, const std::string& from_name,
                          const ConfigSource& to, const std::string& to_name) {
  const std::string empty;
  for (const std::string& path : paths_of(from, to)) {
    const std::string* old_text = text_of(from, path);
    const std::string* new_text = text_of(to, path);
    const auto label = [&path](const std::string* text, const std::string& name) {
      return text == nullptr ? std::string("/dev/null") : fmt::format("{} ({})", path, name);
    };
    if (old_text != nullptr && new_text != nullptr && *old_text == *new_text) continue;
    Result<void> done =
        run_diff(old_text == nullptr ? empty : *old_text, label(old_text, from_name),
                 new_text == nullptr ? empty : *new_text, label(new_text, to_name));
    if (!done) return done;
  }
  return {};
}

}  // namespace gatehouse
