// Reference texts of $variables and reason codes; see reference.h.
#include "http/reference.h"

#include <fmt/format.h>

#include "core/config.h"
#include "http/reason.h"
#include "http/variables.h"

namespace gatehouse {

namespace {

// "$host", "$header_NAME".
std::string shown_name(const VariableInfo& info) {
  return "$" + std::string(info.name) + (info.name.ends_with('_') ? "NAME" : "");
}

// What a log line alone says has no status of its own.
std::string status_of(const ReasonInfo& info) {
  return info.status == 0 ? "-" : std::to_string(info.status);
}

template <typename Each>
void for_each_reason(const Each& each) {
  for (size_t i = 0; i < kReasonCount; ++i) each(reason_info(static_cast<Reason>(i)));
}

}  // namespace

std::string http_reference_text() {
  std::string text = "\nVariables\n";
  for (const VariableInfo& info : variable_list()) {
    text += fmt::format("  {:<28}{}\n", shown_name(info), info.meaning);
  }
  text += "\nReason codes\n";
  for_each_reason([&text](const ReasonInfo& info) {
    text += fmt::format("  {:<28}{:<5}{}\n", info.code, status_of(info), info.text);
  });
  return text;
}

std::string http_reference_man() {
  std::string text =
      ".SH VARIABLES\n"
      "Texts of replies, URLs of redirects and formats of logs can say:\n";
  for (const VariableInfo& info : variable_list()) {
    text += ".TP\n.B " + roff_literal(shown_name(info)) + "\n" + roff_literal(info.meaning) + "\n";
  }
  text +=
      ".SH REASON CODES\n"
      "Why an exchange ended as it did, with the status of the reply where the gateway gave one:\n";
  for_each_reason([&text](const ReasonInfo& info) {
    text += ".TP\n.BR " + roff_literal(info.code);
    if (info.status != 0) text += " \" (" + status_of(info) + ")\"";
    text += "\n" + roff_literal(info.text) + "\n";
  });
  return text;
}

}  // namespace gatehouse
