// Binding: types, inheritance, origins, the text of -T, and every error with its wording.
#include "core/config.h"

#include <criterion/criterion.h>

#include <chrono>
#include <csignal>
#include <string>
#include <string_view>
#include <vector>

#include "core/process_conf.h"

namespace gatehouse {
namespace {

enum class Balance { kRoundRobin, kLeast };
constexpr EnumName<Balance> kBalanceNames[] = {{Balance::kRoundRobin, "round_robin"},
                                               {Balance::kLeast, "least"}};

}  // namespace

template <>
struct ValueType<Balance> : EnumValueType<Balance, kBalanceNames> {};

namespace {

struct CoreConf {
  std::string user = "nobody";
  bool daemon = false;
};
struct DoorConf {
  Duration header_timeout = std::chrono::seconds(10);
  Bytes head_max = 32_KiB;
  std::vector<std::string> address;
};
struct GroupConf {
  std::vector<std::string> target;
  Balance balance = Balance::kRoundRobin;
  Duration idle_timeout = std::chrono::seconds(60);
};
struct RouteConf {
  std::vector<std::string> host;
  std::vector<uint16_t> status = {200, 404};
  std::optional<Bytes> body_max;
  std::string upstream;
  Duration idle_timeout = std::chrono::seconds(30);
};
struct LimitConf {
  Rate rate{10};
  uint32_t burst = 5;
  std::string token;
};

Result<void> check_door(const DoorConf& conf) {
  if (conf.head_max.count == 1025) return Error{"an odd size of heads"};
  return {};
}
void check_limit(const LimitConf& conf, SectionErrors& errors) {
  if (conf.burst > conf.rate.count) errors.add("burst", "above the rate", "expected: at most it");
}

constexpr Directive kCoreDirectives[] = {
    directive<&CoreConf::user>("user", "Who runs it.", "gatehouse"),
    directive<&CoreConf::daemon>("daemon", "Background.", "off"),
};
constexpr Directive kDoorDirectives[] = {
    directive<&DoorConf::header_timeout>(
        "header_timeout", "Time for a head.", "10s",
        range(std::chrono::milliseconds(1), std::chrono::hours(1))),
    directive<&DoorConf::head_max>("head_max", "Size of a head.", "32k", range(1_KiB, 1_MiB)),
    directive<&DoorConf::address>("address", "Where.", "*:80", DirectiveFlag::kWords,
                                  DirectiveFlag::kNotInherited),
};
constexpr Directive kGroupDirectives[] = {
    directive<&GroupConf::target>("target", "A server.", "http://127.0.0.1:80",
                                  DirectiveFlag::kRequired),
    directive<&GroupConf::balance>("balance", "How to choose.", "least"),
    directive<&GroupConf::idle_timeout>("idle_timeout", "Idle time.", "1m"),
};
constexpr Directive kRouteDirectives[] = {
    directive<&RouteConf::host>("host", "Which host.", "example.com", DirectiveFlag::kWords,
                                expects("names of hosts")),
    directive<&RouteConf::status>("status", "Which status.", "200 404", range(100, 599)),
    directive<&RouteConf::body_max>("body_max", "Size of a body.", "8m", range(0_KiB, 64_MiB)),
    directive<&RouteConf::upstream>("upstream", "Where to.", "app"),
    directive<&RouteConf::idle_timeout>("idle_timeout", "Idle time.", "1m",
                                        range(std::chrono::seconds(1), std::chrono::hours(1))),
};
constexpr Directive kLimitDirectives[] = {
    directive<&LimitConf::rate>("rate", "How often.", "10/s"),
    directive<&LimitConf::burst>("burst", "How many at once.", "5", range(1, 1000)),
    directive<&LimitConf::token>("token", "A secret.", "xyz", DirectiveFlag::kSecret,
                                 DirectiveFlag::kNotInherited),
};
constexpr DirectiveTable kCoreTable = directive_table<CoreConf>("gatehouse", kCoreDirectives);
constexpr DirectiveTable kDoorTable =
    directive_table<DoorConf, check_door>("listener", kDoorDirectives);
constexpr DirectiveTable kGroupTable = directive_table<GroupConf>("upstream", kGroupDirectives);
constexpr DirectiveTable kRouteTable = directive_table<RouteConf>("route", kRouteDirectives);
constexpr DirectiveTable kLimitTable =
    directive_table<LimitConf, check_limit>("route", kLimitDirectives);

Schema make_schema() {
  Schema schema;
  schema.add_section("gatehouse", NameRule::kNone, "The whole.");
  schema.add_section("listener", NameRule::kOptional, "Doors.");
  schema.add_section("upstream", NameRule::kRequired);
  schema.add_section("route", NameRule::kRequired);
  schema.add_table(&kCoreTable);
  schema.add_table(&kDoorTable);
  schema.add_table(&kGroupTable);
  schema.add_table(&kRouteTable);
  schema.add_table(&kLimitTable);
  return schema;
}

// Binds `text`, which has to have exactly these errors.
Config bind(std::string text, std::string_view expected_errors = {}) {
  ConfigErrors errors;
  Config config =
      Config::bind(ConfigSource::from_text("f", std::move(text)), make_schema(), errors);
  const std::string got = errors.text();
  cr_assert(got == expected_errors, "got:\n%s\nexpected:\n%.*s", got.c_str(),
            static_cast<int>(expected_errors.size()), expected_errors.data());
  return config;
}

const RouteConf& route(const Config& config, std::string_view name) {
  return config.find("route", name)->get<RouteConf>(kRouteTable);
}
const LimitConf& limit(const Config& config, std::string_view name) {
  return config.find("route", name)->get<LimitConf>(kLimitTable);
}

Test(config, values_reach_their_members_and_defaults_stay) {
  const Config config = bind(
      "[gatehouse]\nuser = www\n"
      "[listener public]\nheader_timeout = 1m30s\naddress = a b\naddress = c\n"
      "[route app]\nhost = x.example\nbody_max = 8m\nupstream = u v\nburst = 7\n"
      "[upstream u]\ntarget = http://a one two\ntarget = http://b\nbalance = least\n");
  cr_assert(config.find("gatehouse", "")->get<CoreConf>(kCoreTable).user == "www");
  cr_assert_not(config.find("gatehouse", "")->get<CoreConf>(kCoreTable).daemon);
  const DoorConf& door = config.find("listener", "public")->get<DoorConf>(kDoorTable);
  cr_assert_eq(door.header_timeout.count(), 90'000);
  cr_assert_eq(door.head_max.count, 32768U);
  cr_assert((door.address == std::vector<std::string>{"a", "b", "c"}));
  cr_assert((route(config, "app").host == std::vector<std::string>{"x.example"}));
  cr_assert((route(config, "app").status == std::vector<uint16_t>{200, 404}));
  cr_assert_eq(route(config, "app").body_max->count, 8U << 20);
  cr_assert(route(config, "app").upstream == "u v");
  cr_assert_eq(limit(config, "app").burst, 7U);
  const GroupConf& group = config.find("upstream", "u")->get<GroupConf>(kGroupTable);
  cr_assert((group.target == std::vector<std::string>{"http://a one two", "http://b"}));
  cr_assert(group.balance == Balance::kLeast);
}

Test(config, sections_are_listed_in_order_and_found_by_name) {
  const Config config = bind("[route b]\n[route a]\n[listener]\n[listener x]\n");
  cr_assert_eq(config.sections("route").size(), 2U);
  cr_assert(config.sections("route")[0].name() == "b");
  cr_assert(config.sections("route")[1].label() == "[route a]");
  cr_assert(config.sections("listener")[0].label() == "[listener]");
  cr_assert_eq(config.find("listener", ""), &config.sections("listener")[0]);
  cr_assert_null(config.find("route", "c"));
  cr_assert_null(config.find("nonsense", ""));
  cr_assert(config.sections("nonsense").empty());
  cr_assert(config.sections("upstream").empty());
}

Test(config, a_kind_without_names_always_has_its_section) {
  const Config config = bind("");
  cr_assert_eq(config.sections("gatehouse").size(), 1U);
  cr_assert(config.sections("gatehouse")[0].origin().is_default());
  cr_assert(config.find("gatehouse", "")->get<CoreConf>(kCoreTable).user == "nobody");
}

Test(config, defaults_are_inherited_by_copy_wherever_they_stand) {
  const Config config = bind(
      "[route a]\n"
      "[route b]\nidle_timeout = 5s\nhost = own\nburst = 3\n"
      "[defaults]\nidle_timeout = 20s\nhost = one two\nhost = three\nrate = 99/s\nhead_max = 8k\n"
      "[upstream u]\ntarget = t\n"
      "[listener]\n");
  cr_assert_eq(route(config, "a").idle_timeout.count(), 20'000);
  cr_assert((route(config, "a").host == std::vector<std::string>{"one", "two", "three"}));
  cr_assert_eq(limit(config, "a").rate.count, 99U);
  cr_assert_eq(limit(config, "a").burst, 5U);
  cr_assert_eq(route(config, "b").idle_timeout.count(), 5'000);
  cr_assert((route(config, "b").host == std::vector<std::string>{"own"}));
  cr_assert_eq(limit(config, "b").rate.count, 99U);
  cr_assert_eq(limit(config, "b").burst, 3U);
  cr_assert_eq(config.find("upstream", "u")->get<GroupConf>(kGroupTable).idle_timeout.count(),
               20'000);
  cr_assert_eq(config.find("listener", "")->get<DoorConf>(kDoorTable).head_max.count, 8192U);
}

Test(config, structs_that_a_section_does_not_change_are_shared) {
  const Config config = bind("[route a]\nburst = 3\n[route b]\n[route c]\nhost = h\n");
  cr_assert_eq(&route(config, "a"), &route(config, "b"));
  cr_assert_neq(&route(config, "c"), &route(config, "b"));
  cr_assert_neq(&limit(config, "a"), &limit(config, "b"));
  cr_assert_eq(&limit(config, "c"), &limit(config, "b"));
}

Test(config, each_value_knows_its_line) {
  const Config config = bind(
      "[defaults]\nidle_timeout = 20s\nhost = d\n"
      "[route a]\nhost = one two\nupstream = u\nhost = three\n"
      "[route b]\n");
  const ConfigSection& a = *config.find("route", "a");
  const ConfigSection& b = *config.find("route", "b");
  cr_assert(a.where(a.origin()) == "f:4");
  cr_assert(a.where(a.origin_of(kRouteTable, "host", 0)) == "f:5");
  cr_assert(a.where(a.origin_of(kRouteTable, "host", 1)) == "f:5");
  cr_assert(a.where(a.origin_of(kRouteTable, "host", 2)) == "f:7");
  cr_assert(a.origin_of(kRouteTable, "host", 3).is_default());
  cr_assert(a.where(a.origin_of(kRouteTable, "upstream")) == "f:6");
  cr_assert(a.where(a.origin_of(kRouteTable, "idle_timeout")) == "f:2");
  cr_assert(a.where(a.origin_of(kRouteTable, "body_max")) == "default");
  cr_assert(b.where(b.origin_of(kRouteTable, "host")) == "f:3");
  cr_assert(a.is_set(kRouteTable, "host") && a.is_set(kRouteTable, "idle_timeout"));
  cr_assert_not(a.is_set(kRouteTable, "body_max"));
  cr_assert_not(a.is_set(kLimitTable, "burst"));
}

Test(config, a_config_survives_being_moved) {
  Config first = bind("[route a]\nhost = h\n[route b]\n");
  Config second = std::move(first);
  Config third = bind("");
  third = std::move(second);
  cr_assert(route(third, "a").host[0] == "h");
  cr_assert(third.find("route", "b")->label() == "[route b]");
  cr_assert(third.find("route", "a")->where({0, 2}) == "f:2");
}

Test(config, the_effective_text_names_every_origin) {
  const Config config = bind(
      "[defaults]\nidle_timeout = 20s\n"
      "[route app]\nhost = one two\nhost = three\nupstream = $${x} $y\ntoken = hush\n");
  const std::string expected =
      "[gatehouse]                                              # default\n"
      "user   = nobody                                          # default\n"
      "daemon = off                                             # default\n"
      "\n"
      "[route app]                                              # f:3\n"
      "host         = one                                       # f:4\n"
      "host         = two                                       # f:4\n"
      "host         = three                                     # f:5\n"
      "status       = 200                                       # default\n"
      "status       = 404                                       # default\n"
      "# body_max is not set                                    # default\n"
      "upstream     = $${x} $y                                  # f:6\n"
      "idle_timeout = 20s                                       # [defaults] f:2\n"
      "rate         = 10/1s                                     # default\n"
      "burst        = 5                                         # default\n"
      "token        = ***                                       # f:7\n";
  const std::string got = config.effective();
  cr_assert(got == expected, "got:\n%s", got.c_str());
}

Test(config, the_effective_text_is_a_configuration_that_means_the_same) {
  const Config config = bind(
      "[defaults]\nidle_timeout = 20s\nrate = 5/m\n[listener]\naddress = a b\n"
      "[route app]\nhost = one two\nupstream = $${x} ; $y \\ #\nbody_max = 1k\n[route two]\n");
  const std::string text = config.effective(false);
  cr_assert(bind(text).effective(false) == text, "%s", text.c_str());
}

// ---- Errors

Test(config, unknown_keys_get_the_best_hint) {
  bind(
      "[route app]\nupstram = x\nheader_timeout = 1s\nzebra = 1\nidle_timeot = 1s\ninclud = x\n"
      "[gatehouse]\nidle_timeout = 1s\nUser = x\n",
      "f:2: [route app] upstram = x: unknown key\n"
      "    did you mean \"upstream\"?\n"
      "f:3: [route app] header_timeout = 1s: unknown key\n"
      "    listener has a key of that name, route has not\n"
      "f:4: [route app] zebra = 1: unknown key\n"
      "f:5: [route app] idle_timeot = 1s: unknown key\n"
      "    did you mean \"idle_timeout\"?\n"
      "f:6: [route app] includ = x: unknown key\n"
      "    did you mean \"include\"?\n"
      "f:8: [gatehouse] idle_timeout = 1s: unknown key\n"
      "    upstream and route have a key of that name, gatehouse has not\n"
      "f:9: [gatehouse] User = x: unknown key\n"
      "    did you mean \"user\"?\n");
}

Test(config, unknown_kinds_and_wrong_names_of_sections) {
  bind("[rout app]\nk = v\n[zebra]\n[default]\n[gatehouse x]\n[route]\nhost = h\n[defaults x]\n",
       "f:1: [rout app]: unknown kind of section\n"
       "    did you mean \"route\"?\n"
       "f:3: [zebra]: unknown kind of section\n"
       "    expected: defaults, gatehouse, listener, upstream or route\n"
       "f:4: [default]: unknown kind of section\n"
       "    did you mean \"defaults\"?\n"
       "f:5: [gatehouse x]: this kind of section has no name\n"
       "    expected: [gatehouse]\n"
       "f:6: [route]: this kind of section needs a name\n"
       "    expected: [route NAME]\n"
       "f:8: [defaults x]: this kind of section has no name\n"
       "    expected: [defaults]\n");
}

Test(config, sections_and_scalars_given_twice_name_the_first) {
  bind(
      "[route a]\nupstream = x\nhost = a\nupstream = y\nhost = b\n[route b]\n[route a]\n"
      "[defaults]\nidle_timeout = 1s\nidle_timeout = 2s\n[defaults]\n[gatehouse]\n[gatehouse]\n",
      "f:4: [route a] upstream = y: given twice\n"
      "    first: f:2\n"
      "f:7: [route a]: this section is given twice\n"
      "    first: f:1\n"
      "f:10: [defaults] idle_timeout = 2s: given twice\n"
      "    first: f:9\n"
      "f:11: [defaults]: this section is given twice\n"
      "    first: f:8\n"
      "f:13: [gatehouse]: this section is given twice\n"
      "    first: f:12\n");
}

Test(config, values_of_the_wrong_kind_say_what_is_expected) {
  bind(
      "[route a]\nidle_timeout = 10\nstatus = 200 20 404\nbody_max = 65m\nhost =\nburst = 0\n"
      "[upstream u]\ntarget = t\nbalance = leest\n[listener]\nheader_timeout = 2h\n",
      "f:2: [route a] idle_timeout = 10: a time needs a unit\n"
      "    expected: a time with its unit: 500ms 10s 5m 1h30m 1d, from 1s to 1h\n"
      "f:3: [route a] status = 200 20 404: \"20\": too small\n"
      "    expected: a number, from 100 to 599\n"
      "f:4: [route a] body_max = 65m: too large\n"
      "    expected: a size in bytes, or with a unit: 512 64k 8m 1g, from 0 to 64m\n"
      "f:5: [route a] host: no value\n"
      "    expected: names of hosts\n"
      "f:6: [route a] burst = 0: too small\n"
      "    expected: a number, from 1 to 1000\n"
      "f:9: [upstream u] balance = leest: unknown word; did you mean \"least\"?\n"
      "    expected: round_robin or least\n"
      "f:11: [listener] header_timeout = 2h: too large\n"
      "    expected: a time with its unit: 500ms 10s 5m 1h30m 1d, from 1ms to 1h\n");
}

Test(config, required_keys_may_come_from_defaults) {
  bind("[upstream u]\nbalance = least\n",
       "f:1: [upstream u]: the key target is missing\n"
       "    expected: target = http://127.0.0.1:80\n");
  bind("[defaults]\ntarget = t\n[upstream u]\n");
  // What was written and refused is not missing too.
  bind("[upstream u]\ntarget =\n", "f:2: [upstream u] target: no value\n    expected: text\n");
}

Test(config, sections_know_that_something_is_wrong_with_them) {
  ConfigErrors errors;
  const Config config =
      Config::bind(ConfigSource::from_text(
                       "f", "[route a]\nzebra = 1\n[route b]\n[listener x]\nhead_max = 1025\n"),
                   make_schema(), errors);
  cr_assert(config.find("route", "a")->is_broken());
  cr_assert_not(config.find("route", "b")->is_broken());
  cr_assert(config.find("listener", "x")->is_broken(), "a check refused it");
}

Test(config, checks_run_on_sections_without_errors) {
  bind("[listener x]\nhead_max = 1025\n", "f:1: [listener x]: an odd size of heads\n");
  bind("[listener x]\nhead_max = 1025\nzebra = 1\n", "f:3: [listener x] zebra = 1: unknown key\n");
  bind("[defaults]\nburst = 11\n[route a]\n[route b]\nburst = 12\n[route c]\nrate = 20/s\n",
       "f:2: [route a] burst = 11: above the rate\n    expected: at most it\n"
       "f:5: [route b] burst = 12: above the rate\n    expected: at most it\n");
  // Set by nobody: told where it could be set.
  bind("[route a]\nrate = 4/s\n",
       "f:1: [route a] burst = 5: above the rate\n    expected: at most it\n");
}

Test(config, defaults_take_only_what_can_be_inherited) {
  bind("[defaults]\nuser = x\naddress = a\nheadmax = 1k\nidle_timeout = x\nzebra = 1\n",
       "f:2: [defaults] user = x: a key that cannot be inherited\n"
       "    gatehouse has it; each section has to give its own\n"
       "f:3: [defaults] address = a: a key that cannot be inherited\n"
       "    listener has it; each section has to give its own\n"
       "f:4: [defaults] headmax = 1k: unknown key\n"
       "    did you mean \"head_max\"?\n"
       "f:5: [defaults] idle_timeout = x: not a number\n"
       "    expected: a time with its unit: 500ms 10s 5m 1h30m 1d\n"
       "f:6: [defaults] zebra = 1: unknown key\n");
}

Test(config, secrets_are_not_shown) {
  bind("[route a]\ntoken = hush\ntoken = hush2\n",
       "f:3: [route a] token = ***: given twice\n    first: f:2\n");
}

Test(config, errors_stop_at_twenty_and_the_rest_is_counted) {
  std::string text = "[route a]\n";
  for (int i = 0; i < 25; ++i) text += "zebra = 1\n";
  ConfigErrors errors;
  Config::bind(ConfigSource::from_text("f", text), make_schema(), errors);
  cr_assert_eq(errors.count(), 25U);
  cr_assert_eq(errors.list().size(), kMaxConfigErrors);
  const std::string got = errors.text();
  cr_assert(got.ends_with("f:21: [route a] zebra = 1: unknown key\n… and 5 more errors\n"), "%s",
            got.c_str());
}

Test(config, quoted_values_are_cut_and_harmless) {
  ConfigErrors errors;
  errors.add({{0, 1}, "f:1", "[a]", "k", "a\x1b[2J\n" + std::string(110, 'x') + "ü☃☃", "bad", ""});
  const std::string got = errors.text();
  cr_assert(got == "f:1: [a] k = a\\x1B[2J\\x0A" + std::string(110, 'x') + "ü…: bad\n", "%s",
            got.c_str());
}

Test(config, sections_report_for_those_who_look_closer) {
  const Config config = bind("[route a]\nhost = one two\nhost = three\ntoken = hush\n");
  const ConfigSection& section = *config.find("route", "a");
  ConfigErrors errors;
  section.report(errors, kRouteTable, "host", "not a host", "expected: one", 2);
  section.report(errors, kRouteTable, "", "ties with [route b]");
  section.report(errors, kRouteTable, "upstream", "is missing");
  section.report(errors, kLimitTable, "token", "too weak");
  cr_assert(errors.text() ==
            "f:1: [route a]: ties with [route b]\n"
            "f:1: [route a] upstream: is missing\n"
            "f:3: [route a] host = three: not a host\n    expected: one\n"
            "f:4: [route a] token = ***: too weak\n");
}

// ---- Mistakes of the program

constexpr DirectiveTable kTwinTable = directive_table<LimitConf>("route", kLimitDirectives);
constexpr DirectiveTable kOrphanTable = directive_table<LimitConf>("orphan", kLimitDirectives);

Test(config, a_key_in_two_tables_aborts, .signal = SIGABRT) {
  Schema schema = make_schema();
  schema.add_table(&kTwinTable);
}
Test(config, a_table_of_no_kind_aborts, .signal = SIGABRT) {
  Schema schema = make_schema();
  schema.add_table(&kOrphanTable);
}
Test(config, a_kind_added_twice_aborts, .signal = SIGABRT) {
  Schema schema = make_schema();
  schema.add_section("route", NameRule::kNone);
}

// ---- Size

Test(config, ten_thousand_routes_bind_quickly) {
  std::string text = "[defaults]\nidle_timeout = 20s\n";
  for (int i = 0; i < 10'000; ++i) {
    const std::string number = std::to_string(i);
    text +=
        "[route r" + number + "]\nhost = h" + number + ".example.com\nupstream = u\nburst = 4\n";
  }
  const auto start = std::chrono::steady_clock::now();
  const Config config = bind(text);
  const auto took = std::chrono::steady_clock::now() - start;
  cr_assert_eq(config.sections("route").size(), 10'000U);
  cr_assert(route(config, "r9999").host[0] == "h9999.example.com");
  // Plain it takes well under a tenth of this; sanitizers and busy machines get the rest. A
  // quadratic step would take minutes.
  cr_assert(took < std::chrono::seconds(3));
}

// ---- The tables of processes and listeners

Test(config, process_sections) {
  Schema schema;
  add_process_sections(schema);
  ConfigErrors errors;
  const Config config = Config::bind(
      ConfigSource::from_text("f",
                              "[gatehouse]\nworkers = 2\nerror_log = /e.log warn\npid_file = none\n"
                              "[workers egress]\ncount = auto\nconnections_max = 10\n"
                              "[listener a]\naddress = 127.0.0.1:80 [::1]:80\npool = egress\n"
                              "address = unix:/run/a.sock\n"),
      schema, errors);
  cr_assert(errors.empty(), "%s", errors.text().c_str());
  const auto& gatehouse = config.find("gatehouse", "")->get<GatehouseConf>(kGatehouseTable);
  cr_assert_eq(gatehouse.workers.count.value(), 2U);
  cr_assert((gatehouse.error_log == ErrorLogTarget{"/e.log", LogLevel::kWarn}));
  cr_assert(gatehouse.pid_file.path.empty());
  cr_assert_eq(gatehouse.drain_timeout.count(), 30'000);
  const auto& workers = config.find("workers", "egress")->get<WorkersConf>(kWorkersTable);
  cr_assert_not(workers.count.count.has_value());
  cr_assert_eq(workers.connections_max, 10U);
  const auto& listener =
      config.find("listener", "a")->get<ListenerSocketConf>(kListenerSocketTable);
  cr_assert_eq(listener.address.size(), 3U);
  cr_assert(listener.address[1].format() == "[::1]:80");
  cr_assert(listener.pool == "egress");
}

Test(config, process_sections_check_their_values) {
  Schema schema;
  add_process_sections(schema);
  ConfigErrors errors;
  Config::bind(
      ConfigSource::from_text("f",
                              "[gatehouse]\nworkers = 513\n[workers x]\ncount = 513\n"
                              "[listener a]\naddress = 127.0.0.1:80 *:81\naddress = 127.0.0.1:80\n"
                              "[listener b]\naddress = *:0 *:0\n"),
      schema, errors);
  cr_assert(errors.text() ==
                "f:2: [gatehouse] workers = 513: too large\n"
                "    expected: auto, or a number from 1 to 512\n"
                "f:4: [workers x] count = 513: too large\n"
                "    expected: auto, or a number from 1 to 512\n"
                "f:7: [listener a] address = 127.0.0.1:80: given twice\n",
            "%s", errors.text().c_str());
}

}  // namespace
}  // namespace gatehouse
