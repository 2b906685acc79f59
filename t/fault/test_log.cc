// The error log on a full disk, under signals, and short of descriptors.
// wrap: write dup3
#include <fcntl.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "core/log.h"
#include "core/log_files.h"
#include "fail_at.h"

using gatehouse::LogLevel;
using gatehouse::LogPlace;
namespace fault = gatehouse::fault;

GH_FAIL_AT(ssize_t, write, (int fd, const void* bytes, size_t size), (fd, bytes, size));
GH_FAIL_AT(int, dup3, (int fd, int number, int flags), (fd, number, flags));

namespace {

std::string directory;

int set_up(void**) {
  char name[] = "/tmp/gatehouse-test-XXXXXX";
  directory = mkdtemp(name);
  return gatehouse::log_open(directory + "/log", LogLevel::kInfo) ? 0 : -1;
}

int tear_down(void**) {
  std::filesystem::remove_all(directory);
  return 0;
}

std::string content() {
  std::ifstream stream(directory + "/log");
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

bool has(const std::string& text) {
  return content().find(text) != std::string::npos;
}

void log_line(const char* text) {
  LogPlace place;
  gatehouse::log_format(LogLevel::kWarn, place, "{}", text);
}

void lines_lost_to_a_full_disk_are_counted(void**) {
  for (int i = 0; i < 3; ++i) {
    fault::arm(1, ENOSPC);
    log_line("lost");
    assert_true(fault::fired());
    fault::disarm();
  }
  assert_string_equal(content().c_str(), "");
  log_line("room again");
  assert_true(has("room again (3 lines could not be written)\n"));
  log_line("all told");
  assert_true(has("all told\n"));
}

void an_interrupted_line_is_written_once(void**) {
  fault::arm(1, EINTR);
  log_line("once");
  assert_true(fault::fired());
  fault::disarm();
  std::string text = content();
  assert_true(text.find("once\n") != std::string::npos);
  assert_true(text.find("once") == text.rfind("once"));
}

void an_exchange_survives_any_failure(void**) {
  for (int error : {EINTR, EBUSY, EMFILE}) {
    std::set<int> before = fault::open_descriptors();
    std::filesystem::rename(directory + "/log", directory + "/old");
    fault::arm(1, error);
    gatehouse::log_adopt(gatehouse::open_log_file(directory + "/log")->release());
    assert_true(fault::fired());
    fault::disarm();
    log_line("to the new file");
    assert_true(has("to the new file"));
    assert_int_equal(fault::open_descriptors().size(), before.size());
  }
}

}  // namespace

int main() {
  const CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(lines_lost_to_a_full_disk_are_counted, set_up, tear_down),
      cmocka_unit_test_setup_teardown(an_interrupted_line_is_written_once, set_up, tear_down),
      cmocka_unit_test_setup_teardown(an_exchange_survives_any_failure, set_up, tear_down),
  };
  return cmocka_run_group_tests(tests, nullptr, nullptr);
}
