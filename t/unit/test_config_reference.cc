// The reference texts: complete, and safe for roff.
#include <criterion/criterion.h>

#include <optional>
#include <string>
#include <vector>

#include "core/config.h"
#include "core/process_conf.h"

namespace gatehouse {
namespace {

struct ReferenceConf {
  Duration wait = std::chrono::seconds(10);
  std::vector<std::string> dot = {"a", "b"};
  std::optional<Bytes> size;
};

constexpr Directive kReferenceDirectives[] = {
    directive<&ReferenceConf::wait>("wait", "How long to wait.", "1m",
                                    range(std::chrono::seconds(1), std::chrono::hours(1))),
    directive<&ReferenceConf::dot>("dot", ".starts with a dot - and \"quotes\".", "C:\\x",
                                   DirectiveFlag::kRequired, DirectiveFlag::kWords,
                                   DirectiveFlag::kNotInherited),
    directive<&ReferenceConf::size>("size", "How large.", "8m"),
};
constexpr DirectiveTable kReferenceTable =
    directive_table<ReferenceConf>("route", kReferenceDirectives);

Schema reference_schema() {
  Schema schema;
  schema.add_section("route", NameRule::kRequired, "What goes where.");
  schema.add_table(&kReferenceTable);
  return schema;
}

Test(config_reference, plain_text) {
  const std::string expected =
      "[route NAME]\n"
      "  What goes where.\n"
      "\n"
      "  wait\n"
      "      How long to wait.\n"
      "      expected: a time with its unit: 500ms 10s 5m 1h30m 1d, from 1s to 1h\n"
      "      default: 10s\n"
      "      example: wait = 1m\n"
      "      Can be set in [defaults].\n"
      "\n"
      "  dot\n"
      "      .starts with a dot - and \"quotes\".\n"
      "      expected: text\n"
      "      default: a b\n"
      "      example: dot = C:\\x\n"
      "      Required. A list: one entry per word, on one line or several.\n"
      "\n"
      "  size\n"
      "      How large.\n"
      "      expected: a size in bytes, or with a unit: 512 64k 8m 1g\n"
      "      default: not set\n"
      "      example: size = 8m\n"
      "      Can be set in [defaults].\n";
  const std::string got = reference_text(reference_schema());
  cr_assert(got == expected, "%s", got.c_str());
}

Test(config_reference, roff) {
  const std::string got = reference_man(reference_schema());
  cr_assert(got.starts_with(".SS \"[route NAME]\"\nWhat goes where.\n.TP\n.B wait\n"), "%s",
            got.c_str());
  cr_assert(got.find(".TP\n.B dot\n\\&.starts with a dot \\- and \\(dqquotes\\(dq.\n.br\n"
                     "Expected: text.\n.br\nDefault: \\fBa b\\fR.\n.br\n"
                     "Example: \\fBdot = C:\\ex\\fR\n.br\nRequired. A list:") != std::string::npos,
            "%s", got.c_str());
}

// Each example has to be a value that its own key takes.
Test(config_reference, examples_of_the_process_tables_are_legal) {
  Schema schema;
  add_process_sections(schema);
  for (const Schema::Kind& kind : schema.kinds()) {
    for (const DirectiveTable* table : kind.tables) {
      void* conf = table->create();
      for (const Directive& directive : table->directives) {
        const Result<uint32_t> set = directive.assign(directive, conf, directive.example, true);
        cr_assert(set.ok(), "%.*s", static_cast<int>(directive.name.size()), directive.name.data());
      }
      table->destroy(conf);
    }
  }
}

Test(config_reference, roff_takes_a_text_literally) {
  cr_assert(roff_literal("a-b \\ 'c' ^~`\"") == "a\\-b \\e \\(aqc\\(aq \\(ha\\(ti\\(ga\\(dq");
  cr_assert(roff_literal(".dot") == "\\&.dot");
  // Two, three and four bytes of UTF-8; the last one cut off.
  cr_assert(roff_literal("ü…😀.") == "\\[u00FC]\\[u2026]\\[u1F600].");
  cr_assert(roff_literal("\xe2\x80") == "\\[u0080]");
}

}  // namespace
}  // namespace gatehouse
