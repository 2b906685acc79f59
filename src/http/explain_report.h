// What explain found, line by line, and how it is printed: as a table for people, or as JSON.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace gatehouse {

class ExplainReport {
 public:
  // One line: what it is about, what there is to say, and the "FILE:LINE" that says so. Lines of a
  // deeper level belong to the line above them.
  void add(unsigned level, std::string_view what, std::string text, std::string where = {});

  void set_route(std::string_view name) { route_ = name; }
  void set_action(std::string_view name) { action_ = name; }
  // The reason code and the status of a refusal.
  void set_outcome(std::string_view reason, uint16_t status);

  // Both end with a newline. Control bytes of the text come out as \xNN.
  std::string text() const;
  // {"route", "action", "reason", "status": what was set; "lines": [{"level", "what", "text",
  // "where"}]}
  std::string json() const;

 private:
  struct Line {
    unsigned level;
    std::string what;
    std::string text;
    std::string where;
  };
  std::vector<Line> lines_;
  std::string route_;
  std::string action_;
  std::string reason_;
  uint16_t status_ = 0;
};

}  // namespace gatehouse
