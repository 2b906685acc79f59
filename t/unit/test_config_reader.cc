// The reader: every rule of the language, and each way in which inih alone would misread.
#include "core/config_reader.h"

#include <criterion/criterion.h>
#include <stdlib.h>

#include <string>
#include <string_view>
#include <vector>

#include "core/config_lines.h"

namespace gatehouse {
namespace {

// What was read, one line for each section and entry: "1 [kind name]" and "2 key=<value>". Errors
// follow after "--".
std::string read(std::string text) {
  ConfigErrors errors;
  const ConfigSource source = ConfigSource::from_text("f", std::move(text));
  std::string out;
  for (const RawSection& section : read_config(source, errors)) {
    out += std::to_string(section.origin.line) + " [" + section.kind;
    out += section.name.empty() ? "]\n" : " " + section.name + "]\n";
    for (const RawEntry& entry : section.entries) {
      out += std::to_string(entry.origin.line) + " " + entry.key + "=<" + entry.value + ">\n";
    }
  }
  if (!errors.empty()) out += "--\n" + errors.text();
  return out;
}

void check(std::string text, std::string_view expected) {
  const std::string got = read(std::move(text));
  cr_assert(got == expected, "got:\n%s\nexpected:\n%.*s", got.c_str(),
            static_cast<int>(expected.size()), expected.data());
}

Test(config_reader, sections_and_entries) {
  check("[a]\nk = v\nk = w\n\n[b name]\nx=1\n", "1 [a]\n2 k=<v>\n3 k=<w>\n5 [b name]\n6 x=<1>\n");
  check("", "");
  check("\n\n", "");
  check("[a]\nk = v", "1 [a]\n2 k=<v>\n");
}

// inih takes an indented line for one more value of the key above.
Test(config_reader, indentation_means_nothing) {
  check("  [a]\n\tk = v\n    l = w\n", "1 [a]\n2 k=<v>\n3 l=<w>\n");
}

// inih cuts lines at 199 bytes and takes the rest for a line of its own.
Test(config_reader, long_values_stay_whole) {
  for (const size_t size : {150U, 190U, 191U, 192U, 193U, 194U, 195U, 196U, 197U, 198U, 199U, 200U,
                            201U, 400U, 5000U, 200'000U}) {
    std::string value;
    while (value.size() < size) value += "ab = [c];" + std::to_string(value.size()) + " ; ";
    value.resize(size - 1);
    value += 'z';
    check("[a]\nk = " + value + "\nl = 1\n", "1 [a]\n2 k=<" + value + ">\n3 l=<1>\n");
  }
}

// inih cuts the names of sections and keys at 49 bytes.
Test(config_reader, long_names_stay_whole_or_are_refused) {
  const std::string name(kMaxSectionNameBytes, 'n');
  check("[a " + name + "]\nk = v\n", "1 [a " + name + "]\n2 k=<v>\n");
  check("[a " + name + "n]\nk = v\n",
        "--\nf:1: [a " + std::string(117, 'n') +
            "…: the name is too long\n    expected: at most 200 bytes\n");
  const std::string key(48, 'k');
  check("[a]\n" + key + " = v\n", "1 [a]\n2 " + key + "=<v>\n");
  check("[a]\n" + key + "k = v\n", "1 [a]\n--\nf:2: " + key +
                                       "k = v: unknown key\n"
                                       "    no key is longer than 48 bytes\n");
  const std::string kind(48, 'a');
  check("[" + kind + "]\n", "1 [" + kind + "]\n");
  check("[" + kind + "a]\n",
        "--\nf:1: [" + kind + "a]: the kind is too long\n    expected: at most 48 bytes\n");
}

// inih ends a value at " ;".
Test(config_reader, semicolons_belong_to_the_value) {
  check("[a]\nk = no-cache; private ; max-age=0 #x\n",
        "1 [a]\n2 k=<no-cache; private ; max-age=0 #x>\n");
  check("[a]\nk = ;\n", "1 [a]\n2 k=<;>\n");
}

// inih does not tell of a section without entries.
Test(config_reader, empty_sections_are_seen) {
  check("[a]\n[b]\n\n[c x]\n", "1 [a]\n2 [b]\n4 [c x]\n");
}

// inih takes "key: value" too, and the first of ":" and "=" wherever it is.
Test(config_reader, only_an_equals_sign_separates) {
  check("[a]\nk: v\n",
        "1 [a]\n--\nf:2: k: v: neither a section nor a key with a value\n"
        "    expected: key = value, [kind name], or # and a comment\n");
  check("[a]\nk = http://h:80/?x=y\n", "1 [a]\n2 k=<http://h:80/?x=y>\n");
  check("[a]\nk:l = v\n",
        "1 [a]\n--\nf:2: k:l = v: not a key before the \"=\"\n"
        "    expected: key = value, where a key has a-z, 0-9 and _\n");
}

Test(config_reader, comments_and_blank_lines) {
  check("# c\n; c\n  # [x]\n[a]\n\t; k = v\nk = v # not a comment\n",
        "4 [a]\n6 k=<v # not a comment>\n");
}

Test(config_reader, continuation_lines) {
  check("[a]\nk = one \\\n    two\\\n\tthree\nl = x\n", "1 [a]\n2 k=<one two three>\n5 l=<x>\n");
  check("[a]\nk = one \\\n# comment \\\n  ; another\n  two\nl = x\n",
        "1 [a]\n2 k=<one two>\n6 l=<x>\n");
  check("[a]\nk = one \\\n\nl = x\n", "1 [a]\n2 k=<one>\n4 l=<x>\n");
  check("[a]\nk = one \\", "1 [a]\n2 k=<one>\n");
  check("[a]\nk = \\\nv\n", "1 [a]\n2 k=<v>\n");
  check("[a \\\n b]\nk = v\n", "1 [a b]\n3 k=<v>\n");
  check("[a]\nk = two\\\\\nl = three\\\\\\\n x\n", "1 [a]\n2 k=<two\\\\>\n3 l=<three\\\\ x>\n");
  check("\\\n\n\\\n\\\n[a]\n", "3 [a]\n");
  check("[a]\n# comment \\\nk = v\n", "1 [a]\n3 k=<v>\n");
  check("\\\n\\", "");
}

Test(config_reader, a_million_lone_backslashes_do_not_recurse) {
  std::string text;
  for (int i = 0; i < 1'000'000; ++i) text += "\\\n\n";
  check(text + "[a]\n", "2000001 [a]\n");
}

Test(config_reader, byte_order_mark_and_crlf) {
  check("\xEF\xBB\xBF[a]\r\nk = v\r\nl = one \\\r\n two\r\n\r\n",
        "1 [a]\n2 k=<v>\n3 l=<one two>\n");
}

Test(config_reader, control_bytes_are_refused) {
  const std::string expected =
      ": a control byte\n    expected: text, without NUL and other control bytes but tab\n";
  check(std::string("[a]\nk = a\0b\nl = x\n", 18), "1 [a]\n3 l=<x>\n--\nf:2" + expected);
  check("[a]\nk = a\x1b[0m\n", "1 [a]\n--\nf:2" + expected);
  check("[a]\nk = a\x7f\n", "1 [a]\n--\nf:2" + expected);
  check("[a]\nk = a\rb\n", "1 [a]\n--\nf:2" + expected);
  check("[a]\n# c\x01\nk = v\n", "1 [a]\n3 k=<v>\n--\nf:2" + expected);
  // The bytes that this reader itself uses towards inih.
  check("[a]\n\x04=\x01x\x03\n\x02=\x01y\x03\nk = \x05\n",
        "1 [a]\n--\nf:2" + expected + "f:3" + expected + "f:4" + expected);
  // In the middle of a continued line the line of the byte is told, and no part is left over.
  check("[a]\nk = one \\\n t\x01wo \\\n three\nl = x\n", "1 [a]\n5 l=<x>\n--\nf:3" + expected);
  check("[a]\nk = tab\tis fine\n", "1 [a]\n2 k=<tab\tis fine>\n");
}

Test(config_reader, text_is_utf8) {
  check("[a]\nk = grün ☃ 😀\n", "1 [a]\n2 k=<grün ☃ 😀>\n");
  const std::string expected = ": text that is not UTF-8\n    expected: a file in UTF-8\n";
  for (const char* bad : {"\xFC", "\xC0\xAF", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xE2\x82",
                          "\x80", "\xF8\x88\x80\x80\x80", "\xE0\x80\x80", "\xF0\x80\x80\x80"}) {
    check(std::string("[a]\nk = ") + bad + "\n", "1 [a]\n--\nf:2" + expected);
  }
}

Test(config_reader, broken_sections_swallow_their_keys) {
  check("[a\nk = v\n[b]\nl = w\n",
        "3 [b]\n4 l=<w>\n--\nf:1: [a: a section without \"]\"\n"
        "    expected: [kind] or [kind name]\n");
  check("[a] # c\nk = v\n",
        "--\nf:1: [a] # c: text after \"]\"\n"
        "    expected: a comment stands on a line of its own\n");
  check("[a b c]\n[]\n[a b\"]\n[a=b]\n",
        "--\n"
        "f:1: [a b c]: more than two words in a section\n    expected: [kind] or [kind name]\n"
        "f:2: []: not the kind of a section\n    expected: [kind] or [kind name]\n"
        "f:3: [a b\"]: a character that the name of a section cannot have\n"
        "    expected: letters of ASCII, digits and _ - . / : @\n"
        "f:4: [a=b]: not the kind of a section\n    expected: [kind] or [kind name]\n");
  check("[ a   b ]\n", "1 [a b]\n");
}

Test(config_reader, keys_need_a_section_and_a_name) {
  check("k = v\n",
        "--\nf:1: k = v: a key outside of any section\n"
        "    expected: a line such as [route app] before it; only include may stand alone\n");
  check("[a]\n= v\nhello\nk =\n",
        "1 [a]\n4 k=<>\n--\nf:2: = v: not a key before the \"=\"\n"
        "    expected: key = value, where a key has a-z, 0-9 and _\n"
        "f:3: hello: neither a section nor a key with a value\n"
        "    expected: key = value, [kind name], or # and a comment\n");
}

Test(config_reader, environment_variables) {
  setenv("GH_TEST_PORT", "80;81", 1);
  setenv("GH_TEST_EMPTY", "", 1);
  setenv("GH_TEST_NESTED", "${GH_TEST_PORT} $${x}", 1);
  setenv("GH_TEST_CONTROL", "a\nb = c", 1);
  unsetenv("GH_TEST_UNSET");
  check("[a]\nk = x${GH_TEST_PORT}y${GH_TEST_PORT}\n", "1 [a]\n2 k=<x80;81y80;81>\n");
  check("[a]\nk = ${GH_TEST_EMPTY} v ${GH_TEST_EMPTY}\n", "1 [a]\n2 k=<v>\n");
  check("[a]\nk = ${GH_TEST_NESTED}\n", "1 [a]\n2 k=<${GH_TEST_PORT} $${x}>\n");
  check("[a]\nk = $host $1 $ $$ a$b {x} $${HOME} $$${HOME}\n",
        "1 [a]\n2 k=<$host $1 $ $$ a$b {x} ${HOME} $${HOME}>\n");
  check("# ${GH_TEST_UNSET}\n[a]\n", "2 [a]\n");
  const std::string expected =
      "    expected: ${NAME} of a variable that is set; $${ stands for a plain ${\n";
  check(
      "[a]\nk = ${GH_TEST_UNSET}\n",
      "1 [a]\n--\nf:2: [a] k = ${GH_TEST_UNSET}: the environment has no variable GH_TEST_UNSET\n" +
          expected);
  check("[a]\nk = ${GH_TEST_CONTROL}\n",
        "1 [a]\n--\nf:2: [a] k = ${GH_TEST_CONTROL}: the variable GH_TEST_CONTROL holds a control "
        "byte or is not UTF-8\n" +
            expected);
  for (const char* bad : {"${", "${}", "${1A}", "${A-B}", "${A", "${A:-b}", "x ${ A}"}) {
    check(std::string("[a]\nk = ") + bad + "\n",
          std::string("1 [a]\n--\nf:2: [a] k = ") + bad +
              ": \"${\" without the name of a variable and \"}\"\n" + expected);
  }
}

Test(config_reader, expansion_has_a_limit) {
  setenv("GH_TEST_LARGE", std::string(100'000, 'x').c_str(), 1);
  std::string text = "[a]\nk = ";
  for (int i = 0; i < 11; ++i) text += "${GH_TEST_LARGE}";
  const std::string got = read(text + "\n");
  cr_assert(got.find("too long with its variables") != std::string::npos, "%s", got.c_str());
}

Test(config_reader, a_line_has_a_limit) {
  std::string text = "[a]\n";
  const std::string value(kMaxConfigValueBytes - 4, 'x');
  check("[a]\nk = " + value + "\n", "1 [a]\n2 k=<" + value + ">\n");
  check("[a]\nk = " + value + "x\nl = v\n",
        "1 [a]\n3 l=<v>\n--\nf:2: the line is too long\n"
        "    expected: at most 1m with all its continuation lines\n");
}

Test(config_reader, entries_and_sections_have_limits) {
  std::string text = "[a]\n";
  for (size_t i = 0; i <= kMaxConfigEntries; ++i) text += "k=v\n";
  ConfigErrors errors;
  const auto sections = read_config(ConfigSource::from_text("f", text), errors);
  cr_assert_eq(sections.at(0).entries.size(), kMaxConfigEntries);
  cr_assert(errors.text() == "f:500002: too many keys\n    expected: at most 500000\n");

  text.clear();
  for (size_t i = 0; i <= kMaxConfigSections; ++i) text += "[a]\n";
  ConfigErrors more;
  cr_assert_eq(read_config(ConfigSource::from_text("f", text), more).size(), kMaxConfigSections);
  cr_assert(more.text() == "f:100001: too many sections\n    expected: at most 100000\n");
}

}  // namespace
}  // namespace gatehouse
