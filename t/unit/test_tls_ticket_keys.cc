// The keys of session tickets: common to all, rolled in time, whole whatever happened to the one
// who wrote them.
#include "core/tls_ticket_keys.h"

#include <criterion/criterion.h>

#include <atomic>
#include <cstring>
#include <ctime>
#include <memory>
#include <set>
#include <string>

#include "core/shared_memory.h"

namespace gatehouse {
namespace {

constexpr int64_t kPeriod = TlsTicketKeys::kSealsFor;

std::unique_ptr<SharedMemory> make_segment() {
  Result<SharedMemory> made = SharedMemory::create(1_MiB);
  cr_assert(made.ok());
  return std::make_unique<SharedMemory>(std::move(*made));
}

std::unique_ptr<TlsTicketKeys> open_keys(SharedMemory& segment) {
  Result<std::unique_ptr<TlsTicketKeys>> opened = TlsTicketKeys::open(segment);
  cr_assert(opened.ok());
  return std::move(*opened);
}

std::string name_of(const TlsTicketKey& key) {
  return {reinterpret_cast<const char*>(key.name.data()), key.name.size()};
}

bool same(const TlsTicketKey& a, const TlsTicketKey& b) {
  return std::memcmp(&a, &b, sizeof(a)) == 0;
}

// The word that tells which keys the zone has.
std::atomic<uint64_t>& edition_of(SharedMemory& segment) {
  const std::span<std::byte> zone = segment.find_zone("tls.ticket_keys", "tls.ticket_keys", 1);
  cr_assert_geq(zone.size(), sizeof(uint64_t));
  return *reinterpret_cast<std::atomic<uint64_t>*>(zone.data());
}

Test(tls_ticket_keys, all_processes_have_the_same) {
  const auto segment = make_segment();
  const auto one = open_keys(*segment);
  const auto other = open_keys(*segment);
  const int64_t now = std::time(nullptr);
  const TlsTicketKey key = one->current(now);
  cr_assert(same(key, other->current(now)));
  bool newest = false;
  const TlsTicketKey* found = other->find(key.name.data(), now, &newest);
  cr_assert(found != nullptr && newest);
  cr_assert(same(*found, key));
  // Nothing of it is left out: three different random texts.
  const auto begin = [](const auto& bytes) {
    return std::string(bytes.begin(), bytes.begin() + 8);
  };
  const std::set<std::string> texts{begin(key.name), begin(key.cipher), begin(key.mac),
                                    std::string(8, '\0')};
  cr_assert_eq(texts.size(), 4u);
}

Test(tls_ticket_keys, a_key_seals_for_its_time_and_opens_for_longer) {
  const auto segment = make_segment();
  const auto one = open_keys(*segment);
  const auto other = open_keys(*segment);
  int64_t now = std::time(nullptr);
  const TlsTicketKey first = one->current(now);
  cr_assert(same(one->current(now + kPeriod - 5), first));
  now += kPeriod + 1;
  const TlsTicketKey second = other->current(now);
  cr_assert_not(same(second, first));
  // The other sees the same new key, and makes none of its own.
  cr_assert(same(one->current(now), second));
  bool newest = true;
  const TlsTicketKey* found = one->find(first.name.data(), now, &newest);
  cr_assert(found != nullptr && same(*found, first));
  cr_assert_not(newest);
  // As long as a ticket of its last moment may be good, and then it is gone.
  for (int rolls = 1; rolls < 4; ++rolls) {
    found = one->find(first.name.data(), now, &newest);
    cr_assert(found != nullptr && same(*found, first), "after %d", rolls);
    now += kPeriod + 1;
    (void)other->current(now);
  }
  cr_assert(one->find(first.name.data(), now, &newest) == nullptr);
  cr_assert(other->find(first.name.data(), now, &newest) == nullptr);
}

Test(tls_ticket_keys, a_clock_that_was_wrong_does_not_keep_a_key_for_ever) {
  const auto segment = make_segment();
  const auto keys = open_keys(*segment);
  const int64_t now = std::time(nullptr);
  const TlsTicketKey later = keys->current(now + 100 * kPeriod);
  cr_assert_not(same(keys->current(now), later));
  bool newest = false;
  cr_assert(keys->find(later.name.data(), now, &newest) != nullptr);
}

Test(tls_ticket_keys, what_a_dead_writer_left_is_written_anew) {
  const auto segment = make_segment();
  const auto one = open_keys(*segment);
  const int64_t now = std::time(nullptr);
  const TlsTicketKey before = one->current(now);
  edition_of(*segment).fetch_or(1);
  // Who has a copy goes on with it until somebody looks; nobody takes half a key.
  const auto other = open_keys(*segment);
  const TlsTicketKey after = other->current(now);
  cr_assert_neq(name_of(after), name_of(before));
  cr_assert(same(one->current(now), after));
  cr_assert_eq(edition_of(*segment).load() % 2, 0u);
}

Test(tls_ticket_keys, a_name_that_is_nobodys_is_not_found) {
  const auto segment = make_segment();
  const auto keys = open_keys(*segment);
  const uint8_t zeros[16] = {};
  bool newest = false;
  cr_assert(keys->find(zeros, std::time(nullptr), &newest) == nullptr);
}

}  // namespace
}  // namespace gatehouse
