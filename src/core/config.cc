// Schema, and what can be asked of a bound Config.

#include "core/config.h"

#include <algorithm>
#include <cstdlib>

#include "core/config_state.h"
#include "core/format.h"

namespace gatehouse {

namespace {

// The column at which -T writes where a value comes from.
constexpr size_t kOriginColumn = 56;

// The kinds that take part in [defaults].
constexpr std::string_view kInheritingKinds[] = {"listener", "upstream", "route"};

[[noreturn]] void wrong_schema(std::string_view what, std::string_view kind, std::string_view key) {
  fmt::print(stderr, "gatehouse: {}: [{}] {}\n", what, kind, key);
  std::abort();
}

// A "${" is written so that the reader leaves it alone.
std::string escape_value(std::string_view value) {
  std::string escaped;
  for (size_t i = 0; i < value.size(); ++i) {
    if (value[i] == '$' && i + 1 < value.size() && value[i + 1] == '{') escaped += '$';
    escaped += value[i];
  }
  return escaped;
}

}  // namespace

std::string format_origin(const std::vector<std::string>& file_paths, Origin origin) {
  if (origin.is_default()) return "default";
  return file_paths[origin.file] + ":" + std::to_string(origin.line);
}

std::string section_label(std::string_view kind, std::string_view name) {
  return fmt::format("[{}{}{}]", kind, name.empty() ? "" : " ", name);
}

// ---- Schema

bool Schema::Kind::inherits() const {
  return std::find(std::begin(kInheritingKinds), std::end(kInheritingKinds), kind) !=
         std::end(kInheritingKinds);
}

void Schema::add_section(std::string_view kind, NameRule rule, std::string_view help) {
  if (kind == "defaults") wrong_schema("a kind of section that is built in", kind, {});
  for (const Kind& other : kinds_) {
    if (other.kind == kind) wrong_schema("a kind of section is added twice", kind, {});
  }
  kinds_.push_back({std::string(kind), rule, std::string(help), {}});
}

void Schema::add_table(const DirectiveTable* table) {
  const auto kind = std::find_if(kinds_.begin(), kinds_.end(), [table](const Kind& candidate) {
    return candidate.kind == table->kind;
  });
  if (kind == kinds_.end()) wrong_schema("a table of an unknown kind of section", table->kind, {});
  for (const DirectiveTable* other : kind->tables) {
    for (const Directive& theirs : other->directives) {
      for (const Directive& ours : table->directives) {
        if (ours.name == theirs.name) wrong_schema("a key in two tables", kind->kind, ours.name);
      }
    }
  }
  kind->tables.push_back(table);
}

// ---- ConfigSection

uint32_t ConfigSection::Layout::table_index(const DirectiveTable& table) const {
  const auto found = std::find(kind.tables.begin(), kind.tables.end(), &table);
  assert(found != kind.tables.end());
  return static_cast<uint32_t>(found - kind.tables.begin());
}

uint32_t ConfigSection::Layout::key_index(const DirectiveTable& table, std::string_view key) const {
  const auto found = by_name.find(key);
  assert(found != by_name.end() && keys[found->second].table == table_index(table));
  (void)table;
  return found->second;
}

std::string_view ConfigSection::kind() const {
  return layout_->kind.kind;
}

std::string ConfigSection::label() const {
  return section_label(kind(), name_);
}

const void* ConfigSection::conf(const DirectiveTable& table) const {
  return confs_[layout_->table_index(table)];
}

std::span<const ConfigSection::Setting> ConfigSection::settings_of(uint32_t key) const {
  const auto less = [](const Setting& setting, uint32_t wanted) { return setting.key < wanted; };
  const auto first = std::lower_bound(settings_.begin(), settings_.end(), key, less);
  auto last = first;
  while (last != settings_.end() && last->key == key) ++last;
  return {first, last};
}

const ConfigSection::Setting* ConfigSection::setting_of(uint32_t key, size_t entry) const {
  for (const Setting& setting : settings_of(key)) {
    if (entry < setting.count) return &setting;
    entry -= setting.count;
  }
  return nullptr;
}

bool ConfigSection::is_set(const DirectiveTable& table, std::string_view key) const {
  return !settings_of(layout_->key_index(table, key)).empty();
}

Origin ConfigSection::origin_of(const DirectiveTable& table, std::string_view key,
                                size_t entry) const {
  const Setting* setting = setting_of(layout_->key_index(table, key), entry);
  return setting == nullptr ? Origin{} : setting->origin;
}

std::string ConfigSection::where(Origin origin) const {
  return format_origin(*layout_->file_paths, origin);
}

void ConfigSection::report(ConfigErrors& errors, const DirectiveTable& table, std::string_view key,
                           std::string problem, std::string expected, size_t entry) const {
  ConfigError error;
  error.origin = origin_;
  error.section = label();
  error.problem = std::move(problem);
  error.expected = std::move(expected);
  if (!key.empty()) {
    const uint32_t number = layout_->key_index(table, key);
    const Directive& directive = *layout_->keys[number].directive;
    const std::vector<std::string> values = directive.show(conf(table));
    error.key = key;
    if (entry < values.size()) error.value = directive.secret ? "***" : values[entry];
    // A key that nobody wrote is reported at the section, where it would have to be written.
    const Setting* setting = setting_of(number, entry);
    if (setting != nullptr) error.origin = setting->origin;
  }
  error.where = where(error.origin);
  errors.add(std::move(error));
}

// ---- Config

Config::Config(std::unique_ptr<State> state) : state_(std::move(state)) {}
Config::Config(Config&&) noexcept = default;
Config& Config::operator=(Config&&) noexcept = default;
Config::~Config() = default;

std::span<const ConfigSection> Config::sections(std::string_view kind) const {
  const auto found = state_->by_kind.find(kind);
  if (found == state_->by_kind.end()) return {};
  return state_->kinds[found->second].sections;
}

const ConfigSection& Config::defaults(std::string_view kind) const {
  const auto found = state_->by_kind.find(kind);
  assert(found != state_->by_kind.end());
  return state_->kinds[found->second].defaults;
}

const ConfigSection* Config::find(std::string_view kind, std::string_view name) const {
  const auto found = state_->by_kind.find(kind);
  if (found == state_->by_kind.end()) return nullptr;
  const State::SectionsOfKind& of_kind = state_->kinds[found->second];
  const auto section = of_kind.by_name.find(name);
  return section == of_kind.by_name.end() ? nullptr : &of_kind.sections[section->second];
}

std::string Config::where(Origin origin) const {
  return format_origin(state_->file_paths, origin);
}

std::string Config::effective(bool with_origins) const {
  std::string text;
  const auto line = [&](const std::string& content, const std::string& origin) {
    if (with_origins) {
      fmt::format_to(std::back_inserter(text), "{:<{}} # {}\n", content, kOriginColumn, origin);
    } else {
      text += content + "\n";
    }
  };
  for (const State::SectionsOfKind& of_kind : state_->kinds) {
    size_t width = 0;
    for (const auto& key : of_kind.layout->keys)
      width = std::max(width, key.directive->name.size());
    for (const ConfigSection& section : of_kind.sections) {
      if (!text.empty()) text += '\n';
      line(section.label(), where(section.origin()));
      for (uint32_t key = 0; key < of_kind.layout->keys.size(); ++key) {
        const auto [table, directive] = of_kind.layout->keys[key];
        const std::vector<std::string> values = directive->show(section.confs_[table]);
        if (values.empty() || (values.size() == 1 && values[0].empty())) {
          line(fmt::format("# {} is not set", directive->name), "default");
          continue;
        }
        for (size_t entry = 0; entry < values.size(); ++entry) {
          const ConfigSection::Setting* setting = section.setting_of(key, entry);
          std::string origin = "default";
          if (setting != nullptr) {
            origin = (setting->inherited ? "[defaults] " : "") + where(setting->origin);
          }
          line(fmt::format("{:<{}} = {}", directive->name, width,
                           directive->secret ? "***" : escape_value(values[entry])),
               origin);
        }
      }
    }
  }
  return text;
}

}  // namespace gatehouse
