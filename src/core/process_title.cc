// Writing the title where the kernel shows it from. See process_title.h.
#include "core/process_title.h"

#include <errno.h>
#include <limits.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace gatehouse {
namespace {

// The bytes that may be written: from argv[0] to the end of the last argument or variable that
// follows without a gap. Empty until init_process_title().
char* g_area = nullptr;
size_t g_area_size = 0;
// What environ pointed to first: setenv() makes another array, and does not free this one.
char** g_environment = nullptr;

std::vector<std::string>& kept_arguments() {
  static std::vector<std::string> arguments;
  return arguments;
}

// A copy for the life of the process; the C library goes on pointing at it. It stays in a list, so
// that one that is taken out of the environment later does not look lost.
char* keep_copy(const char* text) {
  // Never destroyed: what looks for leaks looks when the destructors have run.
  static auto* const kept = new std::vector<char*>;
  kept->push_back(strdup(text));
  return kept->back();
}

}  // namespace

std::vector<std::string> init_process_title(int argc, char** argv) {
  std::vector<std::string> arguments(argv, argv + argc);
  kept_arguments() = arguments;
  if (argc < 1 || g_area != nullptr) return arguments;
  char* end = argv[0];
  for (int i = 0; i < argc && argv[i] == end; ++i) end = argv[i] + std::strlen(argv[i]) + 1;

  size_t variables = 0;
  while (environ[variables] != nullptr) ++variables;
  // Lives as long as the process: environ points to it.
  auto** moved = static_cast<char**>(std::calloc(variables + 1, sizeof(char*)));
  if (moved == nullptr) return arguments;
  for (size_t i = 0; i < variables; ++i) {
    moved[i] = keep_copy(environ[i]);
    if (moved[i] == nullptr) return arguments;
    if (environ[i] == end) end = environ[i] + std::strlen(environ[i]) + 1;
  }
  char* name = keep_copy(program_invocation_name);
  if (name == nullptr) return arguments;
  program_invocation_name = name;
  char* slash = std::strrchr(name, '/');
  program_invocation_short_name = slash != nullptr ? slash + 1 : name;
  environ = g_environment = moved;
  g_area = argv[0];
  g_area_size = static_cast<size_t>(end - g_area);
  for (int i = 1; i < argc; ++i) argv[i] = nullptr;
  return arguments;
}

const std::vector<std::string>& original_arguments() {
  return kept_arguments();
}

std::string program_path() {
  char path[PATH_MAX];
  const ssize_t size = readlink("/proc/self/exe", path, sizeof(path));
  std::string program(path, size > 0 ? static_cast<size_t>(size) : 0);
  constexpr std::string_view kGone = " (deleted)";
  if (program.ends_with(kGone)) program.resize(program.size() - kGone.size());
  return program;
}

void set_process_title(std::string_view title) {
  char name[16] = {};
  std::memcpy(name, title.data(), std::min(title.size(), sizeof name - 1));
  prctl(PR_SET_NAME, name);
  if (g_area == nullptr) return;
  size_t size = std::min(title.size(), g_area_size - 1);
  std::memcpy(g_area, title.data(), size);
  std::memset(g_area + size, 0, g_area_size - size);
}

}  // namespace gatehouse
