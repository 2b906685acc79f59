// Versions, suites and groups of a TLS context; see tls_profile.h.
#include "core/tls_profile.h"

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <string_view>

#include "core/tls_layer.h"

namespace gatehouse {

namespace {

constexpr EnumName<TlsProfile> kProfileNames[] = {
    {TlsProfile::kStrict, "strict"},
    {TlsProfile::kModern, "modern"},
    {TlsProfile::kIntermediate, "intermediate"},
    {TlsProfile::kCustom, "custom"},
};
constexpr EnumName<TlsVersion> kVersionNames[] = {
    {TlsVersion::k12, "1.2"},
    {TlsVersion::k13, "1.3"},
};
using ProfileValue = EnumValueType<TlsProfile, kProfileNames>;
using VersionValue = EnumValueType<TlsVersion, kVersionNames>;

// 128 bits are what the curves below give too; who wants 256 can have it, by asking first.
constexpr char kSuites13[] =
    "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
constexpr char kSuites12[] =
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";
constexpr char kSuitesDhe[] =
    ":DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384:DHE-RSA-CHACHA20-POLY1305";
constexpr char kGroups[] = "X25519:P-256:P-384";

std::string join(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) {
    if (!text.empty()) text += ':';
    text += word;
  }
  return text;
}

// Only names: what OpenSSL calls a cipher string (HIGH, !aNULL, @SECLEVEL) means another list with
// each of its versions.
bool is_suite(SSL_CTX* context, const std::string& name, bool tls13) {
  const auto plain = [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
  };
  if (name.find_first_of("-_") == std::string::npos || name[0] == '-') return false;
  if (!std::all_of(name.begin(), name.end(), plain)) return false;
  const bool known = (tls13 ? SSL_CTX_set_ciphersuites(context, name.c_str())
                            : SSL_CTX_set_cipher_list(context, name.c_str())) == 1;
  ERR_clear_error();
  return known;
}

bool is_group(SSL_CTX* context, const std::string& name) {
  const bool known =
      name.find(':') == std::string::npos && SSL_CTX_set1_groups_list(context, name.c_str()) == 1;
  ERR_clear_error();
  return known;
}

void check_profile(const TlsProfileConf& conf, SectionErrors& errors) {
  const bool custom = conf.profile == TlsProfile::kCustom;
  const auto check_unused = [&](std::string_view key, bool empty) {
    if (!custom && !empty) {
      errors.add(key, "this needs tls_profile = custom", "expected: tls_profile = custom");
    }
  };
  check_unused("tls_versions", conf.versions.empty());
  check_unused("tls_ciphers", conf.ciphers.empty());
  check_unused("tls_ciphersuites", conf.ciphersuites.empty());
  check_unused("tls_groups", conf.groups.empty());
  if (!custom) return;
  const TlsContext context(SSL_CTX_new(TLS_method()));
  if (context == nullptr) return;
  for (size_t i = 0; i < conf.ciphers.size(); ++i) {
    if (is_suite(context.get(), conf.ciphers[i], false)) continue;
    errors.add("tls_ciphers", "\"" + conf.ciphers[i] + "\" is no cipher suite of TLS 1.2",
               "expected: OpenSSL's names, such as ECDHE-ECDSA-AES128-GCM-SHA256", i);
  }
  for (size_t i = 0; i < conf.ciphersuites.size(); ++i) {
    if (is_suite(context.get(), conf.ciphersuites[i], true)) continue;
    errors.add("tls_ciphersuites", "\"" + conf.ciphersuites[i] + "\" is no cipher suite of TLS 1.3",
               "expected: names such as TLS_AES_128_GCM_SHA256", i);
  }
  for (size_t i = 0; i < conf.groups.size(); ++i) {
    if (is_group(context.get(), conf.groups[i])) continue;
    errors.add("tls_groups", "\"" + conf.groups[i] + "\" is no group that OpenSSL knows",
               "expected: names such as X25519, P-256 or P-384", i);
  }
}

constexpr Directive kDirectives[] = {
    directive<&TlsProfileConf::profile>(
        "tls_profile",
        "What TLS may speak: strict is TLS 1.2 and 1.3 with forward secrecy and authenticated "
        "encryption; modern is TLS 1.3 alone; intermediate is strict, and DHE for old peers; "
        "custom is what the other keys say.",
        "modern"),
    directive<&TlsProfileConf::versions>(
        "tls_versions", "The versions, with tls_profile = custom; otherwise 1.2 and 1.3.", "1.3"),
    directive<&TlsProfileConf::ciphers>(
        "tls_ciphers",
        "The cipher suites of TLS 1.2 by OpenSSL's names, best first, with tls_profile = custom; "
        "otherwise those of strict.",
        "ECDHE-ECDSA-AES128-GCM-SHA256 ECDHE-RSA-AES128-GCM-SHA256", DirectiveFlag::kWords,
        expects("names of cipher suites")),
    directive<&TlsProfileConf::ciphersuites>(
        "tls_ciphersuites",
        "The cipher suites of TLS 1.3, best first, with tls_profile = custom; otherwise those of "
        "strict.",
        "TLS_AES_256_GCM_SHA384 TLS_CHACHA20_POLY1305_SHA256", DirectiveFlag::kWords,
        expects("names of cipher suites")),
    directive<&TlsProfileConf::groups>(
        "tls_groups",
        "The groups for the exchange of keys, best first, with tls_profile = custom; otherwise "
        "X25519, P-256 and P-384.",
        "X25519 P-256", DirectiveFlag::kWords, expects("names of groups")),
};

}  // namespace

constexpr DirectiveTable kListenerTlsProfileTable =
    directive_table<TlsProfileConf, check_profile>("listener", kDirectives);
constexpr DirectiveTable kUpstreamTlsProfileTable =
    directive_table<TlsProfileConf, check_profile>("upstream", kDirectives);

Result<TlsProfile> ValueType<TlsProfile>::parse(std::string_view text) {
  return ProfileValue::parse(text);
}
std::string ValueType<TlsProfile>::format(const TlsProfile& value) {
  return ProfileValue::format(value);
}
std::string ValueType<TlsProfile>::expected() {
  return ProfileValue::expected();
}
Result<TlsVersion> ValueType<TlsVersion>::parse(std::string_view text) {
  return VersionValue::parse(text);
}
std::string ValueType<TlsVersion>::format(const TlsVersion& value) {
  return VersionValue::format(value);
}
std::string ValueType<TlsVersion>::expected() {
  return VersionValue::expected();
}

void FreeTlsContext::operator()(SSL_CTX* context) const {
  SSL_CTX_free(context);
}

Error tls_error(std::string what) {
  const unsigned long last = ERR_peek_last_error();
  const char* reason = last != 0 ? ERR_reason_error_string(last) : nullptr;
  what += ": ";
  what += reason != nullptr ? reason : "OpenSSL does not say why";
  ERR_clear_error();
  return Error{std::move(what)};
}

Result<TlsContext> make_tls_context(TlsRole role, const TlsProfileConf& conf) {
  ERR_clear_error();
  TlsContext made(
      SSL_CTX_new(role == TlsRole::kServer ? TLS_server_method() : TLS_client_method()));
  SSL_CTX* context = made.get();
  if (context == nullptr) return tls_error("cannot make a TLS context");
  TlsLayer::prepare_context(context);
  SSL_CTX_set_options(context, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);

  int oldest = conf.profile == TlsProfile::kModern ? TLS1_3_VERSION : TLS1_2_VERSION;
  int newest = TLS1_3_VERSION;
  if (!conf.versions.empty()) {
    const auto has = [&](TlsVersion version) {
      return std::find(conf.versions.begin(), conf.versions.end(), version) != conf.versions.end();
    };
    oldest = has(TlsVersion::k12) ? TLS1_2_VERSION : TLS1_3_VERSION;
    newest = has(TlsVersion::k13) ? TLS1_3_VERSION : TLS1_2_VERSION;
  }
  std::string ciphers = conf.ciphers.empty() ? kSuites12 : join(conf.ciphers);
  if (conf.profile == TlsProfile::kIntermediate) ciphers += kSuitesDhe;
  const std::string suites = conf.ciphersuites.empty() ? kSuites13 : join(conf.ciphersuites);
  const std::string groups = conf.groups.empty() ? kGroups : join(conf.groups);
  if (SSL_CTX_set_min_proto_version(context, oldest) != 1 ||
      SSL_CTX_set_max_proto_version(context, newest) != 1) {
    return tls_error("cannot set the versions of TLS");
  }
  if (SSL_CTX_set_cipher_list(context, ciphers.c_str()) != 1 ||
      SSL_CTX_set_ciphersuites(context, suites.c_str()) != 1) {
    return tls_error("cannot set the cipher suites");
  }
  if (SSL_CTX_set1_groups_list(context, groups.c_str()) != 1) {
    return tls_error("cannot set the groups");
  }
  SSL_CTX_set_dh_auto(context, 1);
  return made;
}

}  // namespace gatehouse
