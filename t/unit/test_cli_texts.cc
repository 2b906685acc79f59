// What status and the history look like to people.
#include <criterion/criterion.h>
#include <stdlib.h>
#include <time.h>

#include <nlohmann/json.hpp>
#include <string>

#include "cli/breaker.h"
#include "cli/certificate.h"
#include "cli/format.h"
#include "cli/history.h"
#include "cli/status.h"

namespace {

using namespace gatehouse;
using nlohmann::json;

constexpr int64_t kSecond = 1'000'000;
constexpr int64_t kNow = 1'795'000'000 * kSecond;

void set_up() {
  setenv("TZ", "UTC", 1);
  tzset();
}

void expect(const std::string& text, const std::string& wanted) {
  cr_assert(text == wanted, "got:\n%s\nexpected:\n%s", text.c_str(), wanted.c_str());
}

}  // namespace

TestSuite(cli_texts, .init = set_up);

Test(cli_texts, ages_have_two_units) {
  const auto age = [](int64_t us) { return format_age(us); };
  expect(age(-5), "0 ms");
  expect(age(999'999), "999 ms");
  expect(age(kSecond), "1 s");
  expect(age(59 * kSecond), "59 s");
  expect(age(310 * kSecond), "5 m 10 s");
  expect(age(7980 * kSecond), "2 h 13 m");
  expect(age(100 * 3600 * kSecond), "4 d 4 h");
  expect(format_time(kNow), "2026-11-18 11:06:40");
}

Test(cli_texts, tables_are_set_by_width_and_kind) {
  expect(format_table({{"name", "n", "x"}, {"é", "10", "a"}, {"long name", "9", ""}}, "  "),
         "  name        n  x\n"
         "  é          10  a\n"
         "  long name   9\n");
}

Test(cli_texts, texts_cannot_steer_the_terminal) {
  expect(indented("a\x1b[2J\r\nb", "  "), "  a?[2J?\n  b\n");
  expect(indented("", "  "), "");
}

Test(cli_texts, status_tells_what_runs) {
  const json status = {
      {"version", "1.2"},
      {"pid", 100},
      {"started_us", kNow - 100 * 3600 * kSecond},
      {"config", "/etc/x.conf"},
      {"generation", 7},
      {"generation_us", kNow - 7980 * kSecond},
      {"state", "running"},
      {"reload",
       {{"state", "preparing"},
        {"last",
         {{"time_us", kNow - 60 * kSecond},
          {"ok", false},
          {"by", "signal"},
          {"generation", 7},
          {"error", "x.conf:3: [a] b: unknown key\n    did you mean \"c\"?\n"}}}}},
      {"workers",
       {{{"pool", "default"},
         {"index", 0},
         {"pid", 101},
         {"state", "ready"},
         {"generation", 7},
         {"generations_held", 2},
         {"connections", 12},
         {"requests", 34567},
         {"requests_active", 3}},
        {{"pool", "default"},
         {"index", 1},
         {"pid", 102},
         {"state", "draining"},
         {"generation", 6},
         {"connections", 1},
         {"requests", 5},
         {"requests_active", 0}},
        {{"pool", "egress"}, {"index", 0}, {"state", "waiting"}}}},
      {"agent", {{"state", "ready"}, {"pid", 103}, {"beat_us", kNow - kSecond / 2}}},
      {"upgrade", {{"state", "starting"}, {"pid", 200}}}};
  expect(status_text(status, kNow),
         "gatehouse 1.2, running, process 100, since 2026-11-14 07:06:40 (4 d 4 h)\n"
         "  configuration   /etc/x.conf\n"
         "  generation      7, serving since 2026-11-18 08:53:40 (2 h 13 m)\n"
         "  reload          preparing\n"
         "  last reload     refused 1 m 0 s ago, by signal\n"
         "      x.conf:3: [a] b: unknown key\n"
         "          did you mean \"c\"?\n"
         "  agent           ready, process 103, heard 500 ms ago\n"
         "  upgrade         starting, process 200\n"
         "  still draining  1 worker with 1 connection\n"
         "\n"
         "  worker     process  state     generation  older ones  connections  requests  "
         "under way\n"
         "  default/0      101  ready              7           1           12     34567          "
         "3\n"
         "  default/1      102  draining           6           0            1         5          "
         "0\n"
         "  egress/0            waiting            0           0            0         0          "
         "0\n");
}

Test(cli_texts, a_status_of_another_kind_is_no_disaster) {
  expect(status_text(json::object(), kNow), "gatehouse\n");
  expect(status_text(json(5), kNow), "gatehouse\n");
  const json odd = {{"pid", "x"},
                    {"workers", {1, "a", json::array()}},
                    {"reload", 7},
                    {"generation", -1},
                    {"agent", {{"state", 5}}}};
  cr_assert(status_text(odd, kNow).starts_with("gatehouse\n"));
}

Test(cli_texts, versions_are_a_table) {
  const json versions = {{{"number", 12},
                          {"generation", 4},
                          {"time_us", kNow},
                          {"outcome", "applied"},
                          {"by", "signal"},
                          {"hash", "0123456789abcdef"},
                          {"running", true},
                          {"error", ""}},
                         {{"number", 9},
                          {"generation", 3},
                          {"time_us", kNow - kSecond},
                          {"outcome", "refused"},
                          {"by", "uid 0"},
                          {"hash", "ff"},
                          {"error", "x:1: wrong\nmore"}}};
  expect(versions_text(versions),
         "version  generation  time                 outcome           by      hash          error\n"
         "     12           4  2026-11-18 11:06:40  applied, serving  signal  0123456789ab\n"
         "      9           3  2026-11-18 11:06:39  refused           uid 0   ff            "
         "x:1: wrong\n");
  expect(versions_text(json::array()), "no configuration has been kept\n");
}

Test(cli_texts, breakers_are_a_table) {
  expect(breaker_text(json::object()), "there is no breaker\n");
  const json answer = {{"breakers",
                        {{{"upstream", "users"}, {"state", "closed"}, {"opened_total", 0}},
                         {{"upstream", "users"},
                          {"target", "10.0.0.1:80"},
                          {"state", "open"},
                          {"cause", "failures in a row"},
                          {"opened_total", 2},
                          {"changed_ms_ago", 3000},
                          {"open_ms", 57'000}},
                         {{"upstream", "users"},
                          {"target", "10.0.0.2:80"},
                          {"state", "open"},
                          {"cause", "by command"},
                          {"changed_ms_ago", 61'000}}}}};
  expect(breaker_text(answer),
         "UPSTREAM  TARGET       STATE   SINCE    STILL OPEN    OPENED  FAILURES  PROBES  CAUSE\n"
         "users     (all)        closed  -        -                  0         0       0\n"
         "users     10.0.0.1:80  open    3 s      57 s               2         0       0  failures "
         "in a row\n"
         "users     10.0.0.2:80  open    1 m 1 s  until closed       0         0       0  by "
         "command\n");
}

Test(cli_texts, certificates_and_what_is_left_of_them) {
  const int64_t now = kNow / kSecond;
  const json answer = {
      {"edition", 3},
      {"certificates",
       {{{"name", "main"},
         {"names", {"a.test", "b.test", "c.test", "d.test", "e.test"}},
         {"entries",
          {{{"kind", "ecdsa"},
            {"not_after", now + 86400 * 30 + 7200},
            {"fingerprint", std::string(64, 'a')},
            {"ocsp", true}},
           {{"kind", "rsa"},
            {"not_after", now - 1},
            {"fingerprint", std::string(64, 'b')},
            {"ocsp", false}}}}},
        {{"name", "client"}, {"names", json::array()}, {"entries", {{{"kind", "ed25519"}}}}}}}};
  expect(certificate_text(answer, now),
         "CERTIFICATE  KIND     EXPIRES                  IN        OCSP  SHA-256           NAMES\n"
         "main         ecdsa    2026-12-18 13:06:40 UTC  30 d 2 h  yes   aaaaaaaaaaaaaaaa  a.test "
         "b.test c.test +2\n"
         "             rsa      2026-11-18 11:06:39 UTC  expired   -     bbbbbbbbbbbbbbbb\n"
         "client       ed25519  1970-01-01 00:00:00 UTC  expired   -                       -\n");
  expect(certificate_text(json::object(), now), "there is no certificate\n");
}
