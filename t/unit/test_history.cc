// The history of configurations: fates, limits, and what happens when disk or database fail.
#include "agent/history.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "agent/history_database.h"

namespace gatehouse {
namespace {

namespace fs = std::filesystem;

// Bytes that zlib cannot make smaller, another text for each seed.
std::string noise(size_t size, unsigned seed) {
  std::mt19937 random(seed);
  std::string text(size, '\0');
  for (char& c : text) c = static_cast<char>(random());
  return text;
}

struct Folder {
  std::string path;
  Folder() {
    char name[] = "/tmp/history.XXXXXX";
    path = mkdtemp(name);
  }
  ~Folder() { fs::remove_all(path); }
  std::string state() const { return path + "/state"; }
};

std::unique_ptr<History> history_in(const Folder& folder, uint32_t keep = 500, Bytes size = 256_MiB,
                                    Bytes file_max = {}, const std::string& run = "run-1") {
  History::Options options;
  options.folder = folder.state();
  options.keep = keep;
  options.size = size;
  options.file_max = file_max;
  options.run = run;
  options.lock_wait_ms = 50;
  return std::make_unique<History>(std::move(options));
}

HistoryEntry entry(uint64_t generation, const std::string& outcome) {
  return {generation, 1'700'000'000'000'000 + static_cast<int64_t>(generation), "root", outcome,
          outcome == "refused" ? "f.conf:1: bad\nf.conf:2: worse" : ""};
}

uint64_t must(Result<uint64_t> result) {
  cr_assert(result.ok(), "%s", result.ok() ? "" : result.error().message.c_str());
  return *result;
}

std::vector<HistoryVersion> listed(History& history) {
  Result<std::vector<HistoryVersion>> versions = history.list(1000);
  cr_assert(versions.ok(), "%s", versions.ok() ? "" : versions.error().message.c_str());
  return *versions;
}

}  // namespace

Test(history, a_checked_version_learns_its_fate) {
  Folder folder;
  auto history = history_in(folder);
  const uint64_t number = must(history->keep_checked({0, 5, "pid 1", "", ""}, "bytes A"));
  cr_assert_eq(number, 1);
  cr_assert_eq(listed(*history)[0].outcome, "checked");
  cr_assert_eq(must(history->store(entry(7, "applied"), "bytes A")), number);
  // Told twice, it is still one.
  cr_assert_eq(must(history->store(entry(7, "applied"), "bytes A")), number);
  const std::vector<HistoryVersion> versions = listed(*history);
  cr_assert_eq(versions.size(), 1);
  cr_assert_eq(versions[0].generation, 7);
  cr_assert_eq(versions[0].outcome, "applied");
  cr_assert_eq(versions[0].by, "root");
  cr_assert_eq(versions[0].hash, sha256_hex("bytes A"));
  cr_assert_eq(versions[0].size, 7);
  cr_assert(!versions[0].running);
}

Test(history, sha256_is_sha256) {
  cr_assert_eq(sha256_hex("abc"),
               "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

Test(history, bytes_come_back_and_survive_a_restart) {
  Folder folder;
  const std::string bytes = noise(300'000, 1) + std::string(100'000, 'a');
  must(history_in(folder)->store(entry(1, "applied"), bytes));
  auto history = history_in(folder);
  Result<HistoryConfig> config = history->get(1);
  cr_assert(config.ok());
  cr_assert_eq(config->bytes, bytes);
  cr_assert(!history->get(2).ok());
  struct stat info {};
  cr_assert_eq(stat(folder.state().c_str(), &info), 0);
  cr_assert_eq(info.st_mode & 0777, 0700);
}

Test(history, refused_attempts_are_kept_with_their_errors) {
  Folder folder;
  auto history = history_in(folder);
  must(history->store(entry(1, "applied"), "A"));
  must(history->store(entry(2, "refused"), "B"));
  // The next attempt may get the same generation, and is another version.
  must(history->store(entry(2, "refused"), "B"));
  must(history->store(entry(2, "applied"), "B"));
  const std::vector<HistoryVersion> versions = listed(*history);
  cr_assert_eq(versions.size(), 3);
  cr_assert_eq(versions[0].outcome, "applied");
  cr_assert_eq(versions[1].outcome, "refused");
  cr_assert_eq(versions[1].error, "f.conf:1: bad\nf.conf:2: worse");
}

Test(history, an_attempt_whose_fate_nobody_tells_is_abandoned) {
  Folder folder;
  auto history = history_in(folder);
  must(history->keep_checked({2, 5, "a", "", ""}, "A"));
  must(history->keep_checked({2, 6, "b", "", ""}, "B"));
  const std::vector<HistoryVersion> versions = listed(*history);
  cr_assert_eq(versions[0].outcome, "checked");
  cr_assert_eq(versions[1].outcome, "abandoned");
}

Test(history, generations_of_another_run_are_others) {
  Folder folder;
  must(history_in(folder, 500, 256_MiB, {}, "run-1")->store(entry(1, "applied"), "A"));
  auto history = history_in(folder, 500, 256_MiB, {}, "run-2");
  cr_assert_eq(must(history->store(entry(1, "applied"), "A")), 2);
  cr_assert_eq(listed(*history).size(), 2);
}

Test(history, the_running_version_is_known_also_where_nobody_stored_it) {
  Folder folder;
  auto history = history_in(folder);
  const uint64_t first = must(history->set_running(entry(1, ""), "A"));
  cr_assert_eq(must(history->store(entry(1, "applied"), "A")), first);
  must(history->keep_checked({2, 5, "b", "", ""}, "B"));
  const uint64_t second = must(history->set_running(entry(2, ""), "B"));
  cr_assert_eq(second, 2, "it is the version that was checked");
  must(history->store(entry(2, "applied"), "B"));
  const std::vector<HistoryVersion> versions = listed(*history);
  cr_assert_eq(versions.size(), 2);
  cr_assert(versions[0].running && !versions[1].running);
  Result<HistoryConfig> running = history->get(0);
  cr_assert(running.ok() && running->bytes == "B");
}

Test(history, the_running_version_and_the_newest_outlive_all_others) {
  Folder folder;
  auto history = history_in(folder, 4);
  must(history->store(entry(1, "applied"), "running"));
  must(history->set_running(entry(1, ""), "running"));
  for (unsigned i = 2; i <= 30; ++i) must(history->store(entry(i, "applied"), noise(100, i)));
  const std::vector<HistoryVersion> versions = listed(*history);
  cr_assert_eq(versions.size(), 4);
  cr_assert_eq(versions[0].number, 30);
  cr_assert_eq(versions[3].number, 1);
  cr_assert(history->get(1).ok());
  cr_assert(!history->get(20).ok());
}

Test(history, attempts_that_failed_give_way_before_what_was_in_force) {
  Folder folder;
  auto history = history_in(folder, 30);
  for (unsigned i = 1; i <= 20; ++i) must(history->store(entry(i, "applied"), noise(100, i)));
  for (unsigned i = 0; i < 100; ++i) must(history->store(entry(99, "refused"), noise(90, i + 50)));
  size_t applied = 0;
  for (const HistoryVersion& version : listed(*history)) applied += version.outcome == "applied";
  cr_assert_eq(applied, 20);
  cr_assert_eq(listed(*history).size(), 30);
}

Test(history, bytes_are_stored_once_and_their_room_is_limited) {
  Folder folder;
  auto history = history_in(folder, 500, 1_MiB);
  const std::string same = noise(400'000, 1);
  for (unsigned i = 1; i <= 20; ++i) must(history->store(entry(i, "applied"), same));
  cr_assert_eq(listed(*history).size(), 20, "one copy of the bytes for all of them");
  for (unsigned i = 21; i <= 60; ++i) must(history->store(entry(i, "applied"), noise(200'000, i)));
  const size_t left = listed(*history).size();
  cr_assert(left >= 2 && left <= 6, "%zu", left);
  cr_assert_eq(listed(*history)[0].number, 60);
  history.reset();
  cr_assert_lt(fs::file_size(folder.state() + "/history.db"), 3u << 20, "freed room is given back");
}

Test(history, lists_the_newest_first_and_goes_on_where_told) {
  Folder folder;
  auto history = history_in(folder);
  for (unsigned i = 1; i <= 9; ++i) must(history->store(entry(i, "applied"), noise(10, i)));
  Result<std::vector<HistoryVersion>> page = history->list(3, 0);
  cr_assert(page.ok() && page->size() == 3 && page->front().number == 9);
  page = history->list(3, page->back().number);
  cr_assert(page.ok() && page->front().number == 6 && page->back().number == 4);
}

Test(history, a_damaged_database_is_moved_aside_and_begun_anew) {
  for (const char* how : {"text", "middle"}) {
    Folder folder;
    {
      auto history = history_in(folder);
      for (unsigned i = 1; i <= 20; ++i) must(history->store(entry(i, "applied"), noise(9000, i)));
    }
    const std::string file = folder.state() + "/history.db";
    if (std::string(how) == "text") {
      std::ofstream(file, std::ios::trunc) << "this is no database, and long enough to be seen";
    } else {
      std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
      stream.seekp(4096);
      stream << std::string(16'384, 'x');
    }
    auto history = history_in(folder);
    cr_assert_eq(must(history->store(entry(1, "applied"), "A")), 1);
    const std::string notice = history->take_notice();
    cr_assert(notice.find("damaged") != std::string::npos, "%s: %s", how, notice.c_str());
    cr_assert(history->take_notice().empty());
    size_t aside = 0;
    for (const fs::directory_entry& found : fs::directory_iterator(folder.state())) {
      aside += found.path().filename().string().starts_with("history.db.damaged-");
    }
    cr_assert_geq(aside, 1);
  }
}

Test(history, damaged_databases_do_not_pile_up) {
  Folder folder;
  for (int i = 0; i < 8; ++i) {
    must(history_in(folder)->store(entry(1, "applied"), "A"));
    for (const char* name : {"history.db-wal", "history.db-shm"}) {
      fs::remove(folder.state() + "/" + name);
    }
    std::ofstream(folder.state() + "/history.db", std::ios::trunc) << std::string(9000, 'z');
  }
  must(history_in(folder)->store(entry(1, "applied"), "A"));
  size_t aside = 0;
  for (const fs::directory_entry& found : fs::directory_iterator(folder.state())) {
    aside += found.path().filename().string().starts_with("history.db.damaged-");
  }
  cr_assert_eq(aside, kHistoryDamagedKept);
}

Test(history, a_locked_database_is_an_error_that_passes) {
  Folder folder;
  auto history = history_in(folder);
  must(history->store(entry(1, "applied"), "A"));
  {
    SqlDatabase other(folder.state() + "/history.db", 0);
    SqlTransaction lock(other);
    const Result<uint64_t> stored = history->store(entry(2, "applied"), "B");
    cr_assert(!stored.ok());
    cr_assert(stored.error().message.find("locked") != std::string::npos);
    cr_assert_eq(listed(*history).size(), 1, "reading goes on");
  }
  cr_assert_eq(must(history->store(entry(2, "applied"), "B")), 2);
}

Test(history, a_database_of_a_newer_version_is_left_alone) {
  Folder folder;
  must(history_in(folder)->store(entry(1, "applied"), "A"));
  SqlDatabase(folder.state() + "/history.db", 0).run("PRAGMA user_version=99");
  const Result<uint64_t> stored = history_in(folder)->store(entry(2, "applied"), "B");
  cr_assert(!stored.ok());
  cr_assert(stored.error().message.find("newer version") != std::string::npos);
  SqlDatabase(folder.state() + "/history.db", 0).run("PRAGMA user_version=1");
  cr_assert_eq(listed(*history_in(folder)).size(), 1);
}

// The limit of the file's size is met like a full disk: by SQLITE_FULL.
Test(history, a_full_history_says_so_keeps_what_it_has_and_recovers) {
  Folder folder;
  {
    auto history = history_in(folder, 500, 64_MiB, Bytes{400'000});
    must(history->store(entry(1, "applied"), noise(100'000, 1)));
    const Result<uint64_t> stored = history->store(entry(2, "applied"), noise(900'000, 2));
    cr_assert(!stored.ok());
    cr_assert(stored.error().message.find("no room") != std::string::npos, "%s",
              stored.error().message.c_str());
    cr_assert_eq(listed(*history).size(), 1);
    cr_assert_eq(must(history->store(entry(3, "applied"), noise(100'000, 3))), 2);
  }
  cr_assert_eq(must(history_in(folder)->store(entry(2, "applied"), noise(900'000, 2))), 3);
}

// The kernel refuses to let files grow: what a full disk does, where nothing may be mounted.
Test(history, a_file_that_cannot_grow_is_an_error_that_passes) {
  Folder folder;
  auto history = history_in(folder);
  must(history->store(entry(1, "applied"), noise(100'000, 1)));
  signal(SIGXFSZ, SIG_IGN);
  rlimit limit{};
  getrlimit(RLIMIT_FSIZE, &limit);
  const rlimit small{200'000, limit.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  const Result<uint64_t> stored = history->store(entry(2, "applied"), noise(900'000, 2));
  setrlimit(RLIMIT_FSIZE, &limit);
  cr_assert(!stored.ok());
  cr_assert(stored.error().message.starts_with(folder.state() + "/history.db: "), "%s",
            stored.error().message.c_str());
  cr_assert_eq(listed(*history).size(), 1);
  cr_assert_eq(must(history->store(entry(2, "applied"), noise(900'000, 2))), 2);
}

// A real full disk, where this user may mount one; the two tests above hold everywhere.
Test(history, a_full_disk_is_an_error_that_passes) {
  Folder folder;
  fs::create_directory(folder.state());
  if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
      mount("tmpfs", folder.state().c_str(), "tmpfs", 0, "size=512k,mode=700") != 0) {
    return;
  }
  auto history = history_in(folder);
  must(history->store(entry(1, "applied"), noise(50'000, 1)));
  const Result<uint64_t> stored = history->store(entry(2, "applied"), noise(900'000, 2));
  cr_assert(!stored.ok());
  cr_assert_eq(listed(*history).size(), 1);
  mount("tmpfs", folder.state().c_str(), "tmpfs", MS_REMOUNT, "size=8m,mode=700");
  cr_assert_eq(must(history->store(entry(2, "applied"), noise(900'000, 2))), 2);
  history.reset();
  umount(folder.state().c_str());
}

Test(history, a_folder_that_may_not_be_written_is_an_error_that_passes) {
  Folder folder;
  chmod(folder.path.c_str(), 0555);
  if (geteuid() == 0) cr_assert_eq(seteuid(65534), 0);
  auto history = history_in(folder);
  const Result<uint64_t> stored = history->store(entry(1, "applied"), "A");
  cr_assert(!stored.ok());
  cr_assert(stored.error().message.find("cannot make the folder") != std::string::npos);
  if (getuid() == 0) cr_assert_eq(seteuid(0), 0);
  chmod(folder.path.c_str(), 0777);
  if (getuid() == 0) cr_assert_eq(seteuid(65534), 0);
  must(history->store(entry(1, "applied"), "A"));
  history.reset();
  chmod((folder.state() + "/history.db").c_str(), 0400);
  chmod(folder.state().c_str(), 0500);
  auto again = history_in(folder);
  cr_assert(!again->store(entry(2, "applied"), "B").ok());
  chmod(folder.state().c_str(), 0700);
  chmod((folder.state() + "/history.db").c_str(), 0600);
  cr_assert_eq(must(again->store(entry(2, "applied"), "B")), 2);
  if (getuid() == 0) cr_assert_eq(seteuid(0), 0);
}

Test(history, a_file_in_the_folders_place_is_refused) {
  Folder folder;
  std::ofstream(folder.state()) << "x";
  const Result<uint64_t> stored = history_in(folder)->store(entry(1, "applied"), "A");
  cr_assert(!stored.ok());
  cr_assert(stored.error().message.find("it is no folder") != std::string::npos);
}

// Whatever a killed process was doing, what it said it had stored is there.
Test(history, a_process_killed_while_it_stores_loses_nothing) {
  Folder folder;
  uint64_t told = 0;
  for (unsigned round = 0; round < 12; ++round) {
    int ends[2];
    cr_assert_eq(pipe(ends), 0);
    const pid_t child = fork();
    if (child == 0) {
      auto history = history_in(folder);
      for (unsigned i = 1;; ++i) {
        const Result<uint64_t> number =
            history->store(entry(0, "refused"), noise(20'000, round * 1000 + i));
        if (!number) _exit(1);
        (void)!write(ends[1], &*number, sizeof(uint64_t));
      }
    }
    close(ends[1]);
    uint64_t number = 0;
    for (unsigned i = 0; i < 3 + round % 5; ++i) {
      cr_assert_eq(read(ends[0], &number, sizeof number), ssize_t{sizeof number});
      told = number;
    }
    usleep(round * 700);
    kill(child, SIGKILL);
    while (read(ends[0], &number, sizeof number) == ssize_t{sizeof number}) told = number;
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    cr_assert(WIFSIGNALED(status));
    auto history = history_in(folder);
    cr_assert_geq(listed(*history)[0].number, told);
    cr_assert(history->get(told).ok());
    cr_assert(history->take_notice().empty());
  }
}

}  // namespace gatehouse
