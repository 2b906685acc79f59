// What the agent takes from a configuration, and the values of [agent] and of rotation.
#include "agent/agent_settings.h"

#include <criterion/criterion.h>

#include <string>

#include "core/config_source.h"
#include "core/process_conf.h"

namespace gatehouse {
namespace {

AgentSettings settings_of(const std::string& text) {
  Schema schema;
  add_process_sections(schema);
  schema.add_section("log", NameRule::kRequired);
  schema.add_table(&kLogTable);
  ConfigErrors errors;
  const Config config = Config::bind(ConfigSource::from_text("f.conf", text), schema, errors);
  cr_assert_eq(errors.text(), "");
  return agent_settings(config);
}

}  // namespace

Test(agent_settings, without_a_word_there_are_defaults) {
  const AgentSettings settings = settings_of("");
  cr_assert_eq(settings.state, "/var/lib/gatehouse-agent");
  cr_assert_eq(settings.history_keep, 500);
  cr_assert_eq(settings.history_size.count, 256u << 20);
  cr_assert(settings.listen.is_none());
  cr_assert(settings.rotations.empty());
  cr_assert_eq(settings.error_log, "");
}

Test(agent_settings, rules_come_from_logs_and_from_the_error_log) {
  const AgentSettings settings = settings_of(
      "[gatehouse]\nerror_log = /l/error.log info\nerror_log_rotate = size 1m\n"
      "[log a]\nfile = /l/a.log\nrotate = age 1d, keep 3\n"
      "[log b]\nfile = /l/b.log\n"
      "[log c]\nfile = stdout\n");
  cr_assert_eq(settings.rotations.size(), 2);
  cr_assert_eq(settings.rotations[0].path, "/l/error.log");
  cr_assert_eq(settings.rotations[1].path, "/l/a.log");
  cr_assert_eq(settings.rotations[1].rotation.keep, 3);
  cr_assert(settings.rotations[1].rotation.compress);
  cr_assert_eq(settings.error_log, "/l/error.log");
  cr_assert(settings.error_log_level == LogLevel::kInfo);
  cr_assert(settings.warnings.empty());
}

Test(agent_settings, of_two_rules_for_one_file_the_first_counts) {
  const AgentSettings settings = settings_of(
      "[log a]\nfile = /l/a.log\n"
      "[log b]\nfile = /l/a.log\nrotate = size 1m\n"
      "[log c]\nfile = /l/a.log\nrotate = size 1m\n"
      "[log d]\nfile = /l/a.log\nrotate = size 2m\n");
  cr_assert_eq(settings.rotations.size(), 1);
  cr_assert_eq(settings.rotations[0].rotation.size.count, 1u << 20);
  cr_assert_eq(settings.warnings.size(), 1);
  cr_assert(settings.warnings[0].find("/l/a.log has two rules") != std::string::npos);
}

Test(agent_settings, a_rotation_is_read_as_it_is_shown) {
  for (const char* text : {"none", "size 1k, compress on", "age 1d, compress off",
                           "size 100m, age 1d, keep 14, keep_age 30d, compress on"}) {
    const Result<LogRotation> rotation = ValueType<LogRotation>::parse(text);
    cr_assert(rotation.ok(), "%s", text);
    cr_assert_eq(ValueType<LogRotation>::format(*rotation), text);
  }
  const Result<LogRotation> spaced = ValueType<LogRotation>::parse("  keep  3 ,size 1m ");
  cr_assert(spaced.ok() && spaced->keep == 3 && spaced->size == 1_MiB);
  for (const char* text : {"", ",", "size", "size 1m,", "size 1m age 1d", "keep 3",
                           "size 1m, keep 0", "size 1m, keep 100001", "age 1ms", "size 0",
                           "size 1m, compress maybe", "none, size 1m", "size 1m, size 1m"}) {
    cr_assert(!ValueType<LogRotation>::parse(text).ok(), "%s", text);
  }
}

Test(agent_settings, only_loopback_addresses_need_no_word) {
  for (const char* text : {"none", "127.0.0.1:9180", "127.8.9.1:1", "[::1]:9180",
                           "0.0.0.0:9180 exposed", "[::]:1 exposed", "127.0.0.1:1 exposed"}) {
    const Result<AgentListen> listen = ValueType<AgentListen>::parse(text);
    cr_assert(listen.ok(), "%s", text);
    cr_assert_eq(ValueType<AgentListen>::format(*listen), text);
  }
  for (const char* text :
       {"0.0.0.0:9180", "[::]:9180", "*:80", "10.0.0.1:80", "[::2]:80", "[fe80::1]:80", "[1::1]:80",
        "unix:/run/x", "127.0.0.1", "127.0.0.1:1 open", "127.0.0.1:1 exposed too", "none exposed",
        "[::ffff:10.0.0.1]:80"}) {
    cr_assert(!ValueType<AgentListen>::parse(text).ok(), "%s", text);
  }
}

}  // namespace gatehouse
