// The inside of Config, shared by the files that build it (config_bind.cc) and read it (config.cc).
// Nobody else includes this.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/config.h"

namespace gatehouse {

// Owns one struct of a table.
struct DestroyConf {
  const DirectiveTable* table;
  void operator()(void* conf) const { table->destroy(conf); }
};
using ConfPointer = std::unique_ptr<void, DestroyConf>;

// The layout of a kind of section: its tables and, numbered through all of them, its keys.
struct ConfigSection::Layout {
  struct Key {
    uint32_t table;
    const Directive* directive;
  };

  Schema::Kind kind;
  std::vector<Key> keys;
  std::unordered_map<std::string_view, uint32_t> by_name;
  std::vector<uint32_t> first_key;             // of each table, an index into keys
  const std::vector<std::string>* file_paths;  // of the Config

  // REQUIRES: the table is one of the kind's.
  uint32_t table_index(const DirectiveTable& table) const;
  // REQUIRES: the table is one of the kind's, and has the key.
  uint32_t key_index(const DirectiveTable& table, std::string_view key) const;
};

struct Config::State {
  using Layout = ConfigSection::Layout;

  struct SectionsOfKind {
    std::unique_ptr<Layout> layout;  // behind a pointer because sections refer to it
    std::vector<ConfigSection> sections;
    ConfigSection defaults;  // what a section starts from: built-in values, then [defaults]
    std::unordered_map<std::string_view, uint32_t> by_name;  // views into the sections
  };

  std::vector<std::string> file_paths;
  std::vector<SectionsOfKind> kinds;
  std::unordered_map<std::string_view, uint32_t> by_kind;  // views into the layouts
  std::vector<ConfPointer> confs;                          // what the sections point to
};

// "FILE:LINE", or "default".
std::string format_origin(const std::vector<std::string>& file_paths, Origin origin);

// "[kind name]" or "[kind]".
std::string section_label(std::string_view kind, std::string_view name);

}  // namespace gatehouse
