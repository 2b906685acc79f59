// See certificate.h.
#include "cli/certificate.h"

#include <fmt/format.h>

#include <cstdio>
#include <utility>
#include <vector>

#include "cli/format.h"
#include "cli/gateway.h"
#include "core/clock.h"
#include "core/control_message.h"
#include "core/utc_text.h"

namespace gatehouse {
namespace {

using nlohmann::json;

// Longer than reload_timeout usually is.
constexpr Duration kReloadTimeout{120'000};
constexpr Duration kListTimeout{30'000};
// Server names that stand in a table; --json has all of them.
constexpr size_t kNamesShown = 3;
constexpr size_t kFingerprintShown = 16;

std::string names_text(const json& certificate) {
  const std::vector<std::string> names = control_texts(certificate, "names");
  if (names.empty()) return "-";
  std::string text;
  for (size_t i = 0; i < names.size() && i < kNamesShown; ++i) {
    if (i > 0) text += ' ';
    text += names[i];
  }
  if (names.size() > kNamesShown) text += fmt::format(" +{}", names.size() - kNamesShown);
  return text;
}

std::string left_text(int64_t not_after, int64_t now) {
  if (not_after <= now) return "expired";
  return format_age((not_after - now) * 1'000'000);
}

void print_reloaded(const json& answer) {
  for (const std::string& warning : control_texts(answer, "warnings")) {
    print_errors("warning: " + warning);
  }
  const std::vector<std::string> changed = control_texts(answer, "changed");
  std::printf("edition %llu of the certificates serves; ",
              static_cast<unsigned long long>(control_number(answer, "edition")));
  if (changed.empty()) {
    std::printf("none has changed\n");
    return;
  }
  std::printf("%zu %s changed\n", changed.size(), changed.size() == 1 ? "has" : "have");
  for (const std::string& name : changed) std::printf("  %s\n", name.c_str());
}

}  // namespace

std::string certificate_text(const json& answer, int64_t now) {
  std::vector<std::vector<std::string>> rows = {
      {"CERTIFICATE", "KIND", "EXPIRES", "IN", "OCSP", "SHA-256", "NAMES"}};
  for (const json& certificate : control_array(answer, "certificates")) {
    std::string name = control_text(certificate, "name");
    std::string names = names_text(certificate);
    for (const json& entry : control_array(certificate, "entries")) {
      const auto not_after = static_cast<int64_t>(control_number(entry, "not_after"));
      rows.push_back({std::exchange(name, ""), control_text(entry, "kind"), utc_text(not_after),
                      left_text(not_after, now), control_flag(entry, "ocsp") ? "yes" : "-",
                      control_text(entry, "fingerprint").substr(0, kFingerprintShown),
                      std::exchange(names, "")});
    }
  }
  if (rows.size() == 1) return "there is no certificate\n";
  return format_table(rows);
}

int run_certificate(const CommandLine& line) {
  json body = json::object();
  if (!line.names.empty()) body["name"] = line.names[0];
  const bool list = line.word == "list";
  return run_question(line, "certificate_" + line.word, std::move(body),
                      list ? kListTimeout : kReloadTimeout, [list](const json& answer) {
                        if (!list) return print_reloaded(answer);
                        const std::string text =
                            certificate_text(answer, wall_clock_us() / 1'000'000);
                        std::fputs(text.c_str(), stdout);
                      });
}

}  // namespace gatehouse
