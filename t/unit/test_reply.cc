// The action reply, compiled from a configuration and run on an exchange.
#include <criterion/criterion.h>
#include <stdlib.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "expect_text.h"
#include "route_action.h"

using namespace gatehouse;
using namespace gatehouse::route_action;

Test(reply, a_literal_text_is_not_rendered) {
  const Built built("reply = 200 costs $$5\n");
  Exchange first;
  Exchange second;
  fill(first);
  fill(second);
  expect(run(built, first), "costs $5\n");
  run(built, second);
  cr_expect(first.response.content.data() == second.response.content.data());
  cr_expect_eq(first.response.status, 200);
  cr_expect(first.reason == Reason::kReply);
  expect(field_of(first, "Content-Type"), "text/plain; charset=utf-8");
  expect(built.action().detail, "200 text/plain; charset=utf-8, 9 bytes");
}

Test(reply, lines_are_joined_and_escaped_for_their_type) {
  Exchange plain;
  fill(plain);
  expect(run(Built("reply = 200\nreply_body = a $header_user_agent\nreply_body = b\n"), plain),
         "a <b>\"x\"\r\nX-Evil: 1\nb\n");
  Exchange html;
  fill(html);
  expect(run(Built("reply = 200\nreply_type = text/html\nreply_body = <i>$header_user_agent</i>\n"),
             html),
         "<i>&lt;b&gt;&quot;x&quot;\r\nX-Evil: 1</i>\n");
  Exchange json;
  fill(json);
  expect(run(Built("reply = 200\nreply_type = application/json\n"
                   "reply_body = {\"ua\":\"$header_user_agent\"}\n"),
             json),
         "{\"ua\":\"<b>\\\"x\\\"\\u000D\\u000AX-Evil: 1\"}\n");
}

Test(reply, fields_cannot_be_broken_by_values) {
  const Built built(
      "reply = 200\nreply_header = X-Agent: $header_user_agent\n"
      "reply_header = Set-Cookie: a=1\nreply_header = Set-Cookie: b=2\n");
  Exchange exchange;
  fill(exchange);
  run(built, exchange);
  expect(field_of(exchange, "X-Agent"), "<b>\"x\"X-Evil: 1");
  cr_expect(exchange.response.fields.repeated(FieldId::kSetCookie));
}

Test(reply, without_a_body_the_status_speaks) {
  Exchange gone;
  expect(run(Built("reply = 410\n"), gone), "410 Gone\n");
  Exchange empty;
  expect(run(Built("reply = 204\n"), empty), "");
  expect(field_of(empty, "Content-Type"), "(absent)");
}

Test(reply, a_file_is_read_beside_its_configuration) {
  char folder[] = "/tmp/gatehouse-reply-XXXXXX";
  cr_assert(mkdtemp(folder) != nullptr);
  const std::string path = std::string(folder) + "/page.html";
  FILE* file = fopen(path.c_str(), "w");
  cr_assert(file != nullptr);
  fputs("<b>$host</b>", file);
  fclose(file);
  const std::string conf = std::string(folder) + "/gatehouse.conf";
  const Built built("reply = 200\nreply_file = page.html\n", conf);
  Exchange exchange;
  fill(exchange);
  expect(run(built, exchange), "<b>$host</b>");
  expect(field_of(exchange, "Content-Type"), "text/html; charset=utf-8");
  const Built missing("reply = 200\nreply_file = none.html\n", conf);
  cr_expect(missing.generation == nullptr);
  const Built folder_itself("reply = 200\nreply_file = .\n", conf);
  cr_expect(folder_itself.generation == nullptr);
  cr_assert(truncate(path.c_str(), (1 << 20) + 1) == 0);
  const Built large("reply = 200\nreply_file = page.html\n", conf);
  cr_expect(large.generation == nullptr);
  cr_expect(large.errors.text().find("larger than") != std::string::npos);
  unlink(path.c_str());
  rmdir(folder);
}
