// Server names as clients send them: whatever the bytes are, what is found has the name, or a
// wildcard that covers its first label; and a bundle of hostile bytes is refused or read within its
// bounds.
#include <cctype>
#include <memory>
#include <optional>
#include <string>

#include "core/certificate_bundle.h"
#include "core/sealed_bytes.h"
#include "support.h"

using namespace gatehouse;  // NOLINT: a program of its own

namespace {

using SetPtr = std::shared_ptr<const CertificateSet>;

SetPtr known_set() {
  CertificateBundleWriter writer;
  const char* const names[][2] = {{"example.com", "*.example.com"},
                                  {"a.example.com", "localhost"},
                                  {"*.a.example.com", "xn--a.test"},
                                  {"*.com", "b.example.com"}};
  for (const auto& pair : names) {
    writer.add_section(pair[0]);
    for (const char* name : pair) writer.add_name(name);
  }
  return *CertificateSet::from_bundle(seal_bytes("fuzz", *writer.finish(1))->get());
}

void look_up(const CertificateSet& set, std::string_view sent) {
  const std::optional<uint32_t> number = set.find({}, sent);
  if (!number) return;
  std::string name;
  for (const char c : sent) name += c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  if (name.ends_with('.')) name.pop_back();
  const std::string wildcard = "*" + name.substr(std::min(name.find('.'), name.size()));
  bool has = false;
  for (const std::string_view known : set.names_of(*number)) {
    has = has || known == name || known == wildcard;
  }
  fuzz::require(has, "what is found has the name");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const SetPtr set = known_set();
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  look_up(*set, bytes);
  const Result<UniqueFd> fd = seal_bytes("fuzz", bytes);
  fuzz::require(fd.ok(), "there is memory");
  const Result<SetPtr> hostile = CertificateSet::from_bundle(fd->get());
  if (!hostile) {
    fuzz::require(!hostile.error().message.empty(), "a refusal says why");
    return 0;
  }
  (void)(*hostile)->find({}, "a.example.com");
  for (uint32_t number = 0; number < 4; ++number) {
    (void)(*hostile)->names_of(number);
    for (const CertificateEntry& entry : (*hostile)->entries_of(number)) {
      (void)(*hostile)->material(entry);
    }
  }
  (void)(*hostile)->changed_since(*set);
  return 0;
}
