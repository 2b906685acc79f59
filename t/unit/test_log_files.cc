// Opening logs safely and exchanging them in a worker.
#include "core/log_files.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <string>

namespace {

using gatehouse::adopt_reopened_log;
using gatehouse::ChannelMessage;
using gatehouse::ChannelVerb;
using gatehouse::open_log_file;
using gatehouse::Result;
using gatehouse::UniqueFd;
using gatehouse::WorkerLog;

std::string directory;

void set_up() {
  char name[] = "/tmp/gatehouse-test-XXXXXX";
  directory = mkdtemp(name);
}

void tear_down() {
  std::string command = "rm -rf " + directory;
  cr_assert(system(command.c_str()) == 0);
}

std::string content(const std::string& path) {
  std::ifstream stream(path);
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

bool says(const Result<UniqueFd>& result, std::string_view text) {
  return !result && result.error().message.find(text) != std::string::npos;
}

}  // namespace

TestSuite(log_files, .init = set_up, .fini = tear_down);

Test(log_files, a_new_file_is_not_for_everybody) {
  Result<UniqueFd> file = open_log_file(directory + "/a");
  cr_assert(file.ok());
  struct stat info {};
  cr_assert(fstat(file->get(), &info) == 0 && (info.st_mode & 0777 & ~0640U) == 0);
  cr_assert((fcntl(file->get(), F_GETFL) & O_APPEND) != 0);
  cr_assert((fcntl(file->get(), F_GETFD) & FD_CLOEXEC) != 0);
}

Test(log_files, only_a_new_file_gets_the_owner) {
  if (geteuid() != 0) cr_skip_test("needs root to give files away");
  gatehouse::FileOwner owner{65534, 65534};
  struct stat info {};
  cr_assert(open_log_file(directory + "/new", owner).ok());
  cr_assert(stat((directory + "/new").c_str(), &info) == 0 && info.st_uid == 65534);
  cr_assert(open_log_file(directory + "/old").ok());
  cr_assert(open_log_file(directory + "/old", owner).ok());
  cr_assert(stat((directory + "/old").c_str(), &info) == 0 && info.st_uid == 0);
}

Test(log_files, a_link_of_another_user_is_not_followed) {
  if (geteuid() != 0) cr_skip_test("needs root to make another user's link");
  std::string target = directory + "/secret";
  std::ofstream(target) << "s";
  std::string link = directory + "/log";
  cr_assert(symlink("secret", link.c_str()) == 0);
  cr_assert(open_log_file(link).ok(), "one of ours is, also where it is relative");
  cr_assert(lchown(link.c_str(), 65534, 65534) == 0);
  cr_assert(says(open_log_file(link), "made by user 65534"));
  cr_assert(content(target) == "s");
}

Test(log_files, a_ring_of_links_ends) {
  cr_assert(symlink("b", (directory + "/a").c_str()) == 0);
  cr_assert(symlink("a", (directory + "/b").c_str()) == 0);
  cr_assert(says(open_log_file(directory + "/a"), "too many symbolic links"));
}

Test(log_files, a_fifo_without_a_reader_stops_nobody) {
  std::string path = directory + "/fifo";
  cr_assert(mkfifo(path.c_str(), 0600) == 0);
  cr_assert(says(open_log_file(path), "no process reads this FIFO"));
}

Test(log_files, directories_and_missing_folders_are_errors) {
  cr_assert(says(open_log_file(directory), "Is a directory"));
  cr_assert(says(open_log_file(directory + "/none/x"), "No such file"));
}

Test(log_files, a_standard_stream_is_copied) {
  Result<UniqueFd> file = open_log_file("/dev/stdout");
  cr_assert(file.ok() && file->get() > 2);
  cr_assert(symlink("/dev/stderr", (directory + "/docker.log").c_str()) == 0);
  cr_assert(open_log_file(directory + "/docker.log").ok());
}

Test(log_files, a_worker_writes_on_under_the_same_number) {
  UniqueFd log = std::move(*open_log_file(directory + "/access.log"));
  std::vector<WorkerLog> files = {{.path = directory + "/access.log", .fd = log.get()}};
  cr_assert(write(log.get(), "1", 1) == 1);
  cr_assert(rename((directory + "/access.log").c_str(), (directory + "/access.1").c_str()) == 0);

  ChannelMessage message;
  message.verb = ChannelVerb::kReopenLog;
  message.fds.push_back(std::move(*open_log_file(directory + "/access.log")));
  cr_assert(adopt_reopened_log(message, files).ok());
  cr_assert(write(log.get(), "2", 1) == 1);
  cr_assert(content(directory + "/access.1") == "1");
  cr_assert(content(directory + "/access.log") == "2");
}

Test(log_files, a_bad_reopen_message_changes_nothing) {
  ChannelMessage message;
  message.verb = ChannelVerb::kReopenLog;
  cr_assert_not(adopt_reopened_log(message, {}).ok(), "no descriptor");
  message.fds.push_back(std::move(*open_log_file(directory + "/x")));
  cr_assert_not(adopt_reopened_log(message, {}).ok(), "no such file");
}
