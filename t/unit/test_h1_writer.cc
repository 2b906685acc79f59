// Heads as they are written: lines that came in the usual form and lines that did not.
#include "http/h1_writer.h"

#include <criterion/criterion.h>

#include <string>

namespace gatehouse {
namespace {

// The response head written for one that came with these lines, some of them marked dropped.
std::string written(const std::string& lines, std::initializer_list<size_t> dropped = {}) {
  Exchange exchange;
  const std::string head = "HTTP/1.1 200 OK\r\n" + lines + "\r\n";
  H1ResponseParser parser;
  ResponseHead parsed;
  FieldList& fields = exchange.response.fields;
  cr_assert(parser.parse(head, H1Limits{}, parsed, fields) == ParseStatus::kComplete);
  for (const size_t i : dropped) fields[i].dropped = true;
  exchange.response.status = parsed.status;
  exchange.request.head.minor_version = 1;
  const Buffer buffer = write_response_head(exchange, {}, 0);
  return std::string(buffer.view());
}

std::string with_line(const std::string& lines) {
  return "HTTP/1.1 200 OK\r\n" + lines + "\r\n";
}

Test(h1_writer, lines_in_the_usual_form_go_out_as_they_came) {
  const std::string lines = "Server: a\r\nX-Empty: \r\nx-long: " + std::string(300, 'v') + "\r\n";
  cr_assert(written(lines) == with_line(lines));
  cr_assert(written("") == with_line(""));
}

Test(h1_writer, other_lines_are_put_in_the_usual_form) {
  cr_assert(written("A:1\r\n") == with_line("A: 1\r\n"));
  cr_assert(written("A:  1\r\n") == with_line("A: 1\r\n"));
  cr_assert(written("A:\t1\r\n") == with_line("A: 1\r\n"));
  cr_assert(written("A: 1 \t\r\n") == with_line("A: 1\r\n"));
  cr_assert(written("A:\r\n") == with_line("A: \r\n"));
  cr_assert(written("A:   \r\n") == with_line("A: \r\n"));
  cr_assert(written("A: 1\r\nB:2\r\nC: 3\r\nD: 4 \r\nE: 5\r\n") ==
            with_line("A: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\nE: 5\r\n"));
}

Test(h1_writer, dropped_lines_are_left_out_wherever_they_stand) {
  const std::string lines = "A: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\n";
  cr_assert(written(lines, {0}) == with_line("B: 2\r\nC: 3\r\nD: 4\r\n"));
  cr_assert(written(lines, {1, 2}) == with_line("A: 1\r\nD: 4\r\n"));
  cr_assert(written(lines, {3}) == with_line("A: 1\r\nB: 2\r\nC: 3\r\n"));
  cr_assert(written(lines, {0, 1, 2, 3}) == with_line(""));
}

Test(h1_writer, lines_stay_whole_where_the_buffer_moves_between_two_reads) {
  const std::string head = "HTTP/1.1 200 OK\r\nA: 1\r\nB: 22\r\nC:3\r\nD: 4\r\n\r\n";
  for (size_t first = 1; first < head.size(); ++first) {
    Exchange exchange;
    FieldList& fields = exchange.response.fields;
    H1ResponseParser parser;
    ResponseHead parsed;
    {
      const std::string part = head.substr(0, first);
      cr_assert(parser.parse(part, H1Limits{}, parsed, fields) == ParseStatus::kIncomplete);
    }
    const std::string whole = head;
    cr_assert(parser.parse(whole, H1Limits{}, parsed, fields) == ParseStatus::kComplete);
    exchange.response.status = parsed.status;
    exchange.request.head.minor_version = 1;
    const Buffer buffer = write_response_head(exchange, {}, 0);
    cr_assert(buffer.view() == with_line("A: 1\r\nB: 22\r\nC: 3\r\nD: 4\r\n"), "split at %zu",
              first);
  }
}

// A hook that changes a value and forgets to clear the mark.
Test(h1_writer, a_changed_value_is_written_although_the_mark_is_left) {
  Exchange exchange;
  const std::string head = "HTTP/1.1 200 OK\r\nA: 1234\r\nB: 5678\r\nC: 9\r\n\r\n";
  H1ResponseParser parser;
  ResponseHead parsed;
  FieldList& fields = exchange.response.fields;
  cr_assert(parser.parse(head, H1Limits{}, parsed, fields) == ParseStatus::kComplete);
  fields[0].value = fields[0].value.substr(0, 2);
  fields[1].value = "other";
  exchange.response.status = parsed.status;
  exchange.request.head.minor_version = 1;
  const Buffer buffer = write_response_head(exchange, {}, 0);
  cr_assert(buffer.view() == with_line("A: 12\r\nB: other\r\nC: 9\r\n"));
}

Test(h1_writer, a_literal_field_is_the_line_it_was_made_of) {
  constexpr Field kField = literal_field(FieldId::kVia, "Via: 1.1 gatehouse\r\n");
  cr_assert(kField.name == "Via" && kField.value == "1.1 gatehouse" && kField.verbatim);
  Exchange exchange;
  exchange.response.status = 200;
  exchange.request.head.minor_version = 1;
  exchange.response.added.push(kField);
  exchange.response.added.push("A", "1");
  const Buffer buffer = write_response_head(exchange, {}, 0);
  cr_assert(buffer.view() == with_line("Via: 1.1 gatehouse\r\nA: 1\r\n"));
}

}  // namespace
}  // namespace gatehouse
