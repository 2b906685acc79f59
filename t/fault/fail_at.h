// Fail-at-N: the Nth of the wrapped calls fails, for N = 1, 2, 3 … until a run meets no failure.
//
// A fault test defines __wrap_X() with GH_FAIL_AT or by hand, calls arm(N), runs the code, and asks
// fired(). Only the process that armed fails: children that the code forks run untouched.
//
// Brings CMocka with it, whose header does not know C++. Include this after all other headers:
// CMocka's macro `fail` would spoil those of the standard library.
#pragma once

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csetjmp>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <set>

extern "C" {
#include <cmocka.h>
}

namespace gatehouse::fault {

inline int g_fail_at = 0;  // 0: not armed
inline int g_calls = 0;
inline int g_error = 0;
inline pid_t g_owner = 0;

inline void arm(int nth, int error) {
  g_fail_at = nth;
  g_calls = 0;
  g_error = error;
  g_owner = getpid();
}

inline void disarm() {
  g_fail_at = 0;
}

// Whether the armed failure has happened.
inline bool fired() {
  return g_calls >= g_fail_at;
}

// True where this call is the one that fails; errno is set.
inline bool fails_now() {
  if (g_fail_at == 0 || getpid() != g_owner || ++g_calls != g_fail_at) return false;
  errno = g_error;
  return true;
}

inline std::set<int> open_descriptors() {
  std::set<int> list;
  DIR* directory = opendir("/proc/self/fd");
  while (const dirent* entry = readdir(directory)) {
    if (entry->d_name[0] != '.') list.insert(std::atoi(entry->d_name));
  }
  list.erase(dirfd(directory));
  closedir(directory);
  return list;
}

}  // namespace gatehouse::fault

// GH_FAIL_AT(int, fsync, (int fd), (fd)) defines the wrapper of a call that fails with -1.
#define GH_FAIL_AT(type, name, parameters, arguments) \
  extern "C" type __real_##name parameters;           \
  extern "C" type __wrap_##name parameters;           \
  extern "C" type __wrap_##name parameters {          \
    if (::gatehouse::fault::fails_now()) return -1;   \
    return __real_##name arguments;                   \
  }                                                   \
  static_assert(true)

// The same for open(), which takes its mode by "...": it is there with O_CREAT only.
#define GH_FAIL_AT_OPEN()                                           \
  extern "C" int __real_open(const char* path, int flags, ...);     \
  extern "C" int __wrap_open(const char* path, int flags, ...);     \
  extern "C" int __wrap_open(const char* path, int flags, ...) {    \
    va_list rest;                                                   \
    va_start(rest, flags);                                          \
    const mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0; \
    va_end(rest);                                                   \
    if (::gatehouse::fault::fails_now()) return -1;                 \
    return __real_open(path, flags, mode);                          \
  }                                                                 \
  static_assert(true)
