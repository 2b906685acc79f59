// When certificates expire, told through the shared segment.
#include "core/certificate_expiry.h"

#include <criterion/criterion.h>

#include <string>
#include <vector>

#include "core/certificate_bundle.h"
#include "core/sealed_bytes.h"

namespace {

using namespace gatehouse;  // NOLINT: the subject's names throughout

std::shared_ptr<const CertificateSet> set_of(int sections) {
  CertificateBundleWriter writer;
  for (int i = 0; i < sections; ++i) {
    writer.add_section("c" + std::to_string(i) + std::string(i == 1 ? 70 : 0, 'x'));
    writer.add_entry({KeyKind::kEcdsa, 1, 1000 + i, "", "", "", "", "", "", "", {}});
    writer.add_entry({KeyKind::kRsa, 1, 2000 + i, "", "", "", "", "", "", "", {}});
  }
  return *CertificateSet::from_bundle(seal_bytes("test", *writer.finish(1))->get());
}

}  // namespace

TestSuite(certificate_expiry, .timeout = 20);

Test(certificate_expiry, grows_and_shrinks_with_the_set) {
  Result<SharedMemory> shared = SharedMemory::create(4_MiB);
  cr_assert(shared.ok());
  cr_assert(read_certificate_expiry(*shared).empty());
  cr_assert(publish_certificate_expiry(*shared, nullptr).ok());
  cr_assert(shared->zones().empty());
  for (const int sections : {2, 1, 100, 0, 3}) {
    cr_assert(publish_certificate_expiry(*shared, set_of(sections).get()).ok());
    const std::vector<CertificateExpiry> list = read_certificate_expiry(*shared);
    cr_assert_eq(list.size(), static_cast<size_t>(sections) * 2);
    for (int i = 0; i < sections; ++i) {
      const CertificateExpiry& ecdsa = list[static_cast<size_t>(i) * 2];
      const CertificateExpiry& rsa = list[static_cast<size_t>(i) * 2 + 1];
      const std::string name = "c" + std::to_string(i) + std::string(i == 1 ? 70 : 0, 'x');
      cr_assert(ecdsa.name == name.substr(0, kExpiryNameMax) && rsa.name == ecdsa.name);
      cr_assert(ecdsa.kind == KeyKind::kEcdsa && rsa.kind == KeyKind::kRsa);
      cr_assert(ecdsa.not_after == 1000 + i && rsa.not_after == 2000 + i);
    }
  }
  cr_assert(publish_certificate_expiry(*shared, nullptr).ok());
  cr_assert(read_certificate_expiry(*shared).empty());
}

Test(certificate_expiry, a_segment_without_room_is_an_error_and_keeps_the_list) {
  Result<SharedMemory> shared = SharedMemory::create(1_MiB);
  cr_assert(publish_certificate_expiry(*shared, set_of(2).get()).ok());
  cr_assert(!publish_certificate_expiry(*shared, set_of(20'000).get()).ok());
  cr_assert_eq(read_certificate_expiry(*shared).size(), 4);
}
