// Times, ages and tables, as the commands print them for people.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace gatehouse {

// "340 ms", "42 s", "5 m 10 s", "2 h 13 m", "3 d 4 h": the two largest units. Never negative.
std::string format_age(int64_t us);

// "2026-11-20 09:30:00", local time, of microseconds since 1970.
std::string format_time(int64_t us);

// Columns of equal width, two spaces between, each line ended with a newline and led by `indent`.
// The first row is the heading. A column whose cells below it are all numbers stands to the right.
std::string format_table(const std::vector<std::vector<std::string>>& rows,
                         const std::string& indent = {});

// Every line led by `indent`, ended with a newline. No control bytes but newlines are let through,
// since the text goes to a terminal.
std::string indented(const std::string& text, const std::string& indent);

}  // namespace gatehouse
