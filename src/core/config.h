// Config: sections bound to typed structs, each value with the line that set it.
//
//   Schema schema;
//   schema.add_section("listener", NameRule::kOptional, "Where clients connect.");
//   schema.add_table(&kListenerTable);
//   ConfigErrors errors;
//   Config config = Config::bind(source, schema, errors);
//   for (const ConfigSection& section : config.sections("listener")) {
//     const ListenerConf& conf = section.get<ListenerConf>(kListenerTable);
//   }
//
// A section's structs start as the built-in defaults, take the keys of [defaults] that exist for
// their kind (listener, upstream and route only), then their own. Of a repeatable key, own entries
// replace inherited ones. Structs that a section does not change are shared, not copied, so that
// ten thousand routes that use three modules out of thirty do not hold thirty structs each.
//
// Binding goes on past errors and reports them all; a Config bound with errors is good for
// looking at and not for running. A bound Config is immutable and can be read by any thread. It
// does not refer to its source or its schema, only to the constant tables.
#pragma once

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/config_errors.h"
#include "core/config_source.h"
#include "core/directive.h"

namespace gatehouse {

enum class NameRule : uint8_t {
  kNone,      // [kind]: one at most; exists with its defaults even when nobody wrote it
  kRequired,  // [kind NAME]
  kOptional,  // [kind] or [kind NAME]
};

// The kinds of sections there are, and the tables whose keys they have. Build it once; a kind
// added twice, a table of an unknown kind and a key in two tables of a kind abort the program,
// for they are mistakes in it and not in a configuration.
class Schema {
 public:
  // `help` is one sentence for the manual.
  void add_section(std::string_view kind, NameRule rule, std::string_view help = {});
  // `table` has to live as long as any Config bound with it: make it a constant.
  void add_table(const DirectiveTable* table);

  struct Kind {
    std::string kind;
    NameRule rule;
    std::string help;
    std::vector<const DirectiveTable*> tables;
    bool inherits() const;  // from [defaults]
  };
  const std::vector<Kind>& kinds() const { return kinds_; }

 private:
  std::vector<Kind> kinds_;
};

class Config;

// One section of the configuration, or a [kind] that nobody wrote, with its defaults.
class ConfigSection {
 public:
  std::string_view kind() const;
  const std::string& name() const { return name_; }
  Origin origin() const { return origin_; }
  // "[route app]".
  std::string label() const;

  // True when binding reported an error in it: what else seems wrong with it may only follow from
  // that, and is better left unsaid.
  bool is_broken() const { return broken_; }

  // The struct of one of this kind's tables. REQUIRES: the table was added to this kind, and is
  // of this struct.
  template <class Conf>
  const Conf& get(const DirectiveTable& table) const {
    assert(table.conf_tag == &kConfTag<Conf>);
    return *static_cast<const Conf*>(conf(table));
  }

  // True when the section or [defaults] sets the key. REQUIRES: the table has it.
  bool is_set(const DirectiveTable& table, std::string_view key) const;

  // The line that set the key, or its entry number `entry` where it is a list; the default
  // Origin when nobody did.
  Origin origin_of(const DirectiveTable& table, std::string_view key, size_t entry = 0) const;

  // "FILE:LINE" or "default".
  std::string where(Origin origin) const;

  // Reports a problem with a key (its entry number `entry`, where it is a list), or with the
  // whole section where `key` is empty: FILE:LINE, label and value are found here.
  void report(ConfigErrors& errors, const DirectiveTable& table, std::string_view key,
              std::string problem, std::string expected = {}, size_t entry = 0) const;

 private:
  friend class Config;
  friend class ConfigBinder;

  struct Layout;
  // One line that set a key: `count` entries, of the key number `key` of the kind.
  struct Setting {
    uint32_t key;
    uint32_t count;
    Origin origin;
    bool inherited;
  };

  const void* conf(const DirectiveTable& table) const;
  std::span<const Setting> settings_of(uint32_t key) const;
  const Setting* setting_of(uint32_t key, size_t entry) const;

  const Layout* layout_ = nullptr;
  std::string name_;
  Origin origin_;
  bool broken_ = false;
  std::vector<const void*> confs_;  // by table of the kind; owned by the Config
  std::vector<Setting> settings_;   // sorted by key, then in order of entries
};

class Config {
 public:
  // Reads and binds everything; adds to `errors` all that is wrong.
  static Config bind(const ConfigSource& source, const Schema& schema, ConfigErrors& errors);

  Config(Config&&) noexcept;
  Config& operator=(Config&&) noexcept;
  ~Config();

  // The sections of a kind in the order they were written; none for an unknown kind.
  std::span<const ConfigSection> sections(std::string_view kind) const;
  // The section of a kind and name ("" for the one without a name); null when there is none.
  const ConfigSection* find(std::string_view kind, std::string_view name) const;

  // What a section of the kind starts from: built-in defaults and [defaults], with no name. For
  // what has no section of its own. REQUIRES: the schema has the kind.
  const ConfigSection& defaults(std::string_view kind) const;

  // "FILE:LINE" or "default".
  std::string where(Origin origin) const;

  // What -T prints: every section with every key, its value, and after it "# FILE:LINE",
  // "# [defaults] FILE:LINE" or "# default". A key without a value is a comment. Without origins
  // the text is itself a configuration that means the same.
  std::string effective(bool with_origins = true) const;

 private:
  friend class ConfigBinder;
  struct State;
  explicit Config(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
};

// Reference text of all sections and keys, from the tables alone: plain, and the roff body of
// gatehouse.conf(5). Each key with type, default, range, help and example.
std::string reference_text(const Schema& schema);
std::string reference_man(const Schema& schema);
// UTF-8 text that roff is to print as it is, on one line.
std::string roff_literal(std::string_view text);

}  // namespace gatehouse
