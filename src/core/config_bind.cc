// Binding: raw sections become typed structs.
//
// In three passes, so that [defaults] may stand anywhere: the prototypes of each kind (built-in
// defaults), the prototypes with [defaults] applied, and each section on top of its prototypes. All
// look-ups are by hash, and a section copies only the structs it changes, so that the work grows
// with the number of lines and nothing else.

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/config_lines.h"
#include "core/config_reader.h"
#include "core/config_state.h"

namespace gatehouse {

namespace {

constexpr std::string_view kDefaults = "defaults";

std::string did_you_mean(std::string_view word) {
  return fmt::format("did you mean \"{}\"?", word);
}

std::string expected_text(const Directive& directive) {
  return "expected: " + directive.expected();
}

}  // namespace

class ConfigBinder {
 public:
  ConfigBinder(const ConfigSource& source, const Schema& schema, ConfigErrors& errors)
      : source_(source), errors_(errors), state_(std::make_unique<Config::State>()) {
    for (const ConfigFile& file : source.files()) state_->file_paths.push_back(file.path);
    for (const Schema::Kind& kind : schema.kinds()) add_kind(kind);
    for (uint32_t i = 0; i < state_->kinds.size(); ++i) {
      state_->by_kind.emplace(state_->kinds[i].layout->kind.kind, i);
    }
  }

  Config run() {
    const std::vector<RawSection> raw = read_config(source_, errors_);
    bind_defaults(raw);
    for (const RawSection& section : raw) {
      if (section.kind != kDefaults) bind_section(section);
    }
    for (uint32_t i = 0; i < state_->kinds.size(); ++i) finish_kind(i);
    return Config(std::move(state_));
  }

 private:
  using Layout = ConfigSection::Layout;
  using Setting = ConfigSection::Setting;

  // What sections of a kind start from, and what is known while they are bound.
  struct Kind {
    Layout* layout = nullptr;
    std::vector<void*> prototypes;    // by table; owned by the state
    std::vector<Setting> inherited;   // from [defaults], sorted by key
    std::vector<uint32_t> required;   // keys
    std::vector<uint32_t> last_set;   // by key: the number of the section that set it last
    std::vector<Origin> last_origin;  // by key: where
    std::unordered_map<std::string, Origin> names;
  };

  void add_kind(const Schema::Kind& schema) {
    auto layout = std::make_unique<Layout>();
    layout->kind = schema;
    layout->file_paths = &state_->file_paths;
    Kind kind;
    kind.layout = layout.get();
    for (uint32_t i = 0; i < schema.tables.size(); ++i) {
      const DirectiveTable& table = *schema.tables[i];
      kind.prototypes.push_back(own(table, table.create()));
      for (const Directive& directive : table.directives) {
        const auto number = static_cast<uint32_t>(layout->keys.size());
        layout->by_name.emplace(directive.name, number);
        layout->keys.push_back({i, &directive});
        if (directive.required) kind.required.push_back(number);
      }
    }
    kind.last_set.resize(layout->keys.size());
    kind.last_origin.resize(layout->keys.size());
    kinds_.push_back(std::move(kind));
    state_->kinds.push_back({std::move(layout), {}, {}, {}});
  }

  void* own(const DirectiveTable& table, void* conf) {
    state_->confs.emplace_back(conf, DestroyConf{&table});
    return conf;
  }

  // ---- [defaults]

  void bind_defaults(const std::vector<RawSection>& raw) {
    const RawSection* first = nullptr;
    ++serial_;
    for (const RawSection& section : raw) {
      if (section.kind != kDefaults) continue;
      if (!section.name.empty()) {
        report(section, nullptr, "this kind of section has no name", "expected: [defaults]");
        continue;
      }
      if (first != nullptr) {
        report_duplicate(section, first->origin);
        continue;
      }
      first = &section;
      for (const RawEntry& entry : section.entries) bind_default(section, entry);
    }
    for (Kind& kind : kinds_) sort_settings(kind.inherited);
  }

  // Sets the key in the prototypes of every kind that has it. An error is told once: the kinds
  // may well disagree about the type, but then the first is as good as any.
  void bind_default(const RawSection& section, const RawEntry& entry) {
    bool known = false;
    for (Kind& kind : kinds_) {
      if (!kind.layout->kind.inherits()) continue;
      const auto found = kind.layout->by_name.find(entry.key);
      if (found == kind.layout->by_name.end()) continue;
      const Layout::Key key = kind.layout->keys[found->second];
      if (!key.directive->inherited) continue;
      known = true;
      if (!set(kind, found->second, kind.prototypes[key.table], section, entry, kind.inherited,
               true)) {
        return;
      }
    }
    if (!known) report_unknown_default(section, entry);
  }

  // ---- Sections

  void bind_section(const RawSection& raw) {
    const auto found = state_->by_kind.find(raw.kind);
    if (found == state_->by_kind.end()) return report_unknown_kind(raw);
    Kind& kind = kinds_[found->second];
    if (!check_name(kind, raw)) return;

    const size_t errors_before = errors_.count();
    ++serial_;
    ConfigSection section = begin(kind, raw.name, raw.origin);
    section.settings_.reserve(raw.entries.size() + kind.inherited.size());
    for (const RawEntry& entry : raw.entries) {
      const auto key = kind.layout->by_name.find(entry.key);
      if (key == kind.layout->by_name.end()) {
        report_unknown_key(kind, raw, entry);
        continue;
      }
      set(kind, key->second, writable(kind, section, kind.layout->keys[key->second].table), raw,
          entry, section.settings_, false);
    }
    for (const Setting& setting : kind.inherited) {
      if (kind.last_set[setting.key] != serial_) section.settings_.push_back(setting);
    }
    sort_settings(section.settings_);
    section.settings_.shrink_to_fit();
    for (const uint32_t key : kind.required) {
      // A value that was refused has been told already.
      if (kind.last_set[key] == serial_ || !section.settings_of(key).empty()) continue;
      const Directive& directive = *kind.layout->keys[key].directive;
      report(raw, nullptr, fmt::format("the key {} is missing", directive.name),
             fmt::format("expected: {} = {}", directive.name, directive.example));
    }
    // What a check would say of a section with errors may only follow from them.
    if (errors_.count() == errors_before) run_checks(kind, section);
    section.broken_ = errors_.count() != errors_before;
    state_->kinds[found->second].sections.push_back(std::move(section));
  }

  bool check_name(Kind& kind, const RawSection& raw) {
    const NameRule rule = kind.layout->kind.rule;
    if (rule == NameRule::kNone && !raw.name.empty()) {
      report(raw, nullptr, "this kind of section has no name",
             "expected: " + section_label(raw.kind, {}));
      return false;
    }
    if (rule == NameRule::kRequired && raw.name.empty()) {
      report(raw, nullptr, "this kind of section needs a name",
             "expected: " + section_label(raw.kind, "NAME"));
      return false;
    }
    const auto [first, added] = kind.names.emplace(raw.name, raw.origin);
    if (!added) report_duplicate(raw, first->second);
    return added;
  }

  ConfigSection begin(const Kind& kind, std::string name, Origin origin) const {
    ConfigSection section;
    section.layout_ = kind.layout;
    section.name_ = std::move(name);
    section.origin_ = origin;
    section.confs_.assign(kind.prototypes.begin(), kind.prototypes.end());
    return section;
  }

  // The section's own struct of a table: the shared prototype is copied at the first change.
  void* writable(const Kind& kind, ConfigSection& section, uint32_t table_index) {
    const DirectiveTable& table = *kind.layout->kind.tables[table_index];
    const void* conf = section.confs_[table_index];
    if (conf != kind.prototypes[table_index]) {
      // Copied before, by this very section: nobody else points to it, so it may change.
      return const_cast<void*>(conf);
    }
    void* copy = own(table, table.clone(conf));
    section.confs_[table_index] = copy;
    return copy;
  }

  // Sets one key of `conf`; false, with an error added, when that fails.
  bool set(Kind& kind, uint32_t key, void* conf, const RawSection& section, const RawEntry& entry,
           std::vector<Setting>& settings, bool inherited) {
    const Directive& directive = *kind.layout->keys[key].directive;
    const bool again = kind.last_set[key] == serial_;
    if (again && !directive.repeatable) {
      report(section, &entry, "given twice", "first: " + source_.where(kind.last_origin[key]),
             directive.secret);
      return false;
    }
    if (!again) kind.last_origin[key] = entry.origin;
    kind.last_set[key] = serial_;
    if (entry.value.empty()) {
      report(section, &entry, "no value", expected_text(directive));
      return false;
    }
    Result<uint32_t> count = directive.assign(directive, conf, entry.value, !again);
    if (!count) {
      report(section, &entry, count.error().message, expected_text(directive), directive.secret);
      return false;
    }
    settings.push_back({key, *count, entry.origin, inherited});
    return true;
  }

  static void sort_settings(std::vector<Setting>& settings) {
    std::stable_sort(settings.begin(), settings.end(),
                     [](const Setting& a, const Setting& b) { return a.key < b.key; });
  }

  void run_checks(const Kind& kind, const ConfigSection& section) {
    for (size_t i = 0; i < kind.layout->kind.tables.size(); ++i) {
      const DirectiveTable& table = *kind.layout->kind.tables[i];
      if (table.check == nullptr) continue;
      CheckErrors reporter(errors_, section, table);
      table.check(section.confs_[i], reporter);
    }
  }

  class CheckErrors final : public SectionErrors {
   public:
    CheckErrors(ConfigErrors& errors, const ConfigSection& section, const DirectiveTable& table)
        : errors_(errors), section_(section), table_(table) {}
    void add(std::string_view key, std::string problem, std::string expected,
             size_t entry) override {
      section_.report(errors_, table_, key, std::move(problem), std::move(expected), entry);
    }

   private:
    ConfigErrors& errors_;
    const ConfigSection& section_;
    const DirectiveTable& table_;
  };

  void finish_kind(uint32_t index) {
    Config::State::SectionsOfKind& of_kind = state_->kinds[index];
    of_kind.defaults = begin(kinds_[index], {}, {});
    of_kind.defaults.settings_ = kinds_[index].inherited;
    if (of_kind.layout->kind.rule == NameRule::kNone && of_kind.sections.empty()) {
      of_kind.sections.push_back(of_kind.defaults);
    }
    of_kind.sections.shrink_to_fit();
    // The views stay good: from here on the sections no longer move.
    of_kind.by_name.reserve(of_kind.sections.size());
    for (uint32_t i = 0; i < of_kind.sections.size(); ++i) {
      of_kind.by_name.emplace(of_kind.sections[i].name(), i);
    }
  }

  // ---- Errors

  void report(const RawSection& section, const RawEntry* entry, std::string problem,
              std::string expected, bool secret = false) {
    ConfigError error;
    error.origin = entry == nullptr ? section.origin : entry->origin;
    error.where = source_.where(error.origin);
    error.section = section_label(section.kind, section.name);
    if (entry != nullptr) {
      error.key = entry->key;
      error.value = secret ? "***" : entry->value;
    }
    error.problem = std::move(problem);
    error.expected = std::move(expected);
    errors_.add(std::move(error));
  }

  void report_duplicate(const RawSection& section, Origin first) {
    report(section, nullptr, "this section is given twice", "first: " + source_.where(first));
  }

  void report_unknown_kind(const RawSection& section) {
    if (errors_.full()) return report(section, nullptr, {}, {});
    std::vector<std::string_view> known{kDefaults};
    for (const Kind& kind : kinds_) known.push_back(kind.layout->kind.kind);
    const std::string_view near = nearest_word(section.kind, known);
    report(section, nullptr, "unknown kind of section",
           near.empty() ? "expected: " + list_words(known) : did_you_mean(near));
  }

  void report_unknown_key(const Kind& kind, const RawSection& section, const RawEntry& entry) {
    // Looking for what was meant is the one slow step, and only worth it for what is printed.
    if (errors_.full()) return report(section, &entry, {}, {});
    std::vector<std::string_view> known{"include"};
    for (const Layout::Key& key : kind.layout->keys) known.push_back(key.directive->name);
    const std::string elsewhere = kinds_with(entry.key);
    const std::string_view near = nearest_word(entry.key, known);
    std::string hint;
    if (!elsewhere.empty()) {
      hint = fmt::format("{} a key of that name, {} has not", elsewhere, section.kind);
    } else if (!near.empty()) {
      hint = did_you_mean(near);
    }
    report(section, &entry, "unknown key", std::move(hint));
  }

  void report_unknown_default(const RawSection& section, const RawEntry& entry) {
    if (errors_.full()) return report(section, &entry, {}, {});
    std::vector<std::string_view> known{"include"};
    for (const Kind& kind : kinds_) {
      if (!kind.layout->kind.inherits()) continue;
      for (const Layout::Key& key : kind.layout->keys) {
        if (key.directive->inherited) known.push_back(key.directive->name);
      }
    }
    const std::string elsewhere = kinds_with(entry.key);
    const std::string_view near = nearest_word(entry.key, known);
    std::string problem = "unknown key";
    std::string hint;
    if (!elsewhere.empty()) {
      problem = "a key that cannot be inherited";
      hint = elsewhere + " it; each section has to give its own";
    } else if (!near.empty()) {
      hint = did_you_mean(near);
    }
    report(section, &entry, std::move(problem), std::move(hint));
  }

  // "listener has" or "listener and route have"; empty when no kind has the key.
  std::string kinds_with(const std::string& key) const {
    std::vector<std::string_view> have;
    for (const Kind& kind : kinds_) {
      if (kind.layout->by_name.contains(key)) have.push_back(kind.layout->kind.kind);
    }
    if (have.empty()) return {};
    if (have.size() == 1) return fmt::format("{} has", have[0]);
    std::string text;
    for (size_t i = 0; i < have.size(); ++i) {
      if (i > 0) text += i + 1 == have.size() ? " and " : ", ";
      text += have[i];
    }
    return text + " have";
  }

  const ConfigSource& source_;
  ConfigErrors& errors_;
  std::unique_ptr<Config::State> state_;
  std::vector<Kind> kinds_;
  uint32_t serial_ = 0;  // number of the section being bound, from 1
};

Config Config::bind(const ConfigSource& source, const Schema& schema, ConfigErrors& errors) {
  return ConfigBinder(source, schema, errors).run();
}

}  // namespace gatehouse
