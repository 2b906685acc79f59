// Rotated files: names, decisions, and each step on a real folder.
#include "agent/rotated_files.h"

#include <criterion/criterion.h>
#include <sys/stat.h>

#include <string>
#include <vector>

#include "log_folder.h"

namespace gatehouse {
namespace {

using std::chrono::hours;
using std::chrono::seconds;
using test::LogFolder;

constexpr int64_t kNoon = 1'795'262'400'000'000;  // 2026-11-21 12:00:00 UTC
const std::atomic<bool> kGoOn{false};

RotatedFile rotated(int64_t stamp_us, uint32_t number = 0) {
  RotatedFile file;
  file.stamp_us = stamp_us;
  file.number = number;
  file.name = rotated_name("a", stamp_us, number);
  return file;
}

std::string names_of(const std::vector<RotatedFile>& files) {
  std::string text;
  for (const RotatedFile& file : files) text += file.name + " ";
  return text;
}

LogRotation rotation(const char* text) {
  Result<LogRotation> parsed = ValueType<LogRotation>::parse(text);
  cr_assert(parsed.ok(), "%s", text);
  return *parsed;
}

}  // namespace

Test(rotated_files, names_are_made_and_read_back) {
  cr_assert_eq(rotated_name("access.log", kNoon, 0), "access.log.20261121-120000");
  cr_assert_eq(rotated_name("access.log", kNoon, 12), "access.log.20261121-120000.12");
  for (const uint32_t number : {0u, 1u, 12u}) {
    for (const char* suffix : {"", ".gz", ".gz.part"}) {
      const std::string name = rotated_name("a.log", kNoon, number);
      const std::optional<RotatedFile> file = parse_rotated("a.log", name + suffix);
      cr_assert(file.has_value(), "%s%s", name.c_str(), suffix);
      cr_assert_eq(file->stamp_us, kNoon);
      cr_assert_eq(file->number, number);
      cr_assert_eq(file->name, name);
      cr_assert_eq(file->plain, std::string(suffix).empty());
      cr_assert_eq(file->packed, std::string(suffix) == ".gz");
      cr_assert_eq(file->partial, std::string(suffix) == ".gz.part");
    }
  }
}

Test(rotated_files, other_names_are_not_ours) {
  for (const char* name : {"a.log",
                           "a.log.",
                           "a.log.1",
                           "a.log.gz",
                           "a.log.20261121",
                           "a.log.20261121-120000x",
                           "a.log.20261121-1200",
                           "a.log.20261121-12000-",
                           "a.log.2026112-1120000",
                           "a.log.20261321-120000",
                           "a.log.20261132-120000",
                           "a.log.20261121-250000",
                           "a.log.20261121-126000",
                           "a.log.20261121-120000.",
                           "a.log.20261121-120000.0",
                           "a.log.20261121-120000.01",
                           "a.log.20261121-120000.1x",
                           "a.log.20261121-120000.gz.gz",
                           "a.log.20261121-120000.bz2",
                           "a.log.20261121-120000.99999999999",
                           "b.log.20261121-120000",
                           "a.log.-0261121-120000",
                           "a.log.+0261121-120000",
                           "xa.log.20261121-120000",
                           ""}) {
    cr_assert(!parse_rotated("a.log", name).has_value(), "%s", name);
  }
}

Test(rotated_files, a_log_is_due_by_size_or_age_and_never_empty) {
  const LogRotation both = rotation("size 10k, age 1d");
  const int64_t day = 86'400'000'000;
  cr_assert(!is_due(both, 10'239, day - 1));
  cr_assert(is_due(both, 10'240, 0));
  cr_assert(is_due(both, 1, day));
  cr_assert(!is_due(both, 0, 10 * day));
  cr_assert(!is_due(rotation("size 10k"), 1, 100 * day));
  cr_assert(!is_due(rotation("age 1d"), 1 << 30, day - 1));
  cr_assert(!is_due(both, 1, -day), "a clock that was set back makes nothing due");
  cr_assert(!is_due(LogRotation(), 1 << 30, 100 * day));
}

Test(rotated_files, surplus_is_what_exceeds_number_or_age) {
  const int64_t hour = 3'600'000'000;
  std::vector<RotatedFile> files;
  for (const int i : {3, 1, 5, 2, 4}) files.push_back(rotated(kNoon - i * hour));
  files.push_back(rotated(kNoon - hour, 2));
  cr_assert(surplus(rotation("size 1m"), files, kNoon).empty());
  cr_assert_eq(names_of(surplus(rotation("size 1m, keep 4"), files, kNoon)),
               "a.20261121-070000 a.20261121-080000 ");
  cr_assert_eq(names_of(surplus(rotation("size 1m, keep 1"), files, kNoon)),
               "a.20261121-070000 a.20261121-080000 a.20261121-090000 a.20261121-100000 "
               "a.20261121-110000 ");
  cr_assert_eq(names_of(surplus(rotation("size 1m, keep_age 3h"), files, kNoon)),
               "a.20261121-070000 a.20261121-080000 ");
  cr_assert_eq(names_of(surplus(rotation("size 1m, keep 5, keep_age 3h"), files, kNoon)),
               "a.20261121-070000 a.20261121-080000 ");
  cr_assert(surplus(rotation("size 1m, keep 6, keep_age 1d"), files, kNoon).empty());
}

Test(rotated_files, a_log_is_looked_at_without_following_links) {
  const LogFolder folder;
  Result<LogFileState> state = look_at_log(folder.log());
  cr_assert(state.ok() && !state->present);
  folder.write("access.log", "12345");
  state = look_at_log(folder.log());
  cr_assert(state.ok() && state->present);
  cr_assert_eq(state->size, 5);
  cr_assert_eq(symlink("access.log", (folder.path + "/link").c_str()), 0);
  cr_assert(!look_at_log(folder.path + "/link").ok());
  cr_assert_eq(mkfifo((folder.path + "/pipe").c_str(), 0600), 0);
  cr_assert(!look_at_log(folder.path + "/pipe").ok());
}

Test(rotated_files, moving_never_writes_over_anything) {
  const LogFolder folder;
  folder.write("access.log.20261121-120000", "old");
  folder.write("access.log.20261121-120000.1.gz", "older");
  folder.write("access.log", "new");
  Result<std::string> moved = move_log_away(folder.log(), kNoon + 999'999);
  cr_assert(moved.ok());
  cr_assert_eq(base_of(*moved), "access.log.20261121-120000.2");
  cr_assert_eq(folder.read("access.log.20261121-120000.2"), "new");
  cr_assert_eq(folder.read("access.log.20261121-120000"), "old");
  cr_assert(!folder.has("access.log"));
  cr_assert(!move_log_away(folder.log(), kNoon).ok(), "there is no log now");

  Result<bool> back = move_log_back(*moved, folder.log());
  cr_assert(back.ok() && *back);
  cr_assert_eq(folder.read("access.log"), "new");
  moved = move_log_away(folder.log(), kNoon);
  folder.write("access.log", "newer");
  back = move_log_back(*moved, folder.log());
  cr_assert(back.ok() && !*back);
  cr_assert_eq(folder.read("access.log"), "newer");
  cr_assert_eq(folder.read("access.log.20261121-120000.2"), "new");
}

Test(rotated_files, packing_keeps_bytes_mode_and_time) {
  const LogFolder folder;
  std::string text;
  for (int i = 0; i < 200'000; ++i) text += "line " + std::to_string(i) + "\n";
  folder.write("old", text);
  chmod((folder.path + "/old").c_str(), 0640);
  struct stat before {
  }, after{};
  stat((folder.path + "/old").c_str(), &before);
  const Result<Packing> packed = pack_log(folder.path + "/old", kGoOn);
  cr_assert(packed.ok(), "%s", packed.ok() ? "" : packed.error().message.c_str());
  cr_assert(*packed == Packing::kDone);
  cr_assert_eq(folder.names().size(), 1);
  cr_assert(folder.read("old.gz") == text);
  stat((folder.path + "/old.gz").c_str(), &after);
  cr_assert_eq(after.st_mode, before.st_mode);
  cr_assert_eq(after.st_mtime, before.st_mtime);
  cr_assert_lt(after.st_size, before.st_size / 3);
  const Result<Packing> again = pack_log(folder.path + "/old", kGoOn);
  cr_assert(again.ok() && *again == Packing::kDone, "what is gone is done");
}

Test(rotated_files, a_file_that_somebody_writes_to_is_not_packed) {
  const LogFolder folder;
  folder.write("old", "one\n");
  const int fd = open((folder.path + "/old").c_str(), O_WRONLY | O_APPEND);
  Result<Packing> packed = pack_log(folder.path + "/old", kGoOn);
  cr_assert(packed.ok() && *packed == Packing::kStillWritten);
  cr_assert_eq(folder.names().size(), 1);
  close(fd);
  packed = pack_log(folder.path + "/old", kGoOn);
  cr_assert(packed.ok() && *packed == Packing::kDone);
  cr_assert_eq(folder.read("old.gz"), "one\n");
}

Test(rotated_files, packing_goes_over_what_a_crash_left) {
  const LogFolder folder;
  folder.write("old", "all of it\n");
  folder.write("old.gz", "half");
  folder.write("old.gz.part", "less");
  const Result<Packing> packed = pack_log(folder.path + "/old", kGoOn);
  cr_assert(packed.ok() && *packed == Packing::kDone);
  cr_assert_eq(folder.names().size(), 1);
  cr_assert_eq(folder.read("old.gz"), "all of it\n");
}

Test(rotated_files, a_cancelled_packing_leaves_the_plain_file) {
  const LogFolder folder;
  folder.write("old", "all of it\n");
  const std::atomic<bool> cancelled{true};
  const Result<Packing> packed = pack_log(folder.path + "/old", cancelled);
  cr_assert(packed.ok() && *packed == Packing::kCancelled);
  cr_assert_eq(folder.names(), (std::vector<std::string>{"old"}));
}

Test(rotated_files, the_list_joins_what_belongs_to_one_file) {
  const LogFolder folder;
  folder.write("access.log", "");
  folder.write("access.log.20261121-120000", "");
  folder.write("access.log.20261121-120000.gz", "");
  folder.write("access.log.20261121-120000.gz.part", "");
  folder.write("access.log.20261121-110000.10.gz", "");
  folder.write("access.log.20261121-110000.9.gz", "");
  folder.write("other.log.20261121-110000", "");
  const Result<std::vector<RotatedFile>> files = list_rotated(folder.log());
  cr_assert(files.ok());
  cr_assert_eq(names_of(*files),
               "access.log.20261121-110000.9 access.log.20261121-110000.10 "
               "access.log.20261121-120000 ");
  cr_assert((*files)[2].plain && (*files)[2].packed && (*files)[2].partial);
  cr_assert(remove_rotated(folder.path, (*files)[2]).ok());
  cr_assert_eq(folder.names().size(), 4);
}

Test(rotated_files, one_holds_a_log_at_a_time) {
  const LogFolder folder;
  Result<UniqueFd> first = lock_log(folder.log());
  cr_assert(first.ok() && *first);
  Result<UniqueFd> second = lock_log(folder.path + "/../" + base_of(folder.path) + "/access.log");
  cr_assert(second.ok() && !*second);
  Result<UniqueFd> other = lock_log(folder.path + "/other.log");
  cr_assert(other.ok() && *other);
  first->reset();
  second = lock_log(folder.log());
  cr_assert(second.ok() && *second);
  cr_assert(!lock_log(folder.path + "/none/access.log").ok());
}

}  // namespace gatehouse
