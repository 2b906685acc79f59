// Typed directive tables: how a part of gatehouse declares its configuration keys.
//
//   struct ListenerConf {
//     Duration header_timeout = std::chrono::seconds(10);   // the default lives here only
//     std::vector<ListenAddress> address;                   // a list: a repeated key adds to it
//   };
//   constexpr Directive kListenerDirectives[] = {
//       directive<&ListenerConf::header_timeout>(
//           "header_timeout", "Time a client has to send a whole request head.", "10s",
//           range(std::chrono::milliseconds(1), std::chrono::hours(1))),
//       directive<&ListenerConf::address>("address", "Where to accept connections.", "*:80"),
//   };
//   constexpr DirectiveTable kListenerTable =
//       directive_table<ListenerConf>("listener", kListenerDirectives);
//
// The member's type says how a value is parsed, shown and described, through ValueType<T>
// (core/config_values.h has the common ones; a custom type specialises it beside its own code):
//
//   template <> struct ValueType<Colour> {
//     static Result<Colour> parse(std::string_view text);  // the Error says what is wrong
//     static std::string format(const Colour& colour);     // parse(format(x)) gives x
//     static std::string expected();                       // "red, green or blue"
//     static constexpr bool kWord = true;                  // optional, see below
//   };
//
// std::vector<T> makes a key repeatable: each line adds an entry, or one entry per word where T
// says kWord or the directive says DirectiveFlag::kWords. std::optional<T> is a scalar that may
// be unset. Tables are constants: no static initialiser runs, nothing registers itself.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/config_errors.h"
#include "core/config_values.h"
#include "core/result.h"

namespace gatehouse {

class SectionErrors;

enum class DirectiveFlag : uint8_t {
  kRequired,      // a section without it is an error
  kWords,         // for lists of std::string: every word of a line is an entry
  kNotInherited,  // [defaults] may not set it; only listener, upstream and route inherit at all
  kSecret,        // errors and -T show "***" in the place of the value
};

// Smallest and largest legal value, both included; of the entries, where the type is a list.
template <class Low, class High>
struct DirectiveRange {
  Low low;
  High high;
};
template <class Low, class High>
constexpr DirectiveRange<Low, High> range(Low low, High high) {
  return {low, high};
}

// Says what a legal value is where ValueType<T>::expected() is too vague.
struct DirectiveExpects {
  std::string_view text;
};
constexpr DirectiveExpects expects(std::string_view text) {
  return {text};
}

// One address per type, to check at compile time and by assertion that a table fits its struct.
template <class Conf>
inline constexpr char kConfTag = 0;

// One key, with its type erased. Made by directive<>(), never by hand.
struct Directive {
  std::string_view name;
  std::string_view help;     // one sentence
  std::string_view example;  // a legal value
  std::string_view expects;  // overrides the type's own text unless empty
  bool repeatable = false;
  bool required = false;
  bool words = false;
  bool inherited = true;
  bool secret = false;
  bool ranged = false;
  uint64_t low = 0;  // the bit patterns of the range's ends
  uint64_t high = 0;
  const char* conf_tag = nullptr;

  // Sets the member from one line's value; of a list, adds to it, clearing it first where
  // `fresh`. Returns how many entries were set. A failure leaves a scalar as it was.
  Result<uint32_t> (*assign)(const Directive&, void* conf, std::string_view value,
                             bool fresh) = nullptr;
  // The value as text: one string, or one for each entry of a list; none when unset.
  std::vector<std::string> (*show)(const void* conf) = nullptr;
  // What a legal value looks like, without the range.
  std::string (*expected_type)() = nullptr;
  // "from 1ms to 1h"; empty without a range.
  std::string (*range_text)(const Directive&) = nullptr;

  // The full "expected" sentence: `expects` or the type's text, then the range.
  std::string expected() const;
};

// All keys of one struct in one kind of section. Made by directive_table<>().
struct DirectiveTable {
  std::string_view kind;
  std::span<const Directive> directives;
  const char* conf_tag = nullptr;
  void* (*create)() = nullptr;
  void* (*clone)(const void* conf) = nullptr;
  void (*destroy)(void* conf) = nullptr;
  // Checks what no single key can; null when there is nothing to check.
  void (*check)(const void* conf, SectionErrors& errors) = nullptr;
};

// Where a table's check reports: knows the section, and finds the line a key was set on.
class SectionErrors {
 public:
  // `key` may be empty: the problem is then the section's own. `entry` is the number of the entry
  // at fault, where the key is a list.
  virtual void add(std::string_view key, std::string problem, std::string expected = {},
                   size_t entry = 0) = 0;

 protected:
  ~SectionErrors() = default;
};

// The tables' private machinery.
namespace directive_detail {

template <class T>
struct MemberPointer;
template <class ConfType, class MemberType>
struct MemberPointer<MemberType ConfType::*> {
  using Conf = ConfType;
  using Value = MemberType;
};

// Shape<T>: what one entry of T is, and how a new one gets in.
template <class T>
struct Shape {
  using Entry = T;
  static constexpr bool kList = false;
};
template <class T>
struct Shape<std::optional<T>> {
  using Entry = T;
  static constexpr bool kList = false;
};
template <class T>
struct Shape<std::vector<T>> {
  using Entry = T;
  static constexpr bool kList = true;
};

template <class T>
constexpr bool is_word_type() {
  if constexpr (requires { ValueType<T>::kWord; }) {
    return ValueType<T>::kWord;
  } else {
    return false;
  }
}

// A range's end as its bit pattern, so that Directive needs no type parameter.
template <class T>
constexpr uint64_t pack(const T& value) {
  static_assert(std::is_trivially_copyable_v<T>, "a range needs a plain number type");
  if constexpr (sizeof(T) == 8) {
    return std::bit_cast<uint64_t>(value);
  } else if constexpr (sizeof(T) == 4) {
    return std::bit_cast<uint32_t>(value);
  } else if constexpr (sizeof(T) == 2) {
    return std::bit_cast<uint16_t>(value);
  } else {
    static_assert(sizeof(T) == 1, "a range needs a plain number type");
    return std::bit_cast<uint8_t>(value);
  }
}
template <class T>
constexpr T unpack(uint64_t bits) {
  if constexpr (sizeof(T) == 8) {
    return std::bit_cast<T>(bits);
  } else if constexpr (sizeof(T) == 4) {
    return std::bit_cast<T>(static_cast<uint32_t>(bits));
  } else if constexpr (sizeof(T) == 2) {
    return std::bit_cast<T>(static_cast<uint16_t>(bits));
  } else {
    return std::bit_cast<T>(static_cast<uint8_t>(bits));
  }
}

template <class T>
concept Rangeable = std::is_trivially_copyable_v<T> && std::has_single_bit(sizeof(T)) &&
                        sizeof(T) <= 8 &&
                    requires(const T& a) {
  a < a;
};

template <class T>
Result<T> parse_entry(const Directive& directive, std::string_view text) {
  Result<T> parsed = ValueType<T>::parse(text);
  if constexpr (Rangeable<T>) {
    if (parsed && directive.ranged) {
      if (*parsed < unpack<T>(directive.low)) return Error{"too small"};
      if (unpack<T>(directive.high) < *parsed) return Error{"too large"};
    }
  }
  return parsed;
}

template <auto Member>
Result<uint32_t> assign(const Directive& directive, void* conf, std::string_view value,
                        bool fresh) {
  using Pointer = MemberPointer<decltype(Member)>;
  using Entry = typename Shape<typename Pointer::Value>::Entry;
  auto& member = static_cast<typename Pointer::Conf*>(conf)->*Member;
  if constexpr (!Shape<typename Pointer::Value>::kList) {
    (void)fresh;
    Result<Entry> parsed = parse_entry<Entry>(directive, value);
    if (!parsed) return parsed.error();
    member = std::move(*parsed);
    return uint32_t{1};
  } else {
    if (fresh) member.clear();
    std::vector<std::string_view> texts;
    if (directive.words) {
      texts = split_words(value);
    } else {
      texts.push_back(value);
    }
    for (std::string_view text : texts) {
      Result<Entry> parsed = parse_entry<Entry>(directive, text);
      if (!parsed) {
        if (texts.size() == 1) return parsed.error();
        return Error{"\"" + std::string(text) + "\": " + parsed.error().message};
      }
      member.push_back(std::move(*parsed));
    }
    return static_cast<uint32_t>(texts.size());
  }
}

template <auto Member>
std::vector<std::string> show(const void* conf) {
  using Pointer = MemberPointer<decltype(Member)>;
  using Value = typename Pointer::Value;
  using Entry = typename Shape<Value>::Entry;
  const auto& member = static_cast<const typename Pointer::Conf*>(conf)->*Member;
  std::vector<std::string> texts;
  if constexpr (Shape<Value>::kList) {
    // Entries are copied out by value so that std::vector<bool> would work too.
    for (const Entry& entry : member) texts.push_back(ValueType<Entry>::format(entry));
  } else if constexpr (std::is_same_v<Value, std::optional<Entry>>) {
    if (member) texts.push_back(ValueType<Entry>::format(*member));
  } else {
    texts.push_back(ValueType<Entry>::format(member));
  }
  return texts;
}

template <class T>
std::string range_text(const Directive& directive) {
  if constexpr (Rangeable<T>) {
    if (directive.ranged) {
      return "from " + ValueType<T>::format(unpack<T>(directive.low)) + " to " +
             ValueType<T>::format(unpack<T>(directive.high));
    }
  }
  return {};
}

template <class T>
constexpr void apply(Directive& directive, DirectiveFlag flag) {
  switch (flag) {
    case DirectiveFlag::kRequired:
      directive.required = true;
      break;
    case DirectiveFlag::kWords:
      directive.words = true;
      break;
    case DirectiveFlag::kNotInherited:
      directive.inherited = false;
      break;
    case DirectiveFlag::kSecret:
      directive.secret = true;
      break;
  }
}
template <class T, class Low, class High>
constexpr void apply(Directive& directive, DirectiveRange<Low, High> limits) {
  static_assert(Rangeable<T>, "this type cannot have a range");
  const T low = static_cast<T>(limits.low);
  const T high = static_cast<T>(limits.high);
  directive.ranged = true;
  directive.low = pack<T>(low);
  directive.high = pack<T>(high);
}
template <class T>
constexpr void apply(Directive& directive, DirectiveExpects text) {
  directive.expects = text.text;
}

// Reached only while compiling: calling it ends the constant evaluation with its name shown.
inline void table_is_wrong(const char*) {}

constexpr bool legal_key(std::string_view name) {
  if (name.empty() || name.size() > kMaxKeyBytes || name == "include") return false;
  for (const char c : name) {
    if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_')) return false;
  }
  return true;
}

}  // namespace directive_detail

// Declares one key: the member it sets, its name, one sentence of help, an example value, and any
// of DirectiveFlag, range(low, high) and expects("…").
template <auto Member, class... Options>
consteval Directive directive(std::string_view name, std::string_view help,
                              std::string_view example, Options... options) {
  using Pointer = directive_detail::MemberPointer<decltype(Member)>;
  using Shape = directive_detail::Shape<typename Pointer::Value>;
  Directive made;
  made.name = name;
  made.help = help;
  made.example = example;
  made.repeatable = Shape::kList;
  made.words = Shape::kList && directive_detail::is_word_type<typename Shape::Entry>();
  made.conf_tag = &kConfTag<typename Pointer::Conf>;
  made.assign = &directive_detail::assign<Member>;
  made.show = &directive_detail::show<Member>;
  made.expected_type = &ValueType<typename Shape::Entry>::expected;
  made.range_text = &directive_detail::range_text<typename Shape::Entry>;
  (directive_detail::apply<typename Shape::Entry>(made, options), ...);
  if (!directive_detail::legal_key(name)) {
    directive_detail::table_is_wrong("a key is a-z, 0-9 and _, and not \"include\"");
  }
  if (help.empty() || example.empty()) {
    directive_detail::table_is_wrong("a key needs help and an example");
  }
  return made;
}

// Joins directives into the table of one kind of section. `Check`, where given, is called for
// each section after its keys are set, and is one of
//   Result<void> check(const Conf&)            the error is reported for the section
//   void check(const Conf&, SectionErrors&)    errors are reported for keys
template <class Conf, auto Check = nullptr, size_t N>
consteval DirectiveTable directive_table(std::string_view kind, const Directive (&directives)[N]) {
  for (size_t i = 0; i < N; ++i) {
    if (directives[i].conf_tag != &kConfTag<Conf>) {
      directive_detail::table_is_wrong("a directive sets a member of another struct");
    }
    for (size_t j = 0; j < i; ++j) {
      if (directives[i].name == directives[j].name) {
        directive_detail::table_is_wrong("a key is declared twice");
      }
    }
  }
  DirectiveTable table;
  table.kind = kind;
  table.directives = directives;
  table.conf_tag = &kConfTag<Conf>;
  table.create = []() -> void* { return new Conf(); };
  table.clone = [](const void* conf) -> void* { return new Conf(*static_cast<const Conf*>(conf)); };
  table.destroy = [](void* conf) { delete static_cast<Conf*>(conf); };
  if constexpr (!std::is_same_v<decltype(Check), std::nullptr_t>) {
    table.check = [](const void* conf, SectionErrors& errors) {
      const Conf& typed = *static_cast<const Conf*>(conf);
      if constexpr (std::is_invocable_v<decltype(Check), const Conf&, SectionErrors&>) {
        Check(typed, errors);
      } else {
        Result<void> result = Check(typed);
        if (!result) errors.add({}, result.error().message);
      }
    };
  }
  return table;
}

}  // namespace gatehouse
