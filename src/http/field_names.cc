// Finding the number of a field name: a perfect hash, checked when this file is compiled.
//
// The hash takes the length and four letters of the name. kMultiplier was found by trying random
// odd numbers until no two names fell on one slot; where a new name breaks that, the static_assert
// says so, and any other number that satisfies it is as good.
#include "http/field_names.h"

#include <array>
#include <cstring>

#include "http/chars.h"

namespace gatehouse {
namespace {

constexpr size_t kNameMax = 25;
constexpr unsigned kSlotBits = 8;
constexpr uint64_t kMultiplier = 0x94EBC0BCB544E73D;

struct Entry {
  std::string_view spelling;
  std::array<char, 32> lower{};  // padded, so that eight bytes can be read at any place of a name
  FieldKind kind = FieldKind::kUnknown;
};

constexpr Entry make_entry(std::string_view spelling, FieldKind kind) {
  Entry entry{spelling, {}, kind};
  for (size_t i = 0; i < spelling.size(); ++i) entry.lower[i] = chars::lower(spelling[i]);
  return entry;
}

constexpr std::array kEntries = {Entry{},
#define GATEHOUSE_FIELD_ENTRY(name, spelling, kind) make_entry(spelling, FieldKind::kind),
                                 GATEHOUSE_FIELDS(GATEHOUSE_FIELD_ENTRY)
#undef GATEHOUSE_FIELD_ENTRY
};
static_assert(kEntries.size() == static_cast<size_t>(FieldId::kCount));

// REQUIRES: name.size() >= 2.
constexpr size_t slot_of(std::string_view name) {
  const size_t n = name.size();
  const auto letter = [name](size_t i) {
    return static_cast<uint64_t>(static_cast<unsigned char>(name[i]) | 0x20U);
  };
  const uint64_t key =
      n | letter(0) << 8 | letter(n / 2) << 16 | letter(n - 2) << 24 | letter(n - 1) << 32;
  return static_cast<size_t>(key * kMultiplier >> (64 - kSlotBits));
}

struct Slots {
  std::array<uint8_t, size_t{1} << kSlotBits> id{};
  bool perfect = true;
};

constexpr Slots make_slots() {
  Slots slots;
  for (size_t i = 1; i < kEntries.size(); ++i) {
    if (kEntries[i].spelling.size() > kNameMax) slots.perfect = false;
    uint8_t& slot = slots.id[slot_of(kEntries[i].spelling)];
    if (slot != 0) slots.perfect = false;
    slot = static_cast<uint8_t>(i);
  }
  return slots;
}

constexpr Slots kSlots = make_slots();
static_assert(kSlots.perfect, "two field names share a slot: choose another kMultiplier");

// Whether the N bytes at `name` are those at `lower` but for the case of letters. Setting bit 0x20
// makes a letter lower-case; it would also make a control byte look like '-' or a digit, which the
// second term excludes: each byte of a name has bit 0x20 or 0x40.
template <typename Word>
bool same_word(const char* name, const char* lower) {
  Word a;
  Word b;
  std::memcpy(&a, name, sizeof a);
  std::memcpy(&b, lower, sizeof b);
  constexpr Word kBit = static_cast<Word>(0x2020202020202020ULL);
  return static_cast<Word>(a | kBit) == b && (static_cast<Word>(a | a >> 1) & kBit) == kBit;
}

bool same_name(std::string_view name, const Entry& entry) {
  const size_t n = name.size();
  if (n != entry.spelling.size()) return false;
  const char* a = name.data();
  const char* b = entry.lower.data();
  if (n >= 8) {
    for (size_t i = 0; i + 8 < n; i += 8) {
      if (!same_word<uint64_t>(a + i, b + i)) return false;
    }
    return same_word<uint64_t>(a + n - 8, b + n - 8);
  }
  if (n >= 4) return same_word<uint32_t>(a, b) && same_word<uint32_t>(a + n - 4, b + n - 4);
  return same_word<uint16_t>(a, b) && same_word<uint16_t>(a + n - 2, b + n - 2);
}

char imitation_class(char c) {
  return chars::is(c, chars::kPlain) ? chars::lower(c) : '-';
}

}  // namespace

FieldId field_id(std::string_view name) {
  if (name.size() < 2 || name.size() > kNameMax) return FieldId::kOther;
  const uint8_t id = kSlots.id[slot_of(name)];
  if (id == 0 || !same_name(name, kEntries[id])) return FieldId::kOther;
  return static_cast<FieldId>(id);
}

std::string_view field_name(FieldId id) {
  return kEntries[static_cast<size_t>(id)].spelling;
}

FieldKind field_kind(FieldId id) {
  return kEntries[static_cast<size_t>(id)].kind;
}

bool field_name_imitates(std::string_view name, std::string_view known) {
  if (name.size() != known.size()) return false;
  for (size_t i = 0; i < name.size(); ++i) {
    if (imitation_class(name[i]) != imitation_class(known[i])) return false;
  }
  return !equal_ignoring_case(name, known);
}

bool field_name_imitates_known(std::string_view name) {
  if (name.size() > kNameMax) return false;
  std::array<char, kNameMax> plain{};
  for (size_t i = 0; i < name.size(); ++i) plain[i] = imitation_class(name[i]);
  return field_id(name) == FieldId::kOther &&
         field_id({plain.data(), name.size()}) != FieldId::kOther;
}

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (chars::lower(a[i]) != chars::lower(b[i])) return false;
  }
  return true;
}

}  // namespace gatehouse
