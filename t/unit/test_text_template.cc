// Texts with $variables: what is literal, what is a variable, and how values are escaped.
#include <criterion/criterion.h>

#include <string>

#include "expect_text.h"
#include "http/exchange.h"
#include "http/text_template.h"
#include "rendered.h"

using namespace gatehouse;

namespace {

struct Filled {
  Exchange exchange;

  Filled() {
    exchange.request.head.method = "GET";
    exchange.request.target.path = "/b";
    exchange.request.authority.host = "a.example";
    exchange.request.fields.push("User-Agent", "test \"1\"");
  }
};

std::string escaped(std::string_view text, TextEscape escape) {
  fmt::memory_buffer out;
  append_escaped(text, escape, out);
  return {out.data(), out.size()};
}

}  // namespace

Test(text_template, literals_and_dollars) {
  const Filled filled;
  expect(rendered("", filled.exchange), "");
  expect(rendered("plain", filled.exchange), "plain");
  expect(rendered("$$$method$$x", filled.exchange), "$GET$x");
  expect(rendered("[$method][$host]", filled.exchange), "[GET][a.example]");
  expect(rendered("$method.$host/$path", filled.exchange), "GET.a.example//b");
  cr_expect(TextTemplate::parse("costs $$5")->is_literal());
  cr_expect(TextTemplate::parse("costs $$5")->literal() == "costs $5");
  cr_expect(not TextTemplate::parse("$host")->is_literal());
  cr_expect(TextTemplate().is_literal());
  cr_expect(TextTemplate().literal().empty());
  cr_expect(TextTemplate::parse("$$ $host")->source() == "$$ $host");
}

Test(text_template, only_values_are_escaped) {
  Filled filled;
  expect(rendered("\"$header_user_agent\"", filled.exchange, TextEscape::kLog),
         "\"test \\x221\\x22\"");
  expect(rendered("{\"a\":\"$header_user_agent\"}", filled.exchange, TextEscape::kJson),
         "{\"a\":\"test \\\"1\\\"\"}");
  expect(rendered("<b>$header_user_agent</b>", filled.exchange, TextEscape::kHtml),
         "<b>test &quot;1&quot;</b>");
}

Test(text_template, escapes) {
  expect(escaped("a\"b\\c\n\x7F\xC3\xA9", TextEscape::kLog), "a\\x22b\\x5Cc\\x0A\\x7F\\xC3\\xA9");
  expect(escaped("", TextEscape::kLog), "-");
  expect(escaped("", TextEscape::kJson), "");
  expect(escaped("a\"b\\\n\x7F\xC3\xA9", TextEscape::kJson), "a\\\"b\\\\\\u000A\\u007F\xC3\xA9");
  expect(escaped("a\r\nX: y\tz", TextEscape::kField), "aX: y\tz");
  expect(escaped("<a href='x'>&\"", TextEscape::kHtml), "&lt;a href=&#39;x&#39;&gt;&amp;&quot;");
  expect(escaped("/a%2F b\r\n\xC3\"<>", TextEscape::kUrl), "/a%2F%20b%0D%0A%C3%22%3C%3E");
  expect(escaped("a\r\n\"", TextEscape::kNone), "a\r\n\"");
}

Test(text_template, json_is_always_utf_8) {
  const std::string bad = "\xEF\xBF\xBD";
  expect(escaped("\xFF", TextEscape::kJson), bad);
  expect(escaped("\xC0\xAF", TextEscape::kJson), bad + bad);            // overlong
  expect(escaped("\xE0\x80\x80", TextEscape::kJson), bad + bad + bad);  // overlong
  expect(escaped("\xED\xA0\x80", TextEscape::kJson), bad + bad + bad);  // a surrogate
  expect(escaped("\xF4\x90\x80\x80", TextEscape::kJson), bad + bad + bad + bad);
  expect(escaped("\xC3", TextEscape::kJson), bad);  // cut short
  expect(escaped("\xE2\x82", TextEscape::kJson), bad + bad);
  expect(escaped("\xF0\x9F\x98\x80", TextEscape::kJson), "\xF0\x9F\x98\x80");
  expect(escaped("\xE2\x82\xAC", TextEscape::kJson), "\xE2\x82\xAC");
}

Test(text_template, rendering_into_the_arena) {
  Filled filled;
  const Result<TextTemplate> literal = TextTemplate::parse("same");
  cr_expect(literal->render(filled.exchange, TextEscape::kNone).data() ==
            literal->literal().data());
  const Result<TextTemplate> made = TextTemplate::parse("/x$path");
  const std::string_view text = made->render(filled.exchange, TextEscape::kUrl);
  cr_expect(text == "/x/b");
}
