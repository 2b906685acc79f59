// The error log: the shape of a line, escaping, the rate cap, exchange of the file.
#include "core/log.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

#include "core/log_files.h"

namespace {

using gatehouse::log_adopt;
using gatehouse::log_format;
using gatehouse::log_open;
using gatehouse::LogLevel;
using gatehouse::LogPlace;

std::string directory;
std::string path;

void set_up() {
  char name[] = "/tmp/gatehouse-test-XXXXXX";
  directory = mkdtemp(name);
  path = directory + "/error.log";
  cr_assert(log_open(path, LogLevel::kInfo).ok());
}

void tear_down() {
  std::string command = "rm -rf " + directory;
  cr_assert(system(command.c_str()) == 0);
}

std::vector<std::string> lines_of(const std::string& file) {
  std::ifstream stream(file);
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

std::string written(std::string_view message) {
  LogPlace place;
  log_format(LogLevel::kWarn, place, "{}", message);
  return lines_of(path).back();
}

bool ends_with(const std::string& text, std::string_view end) {
  return text.ends_with(end);
}

}  // namespace

TestSuite(log, .init = set_up, .fini = tear_down);

Test(log, a_line_has_time_level_and_writer) {
  gatehouse::log_set_identity("worker default/0");
  GH_LOG(kWarn, "upstream {}: {}", "users", 7);
  std::vector<std::string> lines = lines_of(path);
  cr_assert(lines.size() == 1);
  std::regex shape(R"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z warn \[\d+ worker default/0\] )"
                   R"(upstream users: 7)");
  cr_assert(std::regex_match(lines[0], shape), "%s", lines[0].c_str());
  gatehouse::log_set_identity("");
  GH_LOG(kAlert, "x");
  lines = lines_of(path);
  cr_assert(std::regex_search(lines.back(), std::regex(R"( alert \[\d+\] x$)")));
}

Test(log, levels_below_the_chosen_one_are_not_written) {
  GH_LOG(kDebug, "no");
  GH_LOG(kInfo, "yes");
  cr_assert(lines_of(path).size() == 1);
  cr_assert_not(gatehouse::log_enabled(LogLevel::kDebug));
  gatehouse::log_set_level(LogLevel::kError);
  GH_LOG(kWarn, "no");
  cr_assert(lines_of(path).size() == 1);
}

Test(log, control_bytes_cannot_make_lines_or_move_a_terminal) {
  cr_assert(ends_with(written("a\nb\r\tc"), "a\\x0ab\\x0d\\x09c"));
  cr_assert(ends_with(written(std::string("nul\0!", 5)), "nul\\x00!"));
  cr_assert(ends_with(written("\x1b[31m\x7f"), "\\x1b[31m\\x7f"));
  cr_assert(ends_with(written("grün … 🦊"), "grün … 🦊"));
  cr_assert(ends_with(written("\xc2\x9b"), "\\xc2\\x9b"), "C1 control");
  cr_assert(ends_with(written("\xff\xc3"), "\\xff\\xc3"), "not UTF-8");
  cr_assert(ends_with(written("\xe0\x80\x80"), "\\xe0\\x80\\x80"), "overlong");
  cr_assert(ends_with(written("\xed\xa0\x80"), "\\xed\\xa0\\x80"), "surrogate");
  cr_assert(lines_of(path).size() == 8);
}

Test(log, a_long_line_is_cut_and_still_ends) {
  std::string line = written(std::string(10000, '\n'));
  cr_assert(line.size() < 4096);
  cr_assert(ends_with(line, "\\x0a…"), "no escape is cut in two");
  GH_LOG(kWarn, "next");
  cr_assert(lines_of(path).size() == 2);
}

Test(log, a_place_is_capped_and_says_what_it_withheld) {
  LogPlace place;
  size_t before = 0, after = 0;
  int64_t second = 0;
  // Again where the clock's second turned in between: that begins a new allowance.
  for (int attempt = 0; attempt < 20 && (second == 0 || place.second != second); ++attempt) {
    place = LogPlace{};
    before = lines_of(path).size();
    log_format(LogLevel::kWarn, place, "event 0");
    second = place.second;
    for (int i = 1; i < 25; ++i) log_format(LogLevel::kWarn, place, "event {}", i);
    after = lines_of(path).size();
  }
  uint32_t withheld = place.withheld;
  cr_assert(after - before == gatehouse::kLogPlaceBurst);
  cr_assert(withheld == 25 - gatehouse::kLogPlaceBurst);
  place.second -= 1;  // as if a second had passed
  log_format(LogLevel::kWarn, place, "later");
  cr_assert(ends_with(lines_of(path).back(), fmt::format("later ({} more withheld)", withheld)));
  place.second -= 1;
  log_format(LogLevel::kWarn, place, "quiet again");
  cr_assert(ends_with(lines_of(path).back(), "quiet again"));
}

Test(log, another_place_has_its_own_allowance) {
  LogPlace noisy;
  for (int i = 0; i < 100; ++i) log_format(LogLevel::kWarn, noisy, "noise");
  size_t before = lines_of(path).size();
  LogPlace other;
  log_format(LogLevel::kWarn, other, "heard");
  cr_assert(lines_of(path).size() == before + 1);
}

Test(log, an_exchanged_file_keeps_the_descriptor_number) {
  int number = gatehouse::log_descriptor();
  cr_assert(number > 2);
  GH_LOG(kWarn, "old");
  std::string moved = directory + "/error.log.1";
  cr_assert(rename(path.c_str(), moved.c_str()) == 0);
  log_adopt(gatehouse::open_log_file(path)->release());
  GH_LOG(kWarn, "new");
  cr_assert(gatehouse::log_descriptor() == number);
  cr_assert((fcntl(number, F_GETFD) & FD_CLOEXEC) != 0);
  cr_assert(lines_of(moved).size() == 1);
  cr_assert(ends_with(lines_of(path).back(), "new"));
}

Test(log, a_reader_that_stalls_costs_lines_and_no_time) {
  int ends[2];
  cr_assert(pipe2(ends, O_CLOEXEC) == 0);
  fcntl(ends[1], F_SETPIPE_SZ, 4096);
  log_adopt(ends[1]);
  std::string big(3000, 'x');
  for (int i = 0; i < 3; ++i) {
    LogPlace place;
    log_format(LogLevel::kWarn, place, "{}", big);  // would block without the question first
  }
  int number = gatehouse::log_descriptor();
  char drained[65536];
  cr_assert(read(ends[0], drained, sizeof drained) > 3000);
  LogPlace place;
  log_format(LogLevel::kWarn, place, "back");
  ssize_t size = read(ends[0], drained, sizeof drained);
  std::string line(drained, size > 0 ? static_cast<size_t>(size) : 0);
  cr_assert(line.find("back (2 lines could not be written)\n") != std::string::npos, "%s",
            line.c_str());
  cr_assert(number == gatehouse::log_descriptor());
}

Test(log, errno_survives_a_line) {
  errno = ENOTTY;
  GH_LOG(kWarn, "x");
  cr_assert(errno == ENOTTY);
}

Test(log, a_log_that_cannot_be_opened_is_an_error) {
  gatehouse::Result<void> opened = log_open(directory + "/none/error.log", LogLevel::kInfo);
  cr_assert_not(opened.ok());
  cr_assert(opened.error().message.find("/none/error.log: No such file") != std::string::npos);
  GH_LOG(kWarn, "still to the old one");
  cr_assert(lines_of(path).size() == 1);
}
